"""What became of each detection, against values worked out by hand and against pycocotools.

The case of test/data/five: pictures 10 to 50, labels 0 (cat), 1 (dog), 2 (owl), true boxes

    picture 10: cat A, dog B    20: cat C    30: dog D, a crowd of dogs    40: cat E    50: none

and detections, in the order of their scores within a picture:

    10: cat .92 on A            true
        cat .82 on B            false; B is a dog
    20: cat .72 on C, IoU 0.8   true up to IoU 0.80
        cat .62 on C, IoU 1     false up to IoU 0.80, as C is taken; true above
    30: dog .91 on D            true
        dog .52 in the crowd    neither
    40: dog .42 on E            false; E is a cat
    50: owl .37, cat .22        false, on nothing
"""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

import ssd_coco
import ssd_curves
import ssd_score
from ssd_curves import FALSE, IN_CROWD, TRUE

FIVE = Path(__file__).parent / "data" / "five"
IMAGES, CATEGORIES = np.array([10, 20, 30, 40, 50]), np.array([3, 7, 9])


@pytest.fixture
def five():
    """True boxes, detections, and what became of them."""
    instances = ssd_coco.read_instances(FIVE / "coco" / ssd_coco.INSTANCES)
    rows = ssd_coco.results_from_json(FIVE / "result" / "bs1_detections.json")
    truth = ssd_curves.true_boxes(instances["annotations"], IMAGES, CATEGORIES)
    found = ssd_curves.found_boxes(rows[::-1], IMAGES, CATEGORIES)  # their order must not matter
    return truth, found, ssd_curves.match(truth, found)


@pytest.fixture
def precision():
    instances = ssd_coco.read_instances(FIVE / "coco" / ssd_coco.INSTANCES)
    rows = ssd_coco.results_from_json(FIVE / "result" / "bs1_detections.json")
    return ssd_score.score(instances, rows, IMAGES.tolist()).precision


