"""Two runs side by side, by hand."""

import json
import shutil
from pathlib import Path

import ssd_report
from ssd.report.compare import difference, find_warnings, ratio

import pytest
from models import FIVE


@pytest.fixture
def runs(tmp_path):
    """Run A, and B: its copy with half the time, one class better, and without batch 4."""
    folders = [Path(shutil.copytree(FIVE / "result", tmp_path / name / "re|sult")) for name in "ab"]
    path = folders[1] / "bs1_perf_summary.json"
    summary = json.loads(path.read_text())
    summary |= {"throughput": 8.0, "npu_compute_time_list": [50.0, 100.0, 150.0, 200.0]}
    path.write_text(json.dumps(summary))
    path = folders[1] / "bs1_result.json"
    result = json.loads(path.read_text())
    result["stats"]["AP"] += 0.25
    result["per_class"][0]["ap"] -= 0.125
    path.write_text(json.dumps(result))
    (folders[1] / "bs4_perf_summary.json").unlink()
    (folders[1] / "report.json").write_text('{"facts": {"machine": "another", "python": "3.99"}}')
    return folders


def compare(*options):
    """Compare in this process, which is quicker than to run the stage."""
    ssd_report.main([*map(str, options)])


def test_what_both_have_is_compared_and_what_one_run_misses_is_left_open(runs):
    compare(*runs)
    comparison = json.loads((runs[0] / "compare.json").read_text())
    first, four = comparison["rows"]
    assert first["fps"] == {"a": 4.0, "b": 8.0, "ratio": 2.0, "verdict": "better"}
    assert first["p50"] == {"a": 250.0, "b": 125.0, "ratio": 0.5, "verdict": "better"}
    assert first["map"]["difference"] == pytest.approx(0.25)
    assert four["fps"] == {"a": pytest.approx(16 / 3), "b": None, "ratio": None, "verdict": None}
    assert four["map"] == {"a": None, "b": None, "difference": None, "verdict": None}
    assert comparison["best"] == [4, 1]
    names = [comparison[side]["name"] for side in ("a", "b")]
    assert names == ["a/re|sult", "b/re|sult"]  # the folders' own names are the same
    classes = [(row["name"], row["difference"]) for row in comparison["classes"]]
    assert classes == [("cat", -0.125), ("<b>\"dog\" & 'co'", 0.0)]  # the owl: nothing to find
    facts = {row["name"]: row for row in comparison["facts"]}
    assert facts["machine"]["differs"] and facts["machine"]["b"] == "another"
    assert not facts["scored"]["differs"]
    assert [row["differs"] for row in comparison["facts"]] == sorted(
        (row["differs"] for row in comparison["facts"]), reverse=True
    )


def test_the_short_table_fits_80_columns(run_stage, runs):
    done = run_stage("ssd_report.py", *runs)
    lines = done.stdout.splitlines()
    assert lines == [
        f"{runs[0]}: compare.json, compare.md",
        "A: a/re|sult",
        "B: b/re|sult",
        "batch       A fps       B fps     B/A      A mAP    B mAP      B-A",
        "    1       4.000       8.000   2.000     52.153   77.153  +25.000",
        "    4       5.333           -       -          -        -        -",
        f"page {runs[0] / 'compare.html'}",
    ]


def test_the_comparison_goes_where_output_says(runs, tmp_path):
    compare(*runs, "--output", tmp_path / "c")
    made = {str(path.relative_to(tmp_path / "c")) for path in (tmp_path / "c").rglob("*.*")}
    plots = {"plots/compare_fps.png", "plots/class_difference.png"}
    assert made == {"compare.json", "compare.md", "compare.html"} | plots
    assert not (runs[0] / "compare.html").exists()


def test_markdown_cells_stay_cells(runs):
    compare(*runs)
    lines = (runs[0] / "compare.md").read_text().splitlines()
    assert "| 1 | 4.000 | 8.000 | 2.000 | 52.153 | 77.153 | +25.000 |" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {8, 5, 4}


def test_runs_without_scores_are_compared_by_speed(runs):
    for folder in runs:
        (folder / "bs1_result.json").unlink()
    compare(*runs)
    comparison = json.loads((runs[0] / "compare.json").read_text())
    assert comparison["classes"] == []
    assert comparison["rows"][0]["fps"]["ratio"] == 2


def test_a_ratio_to_nothing_is_left_open():
    assert ratio(0.0, 1.0)["ratio"] is None


@pytest.mark.parametrize(
    ("b", "more_is_better", "verdict"),
    [
        (100, True, "same"),
        (101.9, True, "same"),
        (98.1, False, "same"),
        (103, True, "better"),
        (97, True, "worse"),
        (103, False, "worse"),
        (97, False, "better"),
    ],
)
def test_speeds_within_the_noise_are_the_same(b, more_is_better, verdict):
    assert ratio(100.0, b, more_is_better)["verdict"] == verdict


def test_aps_within_the_noise_are_the_same():
    changes = (0, 0.0004, -0.0004, 0.0006, -0.0006)
    made = [difference(0.23, 0.23 + change)["verdict"] for change in changes]
    assert made == ["same", "same", "same", "better", "worse"]


def report(data=None, scored="all 5 images", classes=("cat", "dog"), digest=None):
    rows = [{"id": len(name), "name": name, "ap": 0.5} for name in classes]
    facts = {"data": data, "scored": scored}
    return {"facts": facts, "per_class": rows, "truth_digest": digest}


def test_other_data_images_or_classes_are_warned_of():
    assert find_warnings(report(), report("d")) == []  # a run without the fact may have the same
    assert find_warnings(report("d"), report("e")) == [{"what": "data", "a": "d", "b": "e"}]
    digests = [report(digest=letter * 64) for letter in "ab"]
    assert find_warnings(digests[0], digests[0]) == find_warnings(digests[0], report()) == []
    pair = {"a": 12 * "a", "b": 12 * "b"}
    assert find_warnings(*digests) == [{"what": "truth"} | pair]
    other = report(scored="4 of 5 images", classes=("cat", "cow", "owl"))
    assert find_warnings(report(), other) == [
        {"what": "scored", "a": "all 5 images", "b": "4 of 5 images"},
        {"what": "classes", "a": "2: dog", "b": "3: cow, owl"},
    ]
    assert find_warnings(report(), report() | {"per_class": None}) == []  # one was not scored


def test_warnings_stand_in_page_markdown_and_terminal(run_stage, runs):
    path = runs[1] / "bs1_result.json"
    path.write_text(path.read_text().replace("all 5 images", "4 of 5 images"))
    done = run_stage("ssd_report.py", *runs)
    line = "mAP may not compare: scored images differ: all 5 images / 4 of 5 images"
    assert f"note: {line}" in done.stderr
    assert f"- {line}" in (runs[0] / "compare.md").read_text()
    assert 'role="alert"' in (runs[0] / "compare.html").read_text()


def test_a_run_compared_with_itself_differs_in_nothing(runs, run_stage):
    run_stage("ssd_report.py", runs[0], runs[0])
    assert "No fact differs." in (runs[0] / "compare.md").read_text()
    page = (runs[0] / "compare.html").read_text()
    assert "No fact differs." in page and 'role="alert"' not in page
    assert 'class="better"' not in page and 'class="worse"' not in page
