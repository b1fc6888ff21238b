"""Inference that decodes as it goes: only the detections are written, no raw outputs.

What is found is noted now and then, so that a run that was killed goes on with the next image.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ssd import coco
from ssd.boxes import Candidates, candidates
from ssd.cli import KitError, first_few, undisturbed
from ssd.detections import Detections, concatenate, decode_candidates, join_images
from ssd.engines.base import Engine
from ssd.engines.inference import READERS, Times, run_files
from ssd.files import atomic
from ssd.images import fill_input, find_images, read_annotated, shrink
from ssd.tensors import read_into, tensor_id, tensor_stem
from ssd.workers import AHEAD, Pool, num_cpus

import numpy as np

REDUCERS = 2  # threads
PART = 256  # images whose detections are noted at a time
Source = tuple[dict[str, Any], Path]  # an image's entry, and its input file or the image itself
FIELDS = ("image_id", "ltrb", "score", "category_id")


def inputs_of(data: coco.DataSet, paths: list[Path]) -> list[Path]:
    """Return the input files of the selected images, in the order of `paths`.

    Raises KitError if some have none.
    """
    path_of = {tensor_id(path): path for path in paths}
    missing = [image["id"] for image in data.selected if image["id"] not in path_of]
    if missing:
        raise KitError(
            f"{paths[0].parent}: no input for {len(missing)} of {len(data.selected)} images "
            f"({first_few(map(tensor_stem, missing))}); make them with ssd_preprocess.py"
        )
    wanted = {image["id"] for image in data.selected}
    return [path for path in paths if tensor_id(path) in wanted]


def images_of(data: coco.DataSet) -> list[Path]:
    """Return the file of each selected image. Raises KitError if some are missing."""
    found, bad = find_images(data)
    if bad:
        more = f" ({len(bad)} of {len(data.selected)} images are missing)" if len(bad) > 1 else ""
        raise KitError(bad[0] + more)
    return list(found.values())


def fill_from_image(source: Source, place: np.ndarray) -> None:
    """Make an image's input in its place in a batch, as ssd_preprocess.py makes its file.

    Raises KitError if the image is broken or has another size than its annotation says.
    """
    image, path = source
    fill_input(shrink(read_annotated(path, (image["width"], image["height"]))), place)


def fill_from_file(source: Source, place: np.ndarray) -> None:
    """Read an input file into its place in a batch."""
    read_into(source[1], place)


def check_labels(model: Path, labels: int | None, data: coco.DataSet) -> None:
    """Raise KitError unless the model has a label for each category, and the background.

    labels: None if their number is not known.
    """
    categories = len(data.instances["categories"])
    if labels not in (None, categories + 1):
        raise KitError(
            f"{model}: {labels} labels = background + {labels - 1}; {data.annotation} has "
            f"{categories} categories; give the annotation file of its training, without unused "
            "categories"
        )


def timed(work: Callable[..., Any], *job: Any) -> tuple[Any, float]:
    """Return what `work` returns, and the seconds it took."""
    start = time.perf_counter()
    return work(*job), time.perf_counter() - start


def decode_batch(
    images: list[dict[str, Any]], found: list[Candidates | None], category_ids: np.ndarray
) -> tuple[list[Detections | None], float]:
    """Decode the candidates of a batch in a worker; return its detections and the seconds."""
    return timed(
        lambda: [decode_candidates(*pair, category_ids) for pair in zip(images, found, strict=True)]
    )


def note_files(folder: Path) -> list[Path]:
    """Return the files of a run's notes, in order. They go once its detections are written."""
    return sorted(folder.glob("part-*.npz"))


