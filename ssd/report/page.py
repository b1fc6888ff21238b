"""The report as one HTML file: no network access, light and dark, English and Chinese.

Every figure is taken from the report by its path, which the page keeps as `data-figure`, so that
the page can be checked against report.json.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssd.coco_eval import STAT_LINES
from ssd.report import render
from ssd.report.accuracy_charts import ACCURACY, TOP, drawn_labels
from ssd.report.charts import COMPARED, HISTORY, LADDER, MAX_BARS, SPEED
from ssd.report.compare import SAME_AP, SAME_SPEED, WARNINGS
from ssd.report.history import as_minutes
from ssd.report.matching import ERRORS, KINDS, Analysis
from ssd.report.metrics import SIZES
from ssd.report.render import Chart
from ssd.report.speed import STEPS
from ssd.report.texts import (
    KIND_MEANINGS,
    KIND_NAMES,
    LABEL_FINDINGS,
    MISSING,
    fact_name,
    in_chinese,
)

import jinja2
import numpy as np
from markupsafe import Markup, escape

NONE = "–"  # shown where there is no figure
WORST = 3  # classes that the lead names
GROUPS = (  # of the images: key, English, Chinese
    *(("", "all", "全部"), ("best", "best", "最好"), ("worst", "worst", "最差")),
    *(("random", "random", "随机"), ("more", "further", "补充")),
)
COMPARED_GROUPS = (("", "all", "全部"), ("worse", "worse", "变差"), ("better", "better", "变好"))


def both(english: Any, chinese: Any, **parts: Any) -> Markup:
    """Return a text in both languages, of which the page shows either; {name} stands for a part."""
    english, chinese = (escape(text).format(**parts) for text in (english, chinese))
    return Markup('<span lang="en">{}</span><span lang="zh-CN">{}</span>').format(english, chinese)


def aria_label(english: str, chinese: str) -> Markup:
    """Return the attribute aria-label in English; the page's language switch translates it."""
    form = 'aria-label="{0}" data-label-en="{0}" data-label-zh="{1}"'
    return Markup(form).format(english, chinese)


def lookup(report: Any, path: str) -> Any:
    """Return the value at a path such as `rows.0.fps`; a key may hold dots itself: the longest."""
    if path == "":
        return report
    if isinstance(report, list):
        first, _, rest = path.partition(".")
        return lookup(report[int(first)], rest)
    keys = [key for key in report if path == key or path.startswith(f"{key}.")]
    key = max(keys, key=len)
    return lookup(report[key], path[len(key) + 1 :])


def show(value: Any, decimals: int | None, percent: bool, form: str) -> str:
    """Return a value as the page shows it, `form` before its places; None: there is no figure."""
    if value is None:
        return NONE
    if isinstance(value, str | bool):
        return str(value)
    places = "" if decimals is None else f".{decimals}f"
    return format(100 * value if percent else value, f"{form}{places}")


def figure_of(report: dict[str, Any], path: str, percent: bool, **form: Any) -> Markup:
    """Return a figure of the report with its path."""
    text = show(lookup(report, path), percent=percent, **form)
    unit = Markup(' data-percent=""') if percent else ""
    return Markup('<span data-figure="{}"{}>{}</span>').format(path, unit, text)


