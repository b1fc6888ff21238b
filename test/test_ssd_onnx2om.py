"""Conversion with atc, held against its stand-in: the call, the note, what is kept, failures.

Run: python -m pytest test/test_ssd_onnx2om.py
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ssd_ascend
import ssd_boxes
import ssd_onnx2om

onnx = pytest.importorskip("onnx")
STANDIN = Path(__file__).parent / "ascend_standin"
SHAPE = "--input_shape=image:{},3,300,300"


def write_onnx(path, weight=1.0):
    """Write a net of one multiplication that takes what the kit's network takes."""
    ends = [onnx.helper.make_tensor_value_info(n, 1, ["N", 3, 300, 300]) for n in "xy"]
    ends[0].name = "image"
    factor = onnx.numpy_helper.from_array(np.float32([weight]), "w")
    node = onnx.helper.make_node("Mul", ["image", "w"], ["y"], "Mul_0")
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [factor])
    opset = [onnx.helper.make_opsetid("", 11)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture
def convert(standin, tmp_path, run_stage):
    """Convert `in/m.onnx` to `out/m.om` with options."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_onnx(folder / "m.onnx")

    def run(*options, **env):
        paths = ["--onnx-path", folder / "m.onnx", "--om-path", tmp_path / "out" / "m.om"]
        return run_stage("ssd_onnx2om.py", *paths, *options, env=env)

    return run


@pytest.fixture
def atc_calls(standin):
    """Tell atc's calls so far, without its name."""

    def read():
        lines = standin.read_text().splitlines() if standin.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == "atc"]

    return read


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize(("options", "flags", "told"), MODES)
def test_each_mode_has_its_call_and_its_note(options, flags, told, convert, atc_calls, tmp_path):
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
    assert note == plain | told
    aipp = {"m.aipp.cfg"} if "--aipp" in options else set()
    assert set(files(out)) == {"m.om", "m.om.json"} | aipp  # no litter of atc's
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


CHANGES = ["onnx", "batch", "flag", "file", "chip", "cann", "om", "note", "no note", "no om"]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_made_otherwise_is_made_again(change, convert, atc_calls, tmp_path):
    out, switches = tmp_path / "out", tmp_path / "fusion.cfg"
    switches.write_text("A:off\n")
    options = [f"--atc_args=--fusion_switch_file={switches}"]
    assert convert(*options).returncode == 0
    env = {}
    if change == "onnx":
        write_onnx(tmp_path / "in" / "m.onnx", weight=2.0)
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
    assert ssd_ascend.read_sidecar(out / "m.om")["om_sha256"] == sha(out / "m.om")


def test_other_aipp_numbers_make_another_model(standin, atc_calls, tmp_path, monkeypatch):
    write_onnx(tmp_path / "m.onnx")
    options = ["--onnx-path", str(tmp_path / "m.onnx"), "--om-path", str(tmp_path / "m.om")]
    for mean in (ssd_boxes.MEAN, ssd_boxes.MEAN, (0.5, 0.5, 0.5)):
        monkeypatch.setattr(ssd_ascend, "MEAN", mean)
        assert ssd_onnx2om.main([*options, "--aipp"]) == 0
    assert len(atc_calls()) == 2


def test_a_failure_keeps_the_model_that_was_there(convert, tmp_path):
    assert convert().returncode == 0
    out = tmp_path / "out"
    before = {name: (out / name).read_bytes() for name in files(out)}
    done = convert("--bs", 4, STANDIN_ATC_ERROR="E10001")
    assert done.returncode == 1
    assert files(out) == ["m.atc.log", "m.om", "m.om.json"]
    assert before == {name: (out / name).read_bytes() for name in before}
    assert "E10001" in (out / "m.atc.log").read_text()
    assert convert("--bs", 4).returncode == 0
    assert files(out) == ["m.om", "m.om.json"]  # the failure is over, and its log goes


