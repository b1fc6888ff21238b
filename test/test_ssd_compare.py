"""Two runs side by side, by hand."""

import json
import shutil
from pathlib import Path

import pytest

import ssd_compare
import ssd_report

FIVE = Path(__file__).parent / "data" / "five"


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
    result["per_class"]["cat"] -= 0.125
    path.write_text(json.dumps(result))
    (folders[1] / "bs4_perf_summary.json").unlink()
    (folders[1] / "report.json").write_text('{"facts": {"machine": "another", "python": "3.99"}}')
    return folders


def compare(*options):
    """Compare in this process, which is quicker than to run the stage."""
    ssd_report.main([*map(str, options)])


def test_what_both_have_is_compared_and_what_one_lacks_is_left_open(runs):
    compare(*runs)
    told = json.loads((runs[0] / "compare.json").read_text())
    one, four = told["rows"]
    assert one["fps"] == {"a": 4.0, "b": 8.0, "ratio": 2.0}
    assert one["p50"] == {"a": 250.0, "b": 125.0, "ratio": 0.5}
    assert one["map"]["difference"] == pytest.approx(0.25)
    assert four["fps"] == {"a": pytest.approx(16 / 3), "b": None, "ratio": None}
    assert four["map"] == {"a": None, "b": None, "difference": None}
    assert told["best"] == [4, 1]
    names = [told[side]["name"] for side in ("a", "b")]
    assert names == ["a/re|sult", "b/re|sult"]  # the folders' own names are the same
    classes = [(row["name"], row["difference"]) for row in told["classes"]]
    assert classes == [("cat", -0.125), ("<b>\"dog\" & 'co'", 0.0)]  # the owl: nothing to find
    facts = {row["name"]: row for row in told["facts"]}
    assert facts["machine"]["differs"] and facts["machine"]["b"] == "another"
    assert not facts["scored"]["differs"]
    assert [row["differs"] for row in told["facts"]] == sorted(
        (row["differs"] for row in told["facts"]), reverse=True
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
    told = json.loads((runs[0] / "compare.json").read_text())
    assert told["classes"] == []
    assert told["rows"][0]["fps"]["ratio"] == 2


def test_a_ratio_to_nothing_is_left_open():
    assert ssd_compare.ratio(0.0, 1.0)["ratio"] is None
