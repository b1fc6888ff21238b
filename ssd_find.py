"""A model at work on pictures and on the frames of videos: read, run, decode, draw, write.

Reading and drawing go on while the model runs; memory is bounded however many there are.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

import ssd_coco
import ssd_media
from ssd_draw import DrawnBox, draw, label_colour
from ssd_engines import Engine
from ssd_files import KitError
from ssd_preprocess import normalise, read_rgb, shrink
from ssd_stream import AHEAD, Sink, prefetch

DRAWERS = 2  # threads
KEPT_BYTES = 64 << 20  # of a batch's pictures; larger ones are read again to be drawn
TITLE = 30  # letters of a video's name before its progress bar
WHOLE = 0.9  # of the frames that a video says it has; the number is an estimate in some formats


class Detector(NamedTuple):
    """A model and what is asked of it. size: of a batch. categories: of label 1, 2, ..."""

    engine: Engine
    size: int
    categories: list[dict[str, Any]]
    score: float


class Job(NamedTuple):
    """A picture or video to read, where to write it, and its name in the results."""

    source: Path
    target: Path
    name: str


class Found(NamedTuple):
    """What was found in a picture or frame: rows (K, 7) of ssd_coco.RESULT_COLUMNS, best first.

    image: its COCO entry but for the id. The rows' image ids mean nothing yet.
    """

    image: dict[str, Any]
    rows: np.ndarray


def pack(pictures: list[Image.Image | None], detector: Detector) -> np.ndarray:
    """Return a batch of the model's input, (size, *shape); zeros where there is no picture."""
    engine = detector.engine
    batch = np.zeros((detector.size, *engine.shape), engine.dtype)
    for i, picture in enumerate(pictures):
        if picture:
            small = shrink(picture)
            batch[i] = small if engine.dtype == "uint8" else normalise(small)
    return batch


def find(image: dict[str, Any], outputs: list[np.ndarray], detector: Detector) -> Found:
    """Decode one picture's outputs, and keep what has the score. Raises KitError for NaN."""
    ploc, plabel = (output.astype(np.float32, copy=False) for output in outputs)
    ids = ssd_coco.category_ids({"categories": detector.categories})
    rows = ssd_coco.results(image | {"id": 0}, ploc, plabel, ids)
    if rows is None:
        raise KitError(
            f"{image['file_name']}: NaN or infinite outputs; check the model's precision"
        )
    return Found(image, rows[rows[:, 5] >= detector.score])


def draw_found(bgr: np.ndarray, found: Found, detector: Detector) -> np.ndarray:
    """Return a copy of a picture with what was found in it."""
    labels = {one["id"]: (i, one["name"]) for i, one in enumerate(detector.categories, start=1)}
    boxes = []
    for _, x, y, width, height, score, category_id in found.rows.tolist():
        label, name = labels[category_id]
        ltrb = (x, y, x + width, y + height)
        boxes.append(DrawnBox(ltrb, f"{name} {score:.2f}", label_colour(label)))
    return draw(bgr, boxes)


def read_group(
    jobs: list[Job], detector: Detector
) -> tuple[np.ndarray, list[Image.Image | None], list[str | None]]:
    """Read pictures into a batch; return it, the pictures as far as kept, and what is wrong."""
    pictures, wrong = [], []
    for job in jobs:
        try:
            pictures.append(read_rgb(job.source, as_seen=True))
            wrong.append(None)
        except KitError as error:
            pictures.append(None)
            wrong.append(str(error))
    batch = pack(pictures, detector)
    room = KEPT_BYTES // len(jobs)
    kept = [p if p and 3 * p.width * p.height <= room else None for p in pictures]
    return batch, kept, wrong


def finish_picture(
    job: Job, picture: Image.Image | None, outputs: list[np.ndarray], detector: Detector
) -> Found:
    """Decode a picture's outputs and write it with its boxes."""
    picture = picture or read_rgb(job.source, as_seen=True)
    image = {"file_name": job.name, "width": picture.width, "height": picture.height}
    found = find(image, outputs, detector)
    ssd_media.write_picture(
        job.target, draw_found(np.asarray(picture)[:, :, ::-1], found, detector)
    )
    return found