def environment() -> jinja2.Environment:
    """Return Jinja2 set up for the templates beside this file."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"t": both, "aria_label": aria_label, "no_figure": NONE}
    made.globals |= {"fact_name": fact_name, "as_minutes": as_minutes}
    made.globals |= {"stat_lines": STAT_LINES, "missing_texts": MISSING, "warning_texts": WARNINGS}
    made.globals |= {"kind_names": KIND_NAMES, "kind_meanings": KIND_MEANINGS}
    made.globals |= {"label_findings": LABEL_FINDINGS}
    made.globals |= {"in_chinese": in_chinese, "chinese": render.CHINESE}
    made.globals |= {"steps": STEPS, "sizes": SIZES}
    made.globals |= {"same_speed": f"{100 * SAME_SPEED:g}", "same_ap": f"{100 * SAME_AP:g}"}
    return made


def draw_page(
    template: str,
    drawn: dict[str, Chart],
    report: dict[str, Any],
    with_png: bool = True,
    **more: Any,
) -> tuple[bytes, dict[str, bytes]]:
    """Return a page and its charts as PNG by name.

    In the template `num(path)` is a figure of the report, `charts` holds the SVGs.
    """
    made = render.render(drawn, report, with_png)
    charts = {name: Markup(svg) for name, (svg, _) in made.items()}

    def num(
        path: str, decimals: int | None = None, percent: bool = False, form: str = ","
    ) -> Markup:
        return figure_of(report, path, percent, decimals=decimals, form=form)

    page = environment().get_template(template)
    text = page.render(r=report, num=num, charts=charts, **more)
    return text.encode(), {name: png for name, (_, png) in made.items() if png}


def report_page(
    report: dict[str, Any], images: dict[int, str], shots: dict[int, dict[str, Any]]
) -> tuple[bytes, dict[str, bytes]]:
    """Return report.html, and the charts as PNG by name.

    images: `data:` URIs of the gallery, by image id; entries without an image are left out. shots:
    of the same images `name`, `width`, `height` and the boxes of ssd.report.gallery.boxes_of.
    """
    drawn = SPEED | (ACCURACY if report["detail"] else {})
    batches = [row["batch"] for row in report["rows"]]
    more = {"goals": any(row["goal_map"] is not None for row in report["rows"])}
    scored = report["scored_batch"]
    more["scored_row"] = None if scored is None else batches.index(scored)
    more |= {"images": images, "figures": report_figures(report, images)}
    return draw_page("report.html", drawn, report, **more, **lists(report, shots))


def report_figures(report: dict[str, Any], images: dict[int, str]) -> list[dict[str, Any]]:
    """Return the gallery's figures: the paths of counts and file name, groups, image."""
    if not report["detail"]:
        return []
    shown = [
        (i, entry)
        for i, entry in enumerate(report["detail"]["gallery"])
        if entry["image_id"] in images
    ]
    return [
        figure_of_gallery(f"detail.gallery.{i}", f"detail.gallery.{i}", entry, entry["groups"])
        | {"uri": images[entry["image_id"]], "pair": i}
        for i, entry in shown
    ]


def figure_of_gallery(
    path: str, named: str, entry: dict[str, Any], groups: list[str]
) -> dict[str, Any]:
    name = f"{named}.file_name"
    return {"path": path, "name": name, "groups": groups, "side": "", "alt": entry["file_name"]}


