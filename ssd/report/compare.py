"""Two runs side by side: each batch size, COCO's numbers, each class, and the facts that differ."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssd import tables
from ssd.cli import first_few
from ssd.coco_eval import STAT_LINES

SPEEDS = {  # the figures of speed: their paths in a row, and whether more is better
    "fps": (("fps",), True),
    "end_to_end": (("end_to_end",), True),
    "p50": (("latency_ms", "p50"), False),
    "p99": (("latency_ms", "p99"), False),
}
SAME_SPEED = 0.02  # a ratio this near to 1 is within the noise of timing
SAME_AP = 0.0005  # a difference this small is within the rounding of engines and float16
WARNINGS = {  # why the mAP of two runs may not compare, in English and Chinese
    "data": ("data sets differ", "数据集不同"),
    "scored": ("scored images differ", "计分图片不同"),
    "truth": ("images or boxes of the annotations differ (digest)", "标注的图片或框不同（摘要）"),
    "classes": ("classes differ (count: not in the other)", "类别不同（数量：对方没有的类别）"),
}
COLUMNS = {  # of the short table: title, width, and how a value is shown
    "batch": ("batch", 5, str),
    "fps_a": ("A fps", 11, "{:.3f}".format),
    "fps_b": ("B fps", 11, "{:.3f}".format),
    "fps_ratio": ("B/A", 7, "{:.3f}".format),
    "map_a": ("A mAP", 10, tables.percent),
    "map_b": ("B mAP", 8, tables.percent),
    "map_difference": ("B-A", 8, tables.points),
}
GAP = " "  # between columns: two would look like more tables


def compare(
    folders: tuple[Path, Path], reports: tuple[dict[str, Any], dict[str, Any]]
) -> dict[str, Any]:
    """Return what two reports of ssd.report.collect.collect have in common and where they differ.

    Values are {"a", "b", "ratio"}, b / a, or {"a", "b", "difference"}, b - a, with a `verdict` of
    better, worse or same. What a run does not have is None, and so is what would follow from it.
    """
    a, b = reports
    by_batch = [{row["batch"]: row for row in report["rows"]} for report in reports]
    batches = sorted({batch for rows in by_batch for batch in rows})
    titles = names(folders)
    return {
        "a": {"name": titles[0], "scored_batch": a["scored_batch"]},
        "b": {"name": titles[1], "scored_batch": b["scored_batch"]},
        "rows": [compare_rows(batch, *(rows.get(batch) for rows in by_batch)) for batch in batches],
        "best": [report["rows"][report["best"]]["batch"] for report in reports],
        "stats": [
            {"name": name} | difference(*((report["stats"] or {}).get(name) for report in reports))
            for name in STAT_LINES
        ],
        "classes": compare_classes(*(report["per_class"] or [] for report in reports)),
        "facts": compare_facts(*(flat_facts(report) for report in reports)),
        "warnings": find_warnings(*reports),
        "noise": None,
        "images": [],
        "unread": [],
    }


def add_images(comparison: dict[str, Any], made: dict[str, Any]) -> None:
    """Add what ssd.report.pair found; mAP is the same if its difference is within the noise."""
    comparison.update(made)
    row = comparison["stats"][0]
    row["verdict"] = verdict(row["difference"], max(SAME_AP, made["noise"]))


def names(folders: Iterable[Path]) -> list[str]:
    """Return the folders' names, with as much before them as tells them apart."""
    full = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({parts[-depth:] for parts in full}) < len(set(full)):
        depth += 1
    return ["/".join(parts[-depth:]) for parts in full]


def verdict(change: float | None, band: float) -> str | None:
    """Return whether a change is `better`, above 0, or `worse`; `same` if it is within the band."""
    if change is None:
        return None
    return "same" if abs(change) <= band else "better" if change > 0 else "worse"


def ratio(a: float | None, b: float | None, more_is_better: bool = True) -> dict[str, Any]:
    value = b / a if a and b is not None else None
    gain = None if value is None else value - 1 if more_is_better else 1 - value
    return {"a": a, "b": b, "ratio": value, "verdict": verdict(gain, SAME_SPEED)}


def difference(a: float | None, b: float | None) -> dict[str, Any]:
    value = None if a is None or b is None else b - a
    return {"a": a, "b": b, "difference": value, "verdict": verdict(value, SAME_AP)}


