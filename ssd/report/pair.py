"""Two runs on the same images: how sure their difference is, and which images changed."""

from pathlib import Path
from typing import Any

from ssd import coco, detections
from ssd.cli import KitError
from ssd.detections import Detections
from ssd.report import compare, diagnosis, gallery, metrics
from ssd.report.analysis import detections_path, examine
from ssd.report.matching import Analysis

import numpy as np

MOST_SHOWN = 24  # images that got better, and as many that got worse
SIDES = ("a", "b")


def compare_images(
    data: coco.DataSet, detections: tuple[Detections, Detections], score: float
) -> tuple[dict[str, Any], tuple[Analysis, Analysis]]:
    """Return `score`, `noise`, `changes` and `images` of two runs' detections.

    noise: half the 95 % interval of the difference of their mAP. changes: how many images are
    better, worse, or the same: by errors (missed and false) at `score`. images: those that changed
    most, the worst first, with the counts of both runs.
    Raises KitError if the annotations cannot be scored.
    """
    sides, detections, _ = zip(*(examine(data, found, score) for found in detections), strict=True)
    image_ids = sides[0].image_ids.tolist()
    evaluations = [diagnosis.evaluate(data.instances, found, image_ids) for found in detections]
    counts = [
        metrics.image_counts(side.truth, side.found, side.outcome, len(image_ids), score)
        for side in sides
    ]
    errors = [part["missed"] + part["false"] for part in counts]
    change = errors[1] - errors[0]
    order = np.argsort(-change, kind="stable")
    worse, better = order[change[order] > 0], order[::-1][change[order[::-1]] < 0]
    file_of = {image["id"]: image["file_name"] for image in data.selected}
    images = [
        {"image_id": image_ids[i], "file_name": file_of[image_ids[i]], "group": group}
        | {"change": int(change[i])}
        | {side: metrics.counts_of(part, i) for side, part in zip(SIDES, counts, strict=True)}
        for group, chosen in (("worse", worse), ("better", better))
        for i in chosen[:MOST_SHOWN].tolist()
    ]
    same = len(image_ids) - len(worse) - len(better)
    made = {
        "score": score,
        "noise": diagnosis.noise(*evaluations),
        "changes": {"better": len(better), "worse": len(worse), "same": same},
        "images": images,
    }
    return made, sides


def read_and_compare(
    comparison: dict[str, Any],
    folders: tuple[Path, Path],
    reports: tuple[dict[str, Any], dict[str, Any]],
    data: coco.DataSet,
    score: float,
) -> tuple[dict[int, str], list[tuple[Analysis, dict]]]:
    """Add to the comparison what the data set says of both runs' detections.

    Returns the images as `data:` URIs by id, and each run's Analysis with its boxes by image id.
    Raises KitError if a run was not scored or its detections are missing.
    """
    for folder, report in zip(folders, reports, strict=True):
        if report["scored_batch"] is None:
            raise KitError(
                f"{folder}: not scored, so its images cannot be compared; leave out --data"
            )
    paths = map(detections_path, folders, reports)
    found = tuple(detections.from_json(path) for path in paths)
    made, analyses = compare_images(data, found, score)
    compare.add_images(comparison, made)
    image_ids = [entry["image_id"] for entry in made["images"]]
    images, shots, comparison["unread"] = gallery.read_images(data, image_ids)
    boxes = [gallery.boxes_by_id(list(shots), analysis) for analysis in analyses]
    sides = [{image_id: shots[image_id] | side[image_id] for image_id in shots} for side in boxes]
    return images, list(zip(analyses, sides, strict=True))
