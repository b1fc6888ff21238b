"""Several cards at once: ssd_infer.py runs once for each, on its share of the batches."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ssd_files import KitError, read_json, write_json
from ssd_stream import summarise

ADDED = ("throughput", "images", "padded")  # over the cards' summaries


def read_share(text: str) -> tuple[int, int]:
    """Return I and N of `I/N`, I from 0. Raises ValueError if it is not that."""
    index, count = (int(part) for part in text.split("/"))
    if not 0 <= index < count:
        raise ValueError
    return index, count


def share_of(paths: list[Path], size: int, share: tuple[int, int]) -> list[Path]:
    """Return every Nth batch of `paths` from the Ith on; share is (I, N), I from 0.

    Whole batches are dealt out, so that only the very last one may need padding.
    """
    index, count = share
    return [path for i, path in enumerate(paths) if i // size % count == index]


def named(device: str, status: int) -> str:
    """Name a card whose run failed, and the signal if that killed it."""
    return f"{device} (killed by signal {-status})" if status < 0 else device


def run_shares(
    script: Path, argv: list[str], devices: list[str], target: Path, images: list[int]
) -> dict[str, Any]:
    """Run `script argv` for each device on its share, join the detections into `target`.

    images: ids in the order that the detections are to have. Returns the cards' summaries as
    one: speeds added, times joined. A card without a batch counts nothing.
    Raises KitError if any run fails; then nothing is written.
    """
    folder = target.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shares-", dir=folder) as scratch:
        runs = []
        for i, device in enumerate(devices):
            own = ["--device", device, "--share", f"{i}/{len(devices)}", "--output", scratch]
            own += ["--output_dirname", f"device{i}", "--detections", f"{scratch}/{i}.json"]
            command = [sys.executable, str(script), *argv, *own]
            runs.append(subprocess.Popen(command, stdout=sys.stderr))  # facts of a part: notes
        statuses = [run.wait() for run in runs]
        failed = [named(d, status) for d, status in zip(devices, statuses, strict=True) if status]
        if failed:
            raise KitError(f"card {', '.join(failed)}: the run failed (see above); check npu-smi")
        found = [read_json(Path(scratch) / f"{i}.json") for i in range(len(devices))]
        summaries = [
            read_json(Path(scratch) / f"device{i}_summary.json") for i in range(len(found))
        ]
    place = {image_id: i for i, image_id in enumerate(images)}
    write_json(target, sorted(sum(found, []), key=lambda one: place[one["image_id"]]))
    return join_summaries(summaries)


def join_summaries(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one summary for cards that ran side by side."""
    runs = sum((one["npu_compute_time_list"] for one in summaries), [])
    joined = summaries[0] | summarise(runs, summaries[0]["batch_size"])
    joined |= {key: sum(one[key] for one in summaries) for key in ADDED}
    joined["provider"] = "; ".join(one["provider"] for one in summaries)
    seconds = [one["seconds"] for one in summaries]
    joined["seconds"] = {key: max(one[key] for one in seconds) for key in seconds[0]}
    joined["images_per_second"] = joined["images"] / joined["seconds"]["wall"]
    return joined
