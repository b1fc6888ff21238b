"""The ladder's verdict: which rungs lose, where to look, and the table's width."""

import json

from ssd import tables
from ssd.cli import KitError
from ssd.files import digest, sha256
from ssd.ladder import table
from ssd.ladder.rungs import RUNGS
from ssd.ladder.table import LOOK_FIRST, LOOK_LABELS, find_losses, points

import pytest


def losses(changes, tolerance=0.5, **last):
    """Return the losses of rungs with these changes; `last`: more of the last row."""
    names = list(RUNGS)
    rows = [
        {"rung": name, "above": above, "change": change}
        for name, above, change in zip(names, [None, *names], changes, strict=False)
    ]
    rows[-1] |= last
    return find_losses(rows, tolerance)


def test_each_rung_that_loses_more_than_the_tolerance_is_named_from_the_top():
    assert losses([None, -0.5, 3.0, -0.4]) == []
    assert losses([None, -0.4, -0.6, -9.0]) == [
        {"rung": "uint8", "above": "float32", "points": 0.6, "look": RUNGS["uint8"].look},
        {"rung": "int8", "above": "uint8", "points": 9.0, "look": RUNGS["int8"].look},
    ]
    assert losses([None, -0.4, -0.6], tolerance=1) == []
    assert losses([None]) == []


def test_a_loss_to_the_goal_does_not_hide_one_between_rungs():
    goal, second = losses([-0.6, 0.0, -0.7])
    assert goal == {"rung": "pytorch", "above": "the goal", "points": 0.6, "look": LOOK_FIRST}
    assert (second["rung"], second["above"]) == ("uint8", "float32")


def test_boxes_found_under_other_labels_are_hinted_at():
    label = {"match_rate": 0.1, "match_rate_any_label": 0.9}
    assert losses([None, -5], **label)[0]["look"].startswith(LOOK_LABELS)
    for other in ({"match_rate": 0.5}, {"match_rate": None, "match_rate_any_label": None}):
        assert losses([None, -5], **(label | other))[0]["look"] == RUNGS["float32"].look


def test_a_loss_of_exactly_the_tolerance_is_none():
    assert points(0.785, 0.790) == -0.5  # float64 would have -0.5000000000000004
    assert points(0.3, 0.1) == 20


def test_every_loss_is_described_and_the_last_line_is_the_result():
    rows = [
        {"rung": name, "engine": "e", "provider": "p", "precision": "float32", "model": "m/a.onnx"}
        for name in ("float32", "int8")
    ]
    ladder = {"rungs": [row | {"scored": "all 5 images"} for row in rows], "tolerance": 0.5}
    ladder |= {"missing": {"om": "no card"}, "losses": []}
    facts = ["float32: e, p; float32; a.onnx", "int8: e, p; float32; a.onnx"]
    facts += ["om: not there; no card", "Scored: all 5 images"]
    assert table.describe(ladder) == [*facts, "No rung loses more than 0.5 points of mAP"]
    ladder["losses"] = [
        {"rung": rung, "above": above, "points": points, "look": look}
        for rung, above, points, look in (
            ("float32", "the goal", 2.0, "here"),
            ("int8", "float32", 1 / 3, "there"),
        )
    ]
    assert table.describe(ladder) == [
        *facts,
        "Look at here",
        "float32 loses 2.000 points of mAP to the goal, more than 0.5",
        "Look at there",
        "int8 loses 0.333 points of mAP to float32, more than 0.5",
    ]


def test_the_table_fits_80_columns_with_the_longest_values():
    row = {"rung": "pytorch", "engine": "ais_infer.py_and_more 1.2.3", "map": 1.0, "ap50": 1.0}
    row |= {"change": -100.0, "max_abs": 1.234e10, "mean_abs": 1e-10, "cosine": -0.1234567}
    cells = tables.cells(table.COLUMNS, [row | {"match_rate": 1.0}])
    lines = tables.as_text(table.COLUMNS, cells, table.GAP).splitlines()
    assert {len(line) for line in lines} <= set(range(81))
    assert lines[1] == (
        "pytorch  ais_infer.py 100.000 100.000 -100.000 1.2e+10 1.0e-10 -0.123457 100.0"
    )
    assert max(map(len, table.LEGEND.splitlines())) <= 80


def test_a_rung_with_nothing_to_find_is_refused(tmp_path):
    (tmp_path / "float32_detections.json").write_text("[]")
    stats = {"stats": {"AP": None, "AP50": None}, "scored": "all 5 images"}
    stats |= {"detections_sha256": sha256(tmp_path / "float32_detections.json")}
    stats["made_from"] = {"inference": digest({})}
    (tmp_path / "float32_result.json").write_text(json.dumps(stats))
    summary = {"model": "a.onnx", "provider": "CPUExecutionProvider", "made_from": {}}
    (tmp_path / "float32_summary.json").write_text(json.dumps(summary))
    with pytest.raises(KitError, match="nothing to find in its images, so no mAP"):
        table.make_row(tmp_path, "float32", None)
