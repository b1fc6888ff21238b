"""The summaries that Ascend's inference tools leave, and the same figures for every engine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd.cli import KitError
from ssd.files import read_json
from ssd.tensors import tensor_id

import numpy as np

BEYOND = 2  # runs that must lie beyond a percentile, so that it is not the slowest run's luck
MOMENT = "%Y-%m-%dT%H:%M:%SZ"  # how a time is written; these texts sort as their times do
EMPTY_LATENCY = {"min": 0.0, "max": 0.0, "mean": 0.0, "median": 0.0, "percentile(99%)": 0.0}


def summary_paths(output: Path, name: str) -> list[Path]:
    """Return the summaries of a run into `output`/`name`: one for each device; none without a run.

    Newer tools write NAME_summary.json beside the run's folder, that of 2022 sumary.json inside it.
    """
    beside = output / f"{name}_summary.json"
    if beside.exists():
        return [beside]
    folder = output / name
    return sorted(folder.glob("**/*summary.json")) or sorted(folder.glob("**/sumary.json"))


def forget_summaries(output: Path, name: str) -> None:
    """Remove what `read_summaries` would read, as the tool overwrites only some of it."""
    while paths := summary_paths(output, name):
        for path in paths:
            path.unlink()


def read_summaries(output: Path, name: str) -> list[dict[str, Any]]:
    """Return what the files of `summary_paths` hold."""
    return [read_json(path) for path in summary_paths(output, name)]


def durations(summary: dict[str, Any]) -> np.ndarray:
    """Return the milliseconds of each timed batch: (N,); N = 0 if the tool did not list them."""
    runs = np.array(summary.get("npu_compute_time_list", []), float)
    return runs[:, 1] - runs[:, 0] if runs.ndim == 2 else runs  # with threads: (start, end)


def percentile(runs: Sequence[float], share: float) -> float | None:
    """Return a percentile of times; None where fewer than BEYOND runs lie beyond it.

    So p90 wants 20 runs, p95 40, p99 200.
    """
    enough = len(runs) * (100 - share) >= 100 * BEYOND
    return float(np.percentile(runs, share)) if enough else None


def summarize(runs: list[float], size: int) -> dict[str, Any]:
    """Return ais_bench's figures for runs (milliseconds) of batches of `size`; 0 without a run.

    And the quartiles of the runs, between which their middle half lies. A percentile is None if the
    runs are too few for it.
    """
    array = np.array(runs or [0.0])
    times = {
        "min": float(array.min()),
        "max": float(array.max()),
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "percentile(99%)": percentile(array, 99),
        "count": len(runs),
    }
    return {
        "NPU_compute_time": times,
        "H2D_latency": EMPTY_LATENCY | {"count": len(runs)},  # nothing is copied to a device
        "D2H_latency": EMPTY_LATENCY | {"count": len(runs)},
        "throughput": 1000 * size / times["mean"] if runs else 0.0,
        "quartiles": np.percentile(runs, (25, 75)).tolist() if runs else None,
        "npu_compute_time_list": runs,
        "pid": os.getpid(),
    }


def join_summaries(parts: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """Return one summary for those that a tool wrote, one for each card.

    Speeds are added; times are joined where the tool lists them. Raises KitError if there is none.
    """
    if not parts:
        raise KitError("the inference tool left no summary; update it, or see its log")
    runs = np.concatenate([durations(part) for part in parts]).tolist()
    joined = summarize(runs, size)
    if not runs:
        times = [part["NPU_compute_time"] for part in parts]
        joined["NPU_compute_time"] = times[0] | {
            "mean": float(np.mean([part["mean"] for part in times])),
            "count": sum(part.get("count", 0) for part in times),
        }
    files = [part.get("filesinfo", {}) for part in parts]
    counts = [sum(len(group["infiles"]) for group in part.values()) for part in files]
    joined["filesinfo"] = {
        f"{i}.{k}": group for i, part in enumerate(files) for k, group in part.items()
    }
    joined["padded"] = sum(-count % size for count in counts)
    joined["throughput"] = sum(part["throughput"] for part in parts)
    return joined


def restore_names(parts: list[dict[str, Any]], inputs: list[Path]) -> None:
    """Name outputs `STEM_K` after their inputs, where the tool named them otherwise.

    That is so before August 2022 (`sample_id_N_output_K`), and where inputs were linked by image id
    alone. parts: summaries, whose maps of files are changed likewise.
    """
    known = {path.name: path for path in inputs} | {
        f"{tensor_id(path)}{path.suffix}": path for path in inputs
    }
    for part in parts:
        for group in part.get("filesinfo", {}).values():
            read = [known.get(Path(path).name) for path in group["infiles"]]
            if len(read) != 1 or not read[0]:
                continue
            group["infiles"] = [str(read[0])]
            stem = read[0].name.split(".")[0]
            for k, path in enumerate(map(Path, group["outfiles"])):
                wanted = path.with_name(f"{stem}_{k}{path.suffix}")
                if path != wanted and path.exists():
                    os.replace(path, wanted)
                group["outfiles"][k] = str(wanted)
