"""Tests of the driver ssd_pth2om.sh with a fake python3 that logs how it is called."""

import os
import subprocess
from pathlib import Path

import pytest
from models import FAKE, ODD, ROOT, Kit

DRIVER = "ssd_pth2om.sh"


@pytest.fixture
def kit(run_driver, tmp_path):
    made = Kit(DRIVER, run_driver, tmp_path)
    made.out = tmp_path / ODD
    return made


def export(pth, onnx, *more, dtype="float32", trunk="./models/resnet34-333f7ec4.pth"):
    stage = [str(ROOT / "ssd_pth2onnx.py"), f"--pth_path={pth}", f"--resnet34_model={trunk}"]
    return [*stage, f"--input={dtype}", *more, "--onnx-path", str(onnx)]


def convert(onnx, batch, *more, soc="auto", dynamic=(), om=None):
    stage = [str(ROOT / "ssd_onnx2om.py"), "--onnx-path", f"{onnx}.onnx", "--bs", str(batch)]
    stage += ["--cache", str(Path(onnx).parent / ".kernels"), f"--soc_version={soc}", *more]
    return [*stage, *dynamic, "--om-path", om or f"{onnx}.om"]


def quantize(onnx, images, *more, soc=()):
    stage = [str(ROOT / "ssd_quantize.py"), "--onnx-path", f"{onnx}.onnx", *soc]
    return [*stage, "--calibration", str(images), *more]


def test_without_atc_each_batch_size_is_exported_and_nothing_else(kit):
    pth, trunk = kit.folder / "a b;$x'é.pt", kit.folder / 'trunk "1".pth'
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
    last = f"no toolchain used: ONNX Runtime runs the ONNX files in {kit.out}"
    assert done.stdout.splitlines() == [last, "success"]
    why = f"{DRIVER}: engine onnxruntime: no atc on PATH, so ONNX files only"
    stages = [f"[{i}/3] export, batch {n}" for i, n in enumerate((1, 4, 16), start=1)]
    assert done.stderr.splitlines() == [why, *stages]
    assert list(kit.out.iterdir()) == []


def test_the_defaults_are_those_of_the_usage_text(kit):
    kit.tool("atc")
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
    kit.tool("atc")
    done = kit.run("--batch_sizes=1,16", "--pth_path=p", f"--output={kit.out}")
    assert done.returncode == 0, done.stderr
    calls, stem = kit.calls(), f"{kit.out}/ssd_bs"
    assert calls == [
        export("p", f"{stem}1.onnx", "--bs", "1"),
        convert(f"{stem}1", 1),
        export("p", f"{stem}16.onnx", "--bs", "16"),
        convert(f"{stem}16", 16),
    ]
    assert done.stdout == "success\n"
    assert done.stderr.splitlines() == [
        f"{DRIVER}: engine ascend: atc is {kit.bin}/atc",
        "[1/4] export, batch 1",
        "[2/4] om, batch 1",
        "[3/4] export, batch 16",
        "[4/4] om, batch 16",
    ]


def test_the_kernels_that_atc_compiled_go_when_the_run_ends(kit):
    kit.tool("atc")
    kernels = {"if": ["ssd_onnx2om.py"], "write": {f"{kit.out}/.kernels/te_mul.o": ""}}
    for status in (0, 1):
        done = kit.run(f"--output={kit.out}", rules=[kernels | {"status": status}])
        assert done.returncode == status
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
    kit.tool("atc")
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
        convert(stem, 4, *options, soc="Ascend310"),
    ]


@pytest.mark.parametrize("card", [False, True])
def test_int8_models_are_made_beside_the_others(card, kit):
    images = kit.folder / "ima;'ges"
    images.mkdir()
    if card:
        kit.tool("atc")
    done = kit.run("--batch_sizes=4", "--pth_path=p", f"--output={kit.out}", f"--int8={images}")
    assert done.returncode == 0, done.stderr
    stem, calls = f"{kit.out}/ssd_bs4", kit.calls()
    if not card:
        made = quantize(stem, images, "--output", f"{stem}_int8.onnx")
        assert calls == [export("p", f"{stem}.onnx", "--bs", "4"), made]
        return
    folder = f"{stem}_calibration"
    assert calls == [
        export("p", f"{stem}.onnx", "--bs", "4"),
        convert(stem, 4),
        quantize(stem, images, "--ascend-calibration", folder, soc=["--soc_version=auto"]),
        [*convert(stem, 4, om=f"{stem}_int8.om"), "--int8", f"{folder}/calibration.cfg"],
    ]


def test_a_missing_calibration_folder_is_told_before_any_work(kit):
    done = kit.run("--int8=/none", f"--output={kit.out}")
    message = "/none: no such folder; make it with ssd_preprocess.py"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"{DRIVER}: error: {message}"
    assert kit.calls() == []


