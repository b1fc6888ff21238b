"""Counts, precision, recall and F1 by score; the case is that of test_metrics.py."""

from ssd import coco, detections
from ssd.report import matching, thresholds

import numpy as np
import pytest
from models import FIVE

STEPS = [0.05, 0.3, 0.42, 0.75, 0.95]


@pytest.fixture
def five():
    instances = coco.read_instances(FIVE / "coco" / coco.INSTANCES)
    detected = detections.from_json(FIVE / "result" / "bs1_detections.json")
    images, categories = np.array([10, 20, 30, 40, 50]), np.array([3, 7, 9])
    truth = matching.true_boxes(instances["annotations"], images, categories)
    found = matching.found_boxes(detected, images, categories)
    return truth, found, matching.match(truth, found)


def test_counts_at_each_threshold_by_hand(five):
    made = thresholds.by_score(*five, 3, STEPS)
    # found .92 .72 .91; wrong class .82 .42; duplicate .62; background .37 .22; five true boxes
    total = made["all"]
    assert total["found"] == [3, 3, 3, 2, 0]
    assert total["missed"] == [2, 2, 2, 3, 5]
    assert total["false"] == [5, 4, 3, 1, 0]
    assert total["class"] == [2, 2, 2, 1, 0]  # a score of 0.42 counts at 0.42
    assert total["duplicate"] == [1, 1, 1, 0, 0]
    assert total["background"] == [2, 1, 0, 0, 0]
    assert total["location"] == total["both"] == [0] * 5
    assert total["precision"] == pytest.approx([3 / 8, 3 / 7, 3 / 6, 2 / 3, None])
    assert total["recall"] == pytest.approx([3 / 5, 3 / 5, 3 / 5, 2 / 5, 0])
    assert total["f1"] == pytest.approx([6 / 13, 6 / 12, 6 / 11, 4 / 8, 0])
    cat, dog, owl = made["classes"]
    assert (cat["found"], cat["class"]) == ([2, 2, 2, 1, 0], [1, 1, 1, 1, 0])
    assert (dog["found"], dog["class"]) == ([1, 1, 1, 1, 0], [1, 1, 1, 0, 0])
    assert (owl["background"], owl["recall"]) == ([1, 1, 0, 0, 0], [None] * 5)


def test_the_best_f1_by_hand(five):
    # .92 T, .91 T, .82 F, .72 T, then F alone; five true boxes. F1 is 2 hits / (taken + 5):
    # 2/6, 4/7, 4/8, 6/9, 6/10, ...: 2/3 at .72, where 3 of 4 are true and 3 of 5 found
    made = thresholds.by_score(*five, 3, STEPS)
    expected = {"score": 0.72, "f1": 2 / 3, "precision": 3 / 4, "recall": 3 / 5}
    assert made["all"]["best_f1"] == pytest.approx(expected)
    # dogs: .91 T, .42 F, two true boxes (.52 lies in the crowd)
    expected = {"score": 0.91, "f1": 2 / 3, "precision": 1, "recall": 1 / 2}
    assert made["classes"][1]["best_f1"] == pytest.approx(expected)
    assert made["classes"][2]["best_f1"] is None


def test_a_bound_of_the_best_f1_parts_no_equal_scores():
    # two of one score, the true one first: to take it is to take both, 2 * 1 / (2 + 1)
    best = thresholds.best_f1(np.array([0.5, 0.5]), np.array([True, False]), 1)
    assert best["f1"] == pytest.approx(2 / 3)


def test_true_boxes_are_found_up_to_the_score_of_their_detection(five):
    # A .92, B never, C .72, D .91, the crowd, E never
    assert thresholds.true_levels(*five, STEPS).tolist() == [4, 0, 3, 4, 0, 0]


def test_counts_are_those_of_a_literal_count():
    rng = np.random.default_rng(0)
    count, labels = 500, 4
    found = matching.make_boxes(
        np.zeros(count, int),
        rng.integers(0, labels, count),
        np.zeros((count, 4)),
        rng.random(count).round(2),
    )
    kinds = rng.integers(0, len(matching.KINDS), count)
    outcome = matching.Outcome(np.full(count, -1), kinds, kinds, kinds)
    counts = thresholds.kind_counts(found, outcome, labels, list(thresholds.STEPS))
    for i, step in enumerate(thresholds.STEPS):
        for label in range(labels):
            for kind in range(len(matching.KINDS)):
                wanted = (found.label == label) & (kinds == kind) & (found.score >= step)
                assert counts[label, kind, i] == wanted.sum()
