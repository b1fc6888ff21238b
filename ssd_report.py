#!/usr/bin/env python3
"""Gather what a run left in its result folder into one table and one report.

Reads RESULT/bsN_summary.json and bsN_perf_summary.json (inference and its timing, ais_bench's
form), bsN_result.json (scores) and bsN_detections.json; prints the table and writes report.json,
report.md and report.html. Facts given with --fact are kept in report.json.
With two result folders it shows the two runs side by side.

Example:
  python3 ssd_report.py result --data DATA/coco
"""

import argparse
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

import ssd_coco
from ssd_files import KitError, num_cpus, read_json, run_main, write_bytes, write_json

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
PACKAGES = ("numpy", "onnxruntime", "torch", "openvino", "pillow", "faster-coco-eval")
COLUMNS = {  # of the table: title, width, and how a row's value is shown
    "model": ("model", -18, str),
    "batch": ("batch", 5, str),
    "goal_map": ("goal mAP", 8, lambda value: f"{100 * value:.3f}"),
    "map": ("mAP", 7, lambda value: "-" if value is None else f"{100 * value:.3f}"),
    "baseline_fps": ("base fps", 8, lambda value: f"{value:.3f}"),
    "fps": ("fps", 9, lambda value: f"{value:.3f}"),
    "end_to_end": ("end-to-end", 10, lambda value: "-" if value is None else f"{value:.3f}"),
}


def summaries(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the summaries of a run: one for each device; none if it was not made.

    Newer tools write NAME_summary.json beside the run's folder, that of 2022 sumary.json inside it.
    """
    paths = [folder / f"{name}_summary.json"]
    if not paths[0].exists():
        paths = sorted(folder.glob(f"{name}/**/*summary.json"))
    paths = paths or sorted(folder.glob(f"{name}/**/sumary.json"))
    return [read_json(path) for path in paths if path.exists()]


def latency(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return milliseconds a batch: mean, p50 and so on, and the number of runs."""
    runs = np.array([run for one in found for run in one.get("npu_compute_time_list", [])], float)
    if runs.ndim == 2:  # with several threads the tool lists (start, end)
        runs = runs[:, 1] - runs[:, 0]
    if not len(runs):
        mean = float(np.mean([one["NPU_compute_time"]["mean"] for one in found]))
        return {"mean": mean, "runs": sum(one["NPU_compute_time"].get("count", 0) for one in found)}
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
    first = timed[0]
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
        "engine": first.get("engine"),
        "provider": first.get("provider"),
        "latency_ms": latency(timed),
        "seconds": {},
    }
    if score:
        seconds = dict(data[0].get("seconds", {})) if data else {}
        noted = outside(folder, f"bs{batch}")
        wall = seconds.pop("wall", None) or (noted["end"] - noted["start"] if noted else None)
        decode = score["seconds"]["decode"]
        row["seconds"] = seconds | {"score": score["seconds"]["score"]}
        row["seconds"].setdefault("decode", decode)
        if wall:
            row["end_to_end"] = score["images"] / (wall + decode)
    return row


def outside(folder: Path, name: str) -> dict[str, Any]:
    """Return what the driver noted of an inference tool's run: model, start and end in seconds."""
    path = folder / f"{name}_wall.json"
    return read_json(path) if path.exists() else {}


def model_name(folder: Path, batch: int, found: list[dict[str, Any]]) -> str:
    """Return the file name of the model that ran: as our summary or the driver tells it."""
    notes = [*found, outside(folder, f"bs{batch}"), outside(folder, f"bs{batch}_perf")]
    return next((Path(note["model"]).name for note in notes if note.get("model")), "?")


