"""What became of each detection, against values worked out by hand and against pycocotools.

The case of test/data/five: images 10 to 50, labels 0 (cat), 1 (dog), 2 (owl), true boxes

    image 10: cat A, dog B    20: cat C    30: dog D, a crowd of dogs    40: cat E    50: none

and detections, in the order of their scores within an image:

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

from ssd import coco, coco_eval, detections
from ssd.report import matching, metrics
from ssd.report.matching import BACKGROUND, CLASS, DUPLICATE, FOUND, IN_CROWD

import numpy as np
import pytest
from models import FIVE, make_detections, near_truth

IMAGES, CATEGORIES = np.array([10, 20, 30, 40, 50]), np.array([3, 7, 9])


@pytest.fixture
def five():
    """True boxes, detections, and what became of them."""
    instances = coco.read_instances(FIVE / "coco" / coco.INSTANCES)
    detected = detections.from_json(FIVE / "result" / "bs1_detections.json")
    truth = matching.true_boxes(instances["annotations"], IMAGES, CATEGORIES)
    found = matching.found_boxes(detected[::-1], IMAGES, CATEGORIES)  # their order must not matter
    return truth, found, matching.match(truth, found)


@pytest.fixture
def precision():
    instances = coco.read_instances(FIVE / "coco" / coco.INSTANCES)
    detected = detections.from_json(FIVE / "result" / "bs1_detections.json")
    return coco_eval.score(instances, detected, IMAGES.tolist()).precision


def test_each_detection_is_true_false_or_in_a_crowd(five):
    truth, found, outcome = five
    assert found.score.tolist() == [0.92, 0.82, 0.72, 0.62, 0.91, 0.52, 0.42, 0.37, 0.22]
    kinds = [FOUND, CLASS, FOUND, DUPLICATE, FOUND, IN_CROWD, CLASS, BACKGROUND, BACKGROUND]
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
    assert metrics.confusion(*five, 3, score)[0].tolist() == counts


def test_the_most_frequent_confusions_are_of_two_classes(five):
    counts = metrics.confusion(*five, 3, 0.3)[0]
    assert metrics.frequent_confusions(counts, 5) == [(0, 1, 1), (1, 0, 1)]
    assert metrics.frequent_confusions(counts * [[1], [2], [1], [1]], 1) == [(1, 0, 2)]


def test_average_precision_of_each_class_by_hand(five, precision):
    # Cats: three true boxes. Up to IoU 0.80 the detections are T F T F F, so precision is 1 up to
    # recall 1/3 (points 0 to 0.33: 34) and 2/3 up to 2/3 (0.34 to 0.66: 33), then 0.
    # Above, they are T F F T F: 1 up to 1/3, 2/4 up to 2/3. Dogs: two true boxes, T F, the one in
    # the crowd aside: 1 up to recall 1/2 (51 points). Owls: none to find.
    low, high = (34 + 33 * 2 / 3) / 101, (34 + 33 / 2) / 101
    cat, dog, owl = metrics.class_rows(precision, metrics.confusion(*five, 3, 0.3)[0])
    assert cat["ap"] == pytest.approx((7 * low + 3 * high) / 10)
    assert (cat["ap50"], cat["ap75"]) == pytest.approx((low, low))
    assert [dog[key] for key in ("ap", "ap50", "ap75")] == pytest.approx([51 / 101] * 3)
    assert [owl[key] for key in ("ap", "ap50", "ap75")] == [None] * 3


def test_counts_of_each_class_by_hand(five, precision):
    cat, dog, owl = metrics.class_rows(precision, metrics.confusion(*five, 3, 0.3)[0])
    keys = ("true_boxes", "detections", "found", "missed", "false", "precision", "recall")
    assert [cat[key] for key in keys] == [3, 4, 2, 1, 2, 1 / 2, 2 / 3]
    assert [dog[key] for key in keys] == [2, 2, 1, 1, 1, 1 / 2, 1 / 2]
    assert [owl[key] for key in keys] == [0, 1, 0, 0, 1, 0, None]


def test_precision_recall_curves_by_hand(precision):
    curves = metrics.pr_curves(precision)
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
    histogram = metrics.histogram(found, outcome)
    true, false = [0] * 20, [0] * 20
    true[18], true[14] = 2, 1  # .92 and .91; .72
    for place in (16, 12, 8, 7, 4):  # .82 .62 .42 .37 .22; .52 lies in the crowd
        false[place] = 1
    assert (histogram["true"], histogram["false"]) == (true, false)
    assert len(histogram["edges"]) == 21


def test_confused_boxes_are_named(five):
    # .82 on B and .42 on E; indices of true boxes, of which the crowd is the fourth
    assert metrics.confusion(*five, 3, 0.3)[1].tolist() == [-1, 1, -1, -1, -1, -1, 5, -1, -1]
    assert set(metrics.confusion(*five, 3, 0.99)[1]) == {-1}


def test_counts_of_each_image_and_size_by_hand(five):
    counts = metrics.image_counts(*five, 5, 0.3)
    assert counts["found"].tolist() == [1, 1, 1, 0, 0]
    assert counts["missed"].tolist() == [1, 0, 0, 1, 0]
    assert counts["false"].tolist() == [1, 1, 0, 1, 1]
    # areas 400, 400, 1600, 2500, 400; the crowd's 1600 does not count
    assert metrics.size_counts(five[0]) == {"small": 3, "medium": 2, "large": 0}


def test_a_box_on_the_bound_of_two_sizes_is_shown_as_the_larger():
    assert metrics.size_of(np.array([0, 1023, 1024, 9215, 9216.0])).tolist() == [0, 0, 1, 1, 2]


def test_a_box_on_the_bound_of_two_sizes_counts_in_both_as_in_their_ap():
    # one box of 32 x 32 pixels: COCO gives an AP to small and to medium objects
    box = {"id": 1, "image_id": 10, "category_id": 3, "bbox": [0, 0, 32, 32], "iscrowd": 0}
    images = [{"id": 10, "file_name": "a.jpg", "height": 99, "width": 99}]
    annotations = [box | {"area": 1024.0}]
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "a"}],
    }
    stats = coco_eval.score(instances, make_detections((10, 0, 0, 32, 32, 0.9, 3)), [10]).stats
    counts = metrics.size_counts(matching.true_boxes(annotations, IMAGES, CATEGORIES))
    assert counts == {"small": 1, "medium": 1, "large": 0}
    assert [stats[f"AP_{size}"] is not None for size in counts] == [True, True, False]


def test_nothing_found_and_nothing_to_find_are_normal():
    truth = matching.true_boxes([], IMAGES, CATEGORIES)
    found = matching.found_boxes(make_detections(), IMAGES, CATEGORIES)
    outcome = matching.match(truth, found)
    assert not metrics.confusion(truth, found, outcome, 3, 0.3)[0].any()
    assert sum(metrics.histogram(found, outcome)["true"]) == 0
    assert metrics.pr_curves(np.full((10, 101, 3), -1.0))["overall"] is None


def test_detections_of_other_images_or_categories_are_left_out():
    box = (0, 0, 1, 1, 0.5)
    detected = make_detections((10, *box, 3), (11, *box, 3), (10, *box, 4))
    assert len(matching.select(detected, IMAGES, CATEGORIES)) == 1


def test_true_and_false_are_those_of_pycocotools(coco_tiny):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    instances = coco.read_instances(coco_tiny / coco.INSTANCES)
    detected = near_truth(instances, copies=3, seed=1)  # a crowd, too, is found in pieces
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_tiny / coco.INSTANCES))
        judge = COCOeval(truth, truth.loadRes(detections.to_json(detected)), "bbox")
        judge.evaluate()
    expected = {}
    for part in judge.evalImgs:
        if part and part["aRng"] == judge.params.areaRng[0]:
            judged = zip(part["dtScores"], part["dtMatches"][0], part["dtIgnore"][0], strict=True)
            for score, matched, ignored in judged:
                expected[score] = "crowd" if ignored else "found" if matched else "false"
    image_ids = np.array(sorted(image["id"] for image in instances["images"]))
    ids = np.array(sorted(category["id"] for category in instances["categories"]))
    boxes = matching.true_boxes(instances["annotations"], image_ids, ids)
    found = matching.found_boxes(detected, image_ids, ids)
    outcome = matching.match(boxes, found)
    words = {FOUND: "found", IN_CROWD: "crowd"}
    kinds = [words.get(kind, "false") for kind in outcome.kind.tolist()]
    got = dict(zip(found.score.tolist(), kinds, strict=True))
    assert {got[score] for score in expected} == {"found", "false", "crowd"}
    assert {score: got[score] for score in expected} == expected
