"""Boxes and areas that no data set has, and facts that let its scores be wrong."""

import json

from ssd import coco
from ssd.annotation_checks import check_areas, check_boxes, find_warnings
from ssd.cli import KitError

import pytest

PIXELS = [[10, 10, 100, 80], [300, 200, 90, 40], [0, 0, 400, 300]] * 5


def instances(boxes, size=(400, 300), areas=None):
    """An instances dict of one image with those boxes."""
    areas = areas or [12.0] * len(boxes)
    rows = zip(boxes, areas, strict=True)
    return {
        "images": [{"id": 9, "file_name": "9.jpg", "width": size[0], "height": size[1]}],
        "annotations": [
            {"id": i, "image_id": 9, "category_id": 1, "bbox": list(box), "area": area}
            for i, (box, area) in enumerate(rows, start=1)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }


def scaled(factor):
    """PIXELS as parts of the image."""
    return [[v * factor / s for v, s in zip(box, (400, 300) * 2, strict=True)] for box in PIXELS]


def corners(boxes):
    return [[left, top, left + width, top + height] for left, top, width, height in boxes]


REFUSED = {  # words of the message: boxes
    "1 boxes with negative sides (annotations 16); boxes are [left": [*PIXELS, [50, 50, -10, 20]],
    "2 boxes with negative sides (annotations 1, 2)": [[50, 50, 5, -1], [9, 9, -0.5, 4]],
    "boxes are fractions of the image (0 to 1); make them pixels": scaled(1),
    "boxes are fractions": [[0.25, 0.5, 0.125, 0.25]],
    "boxes are percent of the image (0 to 100); make them pixels": scaled(100),
    "5 of 5 boxes fit their images only as corners [left, top, right": [[250, 20, 390, 60]] * 5,
    "10 of 15 boxes fit their images only as corners": corners(
        [[210, 10, 100, 80], [300, 200, 90, 90], [0, 0, 100, 100]] * 5
    ),
}
ACCEPTED = {
    "pixels": PIXELS,
    "none": [],
    "few in one corner": [[10, 10, 90, 80]] * 9,
    "in one corner": [[10, 10, 50, 60]] * 20,
    "empty": [[5, 5, 0, 0]] * 20,
    "all zero": [[0, 0, 0, 0]],
    "one pixel, further right": [[200, 100, 1, 1]],
    "beyond the image by rounding": [[0, 0, 401, 301]] * 3,
    "one of three beyond": [[300, 20, 350, 60], *PIXELS[:2]],
    "beyond, and no corners": [[300, 20, 200, 15]] * 3,
    "beyond, as corners too": [[10, 10, 500, 80]] * 3,
}


@pytest.mark.parametrize("words", REFUSED)
def test_boxes_that_cannot_be_are_refused(words, tmp_path):
    with pytest.raises(KitError) as error:
        check_boxes(instances(REFUSED[words]), tmp_path / "a.json")
    assert str(error.value).startswith(f"{tmp_path / 'a.json'}: ") and words in str(error.value)
    (tmp_path / "a.json").write_text(json.dumps(instances(REFUSED[words])))
    with pytest.raises(KitError):
        coco.read_instances(tmp_path / "a.json")


@pytest.mark.parametrize("name", ACCEPTED)
def test_other_boxes_are_taken(name, tmp_path):
    check_boxes(instances(ACCEPTED[name]), tmp_path / "a.json")


def test_small_images_may_have_boxes_of_a_pixel_or_in_100(tmp_path):
    check_boxes(instances([[0, 0, 1, 1]], size=(4, 3)), tmp_path / "a.json")
    check_boxes(instances([[10, 10, 90, 80]] * 20, size=(199, 300)), tmp_path / "a.json")


@pytest.mark.parametrize(("area", "fits"), [(0, 1), (120_000, 1), (-0.5, 0), (130_000, 0)])
def test_an_area_lies_within_the_image(area, fits, tmp_path):
    data = instances(PIXELS[:2], areas=[10.0, area])
    for annotation in data["annotations"]:
        annotation["iscrowd"] = 0
    if fits:
        return coco.check_scorable(data, tmp_path / "a.json")
    with pytest.raises(KitError, match=r"1 areas below 0 or larger .*\(annotations 2\)"):
        coco.check_scorable(data, tmp_path / "a.json")


def test_no_annotations_are_no_error(tmp_path):
    check_areas(instances([]), tmp_path / "a.json")
    assert find_warnings(instances([]), coco.COCO_CATEGORIES) == []


def test_most_boxes_beyond_their_images_are_a_warning():
    assert find_warnings(instances(PIXELS), coco.COCO_CATEGORIES) == []
    (warning,) = find_warnings(instances([[300, 20, 200, 15]] * 2 + PIXELS[:1]), [])
    assert warning.startswith("2 of 3 boxes reach beyond their images; check")
    assert find_warnings(instances([[300, 20, 200, 15], *PIXELS[:1]]), []) == []  # half of them


def test_cocos_categories_in_another_order_are_a_warning():
    def found(categories):
        return find_warnings(instances([]) | {"categories": categories}, coco.COCO_CATEGORIES)

    rows = list(coco.COCO_CATEGORIES)
    assert found(rows) == found(rows[:79][::-1]) == []
    assert found([{"id": 100 - i, "name": f"other {i}"} for i in range(80)]) == []
    moved = "2 of 80 categories stand in another order than COCO's; label k is the kth of them"
    assert found([rows[1], rows[0], *rows[2:]])[0].startswith(moved)
    by_name = sorted(row["name"] for row in rows)
    (warning,) = found([{"id": i, "name": name} for i, name in enumerate(by_name)])
    assert "another order than COCO's" in warning


def test_real_annotations_are_in_order(coco_tiny):
    data = coco.read_instances(coco_tiny / coco.INSTANCES)
    coco.check_scorable(data, coco_tiny)
    assert find_warnings(data, coco.COCO_CATEGORIES) == []


def test_categories_of_one_name_are_told_apart_by_id():
    data = {"categories": [{"id": i, "name": name} for i, name in ((3, "a"), (1, "b"), (2, "a"))]}
    assert coco.category_names(data) == {3: "a (3)", 1: "b", 2: "a (2)"}
