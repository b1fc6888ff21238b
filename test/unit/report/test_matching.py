"""Kinds of detections, by hand and against TIDE's own package.

tidecv is not among the requirements: CONTRIBUTING.md says why, and how to have it judge.
"""

from ssd import coco
from ssd.boxes import ltrb_to_xywh
from ssd.report import matching
from ssd.report.matching import BACKGROUND, BOTH, CLASS, DUPLICATE, FOUND, IN_CROWD, LOCATION

import numpy as np
import pytest
from models import near_truth


def boxes(*rows):
    """Boxes of image 0: left, right, label, score; all from 0 to 10 in height."""
    table = np.array(rows, np.float64).reshape(-1, 4)
    ltrb = np.stack([table[:, 0], 0 * table[:, 0], table[:, 1], 0 * table[:, 0] + 10], axis=1)
    label = table[:, 2].astype(int)
    return matching.make_boxes(np.zeros(len(table), int), label, ltrb, table[:, 3])


@pytest.mark.parametrize(
    ("left", "right", "label", "kind", "overlap"),
    [
        (0, 10, 0, DUPLICATE, 1),  # the true box of label 0 is taken by the first detection
        (0, 19, 0, DUPLICATE, 10 / 19),
        (0, 20, 0, FOUND, 1 / 2),  # IoU 1/2 pairs: see the test below
        (0, 21, 0, LOCATION, 10 / 21),
        (0, 100, 0, LOCATION, 1 / 10),
        (0, 101, 0, BACKGROUND, 10 / 101),
        (40, 50, 0, CLASS, 1),  # on the true box of label 1
        (40, 60, 0, CLASS, 1 / 2),
        (40, 61, 0, BOTH, 10 / 21),
        (40, 140, 0, BACKGROUND, 1 / 10),
        (0, 10, 1, CLASS, 1),
        (200, 210, 1, BACKGROUND, 0),
    ],
)
def test_each_kind_by_hand(left, right, label, kind, overlap):
    truth = boxes((0, 10, 0, 1), (40, 50, 1, 1))
    first = () if kind == FOUND else ((0, 10, 0, 0.9),)
    outcome = matching.match(truth, boxes(*first, (left, right, label, 0.5)))
    assert outcome.kind.tolist() == [FOUND] * len(first) + [kind]
    assert outcome.iou[-1] == pytest.approx(overlap)
    target = {BACKGROUND: -1, CLASS: 1 - label, BOTH: 1}.get(kind, 0)
    assert outcome.near[-1] == target


def test_a_box_in_the_wrong_place_counts_before_one_of_the_wrong_class():
    # label 0's box shares a tenth and more with its own true box and all of label 1's
    truth = boxes((0, 10, 0, 1), (5, 15, 1, 1))
    outcome = matching.match(truth, boxes((5, 15, 0, 0.5)))
    assert (outcome.kind.tolist(), outcome.near.tolist()) == ([LOCATION], [0])


def test_in_an_image_without_true_boxes_all_is_background():
    outcome = matching.match(boxes(), boxes((0, 10, 0, 0.5)))
    assert (outcome.kind.tolist(), outcome.near.tolist()) == ([BACKGROUND], [-1])


def test_a_crowd_is_no_true_box_of_any_error():
    truth = boxes((0, 50, 0, 1))._replace(crowd=np.array([True]))
    outcome = matching.match(truth, boxes((0, 10, 0, 0.9), (0, 10, 1, 0.8), (0, 200, 0, 0.7)))
    assert outcome.kind.tolist() == [IN_CROWD, BACKGROUND, BACKGROUND]
    assert outcome.near.tolist() == [-1] * 3


def test_worse_detections_do_not_change_what_better_ones_are():
    rng = np.random.default_rng(0)
    truth, found = (boxes(*rows(rng, count)) for count in (12, 60))
    whole = matching.match(truth, found)
    for count in (5, 30):
        part = matching.match(truth, matching.Boxes(*(column[:count] for column in found)))
        assert part.kind.tolist() == whole.kind[:count].tolist()
        assert part.near.tolist() == whole.near[:count].tolist()


def rows(rng, count):
    left = rng.uniform(0, 60, count)
    width = rng.uniform(3, 20, count)
    return np.stack([left, left + width, rng.integers(0, 3, count), rng.random(count)], axis=1)


def test_kinds_are_those_of_tidecv(coco_tiny):
    tidecv = pytest.importorskip("tidecv", reason="tidecv is not installed")
    instances = coco.read_instances(coco_tiny / coco.INSTANCES)
    detected = near_truth(instances, copies=2, seed=3)
    image_ids = np.array(sorted(image["id"] for image in instances["images"]))
    category_ids = np.array(sorted(category["id"] for category in instances["categories"]))
    truth = matching.true_boxes(instances["annotations"], image_ids, category_ids)
    found = matching.found_boxes(detected, image_ids, category_ids)
    outcome = matching.match(truth, found)

    true, given = (tidecv.Data(name, max_dets=10**6) for name in ("true", "given"))
    for id_ in image_ids:
        true.add_image(int(id_), "")
    for a in instances["annotations"]:
        add = true.add_ignore_region if a["iscrowd"] else true.add_ground_truth
        add(a["image_id"], a["category_id"], a["bbox"])
    for image, label, ltrb, score in zip(*found[:4], strict=True):
        place = int(image_ids[image]), int(category_ids[label])
        given.add_detection(*place, float(score), ltrb_to_xywh(ltrb).tolist())
    run = tidecv.TIDE().evaluate(true, given, mode=tidecv.TIDE.BOX)
    kinds = {"Loc": LOCATION, "Cls": CLASS, "Both": BOTH, "Dupe": DUPLICATE, "Bkg": BACKGROUND}
    for error, errors in run.error_dict.items():
        if error.short_name in kinds:
            theirs = {e.pred["_id"] for e in errors if e.pred["used"] is not None}  # no crowds
            ours = set(np.flatnonzero(outcome.kind == kinds[error.short_name]))
            assert ours == theirs, error.short_name
            assert ours