def detect_pictures(jobs: list[Job], detector: Detector) -> tuple[list[Found], list[str]]:
    """Run the model over pictures; return what is found, and what is wrong with the others."""
    bad = []
    groups = [jobs[i : i + detector.size] for i in range(0, len(jobs), detector.size)]
    read = partial(read_group, detector=detector)
    with (
        ThreadPoolExecutor(DRAWERS) as pool,
        tqdm(desc="detect", total=len(jobs), unit="image", disable=None) as bar,
    ):
        sink = Sink(pool, partial(finish_picture, detector=detector), AHEAD + DRAWERS)
        for group, (batch, kept, wrong) in prefetch(read, groups):
            outputs = detector.engine.run(batch) if None in wrong else []
            for i, job in enumerate(group):
                if wrong[i]:
                    bad.append(wrong[i])
                else:
                    sink.put(job, kept[i], [output[i] for output in outputs])
            bar.update(len(group))
        return sink.close(), bad


def read_frames(
    _: int, capture: cv2.VideoCapture, detector: Detector, stop: Event
) -> tuple[np.ndarray, list[tuple[np.ndarray, float]]]:
    """Read a batch of a video's next frames; return it, and each frame with when it was taken."""
    frames = []
    while len(frames) < detector.size and not stop.is_set():
        there, bgr = capture.read()
        if not there:
            break
        frames.append((bgr, time.monotonic()))
    pictures = [Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)) for bgr, _ in frames]
    return pack(pictures, detector), frames


class FrameWriter:
    """Draws what is found in frames, and adds them to a video.

    A live one's frames are repeated where the model was slower than the camera, so that the video
    lasts as long as what it shows.
    """

    def __init__(
        self, write: Callable[[np.ndarray], None], name: str, fps: float | None, detector: Detector
    ) -> None:
        self.write, self.name, self.fps, self.detector = write, name, fps, detector
        self.written, self.begun = 0, 0.0

    def finish(self, bgr: np.ndarray, taken: float, outputs: list[np.ndarray]) -> Found:
        """Write one frame, taken at that second; fps is None unless it is live."""
        height, width = bgr.shape[:2]
        image = {"file_name": self.name, "width": width, "height": height, "frame": self.written}
        found = find(image, outputs, self.detector)
        drawn = draw_found(bgr, found, self.detector)
        self.begun = self.begun or taken
        due = 1 + int((taken - self.begun) * self.fps) if self.fps else 0
        for _ in range(max(1, due - self.written)):
            self.write(drawn)
            self.written += 1
        return found


def detect_video(
    capture: cv2.VideoCapture, job: Job, detector: Detector, live: Event | None = None
) -> tuple[list[Found], str | None]:
    """Run the model over a video; return what is found in its frames, and what is wrong with it.

    live: of a camera, the event that ends it. Raises KitError if there is no frame.
    """
    fps = ssd_media.frame_rate(capture)
    expected = 0 if live else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    title = ssd_media.shown(job.name)[-TITLE:]
    with (
        ssd_media.recording(job.target, fps) as write,
        ThreadPoolExecutor(1) as pool,  # frames leave in their order
        tqdm(desc=title, total=expected or None, unit="frame", disable=None) as bar,
    ):
        writer = FrameWriter(write, job.name, fps if live else None, detector)
        sink = Sink(pool, writer.finish, AHEAD * detector.size)
        reader = partial(read_frames, capture=capture, detector=detector, stop=live or Event())
        with closing(prefetch(reader, itertools.count())) as batches:
            for _, (batch, frames) in batches:
                if not frames:
                    break
                outputs = detector.engine.run(batch)
                for i, frame in enumerate(frames):
                    sink.put(*frame, [output[i] for output in outputs])
                bar.update(len(frames))
        found = sink.close()
        if not found:
            raise KitError(f"{job.source}: no frame came; check the camera or file")
    if len(found) < WHOLE * expected:
        return found, f"{job.source}: ends after {len(found)} of {expected} frames; fetch it again"
    return found, None
