"""Keeps a model busy: inputs are read before their turn, outputs leave while the next batch runs.

Memory is bounded by AHEAD batches on each side, however many files there are.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ssd.ascend import summaries
from ssd.cli import progress
from ssd.engines.base import Engine
from ssd.engines.timing import time_runs
from ssd.files import atomic
from ssd.tensors import OUTPUT_NAMES, read_into
from ssd.workers import AHEAD, Sink, prefetch

import numpy as np

READERS = WRITERS = 2  # threads


class Times(NamedTuple):
    """What a run took.

    runs: milliseconds of each batch. padded: images that filled the last batch up. seconds: of each
    step but the engine's, as far as they are known.
    """

    runs: list[float]
    padded: int
    seconds: dict[str, float]


def run_files(
    engine: Engine,
    items: list[Any],
    size: int,
    loop: int,
    put: Callable[[list, list[np.ndarray]], None],
    fill: Callable[[Any, np.ndarray], None] = read_into,
    threads: int = READERS,
) -> Times:
    """Run the model over the images of `items`, `size` at a time, each batch `loop` times.

    fill: puts an item, by default a file's path, into its place in a batch; threads do so ahead of
    the engine, in a few batches that are used again: new memory would cost more than reading.
    put: gets each batch's items and its outputs, (len(items), ...) each.
    """
    batches = [np.empty((size, *engine.shape), engine.dtype) for _ in range(AHEAD + 1)]
    places = (batches[i // size % len(batches)][i % size] for i in range(len(items)))

    def timed_fill(job: tuple[Any, np.ndarray]) -> float:
        start = time.perf_counter()
        fill(*job)
        return time.perf_counter() - start

    runs: list[float] = []
    read = 0.0
    jobs = zip(items, places, strict=True)
    filled = prefetch(timed_fill, jobs, threads, AHEAD * size)
    with progress(title="inference", total=len(items)) as bar, closing(filled):
        for start in range(0, len(items), size):
            group, batch = items[start : start + size], batches[start // size % len(batches)]
            read += sum(seconds for _, seconds in islice(filled, len(group)))
            batch[len(group) :] = batch[0]
            outputs, milliseconds = time_runs(engine, batch, loop)
            runs += milliseconds
            put(group, [output[: len(group)] for output in outputs])
            bar.update(len(group))
    return Times(runs, -len(items) % size, {"read": read})


def summary_of(times: Times, size: int, images: int) -> dict[str, Any]:
    """Return the figures of a run in this process."""
    busy = times.seconds | {"infer": sum(times.runs) / 1000}
    return summaries.summarize(times.runs, size) | {
        "images": images,
        "padded": times.padded,
        "seconds": busy,
    }


def stem_of(folder: Path, path: Path) -> Path:
    """Return where an input's outputs go, without `_K.bin`: its name ends at the first dot."""
    return folder / path.name.split(".")[0]


def output_files(stem: Path, outfmt: str) -> list[Path]:
    """Return the output files of one image. outfmt: BIN or NPY."""
    return [Path(f"{stem}_{k}.{outfmt.lower()}") for k in range(len(OUTPUT_NAMES))]


def write_outputs(stem: Path, outputs: list[np.ndarray], outfmt: str) -> float:
    """Write one image's outputs as `stem_0`, `stem_1`; return the seconds it took.

    A .npy has ais_bench's shape, (1, ...): that of a batch.
    """
    start = time.perf_counter()
    for path, output in zip(output_files(stem, outfmt), outputs, strict=True):
        with atomic(path) as temporary, temporary.open("wb") as file:
            if outfmt == "NPY":
                np.save(file, output[None])
            else:
                file.write(memoryview(np.ascontiguousarray(output)).cast("B"))
    return time.perf_counter() - start


def run_to_files(
    engine: Engine, paths: list[Path], size: int, loop: int, folder: Path | None, outfmt: str
) -> Times:
    """Run the model over files and write its outputs into `folder`; with None they go nowhere."""
    sink = Sink(ThreadPoolExecutor(WRITERS), write_outputs, AHEAD * size)

    def put(group: list[Path], outputs: list[np.ndarray]) -> None:
        for path, *single in zip(group, *outputs, strict=True) if folder else ():
            sink.put(stem_of(folder, path), single, outfmt)

    times = run_files(engine, paths, size, loop, put)
    return times._replace(seconds=times.seconds | {"write": sum(sink.close())})


def files_info(paths: list[Path], folder: Path, outfmt: str) -> dict[str, Any]:
    """Return ais_bench's map from the number of an input to it and its output files."""
    info = {}
    for i, path in enumerate(paths):
        outs = [str(output) for output in output_files(stem_of(folder, path), outfmt)]
        info[str(i)] = {"infiles": [str(path)], "outfiles": outs}
    return info


def shard_of(items: list[Any], size: int, shard: tuple[int, int]) -> list[Any]:
    """Return every Nth batch of `items` from the Ith on; shard is (I, N), I from 0.

    Whole batches are dealt out, so that only the very last one may need padding.
    """
    index, count = shard
    return [item for i, item in enumerate(items) if i // size % count == index]
