"""Boxes against hand-worked values and against slow, literal versions of the definitions."""

import math
from dataclasses import replace

from ssd.boxes import (
    NMS_BLOCK,
    SSD300,
    _half_ends,
    candidates,
    cxcywh_to_ltrb,
    decode,
    decode_boxes,
    default_boxes,
    encode_boxes,
    iou,
    ltrb_to_cxcywh,
    match_boxes,
    nms,
)

import numpy as np
import pytest

STILL = np.zeros((4, 8732), np.float32)  # offsets of the default boxes themselves


def literal_iou(a, b):
    """Intersection over union of two ltrb boxes, in float32 as the reference computes."""
    f = np.float32
    width = max(min(a[2], b[2]) - max(a[0], b[0]), f(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]), f(0))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def literal_decode(ploc, plabel):
    """Decode as DESIGN says, box by box and label by label: rows of ltrb, score, label."""
    f = np.float32
    defaults = default_boxes()
    boxes = []
    for (dx, dy, dw, dh), (cx, cy, w, h) in zip(ploc.T, defaults, strict=True):
        x, y = dx * f(0.1) * w + cx, dy * f(0.1) * h + cy
        half_w, half_h = np.exp(dw * f(0.2)) * w * f(0.5), np.exp(dh * f(0.2)) * h * f(0.5)
        boxes.append((x - half_w, y - half_h, x + half_w, y + half_h))
    boxes = np.array(boxes, f)
    raised = np.exp(plabel - plabel.max(axis=0))
    scores = raised / raised.sum(axis=0)
    found = []
    for label in range(1, len(plabel)):
        candidates = [i for i in range(len(boxes)) if scores[label, i] > f(0.05)]
        candidates = sorted(candidates, key=lambda i: -scores[label, i])[:200]
        kept = []
        for i in candidates:
            if all(literal_iou(boxes[i], boxes[j]) < f(0.5) for j in kept):
                kept.append(i)
        found += [(*boxes[i], scores[label, i], label) for i in kept]
    return np.array(sorted(found, key=lambda row: -row[4])[:200]).reshape(-1, 6)


def outputs(kind, labels=81):
    """Raw outputs of one image, of a network that is sure, crowded, of one mind, or lost."""
    rng = np.random.default_rng(len(kind))
    count = {"clean": 60, "crowded": 1500, "one label": 600, "noisy": 8732}[kind]
    ploc = rng.normal(0, 1.5, (4, 8732)).astype(np.float32)
    plabel = rng.normal(0, 1, (labels, 8732)).astype(np.float32)
    plabel[0] += 12
    some = rng.choice(8732, count, replace=False)
    which = 5 if kind == "one label" else rng.integers(1, labels, count)
    plabel[which, some] += rng.uniform(9, 16, count).astype(np.float32)
    if kind == "noisy":
        plabel = rng.normal(0, 2.5, plabel.shape).astype(np.float32)
    return ploc, plabel


def test_a_larger_member_of_the_family_has_its_own_boxes():
    # SSD-ResNet34 of 1200 pixels has 15130 boxes
    larger = replace(SSD300, input_size=1200, feature_sizes=(50, 25, 13, 7, 3, 3))
    assert default_boxes(larger).shape == (15130, 4)
    # its first box: 21 pixels of 1200, in the middle of a cell of 8 pixels
    assert default_boxes(larger)[0] == pytest.approx([4 / 1200, 4 / 1200, 21 / 1200, 21 / 1200])
    plabel = np.zeros((3, 15130), np.float32)
    plabel[:, 0] = 0, 0, 9
    few = candidates(np.zeros((4, 15130), np.float32), plabel)
    found = decode(few, larger)
    assert found.ltrb[found.labels == 2][0] == pytest.approx(
        [-6.5 / 1200, -6.5 / 1200, 14.5 / 1200, 14.5 / 1200], abs=1e-6
    )


