"""The charts of accuracy: curves, sizes, scores, classes and confusions.

The page draws upon a chart of the score in the coordinates of its frame, the part named `-frame`.
"""

from typing import Any

from ssd.report.charts import WIDTH, axes, bars, legend, paired_bars, short
from ssd.report.render import MUTED, SERIES, Chart

import numpy as np
from matplotlib.figure import Figure

CELL = (0x2F / 255, 0x8F / 255, 0xD0 / 255)  # RGB of the matrix, for light and dark ground
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), "-.", ":")  # curves that coincide stay visible
MAX_WRITTEN = 15  # classes up to which the matrix shows its numbers
MAX_CELLS = 100  # classes in the matrix; of more, those with the most confusions
TOP = 1.02  # upper end of an axis from 0 to 1: a line at 1 is whole


def pr(report: dict[str, Any]) -> Figure | None:
    """Draw the curves of all classes together; the page draws a single class's upon them."""
    curves = report["detail"]["pr"]["overall"]
    if curves is None:
        return None
    figure, ax = axes(3.3)
    recall = np.linspace(0, 1, 101)
    for (name, y), color, dash in zip(curves.items(), SERIES, DASHES, strict=False):
        title = "mean of IoU 0.50 to 0.95" if name == "mean" else f"IoU {name}"
        ax.plot(recall, y, color=color, ls=dash, label=title, gid=f"pr-all-{name}")
    ax.patch.set_gid("pr-frame")
    ax.set(xlim=(0, 1), ylim=(0, TOP), xlabel="recall", ylabel="precision")
    legend(ax)
    return figure


def f1(report: dict[str, Any]) -> Figure | None:
    """Draw precision, recall and F1 of all classes together at each threshold of the score."""
    by_score = report["detail"]["by_score"]
    if not any(by_score["all"]["found"]):
        return None
    figure, ax = axes(3.3)
    styles = zip(("precision", "recall", "f1"), SERIES, DASHES, strict=False)
    for name, color, dash in styles:
        title = "F1" if name == "f1" else name
        y = [np.nan if value is None else value for value in by_score["all"][name]]
        ax.plot(by_score["thresholds"], y, color=color, ls=dash, label=title, gid=f"f1-all-{name}")
    best = by_score["all"]["best_f1"]
    ax.plot(best["score"], best["f1"], "o", color=SERIES[2], ms=6, gid="f1-all-best")
    ax.patch.set_gid("f1-frame")
    ax.set(xlim=(0, 1), ylim=(0, TOP), xlabel="least score that counts")
    legend(ax)
    return figure


def calibration(report: dict[str, Any]) -> Figure | None:
    """Draw the share of true detections in each bin of the score."""
    bins = report["detail"]["calibration"]["bins"]
    if not bins:
        return None
    figure, ax = axes(2.9)
    counts = np.array([row["count"] for row in bins])
    area = 12 + 120 * np.sqrt(counts / counts.max())
    ax.plot((0, 1), (0, 1), color=MUTED, lw=1, ls=(0, (4, 3)))
    ax.scatter([row["score"] for row in bins], [row["true"] for row in bins], area, color=SERIES[0])
    ax.patch.set_gid("calibration-frame")
    ax.set(xlim=(0, 1), ylim=(0, TOP), xlabel="score of the detection", ylabel="share that is true")
    return figure


def sizes(report: dict[str, Any]) -> Figure:
    rows = report["detail"]["sizes"]
    values = {"AP": [row["ap"] for row in rows], "AR": [row["ar"] for row in rows]}
    figure = paired_bars(2.6, [row["size"] for row in rows], values)
    figure.axes[0].set_ylim(0, 108)
    return figure


def scores(report: dict[str, Any]) -> Figure:
    figure, ax = axes(2.9)
    counts = report["detail"]["histogram"]
    for name, color, dash in (("true", SERIES[0], "-"), ("false", SERIES[1], (0, (4, 2)))):
        ax.stairs(counts[name], counts["edges"], color=color, lw=1.8, label=name, ls=dash)
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set(xlim=(0, 1), ylim=(0, None), xlabel="score of the detection")
    ax.set_ylabel("detections (log scale)")
    ax.patch.set_gid("scores-frame")
    legend(ax)
    return figure


def class_ap(report: dict[str, Any]) -> Figure | None:
    rows = [row for row in report["detail"]["classes"] if row["ap"] is not None]
    rows = sorted(rows, key=lambda row: row["ap"])
    return bars([row["name"] for row in rows], [100 * row["ap"] for row in rows], "AP, %")


def drawn_labels(counts: np.ndarray) -> list[int]:
    """Return the labels that the matrix draws: all, or the MAX_CELLS with the most confusions."""
    labels = len(counts) - 1
    if labels <= MAX_CELLS:
        return list(range(labels))
    wrong = counts[:-1, :-1] - np.diag(np.diag(counts)[:-1])
    most = np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")
    return sorted(most[:MAX_CELLS].tolist())


def matrix(report: dict[str, Any]) -> Figure:
    """Draw the confusion matrix; the stronger a cell, the larger its share of its row."""
    detail = report["detail"]
    full = np.array(detail["confusion"])
    drawn = drawn_labels(full)
    names = [short(detail["classes"][k]["name"]) for k in drawn]
    share = full / np.maximum(full.sum(axis=1, keepdims=True), 1)
    places = np.ix_([*drawn, -1], [*drawn, -1])
    counts, share = full[places], share[places]
    few = len(names) <= MAX_WRITTEN
    figure, ax = axes(*[max(WIDTH, 1.6 + (0.36 if few else 0.105) * len(counts))] * 2)
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


ACCURACY: dict[str, Chart] = {
    "pr": pr,
    "f1": f1,
    "sizes": sizes,
    "scores": scores,
    "calibration": calibration,
    "class_ap": class_ap,
    "confusion": matrix,
}