def test_a_dynamic_batch_makes_one_model_for_all(kit):
    kit.tool("atc")
    done = kit.run(
        "--dynamic_batch", "--aipp", "--batch_sizes=4,1,16", "--pth_path=p", f"--output={kit.out}"
    )
    assert done.returncode == 0, done.stderr
    stem, calls = f"{kit.out}/ssd_dynamic", kit.calls()
    assert calls == [
        export("p", f"{stem}.onnx", "--dynamic"),
        convert(stem, 4, "--aipp", dynamic=["--dynamic_batch=4,1,16"]),
    ]


def test_a_relative_output_means_the_folder_where_the_user_is(kit):
    driver = os.path.relpath(ROOT / "test" / DRIVER, kit.folder)
    env = os.environ | kit.environment()
    env["PATH"] = f"{FAKE}{os.pathsep}{env['PATH']}"
    command = ["bash", driver, "--engine=onnxruntime", "--batch_sizes=1", "--output=here"]
    subprocess.run(command, cwd=kit.folder, env=env, check=True)
    assert (kit.folder / "here").is_dir()
    assert kit.calls() == [export("./models/iter_183250.pt", "here/ssd_bs1.onnx", "--bs", "1")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch_sizes=0"], "--batch_sizes=0: give sizes such as 1,16"),
        (["--engine=gpu"], "--engine=gpu: give one of auto ascend onnxruntime"),
        (["--dynamic_batch", "--batch_sizes=4"], "--dynamic_batch: give two sizes"),
        (["--input=uint8"], "--input=uint8 is for ONNX Runtime; on the card --aipp does it"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2_before_any_work(kit, options, message):
    kit.tool("atc")
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
        *(
            ([option], f"{option} is for atc, which is not used; source CANN's set_env.sh")
            for option in ("--aipp", "--output_fp16", "--dynamic_batch", "--atc_args=--x=y")
        ),
        (
            ["--engine=onnxruntime", "--precision_mode_v2=fp16"],
            "--precision_mode_v2=fp16 is for atc, which is not used; source CANN's set_env.sh",
        ),
    ]:
        done = kit.run(f"--output={kit.out}", *options)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == f"{DRIVER}: error: {message}"
    assert kit.calls() == [] and not kit.out.exists()


@pytest.mark.parametrize(("status", "seen"), [(1, 1), (3, 3), (-9, 137)])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_failing_stage_stops_the_run_with_its_status(kit, call, status, seen):
    kit.tool("atc")
    rules = [{"call": call, "status": status, "complain": "stage.py: error: it\n"}]
    done = kit.run("--batch_sizes=1,16", f"--output={kit.out}", rules=rules)
    name = ["export, batch 1", "om, batch 1", "export, batch 16", "om, batch 16"][call - 1]
    assert done.returncode == seen
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{DRIVER}: error: stage '{name}' ")
    assert last.endswith("is kept")
    assert len(kit.calls()) == call
    assert "success" not in done.stdout
    assert list(kit.out.iterdir()) == []  # the kernels' folder goes


PLACES = ["Ascend", "Ascend/ascend-toolkit", "Ascend/cann", "Ascend/nnrt", "Ascend/nnae"]
PLACES += ["elsewhere", "elsewhere/latest"]


@pytest.mark.parametrize("place", PLACES)
def test_the_toolkit_is_sourced_where_it_usually_lies(kit, place):
    told = kit.home / place
    told.mkdir(parents=True)
    folder = told.parent if told.name == "latest" else told
    kit.tool("sub")  # something on PATH that is not atc
    (folder / "set_env.sh").write_text(
        f'false\nexport PATH={kit.folder}/tool:$PATH X="$NO_SUCH_VARIABLE"\nfalse\n'
    )
    (kit.folder / "tool").mkdir()
    (kit.bin / "sub").rename(kit.folder / "tool" / "atc")
    if list(Path("/usr/local/Ascend").glob("*/set_env.sh")):
        pytest.skip("this machine has a toolkit, which comes first")
    env = {"ASCEND_TOOLKIT_HOME": ""}
    env |= {"ASCEND_HOME_PATH": str(told)} if "elsewhere" in place else {}
    done = kit.run("--batch_sizes=1", f"--output={kit.out}", **env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:2] == [
        f"{DRIVER}: sourcing {folder}/set_env.sh",
        f"{DRIVER}: engine ascend: atc is {kit.folder}/tool/atc",
    ]


def test_a_sourced_toolkit_is_not_sourced_again(kit):
    (kit.home / "Ascend").mkdir()
    (kit.home / "Ascend" / "set_env.sh").write_text("exit 9\n")
    done = kit.run("--batch_sizes=1", f"--output={kit.out}")
    assert done.returncode == 0, done.stderr
