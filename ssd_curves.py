"""What became of each detection and each true box, and the curves and counts that follow.

A detection is true if it is paired with a true box of its label at MATCH_IOU, best score first, by
COCO's rule. One that is not, but lies in a crowd of its label, is neither true nor false. The rest
is false. Labels are indices here, 0 for the category of the smallest id: the scorer's order.
"""

from typing import Any, NamedTuple

import numpy as np

from ssd_boxes import match_boxes

MATCH_IOU = 0.5
CURVES = {"0.50": 0, "0.75": 5}  # IoU, and its place among the scorer's ten
BINS = 20  # of the histogram of scores
SMALL, MEDIUM = 32**2, 96**2  # square pixels: COCO's bounds of object sizes
FALSE, TRUE, IN_CROWD = 0, 1, 2


class Boxes(NamedTuple):
    """Boxes of all pictures, in order of `image`, and within one best score first.

    image: (N,) int64, index of the picture. label: (N,) int64. ltrb: (N, 4) float64, pixels.
    score: (N,) float64, 1 for true boxes. area: (N,) float64, as annotated. crowd: (N,) bool.
    """

    image: np.ndarray
    label: np.ndarray
    ltrb: np.ndarray
    score: np.ndarray
    area: np.ndarray
    crowd: np.ndarray


class Outcome(NamedTuple):
    """pair: (K,) int64, each detection's true box, -1 for none. kind: (K,), TRUE, FALSE, ..."""

    pair: np.ndarray
    kind: np.ndarray


def make_boxes(
    image: np.ndarray, label: np.ndarray, xywh: np.ndarray, score: np.ndarray, **more: np.ndarray
) -> Boxes:
    """Put boxes (N, 4) x, y, width, height into Boxes' order; ties of score keep theirs."""
    order = np.lexsort((-score, image))
    ltrb = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    area = more.get("area", xywh[:, 2] * xywh[:, 3])
    crowd = more.get("crowd", np.zeros(len(image), bool))
    return Boxes(*(part[order] for part in (image, label, ltrb, score, area, crowd)))


def true_boxes(
    annotations: list[dict[str, Any]], image_ids: np.ndarray, category_ids: np.ndarray
) -> Boxes:
    """Return the annotated boxes of the pictures `image_ids`; both kinds of ids are sorted."""
    rows = [a for a in annotations if a["image_id"] in set(image_ids.tolist())]
    return make_boxes(
        np.searchsorted(image_ids, np.array([a["image_id"] for a in rows], np.int64)),
        np.searchsorted(category_ids, np.array([a["category_id"] for a in rows], np.int64)),
        np.array([a["bbox"] for a in rows], np.float64).reshape(-1, 4),
        np.ones(len(rows)),
        area=np.array([a["area"] for a in rows], np.float64),
        crowd=np.array([a["iscrowd"] for a in rows], bool),
    )


def found_boxes(rows: np.ndarray, image_ids: np.ndarray, category_ids: np.ndarray) -> Boxes:
    """Return result rows (K, 7) as boxes; those of other pictures or categories are left out."""
    rows = rows[np.isin(rows[:, 0], image_ids) & np.isin(rows[:, 6], category_ids)]
    return make_boxes(
        np.searchsorted(image_ids, rows[:, 0]),
        np.searchsorted(category_ids, rows[:, 6]),
        rows[:, 1:5],
        rows[:, 5],
    )