def collect(
    folder: Path, wanted: list[int], facts: dict[str, str], scored: str | None
) -> dict[str, Any]:
    """Return the report of a result folder, of the `wanted` batch sizes, or of all.

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
    measured = {
        "engine": rows[0]["engine"],
        "provider": rows[0]["provider"],
        "scored": scored,
        "machine": f"{platform.platform()}, {processor()}",
        "cpus": num_cpus(),
        "python": platform.python_version(),
        "packages": versions(),
    }
    measured = {key: value for key, value in measured.items() if value is not None}
    return {
        "facts": kept | measured | facts,
        "rows": rows,
        "best": best,
        "stats": best_stats(folder, rows, best),
        "published": PUBLISHED,
    }


def best_stats(folder: Path, rows: list[dict[str, Any]], best: int) -> dict[str, float] | None:
    """Return the 12 COCO numbers of the best row, or of the first that was scored."""
    order = [rows[best], *rows]
    scored = [row["batch"] for row in order if row["map"] is not None]
    return read_json(folder / f"bs{scored[0]}_result.json")["stats"] if scored else None


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


def table(report: dict[str, Any]) -> list[list[str]]:
    """Return the table's cells, headings first, and a Max row for the best batch size last."""
    rows = [*report["rows"], report["rows"][report["best"]] | {"model": "Max"}]
    cells = [[title for title, _, _ in COLUMNS.values()]]
    for row in rows:
        values = [(row[key], show) for key, (_, _, show) in COLUMNS.items()]
        cells.append(["-" if value is None else show(value) for value, show in values])
    return cells


def as_text(cells: list[list[str]]) -> str:
    """Return the table for a terminal of 80 columns."""
    widths = [width for _, width, _ in COLUMNS.values()]
    lines = []
    for row in cells:
        pairs = zip(row, widths, strict=True)
        lines.append("  ".join(c.ljust(-w) if w < 0 else c.rjust(w) for c, w in pairs).rstrip())
    return "\n".join(lines)


def as_markdown(report: dict[str, Any]) -> str:
    """Return report.md: the table and the facts."""
    head, *rows = [f"| {' | '.join(row)} |" for row in table(report)]
    facts = [f"- {key}: {value}" for key, value in report["facts"].items()]
    lines = ["# SSD-ResNet34 evaluation", "", head, "|" + "---|" * len(COLUMNS), *rows, "", *facts]
    note = f"mAP in %; fps: pure inference, images/s; base fps: {BASELINE_FPS}, published."
    return "\n".join([*lines, "", note, ""])


def parse_facts(pairs: list[str]) -> dict[str, str]:
    """Turn KEY=VALUE into a dict."""
    return dict(pair.split("=", 1) for pair in pairs)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="RESULT", type=Path, help="a result folder")
    parser.add_argument("other", metavar="RESULT", type=Path, nargs="?", help="compare with this")
    ssd_coco.add_data_arguments(parser)
    parser.add_argument(
        "--fact", metavar="KEY=VALUE", action="append", default=[], help="a fact about the run"
    )
    parser.add_argument(
        "--batch_sizes",
        metavar="N,N",
        type=lambda text: [int(size) for size in text.split(",")],
        default=[],
        help="those of the table (default: all that are found)",
    )
    parser.add_argument(
        "--print-best", action="store_true", help="print the batch size with the most fps, no more"
    )
    args = parser.parse_args(argv)
    if any("=" not in fact for fact in args.fact):
        parser.error("--fact wants KEY=VALUE")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    facts, data, scored = parse_facts(args.fact), None, None
    if args.print_best:
        report = collect(args.folder, args.batch_sizes, facts, scored)
        print(report["rows"][report["best"]]["batch"])
        return
    if args.data or args.annotation:
        data = ssd_coco.open_data(args)
        scored = ssd_coco.describe_selection(data.instances, data.selected)
    report = collect(args.folder, args.batch_sizes, facts, scored)
    write_json(args.folder / "report.json", report, indent=2)
    write_bytes(args.folder / "report.md", as_markdown(report).encode())
    print(f"{args.folder}: report.json, report.md")
    told = [report["facts"].get(key) for key in ("engine", "provider", "soc_version", "mode")]
    print(", ".join(fact for fact in told if fact))
    print(as_text(table(report)))


if __name__ == "__main__":
    run_main(main)
