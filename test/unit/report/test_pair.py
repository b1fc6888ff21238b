"""Which images of two runs got better and worse; the case is that of test_metrics.py."""

from ssd import coco, detections
from ssd.report import compare, pair

import pytest
from models import FIVE


@pytest.fixture
def data():
    return coco.read_data(FIVE / "coco", all_images=True)


@pytest.fixture
def found():
    return detections.from_json(FIVE / "result" / "bs1_detections.json")


def test_a_run_compared_with_itself_changes_no_image(data, found):
    made, _ = pair.compare_images(data, (found, found), 0.3)
    assert made["changes"] == {"better": 0, "worse": 0, "same": 5}
    assert (made["noise"], made["images"]) == (0, [])


def test_images_are_better_or_worse_by_their_errors(data, found):
    # B misses the dog of image 30, and has no owl in 50 and no cat on the dog of 10
    other = found[[score not in (0.91, 0.37, 0.82) for score in found.score.tolist()]]
    made, _ = pair.compare_images(data, (found, other), 0.3)
    assert made["changes"] == {"better": 2, "worse": 1, "same": 2}
    images = [(row["image_id"], row["group"], row["change"]) for row in made["images"]]
    assert images == [(30, "worse", 1), (50, "better", -1), (10, "better", -1)]
    first = made["images"][0]
    assert first["a"] == {"found": 1, "missed": 0, "false": 0, "f1": 1}
    assert first["b"] == {"found": 0, "missed": 1, "false": 0, "f1": 0}
    assert made["noise"] > 0


def row_of(difference):
    return {"stats": [{"difference": difference, "verdict": None}]}


@pytest.mark.parametrize(
    ("difference", "verdict"), [(0.02, "same"), (-0.02, "same"), (0.04, "better"), (-0.04, "worse")]
)
def test_a_difference_within_the_noise_is_none(difference, verdict):
    comparison = row_of(difference)
    made = {"noise": 0.03, "images": [], "changes": {"better": 1, "worse": 2, "same": 3}}
    compare.add_images(comparison, made)
    assert comparison["stats"][0]["verdict"] == verdict
    first, second = compare.change_lines(comparison)
    assert ("may be chance" in first) == (verdict == "same")
    assert second == "images: 1 better, 2 worse, 3 as before"
