"""A closer look at a run's detections: errors, curves, each class, images worth seeing."""

from pathlib import Path
from typing import Any

from ssd import coco, detections
from ssd.cli import KitError
from ssd.detections import Detections
from ssd.report import choice, diagnosis, matching, metrics, thresholds
from ssd.report.collect import compare_with_scored
from ssd.report.matching import Analysis

import numpy as np

CONFUSIONS = 20  # length of the list of the most frequent confusions


def examine(
    data: coco.DataSet, detections: Detections, score: float
) -> tuple[Analysis, Detections, np.ndarray]:
    """Find what became of each detection; return it with a `detail` of score and thresholds alone.

    And the detections of images and categories that are in the data set, which alone count, and the
    confusion matrix of ssd.report.metrics.confusion.
    Raises KitError if the annotations cannot be scored.
    """
    coco.check_scorable(data.instances, data.annotation)
    image_ids = np.array(sorted(image["id"] for image in data.selected), np.int64)
    names_by_id = dict(sorted(coco.category_names(data.instances).items()))
    category_ids, names = list(names_by_id), list(names_by_id.values())
    ids = np.array(category_ids, np.int64)
    truth = matching.true_boxes(data.instances["annotations"], image_ids, ids)
    detections = matching.select(detections, image_ids, ids)
    found = matching.found_boxes(detections, image_ids, ids)
    outcome = matching.match(truth, found)
    counts, given = metrics.confusion(truth, found, outcome, len(ids), score)
    detail = {"score": score, "by_score": {"thresholds": sorted({*thresholds.STEPS, score})}}
    made = Analysis(detail, image_ids, truth, found, outcome, given, category_ids, names)
    return made, detections, counts


def analyse(
    data: coco.DataSet, detections: Detections, stats: dict[str, float | None], score: float
) -> Analysis:
    """Return `examine`'s Analysis with all that report.json holds of it.

    stats: the 12 numbers, as the run was scored. score: the least score of a detection that counts
    in the confusion matrix, the classes' counts and the gallery, until the reader chooses another.
    Raises KitError if the annotations cannot be scored.
    """
    analysis, detections, counts = examine(data, detections, score)
    truth, found, outcome = analysis.truth, analysis.found, analysis.outcome
    image_ids, names = analysis.image_ids.tolist(), analysis.names
    evaluation = diagnosis.evaluate(data.instances, detections, image_ids)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    steps = analysis.detail["by_score"]["thresholds"]
    classes = [
        {"id": analysis.category_ids[k], "name": names[k]} | row
        for k, row in enumerate(metrics.class_rows(precision, counts))
    ]
    analysis.detail.update(
        iou=matching.MATCH_IOU,
        images=len(image_ids),
        true_boxes=int((~truth.crowd).sum()),
        crowds=int(truth.crowd.sum()),
        detections=len(detections),
        strong_detections=int((found.score >= score).sum()),
        noise=diagnosis.map_noise(data.instances, evaluation, image_ids),
        errors=diagnosis.tide(evaluation),
        by_score=thresholds.by_score(truth, found, outcome, len(names), steps),
        calibration=diagnosis.calibration(evaluation),
        labels=diagnosis.check_labels(data.instances),
        sizes=size_rows(stats, metrics.size_counts(truth)),
        histogram=metrics.histogram(found, outcome),
        classes=classes,
        confusion=counts.tolist(),
        confusions=[
            {"true": names[t], "given": names[g], "labels": [t, g], "count": count}
            | {"share": count / int(counts[t].sum())}
            for t, g, count in metrics.frequent_confusions(counts, CONFUSIONS)
        ],
        pr=metrics.pr_curves(precision),
    )
    analysis.detail["gallery"] = choice.gallery(data, analysis)
    return analysis


def size_rows(stats: dict[str, float | None], counts: dict[str, int]) -> list[dict[str, Any]]:
    """Return AP, AR and the number of true boxes of each size; None where there is no box."""
    return [
        {"size": size, "true_boxes": count}
        | {key: stats[name] for key, name in (("ap", f"AP_{size}"), ("ar", f"AR_{size}"))}
        for size, count in counts.items()
    ]


def detections_path(folder: Path, report: dict[str, Any]) -> Path:
    """Return where the detections are that a run's scores are of; it was scored."""
    return folder / f"bs{report['scored_batch']}_detections.json"


def look_closely(
    report: dict[str, Any], folder: Path, data: coco.DataSet | None, score: float
) -> Analysis | None:
    """Fill in the report's `detail` from the run's detections in `folder`; return the Analysis.

    Returns None and records the reason in `report["missing"]` if an input is not available.
    """

    def miss(what: str, *details: str) -> None:
        report["missing"].append({"what": what, "details": list(details)})

    report |= {"missing": [], "detail": None}
    if report["scored_batch"] is None:
        return miss("scores")
    if data is None:
        return miss("data")
    path = detections_path(folder, report)
    try:
        found = detections.from_json(path)
    except KitError as error:
        return miss("detections", str(error))
    try:
        analysis = analyse(data, found, report["stats"], score)
    except KitError as error:
        return miss("annotations", str(error))
    report["detail"] = analysis.detail
    differences = compare_with_scored(report, data, path, len(found))
    if differences:
        miss("mismatch", *differences)
    return analysis
