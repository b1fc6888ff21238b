"""The report as one HTML file: no network access, light and dark, English and Chinese.

Every figure is taken from the report by its path, which stands in the page as `data-figure`, so
that the page can be held against report.json.
"""

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

import ssd_charts
import ssd_plots
from ssd_score import STAT_LINES

NONE = "–"  # what the table shows where there is no figure
FACT_NAMES = {  # of facts that the kit itself notes
    "command": ("command line", "命令行"),
    "data": ("data set", "数据集"),
    "scored": ("images scored", "计分图片"),
    "engine": ("engine", "推理引擎"),
    "provider": ("provider", "执行后端"),
    "mode": ("precision mode", "精度模式"),
    "soc_version": ("chip", "芯片型号"),
    "cann": ("CANN", "CANN"),
    "cards": ("cards", "加速卡"),
    "devices": ("devices", "设备号"),
    "route": ("outputs", "输出方式"),
    "machine": ("machine", "机器"),
    "cpus": ("processors", "可用 CPU 数"),
    "python": ("Python", "Python"),
    "packages": ("packages", "软件包"),
    "checkpoint_sha256": ("checkpoint SHA-256", "检查点 SHA-256"),
}
LACKING = {  # what a report may lack: its text
    "scores": (
        "No batch size was scored here, so the page holds speed alone.",
        "没有任何批大小经过评分，本页只有速度数据。",
    ),
    "data": (
        "No data set was named (--data), so curves, classes, confusions and pictures are left out.",
        "未指定数据集（--data），因此没有曲线、各类别、混淆矩阵和图片。",
    ),
    "detections": (
        "The detections cannot be read, so curves, classes, confusions and pictures are left out:",
        "检测结果文件无法读取，因此没有曲线、各类别、混淆矩阵和图片：",
    ),
    "annotations": (
        "The annotations cannot be scored, so curves, classes, confusions and pictures are left "
        "out:",
        "标注文件无法用于评分，因此没有曲线、各类别、混淆矩阵和图片：",
    ),
    "mismatch": (
        "Scored again, the detections give another mAP than the one on file: the data set named "
        "is not the one of the run, or files were changed since:",
        "重新评分得到的 mAP 与文件中记录的不同：指定的数据集与评测时不一致，或文件后来有改动：",
    ),
    "pictures": (
        "Some pictures of the gallery could not be read:",
        "图库中有些图片无法读取：",
    ),
}


def both(english: Any, chinese: Any, **parts: Any) -> Markup:
    """Return a text in both languages, of which the page shows one; {name} stands for a part."""
    english, chinese = (escape(text).format(**parts) for text in (english, chinese))
    return Markup('<span lang="en">{}</span><span lang="zh-CN">{}</span>').format(english, chinese)


def attribute(name: str, english: str, chinese: str) -> Markup:
    """Return an HTML attribute in English that the page's language switch translates."""
    return Markup('{0}="{1}" data-{0}-en="{1}" data-{0}-zh="{2}"').format(name, english, chinese)


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


def show(value: Any, decimals: int | None, percent: bool, sign: str) -> str:
    """Return a value as the page shows it; None and -1 are figures that there are not."""
    if value is None or (value == -1 and not sign):
        return NONE
    if isinstance(value, str | bool):
        return str(value)
    places = "" if decimals is None else f".{decimals}f"
    return format(100 * value if percent else value, f"{sign},{places}")


def figure_of(report: dict[str, Any], path: str, percent: bool, **form: Any) -> Markup:
    """Return a figure of the report with its path."""
    text = show(lookup(report, path), percent=percent, **form)
    unit = Markup(' data-percent=""') if percent else ""
    return Markup('<span data-figure="{}"{}>{}</span>').format(path, unit, text)


def selection_chinese(words: str) -> str:
    """Return ssd_coco.describe_selection's words in Chinese, others as they are."""
    every = re.fullmatch(r"all (\d+) images", words)
    if every:
        return f"全部 {every[1]} 张图片"
    part = re.fullmatch(r"(\d+) of (\d+) images \((\d+) without annotation left out\)", words)
    return f"{part[2]} 张图片中的 {part[1]} 张（{part[3]} 张无标注，未计入）" if part else words


def environment() -> jinja2.Environment:
    """Return Jinja2 set up for the templates beside this file."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"t": both, "attr": attribute, "fact_names": FACT_NAMES, "none": NONE}
    made.globals |= {"stat_lines": STAT_LINES, "lacking": LACKING}
    made.globals |= {"selection_chinese": selection_chinese}
    return made


def write_page(template: str, report: dict[str, Any], svgs: dict[str, str], **more: Any) -> bytes:
    """Return a page: `num(path)` in the template is a figure of the report, `chart` its SVGs."""

    def num(
        path: str, decimals: int | None = None, percent: bool = False, sign: str = ""
    ) -> Markup:
        return figure_of(report, path, percent, decimals=decimals, sign=sign)

    charts = {name: Markup(svg) for name, svg in svgs.items()}
    made = environment().get_template(template)
    return made.render(r=report, num=num, charts=charts, **more).encode()


def report_page(report: dict[str, Any], pictures: dict[int, str]) -> tuple[bytes, dict[str, bytes]]:
    """Return report.html, and the charts as PNG by name.

    pictures: `data:` URIs of the gallery, by image id; those that are not there are left out.
    """
    drawn = ssd_charts.SPEED | (ssd_charts.ACCURACY if report["detail"] else {})
    made = ssd_plots.render(drawn, report)
    svgs = {name: svg for name, (svg, _) in made.items()}
    page = write_page("ssd_report.html.j2", report, svgs, pictures=pictures, **lists(report))
    return page, {name: png for name, (_, png) in made.items()}


def lists(report: dict[str, Any]) -> dict[str, Any]:
    """Return what else the page needs: the matrix's filled cells, and classes in their orders."""
    detail = report["detail"]
    if not detail:
        return {}
    filled = [
        [i, j, n] for i, row in enumerate(detail["confusion"]) for j, n in enumerate(row) if n
    ]
    names = [row["name"] for row in detail["classes"]]
    aps = [-1 if row["ap"] is None else row["ap"] for row in detail["classes"]]
    return {
        "cells": {"names": names, "filled": filled},
        "class_order": sorted(range(len(names)), key=lambda k: -aps[k]),
        "gallery_classes": sorted({name for one in detail["gallery"] for name in one["classes"]}),
    }


def compare_page(comparison: dict[str, Any]) -> tuple[bytes, dict[str, bytes]]:
    """Return compare.html, and its charts as PNG by name."""
    made = ssd_plots.render(ssd_charts.COMPARED, comparison)
    svgs = {name: svg for name, (svg, _) in made.items()}
    page = write_page("ssd_compare.html.j2", comparison, svgs)
    return page, {name: png for name, (_, png) in made.items()}
