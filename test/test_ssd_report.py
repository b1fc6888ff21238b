"""The report of a run, on a result folder whose figures can be worked out by hand."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import ssd_report
import ssd_runs

FIVE = Path(__file__).parent / "data" / "five"
DATA = ["--data", FIVE / "coco", "--all-images"]  # picture 50 has no annotation


@pytest.fixture
def result(tmp_path):
    """A copy of the result folder of test/data/five: batch 1 scored, batch 4 timed alone."""
    return Path(shutil.copytree(FIVE / "result", tmp_path / "re sult;'é"))


def make(folder, *options):
    """Make the report in this process, which is quicker than to run the stage."""
    ssd_report.main([str(folder), *map(str, options)])


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_the_report_holds_table_facts_and_what_became_of_the_detections(run_stage, result):
    done = run_stage("ssd_report.py", result, *DATA, "--fact", "data=a=b", "--fact", "x.y=1")
    assert (done.returncode, done.stderr) == (0, "")
    report = report_of(result)
    assert report["facts"] | {"data": "a=b", "x.y": "1"} == report["facts"]
    assert report["facts"]["scored"] == "all 5 images"
    assert (report["best"], report["scored_batch"], report["lacks"]) == (1, 1, [])
    assert report["detail"]["stats"] == pytest.approx(report["stats"])
    assert report["detail"]["confusion"] == [[2, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [1, 0, 1, 0]]
    plots = {path.stem for path in (result / "plots").glob("*.png")}
    speed = {"fps", "latency", "published", "time_split"}
    assert plots == speed | {"pr", "sizes", "scores", "class_ap", "confusion"}
    assert (result / "report.html").read_text().startswith("<!doctype html>")


def test_the_terminal_shows_the_table_in_80_columns_and_then_names_the_page(run_stage, result):
    lines = run_stage("ssd_report.py", result, *DATA).stdout.splitlines()
    assert lines[0] == f"{result}: report.json, report.md"
    assert lines[2:-1] == [
        "model               batch  goal mAP      mAP  base fps        fps  end-to-end",
        "ssd_bs1.onnx            1    23.000   52.153   482.627      4.000       4.000",
        "ssd_bs4.onnx            4         -        -   482.627      5.333           -",
        "Max                     4         -        -   482.627      5.333           -",
    ]
    assert lines[-1] == f"page {result / 'report.html'}"
    assert max(map(len, lines[2:-1])) <= 80


def test_times_are_those_of_the_runs(result):
    one, four = ssd_runs.collect(result, [], {})["rows"]
    # batch 1 took 100, 200, 300, 400 ms: NumPy's percentiles lie on the line between them
    times = {"mean": 250, "p50": 250, "p90": 370, "p95": 385, "p99": 397}
    assert one["latency_ms"] == pytest.approx(times | {"runs": 4})
    # batch 4 was listed as (start, end): 500 and 1000 ms
    assert four["latency_ms"]["mean"] == 750
    assert four["latency_per_image_ms"]["p50"] == 750 / 4
    assert list(one["seconds"]) == ["read", "infer", "write", "decode", "score"]
    assert one["seconds"]["decode"] == 0.25
    assert (one["wall_seconds"], one["end_to_end"]) == (1, 5 / (1 + 0.25))
    assert (four["seconds"], four["end_to_end"]) == ({}, None)


def test_a_tool_without_seconds_gives_those_of_inference_by_its_runs(result):
    path = result / "bs1_summary.json"
    summary = json.loads(path.read_text())
    del summary["seconds"]
    path.write_text(json.dumps(summary))
    row = ssd_runs.collect(result, [1], {})["rows"][0]
    assert row["seconds"] == {"infer": 0.5, "decode": 0.25, "score": 0.5}  # 5 runs of 100 ms


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


def lacks(folder):
    return [lack["what"] for lack in report_of(folder)["lacks"]]


def test_without_a_data_set_the_rest_is_shown(result):
    make(result)
    assert lacks(result) == ["data"]
    assert report_of(result)["detail"] is None
    assert "--data" in (result / "report.html").read_text()


def test_without_scores_detections_or_pictures_the_rest_is_shown(result, tmp_path):
    data = tmp_path / "coco"
    shutil.copytree(FIVE / "coco" / "annotations", data / "annotations")
    make(result, "--data", data, "--all-images")
    assert lacks(result) == ["pictures"]
    assert report_of(result)["detail"]["gallery"]
    (result / "bs1_detections.json").unlink()
    make(result, *DATA)
    assert lacks(result) == ["detections"]
    (result / "bs1_result.json").unlink()
    make(result, *DATA)
    assert lacks(result) == ["scores"]


def test_annotations_that_cannot_be_scored_do_not_stop_the_report(result, tmp_path):
    path = tmp_path / "instances.json"
    instances = json.loads((FIVE / "coco/annotations/instances_val2017.json").read_text())
    del instances["annotations"][0]["area"]
    path.write_text(json.dumps(instances))
    make(result, "--annotation", path)
    assert lacks(result) == ["annotations"]


def test_a_broken_file_of_detections_does_not_stop_the_report(result):
    (result / "bs1_detections.json").write_text("[{")
    make(result, *DATA)
    assert lacks(result) == ["detections"]


def test_scores_of_another_selection_are_told(result):
    make(result, "--data", FIVE / "coco")  # four pictures: fewer false ones
    assert lacks(result) == []  # they scored below all others: COCO's AP is the same
    path = result / "bs1_result.json"
    path.write_text(path.read_text().replace('"AP": 0.52', '"AP": 0.42'))
    make(result, *DATA)
    assert lacks(result) == ["mismatch"]


def test_a_data_set_that_is_not_there_is_a_mistake(run_stage, result, refused):
    refused(
        run_stage("ssd_report.py", result, "--data", "/no/where"), "/no/where", "no such folder"
    )


def test_a_folder_without_a_run_is_a_mistake(run_stage, tmp_path, refused):
    refused(run_stage("ssd_report.py", tmp_path), tmp_path, "run test/ssd_eval_acc_perf.sh")


def test_the_best_batch_is_printed_without_loading_what_the_page_needs(result, monkeypatch, capsys):
    for name in ("matplotlib", "jinja2", "cv2", "faster_coco_eval", "ssd_page"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    ssd_report.main([str(result), "--print-best"])
    assert capsys.readouterr().out == "4\n"


def test_without_the_page_s_packages_the_table_is_still_made(result, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ssd_page", None)
    ssd_report.main([str(result)])
    told = capsys.readouterr()
    assert "report.html and the plots are left out" in told.err
    assert "requirements-infer.txt" in told.err
    assert (result / "report.json").exists()
    assert not (result / "report.html").exists()
    assert told.out.splitlines()[-1].startswith("Max ")


@pytest.mark.parametrize(
    "options", [["--fact", "x"], ["--score", "2"], ["--output", "x"], ["a", "b", "--output"]]
)
def test_wrong_usage_exits_2(run_stage, result, options):
    assert run_stage("ssd_report.py", result, *options).returncode == 2
