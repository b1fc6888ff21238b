"""TIDE, calibration and bootstrap by hotcoco: by hand, against tidecv and a plain bootstrap."""

from ssd import coco, coco_eval
from ssd.detections import concatenate
from ssd.report import diagnosis

import numpy as np
import pytest
from models import make_detections, near_truth

SIDE = 10


def instances_of(*annotations, images=2):
    """Squares of side 10 at a place, of a category: (image, left, category)."""
    rows = [
        {"id": i, "image_id": image, "bbox": [left, 0, SIDE, SIDE], "category_id": category}
        | {"area": SIDE**2, "iscrowd": 0}
        for i, (image, left, category) in enumerate(annotations, start=1)
    ]
    sizes = {"height": 400, "width": 400}
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg"} | sizes for i in range(1, images + 1)],
        "annotations": rows,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def found_at(*rows):
    """Detections of (image, left, score, category)."""
    return make_detections(
        *((image, left, 0, left + SIDE, SIDE, score, label) for image, left, score, label in rows)
    )


def test_what_each_error_costs_by_hand():
    truth = instances_of((1, 0, 1), (1, 50, 2))
    # a is found after a false one on the background; b is found as an a, worse than both
    found = found_at((1, 200, 0.9, 1), (1, 0, 0.8, 1), (1, 50, 0.7, 1))
    made = diagnosis.tide(diagnosis.evaluate(truth, found, [1]))
    # a: F T F, precision 1/2 at every recall; b: 0; the mean 1/4
    assert made["ap50"] == pytest.approx(1 / 4)
    gains = made["delta_ap"]
    assert gains["background"] == pytest.approx(1 / 4)  # a: T F, 1; the mean 1/2
    assert gains["class"] == pytest.approx(1 / 2)  # b is found: 1; the mean 3/4
    assert [gains[kind] for kind in ("location", "both", "duplicate", "missed")] == [0] * 4


@pytest.mark.parametrize(
    ("kind", "truth", "found", "before", "gain"),
    [  # places of boxes of side 10: 5 apart is an IoU of 1/3. AP is a mean over 101 recalls
        ("location", [(1, 0, 1)], [(1, 5, 0.9, 1)], 0, 1),
        # T F T: precision 1 up to recall 1/2, then 2/3; without the second 1
        (
            "duplicate",
            [(1, 0, 1), (1, 100, 1)],
            [(1, 0, 0.9, 1), (1, 0, 0.8, 1), (1, 100, 0.7, 1)],
            (51 + 50 * 2 / 3) / 101,
            50 / 3 / 101,
        ),
        # one of two found: precision 1 up to recall 1/2; without the other 1
        ("missed", [(1, 0, 1), (1, 100, 1)], [(1, 0, 0.9, 1)], 51 / 101, 50 / 101),
        # a b near an a, before the true b: 1/2 for b, 0 for a; without it 1 for b
        ("both", [(1, 0, 1), (1, 50, 2)], [(1, 5, 0.9, 2), (1, 50, 0.8, 2)], 1 / 4, 1 / 4),
    ],
)
def test_what_a_kind_of_error_costs_by_hand(kind, truth, found, before, gain):
    made = diagnosis.tide(diagnosis.evaluate(instances_of(*truth), found_at(*found), [1]))
    assert made["ap50"] == pytest.approx(before)
    assert made["delta_ap"][kind] == pytest.approx(gain)


def test_what_each_error_costs_is_as_in_tidecv(coco_tiny):
    tidecv = pytest.importorskip("tidecv", reason="tidecv is not installed")
    instances = coco.read_instances(coco_tiny / coco.INSTANCES)
    instances["annotations"] = [a for a in instances["annotations"] if not a["iscrowd"]]
    ids = [image["id"] for image in instances["images"]]
    found = near_truth(instances, copies=1, seed=6)  # misses no class altogether: tidecv would
    # leave such a class out of the mean, hotcoco counts it as 0
    made = diagnosis.tide(diagnosis.evaluate(instances, found, ids))
    true, given = (tidecv.Data(name, max_dets=10**6) for name in ("true", "given"))
    for image_id in ids:
        true.add_image(image_id, "")
    for a in instances["annotations"]:
        true.add_ground_truth(a["image_id"], a["category_id"], a["bbox"])
    for row in coco_eval.to_json(found):
        given.add_detection(row["image_id"], row["category_id"], row["score"], row["bbox"])
    judge = tidecv.TIDE()
    run = judge.evaluate(true, given, mode=tidecv.TIDE.BOX)
    assert 100 * made["ap50"] == pytest.approx(run.ap, abs=0.01)
    gains = judge.get_main_errors()["given"]
    for kind, name in diagnosis.ERROR_NAMES.items():
        assert 100 * made["delta_ap"][kind] == pytest.approx(gains[name], abs=0.01), kind


