"""What is found in images and frames: kept as arrays, written as a COCO instances file.

An hour of video is 90,000 frames: as dicts their detections would take a gigabyte.
"""

import json
import math
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ssd import detections
from ssd.detections import ROWS, Detections, concatenate
from ssd.files import atomic

import numpy as np

SAVED_EVERY = 60  # seconds, and no more than SAVING of the time
SAVING = 0.05
JOINED = 1000  # images whose detections are kept as one


class Found(NamedTuple):
    """What was found in an image, or in a frame of a video, best first.

    name: of the file in the results. width, height: of the upright image. frame, seconds: of a
    video, its number from 0 on and its time after the first one. The detections' image ids mean
    nothing yet.
    """

    name: str
    width: int
    height: int
    detections: Detections
    frame: int = -1
    seconds: float = math.nan


class Results:
    """What was found so far, in order, and which files were not done as they should.

    bad: a line for each. cut: the line of the video that a signal broke off, or an empty one.
    path, info: of the JSON, which is also saved now and then, lest a kill or a power cut take all;
    None: no JSON.
    """

    def __init__(
        self,
        categories: list[dict[str, Any]],
        path: Path | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        self.categories, self.path, self.info = categories, path, info or {}
        self.due = time.monotonic() + SAVED_EVERY
        self.bad: list[str] = []
        self.cut = ""
        self.boxes = self.frames = 0
        self.files: list[tuple[str, int, int]] = []
        self.file, self.frame, self.seconds = array("q"), array("q"), array("d")  # of each image
        self.chunks: list[Detections] = []
        self.recent: list[Detections] = []

    def __len__(self) -> int:
        """Return the number of images and frames."""
        return len(self.file)

    def append(self, found: Found) -> None:
        """Add the next image or frame, whose id is its number from 1 on."""
        file = (found.name, found.width, found.height)
        if not self.files or self.files[-1] != file:
            self.files.append(file)
        self.file.append(len(self.files) - 1)
        self.frame.append(found.frame)
        self.seconds.append(found.seconds)
        self.boxes += len(found.detections)
        self.frames += found.frame >= 0
        ids = np.full(len(found.detections), len(self), np.int64)
        self.recent.append(replace(found.detections, image_id=ids))
        if len(self.recent) == JOINED:
            self._join()
        if self.path and time.monotonic() > self.due:
            start = time.monotonic()
            self.save(unfinished=True)
            now = time.monotonic()
            self.due = now + max(SAVED_EVERY, (now - start) / SAVING)

    def _join(self) -> None:
        if self.recent:
            self.chunks.append(concatenate(self.recent))
            self.recent = []

    def parts(self) -> list[Detections]:
        """Return all detections, in order, in parts; the image ids are those of the JSON."""
        self._join()
        return self.chunks

    def per_category(self) -> Counter[int]:
        """Return the number of detections of each category id."""
        counts: Counter[int] = Counter()
        for part in self.parts():
            counts.update(part.category_id.tolist())
        return counts

    def images(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of the images; those of a video have their `frame` and `seconds`."""
        for i, (file, frame, seconds) in enumerate(
            zip(self.file, self.frame, self.seconds, strict=True), start=1
        ):
            name, width, height = self.files[file]
            entry = {"id": i, "file_name": name, "width": width, "height": height}
            yield entry | ({"frame": frame, "seconds": round(seconds, 6)} if frame >= 0 else {})

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield the detections as annotations with a `score`.

        Boxes are not clipped, but no area is larger than the image, as COCO's readers expect.
        """
        number = 0
        for part in self.parts():
            for start in range(0, len(part), ROWS):
                for result in detections.to_json(part[start : start + ROWS]):
                    _, width, height = self.files[self.file[result["image_id"] - 1]]
                    area = min(result["bbox"][2] * result["bbox"][3], width * height)
                    number += 1
                    yield result | {"id": number, "area": area, "iscrowd": 0}

    def save(self, **more: Any) -> None:
        """Write all as a COCO instances file, whole or not at all; it is never whole in memory.

        more: goes to its `info`.
        """
        lists = {"images": self.images(), "annotations": self.annotations()}
        with (
            atomic(self.path, lasting=True) as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.write(f'{{"info": {_dump(self.info | more)}')
            for key, entries in lists.items():
                file.write(f', "{key}": [')
                _write_entries(file, entries)
                file.write("]")
            file.write(f', "categories": {_dump(self.categories)}}}\n')


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_entries(file: TextIO, entries: Iterable[dict[str, Any]]) -> None:
    """Write entries of a JSON list, without its brackets."""
    entries = iter(entries)
    comma = ""
    while chunk := list(islice(entries, ROWS)):
        file.write(comma + _dump(chunk)[1:-1])
        comma = ", "