def test_each_detection_is_true_false_or_in_a_crowd(five):
    truth, found, outcome = five
    assert found.score.tolist() == [0.92, 0.82, 0.72, 0.62, 0.91, 0.52, 0.42, 0.37, 0.22]
    kinds = [TRUE, FALSE, TRUE, FALSE, TRUE, IN_CROWD, FALSE, FALSE, FALSE]
    assert outcome.kind.tolist() == kinds
    assert outcome.pair.tolist() == [0, -1, 2, -1, 3, -1, -1, -1, -1]
    assert truth.crowd.tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize(
    ("score", "counts"),
    [
        # columns: cat, dog, owl, missed. A and C are found, E is taken for a dog, B for a cat, D is
        # found; on background lie the double of C and the owl, the last cat is too weak
        (0.3, [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]]),
        # only .92, .82 and .91 count: C and E are missed
        (0.75, [[1, 0, 0, 2], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
        # nothing counts: three cats and two dogs are missed, the crowd is not
        (0.99, [[0, 0, 0, 3], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_the_confusion_matrix_by_hand(five, score, counts):
    assert ssd_curves.confusion(*five, 3, score).tolist() == counts


def test_the_most_frequent_confusions_are_of_two_classes(five):
    counts = ssd_curves.confusion(*five, 3, 0.3)
    assert ssd_curves.frequent_confusions(counts, 5) == [(0, 1, 1), (1, 0, 1)]
    assert ssd_curves.frequent_confusions(counts * [[1], [2], [1], [1]], 1) == [(1, 0, 2)]


def test_average_precision_of_each_class_by_hand(five, precision):
    # Cats: three true boxes. Up to IoU 0.80 the detections are T F T F F, so precision is 1 up to
    # recall 1/3 (points 0 to 0.33: 34) and 2/3 up to 2/3 (0.34 to 0.66: 33), then 0.
    # Above, they are T F F T F: 1 up to 1/3, 2/4 up to 2/3. Dogs: two true boxes, T F, the one in
    # the crowd aside: 1 up to recall 1/2 (51 points). Owls: none to find.
    low, high = (34 + 33 * 2 / 3) / 101, (34 + 33 / 2) / 101
    cat, dog, owl = ssd_curves.class_rows(precision, ssd_curves.confusion(*five, 3, 0.3))
    assert cat["ap"] == pytest.approx((7 * low + 3 * high) / 10)
    assert (cat["ap50"], cat["ap75"]) == pytest.approx((low, low))
    assert [dog[key] for key in ("ap", "ap50", "ap75")] == pytest.approx([51 / 101] * 3)
    assert [owl[key] for key in ("ap", "ap50", "ap75")] == [None] * 3


def test_counts_of_each_class_by_hand(five, precision):
    cat, dog, owl = ssd_curves.class_rows(precision, ssd_curves.confusion(*five, 3, 0.3))
    keys = ("true_boxes", "detections", "found", "missed", "false", "precision", "recall")
    assert [cat[key] for key in keys] == [3, 4, 2, 1, 2, 1 / 2, 2 / 3]
    assert [dog[key] for key in keys] == [2, 2, 1, 1, 1, 1 / 2, 1 / 2]
    assert [owl[key] for key in keys] == [0, 1, 0, 0, 1, 0, None]


def test_precision_recall_curves_by_hand(precision):
    curves = ssd_curves.pr_curves(precision)
    cat, dog, owl = curves["classes"]
    low = [1] * 34 + [2 / 3] * 33 + [0] * 34  # the working is above
    mean = [1] * 34 + [(7 * 2 / 3 + 3 / 2) / 10] * 33 + [0] * 34
    half = [1] * 51 + [0] * 50
    assert cat["0.50"] == cat["0.75"] == pytest.approx(low, abs=6e-5)
    assert cat["mean"] == pytest.approx(mean, abs=6e-5)
    assert dog["0.50"] == dog["mean"] == pytest.approx(half)
    assert owl is None
    both = (np.array(low) + half) / 2
    assert curves["overall"]["0.50"] == pytest.approx(both.tolist(), abs=6e-5)


def test_the_histogram_by_hand(five):
    _, found, outcome = five
    histogram = ssd_curves.histogram(found, outcome)
    true, false = [0] * 20, [0] * 20
    true[18], true[14] = 2, 1  # .92 and .91; .72
    for place in (16, 12, 8, 7, 4):  # .82 .62 .42 .37 .22; .52 lies in the crowd
        false[place] = 1
    assert (histogram["true"], histogram["false"]) == (true, false)
    assert len(histogram["edges"]) == 21


def test_the_best_f1_by_hand(five):
    # .92 T, .91 T, .82 F, .72 T, then F alone; five true boxes. F1 is 2 hits / (taken + 5):
    # 2/6, 4/7, 4/8, 6/9, 6/10, ...: 2/3 at .72, where 3 of 4 are true and 3 of 5 found
    best = ssd_curves.best_f1(*five)
    expected = {"score": 0.72, "f1": 2 / 3, "precision": 3 / 4, "recall": 3 / 5}
    assert best == pytest.approx(expected)


def test_a_bound_of_the_best_f1_parts_no_equal_scores():
    # two of one score, the true one first: to take it is to take both, 2 * 1 / (2 + 1)
    one = np.array([0, 0])
    xywh = np.array([[0, 0, 10, 10], [50, 50, 10, 10.0]])
    truth = ssd_curves.make_boxes(one[:1], one[:1], xywh[:1], np.ones(1))
    found = ssd_curves.make_boxes(one, one, xywh, np.array([0.5, 0.5]))
    best = ssd_curves.best_f1(truth, found, ssd_curves.match(truth, found))
    assert best["f1"] == pytest.approx(2 / 3)


def test_counts_of_each_picture_and_size_by_hand(five):
    counts = ssd_curves.picture_counts(*five, 5, 0.3)
    assert counts["found"].tolist() == [1, 1, 1, 0, 0]
    assert counts["missed"].tolist() == [1, 0, 0, 1, 0]
    assert counts["false"].tolist() == [1, 1, 0, 1, 1]
    # areas 400, 400, 1600, 2500, 400; the crowd's 1600 does not count
    assert ssd_curves.size_counts(five[0]) == {"small": 3, "medium": 2, "large": 0}


def test_nothing_found_and_nothing_to_find_are_normal():
    none = np.empty((0, 7))
    truth = ssd_curves.true_boxes([], IMAGES, CATEGORIES)
    found = ssd_curves.found_boxes(none, IMAGES, CATEGORIES)
    outcome = ssd_curves.match(truth, found)
    assert not ssd_curves.confusion(truth, found, outcome, 3, 0.3).any()
    assert ssd_curves.best_f1(truth, found, outcome) is None
    assert sum(ssd_curves.histogram(found, outcome)["true"]) == 0
    assert ssd_curves.pr_curves(np.full((10, 101, 3), -1.0))["overall"] is None


def test_detections_of_other_pictures_or_categories_are_left_out():
    rows = np.array([[10, 0, 0, 1, 1, 0.5, 3], [11, 0, 0, 1, 1, 0.5, 3], [10, 0, 0, 1, 1, 0.5, 4]])
    assert len(ssd_curves.found_boxes(rows, IMAGES, CATEGORIES).image) == 1


def test_true_and_false_are_those_of_pycocotools(coco_tiny):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    instances = ssd_coco.read_instances(coco_tiny / ssd_coco.INSTANCES)
    rng = np.random.default_rng(1)
    results = []
    for one in instances["annotations"] * 3:  # a crowd, too, is found in pieces
        box = np.array(one["bbox"]) + rng.normal(0, 0.12, 4) * np.tile(one["bbox"][2:], 2)
        category = int(rng.choice([one["category_id"]] * 4 + [1]))
        shape = [*box[:2].tolist(), *box[2:].clip(1).tolist()]
        result = {"image_id": one["image_id"], "bbox": shape, "category_id": category}
        results.append(result | {"score": float(rng.random())})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_tiny / ssd_coco.INSTANCES))
        own = COCOeval(truth, truth.loadRes(results), "bbox")
        own.evaluate()
    expected = {}
    for part in own.evalImgs:
        if part and part["aRng"] == own.params.areaRng[0]:
            judged = zip(part["dtScores"], part["dtMatches"][0], part["dtIgnore"][0], strict=True)
            for score, matched, ignored in judged:
                expected[score] = IN_CROWD if ignored else TRUE if matched else FALSE
    rows = np.array(
        [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in results], np.float64
    )
    image_ids = np.array(sorted(image["id"] for image in instances["images"]))
    ids = np.array(sorted(category["id"] for category in instances["categories"]))
    boxes = ssd_curves.true_boxes(instances["annotations"], image_ids, ids)
    found = ssd_curves.found_boxes(rows, image_ids, ids)
    outcome = ssd_curves.match(boxes, found)
    got = dict(zip(found.score.tolist(), outcome.kind.tolist(), strict=True))
    assert {got[score] for score in expected} == {TRUE, FALSE, IN_CROWD}
    assert {score: got[score] for score in expected} == expected
