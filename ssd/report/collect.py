"""What a run left in its result folder, as rows of one batch size each, and facts."""

import re
import time
from pathlib import Path
from typing import Any

from ssd import coco
from ssd.ascend import summaries
from ssd.boxes import SSD300
from ssd.cli import KitError, first_few, note
from ssd.files import CHECKPOINT_KEY, digest, read_json, read_record, sha256
from ssd.machine import machine
from ssd.report import speed

BASELINE_FPS = 482.627  # published, of the GPU that the cards are compared with
PUBLISHED = [  # images/s of the published Ascend run, mAP 23.030 % at every batch size
    {"batch": 1, "310": 711.356, "310P": 925.091},
    {"batch": 4, "310": 825.516, "310P": 1302.783},
    {"batch": 8, "310": 849.156, "310P": 1406.351},
    {"batch": 16, "310": 862.468, "310P": 1358.895},
    {"batch": 32, "310": 812.836, "310P": 1370.644},
    {"batch": 64, "310": 810.368, "310P": 914.474},
]
SAME = ("model_sha256", "engine", "precision")  # of inference and timing in one row


def summary_of(folder: Path, name: str) -> dict[str, Any]:
    """Return the summary of a run; {} if it was not made.

    Those of a tool that somebody ran by hand, one for each device, are joined.
    """
    found = summaries.read_summaries(folder, name)
    if len(found) == 1 and "made_from" in found[0]:
        return found[0]
    batch = int(re.search(r"\d+", name)[0])
    return (found[0] | summaries.join_summaries(found, batch)) if found else {}


