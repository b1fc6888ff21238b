"""How far two runs agree, worked out by hand: their detections, and their raw outputs."""

import math

from ssd.agreement import Difference, compare_outputs, match_rate
from ssd.cli import KitError

import numpy as np
import pytest
from models import make_detections


def test_the_figures_of_pairs_are_those_of_all_elements_together():
    difference = Difference()
    assert (difference.cosine, difference.max_abs, difference.mean_abs) == (1.0, 0.0, 0.0)
    difference.add(np.float32([3, 4]), np.float32([4, 3]))
    assert difference.cosine == pytest.approx(24 / 25)
    assert (difference.max_abs, difference.mean_abs) == (1.0, 1.0)
    difference.add(np.float32([[0]]), np.float32([[-5]]))
    assert difference.cosine == pytest.approx(24 / math.sqrt(25 * 50))
    assert (difference.max_abs, difference.mean_abs) == (5.0, pytest.approx(7 / 3))


@pytest.mark.parametrize(
    ("first", "second", "cosine"),
    [([0, 0], [0, 0], 1.0), ([0, 0], [0, 1], 0.0), ([1, 0], [0, 0], 0.0), ([1, 2], [-2, -4], -1.0)],
)
def test_zeros_and_opposites_have_a_cosine(first, second, cosine):
    difference = Difference()
    difference.add(np.float32(first), np.float32(second))
    assert difference.cosine == pytest.approx(cosine)


def test_one_nan_makes_all_figures_nan_for_good():
    difference = Difference()
    difference.add(np.float32([1, np.nan]), np.float32([1, 1]))
    difference.add(np.float32([1, 1]), np.float32([1, 1]))
    assert all(
        math.isnan(value) for value in (difference.cosine, difference.max_abs, difference.mean_abs)
    )


def test_equal_vectors_never_exceed_a_cosine_of_one():
    for seed in range(50):
        difference = Difference()
        values = np.random.default_rng(seed).normal(size=7).astype(np.float32)
        difference.add(values, values)
        assert 1 - 1e-12 < difference.cosine <= 1


def test_detections_are_found_again_by_place_label_and_image():
    above = make_detections(
        (1, 0, 0, 100, 100, 0.9, 3),  # is there again
        (1, 200, 0, 300, 100, 0.8, 3),  # again, but with another label
        (1, 400, 0, 500, 100, 0.7, 3),  # 89 % of it: too far
        (2, 0, 0, 10, 10, 0.6, 3),  # only in image 1
    )
    below = make_detections(
        (1, 0, 0, 100, 91, 0.2, 3),
        (1, 200, 0, 300, 100, 0.8, 7),
        (1, 400, 0, 500, 89, 0.7, 3),
        (1, 0, 0, 10, 10, 0.6, 3),
        (3, 0, 0, 100, 100, 0.9, 3),
    )
    assert match_rate(above, below) == 1 / 4
    assert match_rate(above, below, any_label=True) == 2 / 4
    assert match_rate(below, above) == 1 / 5


def test_an_iou_of_exactly_nine_tenths_is_the_same():
    assert (
        match_rate(
            make_detections((1, 0, 0, 10, 10, 1, 3)), make_detections((1, 0, 0, 10, 9, 1, 3))
        )
        == 1
    )


def test_a_detection_is_found_once_and_the_best_chooses_first():
    box = (1, 0, 0, 100, 100, 0.9, 3)
    assert match_rate(make_detections(box, box), make_detections(box)) == 0.5
    # the better one of those above is nearer to the second below, which leaves the first
    above = make_detections((1, 0, 0, 100, 96, 0.1, 3), (1, 0, 0, 100, 100, 0.9, 3))
    below = make_detections((1, 0, 0, 100, 89, 0.9, 3), (1, 0, 0, 100, 99, 0.1, 3))
    assert match_rate(above, below) == 1


def test_without_detections_above_there_is_no_share_and_below_none_is_found():
    found = make_detections((1, 0, 0, 100, 100, 0.9, 3))
    assert match_rate(make_detections(), found) is None
    assert match_rate(found, make_detections()) == 0


def write_outputs(folder, image_id, ploc, plabel):
    folder.mkdir(exist_ok=True)
    for k, value in enumerate((ploc, plabel)):
        value.tofile(folder / f"tensor([{image_id}])_{k}.bin")


def test_raw_outputs_are_compared_over_all_images(tmp_path):
    ploc, plabel = np.zeros((4, 8732), np.float32), np.zeros((3, 8732), np.float32)
    for image_id in (5, 7):
        write_outputs(tmp_path / "a", image_id, ploc + 3, plabel + 1)
    write_outputs(tmp_path / "b", 5, ploc + 3, plabel + 2)
    ploc[0, 0] = 2  # 5 where the other has 3
    half = (ploc + 3).astype(np.float16), (plabel + 1).astype(np.float16)
    write_outputs(tmp_path / "b", 7, *half)
    write_outputs(tmp_path / "b", 99, *half)  # not asked for
    found = compare_outputs(tmp_path / "a", tmp_path / "b", [5, 7], 3)
    n, m = 2 * 4 * 8732, 2 * 3 * 8732
    assert (found["ploc"]["max_abs"], found["plabel"]["max_abs"]) == (2, 1)
    assert found["ploc"]["mean_abs"] == pytest.approx(2 / n)
    assert found["plabel"]["mean_abs"] == pytest.approx(1 / 2)
    assert found["all"]["max_abs"] == 2
    assert found["all"]["mean_abs"] == pytest.approx((2 + m / 2) / (n + m))
    assert found["plabel"]["cosine"] == pytest.approx((2 + 1) / math.sqrt(2 * (4 + 1)))
    both, first = 9 * n + 6 + 1.5 * m, 9 * n + m
    second = 9 * n - 9 + 25 + m / 2 + 4 * m / 2
    assert found["all"]["cosine"] == pytest.approx(both / math.sqrt(first * second))


def test_missing_outputs_are_named(tmp_path):
    for name in "ab":
        write_outputs(tmp_path / name, 5, *(np.zeros((n, 8732), np.float32) for n in (4, 3)))
    with pytest.raises(KitError, match=r"b: no outputs of image 7|a: no outputs of image 7"):
        compare_outputs(tmp_path / "a", tmp_path / "b", [5, 7], 3)
