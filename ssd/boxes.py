"""Default boxes, encoding, decoding and NMS of SSD300-ResNet34, in NumPy.

Boxes are fractions of the image (0..1) unless a name says otherwise. `cxcywh` is center and size,
`ltrb` is left, top, right, bottom, `xywh` is left, top, width, height. The numbers are those of the
MLPerf v0.7 SSD reference.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Spec:
    """The numbers of a detector of the SSD family.

    input_size: pixels, width and height. feature_sizes: cells along a side of each map. steps:
    pixels of the input from cell to cell of each map. scales: pixels, a box's size on each map and
    a last one beyond. aspect_ratios: those of each map. labels: with the background, which is 0.
    mean, std: of RGB scaled to 0..1, by which the input is normalized.
    """

    input_size: int
    feature_sizes: tuple[int, ...]
    steps: tuple[int, ...]
    scales: tuple[int, ...]
    aspect_ratios: tuple[tuple[int, ...], ...]
    labels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)

    @property
    def boxes_per_map(self) -> tuple[int, ...]:
        sizes = zip(self.boxes_per_cell, self.feature_sizes, strict=True)
        return tuple(boxes * cells**2 for boxes, cells in sizes)

    @property
    def num_boxes(self) -> int:
        return sum(self.boxes_per_map)


SSD300 = Spec(
    input_size=300,
    feature_sizes=(38, 19, 10, 5, 3, 1),
    steps=(8, 16, 32, 64, 100, 300),
    scales=(21, 45, 99, 153, 207, 261, 315),
    aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    labels=81,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

SCALE_XY = np.float32(0.1)
SCALE_WH = np.float32(0.2)

MIN_SCORE = np.float32(0.05)  # a candidate scores more than this
MAX_DETECTIONS = 200  # per label before NMS, and per image after it
NMS_IOU = np.float32(0.5)  # a box that overlaps a better one this much is dropped
NMS_BLOCK = 256  # candidates compared with each other at a time


class DecodedBoxes(NamedTuple):
    """What was found in one image, best first; K may be 0.

    ltrb: (K, 4) float32, fractions of the image, not clipped. scores: (K,) float32. labels: (K,)
    int64, 1 is the first.
    """

    ltrb: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@cache
def default_boxes(spec: Spec = SSD300) -> np.ndarray:
    """Return the default boxes: (8732, 4) float32 cxcywh for SSD300, clipped to 0..1, read-only.

    Order: map, then size, then row, then column, which is the order of the heads' channels.
    """
    boxes = []
    for k, (cells, ratios) in enumerate(zip(spec.feature_sizes, spec.aspect_ratios, strict=True)):
        small, large = (scale / spec.input_size for scale in spec.scales[k : k + 2])
        sizes = [(small, small), (np.sqrt(small * large),) * 2]
        for ratio in ratios:
            long, short = small * np.sqrt(ratio), small / np.sqrt(ratio)
            sizes += [(long, short), (short, long)]
        centers = (np.arange(cells) + 0.5) / (spec.input_size / spec.steps[k])
        cy, cx = np.meshgrid(centers, centers, indexing="ij")
        for width, height in sizes:
            box = np.stack([cx, cy, np.full_like(cx, width), np.full_like(cx, height)], axis=-1)
            boxes.append(box.reshape(-1, 4))
    result = np.concatenate(boxes).astype(np.float32).clip(0, 1)
    result.flags.writeable = False
    return result


def cxcywh_to_ltrb(cxcywh: np.ndarray) -> np.ndarray:
    """Turn (..., 4) centers and sizes into corners."""
    half = cxcywh[..., 2:] * np.float32(0.5)
    return np.concatenate([cxcywh[..., :2] - half, cxcywh[..., :2] + half], axis=-1)


def ltrb_to_cxcywh(ltrb: np.ndarray) -> np.ndarray:
    """Turn (..., 4) corners into centers and sizes."""
    center = (ltrb[..., :2] + ltrb[..., 2:]) * np.float32(0.5)
    return np.concatenate([center, ltrb[..., 2:] - ltrb[..., :2]], axis=-1)


def xywh_to_ltrb(xywh: np.ndarray) -> np.ndarray:
    """Turn (..., 4) left, top, width, height, which is COCO's form, into corners."""
    return np.concatenate([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], axis=-1)