def read_parts(folder: Path, batch: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what a batch size left: the summaries of inference and of timing, and the scores.

    {} for what was not made, and for what is of another model or run than the rest: a note says so.
    """
    name = f"bs{batch}"
    data, perf = summary_of(folder, name), summary_of(folder, f"{name}_perf")
    path = folder / f"{name}_result.json"
    score = read_json(path) if path.exists() else {}
    inference = score.get("made_from", {}).get("inference")
    if "made_from" in data and inference and inference != digest(data["made_from"]):
        note(f"{path}: of another run than {name}_summary.json; left out")
        score = {}
    different = [key for key in SAME if other_than(data, perf, key)]
    if different:
        times = [(folder / f"{n}_summary.json").stat().st_mtime for n in (name, f"{name}_perf")]
        older = name if times[0] < times[1] else f"{name}_perf"
        what = " and ".join(different).replace("_sha256", "")
        note(f"{folder / older}_summary.json: of another {what} than the newer one; left out")
        data, perf, score = ({}, perf, {}) if older == name else (data, {}, score)
    return data, perf, score


def other_than(data: dict[str, Any], perf: dict[str, Any], key: str) -> bool:
    """Return whether the summaries of inference and timing differ in a key of SAME they have.

    Of the engine its name counts; on a card it is the tool's in one and the kit's in the other.
    """
    values = [str(part.get(key) or part.get("made_from", {}).get(key, "")) for part in (data, perf)]
    if key == "engine":
        values = [value.split(" ")[0] for value in values]
        if any(part.get("model", "").endswith(".om") for part in (data, perf)):
            return False
    return all(values) and values[0] != values[1]


def make_row(
    folder: Path, batch: int, data: dict[str, Any], perf: dict[str, Any], score: dict[str, Any]
) -> dict[str, Any]:
    """Return a batch size's row of the table from its `read_parts`; None for what was not made."""
    timed = perf or data
    if not timed:
        raise KitError(f"{folder}: no summary of batch size {batch}; run the evaluation again")
    milliseconds = speed.latency(timed)
    row = {
        "model": Path(timed["model"]).name if "model" in timed else "?",
        "batch": batch,
        "goal_map": score["goal"] if score else None,
        "map": score["stats"]["AP"] if score else None,
        "ap50": score["stats"]["AP50"] if score else None,
        "baseline_fps": BASELINE_FPS if is_published(timed, score) else None,
        "fps": timed["throughput"],
        "fps_range": speed.fps_range(timed["throughput"], milliseconds),
        "end_to_end": None,
        "preprocess_fps": None,
        "images": score["images"] if score else None,
        "padded": data.get("padded"),
        "model_sha256": timed.get("model_sha256"),
        CHECKPOINT_KEY: timed.get(CHECKPOINT_KEY),
        "engine": timed.get("engine"),
        "provider": timed.get("provider"),
        "latency_ms": milliseconds,
        "seconds": {},
        "wall_seconds": None,
        "start_seconds": None,
        "peak_bytes": max((part.get("peak_bytes") or 0 for part in (data, perf)), default=0)
        or None,
        "facts": timed.get("facts", {}) | data.get("facts", {}),
    }
    return row | (speed.spent(data, score, perf) if data and score else {})


def is_published(timed: dict[str, Any], score: dict[str, Any]) -> bool:
    """Return whether the published figures are of such a run: a .om, and COCO's 80 categories."""
    categories = len(score["per_class"]) if score else SSD300.labels - 1
    return timed.get("model", "").endswith(".om") and categories == SSD300.labels - 1


def collect(
    folder: Path, wanted: list[int], facts: dict[str, str], limit: float | None = None
) -> dict[str, Any]:
    """Return the report of a result folder, of the `wanted` batch sizes, or of all.

    limit: ms that a batch of the best size may take.
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
    parts, rows = {}, []
    for batch in sorted(batches):
        try:
            parts[batch] = read_parts(folder, batch)
            rows.append(make_row(folder, batch, *parts[batch]))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise KitError(
                f"{folder}: bs{batch}_*.json are not of a run ({type(error).__name__}: {error}); "
                "run the evaluation again"
            ) from None
    best, too_slow = speed.choose_best(rows, limit)
    ends = [i for i, row in enumerate(rows) if row["end_to_end"]]
    warnings = [w for data, perf, _ in parts.values() for w in (data | perf).get("warnings", [])]
    kept = read_record(folder / "report.json").get("facts")
    scores = {batch: score for batch, (_, _, score) in parts.items() if score}
    row, score = best_scored(rows, best, scores)
    measured = rows[0]["facts"] | {
        "engine": rows[0]["engine"],
        "provider": rows[0]["provider"],
        CHECKPOINT_KEY: rows[0][CHECKPOINT_KEY],
        "scored": score.get("scored"),
        "memory": most_memory(rows),
    }
    measured = {key: value for key, value in measured.items() if value is not None}
    return {
        "facts": machine() | (kept if isinstance(kept, dict) else {}) | measured | facts,
        "rows": rows,
        "best": best,
        "equal": speed.equals(rows, best, limit),
        "best_end_to_end": max(ends, key=lambda i: rows[i]["end_to_end"], default=None),
        "latency_limit_ms": limit,
        "scored_batch": row["batch"] if row else None,
        "scored_detections": score.get("detections"),
        "detections_sha256": score.get("detections_sha256"),
        "truth_digest": score.get("truth_digest"),
        "finished": finished(folder, parts),
        "stats": score.get("stats"),
        "per_class": score.get("per_class"),
        "warnings": list(dict.fromkeys(warnings))
        + score.get("warnings", [])
        + too_slow
        + speed.unstable(rows)
        + differing_rows(rows, scores),
        "published": PUBLISHED if any(row["baseline_fps"] for row in rows) else [],
    }


def most_memory(rows: list[dict[str, Any]]) -> str | None:
    """Return the most memory that any of the runs took, as a fact; None if none noted it."""
    peaks = [row["peak_bytes"] for row in rows if row["peak_bytes"]]
    return f"{max(peaks) / 1e6:.0f} MB" if peaks else None


def finished(folder: Path, parts: dict[int, tuple[dict[str, Any], ...]]) -> str:
    """Return when the last of the runs ended, in UTC: 2024-05-06T07:08:09Z.

    Tools that do not record it leave the time of their files.
    """
    found = (part for data, perf, _ in parts.values() for part in (data, perf))
    recorded = [part["finished"] for part in found if "finished" in part]
    paths = [path for batch in parts for path in folder.glob(f"bs{batch}_*summary.json")]
    times = [path.stat().st_mtime for path in paths] or [folder.stat().st_mtime]
    return max(recorded, default=None) or time.strftime(summaries.MOMENT, time.gmtime(max(times)))


def differing_rows(rows: list[dict[str, Any]], scores: dict[int, dict[str, Any]]) -> list[str]:
    """Return a warning for each thing that all rows are to share but, as far as known, do not."""
    models, engines, scored = {}, {}, {}  # batch size -> what must be the same, and how it is shown
    for row in rows:
        if row[CHECKPOINT_KEY]:
            models[row["batch"]] = row[CHECKPOINT_KEY], f"of {row[CHECKPOINT_KEY][:12]}"
        if row["engine"] and not row["model"].endswith(".om"):  # there it may be the tool's name
            engines[row["batch"]] = row["engine"], f"in {row['engine']}"
    for batch, score in scores.items():
        if made_from := score.get("made_from"):
            same = made_from.get("annotation"), made_from.get("images")
            scored[batch] = same, f"of {score['scored']}"
    found = {
        "the models are of different checkpoints": models,
        "the rows are of different engines": engines,
        "different annotations or images were scored": scored,
    }
    return [
        f"{what} ({', '.join(f'batch {n} {shown}' for n, (_, shown) in known.items())}): "
        "rows cannot be compared"
        for what, known in found.items()
        if len({value for value, _ in known.values()}) > 1
    ]


def best_scored(
    rows: list[dict[str, Any]], best: int, scores: dict[int, dict[str, Any]]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the best row, or the first that was scored, and its scores; None and {} if none."""
    for row in [rows[best], *rows]:
        if row["batch"] in scores:
            return row, scores[row["batch"]]
    return None, {}


def compare_with_scored(
    report: dict[str, Any], data: coco.DataSet, path: Path, count: int
) -> list[str]:
    """Return how the data set and the `count` detections in `path` differ from what was scored."""
    selection = coco.describe_selection(data.instances, data.selected)
    classes = coco.category_names(data.instances)
    scored = {row["id"]: row["name"] for row in report["per_class"]}
    checks = {
        "images": (report["facts"].get("scored"), selection),
        "detections": (report["scored_detections"], count),
        "classes": (len(scored), len(classes)),
    }
    differences = [f"{what}: {a}; {b}" for what, (a, b) in checks.items() if a != b]
    if not differences and classes != scored:
        others = classes.items() ^ scored.items()
        differences.append(f"classes: {first_few(sorted({name for _, name in others}))}")
    if not differences and report["detections_sha256"] not in (None, sha256(path)):
        differences.append(f"detections: {path} was changed")
    return differences
