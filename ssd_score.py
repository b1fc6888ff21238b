"""COCO's scoring protocol, run by faster-coco-eval or pycocotools."""

import contextlib
import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ssd_coco import results_to_json

STAT_LINES = {  # the 12 numbers of COCO's protocol, in its order: IoU, area, maxDets
    "AP": ("0.50:0.95", "all", 100),
    "AP50": ("0.50", "all", 100),
    "AP75": ("0.75", "all", 100),
    "AP_small": ("0.50:0.95", "small", 100),
    "AP_medium": ("0.50:0.95", "medium", 100),
    "AP_large": ("0.50:0.95", "large", 100),
    "AR1": ("0.50:0.95", "all", 1),
    "AR10": ("0.50:0.95", "all", 10),
    "AR100": ("0.50:0.95", "all", 100),
    "AR_small": ("0.50:0.95", "small", 100),
    "AR_medium": ("0.50:0.95", "medium", 100),
    "AR_large": ("0.50:0.95", "large", 100),
}
SCORERS = ("faster", "pycocotools")


class Scores(NamedTuple):
    """The answer of COCO's protocol.

    stats: names of STAT_LINES to value, -1 where there is nothing to score. per_class: category
    name to AP (IoU 0.50:0.95). precision: (10 IoU, 101 recall, categories), -1 where nothing.
    """

    stats: dict[str, float]
    per_class: dict[str, float]
    precision: np.ndarray


def score(
    instances: dict[str, Any], rows: np.ndarray, image_ids: Iterable[int], scorer: str = SCORERS[0]
) -> Scores:
    """Score result rows (K, 7) with COCO's own protocol on the images of `image_ids`.

    K = 0 scores 0 (pycocotools cannot: it indexes into an empty list).
    """
    truth, found, evaluator = _load(instances, rows, scorer)
    evaluation = evaluator(truth, found, "bbox")
    evaluation.params.imgIds = sorted(image_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # all areas, 100 detections
    names = {category["id"]: category["name"] for category in instances["categories"]}
    per_class = {}
    for k, category_id in enumerate(evaluation.params.catIds):
        known = precision[:, :, k][precision[:, :, k] > -1]
        per_class[names[category_id]] = float(known.mean()) if known.size else -1.0
    stats = dict(zip(STAT_LINES, map(float, evaluation.stats), strict=False))  # faster has more
    return Scores(stats, per_class, precision)


def format_stats(stats: dict[str, float]) -> str:
    """Return the 12 lines that COCO's own tool prints."""
    lines = []
    for name, (iou, area, limit) in STAT_LINES.items():
        title, short = ("Precision", "(AP)") if name.startswith("AP") else ("Recall", "(AR)")
        lines.append(
            f" {'Average ' + title:<18} {short} @[ IoU={iou:<9} | area={area:>6} | "
            f"maxDets={limit:>3} ] = {stats[name]:0.3f}"
        )
    return "\n".join(lines)


def _load(instances: dict[str, Any], rows: np.ndarray, scorer: str) -> tuple[Any, Any, type]:
    """Return the scorer's ground truth, detections and evaluator class."""
    if scorer == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as evaluator
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as evaluator
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = instances | {"annotations": _numbered(instances["annotations"])}
        truth.createIndex()
        found = COCO()
        found.dataset = {
            "images": instances["images"],
            "categories": instances["categories"],
            "annotations": _as_annotations(rows),
        }
        found.createIndex()
    return truth, found, evaluator


def _numbered(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copy annotations with ids from 1 on: to the scorers an id of 0 means "matched nothing"."""
    return [annotation | {"id": i} for i, annotation in enumerate(annotations, start=1)]


def _as_annotations(rows: np.ndarray) -> list[dict[str, Any]]:
    """Turn result rows into annotations as the scorers' loadRes does, which refuses no rows."""
    return _numbered(
        [
            result | {"area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
            for result in results_to_json(rows)
        ]
    )
