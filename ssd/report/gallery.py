"""The images of a page: scaled down, as JPEG, and the boxes that the page draws on them."""

import base64
from pathlib import Path
from typing import Any

from ssd.cli import KitError
from ssd.coco import DataSet, image_path
from ssd.images import read_rgb
from ssd.report.matching import Analysis, slice_of
from ssd.report.metrics import size_of
from ssd.report.thresholds import levels, true_levels

import cv2
import numpy as np
from PIL import Image

SIDE = 480  # pixels of the longer side; smaller images are not enlarged
QUALITY = 72  # JPEG quality, 0 to 100


def read_images(
    data: DataSet, image_ids: list[int]
) -> tuple[dict[int, str], dict[int, dict[str, Any]], list[str]]:
    """Return images as `data:` URIs, their `name`, `width` and `height`, by image id each.

    And the errors of images that could not be read.
    """
    entries = {entry["id"]: entry for entry in data.selected}
    images, shots, unread = {}, {}, []
    for image_id in image_ids:
        entry = entries[image_id]
        size = entry["width"], entry["height"]
        try:
            rgb = read_as_annotated(image_path(data.image_folder, entry["file_name"]), size)
        except KitError as error:
            unread.append(str(error))
            continue
        images[image_id] = data_uri(thumbnail(rgb))
        shots[image_id] = {"name": entry["file_name"], "width": rgb.width, "height": rgb.height}
    return images, shots, unread


def read_gallery(
    data: DataSet, analysis: Analysis
) -> tuple[dict[int, str], dict[int, dict[str, Any]], list[str]]:
    """Return what `read_images` does of the images of the gallery, with their boxes."""
    image_ids = [shown["image_id"] for shown in analysis.detail["gallery"]]
    images, shots, unread = read_images(data, image_ids)
    boxes = boxes_by_id(list(shots), analysis)
    return images, {image_id: shots[image_id] | boxes[image_id] for image_id in shots}, unread


def boxes_by_id(image_ids: list[int], analysis: Analysis) -> dict[int, dict[str, list[list]]]:
    """Return `boxes_of` of each image id."""
    steps = analysis.detail["by_score"]["thresholds"]
    reached = true_levels(analysis.truth, analysis.found, analysis.outcome, steps)
    places = np.searchsorted(analysis.image_ids, image_ids).tolist()
    return {
        image_id: boxes_of(place, analysis, reached)
        for image_id, place in zip(image_ids, places, strict=True)
    }


def read_as_annotated(path: Path, size: tuple[int, int]) -> Image.Image:
    """Read an image file as RGB, turned by its EXIF data where its annotation is of it so."""
    rgb = read_rgb(path)
    if rgb.size != size:
        turned = read_rgb(path, apply_exif=True)
        rgb = turned if turned.size == size else rgb
    return rgb


def thumbnail(rgb: Image.Image) -> np.ndarray:
    """Return an image of SIDE pixels at most: (H, W, 3) uint8 BGR."""
    scale = min(1, SIDE / max(rgb.size))
    size = tuple(max(1, round(side * scale)) for side in rgb.size)
    return np.asarray(rgb.resize(size, Image.Resampling.LANCZOS))[:, :, ::-1]


def data_uri(bgr: np.ndarray) -> str:
    """Return an image as a JPEG inside a `data:` URI."""
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(bgr), options)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def boxes_of(image: int, analysis: Analysis, true_levels: np.ndarray) -> dict[str, list[list]]:
    """Return an image's boxes for the page; `image` is its index.

    found, best score first: kind (of KINDS), label, level, score, ltrb in tenths of a pixel, size
    (of SIZES), label of the true box that the confusion matrix has it for, -1 for none. truth:
    label, level, ltrb, size, crowd. A level is the number of thresholds at which a detection
    counts, or at which a true box is found (`true_levels`); detections of level 0 are left out.
    """
    truth, found, outcome, given = analysis.truth, analysis.found, analysis.outcome, analysis.given
    steps = analysis.detail["by_score"]["thresholds"]
    f, t = slice_of(found.image, image), slice_of(truth.image, image)
    f = f[levels(found.score[f], steps) > 0]
    area = [
        truth.area[n] if n >= 0 else found.area[i] for i, n in zip(f, outcome.near[f], strict=True)
    ]
    mistaken = [int(truth.label[g]) if g >= 0 else -1 for g in given[f]]
    detected = zip(
        *(column[f].tolist() for column in (outcome.kind, found.label)),
        levels(found.score[f], steps).tolist(),
        found.score[f].round(3).tolist(),
        np.rint(10 * found.ltrb[f]).astype(int).tolist(),
        size_of(np.array(area)).tolist(),
        mistaken,
        strict=True,
    )
    true = zip(
        *(column[t].tolist() for column in (truth.label, true_levels)),
        np.rint(10 * truth.ltrb[t]).astype(int).tolist(),
        size_of(truth.area[t]).tolist(),
        truth.crowd[t].tolist(),
        strict=True,
    )
    return {"found": list(map(list, detected)), "truth": list(map(list, true))}
