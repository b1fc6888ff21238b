"""The report's charts as matplotlib figures; ssd.report.render turns them into SVG and PNG.

Texts are English here; render.CHINESE has the Chinese forms for the page.
"""

from collections.abc import Sequence
from typing import Any

from ssd.report.collect import BASELINE_FPS
from ssd.report.render import MUTED, SERIES, Chart

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.5  # inches: half of a desktop page, and small enough for a phone
BAR = 0.135  # width of the bar of a class, inches
LEAST_APART = 1e-9  # of a cosine from 1 that is drawn; engines in float32 differ by that
RUN = 0.3  # width of a run in a history, inches
LEAST_SPAN = 1.0  # points of AP that the axis of a history spans at least
MAX_BARS = 120  # classes in a chart; of more, those at both ends are shown
STEP_ORDER = ("infer", "read", "write", "decode", "score", "preprocess")  # longest first, mostly


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
    ax.set_xlabel("batch size (log scale)")
    ax.set_ylim(0, ax.get_ylim()[1] * 1.05)
    ax.margins(x=0.08)


def lines(ax: Axes, x: Sequence[int], curves: dict[str, list[float | None]]) -> None:
    """Draw named curves, each with another marker; a value of None is left out."""
    marks = zip("osD^v", SERIES, strict=True)
    for (name, y), (mark, color) in zip(curves.items(), marks, strict=False):
        points = [(a, b) for a, b in zip(x, y, strict=True) if b is not None]
        if points:
            ax.plot(*zip(*points, strict=True), marker=mark, ms=5, color=color, label=name)


def by_batch(
    rows: list[dict[str, Any]],
    curves: dict[str, list[float | None]],
    unit: str = "images/s",
    baseline: float | None = None,
) -> Figure:
    """Draw curves over the batch sizes of rows, and the baseline if there is one."""
    figure, ax = axes(2.9)
    batches = [row["batch"] for row in rows]
    lines(ax, batches, curves)
    if baseline:
        ax.axhline(baseline, color=MUTED, ls=(0, (4, 3)), lw=1.2, label="baseline (GPU)")
    batch_axis(ax, batches)
    ax.set_ylabel(unit)
    legend(ax)
    return figure


