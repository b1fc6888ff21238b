"""What a run left in its result folder, as rows of one batch size each, and facts."""

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

from ssd_files import CHECKPOINT_KEY, KitError, num_cpus, read_json

BASELINE_FPS = 482.627  # published, of the GPU that the cards are compared with
PUBLISHED = [  # images/s of the published Ascend run, mAP 23.030 % at every batch size
    {"batch": 1, "310": 711.356, "310P": 925.091},
    {"batch": 4, "310": 825.516, "310P": 1302.783},
    {"batch": 8, "310": 849.156, "310P": 1406.351},
    {"batch": 16, "310": 862.468, "310P": 1358.895},
    {"batch": 32, "310": 812.836, "310P": 1370.644},
    {"batch": 64, "310": 810.368, "310P": 914.474},
]
PERCENTILES = (50, 90, 95, 99)
NAMED = {50: "median", 99: "percentile(99%)"}  # of them, in the summary of a tool
STEPS = ("read", "infer", "write", "decode", "score")  # what a run's time goes to, in order
PACKAGES = ("numpy", "onnxruntime", "torch", "openvino", "pillow", "faster-coco-eval")


def summaries(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the summaries of a run: one for each device; none if it was not made.

    Newer tools write NAME_summary.json beside the run's folder, that of 2022 sumary.json inside it.
    """
    paths = [folder / f"{name}_summary.json"]
    if not paths[0].exists():
        paths = sorted(folder.glob(f"{name}/**/*summary.json"))
    paths = paths or sorted(folder.glob(f"{name}/**/sumary.json"))
    return [read_json(path) for path in paths if path.exists()]


def durations(summary: dict[str, Any]) -> np.ndarray:
    """Return the milliseconds of each timed batch: (N,); N = 0 if the tool did not list them."""
    runs = np.array(summary.get("npu_compute_time_list", []), float)
    return runs[:, 1] - runs[:, 0] if runs.ndim == 2 else runs  # several threads list (start, end)


def latency(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return milliseconds a batch: mean, p50 and so on, and the number of runs."""
    runs = np.concatenate([durations(one) for one in found])
    if not len(runs):
        own = [one["NPU_compute_time"] for one in found]  # of several devices none can be joined
        told = {f"p{p}": own[0].get(key) for p, key in NAMED.items() if len(own) == 1}
        known = {key: value for key, value in told.items() if value is not None}
        mean = float(np.mean([one["mean"] for one in own]))
        return {"mean": mean} | known | {"runs": sum(one.get("count", 0) for one in own)}
    shares = {f"p{p}": float(np.percentile(runs, p)) for p in PERCENTILES}
    return {"mean": float(runs.mean())} | shares | {"runs": len(runs)}


def padded(summary: dict[str, Any], batch: int) -> int:
    """Return how many pictures filled the last batch up, as noted or by the number of inputs."""
    if "padded" in summary:
        return summary["padded"]
    return -sum(len(one["infiles"]) for one in summary.get("filesinfo", {}).values()) % batch


def make_row(folder: Path, batch: int) -> dict[str, Any]:
    """Return the table's row of one batch size; what was not made is None."""
    data, perf = summaries(folder, f"bs{batch}"), summaries(folder, f"bs{batch}_perf")
    timed = perf or data
    if not timed:
        raise KitError(f"{folder}: no summary of batch size {batch}; run the evaluation again")
    score_path = folder / f"bs{batch}_result.json"
    score = read_json(score_path) if score_path.exists() else None
    first, milliseconds = timed[0], latency(timed)
    row = {
        "model": model_name(folder, batch, data + perf),
        "batch": batch,
        "goal_map": score["goal"] if score else None,
        "map": score["stats"]["AP"] if score else None,
        "ap50": score["stats"]["AP50"] if score else None,
        "baseline_fps": BASELINE_FPS,
        "fps": sum(one["throughput"] for one in timed),
        "end_to_end": None,
        "images": score["images"] if score else None,
        "padded": sum(padded(one, batch) for one in data) if data else None,
        "model_sha256": first.get("model_sha256"),
        CHECKPOINT_KEY: first.get(CHECKPOINT_KEY),
        "engine": first.get("engine"),
        "provider": first.get("provider"),
        "latency_ms": milliseconds,
        "latency_per_image_ms": {k: v / batch for k, v in milliseconds.items() if k != "runs"},
        "seconds": {},
        "wall_seconds": None,
    }
    return row | (spent(folder, batch, data, score) if score else {})


def spent(
    folder: Path, batch: int, data: list[dict[str, Any]], score: dict[str, Any]
) -> dict[str, Any]:
    """Return a row's times of the run over files: seconds of each step, wall clock, images/s."""
    seconds = dict(data[0].get("seconds", {})) if data else {}
    noted = outside(folder, f"bs{batch}")
    wall = seconds.pop("wall", None) or (noted["end"] - noted["start"] if noted else None)
    decode = score["seconds"]["decode"]
    if data and "infer" not in seconds and any(len(durations(one)) for one in data):
        seconds["infer"] = max(durations(one).sum() for one in data) / 1000  # cards run at once
    seconds = {"decode": decode} | seconds | {"score": score["seconds"]["score"]}
    return {
        "seconds": {step: seconds[step] for step in STEPS if step in seconds},
        "wall_seconds": wall,
        "end_to_end": score["images"] / (wall + decode) if wall else None,
    }


def outside(folder: Path, name: str) -> dict[str, Any]:
    """Return what the driver noted of an inference tool's run: model, start and end in seconds."""
    path = folder / f"{name}_wall.json"
    return read_json(path) if path.exists() else {}


def model_name(folder: Path, batch: int, found: list[dict[str, Any]]) -> str:
    """Return the file name of the model that ran: as our summary or the driver tells it."""
    notes = [*found, outside(folder, f"bs{batch}"), outside(folder, f"bs{batch}_perf")]
    return next((Path(note["model"]).name for note in notes if note.get("model")), "?")


def collect(folder: Path, wanted: list[int], facts: dict[str, str]) -> dict[str, Any]:
    """Return the report of a result folder, of the `wanted` batch sizes, or of all.

    Facts of a report.json that is there are kept, those of the machine too: it may be another.
    Raises KitError if it holds no run.
    """
    found = (
        re.match(r"bs(\d+)(_perf)?(_summary\.json)?$", path.name) for path in folder.glob("bs*")
    )
    batches = {int(match[1]) for match in found if match}
    batches = batches & set(wanted) if wanted else batches
    if not batches:
        raise KitError(f"{folder}: no bsN_summary.json; run test/ssd_eval_acc_perf.sh first")
    rows = [make_row(folder, batch) for batch in sorted(batches)]
    best = max(range(len(rows)), key=lambda i: rows[i]["fps"])
    old = folder / "report.json"
    kept = read_json(old)["facts"] if old.exists() else {}
    row, score = best_scored(folder, rows, best)
    measured = {
        "engine": rows[0]["engine"],
        "provider": rows[0]["provider"],
        CHECKPOINT_KEY: rows[0][CHECKPOINT_KEY],
        "scored": score.get("scored"),
    }
    measured = {key: value for key, value in measured.items() if value is not None}
    return {
        "facts": machine() | kept | measured | facts,
        "rows": rows,
        "best": best,
        "scored_batch": row["batch"] if row else None,
        "stats": score.get("stats"),
        "per_class": score.get("per_class"),
        "published": PUBLISHED,
    }


def best_scored(
    folder: Path, rows: list[dict[str, Any]], best: int
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the best row, or the first that was scored, and its scores; None and {} if none."""
    for row in [rows[best], *rows]:
        if row["map"] is not None:
            return row, read_json(folder / f"bs{row['batch']}_result.json")
    return None, {}


def machine() -> dict[str, Any]:
    """Return the facts of the machine that this runs on."""
    return {
        "machine": f"{platform.platform()}, {processor()}",
        "cpus": num_cpus(),
        "python": platform.python_version(),
        "packages": versions(),
    }


def processor() -> str:
    """Return the processor's name as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return match[1] if match else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
