"""What an actor finds in a block of images: each batch, bad images, outputs that are not finite."""

import sys
import time
from types import SimpleNamespace

from ssd.boxes import cxcywh_to_ltrb, default_boxes, ltrb_to_xywh
from ssd.cli import KitError

import numpy as np
import pytest
from models import COLORS, save_colors
from PIL import Image

pytest.importorskip("pyarrow")
from ssd.scale import rows, sources, tasks


@pytest.fixture
def detect(tmp_path, monkeypatch):
    """Make an actor for the detector of colors, without Ray."""
    context = SimpleNamespace(get_node_id=lambda: "host")
    fake = SimpleNamespace(get=lambda plan: plan, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", fake)

    def make(dtype="float32", ids=None, score=0.05):
        model = save_colors(tmp_path / f"{dtype}.onnx", dtype)
        files = {model.name: model.read_bytes()}
        plan = tasks.Plan(files, "onnxruntime", "f32", "cpu", 1, score, ids, False)
        return tasks.Detect(plan, threads=1)

    return make


@pytest.fixture
def images(tmp_path):
    """A block of an image of each color, and one that is none."""
    names = []
    for number, (name, color) in enumerate(COLORS.items(), start=1):
        Image.new("RGB", (100 * number, 50), color).save(tmp_path / f"{name}.png")
        names.append(str(tmp_path / f"{name}.png"))
    names.insert(1, str(tmp_path / "missing.png"))
    return tasks.read_images(sources.source_table(names), apply_exif=False)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_each_image_has_its_row(detect, images, dtype):
    table = detect(dtype, np.array([30, 10, 20]))(images)
    assert table.select(rows.SCHEMA.names).schema == rows.SCHEMA
    red, missing, green, blue = table.to_pylist()
    for row, label, width in ((red, 1, 100), (green, 2, 200), (blue, 3, 300)):
        whole = cxcywh_to_ltrb(default_boxes()[-1]) * np.float32([width, 50, width, 50])
        assert np.float32(row["boxes"]).tolist() == [ltrb_to_xywh(whole).tolist()]
        assert (row["labels"], row["category_ids"]) == ([label], [[30, 10, 20][label - 1]])
        assert row["scores"][0] > 0.9 and row["error"] is None and row["width"] == width
    assert missing["boxes"] == [] == missing["scores"] and "missing.png" in missing["error"]
    host, process, ready, engine = red[rows.WORKER].split("\t")
    assert (
        host == "host"
        and 0 < time.time() - float(ready) < 600
        and process.isdecimal()
        and engine.startswith("onnxruntime ")
    )


def test_only_good_scores_are_kept(detect, images):
    assert detect(score=1.0)(images)["scores"].to_pylist() == [[], [], [], []]


def test_outputs_that_are_not_finite_are_an_error_in_the_row(detect, images):
    actor = detect()
    run = actor.engine.run
    actor.engine = SimpleNamespace(
        dtype="float32", run=lambda batch: [output * np.float32("nan") for output in run(batch)]
    )
    table = actor(images)
    assert all("NaN" in error or "missing" in error for error in table["error"].to_pylist())


def test_a_model_that_cannot_be_run_is_a_row_of_a_failure(detect, images):
    table = detect(ids=np.arange(5))(images)
    (row,) = table.to_pylist()
    assert row[rows.WORKER] == tasks.FAILURE and row["path"] is None
    assert "float32.onnx: 4 labels, the data set has 5 categories" in row["error"]
    actor = detect()

    def run(batch):
        raise KitError("card 0: lost")

    actor.engine.run = run
    assert actor(images)["error"].to_pylist() == ["card 0: lost"]


def test_a_model_of_the_categories_of_coco_gives_their_ids(detect, monkeypatch):
    monkeypatch.setattr(tasks.coco, "COCO_CATEGORIES", [{"id": i} for i in (1, 5, 9)])
    assert detect().ids.tolist() == [1, 5, 9]
    monkeypatch.setattr(tasks.coco, "COCO_CATEGORIES", [{"id": i} for i in range(80)])
    assert detect().ids.tolist() == [1, 2, 3]
