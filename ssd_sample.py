#!/usr/bin/env python3
"""Make a miniature COCO, and a checkpoint that detects what is in it, without any download.

Writes OUTPUT/coco (32 drawn images of colored shapes, annotated, with COCO's 80 categories) and
OUTPUT/models/sample.pt, named as MLPerf v0.7 names its weights. The checkpoint's trunk is random;
only its heads are fitted, in closed form. It shows that every stage works; it has learned nothing
that holds for other images. With --fit-to it fits a checkpoint to your own small data set.

Example:
  python3 ssd_sample.py --output sample_data
"""

import argparse
from pathlib import Path
from typing import Any

from ssd import coco, fit  # a copied script needs ssd/ beside it
from ssd.boxes import iou
from ssd.cli import ArgumentParser, run_main, working
from ssd.files import atomic, write_bytes, write_json

import cv2
import numpy as np
import torch

SEED = 20
IMAGES = 32
FIRST_ID, ID_STEP = 139, 146  # image ids with gaps, as COCO's
WITHOUT_BOX = (7, 23)  # numbers of the images with nothing in them
GRAY = 11  # number of the image that is a grayscale JPEG
CROWD = 17  # number of the image with a crowd annotation
SIDES = (200, 640)  # shortest and longest side of an image, pixels
SHAPES = ("ellipse", "rectangle", "triangle", "cross")


def draw_shape(canvas: np.ndarray, shape: str, ltrb: np.ndarray, color: list[int]) -> None:
    """Draw one shape that fills the box (pixels) on a BGR canvas, in place."""
    left, top, right, bottom = (int(v) for v in ltrb)
    cx, cy = (left + right) // 2, (top + bottom) // 2
    if shape == "ellipse":
        axes = ((right - left) // 2, (bottom - top) // 2)
        cv2.ellipse(canvas, (cx, cy), axes, 0, 0, 360, color, -1, cv2.LINE_AA)
    elif shape == "rectangle":
        cv2.rectangle(canvas, (left, top), (right, bottom), color, -1)
    elif shape == "triangle":
        corners = np.array([[cx, top], [right, bottom], [left, bottom]])
        cv2.fillPoly(canvas, [corners], color, cv2.LINE_AA)
    else:
        third = np.array([right - left, bottom - top]) // 3
        cv2.rectangle(canvas, (left + third[0], top), (right - third[0], bottom), color, -1)
        cv2.rectangle(canvas, (left, top + third[1]), (right, bottom - third[1]), color, -1)


def place_boxes(rng: np.random.Generator, width: int, height: int, count: int) -> np.ndarray:
    """Return up to `count` ltrb boxes in pixels that hardly overlap: (K, 4) int."""
    placed = np.empty((0, 4))
    for _ in range(50 * count):
        w, h = rng.uniform(0.1, 0.5, 2) * (width, height)
        left, top = rng.uniform(0, (width - w, height - h))
        box = np.array([left, top, left + w, top + h]).round()
        if not (iou(box, placed) > 0.05).any():
            placed = np.vstack([placed, box])
        if len(placed) == count:
            break
    return placed.astype(int)


def draw_image(
    rng: np.random.Generator, categories: list[int], crowd: bool
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw a scene of one shape for each category index; return it (BGR) and its annotations.

    A category has its own shape and color. A crowd is a box full of small shapes.
    """
    width, height = (int(side) for side in rng.integers(*SIDES, 2, endpoint=True))
    low, high = np.sort(rng.integers(90, 190, 2))
    shade = np.linspace(low, high + 1, width)[None, :, None]
    canvas = np.repeat(np.repeat(shade, height, axis=0), 3, axis=2)
    canvas = (canvas + rng.normal(0, 4, canvas.shape)).clip(0, 255).astype(np.uint8)
    annotations = []
    boxes = place_boxes(rng, width, height, len(categories))
    for i, (category, ltrb) in enumerate(zip(categories, boxes, strict=False)):
        hue = np.uint8([[[category * 180 // len(coco.COCO_CATEGORIES), 230, 235]]])
        color = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        shape = SHAPES[category % len(SHAPES)]
        parts = [ltrb]
        if crowd and i == 0:
            sides = (ltrb[2:] - ltrb[:2]) // 3
            corners = [ltrb[:2] + sides * (x, y) for x in range(3) for y in range(3)]
            parts = [np.concatenate([corner, corner + sides - 2]) for corner in corners]
        for part in parts:
            draw_shape(canvas, shape, part, color)
        annotations.append(annotation(category, ltrb, iscrowd=int(crowd and i == 0)))
    return canvas, annotations


def annotation(category: int, ltrb: np.ndarray, iscrowd: int) -> dict[str, Any]:
    """Return a COCO annotation, but for its id and its image's, of a box in whole pixels."""
    x, y, width, height = (float(v) for v in (*ltrb[:2], *(ltrb[2:] - ltrb[:2] + 1)))
    return {
        "category_id": coco.COCO_CATEGORIES[category]["id"],
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": iscrowd,
        "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
    }


def make_data(root: Path) -> None:
    """Draw the miniature COCO under `root`."""
    rng = np.random.default_rng(SEED)
    images, annotations = [], []
    indices = iter(rng.permutation(len(coco.COCO_CATEGORIES)).tolist() * 2)
    for number in range(IMAGES):
        count = 0 if number in WITHOUT_BOX else int(rng.integers(2, 5))
        categories = [next(indices) for _ in range(count)]
        canvas, found = draw_image(rng, categories, crowd=number == CROWD)
        if number == GRAY:
            canvas = cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY)
        image_id = FIRST_ID + ID_STEP * number
        file_name = f"{image_id:012}.jpg"
        jpeg = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        write_bytes(root / coco.IMAGE_FOLDER / file_name, jpeg.tobytes())
        height, width = canvas.shape[:2]
        size = {"height": height, "width": width}
        images.append({"id": image_id, "file_name": file_name} | size)
        for fields in found:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id} | fields)
    parts = {"images": images, "annotations": annotations}
    write_json(root / coco.INSTANCES, parts | {"categories": coco.COCO_CATEGORIES})
    print(f"{root}: {len(images)} images, {len(annotations)} boxes")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("sample_data"))
    parser.add_argument(
        "--fit-to",
        metavar="DATA",
        type=Path,
        help="draw nothing; fit the checkpoint to this small data set (up to about 100 images)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    data = args.fit_to or args.output / "coco"
    if not args.fit_to:
        make_data(data)
    instances = coco.read_instances(coco.annotation_path(data))
    with working("fit"):
        network = fit.fit(instances, data / coco.IMAGE_FOLDER, SEED)
    target = args.output / "models" / "sample.pt"
    with atomic(target) as temporary:
        torch.save({"model": network.state_dict()}, temporary)
    print(f"{target}: fitted to {len(instances['images'])} images")


if __name__ == "__main__":
    run_main(main)
