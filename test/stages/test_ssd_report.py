"""The report of a run, on a result folder whose figures can be worked out by hand."""

import json
import shutil
import sys
from pathlib import Path

import ssd_report
from ssd.files import sha256
from ssd.report import collect

import pytest
from models import FIVE

DATA = ["--data", FIVE / "coco", "--all-images"]  # image 50 has no annotation


def make(folder, *options):
    """Make the report in this process, which is quicker than to run the stage."""
    ssd_report.main([str(folder), *map(str, options)])


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_the_report_holds_table_facts_and_what_became_of_the_detections(run_stage, result):
    done = run_stage("ssd_report.py", result, *DATA, "--fact", "data=a=b", "--fact", "x.y=1")
    assert done.returncode == 0, done.stderr
    report = report_of(result)
    assert report["facts"] | {"data": "a=b", "x.y": "1"} == report["facts"]
    assert report["facts"]["scored"] == "all 5 images"
    assert (report["best"], report["scored_batch"], report["missing"]) == (1, 1, [])
    assert report["detail"]["confusion"] == [[2, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [1, 0, 1, 0]]
    plots = {path.stem for path in (result / "plots").glob("*.png")}
    speed = {"fps", "latency", "time_split"}
    curves = {"pr", "f1", "scores", "calibration"}
    assert plots == speed | curves | {"sizes", "class_ap", "confusion"}
    assert (result / "report.html").read_text().startswith("<!doctype html>")


def test_the_terminal_shows_the_table_in_80_columns_and_then_names_the_page(run_stage, result):
    lines = run_stage("ssd_report.py", result, *DATA).stdout.splitlines()
    assert lines[0] == f"{result}: report.json, report.md"
    assert lines[2:-1] == [
        "model               batch  goal mAP      mAP  base fps        fps  end-to-end",
        "ssd_bs1.onnx            1    23.000   52.153         -      4.000       2.500",
        "ssd_bs4.onnx            4         -        -         -      5.333           -",
        "Max                     4         -        -         -      5.333           -",
        "best fps: batch 4, 5.333 images/s; equal within the noise: batch 1",
        "best end to end: batch 1, 2.500 images/s",
        "preprocessing alone: 20.0 images/s",
        "ms: batch    median       p25       p75       p90       p99    runs",
        "        1    250.00    175.00    325.00         -         -       4",
        "        4    750.00    625.00    875.00         -         -       2",
    ]
    assert lines[-1] == f"page {result / 'report.html'}"
    assert max(map(len, lines[2:-1])) <= 80


def test_times_are_those_of_the_runs(result):
    first, four = collect.collect(result, [], {})["rows"]
    # batch 1 took 100, 200, 300, 400 ms: NumPy's percentiles lie on the line between them
    times = {"mean": 250, "max": 400, "p25": 175, "p50": 250, "p75": 325}
    few = dict.fromkeys(("p90", "p95", "p99"))
    assert first["latency_ms"] == pytest.approx(times | few | {"runs": 4})
    # batch 4 took 500 and 1000 ms
    assert four["latency_ms"]["mean"] == 750
    assert list(first["seconds"]) == ["preprocess", "read", "infer", "write", "decode", "score"]
    assert first["seconds"]["decode"] == 0.25
    assert first["seconds"]["preprocess"] == 5 * 0.2 / 4  # four images took 0.2 s, here are five
    assert first["wall_seconds"] == 1
    assert first["end_to_end"] == pytest.approx(5 / (0.25 + 1 + 0.25 + 0.5))
    assert (four["seconds"], four["end_to_end"]) == ({}, None)


def test_a_tool_without_seconds_gives_those_of_inference_by_its_runs(result):
    path = result / "bs1_summary.json"
    summary = json.loads(path.read_text())
    del summary["seconds"]
    path.write_text(json.dumps(summary))
    row = collect.collect(result, [1], {})["rows"][0]
    assert row["seconds"] == {"infer": 0.5, "decode": 0.25, "score": 0.5}  # 5 runs of 100 ms


@pytest.mark.parametrize(
    ("model", "classes", "shown"),
    [("ssd_bs1.om", 80, True), ("ssd_bs1.om", 3, False), ("ssd_bs1.onnx", 80, False)],
)
def test_published_figures_are_shown_where_they_apply(result, model, classes, shown):
    (result / "bs4_perf_summary.json").unlink()
    for name in ("bs1_summary.json", "bs1_perf_summary.json"):
        summary = json.loads((result / name).read_text()) | {"model": f"/m/{model}"}
        (result / name).write_text(json.dumps(summary))
    scores = json.loads((result / "bs1_result.json").read_text())
    scores["per_class"] = {f"class {i}": 0.5 for i in range(classes)}
    (result / "bs1_result.json").write_text(json.dumps(scores))
    make(result)
    assert report_of(result)["rows"][0]["baseline_fps"] == (482.627 if shown else None)
    assert (result / "plots" / "published.png").exists() == shown
    for text in ((result / name).read_text() for name in ("report.md", "report.html")):
        assert ("482.627" in text) == shown
    assert ("Ascend 310P" in (result / "report.html").read_text()) == shown


def test_the_pages_of_one_run_have_the_same_bytes(result):
    pages = []
    for _ in range(2):
        make(result, *DATA)
        pages.append((result / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_facts_of_the_machine_that_ran_are_kept(result):
    (result / "report.json").write_text(json.dumps({"facts": {"machine": "a card's host"}}))
    make(result)
    assert report_of(result)["facts"]["machine"] == "a card's host"
    (result / "report.json").write_text('{"facts":')
    make(result)
    assert report_of(result)["facts"]["cpus"] > 0


@pytest.mark.parametrize(("goal", "words"), [(0.23, "is met"), (0.9, "is not met"), (None, None)])
def test_the_page_says_whether_the_goal_is_met(result, goal, words):
    path = result / "bs1_result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"goal": goal}))
    make(result)
    page = (result / "report.html").read_text()
    assert [word in page for word in ("is met", "is not met")] == [
        word == words for word in ("is met", "is not met")
    ]
    assert ("goal mAP" in page) == (goal is not None)


def test_matches_are_written_where_asked_for(result, run_stage, refused):
    make(result, *DATA, "--matches")
    assert (result / "matches.csv").read_text().count("\n") == 12  # a head, 9 detections, 2 missed
    assert len(json.loads((result / "matches.json").read_text())["annotations"]) == 11
    refused(run_stage("ssd_report.py", result, "--matches"), result, "--data")


def missing(folder):
    return [entry["what"] for entry in report_of(folder)["missing"]]


def test_without_a_data_set_the_rest_is_shown(result):
    make(result)
    assert missing(result) == ["data"]
    assert report_of(result)["detail"] is None
    assert "--data" in (result / "report.html").read_text()


def test_without_scores_detections_or_images_the_rest_is_shown(result, tmp_path):
    data = tmp_path / "coco"
    shutil.copytree(FIVE / "coco" / "annotations", data / "annotations")
    make(result, "--data", data, "--all-images")
    assert missing(result) == ["images"]
    assert report_of(result)["detail"]["gallery"]
    (result / "bs1_detections.json").unlink()
    make(result, *DATA)
    assert missing(result) == ["detections"]
    (result / "bs1_result.json").unlink()
    make(result, *DATA)
    assert missing(result) == ["scores"]


def test_annotations_that_cannot_be_scored_do_not_stop_the_report(result, tmp_path):
    path = tmp_path / "instances.json"
    instances = json.loads((FIVE / "coco/annotations/instances_val2017.json").read_text())
    del instances["annotations"][0]["area"]
    path.write_text(json.dumps(instances))
    make(result, "--annotation", path)
    assert missing(result) == ["annotations"]


def test_a_card_that_was_not_used_is_said_with_the_table_and_on_the_page(result, capsys):
    for name in ("bs1", "bs1_perf"):
        path = result / f"{name}_summary.json"
        text = {"warnings": ["THE CPU RUNS THIS, NOT THE CARD"]}
        path.write_text(json.dumps(json.loads(path.read_text()) | text))
    ssd_report.main([str(result)])
    assert "\nwarning: THE CPU RUNS THIS, NOT THE CARD\n" in capsys.readouterr().out
    assert report_of(result)["warnings"] == ["THE CPU RUNS THIS, NOT THE CARD"]
    assert ">THE CPU RUNS THIS, NOT THE CARD</span>" in (result / "report.html").read_text()


def test_warnings_of_the_scored_annotations_are_repeated(result, capsys):
    path = result / "bs1_result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"warnings": ["3 of 4 boxes"]}))
    make(result)
    lines = capsys.readouterr().out.splitlines()
    (i,) = (i for i, line in enumerate(lines) if line == "warning: 3 of 4 boxes")
    assert lines[i - 1].startswith("        4")
    assert report_of(result)["warnings"] == ["3 of 4 boxes"]
    assert "Warning: 3 of 4 boxes." in (result / "report.md").read_text().splitlines()


def test_rows_of_different_checkpoints_are_named(result):
    paths = sorted(result.glob("bs*_summary.json"))
    for path in paths:
        summary = json.loads(path.read_text())
        summary["checkpoint_sha256"] = ("a" if "bs1_" in path.name else "b") * 64
        path.write_text(json.dumps(summary))
    make(result)
    batches = [row["batch"] for row in report_of(result)["rows"]]
    words = ", ".join(f"batch {n} of {('a' if n == 1 else 'b') * 12}" for n in batches)
    assert len(batches) > 1
    assert report_of(result)["warnings"][-1] == (
        f"the models are of different checkpoints ({words}): rows cannot be compared"
    )


def test_the_table_is_written_and_printed_before_anything_is_drawn(result, monkeypatch, capsys):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(ssd_report, "write_page", fail)
    with pytest.raises(MemoryError):
        make(result)
    assert capsys.readouterr().out.splitlines()[-4].startswith("preprocessing alone: ")
    assert report_of(result)["rows"] and (result / "report.md").is_file()


def test_a_broken_file_of_detections_does_not_stop_the_report(result):
    (result / "bs1_detections.json").write_text("[{")
    make(result, *DATA)
    assert missing(result) == ["detections"]


def test_a_data_set_or_detections_that_were_not_scored_are_reported(result, tmp_path):
    def differences(*data):
        make(result, *data)
        return [
            entry["details"]
            for entry in report_of(result)["missing"]
            if entry["what"] == "mismatch"
        ]

    assert differences(*DATA) == []
    instances = json.loads((FIVE / "coco/annotations/instances_val2017.json").read_text())
    (tmp_path / "i.json").write_text(json.dumps(instances | {"images": instances["images"][:4]}))
    assert "Every image of the annotation file is scored." in (result / "report.html").read_text()
    fewer = differences("--annotation", tmp_path / "i.json")
    assert fewer == [["images: all 5 images; all 4 images"]]
    instances["categories"][0]["name"] = "cow"
    (tmp_path / "i.json").write_text(json.dumps(instances))
    other = ["--annotation", tmp_path / "i.json", "--images", FIVE / "coco/val2017", "--all-images"]
    assert differences(*other) == [["classes: cat, cow"]]
    path, scores = result / "bs1_detections.json", result / "bs1_result.json"
    scored = json.loads(scores.read_text()) | {"detections_sha256": sha256(path)}
    scores.write_text(json.dumps(scored))
    assert differences(*DATA) == []
    path.write_text(path.read_text() + " ")
    assert differences(*DATA) == [[f"detections: {path} was changed"]]
    path.write_text(json.dumps(json.loads(path.read_text())[1:]))
    assert differences(*DATA) == [["detections: 9; 8"]]


def test_each_file_is_read_once(result, monkeypatch):
    opened = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read_bytes(path))
    make(result, *DATA)
    assert {path.name for path in opened} >= {"bs1_result.json", "bs1_detections.json"}
    assert len(set(opened)) == len(opened)


def test_a_data_set_that_is_not_there_is_a_mistake(run_stage, result, refused):
    refused(
        run_stage("ssd_report.py", result, "--data", "/no/where"), "/no/where", "no such folder"
    )


def test_a_folder_without_a_run_is_a_mistake(run_stage, tmp_path, refused):
    refused(run_stage("ssd_report.py", tmp_path), tmp_path, "run test/ssd_eval_acc_perf.sh")


def test_without_the_page_s_packages_the_table_is_still_made(result, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ssd.report.page", None)
    ssd_report.main([str(result)])
    printed = capsys.readouterr()
    assert "report.html and the plots are left out" in printed.err
    assert "requirements-infer.txt" in printed.err
    assert (result / "report.json").exists()
    assert not (result / "report.html").exists()
    assert "\nMax " in printed.out