def test_calibration_by_hand():
    truth = instances_of((1, 0, 1), (2, 0, 1))
    found = found_at((1, 0, 0.92, 1), (2, 0, 0.98, 1), (1, 100, 0.94, 1), (2, 100, 0.25, 1))
    made = diagnosis.calibration(diagnosis.evaluate(truth, found, [1, 2]))
    low, high = made["bins"]
    assert (low["count"], low["true"], low["score"]) == (1, 0, pytest.approx(0.25))
    assert (high["count"], high["true"]) == (3, pytest.approx(2 / 3))
    expected = (0.25 + 3 * abs((0.92 + 0.98 + 0.94) / 3 - 2 / 3)) / 4
    assert made["error"] == pytest.approx(expected)
    none = diagnosis.calibration(diagnosis.evaluate(truth, concatenate([]), [1, 2]))
    assert none == {"error": None, "bins": []}


def test_the_noise_of_a_map_is_that_of_a_plain_bootstrap(coco_tiny):
    instances = coco.read_instances(coco_tiny / coco.INSTANCES)
    instances["annotations"] = [a | {"category_id": 1} for a in instances["annotations"]]
    instances["categories"] = instances["categories"][:1]
    found = near_truth(instances, copies=1, seed=2)
    ids = [image["id"] for image in instances["images"]]
    half = diagnosis.map_noise(instances, diagnosis.evaluate(instances, found, ids), ids)
    rng, maps, of_image = np.random.default_rng(0), [], found.by_image()
    by_image = {i: [a for a in instances["annotations"] if a["image_id"] == i] for i in ids}
    for _ in range(100):
        drawn = rng.choice(ids, len(ids))
        parts, annotations = [], []
        for new, old in enumerate(drawn.tolist(), start=1):  # an image drawn twice is two images
            annotations += [a | {"image_id": new} for a in by_image[old]]
            part = of_image.get(old)
            if part is not None:
                ids_of_part = np.full(len(part), new)
                parts.append(type(part)(ids_of_part, part.ltrb, part.score, part.category_id))
        sample = {"images": [{"id": i} for i in range(1, len(ids) + 1)], "annotations": annotations}
        sample["categories"] = instances["categories"]
        evaluation = diagnosis.evaluate(sample, concatenate(parts), range(1, len(ids) + 1))
        maps.append(evaluation.stats[0])
    assert half == pytest.approx(1.96 * np.std(maps), rel=0.25)


def test_a_run_differs_from_itself_by_nothing_and_from_another_by_some():
    truth = instances_of(*((i, 0, 1) for i in range(1, 9)), images=8)
    ids = list(range(1, 9))
    whole = diagnosis.evaluate(truth, found_at(*((i, 0, 0.9, 1) for i in ids)), ids)
    half = diagnosis.evaluate(truth, found_at(*((i, 0, 0.9, 1) for i in ids[:4])), ids)
    assert diagnosis.noise(whole, whole) == 0
    assert diagnosis.noise(half, whole) > 0.1


def test_what_looks_wrong_in_the_annotations_is_named():
    truth = instances_of((1, 0, 1), (1, 0, 1), (1, 395, 1))
    found = {row["code"]: row for row in diagnosis.check_labels(truth)}
    assert found["near_duplicate"]["ids"] == [1, 2]
    assert found["bbox_out_of_bounds"]["ids"] == [3]
    assert found["zero_instance_category"]["count"] == 1
