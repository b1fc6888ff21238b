"""The names that ssd_infer.py gives results by date and time."""

import ssd_infer

import pytest


@pytest.mark.parametrize("left", ["{}", "{}_summary.json"])
def test_runs_of_the_same_second_do_not_share_a_name(left, tmp_path, monkeypatch):
    monkeypatch.setattr(ssd_infer.time, "strftime", lambda form: "2022_08_04-16_00_52")
    names = []
    for _ in range(3):
        names.append(ssd_infer.new_name(tmp_path))
        (tmp_path / left.format(names[-1])).mkdir()
    assert names == ["2022_08_04-16_00_52", "2022_08_04-16_00_52_1", "2022_08_04-16_00_52_2"]
    assert ssd_infer.new_name(None) == names[0]
