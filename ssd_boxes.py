"""Default boxes, encoding, decoding and NMS of SSD300-ResNet34, in NumPy.

Boxes are fractions of the picture (0..1) unless a name says otherwise. `cxcywh` is centre and
size, `ltrb` is left, top, right, bottom. Numbers: the MLPerf v0.7 SSD reference.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

INPUT_SIZE = 300  # pixels, width and height
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB, on pictures scaled to 0..1
STD = (0.229, 0.224, 0.225)

FEATURE_SIZES = (38, 19, 10, 5, 3, 1)  # cells along one side of each map
STEPS = (8, 16, 32, 64, 100, 300)  # pixels of the input from cell to cell
SCALES = (21, 45, 99, 153, 207, 261, 315)  # pixels
ASPECT_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
BOXES_PER_CELL = tuple(2 + 2 * len(ratios) for ratios in ASPECT_RATIOS)
BOXES_PER_MAP = tuple(n * size**2 for n, size in zip(BOXES_PER_CELL, FEATURE_SIZES, strict=True))
NUM_BOXES = sum(BOXES_PER_MAP)

SCALE_XY = np.float32(0.1)
SCALE_WH = np.float32(0.2)

MIN_SCORE = np.float32(0.05)  # a candidate scores more than this
MAX_DETECTIONS = 200  # per label before NMS, and per picture after it
NMS_IOU = np.float32(0.5)  # a box this near to a better one is dropped
NMS_BLOCK = 256  # candidates compared with each other at a time


class Detections(NamedTuple):
    """What was found in one picture, best first; K may be 0.

    ltrb: (K, 4) float32, not clipped. scores: (K,) float32. labels: (K,) int64, 1 is the first.
    """

    ltrb: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@cache
def default_boxes() -> np.ndarray:
    """Return the default boxes: (8732, 4) float32 cxcywh, clipped to 0..1, read-only.

    Order: map, then size, then row, then column, which is the order of the heads' channels.
    """
    boxes = []
    for k, (cells, ratios) in enumerate(zip(FEATURE_SIZES, ASPECT_RATIOS, strict=True)):
        small, large = SCALES[k] / INPUT_SIZE, SCALES[k + 1] / INPUT_SIZE
        sizes = [(small, small), (np.sqrt(small * large),) * 2]
        for ratio in ratios:
            long, short = small * np.sqrt(ratio), small / np.sqrt(ratio)
            sizes += [(long, short), (short, long)]
        centres = (np.arange(cells) + 0.5) / (INPUT_SIZE / STEPS[k])
        cy, cx = np.meshgrid(centres, centres, indexing="ij")
        for width, height in sizes:
            box = np.stack([cx, cy, np.full_like(cx, width), np.full_like(cx, height)], axis=-1)
            boxes.append(box.reshape(-1, 4))
    result = np.concatenate(boxes).astype(np.float32).clip(0, 1)
    result.flags.writeable = False
    return result


def cxcywh_to_ltrb(cxcywh: np.ndarray) -> np.ndarray:
    """Turn (..., 4) centres and sizes into corners."""
    half = cxcywh[..., 2:] * np.float32(0.5)
    return np.concatenate([cxcywh[..., :2] - half, cxcywh[..., :2] + half], axis=-1)


def ltrb_to_cxcywh(ltrb: np.ndarray) -> np.ndarray:
    """Turn (..., 4) corners into centres and sizes."""
    centre = (ltrb[..., :2] + ltrb[..., 2:]) * np.float32(0.5)
    return np.concatenate([centre, ltrb[..., 2:] - ltrb[..., :2]], axis=-1)


def encode_boxes(cxcywh: np.ndarray, defaults: np.ndarray) -> np.ndarray:
    """Return the offsets (N, 4) that `decode_boxes` turns back into `cxcywh` (N, 4).

    defaults: (N, 4) cxcywh, the default box that each box was matched to.
    """
    xy = (cxcywh[:, :2] - defaults[:, :2]) / defaults[:, 2:] / SCALE_XY
    wh = np.log(cxcywh[:, 2:] / defaults[:, 2:]) / SCALE_WH
    return np.concatenate([xy, wh], axis=1)


def decode_boxes(ploc: np.ndarray, defaults: np.ndarray) -> np.ndarray:
    """Apply offsets (4, N) to default boxes (N, 4) cxcywh; return (N, 4) ltrb, not clipped."""
    loc = ploc.T
    xy = loc[:, :2] * SCALE_XY * defaults[:, 2:] + defaults[:, :2]
    with np.errstate(over="ignore"):  # a wild offset gives an infinite box, as in the reference
        wh = np.exp(loc[:, 2:] * SCALE_WH) * defaults[:, 2:]
    return cxcywh_to_ltrb(np.concatenate([xy, wh], axis=1))


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of ltrb boxes that broadcast: (..., 4) each -> (...).

    0 where neither box has an area.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # of infinite boxes too
        left_top = np.maximum(a[..., :2], b[..., :2])
        sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - left_top, 0)
        shared = sides[..., 0] * sides[..., 1]
        area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
        area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
        return np.nan_to_num(shared / (area_a + area_b - shared), nan=0.0)


def match_boxes(a: np.ndarray, b: np.ndarray, allowed: np.ndarray, least: float) -> np.ndarray:
    """Pair boxes greedily: each of `a`, best first, takes the nearest free box of `b`.

    a: (K, 4), b: (M, 4) ltrb. allowed: bool that broadcasts to (K, M), True where a pair may be.
    Returns the index into `b` of each of `a`, -1 where no free box has an IoU of `least` or more:
    (K,) int64. Of equally near ones the first is taken, which is COCO's rule but for crowds.
    """
    overlap = np.where(allowed, iou(a[:, None], b[None]), -1.0)  # (K, M)
    pairs = np.full(len(a), -1, np.int64)
    for i in range(len(a) if len(b) else 0):
        nearest = overlap[i].argmax()
        if overlap[i, nearest] >= least:
            pairs[i] = nearest
            overlap[:, nearest] = -1.0
    return pairs


def nms(ltrb: np.ndarray, labels: np.ndarray, limit: int = MAX_DETECTIONS) -> np.ndarray:
    """Return the indices of the boxes that greedy NMS within each label keeps, at most `limit`.

    ltrb: (N, 4) and labels: (N,), best first. As all labels are walked in one order of score, the
    first `limit` kept are the best `limit` of all labels, and the rest need no look.
    Blocks bound the cost: each is compared with what is kept so far, then with itself.
    """
    kept = np.empty(0, np.int64)
    for start in range(0, len(ltrb), NMS_BLOCK):
        block = np.arange(start, min(start + NMS_BLOCK, len(ltrb)))
        block = block[~_overlaps(ltrb, labels, block, kept).any(axis=1)]
        worse = np.triu(_overlaps(ltrb, labels, block, block), k=1)  # row: better, column: worse
        alive = np.ones(len(block), bool)
        for i in np.flatnonzero(worse.any(axis=1)):
            if alive[i]:
                alive &= ~worse[i]
        kept = np.concatenate([kept, block[alive]])[:limit]
        if len(kept) == limit:
            break
    return kept


def _overlaps(ltrb: np.ndarray, labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tell which of the boxes `a` (indices) NMS counts as the same as which of `b`: (A, B) bool."""
    result = labels[a][:, None] == labels[b]
    rows, columns = np.nonzero(result)
    result[rows, columns] = iou(ltrb[a[rows]], ltrb[b[columns]]) >= NMS_IOU
    return result