def lists(report: dict[str, Any], shots: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return what the page lists: classes and errors, worst first, and so on; `kit` for its script.

    left_out: the number of classes that the chart of AP leaves out. matrix_classes: how many of how
    many classes the matrix draws, None for all.
    """
    detail = report["detail"]
    if not detail:
        return {}
    names = [row["name"] for row in detail["classes"]]
    aps = [math.inf if row["ap"] is None else row["ap"] for row in detail["classes"]]
    order = sorted(range(len(names)), key=lambda k: aps[k])
    scored = [k for k in order if aps[k] < math.inf]
    gains = detail["errors"]["delta_ap"]
    errors = sorted(gains, key=lambda kind: -gains[kind])
    drawn = drawn_labels(np.array(detail["confusion"]))
    chosen = detail["by_score"]["thresholds"].index(detail["score"])
    rows = detail["by_score"]["classes"]
    return {
        "kit": script_data(detail, names, drawn, list(shots.values())),
        "chosen": chosen,
        "class_order": order,
        "worst": scored[:WORST] if len(scored) > WORST else [],
        "left_out": max(len(scored) - MAX_BARS, 0),
        "matrix_classes": (len(drawn), len(names)) if len(drawn) < len(names) else None,
        "error_order": errors,
        "costliest": errors[0] if gains[errors[0]] > 0 else None,
        "main_errors": [main_error(row, chosen) for row in rows],
        "gallery_classes": used_classes(names, shots.values()),
        "gallery_groups": GROUPS,
        "pairs": False,
    }


def main_error(row: dict[str, Any], chosen: int) -> str | None:
    """Return the most frequent kind of error of a class's detections, None if all are right."""
    most = max(ERRORS, key=lambda kind: row[kind][chosen])
    return most if row[most][chosen] else None


def script_data(
    detail: dict[str, Any], names: list[str], drawn: list[int], shots: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the page's script draws from: counts by score, the matrix's cells, the boxes."""
    keys = ("found", *ERRORS)
    by_score = detail["by_score"]
    return box_data(detail, names, shots) | {
        "axisTop": TOP,
        "trueBoxes": [row["true_boxes"] for row in detail["classes"]],
        "byScore": {
            "all": {key: by_score["all"][key] for key in keys},
            "classes": [{key: row[key] for key in keys} for row in by_score["classes"]],
        },
        "curves": [
            curves and [[round(1000 * y) for y in curve] for curve in curves.values()]
            for curves in detail["pr"]["classes"]
        ],
        "cells": {
            "drawn": drawn,
            "filled": [
                [i, j, n]
                for i, row in enumerate(detail["confusion"])
                for j, n in enumerate(row)
                if n
            ],
        },
    }


def box_data(
    detail: dict[str, Any], names: list[str], shots: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the page's script draws boxes from."""
    thresholds = detail["by_score"]["thresholds"]
    return {
        "thresholds": thresholds,
        "chosen": thresholds.index(detail["score"]),
        "classes": names,
        "kinds": KINDS,
        "errors": (*ERRORS, "missed"),
        "kindNames": KIND_NAMES,
        "shots": shots,
    }


def used_classes(names: list[str], shots: Iterable[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return label and name of the classes whose boxes are on the images, by name."""
    used = {row[0] for shot in shots for row in shot["truth"]}
    used |= {row[1] for shot in shots for row in shot["found"]}
    return sorted(((label, names[label]) for label in used), key=lambda pair: pair[1])


def compare_page(
    comparison: dict[str, Any], images: dict[int, str], sides: list[tuple[Analysis, dict]]
) -> tuple[bytes, dict[str, bytes]]:
    """Return compare.html, and its charts as PNG by name.

    images: `data:` URIs by image id. sides: each run's Analysis and its shots by image id; empty
    without a data set.
    """
    shown = [(i, entry) for i, entry in enumerate(comparison["images"])]
    shown = [(i, entry) for i, entry in shown if entry["image_id"] in images]
    figures, shots = [], []
    for i, entry in shown:
        for side, (_, its_shots) in zip(("a", "b"), sides, strict=True):
            made_of = figure_of_gallery(
                f"images.{i}.{side}", f"images.{i}", entry, [entry["group"]]
            )
            uri = images[entry["image_id"]] if side == "a" else None  # B's is copied from it
            figures.append(made_of | {"side": side.upper(), "uri": uri, "pair": i})
            shots.append(its_shots[entry["image_id"]] | {"side": side.upper()})
    more: dict[str, Any] = {"figures": figures, "pairs": True, "kit": None}
    if figures:
        analysis = sides[0][0]
        more["kit"] = box_data(analysis.detail, analysis.names, shots)
        more["gallery_classes"] = used_classes(analysis.names, shots)
        more |= {"gallery_groups": COMPARED_GROUPS, "error_order": [*ERRORS, "missed"]}
    return draw_page("compare.html", COMPARED, comparison, **more)


def ladder_page(ladder: dict[str, Any]) -> tuple[bytes, dict[str, bytes]]:
    """Return ladder.html; a ladder has no PNG charts."""
    return draw_page("ladder.html", LADDER, ladder, with_png=False)


def history_page(history: dict[str, Any]) -> tuple[bytes, dict[str, bytes]]:
    """Return history.html, and its charts as PNG by name."""
    return draw_page("history.html", HISTORY, history)