class Notes:
    """The detections that a run has so far, and on disk those of its former tries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[int, Detections | None] = {}  # by image id, in the order of the run
        self.fresh: list[int] = []  # image ids that are not on disk
        self.parts = note_files(folder)
        for path in self.parts:
            with np.load(path) as file:
                kept = Detections(*(file[name] for name in FIELDS))
                split = np.split(np.arange(len(kept)), file["counts"].cumsum()[:-1])
                pairs = zip(file["images"].tolist(), split, strict=True)
                self.found |= {image_id: kept[index] for image_id, index in pairs}

    def add(self, image_id: int, detections: Detections | None) -> None:
        """Note one image; None, outputs that are not finite, is not kept on disk."""
        self.found[image_id] = detections
        if detections is not None:
            self.fresh.append(image_id)
        if len(self.fresh) >= PART:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if not self.fresh:
            return
        several = [self.found[image_id] for image_id in self.fresh]
        joined = concatenate(several)
        arrays = {name: getattr(joined, name) for name in FIELDS}
        arrays |= {"images": np.array(self.fresh), "counts": np.array(list(map(len, several)))}
        path = self.folder / f"part-{len(self.parts):06}.npz"
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        self.parts.append(path)
        self.fresh.clear()


def run_to_detections(
    engine: Engine,
    sources: list[Source],
    size: int,
    loop: int,
    data: coco.DataSet,
    folder: Path,
    workers: int,
    from_images: bool = False,
) -> tuple[Times, Detections, int]:
    """Run the model over images, decoding beside it.

    from_images: `sources` holds the images themselves, which threads turn into inputs on the way.
    folder: where the notes lie; those that are there are of the same run.
    Returns the times, the detections in the order of the data set, and how many images were run.
    Raises KitError if outputs are not finite, an image is bad, or a worker was killed.
    """
    notes, made = Notes(folder), []
    todo = [source for source in sources if source[0]["id"] not in notes.found]
    fill, fillers = (fill_from_image, workers) if from_images else (fill_from_file, READERS)

    def timed_fill(*job: Any) -> None:
        start = time.thread_time()
        fill(*job)
        made.append(time.thread_time() - start)  # of processors: of the time, others have a share

    busy = 0.0
    reducing: deque[tuple[list[dict[str, Any]], list[Future]]] = deque()  # the latest batches
    decoding: deque[list[dict[str, Any]]] = deque()
    work = partial(decode_batch, category_ids=coco.category_ids(data.instances))
    try:
        batches = -(-len(todo) // size)
        with (
            Pool(work, min(workers, batches), "spawn") as pool,  # an engine's threads bar forking
            ThreadPoolExecutor(REDUCERS) as threads,
        ):

            def keep(answers: Iterable[tuple[list[Detections | None], float]]) -> None:
                nonlocal busy
                for several, seconds in answers:
                    busy += seconds
                    for image, detections in zip(decoding.popleft(), several, strict=True):
                        notes.add(image["id"], detections)

            def hand_on() -> None:
                nonlocal busy
                images, futures = reducing.popleft()
                found, seconds = zip(*(future.result() for future in futures), strict=True)
                busy += sum(seconds)
                decoding.append(images)
                pool.submit(images, found)
                keep(pool.ready())

            def put(group: list[Source], outputs: list[np.ndarray]) -> None:
                images = [image for image, _ in group]
                pairs = zip(*outputs, strict=True)
                with undisturbed():  # else an answer could be taken for that to another batch
                    futures = [threads.submit(timed, candidates, *pair) for pair in pairs]
                    reducing.append((images, futures))
                    if len(reducing) > AHEAD:
                        hand_on()

            try:
                times = run_files(engine, todo, size, loop, put, timed_fill, fillers)
            finally:  # what was run is kept, even if the engine fails
                while reducing:
                    hand_on()
                keep(pool.rest())
    finally:
        notes.flush()
    images = [image for image in data.selected if image["id"] in notes.found]
    joined = join_images(folder, images, [notes.found[image["id"]] for image in images])
    seconds = times.seconds | {"decode": busy}
    if from_images:
        seconds |= {
            "preprocess": seconds.pop("read"),
            "preprocess_alone": sum(made) / min(fillers, num_cpus()),
        }
    return times._replace(seconds=seconds), joined, len(todo)
