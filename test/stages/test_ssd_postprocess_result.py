"""What ssd_postprocess.py prints, keeps and removes."""

import argparse
import json
import os

import ssd_postprocess
from ssd import coco

import numpy as np
import pytest


def test_nothing_to_find_is_said_in_words(tiny_coco, tmp_path, monkeypatch, capsys):
    path = tiny_coco / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    for annotation in data["annotations"]:
        annotation["iscrowd"] = 1
    path.write_text(json.dumps(data))
    (tmp_path / "d.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    ssd_postprocess.main(["--data", str(tiny_coco), "--score-only", "d.json", "--per-class"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("] = nothing to find") and "-1" not in lines[0]
    assert lines[12:16] == [f" class {i:<14} nothing to find" for i in (3, 7, 11, 90)]
    assert lines[-1] == "Current AP: nothing to find AP goal: none"
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["stats"].values()) == {None}
    assert [(row["id"], row["ap"]) for row in result["per_class"]] == [
        (i, None) for i in (3, 7, 11, 90)
    ]
    assert result["warnings"] == []


def test_a_warning_is_printed_and_kept(tiny_coco, tmp_path, monkeypatch, capsys):
    path = tiny_coco / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    for annotation in data["annotations"]:
        annotation["bbox"] = [3.0, 2.0, 900.0, 1.0]
    path.write_text(json.dumps(data))
    (tmp_path / "d.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    ssd_postprocess.main(["--data", str(tiny_coco), "--score-only", "d.json"])
    (warning,) = json.loads((tmp_path / "result.json").read_text())["warnings"]
    assert warning.startswith("4 of 4 boxes reach beyond their images")
    assert capsys.readouterr().err == f"warning: {path}: {warning}\n"


def test_scores_of_an_older_kit_are_made_again(tmp_path):
    args = argparse.Namespace(score_only=None, detections=None, output=tmp_path / "r.json")
    whole = {"warnings": [], "newest_output": 5, "made_from": {"kit": 1}}
    for kept in (whole, {"made_from": {"kit": 1}}, {"made_from": {"kit": 2}}, [1]):
        args.output.write_text(json.dumps(kept))
        expected = kept if kept is whole else None
        assert ssd_postprocess.find_kept(args, {"kit": 1}, newest=5) == expected


def test_scores_of_outputs_that_changed_since_are_made_again(tiny_coco, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bs1"
    folder.mkdir()
    for image in json.loads((tiny_coco / coco.INSTANCES).read_text())["images"]:
        for k, labels in enumerate((4, 5)):
            np.zeros((labels, 8732), np.float16).tofile(folder / f"tensor([{image['id']}])_{k}.bin")
    (tmp_path / "bs1_summary.json").write_text('{"made_from": {"model_sha256": "a"}}')
    seen = []
    for change in (False, False, True, False):
        if change:
            os.utime(folder / "tensor([9])_0.bin")  # as if copied there
        ssd_postprocess.main(["--data", str(tiny_coco), "--bin-input", "bs1", "--workers", "1"])
        seen.append(os.stat("result.log").st_mtime_ns)  # written with each score
    assert seen[0] == seen[1] < seen[2] == seen[3]


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (["--bin-input", "o"], "--detections, which take their place"),
        (["--score-only", "d.json", "--detections", "e.json"], "--bin-input"),
    ],
)
def test_outputs_are_removed_only_where_there_are_some(options, needed, capsys):
    with pytest.raises(SystemExit) as left:
        ssd_postprocess.parse_args([*options, "--remove-outputs"])
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: --remove-outputs needs {needed}\n")
