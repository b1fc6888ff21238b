"""A model at work on images and on the frames of videos: read, run, decode, draw, write.

Reading and drawing go on while the model runs; memory is bounded however many there are.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ssd import coco
from ssd.cli import KitError, Stop, printable, progress
from ssd.detect import media
from ssd.detect.results import Found, Results
from ssd.detect.video import BadFile, Camera, Frame, VideoFile, recording
from ssd.detections import Detections, decode_image
from ssd.draw import DrawnBox, draw, label_color
from ssd.engines.base import Engine
from ssd.images import read_rgb, shrink, to_input
from ssd.tensors import pad_batch
from ssd.workers import AHEAD, Sink, prefetch

import cv2
import numpy as np
from PIL import Image

DRAWERS = 2  # threads
KEPT_BYTES = 64 << 20  # of a batch's images in memory; those of larger batches are read twice
TITLE = 30  # letters of a video's name that its progress shows


class Detector(NamedTuple):
    """A model and its settings. size: of a batch. categories: of label 1, 2, ... score: least."""

    engine: Engine
    size: int
    categories: list[dict[str, Any]]
    score: float


class Job(NamedTuple):
    """An image or video to read, where to write it, and its name in the results."""

    source: Path
    target: Path
    name: str


def pack(images: list[Image.Image | None], detector: Detector) -> np.ndarray:
    """Return a batch of the model's input, (size, *shape); zeros for an image that is None."""
    engine = detector.engine
    nothing = np.zeros(engine.shape, engine.dtype)
    inputs = [to_input(shrink(image), engine.dtype) if image else nothing for image in images]
    return pad_batch(inputs or [nothing], detector.size)


def find(
    name: str, size: tuple[int, int], outputs: list[np.ndarray], detector: Detector
) -> Detections:
    """Decode the outputs of an image of that width and height, and keep what has the score.

    Raises KitError for NaN.
    """
    ids = coco.category_ids({"categories": detector.categories})
    entry = {"id": 0, "width": size[0], "height": size[1]}
    found = decode_image(entry, *outputs, ids)
    if found is None:
        raise KitError(f"{name}: NaN or infinite outputs; check the model's precision")
    return found[found.score >= detector.score]


def draw_found(bgr: np.ndarray, found: Detections, detector: Detector) -> np.ndarray:
    """Return a copy of an image, (H, W, 3) uint8, with what was found in it."""
    labels = {c["id"]: (i, c["name"]) for i, c in enumerate(detector.categories, start=1)}
    boxes = []
    columns = (found.category_id, found.ltrb, found.score)
    for category_id, ltrb, score in zip(*(column.tolist() for column in columns), strict=True):
        label, name = labels[category_id]
        boxes.append(DrawnBox(tuple(ltrb), f"{name} {score:.2f}", label_color(label)))
    return draw(bgr, boxes)


def read_group(
    jobs: list[Job], detector: Detector
) -> tuple[np.ndarray, list[Image.Image | None], list[str | None]]:
    """Read images into a batch; return it, the images as far as kept, and what is wrong."""
    images, wrong = [], []
    for job in jobs:
        try:
            images.append(read_rgb(job.source, apply_exif=True))
            wrong.append(None)
        except KitError as error:
            images.append(None)
            wrong.append(str(error))
    batch = pack(images, detector)
    room = KEPT_BYTES // len(jobs)
    kept = [i if i and 3 * i.width * i.height <= room else None for i in images]
    return batch, kept, wrong


def finish_image(
    job: Job, image: Image.Image | None, outputs: list[np.ndarray], detector: Detector
) -> Found | str:
    """Decode an image's outputs and write it with its boxes; return a line if that cannot be."""
    try:
        image = image or read_rgb(job.source, apply_exif=True)
    except KitError as error:  # it was there when its batch was read
        return str(error)
    found = find(job.name, image.size, outputs, detector)
    try:
        media.write_image(job.target, draw_found(np.asarray(image)[:, :, ::-1], found, detector))
    except BadFile as error:
        return str(error)
    return Found(job.name, *image.size, found)


def detect_images(jobs: list[Job], detector: Detector, results: Results, stop: Stop) -> None:
    """Run the model over images, until a signal comes, and add what is found and what is bad."""
    groups = [jobs[i : i + detector.size] for i in range(0, len(jobs), detector.size)]
    read = partial(read_group, detector=detector)
    finish = partial(finish_image, detector=detector)

    def take(found: Found | str) -> None:
        if isinstance(found, str):
            results.bad.append(found)
        else:
            results.append(found)

    with (
        ThreadPoolExecutor(DRAWERS) as pool,
        progress(title="detection", total=len(jobs)) as bar,
        closing(prefetch(read, groups)) as batches,
    ):
        sink = Sink(pool, finish, AHEAD + DRAWERS, take)
        for group, (batch, kept, wrong) in batches:
            outputs = detector.engine.run(batch) if None in wrong else []
            for i, job in enumerate(group):
                if wrong[i]:
                    results.bad.append(wrong[i])
                else:
                    sink.put(job, kept[i], [output[i] for output in outputs])
            bar.update(len(group))
            if stop.is_set():
                break
        sink.close()


def read_frames(
    _: int, frames: Iterator[Frame], detector: Detector, stop: Stop
) -> tuple[np.ndarray, list[Frame]]:
    """Read the next frames into a batch; return it and them, none at the end of the video."""
    group = []
    for frame in itertools.islice(frames, detector.size):
        group.append(frame)
        if stop.is_set():
            break
    images = [Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)) for bgr, _ in group]
    return pack(images, detector), group


class FrameFinisher:
    """Draws what is found in the frames of a video, in their order, and writes them."""

    def __init__(
        self, write: Callable[[np.ndarray, float], None], name: str, detector: Detector
    ) -> None:
        self.write, self.name, self.detector = write, name, detector
        self.frame = 0

    def __call__(self, bgr: np.ndarray, seconds: float, outputs: list[np.ndarray]) -> Found:
        size = bgr.shape[1::-1]
        found = find(self.name, size, outputs, self.detector)
        self.write(draw_found(bgr, found, self.detector), seconds)
        self.frame += 1
        return Found(self.name, *size, found, self.frame - 1, seconds)


def detect_video(
    video: VideoFile | Camera, job: Job, detector: Detector, results: Results, stop: Stop
) -> None:
    """Run the model over a video, until a signal comes, and add what is found in its frames.

    Raises BadFile if the video cannot be read or written at all.
    """
    before = len(results)
    frames = video.frames()
    frames = itertools.chain([next(frames)], frames)  # so that no video is made without one
    read = partial(read_frames, frames=frames, detector=detector, stop=stop)
    title = printable(job.name)[-TITLE:]
    with (
        recording(job.target, video.rate) as write,
        ThreadPoolExecutor(1) as pool,  # frames leave in their order
        progress(title=title, total=video.count or None, unit="frame") as bar,
        closing(prefetch(read, itertools.count())) as batches,
    ):
        finish = FrameFinisher(write, job.name, detector)
        sink = Sink(pool, finish, AHEAD * detector.size, results.append)
        for _, (batch, group) in batches:
            if not group:
                break
            outputs = detector.engine.run(batch)
            for i, frame in enumerate(group):
                sink.put(*frame, [output[i] for output in outputs])
            bar.update(len(group))
            if stop.is_set():
                break
        sink.close()
    done = len(results) - before
    if stop.is_set() and (not video.count or done < video.count):
        of = f" of {video.count}" if video.count else ""
        results.cut = f"{job.source}: cut short after {done}{of} frames"
    elif wrong := video.wrong():
        results.bad.append(wrong)
