"""Matches as CSV and as a COCO file; the case is that of test_metrics.py."""

import contextlib
import csv
import io

from ssd import coco, detections
from ssd.report import analysis, export

import pytest
from models import FIVE


@pytest.fixture
def five():
    data = coco.read_data(FIVE / "coco", all_images=True)
    found = detections.from_json(FIVE / "result" / "bs1_detections.json")
    return data, analysis.examine(data, found, 0.3)[0]


def test_each_detection_and_each_missed_box_has_a_row(five):
    table = list(csv.DictReader(io.StringIO(export.as_csv(*five).decode())))
    kinds = [
        (row["file_name"], row["kind"], row["category"], row["true_category"]) for row in table
    ]
    dog, owl = "<b>\"dog\" & 'co'", "猫头鹰"
    assert kinds == [
        ("10.jpg", "found", "cat", "cat"),
        ("10.jpg", "class", "cat", dog),
        ("20.jpg", "found", "cat", "cat"),
        ("20.jpg", "duplicate", "cat", "cat"),
        ("30.jpg", "found", dog, dog),
        ("30.jpg", "crowd", dog, ""),
        ("40.jpg", "class", dog, "cat"),
        ("50.jpg", "background", owl, ""),
        ("50.jpg", "background", "cat", ""),
        ("10.jpg", "missed", dog, dog),  # a score that counts or not: all are here
        ("40.jpg", "missed", "cat", "cat"),
    ]
    assert [row["score"] for row in table[:2]] == ["0.92", "0.82"] and table[-1]["score"] == ""
    assert float(table[2]["iou"]) == pytest.approx(0.8)


def test_pycocotools_reads_the_matches(five):
    from pycocotools.coco import COCO

    made = COCO()
    made.dataset = export.as_coco(*five)
    with contextlib.redirect_stdout(io.StringIO()):
        made.createIndex()
    assert [len(made.getAnnIds(imgIds=[i])) for i in (10, 20, 30, 40, 50)] == [3, 2, 2, 2, 2]
    first = made.loadAnns(made.getAnnIds(imgIds=[10]))[0]
    assert (first["kind"], first["score"]) == ("found", 0.92)
    assert first["area"] == first["bbox"][2] * first["bbox"][3]
