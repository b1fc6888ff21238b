"""The ladder's page, from files written by hand."""

import json

import ssd_report
from ssd.ladder import rungs
from ssd.ladder import table as ladder_table
from ssd.report import render
from ssd.report.ladder import read_ladder
from ssd.report.texts import in_chinese


def test_the_first_layer_that_falls_comes_first_then_those_that_fall_most(ladder):
    made = read_ladder(ladder)
    assert [row["verdict"] for row in made["rungs"]] == ["better", "worse"]
    assert (made["compared"]["rung"], made["compared"]["above"]) == ("int8", "float32")
    assert made["fallen"] == [1, 4, 3, 2]  # /b, then no number at all, 0.4375 and 0.03125 lower
    assert made["layers"][4]["cosine"] is None


def test_without_layers_or_a_loss_between_rungs_none_are_shown(ladder):
    path = ladder / "ladder.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"losses": whole["losses"][:1]}))  # to the goal
    assert (read_ladder(ladder)["layers"], read_ladder(ladder)["compared"]) == ([], None)
    path.write_text(json.dumps(whole))
    (ladder / "layers.json").unlink()
    ssd_report.main([str(ladder), "--ladder"])
    page = (ladder / "ladder.html").read_text()
    assert "the goal" in page and 'id="layers"' not in page and "chart-ladder_layers" not in page


def test_a_ladder_draws_no_png(ladder, monkeypatch):
    monkeypatch.setattr(render, "to_png", None)  # calling it fails
    ssd_report.main([str(ladder), "--ladder"])
    assert "chart-ladder_layers" in (ladder / "ladder.html").read_text()
    assert not (ladder / "plots").exists()


def test_what_is_no_ladder_is_refused_in_one_line(run_stage, tmp_path, refused):
    path = tmp_path / "ladder.json"
    refused(run_stage("ssd_report.py", tmp_path, "--ladder"), path, "run test/ssd_accuracy_ladder")
    path.write_text("[]")
    refused(run_stage("ssd_report.py", tmp_path, "--ladder"), path, "not of a ladder")


def test_every_text_of_the_ladder_has_its_chinese_form():
    texts = [ladder_table.GOAL, ladder_table.LOOK_FIRST, ladder_table.LOOK_LABELS, "not known"]
    texts += [text for rung in rungs.RUNGS.values() for text in (rung.make, rung.look)]
    assert [text for text in texts if in_chinese(text) == text] == []
    parts = (ladder_table.LOOK_LABELS, rungs.RUNGS["uint8"].look)
    assert in_chinese("; ".join(parts)) == "；".join(map(in_chinese, parts))
    assert in_chinese("INT8 in 3 of 4 convolutions") == "4 个卷积中有 3 个为 INT8"
    assert in_chinese("ais_bench: not found") == "ais_bench: not found"
