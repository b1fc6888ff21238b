"""Which true box each detection found, and what is wrong with those that found none.

A detection is true if it is paired with a true box of its label at MATCH_IOU, best score first, by
COCO's rule. A detection without a pair that lies in a crowd of its label is neither true nor false.
All others are false, and of one of TIDE's kinds of error (Bolya et al., 2020), the first that fits:

    location    the nearest true box of its label has an IoU from BACKGROUND_IOU to MATCH_IOU
    class       a true box of another label has MATCH_IOU or more
    duplicate   a true box of its label has it, too, but a better detection took that
    background  no true box of any label has more than BACKGROUND_IOU
    both        wrong label and place

What a detection is does not depend on worse ones, so at a threshold of score it is the same.
Labels are indices here, 0 for the category of the smallest id, which is the scorer's order.
"""

from typing import Any, NamedTuple

from ssd.boxes import iou, match_boxes, xywh_to_ltrb
from ssd.detections import Detections

import numpy as np

MATCH_IOU, BACKGROUND_IOU = 0.5, 0.1
KINDS = ("found", "location", "class", "both", "duplicate", "background", "crowd")
FOUND, LOCATION, CLASS, BOTH, DUPLICATE, BACKGROUND, IN_CROWD = range(len(KINDS))
ERRORS = KINDS[LOCATION:IN_CROWD]


class Boxes(NamedTuple):
    """Boxes of all images, sorted by `image`, and within an image best score first.

    image: (N,) int64, index of the image. label: (N,) int64. ltrb: (N, 4) float64, pixels.
    score: (N,) float64, 1 for true boxes. area: (N,) float64, as annotated. crowd: (N,) bool.
    """

    image: np.ndarray
    label: np.ndarray
    ltrb: np.ndarray
    score: np.ndarray
    area: np.ndarray
    crowd: np.ndarray


class Outcome(NamedTuple):
    """What became of each detection.

    pair: (K,) int64, the index of its true box, -1 for none. kind: (K,) int64, an index of KINDS.
    near: (K,) int64, the true box that a false one was meant for, -1 for background and crowd; that
    of a found one is its pair. iou: (K,) float64, with `near`, or with the nearest true box.
    """

    pair: np.ndarray
    kind: np.ndarray
    near: np.ndarray
    iou: np.ndarray

    @property
    def false(self) -> np.ndarray:
        """(K,) bool: neither found nor in a crowd."""
        return (self.kind != FOUND) & (self.kind != IN_CROWD)


class Analysis(NamedTuple):
    """What is known of a run: the `detail` that goes into report.json, and what it follows from.

    image_ids: (images,) int64, sorted; `truth` and `found` refer to images by their index in it.
    given: (K,) int64, the true box of another label that a detection was paired with, else -1.
    category_ids, names: of each label.
    """

    detail: dict[str, Any]
    image_ids: np.ndarray
    truth: Boxes
    found: Boxes
    outcome: Outcome
    given: np.ndarray
    category_ids: list[int]
    names: list[str]


def make_boxes(
    image: np.ndarray, label: np.ndarray, ltrb: np.ndarray, score: np.ndarray, **more: np.ndarray
) -> Boxes:
    """Put boxes into Boxes' order; ties of score keep theirs."""
    order = np.lexsort((-score, image))
    area = more.get("area", (ltrb[:, 2:] - ltrb[:, :2]).prod(axis=1))
    crowd = more.get("crowd", np.zeros(len(image), bool))
    return Boxes(*(part[order] for part in (image, label, ltrb, score, area, crowd)))


def true_boxes(
    annotations: list[dict[str, Any]], image_ids: np.ndarray, category_ids: np.ndarray
) -> Boxes:
    """Return the annotated boxes of the images `image_ids`; both kinds of ids are sorted."""
    known = set(image_ids.tolist())
    rows = [a for a in annotations if a["image_id"] in known]
    return make_boxes(
        np.searchsorted(image_ids, np.array([a["image_id"] for a in rows], np.int64)),
        np.searchsorted(category_ids, np.array([a["category_id"] for a in rows], np.int64)),
        xywh_to_ltrb(np.array([a["bbox"] for a in rows], np.float64).reshape(-1, 4)),
        np.ones(len(rows)),
        area=np.array([a["area"] for a in rows], np.float64),
        crowd=np.array([a["iscrowd"] for a in rows], bool),
    )


