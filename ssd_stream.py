"""Keeps a model busy: inputs are read before their turn, outputs leave while the next batch runs.

Memory is bounded by AHEAD batches on each side, however many files there are.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ssd_engines import Engine
from ssd_files import read_tensor

AHEAD = 2  # batches read before the one that runs, and batches on their way out after it
EMPTY_LATENCY = {"min": 0.0, "max": 0.0, "mean": 0.0, "median": 0.0, "percentile(99%)": 0.0}


class Times(NamedTuple):
    """What a run took. runs: milliseconds of each batch. read: seconds. padded: pictures."""

    runs: list[float]
    read: float
    padded: int


def read_batch(paths: list[Path], size: int, engine: Engine) -> tuple[np.ndarray, float]:
    """Read inputs into (size, *engine.shape), a short batch padded with its first; and seconds."""
    start = time.perf_counter()
    batch = np.empty((size, *engine.shape), engine.dtype)
    for i, path in enumerate(paths):
        batch[i] = read_tensor(path, engine.dtype, engine.shape)
    batch[len(paths) :] = batch[0]
    return batch, time.perf_counter() - start


def prefetch(work: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield (job, work(job)) in order; a thread works up to AHEAD jobs in advance."""
    waiting: deque[tuple[Any, Future]] = deque()
    with ThreadPoolExecutor(1) as reader:
        try:
            for job in jobs:
                waiting.append((job, reader.submit(work, job)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


class Sink:
    """Hands each picture's outputs to workers, so that few are waiting at any time."""

    def __init__(self, executor: Executor, work: Callable[..., Any], limit: int) -> None:
        self.executor, self.work, self.limit = executor, work, limit
        self.waiting: deque[Future] = deque()
        self.done: list[Any] = []

    def put(self, *job: Any) -> None:
        self.waiting.append(self.executor.submit(self.work, *job))
        while len(self.waiting) > self.limit:
            self.done.append(self.waiting.popleft().result())

    def close(self) -> list[Any]:
        """Wait for all, and return what the workers returned, in order."""
        self.done += [future.result() for future in self.waiting]
        self.executor.shutdown()
        return self.done


def time_runs(engine: Engine, batch: np.ndarray, loop: int) -> tuple[list[np.ndarray], list[float]]:
    """Run a batch `loop` times; return the last outputs and each run's milliseconds."""
    outputs, milliseconds = [], []
    for _ in range(loop):
        start = time.perf_counter()
        outputs = engine.run(batch)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return outputs, milliseconds


def run_files(
    engine: Engine, paths: list[Path], size: int, loop: int, put: Callable[[Path, list], None]
) -> Times:
    """Run the model over files, `size` at a time, each batch `loop` times.

    `put` gets each file and its outputs, one array per output of the model, without the batch axis.
    """
    runs: list[float] = []
    read = 0.0
    groups = [paths[i : i + size] for i in range(0, len(paths), size)]
    reader = partial(read_batch, size=size, engine=engine)
    with tqdm(total=len(paths), desc="infer", unit="image", disable=None) as progress:
        for group, (batch, seconds) in prefetch(reader, groups):
            read += seconds
            outputs, milliseconds = time_runs(engine, batch, loop)
            runs += milliseconds
            for i, path in enumerate(group):
                put(path, [output[i] for output in outputs])
            progress.update(len(group))
    return Times(runs, read, len(groups) * size - len(paths))


def summarise(runs: list[float], size: int) -> dict[str, Any]:
    """Return ais_bench's figures for runs (milliseconds) of batches of `size`; 0 without a run."""
    array = np.array(runs or [0.0])
    times = {
        "min": float(array.min()),
        "max": float(array.max()),
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "percentile(99%)": float(np.percentile(array, 99)),
        "count": len(runs),
    }
    return {
        "NPU_compute_time": times,
        "H2D_latency": EMPTY_LATENCY | {"count": len(runs)},  # nothing is copied to a device
        "D2H_latency": EMPTY_LATENCY | {"count": len(runs)},
        "throughput": 1000 * size / times["mean"] if runs else 0.0,
        "npu_compute_time_list": runs,
        "pid": os.getpid(),
    }
