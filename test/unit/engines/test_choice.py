"""What runs: engine, model file and tool, chosen by what the machine has; and what is refused."""

import os
import shutil
import sys
from pathlib import Path

from ssd.ascend import ais_bench, npu_smi, pythons
from ssd.ascend.ais_bench import Tool
from ssd.cli import KitError
from ssd.engines import choice
from ssd.engines.choice import Choice, choose, find_model

import pytest
from models import set_checkpoint


@pytest.fixture
def machine(monkeypatch, standin):
    """Return a function that sets up a machine: its cards, and the inference tool (or none)."""

    def make(cards="310P3,310P3", version="0.0.2", **more):
        monkeypatch.setenv("STANDIN_CARDS", cards)
        has = {"version": version, "tool": version == "0.0.2", "runtime": "", "rules": []}
        monkeypatch.setattr(ais_bench, "look", lambda python: has | {"resources": True} | more)
        monkeypatch.setattr(pythons, "candidates", lambda: [Path(sys.executable)])

    return make


@pytest.fixture
def folder(tmp_path):
    """A folder of models, empty files that nobody reads."""
    for name in ("a.onnx", "a.pt", "a.pth", "a.om", "a.txt"):
        (tmp_path / name).touch()
    return tmp_path


def asked(models, engine="auto", device="0", ais_infer=None, in_process=False, **more):
    return choose(models, engine, device, ais_infer, in_process, **more)


def test_with_card_and_tool_auto_takes_ascend_and_says_so(machine, folder, capsys):
    machine()
    assert asked(folder) == Choice("ascend", "0", Tool(), False)
    assert capsys.readouterr().err == "engine ascend: ais_bench 0.0.2 and a card are there\n"


@pytest.mark.parametrize(
    ("cards", "version", "reason"),
    [
        ("310P3", None, "ais_bench: not installed; install 0.0.2, or give --ais_infer"),
        ("310P3", "3.0", "ais_bench 3.0: another tool of that name; install 0.0.2"),
        ("", None, "npu-smi info: finds no card "),
        ("", "0.0.2", "npu-smi info: finds no card "),
    ],
)
def test_without_card_or_tool_auto_takes_onnx_runtime_and_says_why(
    cards, version, reason, machine, folder, capsys
):
    machine(cards, version)
    chosen = asked(folder)
    assert chosen[:4] == ("onnxruntime", "0", None, False)
    err = capsys.readouterr().err
    if cards:
        begin = "THE CPU RUNS THIS, NOT THE CARD: 1 card (310P3) here, but "
        assert chosen.unused == err.rstrip()
    else:
        begin = "engine onnxruntime: "
        assert chosen.unused == ""
    assert err.startswith(f"{begin}{reason}") and err.count("\n") == 1
    with pytest.raises(KitError, match=f"^--engine ascend: {reason}"):
        asked(folder, "ascend")


def test_the_cards_are_asked_for_once(machine, folder, standin):
    machine()
    asked(folder)
    assert standin.read_text().count("npu-smi") == 1


def test_without_npu_smi_a_card_is_believed_where_it_is_asked_for(
    machine, folder, monkeypatch, capsys
):
    machine()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert asked(folder).engine == "onnxruntime"
    capsys.readouterr()
    for models in (folder, folder / "a.om"):
        assert asked(models, "ascend").engine == "ascend"
        assert "npu-smi: not on PATH, so health and load" in capsys.readouterr().err
    monkeypatch.setattr(npu_smi, "device_files", lambda: [0])  # as in a container
    assert asked(folder).engine == "ascend"


def test_an_onnx_file_on_a_machine_with_a_card_runs_on_the_cpu_and_that_is_said(
    machine, folder, capsys
):
    machine("310P3,310P3")
    chosen = asked(folder / "a.onnx")
    assert chosen.engine == "onnxruntime" and chosen.unused == (
        "THE CPU RUNS THIS, NOT THE CARD: 2 cards (310P3) here, but a.onnx is no .om: see "
        "--device npu:0"
    )
    assert capsys.readouterr().err == f"{chosen.unused}\n"
    for engine, device in (("onnxruntime", "0"), ("auto", "cpu"), ("openvino", "0")):
        assert asked(folder / "a.onnx", engine, device).unused == ""  # as was asked for