def candidates(plabel: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the (box, label, score) of each score above MIN_SCORE, best first, ties by label.

    plabel: (labels, N) float32 logits, background first. Only the best MAX_DETECTIONS of each
    label are returned. A softmax of everything would be wasted: next to the box's largest logit m
    a label's score is at most exp(logit - m), so few boxes can have one above MIN_SCORE.
    """
    best_object = plabel[1:].max(axis=0)
    best = np.maximum(best_object, plabel[0])
    slack = np.float32(1e-3)  # rounding must not lose a candidate; the true test comes below
    boxes = np.flatnonzero(best_object > best + np.log(MIN_SCORE) - slack)
    raised = np.exp(plabel[:, boxes] - best[boxes])
    scores = raised[1:] / raised.sum(axis=0)
    labels, columns = np.nonzero(scores > MIN_SCORE)
    scores = scores[labels, columns]
    order = np.lexsort((-scores, labels))
    labels, columns, scores = labels[order], columns[order], scores[order]
    rank = np.arange(len(labels)) - np.searchsorted(labels, labels)  # place within the label
    order = np.flatnonzero(rank < MAX_DETECTIONS)
    order = order[np.argsort(-scores[order], kind="stable")]
    return boxes[columns[order]], labels[order] + 1, scores[order]


def decode(ploc: np.ndarray, plabel: np.ndarray) -> Detections:
    """Turn the network's raw outputs for one picture into detections.

    ploc: (4, 8732) float32 offsets. plabel: (labels, 8732) float32 logits, background first.
    Softmax, per-label NMS and the limits are the MLPerf reference's (`MIN_SCORE`, `NMS_IOU`,
    `MAX_DETECTIONS`). No candidate gives K = 0.
    """
    boxes, labels, scores = candidates(plabel)
    ltrb = decode_boxes(ploc[:, boxes], default_boxes()[boxes])
    kept = nms(ltrb, labels)
    return Detections(ltrb[kept], scores[kept], labels[kept])
