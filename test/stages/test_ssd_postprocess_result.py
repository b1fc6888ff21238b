"""What ssd_postprocess.py prints and keeps where a score is none or has a warning."""

import argparse
import json

import ssd_postprocess


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
    for kept in ({"warnings": [], "made_from": {"kit": 1}}, {"made_from": {"kit": 1}}, [1]):
        args.output.write_text(json.dumps(kept))
        expected = kept if "warnings" in kept else None
        assert ssd_postprocess.find_kept(args, {"kit": 1}) == expected
