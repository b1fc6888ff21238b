"""Detections of many images: their arrays, and COCO's result files."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.annotation_checks import Kind, is_box, is_number, is_whole
from ssd.boxes import (
    MAX_DETECTIONS,
    Candidates,
    candidates,
    decode,
    ltrb_to_xywh,
    xywh_to_ltrb,
)
from ssd.cli import KitError, first_few
from ssd.files import atomic, read_json
from ssd.machine import check_free
from ssd.tensors import tensor_stem

import numpy as np
import orjson

RESULT_FIELDS: dict[str, Kind] = {  # what each entry of a COCO result file must hold
    "image_id": is_whole,
    "bbox": is_box,
    "score": is_number,
    "category_id": is_whole,
}
ROWS = 4096  # detections that are turned into JSON at a time: as objects they are large
ROW_BYTES = 192  # of a detection in a result file, at most


@dataclass(frozen=True, eq=False)
class Detections:
    """K detections in any number of images; K may be 0.

    image_id, category_id: (K,) int64, as in the annotation file. ltrb: (K, 4) pixels of the image,
    not clipped. score: (K,). ltrb and score are float32 if decoded here, float64 if read from a
    file.
    """

    image_id: np.ndarray
    ltrb: np.ndarray
    score: np.ndarray
    category_id: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: np.ndarray | slice) -> "Detections":
        """Return the detections that a mask, indices or a slice selects."""
        return Detections(
            self.image_id[index], self.ltrb[index], self.score[index], self.category_id[index]
        )

    def by_image(self) -> dict[int, "Detections"]:
        """Return the detections of each image id, best score first; ties keep their order."""
        ranked = self[np.lexsort((-self.score, self.image_id))]
        ids, counts = np.unique(ranked.image_id, return_counts=True)
        ends = counts.cumsum()
        return {
            image_id: ranked[end - count : end]
            for image_id, count, end in zip(ids.tolist(), counts, ends, strict=True)
        }


def concatenate(parts: Iterable[Detections]) -> Detections:
    """Return all detections of `parts`, in that order; K = 0 without any."""
    parts = list(parts)
    if not parts:
        ids = np.empty(0, np.int64)
        return Detections(ids, np.empty((0, 4), np.float32), np.empty(0, np.float32), ids)
    return Detections(
        np.concatenate([part.image_id for part in parts]),
        np.concatenate([part.ltrb for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.category_id for part in parts]),
    )


def decode_image(
    image: dict[str, Any], ploc: np.ndarray, plabel: np.ndarray, category_ids: np.ndarray
) -> Detections | None:
    """Decode one image's raw outputs, best detection first.

    image: its entry of the annotation file. ploc: (4, 8732), plabel: (labels, 8732), float32 or
    float16. category_ids: (labels - 1,), that of label 1 first. Returns None if the outputs hold
    NaN or infinity, or if a box does.
    """
    return decode_candidates(image, candidates(ploc, plabel), category_ids)


def decode_candidates(
    image: dict[str, Any], found: Candidates | None, category_ids: np.ndarray
) -> Detections | None:
    """Do the rest of `decode_image` once `candidates` has reduced the outputs."""
    if found is None:
        return None
    boxes = decode(found)
    with np.errstate(over="ignore", invalid="ignore"):  # a wild offset makes a box infinite
        ltrb = boxes.ltrb * np.array([image["width"], image["height"]] * 2, np.float32)
        finite = np.isfinite(ltrb_to_xywh(ltrb)).all()
    if not finite:
        return None
    image_id = np.full(len(ltrb), image["id"], np.int64)
    return Detections(image_id, ltrb, boxes.scores, category_ids[boxes.labels - 1])


def join_images(
    source: Path, images: list[dict[str, Any]], parts: list[Detections | None]
) -> Detections:
    """Join what `decode_image` returned for each image; K = 0 without any image.

    Raises KitError, naming `source`, if any was None.
    """
    bad = [image["id"] for image, part in zip(images, parts, strict=True) if part is None]
    if bad:
        raise KitError(
            f"{source}: NaN or infinite outputs for {len(bad)} of {len(images)} images "
            f"({first_few(map(tensor_stem, bad))}); check the model's precision and its input"
        )
    return concatenate(parts)


def to_json(detections: Detections) -> list[dict[str, Any]]:
    """Return the detections in COCO's result form, as a list for a JSON file."""
    columns = (detections.image_id, detections.category_id, ltrb_to_xywh(detections.ltrb))
    return [
        {"image_id": image_id, "category_id": category_id, "bbox": xywh, "score": score}
        for image_id, category_id, xywh, score in zip(
            *(column.tolist() for column in (*columns, detections.score)), strict=True
        )
    ]


def check_room(path: Path, images: int) -> None:
    """Raise KitError unless the disk has room for the result file of so many images."""
    check_free(path.parent, images * MAX_DETECTIONS * ROW_BYTES, f"the detections in {path.name}")


def write_detections(path: Path, detections: Detections) -> None:
    """Write a COCO result file, whole or not at all."""
    with atomic(path, lasting=True) as temporary, temporary.open("wb") as file:
        file.write(b"[")
        for start in range(0, len(detections), ROWS):
            text = orjson.dumps(to_json(detections[start : start + ROWS]))
            file.write((b"," if start else b"") + text[1:-1])
        file.write(b"]\n")


def from_json(path: Path) -> Detections:
    """Read a COCO result file; K = 0 if it holds an empty list.

    Raises KitError if the file is missing or is not a COCO result file.
    """
    results = read_json(path)
    if not isinstance(results, list):
        raise KitError(f"{path}: not a COCO result file; make it with ssd_postprocess.py")
    for result in results:
        if not isinstance(result, dict) or not all(
            key in result and is_right(result[key]) for key, is_right in RESULT_FIELDS.items()
        ):
            raise KitError(
                f"{path}: not a COCO result file ({json.dumps(result)[:80]}); "
                "make it with ssd_postprocess.py"
            )
    xywh = np.array([result["bbox"] for result in results], np.float64).reshape(-1, 4)
    return Detections(
        np.array([result["image_id"] for result in results], np.int64),
        xywh_to_ltrb(xywh),
        np.array([result["score"] for result in results], np.float64),
        np.array([result["category_id"] for result in results], np.int64),
    )
