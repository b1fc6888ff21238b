"""Several cards at once: ssd_infer.py runs once for each, on its shard of the batches."""

import os
import sys
from pathlib import Path
from typing import Any

from ssd.ascend.summaries import summarize
from ssd.cli import KitError
from ssd.detections import Detections, concatenate, from_json
from ssd.files import read_json
from ssd.workers import run_processes

ADDED = ("throughput", "images", "padded")  # over the cards' summaries


def read_shard(text: str) -> tuple[int, int]:
    """Return I and N of `I/N`, I from 0. Raises ValueError if it is not that."""
    index, count = (int(part) for part in text.split("/"))
    if not 0 <= index < count:
        raise ValueError
    return index, count


def named(device: str, status: int) -> str:
    """Name a card whose run failed, and the signal if that killed it."""
    return f"{device} (killed by signal {-status})" if status < 0 else device


def run_shards(
    script: Path, argv: list[str], devices: list[str], folder: Path, image_ids: list[int]
) -> tuple[dict[str, Any], Detections]:
    """Run `script argv` for each device on its shard, in `folder`, and join what they leave there.

    image_ids: in the order that the detections are to have. Returns the cards' summaries as one
    (speeds added, times joined; a card without a batch counts nothing) and all detections.
    Raises KitError if any run fails; the others end then.
    """
    commands = []
    for i, device in enumerate(devices):
        own = ["--device", device, "--shard", f"{i}/{len(devices)}", "--in_process"]
        own += ["--output", str(folder), "--output_dirname", f"shard{i}"]
        commands.append([sys.executable, str(script), *argv, *own])
    env = os.environ | {"SSD_LOCK": str(folder.resolve())}
    statuses = run_processes(commands, env=env, stdout=sys.stderr)  # facts of a part: notes
    failed = [named(d, status) for d, status in zip(devices, statuses, strict=True) if status]
    if failed:
        raise KitError(f"card {', '.join(failed)}: the run failed (see above); check npu-smi")
    count = range(len(devices))
    summaries = [read_json(folder / f"shard{i}_summary.json") for i in count]
    found = concatenate([from_json(folder / f"shard{i}_detections.json") for i in count])
    parts = found.by_image()
    ordered = [parts[image_id] for image_id in image_ids if image_id in parts]
    return join_summaries(summaries), concatenate(ordered)


def join_summaries(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one summary for cards that ran side by side."""
    runs = sum((summary["npu_compute_time_list"] for summary in summaries), [])
    joined = summaries[0] | summarize(runs, summaries[0]["batch_size"])
    joined |= {key: sum(summary[key] for summary in summaries) for key in ADDED}
    joined["provider"] = "; ".join(summary["provider"] for summary in summaries)
    seconds = [summary["seconds"] for summary in summaries]
    joined["seconds"] = {key: max(part[key] for part in seconds) for key in seconds[0]}
    joined["images_per_second"] = joined["images"] / joined["seconds"]["wall"]
    return joined
