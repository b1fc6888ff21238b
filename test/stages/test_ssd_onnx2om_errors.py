"""What conversion with atc refuses, and what is left when atc fails."""

import os
import subprocess
import sys
import time
from pathlib import Path

import ssd_onnx2om

import pytest
from models import ROOT, gone


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def own_atc(folder, text):
    """Write an atc that runs a line of shell; return the environment that finds it."""
    folder.mkdir()
    (folder / "atc").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "atc").chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("code", ["E10001", "E19010", "EZ3003"])
def test_a_failing_atc_leaves_its_log_and_nothing_else(code, convert, tmp_path):
    done = convert(STANDIN_ATC_ERROR=code)
    assert done.returncode == 255  # atc's own
    assert f"atc failed: {code}: " in done.stderr and done.stderr.count("\n") == 1
    assert files(tmp_path / "out") == ["m.atc.log"]


def test_a_failure_keeps_the_model_that_was_there(convert, tmp_path):
    assert convert().returncode == 0
    out = tmp_path / "out"
    before = {name: (out / name).read_bytes() for name in files(out)}
    done = convert("--bs", 4, STANDIN_ATC_ERROR="E10001")
    assert done.returncode == 255
    assert files(out) == ["m.atc.log", "m.om", "m.om.json"]
    assert before == {name: (out / name).read_bytes() for name in before}
    assert "E10001" in (out / "m.atc.log").read_text()
    assert convert("--bs", 4).returncode == 0
    assert files(out) == ["m.om", "m.om.json"]  # the failure is over, and its log goes


def test_a_killed_atc_is_reported_with_its_signal(convert, tmp_path):
    done = convert(STANDIN_ATC_ERROR="SIGSEGV")
    assert done.returncode == 139  # 128 + 11, as a shell has it
    log = tmp_path / "out" / "m.atc.log"
    words = f"ssd_onnx2om.py: error: {tmp_path}/out/m.om: atc failed: killed by SIGSEGV; "
    assert done.stderr.startswith(words) and done.stderr.endswith(f"({log})\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_atc_ends_with_its_stage(how, tmp_path, light_onnx):
    env = own_atc(tmp_path / "bin", f"echo $$ >{tmp_path}/pid; echo begun; exec sleep 600")
    command = [sys.executable, str(ROOT / "ssd_onnx2om.py"), "--soc_version=Ascend310P3"]
    command += ["--onnx-path", str(light_onnx), "--om-path", str(tmp_path / "out" / "m.om")]
    log, pid = tmp_path / "out" / "m.atc.log", tmp_path / "pid"
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | env, **pipes) as process:
        while not (log.exists() and log.read_text()):  # which grows while atc runs
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        getattr(process, how)()
        error = process.stderr.read()
    assert process.returncode == (-9 if how == "kill" else 143)
    assert gone(int(pid.read_text()))
    if how == "terminate":
        assert error == "ssd_onnx2om.py: stopped by SIGTERM; what was done is kept\n"
        assert files(tmp_path / "out") == ["m.atc.log"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(convert, refused, tmp_path):
    (tmp_path / "out").write_text("")
    refused(convert(), f"{tmp_path}/out: cannot write: File exists; give another --om-path")


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


def test_a_model_whose_name_atc_made_longer_is_found(convert, tmp_path):
    make = 'for w; do case $w in --output=*) echo x >"${w#*=}_linux_x86_64.om";; esac; done'
    assert convert(**own_atc(tmp_path / "bin", make)).returncode == 0
    assert files(tmp_path / "out") == ["m.om", "m.om.json"]


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


@pytest.mark.parametrize("flag", sorted(ssd_onnx2om.SIGNATURE_FLAGS))
def test_what_would_change_inputs_or_outputs_behind_the_note_is_refused(
    flag, convert, refused, atc_calls
):
    reason = "changes the model's inputs or outputs, which the evaluation must know; leave it out"
    refused(convert(f"--atc_args=--{flag}=1"), f"--atc_args: --{flag} {reason}")
    assert atc_calls() == []


def test_bad_input_is_reported_before_atc_runs(convert, atc_calls, refused, tmp_path):
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


@pytest.mark.parametrize("option", ["--bs=0", "--bs=-1", "--dynamic_batch=4,x"])
def test_a_batch_size_that_cannot_be_is_wrong_usage(option, capsys):
    with pytest.raises(SystemExit) as left:
        ssd_onnx2om.parse_args(["--onnx-path", "m.onnx", "--om-path", "m.om", option])
    assert left.value.code == 2
    name, _, value = option.partition("=")
    assert f"error: argument {name}: {value}: must be " in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--aipp", "--atc_args=--input_fp16_nodes=image"],
        ["--dynamic_batch", "1,8", "--atc_args=--dynamic_dims=1"],
        ["--precision_mode_v2", "fp16", "--atc_args=--precision_mode=force_fp16"],
        ["--atc_args=--soc_version=Ascend310"],
        ["--atc_args=--auto_tune_mode=GA"],
    ],
)
def test_what_excludes_each_other_is_refused_before_atc_runs(options, convert, standin):
    done = convert(*options)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert not standin.exists()
