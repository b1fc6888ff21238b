"""Two runs on the same images: how sure their difference is, and which images changed."""

from typing import Any

from ssd import coco
from ssd.detections import Detections
from ssd.report import diagnosis, metrics
from ssd.report.analysis import examine
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
