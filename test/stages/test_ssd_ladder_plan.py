"""What ssd_ladder.py plan chooses, prints and refuses, before anything is removed."""

import json

import ssd_ladder
from ssd.cli import KitError

import pytest
from models import save_colors, set_checkpoint, write_color_data

pytest.importorskip("onnx")


@pytest.fixture
def data(tmp_path):
    return write_color_data(tmp_path / "da ta;'é")


@pytest.fixture
def models(tmp_path):
    """A folder of a float32 and a uint8 model, and no checkpoint."""
    folder = tmp_path / "mo dels;é"
    folder.mkdir()
    save_colors(folder / "ssd_bs1.onnx")
    save_colors(folder / "ssd_bs1_uint8.onnx", "uint8")
    return folder


def plan(data, folder, models, *more):
    words = ["plan", folder, "--data", data, "--models", models, "--pth_path=", *more]
    ssd_ladder.main(list(map(str, words)))


def test_the_plan_prints_what_each_rung_runs_and_writes_it(data, models, tmp_path, capsys):
    capsys.readouterr()
    plan(data, tmp_path / "out", models, "--goal", "0.23", "--limit", "4")
    captured = capsys.readouterr()
    assert captured.out == (
        f"float32\tfloat32\t{models}/ssd_bs1.onnx\nuint8\tuint8\t{models}/ssd_bs1_uint8.onnx\n"
    )
    assert captured.err == f"{tmp_path / 'out'}: 4 images through float32, uint8\n"
    made = json.loads((tmp_path / "out" / "rungs.json").read_text())
    assert list(made["models"]) == ["float32", "uint8"]
    assert list(made["missing"]) == ["pytorch", "int8", "om"]
    assert (made["goal"], made["tolerance"]) == (0.23, 0.5)
    for rung in made["models"]:
        assert (tmp_path / "out" / rung / ".ssd-kit").is_file()


def test_the_card_may_be_named_for_all_rungs(data, models, tmp_path, capsys):
    plan(data, tmp_path / "out", models, "--device=npu:0")
    with pytest.raises(SystemExit):
        plan(data, tmp_path / "out", models, "--device=cuda:0")
    assert (
        "argument --device: cuda:0: must be a card, such as 0 or npu:0" in capsys.readouterr().err
    )


def test_nothing_is_cleared_before_everything_is_checked(data, models, tmp_path):
    out = tmp_path / "out"
    plan(data, out, models)
    (out / "float32" / "tensor([9])_0.bin").write_text("")
    (out / "ladder.json").write_text("")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    unscorable, broken = tmp_path / "no_area.json", tmp_path / "broken"
    instances = json.loads((data / "annotations" / "instances_val2017.json").read_text())
    for annotation in instances["annotations"]:
        del annotation["area"]
    unscorable.write_text(json.dumps(instances))
    broken.mkdir()
    for name in ("ssd_bs1.onnx", "ssd_bs1_uint8.onnx"):
        (broken / name).write_text("no model")
    for more, message in [
        (["--annotation", tmp_path / "mistyped.json"], "mistyped.json: no such file"),
        (["--annotation", unscorable], "no_area.json: annotations without area"),
        (["--images", tmp_path / "nowhere"], "nowhere: no such image folder"),
        (["--models", broken], "ssd_bs1.onnx: not an ONNX model"),
        (["--models", tmp_path], "no rung can be run; make one"),
        (["--pth_path=no.pt"], "no.pt: no such checkpoint"),
    ]:
        with pytest.raises(KitError, match=message):
            plan(data, out, models, *more)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_one_rung_alone_is_refused_unless_there_is_a_goal(data, models, tmp_path):
    (models / "ssd_bs1_uint8.onnx").unlink()
    with pytest.raises(KitError, match="only float32 can be run, so there is nothing to") as error:
        plan(data, tmp_path / "out", models)
    assert "uint8: make it with ssd_pth2onnx.py --input uint8" in str(error.value)
    assert not (tmp_path / "out").exists()
    plan(data, tmp_path / "out", models, "--goal", "0.5")


def test_models_of_different_checkpoints_are_no_ladder(data, models, tmp_path):
    for name, checkpoint in (("ssd_bs1", "a"), ("ssd_bs1_uint8", "b")):
        set_checkpoint(models / f"{name}.onnx", checkpoint)
    with pytest.raises(KitError, match="ssd_bs1.onnx: a; .*_uint8.onnx: b.; make them from one"):
        plan(data, tmp_path / "out", models)
    assert not (tmp_path / "out").exists()


def test_models_of_other_labels_are_refused_before_any_work(data, models, tmp_path):
    path = data / "annotations" / "instances_val2017.json"
    instances = json.loads(path.read_text())
    instances["categories"].append({"id": 90, "name": "another"})
    path.write_text(json.dumps(instances))
    with pytest.raises(KitError, match="ssd_bs1.onnx: 4 labels = background . 3; .* has 4 cat"):
        plan(data, tmp_path / "out", models)
    assert not (tmp_path / "out").exists()
