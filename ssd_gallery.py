"""Pictures of the gallery: scaled down, with true boxes and detections drawn, as JPEG."""

import base64
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ssd_analysis import Analysis
from ssd_coco import picture_path
from ssd_curves import FALSE, IN_CROWD, TRUE, found_at
from ssd_draw import DrawnBox, draw
from ssd_files import KitError
from ssd_preprocess import read_rgb

SIDE = 480  # pixels: the longer side of a picture, if it has as many
QUALITY = 72  # of JPEG
COLOURS = {  # b, g, r; told apart by the colour-blind too: found, false, missed, true box, crowd
    "found": (233, 180, 86),
    "false": (0, 94, 213),
    "missed": (66, 228, 240),
    "true": (255, 255, 255),
    "crowd": (170, 170, 170),
}


def draw_all(folder: Path, analysis: Analysis) -> tuple[dict[int, str], list[str]]:
    """Return the gallery's pictures as `data:` URIs, by image id, and what could not be read."""
    pictures, missing = {}, []
    for entry in analysis.detail["gallery"]:
        try:
            rgb = read_rgb(picture_path(folder, entry["file_name"]))
        except KitError as error:
            missing.append(str(error))
            continue
        image = int(np.searchsorted(analysis.image_ids, entry["image_id"]))
        pictures[entry["image_id"]] = data_uri(draw_boxes(rgb, image, analysis))
    return pictures, missing


def draw_boxes(rgb: Image.Image, image: int, analysis: Analysis) -> np.ndarray:
    """Return a picture (H, W, 3) BGR uint8, scaled down, with its boxes; image: its index."""
    scale = min(1, SIDE / max(rgb.size))
    size = tuple(max(1, round(side * scale)) for side in rgb.size)
    bgr = np.asarray(rgb.resize(size, Image.Resampling.LANCZOS))[:, :, ::-1]
    boxes = [
        DrawnBox(tuple((scale * np.array(ltrb)).tolist()), text, COLOURS[kind], dashed)
        for kind, ltrb, text, dashed in boxes_of(image, analysis)
    ]
    return draw(np.ascontiguousarray(bgr), boxes)


def boxes_of(image: int, analysis: Analysis) -> list[tuple[str, np.ndarray, str, bool]]:
    """Return a picture's boxes, those on top first: kind (of COLOURS), ltrb, text, dashed.

    True boxes are dashed; only missed ones and crowds have a name, the detection tells the others'.
    """
    truth, found, outcome, names = analysis[2:]
    score = analysis.detail["score"]
    seen = found_at(found, outcome, score, len(truth.image))
    strong = (found.image == image) & (found.score >= score)
    kinds = {TRUE: "found", FALSE: "false", IN_CROWD: "crowd"}
    boxes = []
    for i in np.flatnonzero(strong):
        text = f"{names[found.label[i]]} {found.score[i]:.2f}"
        boxes.append((kinds[int(outcome.kind[i])], found.ltrb[i], text, False))
    for i in np.flatnonzero(truth.image == image):
        kind = "crowd" if truth.crowd[i] else "true" if seen[i] else "missed"
        text = "" if kind == "true" else names[truth.label[i]]
        boxes.append((kind, truth.ltrb[i], text, True))
    order = ("missed", "false", "found", "true", "crowd")
    return sorted(boxes, key=lambda box: order.index(box[0]))


def data_uri(bgr: np.ndarray) -> str:
    """Return a picture as a JPEG inside a `data:` URI."""
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, jpeg = cv2.imencode(".jpg", bgr, options)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
