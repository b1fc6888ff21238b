"""The names of what ssd_infer.py writes: by date and time, or as they are asked for."""

import json

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


def test_a_shard_of_a_run_into_files_is_refused(capsys):
    options = ["--model", "m.onnx", "--input", "in", "--output", "out", "--shard"]
    for shard in ("0/2", "1/2"):
        with pytest.raises(SystemExit) as left:
            ssd_infer.parse_args([*options, shard])
        assert left.value.code == 2
        assert capsys.readouterr().err.endswith("error: --shard needs --in_process\n")
    assert ssd_infer.parse_args([*options, "0/1"]).shard == (0, 1)
    assert ssd_infer.parse_args([*options, "1/2", "--detections", "d.json"]).shard == (1, 2)


def save_light_copy(model, path):
    """Write a model that differs in a name only, so that its SHA-256 is another."""
    import onnx

    copy = onnx.load(model)
    copy.graph.name = "another"
    onnx.save(copy, path)
    return path


def test_detections_can_be_named_and_then_say_where_the_rest_goes(
    light_onnx, tiny_coco, tmp_path, run_stage
):
    run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "in")
    base = ["ssd_infer.py", "--model", light_onnx, "--input", tmp_path / "in", "--data", tiny_coco]
    named = tmp_path / "new" / "found.json"
    done = run_stage(*base, "--detections", named)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "found_summary.json").is_file()
    other = save_light_copy(light_onnx, tmp_path / "other.onnx")
    done = run_stage(*base[:1], "--model", other, *base[3:], "--detections", named)
    assert done.returncode == 0, done.stderr  # of another model: replaced
    done = run_stage(*base, "--output", tmp_path / "r", "--detections", tmp_path / "d.json")
    assert done.returncode == 0, done.stderr
    (beside,) = (tmp_path / "r").glob("*_detections.json")
    assert json.loads(named.read_text())
    assert (tmp_path / "d.json").read_bytes() == beside.read_bytes() == named.read_bytes()
