"""COCO's scoring protocol, run by hotcoco or pycocotools."""

import contextlib
import io
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from ssd.boxes import ltrb_to_xywh
from ssd.cli import working
from ssd.coco import COCO_CATEGORIES, category_names
from ssd.detections import Detections, to_json

import numpy as np

STAT_LINES = {  # COCO's 12 numbers in its order: IoU, object size, detections of an image at most
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
SCORERS = ("hotcoco", "pycocotools")  # the same to the last bit; before NumPy 2.3, but for that bit
GOAL_MAP = 0.23  # MLPerf's target for this network, on COCO
NOTHING = "nothing to find"  # printed in place of a score that is None


class Scores(NamedTuple):
    """The result of COCO's protocol.

    stats: names of STAT_LINES to value, None where there is nothing to find (COCO's -1). per_class:
    `id`, `name` and `ap` (IoU 0.50:0.95, or None) of each category, by id. precision: (10 IoU, 101
    recall, categories), -1 where there is nothing to find.
    """

    stats: dict[str, float | None]
    per_class: list[dict[str, Any]]
    precision: np.ndarray


def score(
    instances: dict[str, Any],
    detections: Detections,
    image_ids: Iterable[int],
    scorer: str = SCORERS[0],
) -> Scores:
    """Score detections with COCO's protocol on the images of `image_ids`.

    K = 0 scores 0 (pycocotools cannot: it indexes into an empty list).
    """
    with contextlib.redirect_stdout(io.StringIO()):
        load = hotcoco_evaluation if scorer == "hotcoco" else _pycocotools
        evaluation = load(instances, detections)
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # all areas, 100 detections
    names = category_names(instances)
    per_class = []
    for k, category_id in enumerate(evaluation.params.catIds):
        known = precision[:, :, k][precision[:, :, k] > -1]
        ap = float(known.mean()) if known.size else None
        per_class.append({"id": int(category_id), "name": names[category_id], "ap": ap})
    values = (None if value < 0 else float(value) for value in evaluation.stats)
    return Scores(dict(zip(STAT_LINES, values, strict=True)), per_class, precision)


def score_logged(
    instances: dict[str, Any], found: Detections, image_ids: list[int], scorer: str
) -> tuple[Scores, list[str]]:
    """Score detections; return the scores, and the lines of MLPerf's log of it."""
    from mlperf_logging import mllog  # late: it is slow to import

    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda entry: lines.append(entry.getMessage())
    logger, keys = mllog.get_mllogger(), mllog.constants
    logger.logger = logging.Logger("ssd")  # its own one prints on stderr
    logger.logger.addHandler(handler)
    logger.event(keys.SUBMISSION_BENCHMARK, "ssd")
    logger.start(keys.EVAL_START)
    with working("scoring"):
        scores = score(instances, found, image_ids, scorer)
    logger.event(keys.EVAL_SAMPLES, len(image_ids))
    logger.event(keys.EVAL_ACCURACY, scores.stats["AP"])
    logger.end(keys.EVAL_STOP)
    return scores, lines


def format_stats(stats: dict[str, float | None]) -> str:
    """Return the 12 lines that pycocotools prints, but words in place of its -1."""
    lines = []
    for name, (iou, area, limit) in STAT_LINES.items():
        title, short = ("Precision", "(AP)") if name.startswith("AP") else ("Recall", "(AR)")
        value = NOTHING if stats[name] is None else f"{stats[name]:0.3f}"
        lines.append(
            f" {'Average ' + title:<18} {short} @[ IoU={iou:<9} | area={area:>6} | "
            f"maxDets={limit:>3} ] = {value}"
        )
    return "\n".join(lines)


def format_ap(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.5f}"


def format_per_class(per_class: list[dict[str, Any]]) -> list[str]:
    """Return a line with the AP of each category, the best first, nothing to find last."""
    ranked = sorted(per_class, key=lambda row: 1.0 if row["ap"] is None else -row["ap"])
    return [f" {row['name']:<20} {format_ap(row['ap'])}" for row in ranked]


def default_goal(instances: dict[str, Any]) -> float | None:
    """Return the mAP to reach if the user names none: GOAL_MAP for as many categories as COCO's."""
    return GOAL_MAP if len(instances["categories"]) == len(COCO_CATEGORIES) else None


def hotcoco_evaluation(instances: dict[str, Any], detections: Detections) -> Any:
    """Return hotcoco's evaluator; both sides go in as arrays, without an object for each box."""
    from hotcoco import COCO, COCOeval

    annotations = instances["annotations"]
    truth = COCO.from_arrays(
        [{"id": image["id"]} for image in instances["images"]],
        [{"id": category["id"], "name": category["name"]} for category in instances["categories"]],
        *(np.array([a[key] for a in annotations], np.int64) for key in ("image_id", "category_id")),
        np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4),
        area=np.array([a["area"] for a in annotations], np.float64),
        iscrowd=np.array([a["iscrowd"] for a in annotations], np.int64),
    )
    columns = (detections.image_id, ltrb_to_xywh(detections.ltrb))
    columns += (detections.score, detections.category_id)
    return COCOeval(truth, truth.load_res(np.column_stack(columns).astype(np.float64)), "bbox")


def _pycocotools(instances: dict[str, Any], detections: Detections) -> Any:
    """Return pycocotools' evaluator; its ids count from 1, as 0 means "matched nothing"."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = [
        result | {"area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for result in to_json(detections)
    ]  # as loadRes does, which refuses K = 0
    sides = []
    for annotations in (instances["annotations"], results):
        side = COCO()
        numbered = [annotation | {"id": i} for i, annotation in enumerate(annotations, start=1)]
        side.dataset = instances | {"annotations": numbered}
        side.createIndex()
        sides.append(side)
    return COCOeval(*sides, "bbox")
