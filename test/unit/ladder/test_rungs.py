"""Which rungs can be run here, with which model, and in what precision."""

import re
from pathlib import Path

from ssd.cli import CHECKPOINT, KitError
from ssd.ladder.rungs import RUNGS, find_rungs, precision

import pytest
from models import ROOT, STANDIN, save_colors


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with every model, and no Ascend tool on PATH; the working folder lies beside it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", *(rung.file for rung in RUNGS.values() if rung.file)):
        (tmp_path / "models" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "models" / name).write_text("")
    return tmp_path / "models"


def test_rungs_are_those_whose_models_are_there_from_the_top(folder):
    models, missing = find_rungs(folder, str(folder / "a.pt"), None, 0)
    files = ["a.pt", "ssd_bs1.onnx", "ssd_bs1_uint8.onnx", "ssd_bs1_int8.onnx"]
    assert list(models) == ["pytorch", "float32", "uint8", "int8"]
    assert list(models.values()) == [folder / name for name in files]
    assert list(missing) == ["om"]
    (folder / "ssd_bs1_uint8.onnx").unlink()
    models, missing = find_rungs(folder, "", None, 0)
    assert list(models) == ["float32", "int8"]
    assert {rung: missing[rung] for rung in ("pytorch", "uint8")} == {
        "pytorch": "give the checkpoint with --pth_path",
        "uint8": "make it with ssd_pth2onnx.py --input uint8",
    }


def test_a_checkpoint_that_was_asked_for_must_be_there(folder):
    text = (ROOT / "test" / "ssd_accuracy_ladder.sh").read_text()
    (default,) = re.findall(r"\[pth_path\]=(\S+)", text)
    for usual in (default, str(CHECKPOINT)):  # was not asked for
        assert "pytorch" in find_rungs(folder, usual, None, 0)[1]
    with pytest.raises(KitError, match="no.pt: no such checkpoint; correct --pth_path, or leave"):
        find_rungs(folder, "no.pt", None, 0)


def test_an_om_without_a_card_or_tool_is_passed_over_with_the_reason(folder, standin, monkeypatch):
    monkeypatch.setenv("PATH", f"{STANDIN}:/usr/bin:/bin")
    assert "om" in find_rungs(folder, "", None, 0)[0]
    monkeypatch.setenv("PYTHONPATH", "")
    assert "ais_bench: not installed" in find_rungs(folder, "", None, 0)[1]["om"]
    assert "no.py: no such file" in find_rungs(folder, "", Path("no.py"), 0)[1]["om"]
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "npu-smi: not on PATH" in find_rungs(folder, "", None, 0)[1]["om"]


def test_an_om_runs_where_there_is_a_card(folder, standin, monkeypatch, capsys):
    monkeypatch.setenv("PATH", f"{STANDIN}:/usr/bin:/bin")
    models, missing = find_rungs(folder, "", STANDIN / "ais_infer.py", 0)
    assert models["om"] == folder / "ssd_bs1.om" and "om" not in missing
    find_rungs(folder, "", STANDIN / "ais_infer.py", 7)
    assert "card 7: not in the table of npu-smi info" in capsys.readouterr().err


def test_the_precision_is_that_of_the_file_and_the_device(tmp_path, standin):
    good = save_colors(tmp_path / "good.onnx")
    assert precision(good, "CPUExecutionProvider") == "float32"
    assert precision(Path("a.pt"), "cpu") == "float32"
    assert precision(Path("a.pt"), "NVIDIA H100") == "float16"
    assert precision(tmp_path / "gone.onnx", "cpu") == "not known"
    om = tmp_path / "a.om"
    om.write_text("")
    assert precision(om, "card 0") == "atc: no note beside the .om"
