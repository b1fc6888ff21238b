"""Every match of a run, for other tools: as CSV, and as a COCO file with the kind of each box."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssd import coco
from ssd.boxes import ltrb_to_xywh
from ssd.cli import KitError
from ssd.files import write_bytes, write_json
from ssd.report.matching import KINDS, Analysis

import numpy as np

COLUMNS = ("image_id", "file_name", "category_id", "category", "kind", "score", "left", "top")
COLUMNS += ("width", "height", "iou", "true_category")


def rows(data: coco.DataSet, analysis: Analysis) -> Iterator[dict[str, Any]]:
    """Yield a row of COLUMNS for each detection, then for each true box that none found.

    Lengths are pixels. score and iou are None for a missed box; true_category is that of the box
    that a detection found or was meant for, None on background.
    """
    truth, found, outcome, names = analysis.truth, analysis.found, analysis.outcome, analysis.names
    file_of = {image["id"]: image["file_name"] for image in data.selected}

    def row(image: int, label: int, ltrb: np.ndarray) -> dict[str, Any]:
        image_id = int(analysis.image_ids[image])
        places = zip(("left", "top", "width", "height"), ltrb_to_xywh(ltrb).tolist(), strict=True)
        made = {"image_id": image_id, "file_name": file_of[image_id]}
        made |= {"category_id": analysis.category_ids[label], "category": names[label]}
        return made | dict(places)

    for i, near in enumerate(outcome.near.tolist()):
        more = {"kind": KINDS[outcome.kind[i]], "score": float(found.score[i])}
        more |= {"iou": float(outcome.iou[i])}
        more |= {"true_category": names[truth.label[near]] if near >= 0 else None}
        yield row(found.image[i], found.label[i], found.ltrb[i]) | more
    seen = np.zeros(len(truth.image), bool)
    seen[outcome.pair[outcome.pair >= 0]] = True
    for i in np.flatnonzero(~seen & ~truth.crowd):
        more = {"kind": "missed", "score": None, "iou": None}
        more |= {"true_category": names[truth.label[i]]}
        yield row(truth.image[i], truth.label[i], truth.ltrb[i]) | more


def as_csv(data: coco.DataSet, analysis: Analysis) -> bytes:
    """Return `rows` as CSV, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(data, analysis))
    return text.getvalue().encode()


def as_coco(data: coco.DataSet, analysis: Analysis) -> dict[str, Any]:
    """Return `rows` as the annotations of a COCO instances file; score, kind and so on beside."""
    extra = ("kind", "score", "iou", "true_category")
    annotations = []
    for i, row in enumerate(rows(data, analysis), start=1):
        box = [row[key] for key in ("left", "top", "width", "height")]
        made = {"id": i, "image_id": row["image_id"], "category_id": row["category_id"]}
        made |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        annotations.append(made | {key: row[key] for key in extra if row[key] is not None})
    keys = ("id", "file_name", "width", "height")
    images = [{key: image[key] for key in keys} for image in data.selected]
    categories = data.instances["categories"]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_matches(folder: Path, data: coco.DataSet | None, analysis: Analysis | None) -> None:
    """Write matches.csv and matches.json. Raises KitError without data set or detections."""
    if not analysis:
        raise KitError(f"{folder}: no matches without scored detections and --data")
    write_bytes(folder / "matches.csv", as_csv(data, analysis))
    write_json(folder / "matches.json", as_coco(data, analysis))