def test_there_are_8732_default_boxes_inside_the_image():
    boxes = default_boxes()
    assert boxes.shape == (8732, 4) == (SSD300.num_boxes, 4)
    assert boxes.dtype == np.float32
    assert boxes.min() >= 0 and boxes.max() <= 1


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        # map 0: 38 cells of 8 pixels; s1 = 21/300 = 0.07, s2 = 45/300 = 0.15
        (0, (0.5 * 8 / 300, 0.5 * 8 / 300, 0.07, 0.07)),
        (1, (1.5 * 8 / 300, 0.5 * 8 / 300, 0.07, 0.07)),  # then columns
        (38, (0.5 * 8 / 300, 1.5 * 8 / 300, 0.07, 0.07)),  # then rows
        (1444, (0.5 * 8 / 300, 0.5 * 8 / 300, math.sqrt(0.0105), math.sqrt(0.0105))),
        (2 * 1444, (4 / 300, 4 / 300, 0.07 * math.sqrt(2), 0.07 / math.sqrt(2))),
        (3 * 1444, (4 / 300, 4 / 300, 0.07 / math.sqrt(2), 0.07 * math.sqrt(2))),
        # map 1 starts at 4 * 38 * 38 = 5776; its fifth size is ratio 3
        (5776, (0.5 * 16 / 300, 0.5 * 16 / 300, 0.15, 0.15)),
        (5776 + 4 * 361, (8 / 300, 8 / 300, 0.15 * math.sqrt(3), 0.15 / math.sqrt(3))),
        # the last map has one cell and 4 boxes: 261/300 = 0.87; 0.87 * sqrt(2) is clipped to 1
        (8728, (0.5, 0.5, 0.87, 0.87)),
        (8729, (0.5, 0.5, math.sqrt(0.87 * 1.05), math.sqrt(0.87 * 1.05))),
        (8730, (0.5, 0.5, 1.0, 0.87 / math.sqrt(2))),
    ],
)
def test_default_boxes_are_those_worked_out_by_hand(index, expected):
    assert default_boxes()[index] == pytest.approx(expected, abs=1e-7)


def test_encoding_and_decoding_cancel():
    rng = np.random.default_rng(0)
    wanted = rng.uniform(0.1, 0.9, (8732, 4)).astype(np.float32)
    ploc = encode_boxes(wanted, default_boxes()).T
    ltrb = decode_boxes(ploc, default_boxes())
    np.testing.assert_allclose(ltrb_to_cxcywh(ltrb), wanted, atol=2e-6)


def test_a_zero_offset_is_the_default_box():
    ltrb = decode_boxes(np.zeros((4, 1), np.float32), default_boxes()[8728:8729])
    assert ltrb[0] == pytest.approx([0.065, 0.065, 0.935, 0.935])


def test_iou_by_hand():
    a, b = (
        np.array([0, 0, 2, 2.0]),
        np.array([[1, 1, 3, 3], [0, 0, 2, 1], [5, 5, 6, 6], [1, 1, 1, 1]]),
    )
    assert iou(a, b).tolist() == pytest.approx([1 / 7, 0.5, 0, 0])
    assert iou(np.zeros(4), np.zeros(4)) == 0


@pytest.mark.parametrize("kind", ["clean", "crowded", "one label", "noisy"])
def test_decode_equals_the_literal_definition(kind):
    ploc, plabel = outputs(kind)
    found, expected = decode(candidates(ploc, plabel)), literal_decode(ploc, plabel)
    assert len(found.scores) == len(expected) > 10
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.scores, expected[:, 4], rtol=2e-6)
    order = np.lexsort((found.labels, *found.ltrb.T, -found.scores.round(5)))
    again = np.lexsort((expected[:, 5], *expected[:, :4].T, -expected[:, 4].round(5)))
    np.testing.assert_allclose(found.ltrb[order], expected[again, :4], rtol=1e-5, atol=1e-6)
    assert found.labels[order].tolist() == expected[again, 5].tolist()


@pytest.mark.parametrize("labels", [2, 3, 120])
def test_decode_works_with_any_number_of_labels(labels):
    ploc, plabel = outputs("crowded", labels)
    expected = literal_decode(ploc, plabel)
    np.testing.assert_allclose(decode(candidates(ploc, plabel)).scores, expected[:, 4], rtol=2e-6)


def test_the_200_best_of_all_labels_are_kept():
    # 300 boxes far from each other, of 3 labels in turn: none overlaps, 100 are too many
    ploc, plabel = np.zeros((4, 8732), np.float32), np.zeros((4, 8732), np.float32)
    plabel[0] = 30
    boxes = [38 * row + column for row in range(0, 38, 2) for column in range(0, 38, 2)][:300]
    plabel[0, boxes] = 0
    plabel[[1 + i % 3 for i in range(300)], boxes] = np.linspace(4, 1, 300)
    found = decode(candidates(ploc, plabel))
    assert found.labels.tolist() == [1 + i % 3 for i in range(200)]
    expected = cxcywh_to_ltrb(default_boxes()[boxes[:200]])
    np.testing.assert_allclose(found.ltrb, expected, atol=1e-6)


def test_the_outputs_are_left_as_they_were():
    ploc, plabel = outputs("crowded")
    before = ploc.tobytes(), plabel.tobytes()
    decode(candidates(ploc, plabel))
    assert (ploc.tobytes(), plabel.tobytes()) == before


def test_no_candidate_is_an_empty_answer():
    plabel = np.zeros((81, 8732), np.float32)
    plabel[0] = 20
    found = decode(candidates(STILL, plabel))
    assert found.ltrb.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_float16_outputs_are_decoded_as_the_numbers_that_they_are(kind):
    half = [part.astype(np.float16) for part in outputs(kind)]
    found = decode(candidates(*half))
    expected = decode(candidates(*(part.astype(np.float32) for part in half)))
    assert len(found.scores) > 10
    assert [part.tobytes() for part in found] == [part.tobytes() for part in expected]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.copysign(np.nan, -1), np.inf, -np.inf])
