"""Counts, precision, recall and F1 at each threshold of the score, for all classes and each."""

from typing import Any

from ssd.report.matching import ERRORS, FOUND, IN_CROWD, KINDS, Boxes, Outcome

import numpy as np

STEPS = tuple(i / 20 for i in range(1, 20))  # 0.05 to 0.95: thresholds that the page offers


def levels(scores: np.ndarray, thresholds: list[float]) -> np.ndarray:
    """Return how many of the ascending `thresholds` each score reaches: as `scores`, int64."""
    return np.searchsorted(thresholds, scores, side="right")


def true_levels(
    truth: Boxes, found: Boxes, outcome: Outcome, thresholds: list[float]
) -> np.ndarray:
    """Return at how many thresholds each true box is found: (M,) int64, 0 if never."""
    reached = np.zeros(len(truth.image), np.int64)
    paired = outcome.kind == FOUND
    reached[outcome.pair[paired]] = levels(found.score[paired], thresholds)
    return reached


def kind_counts(found: Boxes, outcome: Outcome, labels: int, thresholds: list[float]) -> np.ndarray:
    """Count the detections of each label and kind at each threshold: (labels, kinds, T) int64."""
    counts = np.zeros((labels, len(KINDS), len(thresholds) + 1), np.int64)
    np.add.at(counts, (found.label, outcome.kind, levels(found.score, thresholds)), 1)
    return counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]


def rows(counts: np.ndarray, true_boxes: int) -> dict[str, list]:
    """Return found, missed, false, each kind of error, precision, recall and F1 at each threshold.

    counts: (kinds, T), of one label or all. A ratio with nothing to divide by is None.
    """
    found, false = counts[FOUND], counts[FOUND + 1 : IN_CROWD].sum(axis=0)
    made = {"found": found, "missed": true_boxes - found, "false": false}
    made |= dict(zip(ERRORS, counts[FOUND + 1 : IN_CROWD], strict=True))
    ratios = {
        "precision": (found, found + false),
        "recall": (found, np.full_like(found, true_boxes)),
        "f1": (2 * found, found + false + true_boxes),
    }
    return {name: column.tolist() for name, column in made.items()} | {
        name: [float(a / b) if b else None for a, b in zip(*parts, strict=True)]
        for name, parts in ratios.items()
    }


def best_f1(scores: np.ndarray, right: np.ndarray, true_boxes: int) -> dict[str, float] | None:
    """Return the score at which F1 is highest, and F1, precision and recall there.

    scores, right: (K,), of the detections that count, and whether each is true. None where none is.
    """
    if not right.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, hits, taken = scores[order], np.cumsum(right[order]), np.arange(1, len(right) + 1)
    f1 = 2 * hits / (taken + true_boxes)
    f1[:-1][scores[:-1] == scores[1:]] = 0  # a threshold cannot separate equal scores
    i = int(f1.argmax())
    values = {"score": scores[i], "f1": f1[i], "precision": hits[i] / taken[i]}
    values["recall"] = hits[i] / true_boxes
    return {name: float(value) for name, value in values.items()}


def by_score(
    truth: Boxes, found: Boxes, outcome: Outcome, labels: int, thresholds: list[float]
) -> dict[str, Any]:
    """Return `rows` and `best_f1` over all labels, and of each label."""
    counts = kind_counts(found, outcome, labels, thresholds)
    true_boxes = np.bincount(truth.label[~truth.crowd], minlength=labels)
    counted = outcome.kind != IN_CROWD
    right, scores = (outcome.kind == FOUND)[counted], found.score[counted]
    order = np.argsort(found.label[counted], kind="stable")
    ends = np.searchsorted(found.label[counted][order], np.arange(labels + 1))
    places = [order[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    parts = [(counts.sum(axis=0), int(true_boxes.sum()), slice(None))]
    parts += zip(counts, true_boxes.tolist(), places, strict=True)
    made = [
        rows(table, total) | {"best_f1": best_f1(scores[place], right[place], total)}
        for table, total, place in parts
    ]
    return {"thresholds": thresholds, "all": made[0], "classes": made[1:]}