def test_the_script_of_2022_serves_where_ais_bench_is_missing(machine, folder):
    machine(version=None)
    script = folder / "ais_infer.py"
    script.touch()
    assert asked(folder, ais_infer=script) == Choice("ascend", "0", Tool(script), False)


@pytest.mark.parametrize(
    ("name", "engine"),
    [("a.onnx", "onnxruntime"), ("a.pt", "torch"), ("a.pth", "torch"), ("a.om", "ascend")],
)
def test_a_model_file_runs_in_its_own_engine(name, engine, machine, folder):
    machine()
    assert asked(folder / name).engine == engine
    assert asked(folder / "a.onnx", "openvino").engine == "openvino"


def test_no_card_is_asked_for_what_runs_without(folder, monkeypatch):
    monkeypatch.setattr(choice, "find_tool", None)  # calling it would fail
    assert asked(folder / "a.onnx") == Choice("onnxruntime", "0", None, False)
    assert asked(folder, "onnxruntime", "cuda:1") == Choice("onnxruntime", "cuda:1", None, False)


@pytest.mark.parametrize(
    ("name", "engine", "message"),
    [
        ("a.pt", "onnxruntime", "--engine onnxruntime does not run such a file; leave --engine"),
        ("a.onnx", "torch", "--engine torch does not run such a file"),
        ("a.om", "openvino", "--engine openvino does not run such a file"),
        ("a.onnx", "ascend", "--engine ascend does not run such a file"),
        ("a.txt", "auto", r"no engine for this kind of file; models are \.om, \.onnx, \.pt, \.pth"),
        ("", "torch", "--engine torch runs a checkpoint; give --models FILE"),
        ("none", "auto", "none: no such model; make it with"),
        ("none.onnx", "onnxruntime", "none.onnx: no such model; make it with"),
    ],
)
def test_an_engine_that_does_not_run_the_models_is_refused(name, engine, message, folder):
    with pytest.raises(KitError, match=message):
        asked(folder / name, engine)


@pytest.mark.parametrize(
    ("engine", "device"),
    [
        *(("ascend", device) for device in ("cpu", "cuda", "cuda:0", "0,", "", "0,1,x", " 0")),
        *(("onnxruntime", device) for device in ("0,1", "cuda:", "cuda:0,1", "npu:", "", "CPU")),
        ("openvino", "0,1"),
    ],
)
def test_a_device_of_another_engine_is_refused(engine, device, machine, folder):
    machine()
    with pytest.raises(KitError, match=f"--device {device}: not for the engine {engine}; give "):
        asked(folder, engine, device)


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_another_device_than_a_card_is_taken_where_there_are_cards(device, machine, folder, capsys):
    machine()
    assert asked(folder, "auto", device) == Choice("onnxruntime", device, None, False)
    assert capsys.readouterr().err == f"engine onnxruntime: for --device {device}\n"


@pytest.mark.parametrize(
    ("engine", "device"),
    [
        *(("ascend", device) for device in ("0", "1", "0,1", "10,2")),
        *(("onnxruntime", device) for device in ("0", "cpu", "cuda", "cuda:3", "npu:1")),
    ],
)
def test_a_device_of_the_engine_is_taken(engine, device, machine, folder):
    machine()
    assert asked(folder, engine, device)[:2] == (engine, device)


@pytest.mark.parametrize(("device", "card"), [("npu", "0"), ("npu:2", "2")])
def test_a_card_may_be_named_as_other_engines_name_it(device, card, machine, folder):
    machine("310P3,310P3,310P3")
    assert asked(folder, "ascend", device)[:2] == ("ascend", card)
    assert asked(folder / "a.om", "auto", device)[:2] == ("ascend", card)


def test_what_speaks_against_cards_is_noted(machine, folder, capsys):
    machine("310P3:OK:busy,310P3:Warning,310P3")
    asked(folder, "ascend", "0,1,2,3")
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "card 0",
        "card 1",
        "card 3",
    ]


