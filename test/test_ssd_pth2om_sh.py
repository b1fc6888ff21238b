"""Tests of the driver ssd_pth2om.sh with a fake python3 that logs how it is called.

Run: python -m pytest test/test_ssd_pth2om_sh.py
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "test" / "fake_python"
DRIVER = "ssd_pth2om.sh"
ODD = "wei rd;'\"$HOME é"  # a folder name that wants quoting


class Kit:
    """Runs the driver in a machine of our own making: `bin` may hold an atc, HOME is empty."""

    def __init__(self, run_driver, tmp_path):
        self.run_driver, self.tmp = run_driver, tmp_path
        self.log = tmp_path / "calls.json"
        self.bin = tmp_path / "bin"
        self.home = tmp_path / "home"
        self.out = tmp_path / ODD
        for folder in (self.bin, self.home):
            folder.mkdir()

    def tool(self, name="atc", text="exit 1"):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, *args, rules=(), **env):
        env = {
            "FAKE_LOG": str(self.log),
            "FAKE_REAL": sys.executable,
            "FAKE_RULES": json.dumps(list(rules)),
            "HOME": str(self.home),
            "ASCEND_TOOLKIT_HOME": "/none",  # as if sourced, so that no real one is
            "ASCEND_HOME_PATH": "",
        } | env
        env["PATH"] = os.pathsep.join([str(self.bin), "/usr/bin", "/bin"])
        return self.run_driver(DRIVER, *args, env=env, first=FAKE)

    def calls(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def kit(run_driver, tmp_path):
    return Kit(run_driver, tmp_path)


def export(pth, onnx, *more, dtype="float32", trunk="./models/resnet34-333f7ec4.pth"):
    stage = [str(ROOT / "ssd_pth2onnx.py"), "--pth-path", str(pth), "--resnet34-model", str(trunk)]
    return [*stage, "--input", dtype, *more, "--onnx-path", str(onnx)]


def convert(onnx, batch, cache, *more, soc="auto"):
    stage = [str(ROOT / "ssd_onnx2om.py"), "--onnx-path", f"{onnx}.onnx", "--bs", str(batch)]
    stage += ["--soc_version", soc, "--cache", cache, *more, "--om-path", f"{onnx}.om"]
    return stage


def quantize(onnx, pictures, *more):
    stage = [str(ROOT / "ssd_quantize.py"), "--onnx-path", f"{onnx}.onnx"]
    return [*stage, "--calibration", str(pictures), *more]


def cache_of(calls):
    """Return the kernels' folder that the driver made up."""
    return next(call[call.index("--cache") + 1] for call in calls if "--cache" in call)


def test_without_atc_each_batch_size_is_exported_and_nothing_else(kit):
    pth, trunk = kit.tmp / "a b;$x'é.pt", kit.tmp / 'trunk "1".pth'
    done = kit.run(
        "--batch_sizes=1,4,16",
        f"--pth_path={pth}",
        f"--resnet34_model={trunk}",
        f"--output={kit.out}",
    )
    assert done.returncode == 0, done.stderr
    assert kit.calls() == [
        export(pth, f"{kit.out}/ssd_bs{n}.onnx", "--bs", str(n), trunk=trunk) for n in (1, 4, 16)
    ]
    told = f"no toolchain used: the ONNX files in {kit.out} are what the embedded engine runs"
    assert done.stdout.splitlines() == [told, "success"]
    why = f"{DRIVER}: engine onnxruntime: no atc on PATH, so ONNX files only"
    assert done.stderr.splitlines() == [why, *(f"[onnx, batch {n}]" for n in (1, 4, 16))]
    assert list(kit.out.iterdir()) == []  # no scratch folder stays


def test_the_defaults_are_those_of_the_usage_text(kit):
    kit.tool()
    kit.run("--engine=onnxruntime", f"--output={kit.out}")
    pth = "./models/iter_183250.pt"
    assert kit.calls() == [
        export(pth, f"{kit.out}/ssd_bs{n}.onnx", "--bs", str(n)) for n in (1, 16)
    ]


def test_uint8_models_have_their_own_name(kit):
    done = kit.run("--batch_sizes=4", "--pth_path=p", f"--output={kit.out}", "--input=uint8")
    assert done.returncode == 0
    assert kit.calls() == [export("p", f"{kit.out}/ssd_bs4_uint8.onnx", "--bs", "4", dtype="uint8")]


