"""Which images are shown, and that curves and classes are those of pycocotools."""

import contextlib
import io
import json

from ssd import coco, detections
from ssd.coco_eval import STAT_LINES
from ssd.report import analysis, choice

import numpy as np
import pytest
from models import FIVE, near_truth

STATS = dict.fromkeys(STAT_LINES, 0.5)


def data_of(folder, all_images=True):
    return coco.read_data(folder, all_images=all_images)


@pytest.fixture
def detail():
    found = detections.from_json(FIVE / "result" / "bs1_detections.json")
    stats = json.loads((FIVE / "result" / "bs1_result.json").read_text())["stats"]
    return analysis.analyse(data_of(FIVE / "coco"), found, stats, 0.3).detail


def test_the_detail_of_the_five_images(detail):
    # the working is in test_metrics.py
    assert (detail["images"], detail["true_boxes"], detail["crowds"]) == (5, 5, 1)
    assert (detail["detections"], detail["strong_detections"]) == (9, 8)
    assert detail["by_score"]["all"]["best_f1"]["f1"] == pytest.approx(2 / 3)
    shares = [(entry["count"], entry["share"]) for entry in detail["confusions"]]
    assert shares == [(1, 1 / 3), (1, 1 / 2)]  # of three cats, of two dogs
    assert [row["true_boxes"] for row in detail["sizes"]] == [3, 2, 0]
    assert [row["ap"] for row in detail["sizes"][:2]] == pytest.approx([51 / 202, 0.925], abs=1e-3)
    assert detail["sizes"][2] == {"size": "large", "true_boxes": 0, "ap": None, "ar": None}
    json.dumps(detail, allow_nan=False)


def test_the_gallery_ranks_by_f1_and_then_by_boxes(detail):
    # F1: image 30 has 1 hit: 1. 20: 1 hit, 1 false: 2/3. 10: 1 hit, 1 missed, 1 false: 1/2.
    # 40: 1 missed, 1 false, and 50: 1 false: 0
    by_id = {entry["image_id"]: entry for entry in detail["gallery"]}
    f1 = {image_id: entry["f1"] for image_id, entry in by_id.items()}
    assert f1 == pytest.approx({10: 1 / 2, 20: 2 / 3, 30: 1, 40: 0, 50: 0})
    assert [entry["image_id"] for entry in detail["gallery"]] == [30, 20, 10, 40, 50]
    assert by_id[40]["classes"] == ["cat", "<b>\"dog\" & 'co'"]
    assert by_id[30]["groups"] == ["best", "worst", "random"]


def counts_of(*rows):
    return dict(zip(("found", "missed", "false"), np.array(rows).T, strict=True))


def test_images_without_boxes_and_detections_are_neither_best_nor_worst():
    chosen = choice.choose(counts_of((0, 0, 0), (1, 0, 0)), {1: {0}}, {})
    assert chosen == {1: ["best", "worst", "random"], 0: ["random"]}


def test_every_class_is_seen_and_few_images_show_it(monkeypatch):
    monkeypatch.setattr(choice, "SHOWN", {"best": 1, "worst": 1, "random": 0})
    counts = counts_of((3, 0, 0), (0, 0, 9), (1, 1, 0), (1, 1, 0), (1, 1, 0))
    labels = {0: {0}, 1: {1}, 2: {2}, 3: {2, 3}, 4: {3, 0}}
    chosen = choice.choose(counts, labels, {})
    assert chosen == {0: ["best"], 1: ["worst"], 3: ["more"]}  # 3 alone shows both missing classes


def test_images_of_each_error_are_shown_the_worst_first(monkeypatch):
    monkeypatch.setattr(choice, "SHOWN", {"best": 0, "worst": 0, "random": 0})
    counts = counts_of(*[(1, 1, 0)] * 6)
    errors = {"missed": np.array([4, 2]), "class": np.array([2, 5])}
    assert list(choice.choose(counts, {}, errors)) == [4, 2, 5]


def test_the_errors_of_the_five_images_have_their_images():
    # image 10: a dog missed, a wrong class; 20: a duplicate; 40: both of 10's; 50: background
    found = detections.from_json(FIVE / "result" / "bs1_detections.json")
    made = analysis.analyse(data_of(FIVE / "coco"), found, STATS, 0.3)
    counts = {"missed": np.array([1, 0, 0, 1, 0])}
    images = choice.error_images(made, counts)
    expected = {"missed": [0, 3], "class": [0, 3], "duplicate": [1], "background": [4]}
    assert {kind: order.tolist() for kind, order in images.items() if len(order)} == expected
    assert choice.topics(made)[0] == {0, 1, (1, 0)}  # cat, dog, and a dog taken for a cat


def test_random_images_are_the_same_every_time_and_not_the_first_ones():
    counts = counts_of(*[(1, 0, 0)] * 1000)
    labels = {i: {0} for i in range(1000)}
    chosen = [choice.choose(counts, labels, {}) for _ in range(2)]
    assert chosen[0] == chosen[1]
    picked = [i for i, groups in chosen[0].items() if "random" in groups]
    assert len(picked) == choice.SHOWN["random"]
    assert max(picked) > 500


def test_no_more_images_are_shown_than_the_page_can_bear():
    counts = counts_of(*[(1, 1, 0)] * 500)
    chosen = choice.choose(counts, {i: {i} for i in range(500)}, {})
    assert len(chosen) == choice.MOST_SHOWN


def test_curves_and_classes_are_those_of_pycocotools(coco_tiny):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = data_of(coco_tiny)
    detected = near_truth(data.instances, copies=2, seed=2)
    detail = analysis.analyse(data, detected, STATS, 0.3).detail
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_tiny / coco.INSTANCES))
        judge = COCOeval(truth, truth.loadRes(detections.to_json(detected)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, -1]
    assert [row["id"] for row in detail["classes"]] == judge.params.catIds
    for k, row in enumerate(detail["classes"]):
        if (precision[:, :, k] > -1).all():
            expected = [precision[:, :, k].mean(), precision[0, :, k].mean()]
            assert [row["ap"], row["ap50"]] == pytest.approx(expected, abs=1e-12)
            curve = detail["pr"]["classes"][k]["0.75"]
            assert curve == pytest.approx(precision[5, :, k].tolist(), abs=6e-5)
