"""Scores against pycocotools itself, and against values that can be worked out by hand."""

import contextlib
import io
import json

import numpy as np
import pytest

import ssd_coco
import ssd_score

ONE = pytest.approx(1, abs=1e-12)  # pycocotools adds an epsilon


def jittered(coco):
    """Result rows near the annotations of a real data set, some of them wrong."""
    instances = ssd_coco.read_instances(coco / ssd_coco.INSTANCES)
    rng = np.random.default_rng(0)
    rows = []
    for one in instances["annotations"] * 2:
        box = np.array(one["bbox"]) + rng.normal(0, 0.1, 4) * np.tile(one["bbox"][2:], 2)
        category = rng.choice([one["category_id"], 1])
        rows.append([one["image_id"], *box[:2], *box[2:].clip(1), rng.random(), category])
    return instances, np.array(rows)


def test_both_scorers_agree_with_pycocotools_on_real_annotations(coco_tiny, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    instances, rows = jittered(coco_tiny)
    ids = [image["id"] for image in instances["images"]]
    (tmp_path / "d.json").write_text(json.dumps(ssd_coco.results_to_json(rows)))
    text = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_tiny / ssd_coco.INSTANCES))
        own = COCOeval(truth, truth.loadRes(str(tmp_path / "d.json")), "bbox")
        own.evaluate()
        own.accumulate()
        with contextlib.redirect_stdout(text):
            own.summarize()
    per_class = own.eval["precision"][:, :, :, 0, -1]
    for scorer in ssd_score.SCORERS:
        scores = ssd_score.score(instances, rows, ids, scorer)
        assert list(scores.stats.values()) == pytest.approx(own.stats.tolist(), abs=1e-12)
        assert ssd_score.format_stats(scores.stats) + "\n" == text.getvalue()
        expected = [p[p > -1].mean() for p in np.moveaxis(per_class, 2, 0)]
        assert list(scores.per_class.values()) == pytest.approx(expected, abs=1e-12)
    assert 0.1 < own.stats[0] < 0.9


def square(number, side=20, crowd=0, **more):
    """An annotation of image 1: a square of its own place."""
    box = {"bbox": [30.0 * number, 10, side, side], "area": float(side * side), "iscrowd": crowd}
    return box | {"id": number, "image_id": 1, "category_id": 7} | more


def tiny(*annotations):
    images = [{"id": i, "file_name": "a.jpg", "height": 400, "width": 400} for i in (1, 2)]
    categories = [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}]
    return {"images": images, "annotations": list(annotations), "categories": categories}


def rows_of(*annotations, scores=None, image_id=1):
    scores = scores or np.linspace(0.9, 0.5, len(annotations))
    rows = [[image_id, *a["bbox"], s, 7] for a, s in zip(annotations, scores, strict=True)]
    return np.array(rows, float).reshape(-1, 7)


@pytest.mark.parametrize("scorer", ssd_score.SCORERS)
class TestByHand:
    def test_one_of_two_found_is_half_the_recall(self, scorer):
        a, b = square(1), square(2)
        stats = ssd_score.score(tiny(a, b), rows_of(a), [1], scorer).stats
        # precision 1 at the recalls 0, 0.01, ..., 0.50: 51 of 101
        assert stats["AP"] == pytest.approx(51 / 101, abs=1e-12)
        assert stats["AR100"] == 0.5
        assert stats["AP_small"] == stats["AP"]
        assert stats["AP_large"] == -1  # none to find

    def test_a_wrong_one_before_the_right_one_halves_the_precision(self, scorer):
        a, wrong = square(1), square(5)
        scores = ssd_score.score(tiny(a), rows_of(wrong, a), [1], scorer)
        assert scores.stats["AP"] == pytest.approx(0.5, abs=1e-12)
        assert scores.per_class == pytest.approx({"a": 0.5, "b": -1.0})

    def test_what_is_found_within_a_crowd_does_not_count(self, scorer):
        a, crowd = square(1), square(3, side=80, crowd=1)
        within = square(3, side=15)
        stats = ssd_score.score(tiny(a, crowd), rows_of(within, a), [1], scorer).stats
        assert stats["AP"] == ONE

    def test_an_annotation_of_id_0_is_found_like_any_other(self, scorer):
        a, b = square(0), square(1)
        assert ssd_score.score(tiny(a, b), rows_of(a, b), [1], scorer).stats["AP"] == ONE

    def test_the_annotations_are_left_as_they_were(self, scorer):
        data = tiny(square(0), square(1))
        before = json.dumps(data)
        ssd_score.score(data, rows_of(square(1)), [1], scorer)
        assert json.dumps(data) == before

    def test_false_positives_on_an_unannotated_image_count_if_it_is_scored(self, scorer):
        a = square(1)
        rows = np.concatenate([rows_of(a, image_id=2, scores=[0.95]), rows_of(a)])
        assert ssd_score.score(tiny(a), rows, [1], scorer).stats["AP"] == ONE
        assert ssd_score.score(tiny(a), rows, [1, 2], scorer).stats["AP"] == pytest.approx(0.5)

    def test_no_detection_prints_what_pycocotools_prints(self, scorer):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        data, text = tiny(square(1)), io.StringIO()
        truth, found = COCO(), COCO()
        with contextlib.redirect_stdout(io.StringIO()):
            for coco, annotations in ((truth, data["annotations"]), (found, [])):
                coco.dataset = data | {"annotations": annotations}
                coco.createIndex()
            own = COCOeval(truth, found, "bbox")
            own.evaluate()
            own.accumulate()
            with contextlib.redirect_stdout(text):
                own.summarize()
        scores = ssd_score.score(data, np.empty((0, 7)), [1, 2], scorer)
        assert ssd_score.format_stats(scores.stats) + "\n" == text.getvalue()
        assert scores.stats["AP"] == 0
