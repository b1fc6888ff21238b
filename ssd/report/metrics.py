"""Counts and curves that follow from what became of the detections (ssd.report.matching)."""

from typing import Any

from ssd.boxes import match_boxes
from ssd.report.matching import (
    FOUND,
    MATCH_IOU,
    Boxes,
    Outcome,
    found_at,
    images_with_both,
)

import numpy as np

CURVES = {"0.50": 0, "0.75": 5}  # IoU of a curve, and its index among the scorer's ten
BINS = 20  # bins of the histogram of scores
SIZES = {  # COCO's ranges of area in square pixels, both ends included
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}


def confusion(
    truth: Boxes, found: Boxes, outcome: Outcome, labels: int, score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return counts (labels + 1, labels + 1) int64: rows are true labels, columns detected ones.

    And for each detection the true box of another label that it was paired with: (K,) int64, or -1.

    Only detections of at least `score` count. After the pairs of the same label, what is left over
    is paired with what is left over of any label at MATCH_IOU. The last row holds detections
    without a true box (background), the last column true boxes without detection (missed). Crowds
    are left out.
    """
    counts = np.zeros((labels + 1, labels + 1), np.int64)
    seen = found_at(found, outcome, score, len(truth.image))
    np.add.at(counts, (truth.label[seen],) * 2, 1)
    given = np.full(len(found.image), -1, np.int64)
    left_truth = ~seen & ~truth.crowd
    left_found = (found.score >= score) & outcome.false
    for t, f in images_with_both(truth, found):
        t, f = t[left_truth[t]], f[left_found[f]]
        got = match_boxes(found.ltrb[f], truth.ltrb[t], np.True_, MATCH_IOU)
        t, f = t[got[got >= 0]], f[got >= 0]
        np.add.at(counts, (truth.label[t], found.label[f]), 1)
        given[f] = t
        left_truth[t] = left_found[f] = False
    np.add.at(counts[:, labels], truth.label[left_truth], 1)
    np.add.at(counts[labels], found.label[left_found], 1)
    return counts, given


def histogram(found: Boxes, outcome: Outcome) -> dict[str, list]:
    """Count true and false detections by score, in BINS of equal width from 0 to 1."""
    counts = {
        name: np.histogram(found.score[chosen], BINS, (0, 1))[0].tolist()
        for name, chosen in (("true", outcome.kind == FOUND), ("false", outcome.false))
    }
    return {"edges": [i / BINS for i in range(BINS + 1)]} | counts


def pr_curves(precision: np.ndarray) -> dict[str, Any]:
    """Return precision at recall 0, 0.01, ... 1, of each label and the mean over labels.

    precision: (10, 101, labels), the scorer's, -1 where there is nothing to find. Curves are of
    IoU 0.50, 0.75 and the mean of the ten, four decimals; None for a label without a true box.
    """
    scored = precision[0, 0] > -1
    curves = {name: precision[i] for name, i in CURVES.items()} | {"mean": precision.mean(axis=0)}

    def points(curve: np.ndarray) -> list[float]:
        return curve.round(4).tolist()

    if not scored.any():
        return {"overall": None, "classes": [None] * len(scored)}
    classes = [
        {name: points(curve[:, k]) for name, curve in curves.items()} if scored[k] else None
        for k in range(len(scored))
    ]
    overall = {name: points(curve[:, scored].mean(axis=1)) for name, curve in curves.items()}
    return {"overall": overall, "classes": classes}


def class_rows(precision: np.ndarray, counts: np.ndarray) -> list[dict[str, Any]]:
    """Return AP, AP50, AP75 of each label, and its counts from a confusion matrix.

    precision: as in `pr_curves`. AP is None where there is nothing to find.
    """
    rows = []
    for k in range(len(counts) - 1):
        table = precision[:, :, k]
        aps = {"ap": table.mean(), "ap50": table[0].mean(), "ap75": table[5].mean()}
        true, given, hits = int(counts[k].sum()), int(counts[:, k].sum()), int(counts[k, k])
        rows.append(
            {name: float(ap) if table[0, 0] > -1 else None for name, ap in aps.items()}
            | {"true_boxes": true, "detections": given, "found": hits}
            | {"missed": true - hits, "false": given - hits}
            | {
                "precision": hits / given if given else None,
                "recall": hits / true if true else None,
            }
        )
    return rows


def size_counts(truth: Boxes) -> dict[str, int]:
    """Count the true boxes of each of COCO's sizes; crowds are left out.

    A box on the bound of two sizes counts in both, as it does in their AP.
    """
    area = truth.area[~truth.crowd]
    ranges = SIZES.items()
    return {name: int(((area >= low) & (area <= high)).sum()) for name, (low, high) in ranges}


def size_of(area: np.ndarray) -> np.ndarray:
    """Return the index in SIZES of areas in square pixels; one on a bound is of the larger size."""
    return np.searchsorted([low for low, _ in SIZES.values()][1:], area, side="right")


def frequent_confusions(counts: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """Return the most frequent (true label, given label, count) of two different labels."""
    wrong = counts[:-1, :-1].copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(t), int(g), int(wrong[t, g])) for t, g in pairs if wrong[t, g]]


def image_counts(
    truth: Boxes, found: Boxes, outcome: Outcome, images: int, score: float
) -> dict[str, np.ndarray]:
    """Count found and missed true boxes and false detections of each image: (images,) each."""
    seen = found_at(found, outcome, score, len(truth.image))
    wrong = (found.score >= score) & outcome.false
    return {
        "found": np.bincount(truth.image[seen], minlength=images),
        "missed": np.bincount(truth.image[~seen & ~truth.crowd], minlength=images),
        "false": np.bincount(found.image[wrong], minlength=images),
    }


def counts_of(counts: dict[str, np.ndarray], image: int) -> dict[str, Any]:
    """Return an image's found, missed and false boxes, and F1; None where there is no box."""
    numbers = {name: int(values[image]) for name, values in counts.items()}
    total = 2 * numbers["found"] + numbers["missed"] + numbers["false"]
    return numbers | {"f1": 2 * numbers["found"] / total if total else None}