def pictures(truth: Boxes, found: Boxes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each picture that has both, the indices of its true boxes and detections."""
    return [
        (slice_of(truth.image, image), slice_of(found.image, image))
        for image in np.intersect1d(truth.image, found.image)
    ]


def slice_of(images: np.ndarray, image: int) -> np.ndarray:
    """Return the indices of a picture's boxes in the sorted `images`."""
    return np.arange(*np.searchsorted(images, [image, image + 1]))


def match(truth: Boxes, found: Boxes) -> Outcome:
    """Pair detections with true boxes of their own label, as the module's docstring says."""
    pair, kind = np.full(len(found.image), -1, np.int64), np.full(len(found.image), FALSE)
    for t, f in pictures(truth, found):
        same = found.label[f, None] == truth.label[t]
        plain, crowd = same & ~truth.crowd[t], same & truth.crowd[t]
        got = match_boxes(found.ltrb[f], truth.ltrb[t], plain, MATCH_IOU)
        pair[f] = np.where(got >= 0, t[got], -1)
        kind[f[got >= 0]] = TRUE
        if crowd.any():
            inside = share_inside(found.ltrb[f, None], truth.ltrb[t][None]) >= MATCH_IOU
            kind[f[(got < 0) & (inside & crowd).any(axis=1)]] = IN_CROWD
    return Outcome(pair, kind)


def share_inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return which share of each of `a` lies in `b`: ltrb that broadcast, (..., 4) -> (...)."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    area = (a[..., 2:] - a[..., :2]).prod(axis=-1)
    return sides.clip(0).prod(axis=-1) / np.maximum(area, np.finfo(float).tiny)


def found_at(found: Boxes, outcome: Outcome, score: float, num_truth: int) -> np.ndarray:
    """Tell which true boxes a detection of at least `score` is paired with: (M,) bool."""
    seen = np.zeros(num_truth, bool)
    seen[outcome.pair[(outcome.kind == TRUE) & (found.score >= score)]] = True
    return seen


def confusion(
    truth: Boxes, found: Boxes, outcome: Outcome, labels: int, score: float
) -> np.ndarray:
    """Return counts (labels + 1, labels + 1) int64: rows the true label, columns the one given.

    Of detections of at least `score`. After the pairs of one label, what is left over is paired
    with what is left over of any label at MATCH_IOU. The last row holds detections without a true
    box (background), the last column true boxes without detection (missed). Crowds count nowhere.
    """
    counts = np.zeros((labels + 1, labels + 1), np.int64)
    seen = found_at(found, outcome, score, len(truth.image))
    np.add.at(counts, (truth.label[seen],) * 2, 1)
    left_truth = ~seen & ~truth.crowd
    left_found = (found.score >= score) & (outcome.kind == FALSE)
    for t, f in pictures(truth, found):
        t, f = t[left_truth[t]], f[left_found[f]]
        got = match_boxes(found.ltrb[f], truth.ltrb[t], np.True_, MATCH_IOU)
        t, f = t[got[got >= 0]], f[got >= 0]
        np.add.at(counts, (truth.label[t], found.label[f]), 1)
        left_truth[t] = left_found[f] = False
    np.add.at(counts[:, labels], truth.label[left_truth], 1)
    np.add.at(counts[labels], found.label[left_found], 1)
    return counts


def histogram(found: Boxes, outcome: Outcome) -> dict[str, list]:
    """Count true and false detections by score, in BINS of equal width from 0 to 1."""
    counts = {
        name: np.histogram(found.score[outcome.kind == kind], BINS, (0, 1))[0].tolist()
        for name, kind in (("true", TRUE), ("false", FALSE))
    }
    return {"edges": [i / BINS for i in range(BINS + 1)]} | counts


def best_f1(truth: Boxes, found: Boxes, outcome: Outcome) -> dict[str, float] | None:
    """Return the score at which F1 over all labels is highest, and F1, precision, recall there.

    None where no detection is true.
    """
    judged = outcome.kind != IN_CROWD
    order = np.argsort(-found.score[judged], kind="stable")
    scores, right = found.score[judged][order], (outcome.kind[judged] == TRUE)[order]
    if not right.any():
        return None
    hits, taken = np.cumsum(right), np.arange(1, len(right) + 1)
    f1 = 2 * hits / (taken + (~truth.crowd).sum())
    f1[:-1][scores[:-1] == scores[1:]] = 0  # a bound parts no equal scores
    i = int(f1.argmax())
    precision, recall = hits[i] / taken[i], hits[i] / (~truth.crowd).sum()
    values = {"score": scores[i], "f1": f1[i], "precision": precision, "recall": recall}
    return {name: float(value) for name, value in values.items()}


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


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def size_counts(truth: Boxes) -> dict[str, int]:
    """Count the true boxes of each of COCO's sizes; crowds are left out."""
    area = truth.area[~truth.crowd]
    small, large = int((area < SMALL).sum()), int((area >= MEDIUM).sum())
    return {"small": small, "medium": len(area) - small - large, "large": large}


def frequent_confusions(counts: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """Return the most frequent (true label, given label, count) of two different labels."""
    wrong = counts[:-1, :-1].copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(t), int(g), int(wrong[t, g])) for t, g in pairs if wrong[t, g]]


def picture_counts(
    truth: Boxes, found: Boxes, outcome: Outcome, images: int, score: float
) -> dict[str, np.ndarray]:
    """Count, for each picture, found and missed true boxes and false detections: (images,) each."""
    seen = found_at(found, outcome, score, len(truth.image))
    wrong = (found.score >= score) & (outcome.kind == FALSE)
    return {
        "found": np.bincount(truth.image[seen], minlength=images),
        "missed": np.bincount(truth.image[~seen & ~truth.crowd], minlength=images),
        "false": np.bincount(found.image[wrong], minlength=images),
    }
