"""The gallery's images, and the boxes that the page draws on them."""

import base64
import io

from ssd import coco, detections
from ssd.coco_eval import STAT_LINES
from ssd.report import gallery, thresholds
from ssd.report.analysis import analyse
from ssd.report.matching import KINDS

import numpy as np
import pytest
from models import FIVE
from PIL import Image

STATS = dict.fromkeys(STAT_LINES, 0.5)
CAT, DOG = 0, 1


@pytest.fixture
def data():
    return coco.read_data(FIVE / "coco", all_images=True)


@pytest.fixture
def analysis(data):
    found = detections.from_json(FIVE / "result" / "bs1_detections.json")
    return analyse(data, found, STATS, 0.3)


def boxes_of(analysis, image):
    parts = (analysis.truth, analysis.found, analysis.outcome)
    steps = analysis.detail["by_score"]["thresholds"]
    return gallery.boxes_of(image, analysis, thresholds.true_levels(*parts, steps))


def test_an_image_s_boxes_say_what_they_are_and_up_to_which_score(analysis):
    # the working is in test_metrics.py; thresholds are 0.05, 0.10, ... 0.95, so .92 reaches 18
    first = boxes_of(analysis, 0)
    found, wrong = first["found"]
    assert [KINDS[found[0]], *found[1:4]] == ["found", CAT, 18, 0.92]
    assert [KINDS[wrong[0]], *wrong[1:4]] == ["class", CAT, 16, 0.82]
    assert [found[6], wrong[6]] == [-1, DOG]  # taken for a dog's box in the confusion matrix
    assert [row[:2] for row in first["truth"]] == [[CAT, 18], [DOG, 0]]  # the dog is never found
    third = boxes_of(analysis, 2)
    assert [KINDS[row[0]] for row in third["found"]] == ["found", "crowd"]
    assert [row[4] for row in third["truth"]] == [False, True]
    assert boxes_of(analysis, 4)["truth"] == []


def test_boxes_are_in_tenths_of_a_pixel_and_have_a_size(analysis):
    owl = boxes_of(analysis, 4)["found"][0]
    ltrb = analysis.found.ltrb[analysis.found.image == 4][0]
    assert owl[4] == (10 * ltrb).round().tolist()
    assert owl[5] == 0  # of its own, as there is no true box: small
    large = analysis.truth._replace(area=np.full(6, 1e5))
    wrong = boxes_of(analysis._replace(truth=large), 3)["found"][0]
    assert wrong[5] == 2  # of the cat that it was meant for


def decoded(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_every_image_of_the_gallery_is_read(data, analysis):
    images, shots, unread = gallery.read_gallery(data, analysis)
    assert (set(images), unread) == ({10, 20, 30, 40, 50}, [])
    assert {decoded(uri).size for uri in images.values()} == {(100, 100)}  # not enlarged
    assert (shots[10]["name"], shots[10]["width"], len(shots[10]["found"])) == ("10.jpg", 100, 2)


def test_an_unreadable_image_is_reported_and_the_others_are_shown(data, analysis, tmp_path):
    for path in data.image_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "20.jpg").write_bytes(b"no image")
    (tmp_path / "40.jpg").unlink()
    images, shots, unread = gallery.read_gallery(data._replace(image_folder=tmp_path), analysis)
    assert set(images) == set(shots) == {10, 30, 50}
    assert len(unread) == 2
    assert any("20.jpg" in line for line in unread)


def test_large_images_are_scaled_down():
    rgb = Image.fromarray(np.full((1000, 500, 3), 128, np.uint8))
    assert gallery.thumbnail(rgb).shape == (480, 240, 3)


@pytest.mark.parametrize(("size", "shown"), [((40, 60), (40, 60)), ((60, 40), (60, 40))])
def test_a_phone_s_image_is_turned_where_its_annotation_is_of_it_turned(tmp_path, size, shown):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (40, 60)).save(tmp_path / "a.jpg", exif=exif)
    assert gallery.read_as_annotated(tmp_path / "a.jpg", size).size == shown