@pytest.mark.parametrize(
    ("device", "in_process", "message"),
    [
        ("0", True, "--in_process needs ais_bench, not ais_infer.py"),
        ("0,1", False, "--device 0,1: ais_infer.py takes one card; give one"),
    ],
)
def test_what_the_script_of_2022_cannot_do_is_refused(device, in_process, message, machine, folder):
    machine(version=None)
    script = folder / "ais_infer.py"
    script.touch()
    with pytest.raises(KitError, match=message):
        asked(folder, device=device, ais_infer=script, in_process=in_process)


def test_a_tool_with_rules_for_paths_is_taken_as_such(machine, folder):
    machine(rules=["ais_bench.infer.path_security_check"])
    assert asked(folder) == Choice("ascend", "0", Tool(rules=True), False)


def test_in_process_needs_the_tool_in_this_python(machine, folder, monkeypatch, capsys):
    machine()
    other = folder / "python3"
    other.touch()
    monkeypatch.setattr(pythons, "candidates", lambda: [other])
    assert asked(folder).tool == Tool(python=other)
    assert f"ais_bench 0.0.2 runs in {other}\n" in capsys.readouterr().err
    assert asked(folder, tool_python=other).tool == Tool(python=other)
    with pytest.raises(KitError, match="--in_process: ais_bench is in .*python3, and this runs in"):
        asked(folder, in_process=True)


@pytest.fixture
def models(tmp_path):
    for name in (
        *("ssd_bs1.onnx", "ssd_bs1_uint8.onnx", "ssd_bs16.onnx", "ssd_bs1.om"),
        *("ssd_dynamic.om", "ssd_dynamic_int8.om", "ssd_dynamic.onnx"),
    ):
        (tmp_path / name).touch()
    (tmp_path / "ssd_bs2.om").mkdir()  # no file
    return tmp_path


@pytest.mark.parametrize(
    ("batch", "variant", "engine", "found"),
    [
        (1, "", "onnxruntime", "ssd_bs1.onnx"),
        (1, "", "openvino", "ssd_bs1.onnx"),
        (16, "", "onnxruntime", "ssd_bs16.onnx"),
        (1, "uint8", "onnxruntime", "ssd_bs1_uint8.onnx"),
        (4, "", "onnxruntime", "ssd_dynamic.onnx"),
        (1, "", "ascend", "ssd_bs1.om"),
        (2, "", "ascend", "ssd_dynamic.om"),
        (1, "int8", "ascend", "ssd_dynamic_int8.om"),
    ],
)
def test_the_model_of_a_batch_size_is_found_in_a_folder(batch, variant, engine, found, models):
    assert find_model(models, batch, variant, engine) == models / found


@pytest.mark.parametrize(
    ("plain", "variant", "fine"),
    [("aa", "aa", True), ("aa", "bb", False), ("", "bb", True), ("aa", "", True)],
)
def test_a_variant_is_of_the_checkpoint_of_the_model_beside_it(
    plain, variant, fine, light_onnx, tmp_path
):
    paths = tmp_path / "ssd_bs1.onnx", tmp_path / "ssd_bs1_int8.onnx"
    for path, checkpoint in zip(paths, (plain, variant), strict=True):
        shutil.copy(light_onnx, path)
        if checkpoint:
            set_checkpoint(path, checkpoint)
    if fine:
        assert find_model(tmp_path, 1, "int8", "onnxruntime") == paths[1]
    else:
        message = rf"checkpoints \({paths[0]}: aa; {paths[1]}: bb\); make ssd_bs1_int8.onnx again"
        with pytest.raises(KitError, match=message):
            find_model(tmp_path, 1, "int8", "onnxruntime")
    assert find_model(paths[1], 1, "int8", "onnxruntime") == paths[1]  # a file is asked for


def test_a_model_file_is_itself_whatever_else_is_asked(models):
    path = models / "ssd_bs1.om"
    assert find_model(path, 16, "uint8", "ascend") == path


@pytest.mark.parametrize(
    ("batch", "variant", "missing"), [(1, "int8", "ssd_bs1_int8.onnx"), (4, "x", "ssd_bs4_x.onnx")]
)
def test_a_missing_model_is_named(batch, variant, missing, models):
    message = f"{missing}: no such model; make it with test/ssd_pth2om.sh"
    with pytest.raises(KitError) as caught:
        find_model(models, batch, variant, "onnxruntime")
    assert str(caught.value) == os.fspath(models / message)
