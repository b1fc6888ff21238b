"""What is found in images and frames, in memory and as a COCO instances file."""

import json
import tracemalloc

from ssd.detect.results import Found, Results

from models import make_detections

CATEGORIES = [{"id": 3, "name": "猫"}, {"id": 7, "name": "kite"}]


def test_images_and_frames_are_written_as_coco_has_them(tmp_path):
    results = Results(CATEGORIES, tmp_path / "d.json", {"score": 0.5})
    two = make_detections((9, 1, 2, 11, 22, 0.75, 7), (9, -4, 0, 8, 6, 0.5, 3))
    results.append(Found("a.png", 60, 40, two))
    results.append(Found("v.avi", 8, 6, make_detections(), 0, 0.0))
    results.append(Found("v.avi", 8, 6, two[1:], 1, 0.0412345678))
    assert (len(results), results.frames, results.boxes) == (3, 2, 3)
    assert results.per_category() == {3: 2, 7: 1}
    results.save(bad=["v.avi"])
    common = {"iscrowd": 0}
    assert json.loads((tmp_path / "d.json").read_text("utf-8")) == {
        "info": {"score": 0.5, "bad": ["v.avi"]},
        "images": [
            {"id": 1, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 2, "file_name": "v.avi", "width": 8, "height": 6, "frame": 0, "seconds": 0},
            {"id": 3, "file_name": "v.avi", "width": 8, "height": 6, "frame": 1}
            | {"seconds": 0.041235},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 20], "score": 0.75}
            | common
            | {"area": 200},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [-4, 0, 12, 6], "score": 0.5}
            | common
            | {"area": 72},
            {"id": 3, "image_id": 3, "category_id": 3, "bbox": [-4, 0, 12, 6], "score": 0.5}
            | common
            | {"area": 48},  # no larger than the image
        ],
        "categories": CATEGORIES,
    }


def test_nothing_is_a_file_too(tmp_path):
    Results(CATEGORIES, tmp_path / "d.json").save()
    empty = {"info": {}, "images": [], "annotations": [], "categories": CATEGORIES}
    assert json.loads((tmp_path / "d.json").read_text("utf-8")) == empty


def test_a_long_video_takes_little_memory(tmp_path):
    frames = 1500
    five = make_detections(*[(0, 1, 2, 11, 22, 0.75, 7)] * 5)
    results = Results(CATEGORIES, tmp_path / "d.json")
    tracemalloc.start()
    try:
        for i in range(frames):
            results.append(Found("v.avi", 640, 480, five, i, i / 25))
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        results.save()
        written = tracemalloc.get_traced_memory()[1] - kept
    finally:
        tracemalloc.stop()
    assert (tmp_path / "d.json").stat().st_size > 100 * 5 * frames
    assert kept < 100 * 5 * frames  # bytes
    assert written < 8e6  # however many there are
    images = json.loads((tmp_path / "d.json").read_text())["images"]
    assert [image["id"] for image in images] == list(range(1, frames + 1))
