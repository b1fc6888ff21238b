"""Pure inference timed on nothing: for a number of seconds once it has settled, or over N runs."""

import math
import statistics
import time

from ssd.cli import progress, working
from ssd.engines.base import Engine

import numpy as np

SECONDS = 10.0  # that a batch size is timed by default
LEAST = 3  # runs that are timed, however long they take
WINDOW = 3  # runs that are compared with as many before them to see whether times have settled
SETTLED = 0.05  # change of their median, relative, that counts as settled
TRIAL = 10  # runs from which the number of runs of a tool is derived
UPDATES = 100  # of the progress bar


def time_runs(engine: Engine, batch: np.ndarray, loop: int) -> tuple[list[np.ndarray], list[float]]:
    """Run a batch `loop` times; return the last outputs and each run's milliseconds."""
    outputs, milliseconds = [], []
    for _ in range(loop):
        start = time.perf_counter()
        outputs = engine.run(batch)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return outputs, milliseconds


def blank(engine: Engine, size: int) -> np.ndarray:
    """Return a batch of nothing."""
    return np.zeros((size, *engine.shape), engine.dtype)


def warm_up(engine: Engine, size: int, count: int) -> None:
    """Run the engine `count` times on nothing, so that what it does at first is not timed."""
    with working("first run of the model"):
        time_runs(engine, blank(engine, size), count)


def has_settled(runs: list[float]) -> bool:
    """Return whether the latest runs (milliseconds) took as long as those just before them."""
    if len(runs) < 2 * WINDOW:
        return False
    before, latest = (
        statistics.median(part) for part in (runs[-2 * WINDOW : -WINDOW], runs[-WINDOW:])
    )
    return abs(latest - before) <= SETTLED * before


def settle(engine: Engine, size: int, count: int, seconds: float) -> None:
    """Run the engine on nothing until its times have settled: `count` runs or more.

    Where they do not, or a run is slow, it ends after so many seconds.
    """
    batch, runs, end = blank(engine, size), [], time.perf_counter() + seconds
    with working("warm-up"):
        while len(runs) < count or (time.perf_counter() < end and not has_settled(runs)):
            runs += time_runs(engine, batch, 1)[1]


def time_pure(engine: Engine, size: int, loop: int | None, seconds: float) -> list[float]:
    """Time pure inference: `loop` runs or, if None, as many as fit, at least LEAST.

    Returns the milliseconds of each.
    """
    batch, runs, start, shown = blank(engine, size), [], time.perf_counter(), 0
    with progress(title="timing", total=loop or UPDATES, unit="run" if loop else "%") as bar:
        while len(runs) < (loop or LEAST) or (not loop and time.perf_counter() - start < seconds):
            runs += time_runs(engine, batch, 1)[1]
            passed = min((time.perf_counter() - start) / seconds, 1) if not loop else 0
            done = len(runs) if loop else int(UPDATES * passed)
            bar.update(done - shown)
            shown = done
    return runs


def loop_for(milliseconds: float, seconds: float) -> int:
    """Return how many runs of so many milliseconds fit into so many seconds, at least LEAST."""
    return max(LEAST, math.ceil(1000 * seconds / max(milliseconds, 1e-3)))
