"""What a ladder removes of a former one, and what it refuses to."""

from ssd.cli import KitError
from ssd.ladder.plan import Plan, begin, read_plan

import pytest


def plan_of(*rungs):
    return Plan({rung: f"models/{rung}" for rung in rungs}, {"om": "no card"}, 0.5, None)


def files_under(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def former(tmp_path):
    """A folder with what a ladder of float32 and int8 leaves, and two files of the user's."""
    folder = tmp_path / "out"
    begin(folder, plan_of("float32", "int8"))
    made = ["float32_result.json", "int8_summary.json", "int8_against.json", "ladder.json"]
    made += ["int8_detections.json", "int8/tensor([9])_0.bin", "layers.json", "ladder.md"]
    for name in [*made, "mine.txt", "om_result.json"]:  # that ladder had no om
        (folder / name).write_text("")
    return folder


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = Plan({"float32": "a b/é.onnx"}, {"om": "no card"}, 0.25, 0.23)
    begin(tmp_path, plan)
    assert read_plan(tmp_path) == plan


def test_results_and_what_is_of_other_rungs_go_first_and_nothing_else(former):
    begin(former, plan_of("float32"))
    kept = {"float32", "float32/.ssd-kit", "rungs.json", "mine.txt", "om_result.json"}
    kept.add("float32_result.json")  # its stage sees whether it is of the same
    assert files_under(former) == kept


def test_a_folder_of_the_users_is_refused_by_name_before_anything_is_removed(former):
    (former / "uint8").mkdir()
    (former / "uint8" / "mine.txt").write_text("")
    before = files_under(former)
    with pytest.raises(KitError, match="uint8: holds files that are not this kit's"):
        begin(former, plan_of("float32", "uint8"))
    assert files_under(former) == before


def test_a_folder_of_the_users_that_is_of_no_rung_now_stays(former):
    (former / "int8" / ".ssd-kit").unlink()  # the user put files of their own there
    begin(former, plan_of("float32"))
    assert "int8/tensor([9])_0.bin" in files_under(former)


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(KitError, match="rungs.json: cannot read"):
        read_plan(tmp_path)
    (tmp_path / "rungs.json").write_text('{"mine": 1}')
    with pytest.raises(KitError, match="rungs.json: not the plan of a ladder"):
        begin(tmp_path, plan_of("float32"))
