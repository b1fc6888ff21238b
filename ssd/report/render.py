"""The report's charts, by matplotlib: as PNG, and as SVG for the page.

A page shows charts in two languages and on light and dark ground, so their SVG keeps text as text,
in both languages, and names colors by the page's CSS variables. Neither a window system nor the
user's matplotlib settings are used.
"""

import html
import io
import logging
import os
import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

os.environ["MPLBACKEND"] = "agg"  # one that it does not know ends its import
import matplotlib
import matplotlib.style
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

DPI = 150  # resolution of the PNG charts, dots per inch
WIDE = 340  # points; wider charts scroll on a phone, others are shrunk to its width
INK, MUTED, RULE = "#1b1f24", "#57606a", "#d8dde2"
SERIES = ("#0b6fae", "#c2500c", "#0a8467", "#8f6a05", "#8456a3")  # distinct to the color-blind, too
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule"} | {
    color: f"s{i}" for i, color in enumerate(SERIES, start=1)
}
Chart = Callable[[dict[str, Any]], Figure | None]
CJK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Arial Unicode MS"),
)
CHINESE = {  # the texts of charts and their Chinese forms
    "batch size": "批大小",
    "batch size (log scale)": "批大小（对数刻度）",
    "images/s": "张/秒",
    "inference alone": "纯推理",
    "end to end": "端到端",
    "baseline (GPU)": "基线（GPU）",
    "ms per batch": "毫秒/批",
    "mean": "均值",
    "median": "中位数",
    "preprocess": "预处理",
    "seconds": "秒",
    "read": "读取",
    "infer": "推理",
    "write": "写出",
    "decode": "解码",
    "score": "评分",
    "recall": "召回率",
    "precision": "精确率",
    "IoU 0.50": "IoU 0.50",
    "mean of IoU 0.50 to 0.95": "IoU 0.50 至 0.95 的均值",
    "small": "小",
    "medium": "中",
    "large": "大",
    "score of the detection": "置信度",
    "detections (log scale)": "检测框数（对数刻度）",
    "true": "正确",
    "false": "误检",
    "least score that counts": "计入检测框的最低置信度",
    "share that is true": "实际正确率",
    "F1": "F1",
    "detected as": "检测为",
    "true class": "真实类别",
    "missed": "漏检",
    "background": "背景",
    "AP, %": "AP（%）",
    "mAP, %": "mAP（%）",
    "falls here": "此处下降",
    "layer, in the order of the network": "层（按网络中的顺序）",
    "1 − cosine (log scale)": "1 − 余弦相似度（对数刻度）",
    "AP50, %": "AP50（%）",
    "AP, difference in points": "AP 差值（百分点）",
}


@cache
def fonts() -> list[str]:
    """Return the charts' font families: matplotlib's default, then a Chinese font if any."""
    known = set(font_manager.get_font_names())
    return ["DejaVu Sans", *[name for name in CJK_FONTS if name in known][:1]]


def style() -> list[Any]:
    """Return the charts' look, whatever the user's settings are."""
    plain = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
    plain |= {"axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK}
    plain |= {"xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK}
    plain |= {"ytick.labelcolor": INK, "grid.color": RULE, "grid.linewidth": 0.6}
    plain |= {"font.family": fonts(), "font.size": 9, "axes.labelsize": 9, "legend.fontsize": 9}
    plain |= {"legend.frameon": False, "lines.linewidth": 1.8, "axes.axisbelow": True}
    plain |= {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "ssd"}
    return ["default", plain]


def render(
    charts: dict[str, Chart], report: dict[str, Any], with_png: bool = True
) -> dict[str, tuple[str, bytes | None]]:
    """Return each chart that the report has the figures for, as SVG for a page and as PNG."""
    made = {}
    # matplotlib would print a note on every font weight that it replaces
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with matplotlib.style.context(style()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's fonts have more letters
        for name, chart in charts.items():
            figure = chart(report)
            if figure:
                made[name] = to_svg(figure, name), to_png(figure) if with_png else None
    return made


def to_png(figure: Figure) -> bytes:
    """Return a chart as PNG, on white."""
    for text in figure.findobj(Text):
        text.set_text(drawable(text.get_text()))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def drawable(text: str) -> str:
    """Return the text with letters that no font here has replaced by their code: U+732B."""
    return "".join(c if ord(c) in letters() else f"U+{ord(c):04X} " for c in text).strip()


@cache
def letters() -> set[int]:
    """Return the codes of all letters that the charts' fonts have."""
    files = [font_manager.findfont(family) for family in fonts()]
    return set().union(*(font_manager.get_font(file).get_charmap() for file in files))


def to_svg(figure: Figure, name: str) -> str:
    """Return a chart as an SVG element that takes its fonts, colors and language from the page."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    extra = r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|font-family: [^;\"]*;? ?"
    svg = re.sub(extra, "", svg, flags=re.DOTALL)
    # the ids of all charts share a page
    svg = re.sub(r'id="|url\(#|href="#', lambda found: f"{found[0]}{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px)", r"font-size: \1", svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r"#[0-9a-f]{6}", lambda found: css_color(found[0]), svg)
    svg = re.sub(r"(<text[^>]*>)([^<]*)</text>", both_languages, svg)
    return re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', shell, svg)


def shell(found: re.Match) -> str:
    """Return an SVG's start tag: as wide as its place, within what its letters can be read at."""
    width = float(found[1].split()[2])
    least = 1.15 * width if width > WIDE else 0  # a wide chart scrolls in its box
    size = f"min-width: {least:.0f}px; max-width: {1.75 * width:.0f}px"
    return f'<svg viewBox="{found[1]}" style="{size}" aria-hidden="true">'


def css_color(color: str) -> str:
    return f"var(--{VARIABLES[color]})" if color in VARIABLES else color


def both_languages(found: re.Match) -> str:
    """Give a text element its Chinese form beside the English one."""
    chinese = CHINESE.get(html.unescape(found[2]))
    if chinese is None:
        return found[0]
    spans = f'<tspan lang="en">{found[2]}</tspan><tspan lang="zh-CN">{html.escape(chinese)}</tspan>'
    return f"{found[1]}{spans}</text>"
