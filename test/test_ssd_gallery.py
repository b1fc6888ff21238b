"""The gallery's pictures: which boxes are drawn how."""

import argparse
import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ssd_analysis
import ssd_coco
import ssd_gallery

FIVE = Path(__file__).parent / "data" / "five"
DOG = "<b>\"dog\" & 'co'"


@pytest.fixture
def data():
    more = {"annotation": None, "images": None, "all_images": True}
    return ssd_coco.open_data(argparse.Namespace(data=FIVE / "coco", **more))


@pytest.fixture
def analysis(data):
    rows = ssd_coco.results_from_json(FIVE / "result" / "bs1_detections.json")
    return ssd_analysis.analyse(data, rows, 0.3)


def test_found_missed_and_false_boxes_are_marked(analysis):
    def told(image):
        boxes = ssd_gallery.boxes_of(image, analysis)
        return [(kind, text, dashed) for kind, _, text, dashed in boxes]

    # the working is in test_ssd_curves.py; those that need the eye most lie on top
    assert told(0) == [
        ("missed", DOG, True),
        ("false", "cat 0.82", False),
        ("found", "cat 0.92", False),
        ("true", "", True),
    ]
    assert told(2) == [
        ("found", f"{DOG} 0.91", False),
        ("true", "", True),
        ("crowd", f"{DOG} 0.52", False),
        ("crowd", DOG, True),
    ]
    assert told(4) == [("false", "猫头鹰 0.37", False)]  # the cat of 0.22 is too weak


def decoded(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_every_picture_of_the_gallery_is_drawn(data, analysis):
    pictures, missing = ssd_gallery.draw_all(data.pictures, analysis)
    assert (set(pictures), missing) == ({10, 20, 30, 40, 50}, [])
    assert {decoded(uri).size for uri in pictures.values()} == {(100, 100)}  # not enlarged


def test_a_picture_that_cannot_be_read_is_told_and_the_others_are_drawn(data, analysis, tmp_path):
    for path in data.pictures.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "20.jpg").write_bytes(b"no picture")
    (tmp_path / "40.jpg").unlink()
    pictures, missing = ssd_gallery.draw_all(tmp_path, analysis)
    assert set(pictures) == {10, 30, 50}
    assert len(missing) == 2
    assert any("20.jpg" in one for one in missing)


def test_large_pictures_are_scaled_down_and_their_boxes_with_them(analysis):
    rgb = Image.fromarray(np.full((1000, 500, 3), 128, np.uint8))
    bgr = ssd_gallery.draw_boxes(rgb, 4, analysis)
    assert bgr.shape == (480, 240, 3)
    # the owl's box is 30 to 40 pixels of the file, so 14 to 19 here: its red outline is there
    red = (bgr[:, :, 2] > 180) & (bgr[:, :, 0] < 60)
    assert red[14:20, 14:20].any()
    assert not red[200:].any()


def test_the_colours_differ_for_the_colour_blind_too():
    # by lightness, which every eye sees: found, false, missed and true box
    weights = np.array([0.0722, 0.7152, 0.2126])
    kinds = ("found", "false", "missed", "true")
    light = [weights @ (np.array(ssd_gallery.COLOURS[kind]) / 255) ** 2.2 for kind in kinds]
    gaps = [abs(a - b) for i, a in enumerate(light) for b in light[:i]]
    assert min(gaps) > 0.1
