"""Fields, boxes and areas that cannot be right in an instances file, and what may be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssd.cli import KitError, first_few

import numpy as np

ROUNDING = 1.0  # pixels that a box may reach beyond its image
AREA_ROUNDING = 1.01  # times its image that an area may have
FEW_PIXELS = 4  # sides up to which boxes within 0..1 may be pixels
PERCENT_BOXES = 10  # boxes that must end at 100 pixels at most, to be percent
PERCENT_SIDE = 200  # pixels that their images have at least
PERCENT_END = 90  # where the last of them ends at least
EXACT = 2**53  # whole numbers below are exact in float64, which many JSON readers turn them into


def is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < EXACT


def is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value < EXACT


def is_text(value: object, errors: str = "strict") -> bool:
    """Return whether it is a text that UTF-8 has, without lone surrogates."""
    try:
        return isinstance(value, str) and value.encode(errors=errors) is not None
    except UnicodeEncodeError:
        return False


def is_file_name(value: object) -> bool:
    return is_text(value, "surrogateescape")  # Python's form of bytes that are no UTF-8


def is_size(value: object) -> bool:
    return is_number(value) and value > 0


def is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


Kind = Callable[[object], bool]
FIELDS: dict[str, dict[str, Kind]] = {  # the fields of an instances file that the kit reads
    "images": {"id": is_whole, "file_name": is_file_name, "height": is_size, "width": is_size},
    "annotations": {"id": is_whole, "image_id": is_whole, "category_id": is_whole, "bbox": is_box},
    "categories": {"id": is_whole, "name": is_text},
}
SCORED_FIELDS: dict[str, Kind] = {"area": is_number, "iscrowd": lambda value: value in (0, 1)}


def check_fields(rows: list[Any], part: str, fields: dict[str, Kind], path: Path) -> None:
    """Raise KitError unless each row of a part of an instances file has those fields."""
    for row in rows:
        missing = fields.keys() - row.keys() if isinstance(row, dict) else fields.keys()
        if missing:
            names = ", ".join(sorted(missing))
            raise KitError(f"{path}: {part} without {names}; give a COCO instances file")
        for key, is_right in fields.items():
            if not is_right(row[key]):
                value = json.dumps(row[key])[:40]
                raise KitError(f"{path}: {part} with {key} {value}; fetch or make it again")


def check_boxes(instances: dict[str, Any], path: Path) -> None:
    """Raise KitError if boxes have negative sides, or look as if they were no x, y, w, h in pixels.

    Without annotations there is nothing to refuse.
    """
    annotations = instances["annotations"]
    if not annotations:
        return
    boxes, sizes = _geometry(instances)
    negative = (boxes[:, 2:] < 0).any(axis=1)
    if negative.any():
        ids = [annotations[i]["id"] for i in np.flatnonzero(negative)]
        raise KitError(
            f"{path}: {len(ids)} boxes with negative sides (annotations {first_few(ids)}); boxes "
            "are [left, top, width, height]"
        )
    if boxes.min() >= 0 and 0 < boxes.max() <= 1 and sizes.min() > FEW_PIXELS:
        raise KitError(f"{path}: boxes are fractions of the image (0 to 1); make them pixels")
    ends = boxes[:, :2] + boxes[:, 2:]
    many = len(boxes) >= PERCENT_BOXES and sizes.min() >= PERCENT_SIDE
    if many and boxes.min() >= 0 and PERCENT_END <= ends.max() <= 100 + ROUNDING:
        raise KitError(f"{path}: boxes are percent of the image (0 to 100); make them pixels")
    corners = _beyond(boxes, sizes) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    corners &= (boxes[:, 2:] <= sizes + ROUNDING).all(axis=1)
    if 2 * corners.sum() > len(boxes):
        raise KitError(
            f"{path}: {corners.sum()} of {len(boxes)} boxes fit their images only as corners "
            "[left, top, right, bottom]; make them [left, top, width, height]"
        )


def check_areas(instances: dict[str, Any], path: Path) -> None:
    """Raise KitError if an annotation's area is below 0 or larger than its image."""
    annotations = instances["annotations"]
    areas = np.array([annotation["area"] for annotation in annotations], np.float64)
    _, sizes = _geometry(instances)
    wrong = (areas < 0) | (areas > AREA_ROUNDING * sizes.prod(axis=1))
    if wrong.any():
        ids = [annotations[i]["id"] for i in np.flatnonzero(wrong)]
        raise KitError(
            f"{path}: {len(ids)} areas below 0 or larger than the image (annotations "
            f"{first_few(ids)}); area is in square pixels: correct or remove it (prepare-json.py "
            "--fill-area puts width times height where it is missing)"
        )


def find_warnings(instances: dict[str, Any], usual: list[dict[str, Any]]) -> list[str]:
    """Return a line for each thing in the annotations that lets scores be wrong; often none.

    usual: COCO's categories in their order.
    """
    found = []
    boxes, sizes = _geometry(instances)
    beyond = int(_beyond(boxes, sizes).sum())
    if 2 * beyond > len(boxes):
        found.append(
            f"{beyond} of {len(boxes)} boxes reach beyond their images; check the images' width "
            "and height"
        )
    for key in ("id", "name"):
        given, right = ([row[key] for row in rows] for rows in (instances["categories"], usual))
        if sorted(given) == sorted(right) and given != right:
            moved = sum(a != b for a, b in zip(given, right, strict=True))
            found.append(
                f"{moved} of {len(given)} categories stand in another order than COCO's; label k "
                "is the kth of them: check that the model was trained in that order"
            )
            break
    return found


def _geometry(instances: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return each annotation's box (K, 4), xywh, and its image's width and height (K, 2)."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in instances["images"]}
    annotations = instances["annotations"]
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64)
    of_each = np.array([sizes[annotation["image_id"]] for annotation in annotations], np.float64)
    return boxes.reshape(-1, 4), of_each.reshape(-1, 2)


def _beyond(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return which boxes reach beyond their image: (K,) bool."""
    ends = boxes[:, :2] + boxes[:, 2:]
    return (boxes[:, :2] < -ROUNDING).any(axis=1) | (ends > sizes + ROUNDING).any(axis=1)
