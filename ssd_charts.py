"""The report's charts: what each shows. ssd_plots.py turns them into SVG and PNG.

Every text of a chart is English here; those in ssd_plots.CHINESE have a Chinese form on the page.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssd_plots import MUTED, SERIES, Chart

WIDTH = 4.5  # inches: half of a desktop page, and small enough for a phone
CELL = (0x2F / 255, 0x8F / 255, 0xD0 / 255)  # of the confusion matrix: on light and dark ground
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), "-.", ":")  # curves that coincide stay visible
SEEN = 0.0005  # of AP: a smaller difference reads 0.0
BAR = 0.135  # inches: of one class, in width
MAX_BARS = 120  # of classes in one chart; of more, the best and the worst are shown
MAX_WRITTEN = 15  # classes up to which the matrix shows its numbers
STEP_ORDER = ("infer", "read", "write", "decode", "score")  # the longest as a rule first


def axes(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def legend(ax: Axes, columns: int = 3) -> None:
    """Put the legend above the axes, at their left."""
    handles = {"handlelength": 1.4, "columnspacing": 1.2, "borderaxespad": 0.2}
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, **handles)


def batch_axis(ax: Axes, batches: list[int]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.minorticks_off()
    ax.set_xlabel("batch size")
    ax.set_ylim(0, ax.get_ylim()[1] * 1.05)
    ax.margins(x=0.08)


def lines(ax: Axes, x: list[int], curves: dict[str, list[float | None]]) -> None:
    """Draw named curves with markers of their own; a value of None is left out."""
    marks = zip("osD^v", SERIES, strict=True)
    for (name, y), (mark, colour) in zip(curves.items(), marks, strict=False):
        points = [(a, b) for a, b in zip(x, y, strict=True) if b is not None]
        if points:
            ax.plot(*zip(*points, strict=True), marker=mark, ms=5, color=colour, label=name)


def fps(report: dict[str, Any]) -> Figure:
    figure, ax = axes(2.9)
    rows = report["rows"]
    curves = {"inference alone": "fps", "end to end": "end_to_end"}
    batches = [row["batch"] for row in rows]
    lines(ax, batches, {name: [row[key] for row in rows] for name, key in curves.items()})
    batch_axis(ax, batches)
    ax.set_ylabel("images/s")
    legend(ax)
    return figure


def latency(report: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    rows, axs = report["rows"], figure.subplots(2, 1, sharex=True)
    batches = [row["batch"] for row in rows]
    shown = zip(axs, ("latency_ms", "latency_per_image_ms"), strict=True)
    for ax, key in shown:
        curves = {name: [row[key].get(name) for row in rows] for name in ("mean", "p50", "p99")}
        lines(ax, batches, curves)
        batch_axis(ax, batches)
    axs[0].set(ylabel="ms per batch", xlabel="")
    axs[1].set_ylabel("ms per image")
    legend(axs[0])
    return figure


def published(report: dict[str, Any]) -> Figure:
    figure, ax = axes(2.9)
    rows = report["published"]
    batches = [row["batch"] for row in rows]
    lines(ax, batches, {f"Ascend {chip}": [row[chip] for row in rows] for chip in ("310", "310P")})
    baseline = report["rows"][0]["baseline_fps"]
    ax.axhline(baseline, color=MUTED, ls=(0, (4, 3)), lw=1.2, label="baseline (GPU)")
    batch_axis(ax, batches)
    ax.set_ylabel("images/s")
    legend(ax)
    return figure


def time_split(report: dict[str, Any]) -> Figure | None:
    rows = [row for row in report["rows"] if row["seconds"]]
    if not rows:
        return None
    figure, ax = axes(1.1 + 0.34 * len(rows))
    left = np.zeros(len(rows))
    steps = [step for step in STEP_ORDER if any(step in row["seconds"] for row in rows)]
    for step in steps:
        width = np.array([row["seconds"].get(step, 0) for row in rows])
        colour = SERIES[STEP_ORDER.index(step)]
        ax.barh(range(len(rows)), width, left=left, height=0.62, color=colour, label=step)
        left += width
    ax.set_yticks(range(len(rows)), [str(row["batch"]) for row in rows])
    ax.invert_yaxis()
    ax.set(xlabel="seconds", ylabel="batch size")
    ax.grid(axis="y", visible=False)
    legend(ax, 5)
    return figure


def corners(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the points of a curve that lie within a level stretch."""
    inner = (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:])
    kept = np.concatenate([[True], ~inner, [True]])
    return x[kept], y[kept]


def pr(report: dict[str, Any]) -> Figure | None:
    """Draw the curves of all classes together, and each class's, which the page shows at will."""
    curves = report["detail"]["pr"]
    if curves["overall"] is None:
        return None
    figure, ax = axes(3.3)
    recall = np.linspace(0, 1, 101)
    groups = {"all": curves["overall"]}
    groups |= {f"class{k}": one for k, one in enumerate(curves["classes"]) if one}
    for group, one in groups.items():
        for (name, y), colour, dash in zip(one.items(), SERIES, DASHES, strict=False):
            title = "mean of IoU 0.50 to 0.95" if name == "mean" else f"IoU {name}"
            points = corners(recall, np.array(y))
            label = title if group == "all" else None
            ax.plot(*points, color=colour, ls=dash, label=label, gid=f"pr-{group}-{name}")
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    legend(ax)
    return figure


