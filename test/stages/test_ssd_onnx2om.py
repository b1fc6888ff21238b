"""Conversion with atc, held against its stand-in: the call, the note, what is kept."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ssd_onnx2om
from ssd.ascend.om import read_sidecar
from ssd.boxes import SSD300

import numpy as np
import pytest
from models import STANDIN, save_product

SHAPE = "--input_shape=image:{},3,300,300"


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


MODES = [
    ([], [SHAPE.format(1)], {}),
    (["--bs", 16], [SHAPE.format(16)], {"batch": 16}),
    (
        ["--aipp"],
        [SHAPE.format(1), "--insert_op_conf={out}/m.aipp.cfg", "--enable_small_channel=1"],
        {"mode": "aipp", "input_dtype": "uint8", "input_layout": "NHWC"},
    ),
    (
        ["--output_fp16"],
        [SHAPE.format(1), "--output_type=FP16"],
        {"mode": "output_fp16", "output_dtype": "float16"},
    ),
    (
        ["--dynamic_batch", "1,4"],
        [SHAPE.format(-1), "--dynamic_batch_size=1,4"],
        {"mode": "dynamic_batch", "batch": [1, 4]},
    ),
    (
        ["--precision_mode_v2", "mixed_float16"],
        [SHAPE.format(1), "--precision_mode_v2=mixed_float16"],
        {"mode": "mixed_float16"},
    ),
    (
        ["--aipp", "--output_fp16", "--dynamic_batch", "4,1", "--atc_args=--host_env_os=linux"],
        [
            SHAPE.format(-1),
            "--dynamic_batch_size=4,1",
            "--insert_op_conf={out}/m.aipp.cfg",
            "--enable_small_channel=1",
            "--output_type=FP16",
            "--host_env_os=linux",
        ],
        {
            "mode": "aipp output_fp16 dynamic_batch",
            "batch": [4, 1],
            "input_dtype": "uint8",
            "input_layout": "NHWC",
            "output_dtype": "float16",
        },
    ),
]


@pytest.mark.parametrize(("options", "flags", "noted"), MODES)
def test_each_mode_has_its_call_and_its_note(options, flags, noted, convert, atc_calls, tmp_path):
    done = convert(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    (call,) = atc_calls()
    assert [word for word in call if not word.startswith("--output=")] == [
        "--framework=5",
        f"--model={tmp_path / 'in' / 'm.onnx'}",
        "--input_format=NCHW",
        flags[0],
        "--log=error",
        "--soc_version=Ascend310P3",
        *(flag.format(out=out) for flag in flags[1:]),
    ]
    (output,) = (word for word in call if word.startswith("--output="))
    scratch = Path(output.partition("=")[2])
    assert (scratch.name, scratch.parent.parent) == ("m", out)  # as .om can be moved from there
    note = json.loads((out / "m.om.json").read_text())
    flags = note.pop("flags")
    plain = {
        "om_sha256": sha(out / "m.om"),
        "onnx": "m.onnx",
        "onnx_sha256": sha(tmp_path / "in" / "m.onnx"),
        "mode": "plain",
        "soc_version": "Ascend310P3",
        "cann": None,
        "input_dtype": "float32",
        "input_layout": "NCHW",
        "output_dtype": "float32",
        "batch": 1,
    }
    assert note == plain | noted
    aipp = {"m.aipp.cfg"} if "--aipp" in options else set()
    assert {path.name for path in out.iterdir()} == {
        "m.om",
        "m.om.json",
    } | aipp  # no litter of atc's
    assert sum("SHA-256" in flag for flag in flags) == 1 + len(aipp)
    assert done.stdout.splitlines()[-1] == f"{out}/m.om: Ascend310P3, SHA-256 {note['om_sha256']}"


def test_kernels_are_cached_where_they_are_wanted(convert, atc_calls, tmp_path):
    assert convert("--cache", tmp_path / "kernels").returncode == 0
    (call,) = atc_calls()
    cache = ["--op_compiler_cache_mode=enable", f"--op_compiler_cache_dir={tmp_path / 'kernels'}"]
    assert call[-2:] == cache
    assert list((tmp_path / "kernels").rglob("te_mul_*.o"))


def test_the_version_of_the_toolkit_is_noted(convert, tmp_path):
    subprocess.run([sys.executable, STANDIN / "standin.py", tmp_path / "tk", "8.0.RC1"], check=True)
    assert convert(ASCEND_TOOLKIT_HOME=str(tmp_path / "tk" / "latest")).returncode == 0
    assert json.loads((tmp_path / "out" / "m.om.json").read_text())["cann"] == "8.0.RC1"


@pytest.mark.parametrize("options", [[], ["--aipp"], ["--dynamic_batch", "1,4"]])
def test_what_was_made_from_and_with_the_same_is_kept(options, convert, atc_calls, tmp_path):
    assert convert(*options, "--cache", tmp_path / "a").returncode == 0
    before = (tmp_path / "out" / "m.om").stat().st_mtime_ns
    done = convert(*options, "--cache", tmp_path / "b")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith(f"{tmp_path}/out/m.om: kept")
    assert len(atc_calls()) == 1
    assert (tmp_path / "out" / "m.om").stat().st_mtime_ns == before


@pytest.fixture
def calibration(tmp_path):
    """Make a calibration config and its data, two pictures, as ssd_quantize.py does."""
    data, config = tmp_path / "calibration.bin", tmp_path / "calibration.cfg"
    np.zeros((2, 3, 300, 300), np.float32).tofile(data)
    lines = [f"input_data_dir: {data}", "input_shape: image:2,3,300,300"]
    lines.append("infer_soc: Ascend310P3")
    config.write_text("calibration:\n{\n" + "".join(f"    {x}\n" for x in lines) + "}\n")
    return config


def test_int8_passes_the_calibration_and_notes_its_data(calibration, convert, atc_calls, tmp_path):
    options = ["--bs", 2, "--int8", calibration]
    done = convert(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    (call,) = atc_calls()
    assert call[-1] == f"--compression_optimize_conf={calibration}"
    note = json.loads((tmp_path / "out" / "m.om.json").read_text())
    data = calibration.with_suffix(".bin")
    assert (note["mode"], note["calibration_sha256"]) == ("int8", sha(data))
    assert f"--compression_optimize_conf=SHA-256 {sha(calibration)}" in note["flags"]
    assert convert(*options).stdout.splitlines()[-1].startswith(f"{tmp_path}/out/m.om: kept")
    np.ones((2, 3, 300, 300), np.float32).tofile(data)  # other pictures, the same config
    assert convert(*options).returncode == 0
    assert len(atc_calls()) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--dynamic_batch", "1,4"], "--int8 and --dynamic_batch exclude each other"),
        (["--precision_mode_v2", "origin"], "--precision_mode_v2=origin excludes INT8"),
        (["--atc_args=--precision_mode=force_fp32"], "--precision_mode=force_fp32 excludes INT8"),
        (["--atc_args=--op_precision_mode=x.ini"], "--int8 and --op_precision_mode exclude"),
        (["--atc_args=--compression_optimize_conf=c"], "is set by this kit; use --int8"),
    ],
)
def test_what_int8_excludes_is_refused_before_atc_runs(
    options, told, calibration, convert, atc_calls, refused
):
    refused(convert("--int8", calibration, *options), told)
    assert atc_calls() == []


def test_a_calibration_without_its_files_is_refused(
    calibration, convert, atc_calls, refused, tmp_path
):
    refused(convert("--int8", tmp_path / "none"), f"{tmp_path}/none: no such calibration config")
    calibration.with_suffix(".bin").unlink()
    refused(convert("--int8", calibration), "names no calibration data that is there", "--ascend-")
    calibration.write_text("calibration: {}")
    refused(convert("--int8", calibration), "(no input_data_dir)")
    assert atc_calls() == []


def test_the_chip_is_asked_for_and_then_atc_called_once(convert, standin):
    assert convert("--bs", 16, "--aipp").returncode == 0
    calls = [json.loads(line) for line in standin.read_text().splitlines()]
    assert [call[0] for call in calls] == ["npu-smi", "atc"]
    assert calls[0] == ["npu-smi", "info"] and "--soc_version=Ascend310P3" in calls[1]


CHANGES = ["onnx", "batch", "flag", "file", "chip", "cann", "om", "note", "no note", "no om"]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_made_otherwise_is_made_again(change, convert, atc_calls, tmp_path):
    out, switches = tmp_path / "out", tmp_path / "fusion.cfg"
    switches.write_text("A:off\n")
    options = [f"--atc_args=--fusion_switch_file={switches}"]
    assert convert(*options).returncode == 0
    env = {}
    if change == "onnx":
        save_product(tmp_path / "in" / "m.onnx", weight=2.0)
    elif change == "batch":
        options += ["--bs", 4]
    elif change == "flag":
        options += ["--output_fp16"]
    elif change == "file":
        switches.write_text("B:off\n")
    elif change == "chip":
        env["STANDIN_CARDS"] = "310:OK"
    elif change == "cann":
        subprocess.run([sys.executable, STANDIN / "standin.py", tmp_path / "tk"], check=True)
        env["ASCEND_TOOLKIT_HOME"] = str(tmp_path / "tk" / "latest")
    elif change == "om":
        (out / "m.om").write_bytes(b"another")
    elif change == "note":
        (out / "m.om.json").write_text('{"om_sha')
    else:
        (out / ("m.om.json" if change == "no note" else "m.om")).unlink()
    done = convert(*options, **env)
    assert done.returncode == 0, done.stderr
    assert len(atc_calls()) == 2
    assert read_sidecar(out / "m.om")["om_sha256"] == sha(out / "m.om")


def test_other_aipp_numbers_make_another_model(standin, atc_calls, tmp_path, monkeypatch):
    save_product(tmp_path / "m.onnx")
    options = ["--onnx-path", str(tmp_path / "m.onnx"), "--om-path", str(tmp_path / "m.om")]
    for mean in (SSD300.mean, SSD300.mean, (0.5, 0.5, 0.5)):
        monkeypatch.setattr("ssd.ascend.om.SSD300", replace(SSD300, mean=mean))
        assert ssd_onnx2om.main([*options, "--aipp"]) == 0
    assert len(atc_calls()) == 2