def speeds(rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    keys = {"inference alone": "fps", "end to end": "end_to_end"}
    return {name: [row[key] for row in rows] for name, key in keys.items()}


def fps(report: dict[str, Any]) -> Figure:
    return by_batch(report["rows"], speeds(report["rows"]))


def latency(report: dict[str, Any]) -> Figure:
    rows, names = report["rows"], {"mean": "mean", "median": "p50", "p99": "p99"}
    curves = {n: [row["latency_ms"].get(p) for row in rows] for n, p in names.items()}
    return by_batch(rows, curves, "ms per batch")


def published(report: dict[str, Any]) -> Figure | None:
    rows = report["published"]
    if not rows:
        return None
    curves = {f"Ascend {chip}": [row[chip] for row in rows] for chip in ("310", "310P")}
    return by_batch(rows, curves, baseline=BASELINE_FPS)


def time_split(report: dict[str, Any]) -> Figure | None:
    rows = [row for row in report["rows"] if row["seconds"]]
    if not rows:
        return None
    figure, ax = axes(1.1 + 0.34 * len(rows))
    left = np.zeros(len(rows))
    steps = [step for step in STEP_ORDER if any(step in row["seconds"] for row in rows)]
    for step in steps:
        width = np.array([row["seconds"].get(step, 0) for row in rows])
        color = (*SERIES, MUTED)[STEP_ORDER.index(step)]
        ax.barh(range(len(rows)), width, left=left, height=0.62, color=color, label=step)
        left += width
    ax.set_yticks(range(len(rows)), [str(row["batch"]) for row in rows])
    ax.invert_yaxis()
    ax.set(xlabel="seconds", ylabel="batch size")
    ax.grid(axis="y", visible=False)
    legend(ax, 3)
    return figure


def bars(names: list[str], values: list[float], title: str) -> Figure | None:
    """Draw a bar for each name, losses in another color.

    Of more than MAX_BARS those at both ends, and between them how many are left out.
    """
    if not names:
        return None
    left_out = len(names) - MAX_BARS
    if left_out > 0:
        half = MAX_BARS // 2
        names = [*names[:half], f"… {left_out} …", *names[-half:]]
        values = [*values[:half], np.nan, *values[-half:]]
    figure, ax = axes(3.1, max(WIDTH, 0.9 + BAR * len(names)))
    colors = [SERIES[1] if value < 0 else SERIES[0] for value in values]
    drawn = ax.bar(range(len(names)), values, width=0.72, color=colors)
    texts = ["" if np.isnan(value) else f"{value:.1f}" for value in values]
    ax.bar_label(drawn, texts, padding=3, fontsize=7, rotation=90)
    ax.set_xticks(range(len(names)), [short(name) for name in names], rotation=90, fontsize=8)
    ax.set_xlim(-0.8, len(names) - 0.2)
    ax.margins(y=0.16)
    if np.nanmin(values) >= 0:
        ax.set_ylim(0, max(np.nanmax(values), 1) * 1.16)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(title)
    ax.grid(axis="x", visible=False)
    return figure


def paired_bars(height: float, names: list[str], values: dict[str, list[float | None]]) -> Figure:
    """Draw two bars in % for each name, of two named lists of shares; a dash where one is None."""
    figure, ax = axes(height)
    looks = zip((-0.19, 0.19), (SERIES[0], SERIES[2]), strict=True)
    for (title, shares), (shift, color) in zip(values.items(), looks, strict=True):
        places, sizes = np.arange(len(names)) + shift, [100 * (share or 0) for share in shares]
        drawn = ax.bar(places, sizes, 0.36, color=color, label=title)
        texts = ["–" if share is None else f"{100 * share:.1f}" for share in shares]
        ax.bar_label(drawn, texts, fontsize=8)
    ax.set_xticks(range(len(names)), names)
    ax.margins(y=0.1)
    ax.set_ylabel("%")
    ax.grid(axis="x", visible=False)
    legend(ax)
    return figure


def short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


SPEED: dict[str, Chart] = {
    "fps": fps,
    "latency": latency,
    "published": published,
    "time_split": time_split,
}


def compare_fps(comparison: dict[str, Any]) -> Figure:
    rows = comparison["rows"]
    return by_batch(rows, {side.upper(): [row["fps"][side] for row in rows] for side in ("a", "b")})


def class_difference(comparison: dict[str, Any]) -> Figure | None:
    rows = [row for row in comparison["classes"] if row["verdict"] in ("better", "worse")]
    values = [100 * row["difference"] for row in rows]
    return bars([row["name"] for row in rows], values, "AP, difference in points")


def by_run(ax: Axes, runs: list[dict[str, Any]]) -> None:
    """Name the runs along the x axis."""
    ax.set_xticks(range(len(runs)), [short(run["name"]) for run in runs], rotation=90, fontsize=8)
    ax.set_xlim(-0.5, len(runs) - 0.5)


def history_width(runs: list[dict[str, Any]]) -> float:
    return max(WIDTH, 0.9 + RUN * len(runs))


def history_ap(history: dict[str, Any]) -> Figure | None:
    """Draw mAP and AP50 of each run, each on an axis of its own, as changes are small."""
    runs = history["runs"]
    if all(run["map"] is None for run in runs):
        return None
    figure = Figure(figsize=(history_width(runs), 4.3), layout="constrained")
    axs = figure.subplots(2, 1, sharex=True)
    for ax, key, title in zip(axs, ("map", "ap50"), ("mAP, %", "AP50, %"), strict=True):
        values = [None if run[key] is None else 100 * run[key] for run in runs]
        lines(ax, range(len(runs)), {title: values})
        known = [value for value in values if value is not None]
        room = max(0, LEAST_SPAN - (max(known) - min(known))) / 2  # noise is not to look like news
        ax.update_datalim([(0, min(known) - room), (0, max(known) + room)])
        ax.autoscale_view()
        ax.set_ylabel(title)
        by_run(ax, runs)
    return figure


def history_fps(history: dict[str, Any]) -> Figure:
    runs = history["runs"]
    figure, ax = axes(3.4, history_width(runs))
    lines(ax, range(len(runs)), speeds(runs))
    by_run(ax, runs)
    ax.set_ylim(0, ax.get_ylim()[1] * 1.05)
    ax.set_ylabel("images/s")
    legend(ax)
    return figure


HISTORY: dict[str, Chart] = {"history_ap": history_ap, "history_fps": history_fps}


def ladder_ap(ladder: dict[str, Any]) -> Figure:
    rows = ladder["rungs"]
    values = {"mAP": [row["map"] for row in rows], "AP50": [row["ap50"] for row in rows]}
    return paired_bars(2.9, [row["rung"] for row in rows], values)


def ladder_layers(ladder: dict[str, Any]) -> Figure | None:
    """Draw how far each layer's cosine is from 1, in the order of the network."""
    parts = [row["cosine"] for row in ladder["layers"]]
    if not parts:
        return None
    apart = [np.nan if cosine is None else max(1 - cosine, LEAST_APART) for cosine in parts]
    figure, ax = axes(3.3)
    ax.plot(range(len(apart)), apart, color=SERIES[0], lw=1.2)
    fallen = ladder["fallen"]
    marks = {"ls": "", "color": SERIES[1], "label": "falls here"}
    ax.plot(fallen, [apart[i] for i in fallen], "o", ms=4, **marks)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
    ax.minorticks_off()
    ax.set(xlabel="layer, in the order of the network", ylabel="1 − cosine (log scale)")
    legend(ax)
    return figure


LADDER: dict[str, Chart] = {"ladder_ap": ladder_ap, "ladder_layers": ladder_layers}
COMPARED: dict[str, Chart] = {"compare_fps": compare_fps, "class_difference": class_difference}
