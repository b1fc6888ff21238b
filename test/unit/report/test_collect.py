"""What of a result folder goes into one table: parts of the same run, rows that can be compared."""

import json
import shutil
from pathlib import Path

from ssd.files import digest
from ssd.report.collect import collect

import pytest
from models import FIVE

RAN = {"engine": "onnxruntime 1.32.0", "precision": "f32"}
ENGINE = "openvino 2026.1"


@pytest.fixture
def result(tmp_path):
    """Batch 1 scored and timed, batch 4 timed alone."""
    folder = Path(shutil.copytree(FIVE / "result", tmp_path / "r"))
    change(folder, "bs1_summary", made_from=RAN)
    change(folder, "bs1_perf_summary", made_from=RAN, model_sha256=summary(folder)["model_sha256"])
    return folder


def summary(folder, name="bs1_summary"):
    return json.loads((folder / f"{name}.json").read_text())


def change(folder, name, **values):
    (folder / f"{name}.json").write_text(json.dumps(summary(folder, name) | values))


def test_scores_of_another_run_are_left_out(result, capsys):
    change(result, "bs1_result", made_from={"inference": digest(RAN)})
    assert collect(result, [1], {})["rows"][0]["map"] is not None
    assert capsys.readouterr().err == ""
    change(result, "bs1_result", made_from={"inference": digest({})})
    report = collect(result, [1], {})
    assert report["rows"][0]["map"] is None and report["stats"] is None
    line = f"{result}/bs1_result.json: of another run than bs1_summary.json; left out\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"model_sha256": "f" * 64}, "model"),
        ({"engine": ENGINE}, "engine"),
        ({"made_from": RAN | {"precision": "bf16"}}, "precision"),
    ],
)
def test_a_time_of_another_run_stands_in_no_row_with_a_map(values, word, result, capsys):
    change(result, "bs1_perf_summary", **values)  # the newer one
    row = collect(result, [1], {})["rows"][0]
    assert row["map"] is None and row["end_to_end"] is None and row["fps"] > 0
    line = f"{result}/bs1_summary.json: of another {word} than the newer one; left out\n"
    assert capsys.readouterr().err == line


def test_on_a_card_the_tool_and_the_kit_are_one_engine(result, capsys):
    for name, engine in (("bs1_summary", "ascend 0.0.2"), ("bs1_perf_summary", "ais_bench 0.0.2")):
        change(result, name, model="ssd_bs1.om", engine=engine)
    assert collect(result, [1], {})["rows"][0]["map"] is not None
    assert capsys.readouterr().err == ""


def test_rows_of_different_engines_or_images_are_named(result):
    assert collect(result, [], {})["warnings"] == []
    change(result, "bs4_perf_summary", engine=ENGINE)
    shutil.copy(result / "bs1_result.json", result / "bs4_result.json")
    for batch, count in ((1, 5), (4, 3)):
        made_from = {"annotation": "a", "images": digest(count)}
        words = {"scored": f"all {count} images", "made_from": made_from}
        change(result, f"bs{batch}_result", **words)
    assert collect(result, [], {})["warnings"] == [
        f"the rows are of different engines (batch 1 in {RAN['engine']}, batch 4 in {ENGINE}): "
        "rows cannot be compared",
        "different annotations or images were scored (batch 1 of all 5 images, batch 4 of all 3 "
        "images): rows cannot be compared",
    ]
