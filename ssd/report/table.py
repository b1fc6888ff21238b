"""The table of a result folder, for a terminal and for report.md."""

import textwrap
from typing import Any

from ssd import tables
from ssd.report.collect import BASELINE_FPS
from ssd.report.compare import number

WIDTH = 80  # columns of a terminal
FACT_FORMS = {  # facts printed above the table, and the form of each
    "engine": "{}",
    "provider": "{}",
    "soc_version": "{}",
    "cann": "CANN {}",
    "mode": "mode {}",
    "devices": "device {}",
    "route": "{}",
}
COLUMNS = {  # columns of the table: title, width, and the format of a value
    "model": ("model", -18, str),
    "batch": ("batch", 5, str),
    "goal_map": ("goal mAP", 8, lambda value: f"{100 * value:.3f}"),
    "map": ("mAP", 7, lambda value: f"{100 * value:.3f}"),
    "baseline_fps": ("base fps", 8, lambda value: f"{value:.3f}"),
    "fps": ("fps", 9, lambda value: f"{value:.3f}"),
    "end_to_end": ("end-to-end", 10, lambda value: f"{value:.3f}"),
}


def cells(report: dict[str, Any]) -> list[list[str]]:
    """Return the table's cells, headings first, and a Max row for the best batch size last."""
    rows = [*report["rows"], report["rows"][report["best"]] | {"model": "Max"}]
    return tables.cells(COLUMNS, rows)


def as_markdown(report: dict[str, Any]) -> str:
    """Return report.md: the table, latency and facts."""
    lines = ["# SSD-ResNet34 evaluation", "", *tables.as_markdown(cells(report)), ""]
    lines += [line for warning in report["warnings"] for line in (f"Warning: {warning}.", "")]
    base = f"; base fps: {BASELINE_FPS}, published" if report["published"] else ""
    lines += [f"mAP in %; fps: pure inference, images/s{base}.", ""]
    latency = [["ms a batch", "mean", "p50", "p90", "p95", "p99", "runs"]]
    for row in report["rows"]:
        times = row["latency_ms"]
        values = [number(times.get(name), ".2f") for name in latency[0][1:-1]]
        latency.append([str(row["batch"]), *values, str(times["runs"])])
    lines += [*tables.as_markdown(latency), ""]
    return "\n".join([*lines, *(f"- {key}: {value}" for key, value in report["facts"].items()), ""])


def as_text(report: dict[str, Any]) -> str:
    """Return the report for the terminal: facts, table, warnings."""
    facts = [(form, report["facts"].get(key)) for key, form in FACT_FORMS.items()]
    lines = [textwrap.fill(", ".join(form.format(fact) for form, fact in facts if fact), WIDTH)]
    lines.append(tables.as_text(COLUMNS, cells(report)))
    lines += [textwrap.fill(f"warning: {warning}", WIDTH) for warning in report["warnings"]]
    return "\n".join(lines)