def test_a_killed_atc_is_told_with_its_signal(convert, tmp_path):
    done = convert(STANDIN_ATC_ERROR="SIGSEGV")
    assert done.returncode == 139  # 128 + 11, as a shell has it
    log = tmp_path / "out" / "m.atc.log"
    words = f"ssd_onnx2om.py: error: {tmp_path}/out/m.om: atc failed: killed by SIGSEGV; "
    assert done.stderr.startswith(words) and done.stderr.endswith(f"({log})\n")
    assert done.stderr.count("\n") == 1


def own_atc(folder, text):
    """Write an atc that runs a line of shell; return the environment that finds it."""
    folder.mkdir()
    (folder / "atc").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "atc").chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize(("status", "seen"), [(0, 1), (7, 7)])
def test_the_status_of_atc_is_passed_on(status, seen, convert, tmp_path):
    done = convert(**own_atc(tmp_path / "bin", f"echo E19010: words; exit {status}"))  # no .om
    assert done.returncode == seen
    assert "E19010: atc has no parser for a node" in done.stderr and done.stderr.count("\n") == 1
    assert files(tmp_path / "out") == ["m.atc.log"]


def test_atc_runs_where_its_litter_hurts_nobody(convert, tmp_path):
    convert(**own_atc(tmp_path / "bin", f"pwd >{tmp_path}/cwd; exit 1"))
    folder = Path((tmp_path / "cwd").read_text().strip())
    assert folder.parent == tmp_path / "out" and not folder.exists()


def test_a_model_that_others_may_write_gets_a_mode_that_the_tools_take(convert, tmp_path):
    env = own_atc(
        tmp_path / "bin",
        'for w; do case $w in --output=*) f=${w#*=}.om; echo x >"$f"; chmod 664 "$f";; esac; done',
    )
    assert convert(**env).returncode == 0
    assert (tmp_path / "out" / "m.om").stat().st_mode & 0o777 == 0o644


def test_files_that_atc_args_name_are_found_from_where_the_user_is(tmp_path, monkeypatch):
    (tmp_path / "fusion.cfg").write_text("A:off\n")
    (tmp_path / "1").write_text("a file that no flag means")
    monkeypatch.chdir(tmp_path)
    text = "--fusion_switch_file=fusion.cfg --deterministic=1 --keep_dtype=none.cfg -x 'a b'"
    assert ssd_onnx2om.split_flags(text) == [
        f"--fusion_switch_file={tmp_path}/fusion.cfg",
        *("--deterministic=1", "--keep_dtype=none.cfg", "-x", "a b"),
    ]


@pytest.mark.parametrize("word", ["--insert_op_conf=x", "-insert_op_conf=x", "--insert-op-conf x"])
def test_a_flag_is_known_in_each_form_that_atc_reads(word, convert, refused):
    refused(convert(f"--atc_args={word}"), "--insert_op_conf is set by this kit; use --aipp")


@pytest.mark.parametrize("flag", sorted(ssd_onnx2om.FACE_FLAGS))
def test_what_would_change_inputs_or_outputs_behind_the_note_is_refused(
    flag, convert, refused, atc_calls
):
    told = "changes the model's inputs or outputs, which the evaluation must know; leave it out"
    refused(convert(f"--atc_args=--{flag}=1"), f"--atc_args: --{flag} {told}")
    assert atc_calls() == []


def test_bad_input_is_told_before_atc_runs(convert, atc_calls, refused, tmp_path):
    out = tmp_path / "out"
    for name, use in ssd_onnx2om.KIT_FLAGS.items():
        refused(convert(f"--atc_args=--{name}=x"), f"--{name} is set by this kit; use {use}")
    refused(convert(STANDIN_CARDS="310:OK,310P3:OK"), "several kinds of chip", "--soc_version")
    refused(convert("--soc_version", "auto", STANDIN_CARDS=""), "finds no card")
    refused(convert(PATH="/usr/bin:/bin"), "atc: not on PATH", "set_env.sh")
    refused(convert("--onnx-path", out / "none.onnx"), "none.onnx: no such file", "ssd_pth2onnx.py")
    done = convert("--om-path", out / "m.onnx")
    assert done.returncode == 2 and "must end in .om" in done.stderr
    assert atc_calls() == [] and not out.exists()