def test_with_atc_auto_takes_ascend_and_converts_each_batch_size(kit):
    kit.tool()
    done = kit.run("--batch_sizes=1,16", "--pth_path=p", f"--output={kit.out}")
    assert done.returncode == 0, done.stderr
    calls, stem = kit.calls(), f"{kit.out}/ssd_bs"
    cache = cache_of(calls)
    assert re.fullmatch(r"\.kernels-\w{6}", Path(cache).name)
    assert Path(cache).parent == kit.out
    assert calls == [
        export("p", f"{stem}1.onnx", "--bs", "1"),
        convert(f"{stem}1", 1, cache),
        export("p", f"{stem}16.onnx", "--bs", "16"),
        convert(f"{stem}16", 16, cache),
    ]
    assert done.stdout == "success\n"
    assert done.stderr.splitlines()[0] == f"{DRIVER}: engine ascend: atc is {kit.bin}/atc"
    assert list(kit.out.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--aipp"],
        ["--output_fp16"],
        ["--precision_mode_v2=mixed_float16"],
        ["--atc_args=--buffer_optimize=l1_optimize --log='a b' $HOME"],
        ["--aipp", "--output_fp16", "--precision_mode_v2=origin", "--atc_args=--x=y"],
    ],
)
def test_options_of_atc_reach_the_conversion_word_for_word(kit, options):
    kit.tool()
    done = kit.run(
        *options,
        "--batch_sizes=4",
        "--pth_path=p",
        f"--output={kit.out}",
        "--soc_version=Ascend310",
    )
    assert done.returncode == 0, done.stderr
    stem, calls = f"{kit.out}/ssd_bs4", kit.calls()
    assert calls == [
        export("p", f"{stem}.onnx", "--bs", "4"),
        convert(stem, 4, cache_of(calls), *options, soc="Ascend310"),
    ]


@pytest.mark.parametrize("card", [False, True])
def test_int8_models_are_made_beside_the_others(card, kit):
    pictures = kit.tmp / "pic;'tures"
    pictures.mkdir()
    if card:
        kit.tool()
    done = kit.run("--batch_sizes=4", "--pth_path=p", f"--output={kit.out}", f"--int8={pictures}")
    assert done.returncode == 0, done.stderr
    stem, calls = f"{kit.out}/ssd_bs4", kit.calls()
    if not card:
        made = quantize(stem, pictures, "--output", f"{stem}_int8.onnx")
        assert calls == [export("p", f"{stem}.onnx", "--bs", "4"), made]
        return
    folder = f"{stem}_calibration"
    as_int8 = convert(stem, 4, cache_of(calls))[:-1] + [f"{stem}_int8.om"]
    assert calls == [
        export("p", f"{stem}.onnx", "--bs", "4"),
        convert(stem, 4, cache_of(calls)),
        quantize(stem, pictures, "--ascend-calibration", folder, "--soc_version", "auto"),
        [*as_int8, "--int8", f"{folder}/calibration.cfg"],
    ]


