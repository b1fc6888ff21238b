"""How fast each batch size is, which is the best, and how far that can be believed."""

from typing import Any

from ssd.ascend.summaries import percentile

import numpy as np

PERCENTILES = (90, 95, 99)
NAMED = {50: "median", 99: "percentile(99%)"}  # in the summary of a tool that lists no times
TAIL_RUNS = 200  # from which p99 is the latency that a limit is held against, not the slowest run
STEPS = ("preprocess", "read", "infer", "write", "decode", "score")  # of a run, in order
WORTH = 0.1  # share of the time that files cost, from which it is said


def latency(summary: dict[str, Any]) -> dict[str, float | None]:
    """Return milliseconds a batch, which each image of it waits for, and the number of runs.

    mean, max, p25 and so on; None for a percentile that the runs are too few for, and for what a
    tool did not note.
    """
    runs = np.array(summary["npu_compute_time_list"])
    times = summary["NPU_compute_time"]
    if not len(runs):
        count = times.get("count", 0)
        tail = times.get(NAMED[99]) if count >= TAIL_RUNS else None
        unknown = dict.fromkeys(("p25", "p75", "p90", "p95"))
        found = {"mean": times["mean"], "max": times.get("max"), "p50": times.get(NAMED[50])}
        return found | unknown | {"p99": tail, "runs": count}
    quartiles = zip(("p25", "p50", "p75"), np.percentile(runs, (25, 50, 75)).tolist(), strict=True)
    found = {"mean": float(runs.mean()), "max": float(runs.max())} | dict(quartiles)
    return found | {f"p{p}": percentile(runs, p) for p in PERCENTILES} | {"runs": len(runs)}


def fps_range(fps: float, times: dict[str, float | None]) -> list[float] | None:
    """Return images/s of the middle half of the runs, lowest first; None where it is not known."""
    if not (times["p25"] and times["p75"]):
        return None
    return [fps * times["mean"] / times[name] for name in ("p75", "p25")]


def seconds_per_image(data: dict[str, Any], score: dict[str, Any], perf: dict[str, Any]) -> dict:
    """Return the seconds of wall clock that each stage took for an image it worked on.

    {} if the run's wall clock is not known. Stages: preprocess (unless it is a part of the run),
    run, decode, score. A tool's run counts without what the tool takes to start and load the model:
    that is what timing pure inference took it beyond its runs.
    """
    wall, images = data.get("seconds", {}).get("wall"), data.get("images", score["images"])
    if not wall or not images:
        return {}
    tool, runs = perf.get("seconds", {}).get("tool"), perf.get("npu_compute_time_list")
    if tool and runs:
        cards = card_count(data)
        wall = max(wall - max(tool - sum_of_runs(perf, cards), 0), sum_of_runs(data, cards))
    found = {"run": wall / images}
    made = data.get("preprocess")
    if made and not made.get("inside"):
        found |= {"preprocess": made["seconds"] / made["images"]}
    count = max(score["images"], 1)
    return found | {step: score["seconds"][step] / count for step in ("decode", "score")}


def card_count(data: dict[str, Any]) -> int:
    """Return how many devices a run was on side by side."""
    return len(data.get("facts", {}).get("devices", "0").split(","))


def sum_of_runs(summary: dict[str, Any], cards: int) -> float:
    """Return the seconds that the engine computed, on so many cards side by side."""
    return sum(summary["npu_compute_time_list"]) / 1000 / cards


