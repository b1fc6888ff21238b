"""What hotcoco finds beyond the 12 numbers: TIDE's errors, calibration, noise, faults in labels."""

from typing import Any

from ssd import coco, coco_eval
from ssd.detections import Detections, concatenate
from ssd.report.matching import BACKGROUND_IOU, MATCH_IOU

from hotcoco import COCO, COCOeval, compare

ERROR_NAMES = {  # hotcoco's names of TIDE's errors
    "location": "Loc",
    "class": "Cls",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
BINS = 10  # of the calibration, by score
SAMPLES = 100  # of the bootstrap: its error is known to about 7 % of it
SEED = 0
NORMAL_95 = 1.96  # standard errors on both sides that hold 95 % of a normal distribution
ANNOTATION_KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
MOST_IDS = 5  # annotations that a finding names


def evaluate(instances: dict[str, Any], detections: Detections, image_ids: list[int]) -> COCOeval:
    """Return hotcoco's evaluation over all sizes and 100 detections, which is what mAP is of."""
    evaluation = coco_eval.hotcoco_evaluation(instances, detections)
    params = evaluation.params
    params.img_ids = sorted(image_ids)
    params.area_rng, params.area_rng_lbl, params.max_dets = [[0, 1e10]], ["all"], [100]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # fills in what compare() reads, and prints nothing
    return evaluation


def tide(evaluation: COCOeval) -> dict[str, Any]:
    """Return AP at IoU 0.50, and by how much it would rise without each kind of error.

    Bolya et al., 2020: each kind is mended alone, so the gains do not add up.
    """
    found = evaluation.tide_errors(MATCH_IOU, BACKGROUND_IOU)
    gains = {name: found["delta_ap"][theirs] for name, theirs in ERROR_NAMES.items()}
    return {"ap50": found["ap_base"], "delta_ap": gains}


def calibration(evaluation: COCOeval) -> dict[str, Any]:
    """Return the share of true detections by score, and the expected calibration error.

    The error is the mean distance of score and share, weighted by the detections of each bin; None
    without any. Bins without a detection are left out.
    """
    found = evaluation.calibration(BINS, MATCH_IOU)
    keys = {"low": "bin_lower", "high": "bin_upper", "score": "avg_confidence"}
    keys |= {"true": "avg_accuracy", "count": "count"}
    bins = [{key: row[theirs] for key, theirs in keys.items()} for row in found["bins"]]
    bins = [row for row in bins if row["count"]]
    return {"error": found["ece"] if bins else None, "bins": bins}


def noise(a: COCOeval, b: COCOeval) -> float:
    """Return half the width of the 95 % interval of B's mAP minus A's, over images like these.

    By bootstrap: both are scored on the same SAMPLES draws of the images, with replacement. Draws
    repeat images, which lifts each mAP a little, so their spread is taken and not their bounds.
    """
    return NORMAL_95 * compare(a, b, SAMPLES, SEED, 0.95)["ci"]["AP"]["std_err"]


def map_noise(instances: dict[str, Any], evaluation: COCOeval, image_ids: list[int]) -> float:
    """Return half the width of the 95 % interval of a mAP: its `noise` against finding nothing."""
    return noise(evaluate(instances, concatenate([]), image_ids), evaluation)


def check_labels(instances: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what looks wrong in the annotations: hotcoco's code and words, how many, some ids."""
    annotations = [{key: a[key] for key in ANNOTATION_KEYS} for a in instances["annotations"]]
    found = COCO(coco.prepare(instances, False) | {"annotations": annotations}).healthcheck()
    return [
        {"code": row["code"], "message": row["message"]}
        | {"count": len(row["affected_ids"]), "ids": sorted(row["affected_ids"])[:MOST_IDS]}
        for row in (*found["errors"], *found["warnings"])
    ]
