"""Two runs side by side: each batch size, COCO's numbers, each class, and the facts that differ."""

from pathlib import Path
from typing import Any

import ssd_table
from ssd_score import STAT_LINES

SPEEDS = {  # of a row: where it stands
    "fps": ("fps",),
    "end_to_end": ("end_to_end",),
    "p50": ("latency_ms", "p50"),
    "p99": ("latency_ms", "p99"),
}
TEXT = "{:>5} {:>11} {:>11} {:>7}   {:>8} {:>8} {:>8}"  # 66 columns: the terminal has 80


def compare(
    folders: tuple[Path, Path], reports: tuple[dict[str, Any], dict[str, Any]]
) -> dict[str, Any]:
    """Return what two reports of ssd_runs.collect have in common and where they differ.

    Values stand as {"a", "b", "ratio"}, b / a, or {"a", "b", "difference"}, b - a; what a run
    lacks is None, and so is what would follow from it.
    """
    a, b = reports
    by_batch = [{row["batch"]: row for row in report["rows"]} for report in reports]
    batches = sorted({batch for rows in by_batch for batch in rows})
    return {
        "a": {"name": names(folders)[0], "scored_batch": a["scored_batch"]},
        "b": {"name": names(folders)[1], "scored_batch": b["scored_batch"]},
        "rows": [compare_rows(batch, *(rows.get(batch) for rows in by_batch)) for batch in batches],
        "best": [report["rows"][report["best"]]["batch"] for report in reports],
        "stats": [
            {"name": name} | difference(*(valid(report["stats"], name) for report in reports))
            for name in STAT_LINES
        ],
        "classes": compare_classes(*(report["per_class"] or {} for report in reports)),
        "facts": compare_facts(*(flat_facts(report) for report in reports)),
    }


def names(folders: tuple[Path, Path]) -> tuple[str, str]:
    """Return the folders' names, with what comes before where they are the same."""
    full = [folder.resolve() for folder in folders]
    if full[0].name != full[1].name:
        return full[0].name, full[1].name
    return tuple(f"{path.parent.name}/{path.name}" for path in full)


def ratio(a: float | None, b: float | None) -> dict[str, float | None]:
    return {"a": a, "b": b, "ratio": b / a if a and b is not None else None}


def difference(a: float | None, b: float | None) -> dict[str, float | None]:
    return {"a": a, "b": b, "difference": None if a is None or b is None else b - a}


def valid(stats: dict[str, float] | None, name: str) -> float | None:
    """Return a score, None where nothing was scored or there was nothing to find (-1)."""
    value = (stats or {}).get(name, -1)
    return value if value >= 0 else None


def value_at(row: dict[str, Any] | None, path: tuple[str, ...]) -> float | None:
    for key in path:
        row = (row or {}).get(key)
    return row


def compare_rows(batch: int, a: dict[str, Any] | None, b: dict[str, Any] | None) -> dict[str, Any]:
    row = {"batch": batch, "map": difference(value_at(a, ("map",)), value_at(b, ("map",)))}
    return row | {
        name: ratio(value_at(a, path), value_at(b, path)) for name, path in SPEEDS.items()
    }


def compare_classes(a: dict[str, float], b: dict[str, float]) -> list[dict[str, Any]]:
    """Return the AP of each class of either run, the largest loss first, those of one run last."""
    rows = [
        {"name": name} | difference(valid(a, name), valid(b, name))
        for name in [*a, *(b.keys() - a)]
    ]
    rows = [row for row in rows if (row["a"], row["b"]) != (None, None)]
    return sorted(rows, key=lambda row: (row["difference"] is None, row["difference"] or 0))


def flat_facts(report: dict[str, Any]) -> dict[str, str]:
    """Return a report's facts, one word or sentence each, its models' digests among them."""
    facts = {}
    for key, value in report["facts"].items():
        if isinstance(value, dict):
            facts |= {f"{key}: {name}": str(one) for name, one in value.items()}
        else:
            facts[key] = str(value)
    for row in report["rows"]:
        told = [row["model"], row["model_sha256"]]
        facts[f"model, batch {row['batch']}"] = " ".join(part for part in told if part)
    return facts


def compare_facts(a: dict[str, str], b: dict[str, str]) -> list[dict[str, Any]]:
    """Return the facts of either run, those that differ first."""
    keys = list(dict.fromkeys([*a, *b]))
    rows = [{"name": key, "a": a.get(key), "b": b.get(key)} for key in keys]
    rows = [row | {"differs": row["a"] != row["b"]} for row in rows]
    return sorted(rows, key=lambda row: not row["differs"])


def number(value: float | None, form: str, factor: float = 1) -> str:
    return "-" if value is None else format(factor * value, form)


def cells(comparison: dict[str, Any]) -> list[list[str]]:
    """Return the short table's cells, headings first."""
    table = [["batch", "A fps", "B fps", "B/A", "A mAP", "B mAP", "B-A"]]
    for row in comparison["rows"]:
        fps, score = row["fps"], row["map"]
        table.append(
            [str(row["batch"]), number(fps["a"], ".3f"), number(fps["b"], ".3f")]
            + [number(fps["ratio"], ".3f"), number(score["a"], ".3f", 100)]
            + [number(score["b"], ".3f", 100), number(score["difference"], "+.3f", 100)]
        )
    return table


def as_text(comparison: dict[str, Any]) -> str:
    """Return the short table for a terminal of 80 columns."""
    names = [f"{side.upper()}: {comparison[side]['name']}" for side in ("a", "b")]
    return "\n".join([*names, *(TEXT.format(*row) for row in cells(comparison))])


def as_markdown(comparison: dict[str, Any]) -> str:
    """Return compare.md: the tables of the page."""
    lines = ["# Two runs of SSD-ResNet34", ""]
    lines += [f"- {side.upper()}: {comparison[side]['name']}" for side in ("a", "b")]
    lines += ["", *ssd_table.as_markdown(cells(comparison)), "", "mAP and differences in %.", ""]
    for title, rows in (("COCO's numbers", "stats"), ("AP by class", "classes")):
        table = [[title, "A", "B", "B-A"]]
        for row in comparison[rows]:
            values = [number(row[side], ".3f", 100) for side in ("a", "b")]
            table.append([row["name"], *values, number(row["difference"], "+.3f", 100)])
        lines += [*ssd_table.as_markdown(table), ""]
    facts = [["fact", "A", "B"]]
    facts += [[row["name"], row["a"] or "-", row["b"] or "-"] for row in comparison["facts"]]
    return "\n".join([*lines, *ssd_table.as_markdown(facts), ""])