def select(detections: Detections, image_ids: np.ndarray, category_ids: np.ndarray) -> Detections:
    """Return the detections that lie in the images and are of the categories named."""
    known_image = np.isin(detections.image_id, image_ids)
    return detections[known_image & np.isin(detections.category_id, category_ids)]


def found_boxes(detections: Detections, image_ids: np.ndarray, category_ids: np.ndarray) -> Boxes:
    """Return detections as boxes; all are of the images and categories named, which are sorted."""
    return make_boxes(
        np.searchsorted(image_ids, detections.image_id),
        np.searchsorted(category_ids, detections.category_id),
        detections.ltrb,
        detections.score,
    )


def images_with_both(truth: Boxes, found: Boxes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the indices of true boxes and of detections for each image that has both."""
    return [
        (slice_of(truth.image, image), slice_of(found.image, image))
        for image in np.intersect1d(truth.image, found.image)
    ]


def slice_of(images: np.ndarray, image: int) -> np.ndarray:
    """Return the indices of an image's boxes in the sorted `images`."""
    return np.arange(*np.searchsorted(images, [image, image + 1]))


def match(truth: Boxes, found: Boxes) -> Outcome:
    """Pair detections with true boxes of the same label, as the module's docstring says."""
    count = len(found.image)
    pair, near = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    kind, overlap = np.full(count, BACKGROUND), np.zeros(count)
    for t, f in images_with_both(truth, found):
        same, crowd = found.label[f, None] == truth.label[t], truth.crowd[t]
        got = match_boxes(found.ltrb[f], truth.ltrb[t], same & ~crowd, MATCH_IOU)
        in_crowd = np.zeros(len(f), bool)
        if crowd.any():
            inside = share_inside(found.ltrb[f, None], truth.ltrb[t][None]) >= MATCH_IOU
            in_crowd = (got < 0) & (inside & same & crowd).any(axis=1)
        shared = np.where(crowd, 0, iou(found.ltrb[f, None], truth.ltrb[t][None]))
        kind[f], nearest = false_kinds(shared, same)
        kind[f[got >= 0]], kind[f[in_crowd]] = FOUND, IN_CROWD
        nearest = np.where(got >= 0, got, nearest)
        overlap[f] = shared[np.arange(len(f)), nearest]
        pair[f] = np.where(got >= 0, t[got], -1)
        near[f] = np.where(kind[f] < BACKGROUND, t[nearest], -1)
    return Outcome(pair, kind, near, overlap)


def false_kinds(overlap: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each detection's kind of error if it is false, and the true box it was meant for.

    overlap: (K, M) IoU with the true boxes of its image. same: (K, M) bool, of its label.
    """
    own, other = np.where(same, overlap, 0), np.where(same, 0, overlap)
    rules = [
        (LOCATION, own, (own.max(axis=1) >= BACKGROUND_IOU) & (own.max(axis=1) < MATCH_IOU)),
        (CLASS, other, other.max(axis=1) >= MATCH_IOU),
        (DUPLICATE, own, own.max(axis=1) >= MATCH_IOU),
        (BACKGROUND, overlap, overlap.max(axis=1) <= BACKGROUND_IOU),
    ]
    fits = [fit for _, _, fit in rules]
    kind = np.select(fits, [kind for kind, _, _ in rules], BOTH)
    nearest = np.select(fits, [table.argmax(axis=1) for _, table, _ in rules], overlap.argmax(1))
    return kind, nearest


def share_inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the share of the area of `a` that lies in `b`: (..., 4) ltrb each -> (...)."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    area = (a[..., 2:] - a[..., :2]).prod(axis=-1)
    return sides.clip(0).prod(axis=-1) / np.maximum(area, np.finfo(float).tiny)


def found_at(found: Boxes, outcome: Outcome, score: float, num_truth: int) -> np.ndarray:
    """Return whether each true box is paired with a detection of at least `score`: (M,) bool."""
    seen = np.zeros(num_truth, bool)
    seen[outcome.pair[(outcome.kind == FOUND) & (found.score >= score)]] = True
    return seen
