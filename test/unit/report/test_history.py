"""Runs in order of time, by hand."""

import json
import os
import shutil

import ssd_report
from ssd.report import charts
from ssd.report.collect import collect
from ssd.report.history import make_history

import pytest
from models import FIVE


def report(finished, ap=None, fps=10.0, end=None, scored="all 5 images", **facts):
    row = {"batch": 8, "fps": fps, "end_to_end": end, "model": "m", "model_sha256": None}
    return {
        "finished": finished,
        "facts": {"scored": scored} | facts,
        "rows": [row | {"batch": 1, "fps": 1.0, "end_to_end": 0.5}, row],
        "best": 1,
        "stats": None if ap is None else {"AP": ap, "AP50": 2 * ap},
        "per_class": None if ap is None else [{"id": 1, "name": "cat", "ap": ap}],
        "truth_digest": None,
    }


def history(tmp_path, *reports):
    return make_history([tmp_path / name for name in "abcd"[: len(reports)]], list(reports))


def test_runs_are_in_order_of_time_and_held_against_the_previous_and_the_first(tmp_path):
    made = history(
        tmp_path,
        report("2024-02-01T00:00:00Z", 0.23, fps=10.0, end=8.0),
        report("2024-03-01T00:00:00Z", 0.25, fps=12.0),
        report("2024-01-01T00:00:00Z", 0.24, fps=20.0),
    )
    first, second, third = made["runs"]
    assert [run["name"] for run in made["runs"]] == ["c", "a", "b"]
    assert [(run["batch"], run["fps"], run["end_to_end"]) for run in made["runs"]] == [
        (8, 20, 0.5),
        (8, 10, 8),
        (8, 12, 0.5),
    ]
    nothing = {"a": None, "b": 0.24, "difference": None, "verdict": None}
    assert first["since"]["before"]["map"] == first["since"]["first"]["map"] == nothing
    changes = [
        (since["map"]["difference"], since["map"]["verdict"], since["fps"]["ratio"])
        for run in (second, third)
        for since in run["since"].values()
    ]
    assert changes == [
        (pytest.approx(-0.01), "worse", 0.5),
        (pytest.approx(-0.01), "worse", 0.5),
        (pytest.approx(0.02), "better", 1.2),
        (pytest.approx(0.01), "better", 0.6),
    ]
    assert made["warnings"] == []


def test_runs_that_may_not_compare_are_named_and_not_judged(tmp_path):
    made = history(
        tmp_path,
        report("2024-01-01T00:00:00Z", 0.2, fps=10.0),
        report("2024-01-02T00:00:00Z", 0.3, fps=20.0, scored="4 of 5 images"),
        report("2024-01-03T00:00:00Z", 0.4, fps=20.0) | {"truth_digest": "1" * 64},
    )
    assert [(row["before"], row["run"], row["what"]) for row in made["warnings"]] == [
        ("a", "b", "scored"),
        ("b", "c", "scored"),
    ]
    since = [run["since"] for run in made["runs"]]
    assert [step["before"]["map"]["verdict"] for step in since] == [None, None, None]
    assert [step["first"]["map"]["verdict"] for step in since] == [None, None, "better"]
    assert [step["before"]["fps"]["verdict"] for step in since] == [None, "better", "same"]


def test_what_changed_and_the_classes_are_listed(tmp_path):
    made = history(
        tmp_path,
        report("2024-01-01T00:00:00Z", 0.2, engine="x 1"),
        report("2024-01-02T00:00:00Z"),
        report("2024-01-03T00:00:00Z", 0.1, engine="x 1", mode="fp16", date="2024-01-03"),
    )
    assert made["changes"] == [
        {"run": "b", "name": "engine", "before": "x 1", "now": None},
        {"run": "c", "name": "engine", "before": None, "now": "x 1"},
        {"run": "c", "name": "mode", "before": None, "now": "fp16"},
    ]
    (cat,) = made["classes"]
    assert (cat["name"], cat["ap"]) == ("cat", [0.2, None, 0.1])
    assert (cat["change"]["difference"], cat["change"]["verdict"]) == (-0.1, "worse")


@pytest.fixture
def runs(tmp_path):
    """Three copies of a run, each a day older than the one before it, the last with a long name."""
    folders = [tmp_path / name for name in ("new", "old", "the oldest of these runs")]
    for days, folder in enumerate(folders):
        shutil.copytree(FIVE / "result", folder)
        for path in folder.glob("*_summary.json"):
            moment = {"finished": f"2024-05-0{3 - days}T07:08:09Z"}
            path.write_text(json.dumps(json.loads(path.read_text()) | moment))
    return folders


def test_three_results_make_a_history(runs, capsys):
    ssd_report.main([*map(str, runs)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{runs[0]}: history.json, history.md",
        "run                finished, UTC        mAP  change       fps ratio end-to-end",
        "…est of these runs 2024-05-01 07:08  52.153       -     5.333     -      2.500",
        "old                2024-05-02 07:08  52.153  +0.000     5.333 1.000      2.500",
        "new                2024-05-03 07:08  52.153  +0.000     5.333 1.000      2.500",
        "mAP in %. Change, in points, and ratio: against the run before.",
        f"page {runs[0] / 'history.html'}",
    ]
    rows = [line for line in (runs[0] / "history.md").read_text().splitlines() if "|" in line]
    assert rows[3] == "| old | 2024-05-02 07:08 | 52.153 | +0.000 | 5.333 | 1.000 | 2.500 |"
    assert (runs[0] / "plots" / "history_ap.png").exists()


def test_where_no_time_is_recorded_that_of_the_files_counts(tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(FIVE / "result", folder)
    for path in folder.glob("*_summary.json"):
        os.utime(path, (0, 3600))
    assert collect(folder, [], {})["finished"] == "1970-01-01T01:00:00Z"


def test_a_change_within_the_noise_does_not_fill_the_chart(tmp_path):
    made = history(
        tmp_path, *(report(f"2024-01-0{i}T00:00:00Z", 0.2 + 1e-5 * i) for i in (1, 2, 3))
    )
    low, high = charts.history_ap(made).axes[0].get_ylim()
    assert high - low >= 1
    assert low < 20 < 20.003 < high


@pytest.mark.parametrize("more", [["--data", "x"], ["--fact", "a=b"], ["--matches"]])
def test_what_a_history_does_not_use_is_refused(runs, more, capsys):
    with pytest.raises(SystemExit) as left:
        ssd_report.main([*map(str, runs), *more])
    assert left.value.code == 2 and more[0] in capsys.readouterr().err
