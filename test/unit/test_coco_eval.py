"""Scores against pycocotools itself, and against values that can be worked out by hand."""

import contextlib
import io
import json

from ssd import coco_eval, detections
from ssd.boxes import xywh_to_ltrb
from ssd.coco import INSTANCES, read_instances

import numpy as np
import pytest
from models import make_detections

ONE = pytest.approx(1, abs=1e-12)  # pycocotools adds an epsilon


def jittered(coco):
    """Detections near the annotations of a real data set, some wrong, many of equal score."""
    instances = read_instances(coco / INSTANCES)
    rng = np.random.default_rng(0)
    rows = []
    for annotation in instances["annotations"] * 2:
        xywh = np.array(annotation["bbox"])
        box = xywh + rng.normal(0, 0.1, 4) * np.tile(xywh[2:], 2)
        ltrb = (*box[:2], *(box[:2] + box[2:].clip(1)))
        category = rng.choice([annotation["category_id"], 1])
        rows.append((annotation["image_id"], *ltrb, round(rng.random(), 2), category))
    return instances, make_detections(*rows)


def test_both_scorers_agree_to_the_last_bit_with_pycocotools(coco_tiny, tmp_path, capfd):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    instances, found = jittered(coco_tiny)
    ids = [image["id"] for image in instances["images"]]
    (tmp_path / "d.json").write_text(json.dumps(detections.to_json(found)))
    text = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_tiny / INSTANCES))
        judge = COCOeval(truth, truth.loadRes(str(tmp_path / "d.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        with contextlib.redirect_stdout(text):
            judge.summarize()
    per_class = judge.eval["precision"][:, :, :, 0, -1]
    for scorer in coco_eval.SCORERS:
        scores = coco_eval.score(instances, found, ids, scorer)
        if np.lib.NumpyVersion(np.__version__) >= "2.3.0":
            assert list(scores.stats.values()) == judge.stats.tolist()
        else:  # NumPy's sum, the judge's, has another order there, and so another last bit
            assert list(scores.stats.values()) == pytest.approx(judge.stats.tolist(), rel=4e-16)
        assert np.array_equal(scores.precision, per_class)
        assert coco_eval.format_stats(scores.stats) + "\n" == text.getvalue()
        expected = [p[p > -1].mean() for p in np.moveaxis(per_class, 2, 0)]
        assert [row["ap"] for row in scores.per_class] == pytest.approx(expected, abs=1e-12)
    assert 0.1 < judge.stats[0] < 0.9
    assert capfd.readouterr().out == ""


def square(number, side=20, crowd=0, **more):
    """An annotation of image 1: a square, each number at another place."""
    box = {"bbox": [30.0 * number, 10, side, side], "area": float(side * side), "iscrowd": crowd}
    return box | {"id": number, "image_id": 1, "category_id": 7} | more


def tiny(*annotations):
    images = [{"id": i, "file_name": "a.jpg", "height": 400, "width": 400} for i in (1, 2)]
    categories = [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}]
    return {"images": images, "annotations": list(annotations), "categories": categories}


def found_at(*annotations, scores=None, image_id=1):
    scores = scores or np.linspace(0.9, 0.5, len(annotations))
    corners = [xywh_to_ltrb(np.array(a["bbox"])) for a in annotations]
    rows = [(image_id, *ltrb, s, 7) for ltrb, s in zip(corners, scores, strict=True)]
    return make_detections(*rows)


@pytest.mark.parametrize("scorer", coco_eval.SCORERS)
class TestByHand:
    def test_one_of_two_found_is_half_the_recall(self, scorer):
        a, b = square(1), square(2)
        stats = coco_eval.score(tiny(a, b), found_at(a), [1], scorer).stats
        # precision 1 at the recalls 0, 0.01, ..., 0.50: 51 of 101
        assert stats["AP"] == pytest.approx(51 / 101, abs=1e-12)
        assert stats["AR100"] == 0.5
        assert stats["AP_small"] == stats["AP"]
        assert stats["AP_large"] is None  # nothing to find

    def test_a_wrong_one_before_the_right_one_halves_the_precision(self, scorer):
        a, wrong = square(1), square(5)
        scores = coco_eval.score(tiny(a), found_at(wrong, a), [1], scorer)
        assert scores.stats["AP"] == pytest.approx(0.5, abs=1e-12)
        assert scores.per_class == [
            {"id": 7, "name": "a", "ap": pytest.approx(0.5)},
            {"id": 9, "name": "b", "ap": None},
        ]

    def test_what_is_found_within_a_crowd_does_not_count(self, scorer):
        a, crowd = square(1), square(3, side=80, crowd=1)
        within = square(3, side=15)
        stats = coco_eval.score(tiny(a, crowd), found_at(within, a), [1], scorer).stats
        assert stats["AP"] == ONE

    def test_an_annotation_of_id_0_is_found_like_any_other(self, scorer):
        a, b = square(0), square(1)
        assert coco_eval.score(tiny(a, b), found_at(a, b), [1], scorer).stats["AP"] == ONE

    def test_the_annotations_are_left_as_they_were(self, scorer):
        data = tiny(square(0), square(1))
        before = json.dumps(data)
        coco_eval.score(data, found_at(square(1)), [1], scorer)
        assert json.dumps(data) == before

    def test_false_positives_on_an_unannotated_image_count_if_it_is_scored(self, scorer):
        a = square(1)
        found = detections.concatenate([found_at(a, image_id=2, scores=[0.95]), found_at(a)])
        assert coco_eval.score(tiny(a), found, [1], scorer).stats["AP"] == ONE
        assert coco_eval.score(tiny(a), found, [1, 2], scorer).stats["AP"] == pytest.approx(0.5)

    def test_no_detection_prints_what_pycocotools_prints(self, scorer):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        data, text = tiny(square(1)), io.StringIO()
        truth, found = COCO(), COCO()
        with contextlib.redirect_stdout(io.StringIO()):
            for coco, annotations in ((truth, data["annotations"]), (found, [])):
                coco.dataset = data | {"annotations": annotations}
                coco.createIndex()
            judge = COCOeval(truth, found, "bbox")
            judge.evaluate()
            judge.accumulate()
            with contextlib.redirect_stdout(text):
                judge.summarize()
        scores = coco_eval.score(data, make_detections(), [1, 2], scorer)
        expected = text.getvalue().replace("-1.000", "nothing to find")
        assert coco_eval.format_stats(scores.stats) + "\n" == expected != text.getvalue()
        assert scores.stats["AP"] == 0

    def test_crowds_alone_are_nothing_to_find(self, scorer):
        scores = coco_eval.score(tiny(square(1, crowd=1)), found_at(square(1)), [1], scorer)
        assert set(scores.stats.values()) == {None}
        assert [row["ap"] for row in scores.per_class] == [None, None]

    def test_two_categories_of_a_name_are_scored_apart(self, scorer):
        data = tiny(square(1), square(3, category_id=9))
        data["categories"][1]["name"] = "a"
        scores = coco_eval.score(data, found_at(square(1)), [1], scorer)
        assert [(row["name"], row["ap"]) for row in scores.per_class] == [
            ("a (7)", ONE),
            ("a (9)", 0),
        ]


def test_the_usual_goal_is_one_of_coco_s_80_categories_alone():
    assert coco_eval.default_goal({"categories": [{}] * 80}) == 0.23
    assert coco_eval.default_goal({"categories": [{}] * 20}) is None
