"""Three runs or more in the order of time: what each changed in mAP and speed, and what it was."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from ssd import tables
from ssd.report.compare import (
    difference,
    find_warnings,
    flat_facts,
    names,
    ratio,
    warning_lines,
)

NAME = 18  # columns of a run's name on a terminal
COLUMNS = {  # of the short table: title, width, and how a run's value is shown
    "name": ("run", -NAME, lambda name: name if len(name) <= NAME else f"…{name[1 - NAME :]}"),
    "finished": ("finished, UTC", -16, lambda moment: as_minutes(moment)),
    "map": ("mAP", 7, tables.percent),
    "map_change": ("change", 7, tables.points),
    "fps": ("fps", 9, "{:.3f}".format),
    "fps_ratio": ("ratio", 5, "{:.3f}".format),
    "end_to_end": ("end-to-end", 10, "{:.3f}".format),
}
GAP = " "  # between columns: two would not fit 80
LEGEND = "mAP in %. Change, in points, and ratio: against the run before."
MEASURES = ("map", "ap50", "fps", "end_to_end")


def as_minutes(moment: str) -> str:
    """Return a moment such as 2024-05-06T07:08:09Z without its seconds, as people write it."""
    return moment[:16].replace("T", " ")


def make_history(folders: list[Path], reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the runs, the oldest first, and what changed from each to the next.

    reports: of ssd.report.collect.collect. A run's `since` has its difference or ratio to the run
    `before` it and to the `first`, in the form of ssd.report.compare; None where there is none. It
    has no verdict where the two runs may not compare, which `warnings` then says.
    """
    order = sorted(range(len(folders)), key=lambda i: reports[i]["finished"])  # all in UTC
    titles = names(folders)
    titles, reports = [titles[i] for i in order], [reports[i] for i in order]
    measured = [measures(report) for report in reports]
    runs, warnings, changes = [], [], []
    for i, (title, mine) in enumerate(zip(titles, measured, strict=True)):
        since = {}
        for key, j in (("before", i - 1), ("first", 0)) if i else ():
            doubts = find_warnings(reports[j], reports[i])
            since[key] = against(measured[j], mine, bool(doubts))
            if key == "before":
                warnings += [{"before": titles[j], "run": title} | doubt for doubt in doubts]
        since = since or dict.fromkeys(("before", "first"), against(None, mine, False))
        runs.append({"name": title, "finished": reports[i]["finished"]} | mine | {"since": since})
    for i, pair in enumerate(pairwise(flat_facts(report) for report in reports), start=1):
        changes += [{"run": titles[i]} | fact for fact in changed_facts(*pair)]
    classes = class_histories([report["per_class"] or [] for report in reports])
    if find_warnings(reports[0], reports[-1]):
        for row in classes:
            row["change"]["verdict"] = None
    return {"runs": runs, "warnings": warnings, "changes": changes, "classes": classes}


def measures(report: dict[str, Any]) -> dict[str, Any]:
    """Return what the history follows: mAP and AP50, and each speed at its best batch size."""
    stats, best = report["stats"] or {}, report["rows"][report["best"]]
    ends = [row["end_to_end"] for row in report["rows"] if row["end_to_end"]]
    return {
        "map": stats.get("AP"),
        "ap50": stats.get("AP50"),
        "fps": best["fps"],
        "end_to_end": max(ends, default=None),
        "batch": best["batch"],
        "engine": report["facts"].get("engine"),
        "scored": report["facts"].get("scored"),
    }


def against(other: dict[str, Any] | None, mine: dict[str, Any], doubtful: bool) -> dict[str, Any]:
    """Return how a run's measures differ from another's, without a verdict of mAP if in doubt."""
    made = {}
    for key in MEASURES:
        values = (other and other[key], mine[key])
        made[key] = difference(*values) if key in ("map", "ap50") else ratio(*values)
        if doubtful and key in ("map", "ap50"):
            made[key]["verdict"] = None
    return made


def changed_facts(before: dict[str, str], now: dict[str, str]) -> list[dict[str, Any]]:
    """Return the facts that differ, but for the date, which is always another."""
    keys = [key for key in dict.fromkeys([*before, *now]) if key != "date"]
    rows = ({"name": key, "before": before.get(key), "now": now.get(key)} for key in keys)
    return [row for row in rows if row["before"] != row["now"]]


def class_histories(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return each class's AP in every run and its change from first to last, the worst first.

    Classes are the same if id and name are; those that no run has an AP of are left out.
    """
    tables = [{(row["id"], row["name"]): row["ap"] for row in rows} for rows in runs]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [{"name": key[1], "ap": [table.get(key) for table in tables]} for key in keys]
    rows = [row for row in rows if any(ap is not None for ap in row["ap"])]
    rows = [row | {"change": difference(row["ap"][0], row["ap"][-1])} for row in rows]
    changes = [row["change"]["difference"] for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (changes[i] is None, changes[i] or 0))
    return [rows[i] for i in order]


def cells(history: dict[str, Any]) -> list[list[str]]:
    """Return the short table's cells, headings first."""
    rows = []
    for run in history["runs"]:
        before = run["since"]["before"]
        changes = {"map_change": before["map"]["difference"], "fps_ratio": before["fps"]["ratio"]}
        rows.append(run | changes)
    return tables.cells(COLUMNS, rows)


def doubts(history: dict[str, Any]) -> list[str]:
    """Return a line for each reason why the mAP of a run and the one before it may not compare."""
    lines = zip(history["warnings"], warning_lines(history), strict=True)
    return [f"{warning['before']}, {warning['run']}: {line}" for warning, line in lines]


def as_text(history: dict[str, Any]) -> str:
    """Return the short table for a terminal of 80 columns."""
    return "\n".join([tables.as_text(COLUMNS, cells(history), GAP), LEGEND])


def as_markdown(history: dict[str, Any]) -> str:
    """Return history.md: the short table, what changed, and the classes."""
    runs = [run["name"] for run in history["runs"]]
    lines = ["# Runs of SSD-ResNet34", "", *(f"- {line}" for line in doubts(history))]
    lines += ["", *tables.as_markdown(cells(history)), "", LEGEND, ""]
    facts = [["run", "fact", "before", "now"]]
    for row in history["changes"]:
        facts.append([row["run"], row["name"], row["before"] or "-", row["now"] or "-"])
    lines += tables.as_markdown(facts) if len(facts) > 1 else ["No fact changed."]
    classes = [["AP by class, %", *runs, "last - first"]]
    for row in history["classes"]:
        values = [tables.shown(ap, tables.percent) for ap in row["ap"]]
        change = tables.shown(row["change"]["difference"], tables.points)
        classes.append([row["name"], *values, change])
    return "\n".join([*lines, "", *tables.as_markdown(classes), ""])