def ltrb_to_xywh(ltrb: np.ndarray) -> np.ndarray:
    """Turn (..., 4) corners into left, top, width, height, which is COCO's form."""
    return np.concatenate([ltrb[..., :2], ltrb[..., 2:] - ltrb[..., :2]], axis=-1)


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
    """Return which boxes `a` and `b` (indices) NMS counts as the same: (A, B) bool."""
    result = labels[a][:, None] == labels[b]
    rows, columns = np.nonzero(result)
    result[rows, columns] = iou(ltrb[a[rows]], ltrb[b[columns]]) >= NMS_IOU
    return result


class Candidates(NamedTuple):
    """The scores of one image above MIN_SCORE, best first, ties by label; K may be 0.

    boxes: (K,) indices of default boxes. ploc: (4, K) float32, their offsets. scores: (K,) float32.
    labels: (K,) int64, 1 is the first.
    """

    boxes: np.ndarray
    ploc: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def _half_ends(half: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the largest float16 of each column as float32, and whether all values are finite.

    half: (rows, N). NumPy compares float16 a hundred times slower than whole numbers. The bits of
    positive ones are ordered as they are; those of negative ones the other way, so where a column
    has no positive one its largest has the least bits. NaN lies beyond infinity at both ends.
    """
    bits, infinity = half.view(np.int16), 0x7C00
    most = bits.max(axis=0)
    best = np.where(most >= 0, most, bits.min(axis=0))
    finite = most.max() < infinity and half.view(np.uint16).max() < infinity + 0x8000
    return best.view(np.float16).astype(np.float32), bool(finite)


def likely_boxes(plabel: np.ndarray) -> np.ndarray | None:
    """Return the indices of the boxes that may have a score above MIN_SCORE.

    plabel: (labels, N) logits, background first; float32 or float16. A softmax of everything would
    be wasted: next to the box's largest logit m a label's score is at most exp(logit - m), so few
    boxes can have one above MIN_SCORE. Returns None if plabel holds NaN or infinity.
    """
    background = plabel[0].astype(np.float32, copy=False)
    if plabel.dtype == np.float16:
        best_object, finite = _half_ends(plabel[1:])
    else:
        best_object = plabel[1:].max(axis=0)
        finite = np.isfinite(plabel.min())  # which NaN and -infinity pass through
    best = np.maximum(best_object, background)
    if not (finite and np.isfinite(background).all() and np.isfinite(best).all()):
        return None
    slack = np.float32(1e-3)  # rounding must not lose a candidate; the true test comes later
    return np.flatnonzero(best_object > best + np.log(MIN_SCORE) - slack)


def candidates(ploc: np.ndarray, plabel: np.ndarray) -> Candidates | None:
    """Reduce one image's raw outputs to the scores that matter, in few passes over the memory.

    ploc: (4, N) offsets, plabel: (labels, N) logits, background first; float32 or float16. Only the
    best MAX_DETECTIONS of each label are returned. NumPy frees the interpreter in the passes, so
    that threads share this work. Returns None if the outputs hold NaN or infinity.
    """
    boxes = likely_boxes(plabel)
    if boxes is None or not np.isfinite(ploc).all():
        return None
    logits = plabel[:, boxes].astype(np.float32, copy=False)
    raised = np.exp(logits - logits.max(axis=0))
    scores = raised[1:] / raised.sum(axis=0)
    labels, columns = np.nonzero(scores > MIN_SCORE)
    scores = scores[labels, columns]
    order = np.lexsort((-scores, labels))
    labels, columns, scores = labels[order], columns[order], scores[order]
    rank = np.arange(len(labels)) - np.searchsorted(labels, labels)  # place within the label
    order = np.flatnonzero(rank < MAX_DETECTIONS)
    order = order[np.argsort(-scores[order], kind="stable")]
    boxes = boxes[columns[order]]
    offsets = ploc[:, boxes].astype(np.float32, copy=False)
    return Candidates(boxes, offsets, scores[order], labels[order] + 1)


def decode(found: Candidates, spec: Spec = SSD300) -> DecodedBoxes:
    """Turn the candidates of one image into detections.

    Softmax, per-label NMS and the limits are the MLPerf reference's (`MIN_SCORE`, `NMS_IOU`,
    `MAX_DETECTIONS`). No candidate gives K = 0.
    """
    ltrb = decode_boxes(found.ploc, default_boxes(spec)[found.boxes])
    kept = nms(ltrb, found.labels)
    return DecodedBoxes(ltrb[kept], found.scores[kept], found.labels[kept])