def sizes(report: dict[str, Any]) -> Figure:
    figure, ax = axes(2.6)
    rows = report["detail"]["sizes"]
    for shift, (name, key) in zip((-0.19, 0.19), (("AP", "ap"), ("AR", "ar")), strict=True):
        values = [100 * (row[key] or 0) for row in rows]
        colour = SERIES[0 if key == "ap" else 2]
        bars = ax.bar(np.arange(3) + shift, values, 0.36, color=colour, label=name)
        ax.bar_label(bars, ["–" if row[key] is None else f"{100 * row[key]:.1f}" for row in rows])
    ax.set_xticks(range(3), [row["size"] for row in rows])
    ax.set(ylim=(0, 108), ylabel="%")
    ax.grid(axis="x", visible=False)
    legend(ax)
    return figure


def scores(report: dict[str, Any]) -> Figure:
    figure, ax = axes(2.9)
    counts = report["detail"]["histogram"]
    for name, colour, hatch in (("true", SERIES[0], None), ("false", SERIES[1], (0, (4, 2)))):
        ax.stairs(counts[name], counts["edges"], color=colour, lw=1.8, label=name, ls=hatch or "-")
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set(xlim=(0, 1), ylim=(0, None), xlabel="score of the detection", ylabel="detections")
    ax.axvline(report["detail"]["score"], color=MUTED, lw=1, ls=(0, (1, 2)))
    legend(ax)
    return figure


def class_ap(report: dict[str, Any]) -> Figure | None:
    rows = [row for row in report["detail"]["classes"] if row["ap"] is not None]
    rows = sorted(rows, key=lambda row: -row["ap"])
    return bars([row["name"] for row in rows], [100 * row["ap"] for row in rows], "AP, %")


def bars(names: list[str], values: list[float], title: str) -> Figure | None:
    """Draw one bar for each name, losses in another colour; of too many, those at both ends."""
    if not names:
        return None
    if len(names) > MAX_BARS:
        names, values = (part[: MAX_BARS // 2] + part[-MAX_BARS // 2 :] for part in (names, values))
    figure, ax = axes(3.1, max(WIDTH, 0.9 + BAR * len(names)))
    colours = [SERIES[0] if value >= 0 else SERIES[1] for value in values]
    drawn = ax.bar(range(len(names)), values, width=0.72, color=colours)
    texts = [f"{value:.1f}" for value in values]
    ax.bar_label(drawn, texts, padding=3, fontsize=7, rotation=90)
    ax.set_xticks(range(len(names)), [short(name) for name in names], rotation=90, fontsize=8)
    ax.set_xlim(-0.8, len(names) - 0.2)
    ax.margins(y=0.16)
    if min(values) >= 0:
        ax.set_ylim(0, max(*values, 1) * 1.16)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(title)
    ax.grid(axis="x", visible=False)
    return figure


def short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def matrix(report: dict[str, Any]) -> Figure:
    """Draw the confusion matrix; the stronger a cell, the larger its share of its row."""
    detail = report["detail"]
    counts = np.array(detail["confusion"])
    names = [short(row["name"]) for row in detail["classes"]]
    few = len(names) <= MAX_WRITTEN
    figure, ax = axes(*[max(WIDTH, 1.6 + (0.36 if few else 0.105) * len(counts))] * 2)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rgba = np.concatenate([np.full((*counts.shape, 3), CELL), share[..., None] ** 0.5], axis=2)
    ax.imshow(rgba, interpolation="none", gid="cells")
    size = 8 if few else 5.6
    ax.set_xticks(range(len(counts)), [*names, "missed"], rotation=90, fontsize=size)
    ax.set_yticks(range(len(counts)), [*names, "background"], fontsize=size)
    ax.set(xlabel="detected as", ylabel="true class")
    ax.tick_params(length=0 if few else 2)
    ax.grid(visible=False)
    ax.spines[["top", "right"]].set_visible(True)
    ax.axhline(len(names) - 0.5, color=MUTED, lw=0.6)
    ax.axvline(len(names) - 0.5, color=MUTED, lw=0.6)
    for i, j in zip(*np.nonzero(counts), strict=True) if few else ():
        ax.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8)
    return figure


SPEED: dict[str, Chart] = {
    "fps": fps,
    "latency": latency,
    "published": published,
    "time_split": time_split,
}
ACCURACY: dict[str, Chart] = {
    "pr": pr,
    "sizes": sizes,
    "scores": scores,
    "class_ap": class_ap,
    "confusion": matrix,
}


def compare_fps(comparison: dict[str, Any]) -> Figure:
    figure, ax = axes(2.9)
    rows = comparison["rows"]
    batches = [row["batch"] for row in rows]
    curves = {side.upper(): [row["fps"][side] for row in rows] for side in ("a", "b")}
    lines(ax, batches, curves)
    batch_axis(ax, batches)
    ax.set_ylabel("images/s")
    legend(ax)
    return figure


def class_difference(comparison: dict[str, Any]) -> Figure | None:
    rows = [row for row in comparison["classes"] if abs(row["difference"] or 0) >= SEEN]
    values = [100 * row["difference"] for row in rows]
    return bars([row["name"] for row in rows], values, "AP, difference in points")


COMPARED: dict[str, Chart] = {"compare_fps": compare_fps, "class_difference": class_difference}