@pytest.mark.parametrize("where", [(0, 2, 5), (1, 0, 8731), (1, 80, 0)])
def test_outputs_that_are_not_finite_give_nothing(dtype, value, where):
    parts = [part.astype(dtype) for part in outputs("clean")]
    assert candidates(*parts) is not None
    parts[where[0]][where[1:]] = value
    assert candidates(*parts) is None


def test_a_score_at_the_threshold_is_no_candidate():
    # 20 equal logits share the probability: each scores 1/20, which in float32 is MIN_SCORE itself
    plabel = np.full((81, 8732), -1000, np.float32)
    plabel[0] = 100
    plabel[:20, 0] = 0
    assert len(candidates(STILL, plabel).boxes) == 0
    plabel[19, 0] = -1000  # 19 share it now, the background among them
    assert candidates(STILL, plabel).labels.tolist() == list(range(1, 19))


def test_an_overlap_at_the_limit_is_dropped():
    labels = np.array([1, 1, 1, 2])
    # of the first box: half (IoU exactly 0.5), a little less than half, and another label's half
    ltrb = np.array([[0, 0, 2, 2], [0, 0, 2, 1], [0, 1.01, 2, 2], [0, 0, 2, 1]], np.float32)
    assert nms(ltrb, labels).tolist() == [0, 2, 3]


def test_a_dropped_box_drops_no_other():
    # b overlaps a and c overlaps b, but not a: b goes, c stays
    ltrb = np.array([[0, 0, 10, 1], [3, 0, 13, 1], [6, 0, 16, 1]], np.float32)
    assert nms(ltrb, np.ones(3, int)).tolist() == [0, 2]


def test_nms_across_blocks_equals_one_by_one():
    rng = np.random.default_rng(5)
    count = 3 * NMS_BLOCK
    corner = rng.uniform(0, 4, (count, 2))
    ltrb = np.hstack([corner, corner + 1]).astype(np.float32)
    labels = rng.integers(1, 4, count)
    kept = []
    for i in range(count):
        same = [j for j in kept if labels[j] == labels[i]]
        if all(literal_iou(ltrb[i], ltrb[j]) < 0.5 for j in same):
            kept.append(i)
    assert nms(ltrb, labels, limit=count).tolist() == kept
    assert nms(ltrb, labels, limit=20).tolist() == kept[:20]


def test_only_the_best_200_of_a_label_are_candidates():
    plabel = np.full((3, 8732), -50, np.float32)
    plabel[0] = 0
    plabel[1, :300] = np.linspace(3, 6, 300)
    boxes, _, scores, labels = candidates(STILL, plabel)
    assert boxes.tolist() == list(range(299, 99, -1))
    assert set(labels) == {1}
    assert (np.diff(scores) <= 0).all()


def test_boxes_are_paired_greedily_best_first():
    true = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 10]], np.float32)
    found = np.array([[0, 0, 10, 8], [0, 0, 10, 10], [20, 0, 30, 10], [50, 0, 60, 10]], np.float32)
    pairs = match_boxes(found, true, np.array(True), 0.5)
    assert pairs.tolist() == [0, -1, 1, -1]  # the second is nearer to 0, but comes too late
    assert match_boxes(found, true, np.array(True), 0.9).tolist() == [-1, 0, 1, -1]
    same = np.array([1, 1, 2, 2])[:, None] == np.array([1, 9, 2])
    assert match_boxes(found, true, same, 0.5).tolist() == [0, -1, 2, -1]
    assert match_boxes(found, true, same, 0.8).tolist() == [0, -1, 2, -1]  # 0.8 exactly


@pytest.mark.parametrize(("k", "m"), [(0, 0), (0, 2), (2, 0)])
def test_pairing_with_nothing_pairs_nothing(k, m):
    pairs = match_boxes(np.ones((k, 4)), np.ones((m, 4)), np.array(True), 0.5)
    assert pairs.tolist() == [-1] * k


def test_the_ends_of_float16_are_those_of_its_values():
    finite = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = finite[np.isfinite(finite)]
    rng = np.random.default_rng(0)
    for values in (finite, finite[np.signbit(finite)]):  # any, and none above zero
        half = rng.choice(values, (3, 5000))
        best, whole = _half_ends(half)
        assert whole and best.dtype == np.float32
        assert np.array_equal(best, half.astype(np.float32).max(axis=0))
        for bad in (np.inf, -np.inf, np.nan, -np.nan):
            spoilt = half.copy()
            spoilt[1, 7] = bad
            assert not _half_ends(spoilt)[1]