def spent(data: dict[str, Any], score: dict[str, Any], perf: dict[str, Any]) -> dict[str, Any]:
    """Return a row's times of the run over the data set.

    end_to_end: from JPEG files to scored boxes, the wall clock of preprocessing, inference with its
    reading and writing, decoding and scoring, added for an image; starting and loading the model
    count apart. None if one of them is not known. around_engine: the share of that time when
    nothing is computed or scored. Of a run that went on after an interruption, the images of its
    last part count.
    """
    seconds = dict(data.get("seconds", {}))
    wall, start = seconds.pop("wall", None), seconds.pop("start", None)
    if "infer" not in seconds and data["npu_compute_time_list"]:
        seconds["infer"] = sum_of_runs(data, card_count(data))
    made, images = data.get("preprocess"), data.get("images", score["images"])
    each = seconds_per_image(data, score, perf)
    if "preprocess" in each:
        seconds["preprocess"] = each["preprocess"] * images
    rate = 1 / sum(each.values()) if each and made else None
    in_engine = seconds.get("infer", 0) / max(images, 1) + each.get("score", 0)
    seconds = {"decode": score["seconds"]["decode"]} | seconds
    seconds |= {"score": score["seconds"]["score"]}
    return {
        "seconds": {step: seconds[step] for step in STEPS if step in seconds},
        "wall_seconds": wall,
        "start_seconds": start,
        "preprocess_fps": made["images"] / made["seconds"] if made else None,
        "end_to_end": rate,
        "around_engine": 1 - in_engine * rate if rate and "infer" in seconds else None,
        "route": data.get("made_from", {}).get("route"),
    }


def waits(row: dict[str, Any]) -> float:
    """Return the milliseconds that a latency limit is held against: p99, else the slowest run."""
    times = row["latency_ms"]
    return times["p99"] or times["max"] or times["mean"]


def choose_best(rows: list[dict[str, Any]], limit: float | None) -> tuple[int, list[str]]:
    """Return the index of the row with the highest fps, and a warning if no row is in the limit.

    limit: ms that a batch may take; where all take longer, the quickest to answer is the best.
    """
    places = range(len(rows))
    allowed = [i for i in places if limit is None or waits(rows[i]) <= limit]
    if allowed:
        return max(allowed, key=lambda i: rows[i]["fps"]), []
    best = min(places, key=lambda i: waits(rows[i]))
    shown = f"batch {rows[best]['batch']} with {waits(rows[best]):.2f} ms"
    return best, [f"no batch size answers within {limit:g} ms; the quickest is {shown}"]


def equals(rows: list[dict[str, Any]], best: int, limit: float | None) -> list[int]:
    """Return the batch sizes that are as fast as the best within the noise, in the limit too.

    That is where the middle halves of their runs overlap.
    """
    low = (rows[best]["fps_range"] or [float("inf")])[0]
    return [
        row["batch"]
        for i, row in enumerate(rows)
        if i != best
        and row["fps_range"]
        and row["fps_range"][1] >= low
        and (limit is None or waits(row) <= limit)
    ]


def unstable(rows: list[dict[str, Any]]) -> list[str]:
    """Return a warning for each row whose end-to-end speed beats that of its inference alone."""
    return [
        f"batch {row['batch']}: {row['end_to_end']:.3f} images/s end to end beat "
        f"{row['fps']:.3f} of inference alone, which cannot be: something else used the machine; "
        "evaluate again with --force"
        for row in rows
        if row["end_to_end"] and row["end_to_end"] > row["fps"]
    ]


def lines(report: dict[str, Any]) -> list[str]:
    """Return what stands below the table: which is the best, and what limits it."""
    rows, best = report["rows"], report["rows"][report["best"]]
    limit = report["latency_limit_ms"]
    within = "" if limit is None else f" within {limit:g} ms"
    equal = ", ".join(map(str, report["equal"]))
    found = [
        f"best fps{within}: batch {best['batch']}, {best['fps']:.3f} images/s"
        + (f"; equal within the noise: batch {equal}" if equal else "")
    ]
    if report["best_end_to_end"] is not None:
        row = rows[report["best_end_to_end"]]
        found.append(f"best end to end: batch {row['batch']}, {row['end_to_end']:.3f} images/s")
        found += cost_of_files(row)
    alone = [row["preprocess_fps"] for row in rows if row["preprocess_fps"]]
    return found + ([f"preprocessing alone: {max(alone):.1f} images/s"] if alone else [])


def cost_of_files(row: dict[str, Any]) -> list[str]:
    """Return a line that says what --in_process would save, where files cost a tenth or more."""
    if row["route"] != "files" or (row["around_engine"] or 0) < WORTH:
        return []
    return [
        f"files: {row['around_engine']:.0%} of that time is spent around the engine; --in_process "
        "does it beside the engine, without files, and saves that much at most"
    ]
