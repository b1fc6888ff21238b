"""Which pictures are shown, and that the scores are pycocotools' own."""

import argparse
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

import ssd_analysis
import ssd_coco

FIVE = Path(__file__).parent / "data" / "five"


def data_of(folder, all_images=True):
    more = {"annotation": None, "images": None, "all_images": all_images}
    return ssd_coco.open_data(argparse.Namespace(data=folder, **more))


@pytest.fixture
def detail():
    rows = ssd_coco.results_from_json(FIVE / "result" / "bs1_detections.json")
    return ssd_analysis.analyse(data_of(FIVE / "coco"), rows, 0.3).detail


def test_what_is_told_of_the_case_of_five_pictures(detail):
    # the working is in test_ssd_curves.py
    assert (detail["images"], detail["true_boxes"], detail["crowds"]) == (5, 5, 1)
    assert (detail["detections"], detail["strong_detections"]) == (9, 8)
    assert detail["best_f1"]["f1"] == pytest.approx(2 / 3)
    shares = [(one["count"], one["share"]) for one in detail["confusions"]]
    assert shares == [(1, 1 / 3), (1, 1 / 2)]  # of three cats, of two dogs
    assert [row["true_boxes"] for row in detail["sizes"]] == [3, 2, 0]
    assert detail["sizes"][2] == {"size": "large", "true_boxes": 0, "ap": None, "ar": None}
    json.dumps(detail, allow_nan=False)


def test_the_gallery_ranks_by_f1_and_then_by_boxes(detail):
    # F1: picture 30 has 1 hit: 1. 20: 1 hit, 1 false: 2/3. 10: 1 hit, 1 missed, 1 false: 1/2.
    # 40: 1 missed, 1 false, and 50: 1 false: 0
    by_id = {one["image_id"]: one for one in detail["gallery"]}
    f1 = {image_id: one["f1"] for image_id, one in by_id.items()}
    assert f1 == pytest.approx({10: 1 / 2, 20: 2 / 3, 30: 1, 40: 0, 50: 0})
    assert [one["image_id"] for one in detail["gallery"]] == [30, 20, 10, 40, 50]
    assert by_id[40]["classes"] == ["cat", "<b>\"dog\" & 'co'"]
    assert by_id[30]["groups"] == ["best", "worst", "random"]


def counts_of(*rows):
    return dict(zip(("found", "missed", "false"), np.array(rows).T, strict=True))


def test_pictures_without_boxes_and_detections_are_neither_best_nor_worst():
    chosen = ssd_analysis.choose(counts_of((0, 0, 0), (1, 0, 0)), {1: {0}})
    assert chosen == {1: ["best", "worst", "random"], 0: ["random"]}


def test_every_class_is_seen_and_few_pictures_show_it(monkeypatch):
    monkeypatch.setattr(ssd_analysis, "SHOWN", {"best": 1, "worst": 1, "random": 0})
    counts = counts_of((3, 0, 0), (0, 0, 9), (1, 1, 0), (1, 1, 0), (1, 1, 0))
    labels = {0: {0}, 1: {1}, 2: {2}, 3: {2, 3}, 4: {3, 0}}
    chosen = ssd_analysis.choose(counts, labels)
    assert chosen == {0: ["best"], 1: ["worst"], 3: ["more"]}  # 3 alone shows both that lack


def test_random_pictures_are_the_same_every_time_and_not_the_first_ones():
    counts = counts_of(*[(1, 0, 0)] * 1000)
    labels = {i: {0} for i in range(1000)}
    chosen = [ssd_analysis.choose(counts, labels) for _ in range(2)]
    assert chosen[0] == chosen[1]
    picked = [i for i, groups in chosen[0].items() if "random" in groups]
    assert len(picked) == ssd_analysis.SHOWN["random"]
    assert max(picked) > 500


def test_no_more_pictures_are_shown_than_the_page_can_bear():
    counts = counts_of(*[(1, 1, 0)] * 500)
    chosen = ssd_analysis.choose(counts, {i: {i} for i in range(500)})
    assert len(chosen) == ssd_analysis.MOST_SHOWN


def test_scores_are_those_of_pycocotools(coco_tiny):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = data_of(coco_tiny)
    rng = np.random.default_rng(2)
    results = []
    for one in data.instances["annotations"] * 2:
        box = np.array(one["bbox"]) + rng.normal(0, 0.1, 4) * np.tile(one["bbox"][2:], 2)
        shape = [*box[:2].tolist(), *box[2:].clip(1).tolist()]
        category = int(rng.choice([one["category_id"], 1]))
        result = {"image_id": one["image_id"], "bbox": shape, "category_id": category}
        results.append(result | {"score": float(rng.random())})
    rows = np.array(
        [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in results], np.float64
    )
    detail = ssd_analysis.analyse(data, rows, 0.3).detail
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_tiny / ssd_coco.INSTANCES))
        own = COCOeval(truth, truth.loadRes(results), "bbox")
        own.evaluate()
        own.accumulate()
        own.summarize()
    precision = own.eval["precision"][:, :, :, 0, -1]
    assert [row["id"] for row in detail["classes"]] == own.params.catIds
    for k, row in enumerate(detail["classes"]):
        if (precision[:, :, k] > -1).all():
            expected = [precision[:, :, k].mean(), precision[0, :, k].mean()]
            assert [row["ap"], row["ap50"]] == pytest.approx(expected, abs=1e-12)
            curve = detail["pr"]["classes"][k]["0.75"]
            assert curve == pytest.approx(precision[5, :, k].tolist(), abs=6e-5)
    assert [row["ap"] for row in detail["sizes"]] == pytest.approx(own.stats[3:6].tolist())
    assert detail["stats"]["AP"] == pytest.approx(own.stats[0])