def find_warnings(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Return why the mAP of two reports may not compare: other data, images or classes."""
    pairs = [(key, a["facts"].get(key), b["facts"].get(key)) for key in ("data", "scored")]
    digests = [report["truth_digest"] for report in (a, b)]
    if not any(x and y and x != y for _, x, y in pairs):  # they would differ too
        pairs.append(("truth", *(digest and digest[:12] for digest in digests)))
    classes = [{(row["id"], row["name"]) for row in report["per_class"] or []} for report in (a, b)]
    if all(classes) and classes[0] != classes[1]:
        others = [sorted(name for _, name in classes[i] - classes[1 - i]) for i in (0, 1)]
        only = [first_few(other) or "-" for other in others]
        pairs.append(("classes", *(f"{len(classes[i])}: {only[i]}" for i in (0, 1))))
    return [{"what": what, "a": x, "b": y} for what, x, y in pairs if x and y and x != y]


def value_at(row: dict[str, Any] | None, path: tuple[str, ...]) -> float | None:
    for key in path:
        row = (row or {}).get(key)
    return row


def compare_rows(batch: int, a: dict[str, Any] | None, b: dict[str, Any] | None) -> dict[str, Any]:
    row = {"batch": batch, "map": difference(value_at(a, ("map",)), value_at(b, ("map",)))}
    return row | {
        name: ratio(value_at(a, path), value_at(b, path), more_is_better)
        for name, (path, more_is_better) in SPEEDS.items()
    }


def compare_classes(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the AP of every class, the largest loss first, classes of a single run last.

    Classes are the same if id and name are.
    """
    first, second = ({(row["id"], row["name"]): row["ap"] for row in rows} for rows in (a, b))
    rows = [
        {"name": key[1]} | difference(first.get(key), second.get(key)) for key in first | second
    ]
    rows = [row for row in rows if (row["a"], row["b"]) != (None, None)]
    return sorted(rows, key=lambda row: (row["difference"] is None, row["difference"] or 0))


def flat_facts(report: dict[str, Any]) -> dict[str, str]:
    """Return a report's facts, each as text, with its models and their digests."""
    facts = {}
    for key, value in report["facts"].items():
        if isinstance(value, dict):
            facts |= {f"{key}: {name}": str(part) for name, part in value.items()}
        else:
            facts[key] = str(value)
    for row in report["rows"]:
        words = [row["model"], row["model_sha256"]]
        facts[f"model, batch {row['batch']}"] = " ".join(word for word in words if word)
    return facts


def compare_facts(a: dict[str, str], b: dict[str, str]) -> list[dict[str, Any]]:
    """Return the facts of either run, those that differ first."""
    keys = list(dict.fromkeys([*a, *b]))
    rows = [{"name": key, "a": a.get(key), "b": b.get(key)} for key in keys]
    rows = [row | {"differs": row["a"] != row["b"]} for row in rows]
    return sorted(rows, key=lambda row: not row["differs"])


def cells(comparison: dict[str, Any]) -> list[list[str]]:
    """Return the short table's cells, headings first."""
    rows = (
        {"batch": row["batch"]}
        | {f"{key}_{part}": value for key in ("fps", "map") for part, value in row[key].items()}
        for row in comparison["rows"]
    )
    return tables.cells(COLUMNS, rows)


def warning_lines(comparison: dict[str, Any]) -> list[str]:
    """Return a line for each reason why the mAP of the two runs may not compare."""
    return [
        f"mAP may not compare: {WARNINGS[warning['what']][0]}: {warning['a']} / {warning['b']}"
        for warning in comparison["warnings"]
    ]


def as_text(comparison: dict[str, Any]) -> str:
    """Return the short table for a terminal of 80 columns."""
    names = [f"{side.upper()}: {comparison[side]['name']}" for side in ("a", "b")]
    table = tables.as_text(COLUMNS, cells(comparison), GAP)
    return "\n".join([*names, table, *change_lines(comparison)])


def change_lines(comparison: dict[str, Any]) -> list[str]:
    """Return how sure the difference in mAP is and how many images changed; none without data."""
    if comparison["noise"] is None:
        return []
    count, row = comparison["changes"], comparison["stats"][0]
    sure = "may be chance" if row["verdict"] == "same" else "more than chance"
    change = tables.shown(row["difference"], tables.points)
    return [
        f"mAP B-A: {change} +- {tables.percent(comparison['noise'])} points, {sure} (95 %)",
        f"images: {count['better']} better, {count['worse']} worse, {count['same']} as before",
    ]


def as_markdown(comparison: dict[str, Any]) -> str:
    """Return compare.md: the tables of the page."""
    lines = ["# Two runs of SSD-ResNet34", ""]
    lines += [f"- {side.upper()}: {comparison[side]['name']}" for side in ("a", "b")]
    lines += [f"- {line}" for line in (*warning_lines(comparison), *change_lines(comparison))]
    lines += ["", *tables.as_markdown(cells(comparison)), "", "mAP and differences in %.", ""]
    for title, rows in (("COCO's numbers", "stats"), ("AP by class", "classes")):
        columns = {"name": (title, 0, str), "a": ("A", 0, tables.percent)}
        columns |= {"b": ("B", 0, tables.percent), "difference": ("B-A", 0, tables.points)}
        lines += [*tables.as_markdown(tables.cells(columns, comparison[rows])), ""]
    differing = [row for row in comparison["facts"] if row["differs"]]
    if not differing:
        return "\n".join([*lines, "No fact differs.", ""])
    facts = [
        ["fact", "A", "B"],
        *([row["name"], row["a"] or "-", row["b"] or "-"] for row in differing),
    ]
    return "\n".join([*lines, *tables.as_markdown(facts), ""])