def test_a_missing_calibration_folder_is_told_before_any_work(kit):
    done = kit.run("--int8=/none", f"--output={kit.out}")
    message = "/none: no such folder; make it with ssd_preprocess.py"
    assert (done.returncode, done.stderr) == (1, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == []


def test_a_dynamic_batch_makes_one_model_for_all(kit):
    kit.tool()
    done = kit.run(
        "--dynamic_batch", "--aipp", "--batch_sizes=4,1,16", "--pth_path=p", f"--output={kit.out}"
    )
    assert done.returncode == 0, done.stderr
    stem, calls = f"{kit.out}/ssd_dynamic", kit.calls()
    assert calls == [
        export("p", f"{stem}.onnx", "--dynamic"),
        convert(stem, 4, cache_of(calls), "--aipp", "--dynamic_batch=4,1,16"),
    ]


def test_a_relative_output_means_the_folder_where_the_user_is(kit):
    driver = ROOT / "test" / DRIVER
    env = os.environ | {"FAKE_LOG": str(kit.log), "FAKE_REAL": sys.executable}
    env["PATH"] = f"{FAKE}{os.pathsep}{env['PATH']}"
    command = ["bash", os.path.relpath(driver, kit.tmp), "--engine=onnxruntime", "--batch_sizes=1"]
    subprocess.run([*command, "--output=here"], cwd=kit.tmp, env=env, check=True)
    assert (kit.tmp / "here").is_dir()
    assert kit.calls() == [export("./models/iter_183250.pt", "here/ssd_bs1.onnx", "--bs", "1")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nosuch"], "unknown option --nosuch; see --help"),
        (["--batch_sizes"], "unknown option --batch_sizes; see --help"),
        (["1"], "unknown option 1; see --help"),
        (["--batch_sizes="], "--batch_sizes=: give sizes such as 1,16"),
        (["--batch_sizes=0"], "--batch_sizes=0: give sizes such as 1,16"),
        (["--batch_sizes=1,"], "--batch_sizes=1,: give sizes such as 1,16"),
        (["--batch_sizes=1 16"], "--batch_sizes=1 16: give sizes such as 1,16"),
        (["--batch_sizes=1;ls"], "--batch_sizes=1;ls: give sizes such as 1,16"),
        (["--engine=gpu"], "--engine=gpu: give one of auto ascend onnxruntime"),
        (["--input=int8"], "--input=int8: give one of float32 uint8"),
        (["--engine=onnxruntime", "--aipp"], "--aipp is for atc, not for --engine=onnxruntime"),
        (
            ["--engine=onnxruntime", "--dynamic_batch"],
            "--dynamic_batch=1,16 is for atc, not for --engine=onnxruntime",
        ),
        (["--dynamic_batch", "--batch_sizes=4"], "--dynamic_batch: give two sizes"),
        (["--input=uint8"], "--input=uint8 is for the embedded engine; on the card --aipp does it"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2_before_any_work(kit, options, message):
    kit.tool()
    done = kit.run(f"--output={kit.out}", *options)
    lines = done.stderr.splitlines()
    assert (done.returncode, lines[-1]) == (2, f"{DRIVER}: error: {message}")
    assert len([line for line in lines if "error" in line]) == 1
    assert kit.calls() == []
    assert not kit.out.exists()


def test_what_needs_atc_is_refused_without_it(kit):
    for options, message in [
        (
            ["--engine=ascend"],
            "--engine=ascend: no atc on PATH; install CANN's toolkit and source its set_env.sh",
        ),
        (["--aipp"], "--aipp is for atc, which is not on PATH; source CANN's set_env.sh"),
    ]:
        done = kit.run(f"--output={kit.out}", *options)
        assert (done.returncode, done.stderr) == (1, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == []


@pytest.mark.parametrize(("status", "seen"), [(1, 1), (3, 3), (-9, 137)])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_failing_stage_stops_the_run_with_its_status(kit, call, status, seen):
    kit.tool()
    rules = [{"call": call, "status": status, "complain": "stage.py: error: it\n"}]
    done = kit.run("--batch_sizes=1,16", f"--output={kit.out}", rules=rules)
    name = ["onnx, batch 1", "om, batch 1", "onnx, batch 16", "om, batch 16"][call - 1]
    assert done.returncode == seen
    assert done.stderr.splitlines()[-1] == (
        f"{DRIVER}: error: stage '{name}' failed (see above); what was done before it is kept"
    )
    assert len(kit.calls()) == call
    assert "success" not in done.stdout
    assert list(kit.out.iterdir()) == []  # the kernels' folder goes


PLACES = ["Ascend", "Ascend/ascend-toolkit", "Ascend/cann", "elsewhere", "elsewhere/latest"]


@pytest.mark.parametrize("place", PLACES)
def test_the_toolkit_is_sourced_where_it_usually_lies(kit, place):
    told = kit.home / place
    told.mkdir(parents=True)
    folder = told.parent if told.name == "latest" else told
    kit.tool("sub")  # something on PATH that is not atc
    (folder / "set_env.sh").write_text(
        f'false\nexport PATH={kit.tmp}/tool:$PATH X="$NO_SUCH_VARIABLE"\nfalse\n'
    )
    (kit.tmp / "tool").mkdir()
    (kit.bin / "sub").rename(kit.tmp / "tool" / "atc")
    if list(Path("/usr/local/Ascend").glob("*/set_env.sh")):
        pytest.skip("this machine has a toolkit, which comes first")
    env = {"ASCEND_TOOLKIT_HOME": ""}
    env |= {"ASCEND_HOME_PATH": str(told)} if "elsewhere" in place else {}
    done = kit.run("--batch_sizes=1", f"--output={kit.out}", **env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:2] == [
        f"{DRIVER}: sourcing {folder}/set_env.sh",
        f"{DRIVER}: engine ascend: atc is {kit.tmp}/tool/atc",
    ]


def test_a_sourced_toolkit_is_not_sourced_again(kit):
    (kit.home / "Ascend").mkdir()
    (kit.home / "Ascend" / "set_env.sh").write_text("exit 9\n")
    done = kit.run("--batch_sizes=1", f"--output={kit.out}")
    assert done.returncode == 0, done.stderr


def test_an_output_that_is_a_file_is_refused_before_any_work(kit):
    kit.out.write_text("")
    done = kit.run(f"--output={kit.out}")
    assert done.returncode == 1
    assert kit.calls() == []


def test_help_tells_every_option_that_the_driver_takes(kit):
    done = kit.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    code = (ROOT / "test" / DRIVER).read_text()
    taken = set(re.findall(r"^ {12}.*?(--\w+)=?\*?(?= \||\))", code, re.M))
    taken |= set(re.findall(r"\| (--\w+)", code))
    assert taken == set(re.findall(r"^ {2}(--\w+)", done.stdout, re.M))
    assert kit.calls() == []
