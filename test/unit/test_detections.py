"""Detections: their arrays, their result files, and what decoding makes of raw outputs."""

import json
import shutil

from ssd import detections
from ssd.boxes import ltrb_to_xywh, xywh_to_ltrb
from ssd.cli import KitError
from ssd.detections import Detections, concatenate

import numpy as np
import pytest
from models import make_detections

NAN = float("nan")
IMAGE = {"id": 9, "width": 60, "height": 40}
FIELDS = ("image_id", "ltrb", "score", "category_id")


def columns(found):
    return [getattr(found, field).tolist() for field in FIELDS]


def test_a_result_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "d.json").write_text('[{"image_id": 1}]')
    with pytest.raises(KitError, match="not a COCO result file"):
        detections.from_json(tmp_path / "d.json")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [1],
        [{"image_id": 9, "bbox": [1, 2, 3], "score": 0.5, "category_id": 7}] * 7,
        [{"image_id": 9, "bbox": "1234", "score": 0.5, "category_id": 7}],
        [{"image_id": 9, "bbox": [1, 2, 3, NAN], "score": 0.5, "category_id": 7}],
        [{"image_id": "9", "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 7}],
    ],
)
def test_result_files_of_another_form_are_refused(value, tmp_path):
    (tmp_path / "d.json").write_text(json.dumps(value))
    with pytest.raises(KitError, match="not a COCO result file.*make it with ssd_postprocess.py"):
        detections.from_json(tmp_path / "d.json")


@pytest.mark.parametrize("count", [2, 0])
def test_a_result_file_comes_back_as_it_was_written(count, tmp_path):
    rows = [(9, 1.5, -2, 4.5, 2, 0.25, 7), (2**53 - 1, 0, 0, 1e-3, 5, 1, 2**53 - 2)][:count]
    found = make_detections(*rows)
    (tmp_path / "d.json").write_text(json.dumps(detections.to_json(found)))
    again = detections.from_json(tmp_path / "d.json")
    assert columns(again) == columns(found)
    assert again.ltrb.shape == (count, 4)
    assert (again.image_id.dtype, again.category_id.dtype) == (np.int64, np.int64)


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_a_result_file_is_written_in_parts_to_the_last_bit(count, tmp_path, monkeypatch):
    monkeypatch.setattr(detections, "ROWS", 2)
    found = make_detections(*((9 + i, 1 / 3, -2, 4.7, i, 1e-9 / 7, 7) for i in range(count)))
    detections.write_detections(tmp_path / "d.json", found)
    assert json.loads((tmp_path / "d.json").read_text()) == detections.to_json(found)


def test_no_detection_takes_more_bytes_than_are_reserved(tmp_path):
    long = np.float32(-1234.5677), 2**53 - 1, 2**53 - 2  # pixels, image id, category id
    row = (long[1], *[long[0]] * 2, 0, 0, np.nextafter(np.float32(0.1), 1), long[2])
    detections.write_detections(tmp_path / "d.json", make_detections(*[row] * 100))
    assert (tmp_path / "d.json").stat().st_size <= 100 * detections.ROW_BYTES


def test_room_for_the_detections_is_checked(tmp_path, monkeypatch):
    needed = 5000 * 200 * detections.ROW_BYTES
    for free in (needed, needed - 1):
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, usage=usage: usage)
        if free == needed:
            detections.check_room(tmp_path / "d.json", 5000)
        else:
            with pytest.raises(KitError, match="the detections in d.json need 0.192 GB, 0.192 GB"):
                detections.check_room(tmp_path / "d.json", 5000)


def test_the_result_form_by_hand():
    found = make_detections((139, 10, 20, 110, 70, 0.875, 3))
    expected = {"image_id": 139, "category_id": 3, "bbox": [10, 20, 100, 50], "score": 0.875}
    assert detections.to_json(found) == [expected]


def test_width_and_height_are_written_as_differences_in_float32():
    # 0.3 - 0.1 is another number in float32 than in float64
    ltrb = np.array([[0.1, 0.1, 0.3, 0.3]], np.float32)
    found = Detections(np.array([1]), ltrb, np.ones(1, np.float32), np.array([1]))
    width = float(np.float32(0.3) - np.float32(0.1))
    assert detections.to_json(found)[0]["bbox"][2:] == [width, width]
    assert width != float(np.float32(0.3)) - float(np.float32(0.1))


def test_coordinates_change_their_form_and_back():
    xywh = np.array([[[1, 2, 3, 4.0]], [[-5, 0, 0, 8]]])
    ltrb = [[[1, 2, 4, 6.0]], [[-5, 0, -5, 8]]]
    assert xywh_to_ltrb(xywh).tolist() == ltrb
    assert ltrb_to_xywh(np.array(ltrb)).tolist() == xywh.tolist()
    assert xywh_to_ltrb(np.empty((0, 4))).shape == ltrb_to_xywh(np.empty((0, 4))).shape == (0, 4)


def test_detections_are_split_by_image_best_first():
    box = (0, 0, 1, 1)
    found = make_detections(
        (8, *box, 0.5, 1), (3, *box, 0.2, 2), (8, *box, 0.7, 3), (8, *box, 0.5, 4)
    )
    parts = found.by_image()
    assert list(parts) == [3, 8]
    assert parts[3].category_id.tolist() == [2]
    assert parts[8].category_id.tolist() == [3, 1, 4]
    assert make_detections().by_image() == {}


def test_detections_are_selected_and_joined_column_by_column():
    a, b = (1, 0, 0, 1, 1, 0.5, 3), (2, 5, 6, 7, 8, 0.9, 4)
    both = concatenate([make_detections(a), make_detections(), make_detections(b)])
    assert columns(both) == columns(make_detections(a, b)) and len(both) == 2
    assert columns(both[both.score > 0.6]) == columns(make_detections(b))
    assert columns(both[::-1]) == columns(make_detections(b, a))
    empty = concatenate([])
    assert (len(empty), empty.ltrb.shape, empty.image_id.dtype) == (0, (0, 4), np.int64)


def one_box(width=0.0, height=0.0):
    """Outputs that find the last default box, (0.065, 0.065, 0.87, ...), with these offsets."""
    ploc, plabel = np.zeros((4, 8732), np.float32), np.zeros((3, 8732), np.float32)
    plabel[0] = 20
    plabel[:, 8728] = 0, 0, 30
    ploc[2:, 8728] = width, height
    return ploc, plabel


def test_decoded_boxes_are_pixels_of_the_image_and_its_category():
    found = detections.decode_image(IMAGE, *one_box(), np.array([7, 3]))
    # box 8728 is 0.87 of the image, in its middle: 0.065 to 0.935 of 60 x 40
    assert (found.image_id.tolist(), found.category_id.tolist()) == ([9], [3])
    assert found.ltrb[0] == pytest.approx([3.9, 2.6, 56.1, 37.4], rel=1e-6)
    assert found.score == pytest.approx([1])
    assert [getattr(found, field).dtype.name for field in FIELDS] == [
        *("int64", "float32", "float32", "int64")
    ]


def test_an_image_with_nothing_in_it_is_no_error():
    ploc, plabel = one_box()
    plabel[0] = 40
    found = detections.decode_image(IMAGE, ploc, plabel, np.array([7, 3]))
    assert (len(found), found.ltrb.shape) == (0, (0, 4))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offsets", [(500, 0), (500, -600), (440, 440)])
def test_a_box_without_end_counts_as_not_finite(offsets):
    assert detections.decode_image(IMAGE, *one_box(*offsets), np.array([7, 3])) is None
