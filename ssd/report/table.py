"""The report's tables: each batch size's accuracy and speed, and its latencies."""

import textwrap
from typing import Any

from ssd import tables
from ssd.report import speed
from ssd.report.collect import BASELINE_FPS

WIDTH = 80  # columns of a terminal
FACT_FORMS = {  # facts printed above the table, and the form of each
    "engine": "{}",
    "provider": "{}",
    "soc_version": "{}",
    "cann": "CANN {}",
    "mode": "mode {}",
    "devices": "device {}",
    "route": "{}",
    "threads": "threads: {}",
    "cpu_flags": "{}",
    "load": "load {}",
}
COLUMNS = {  # columns of the table: title, width, and the format of a value
    "model": ("model", -18, str),
    "batch": ("batch", 5, str),
    "goal_map": ("goal mAP", 8, tables.percent),
    "map": ("mAP", 7, tables.percent),
    "baseline_fps": ("base fps", 8, "{:.3f}".format),
    "fps": ("fps", 9, "{:.3f}".format),
    "end_to_end": ("end-to-end", 10, "{:.3f}".format),
}
TIMES = {  # columns of the table of latencies
    "batch": ("ms: batch", 9, str),
    **{name: (title, 9, "{:.2f}".format) for name, title in (("p50", "median"), ("p25", "p25"))},
    **{name: (name, 9, "{:.2f}".format) for name in ("p75", "p90", "p99")},
    "runs": ("runs", 7, str),
}
END_TO_END = (
    "end-to-end: from JPEG files to scored boxes, images/s by wall clock; starting and loading the "
    "model count apart."
)
LATENCY = "An image waits for its batch: the latency of each is that of the batch."


def cells(report: dict[str, Any]) -> list[list[str]]:
    """Return the table's cells, headings first, and a Max row for the best batch size last."""
    rows = [*report["rows"], report["rows"][report["best"]] | {"model": "Max"}]
    return tables.cells(COLUMNS, rows)


def latencies(report: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the table of latencies, which are those of a batch, headings first."""
    return tables.cells(
        TIMES, (row["latency_ms"] | {"batch": row["batch"]} for row in report["rows"])
    )


def as_markdown(report: dict[str, Any]) -> str:
    """Return report.md: the tables, what is best, and facts."""
    lines = ["# SSD-ResNet34 evaluation", "", *tables.as_markdown(cells(report)), ""]
    lines += [line for warning in report["warnings"] for line in (f"Warning: {warning}.", "")]
    base = f"; base fps: {BASELINE_FPS}, published" if report["published"] else ""
    lines += [f"mAP in %; fps: pure inference, images/s{base}. {END_TO_END}", ""]
    lines += [f"- {line}" for line in speed.lines(report)]
    lines += ["", *tables.as_markdown(latencies(report)), "", LATENCY, ""]
    return "\n".join([*lines, *(f"- {key}: {value}" for key, value in report["facts"].items()), ""])


def as_text(report: dict[str, Any]) -> str:
    """Return the report for the terminal: facts, tables, what is best, warnings."""
    facts = [(form, report["facts"].get(key)) for key, form in FACT_FORMS.items()]
    lines = [textwrap.fill(", ".join(form.format(fact) for form, fact in facts if fact), WIDTH)]
    lines.append(tables.as_text(COLUMNS, cells(report)))
    lines += [textwrap.fill(line, WIDTH) for line in speed.lines(report)]
    lines.append(tables.as_text(TIMES, latencies(report), gap=" "))
    lines += [textwrap.fill(f"warning: {warning}", WIDTH) for warning in report["warnings"]]
    return "\n".join(lines)
