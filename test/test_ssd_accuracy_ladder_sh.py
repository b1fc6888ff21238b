"""Tests of the driver ssd_accuracy_ladder.sh, with a fake python3 that logs how it is called, and
with the real one on models that take seconds.

Run: python -m pytest test/test_ssd_accuracy_ladder_sh.py
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "test" / "fake_python"
DRIVER = "ssd_accuracy_ladder.sh"
ODD = "wei rd;'\"$HOME é"  # a folder name that wants quoting
MODELS = {
    "float32": "ssd_bs1.onnx",
    "uint8": "ssd_bs1_uint8.onnx",
    "int8": "ssd_bs1_int8.onnx",
    "om": "ssd_bs1.om",
}
UINT8 = {"if": ["ssd_bs1_uint8.onnx", "--print_dtype"], "print": "uint8\n"}
FLOAT = {"if": ["--print_dtype"], "print": "float32\n"}
DTYPES = [UINT8, FLOAT]
NEW_TOOL = {"if": ["tool"], "print": "ais_bench\n"}


class Kit:
    """Runs the driver over a data folder and models, empty files that nobody reads."""

    def __init__(self, run_driver, tmp_path):
        self.run_driver, self.tmp = run_driver, tmp_path
        self.log = tmp_path / "calls.json"
        self.data = tmp_path / ODD / "coco"
        self.models = tmp_path / ODD / "models"
        self.out = tmp_path / ODD / "ladder"
        self.pth = tmp_path / ODD / "a.pt"
        for folder in (self.data, self.models):
            folder.mkdir(parents=True)
        self.annotation = self.out / "bbox_only_instances_val2017.json"

    def there(self, *rungs):
        for rung in rungs:
            self.path(rung).write_text("")

    def path(self, rung):
        return self.pth if rung == "pytorch" else self.models / MODELS[rung]

    def run(self, *args, rules=DTYPES, **env):
        env = {
            "FAKE_LOG": str(self.log),
            "FAKE_REAL": sys.executable,
            "FAKE_RULES": json.dumps(list(rules)),
            "HOME": str(self.tmp),
            "ASCEND_TOOLKIT_HOME": "/none",  # as if sourced, so that no real one is
            "AIS_INFER": "",
            "PATH": "/usr/bin:/bin",
        } | env
        paths = [f"--data_path={self.data}", f"--models={self.models}", f"--output={self.out}"]
        paths += [f"--pth_path={self.pth}"] if self.pth.exists() else []
        return self.run_driver(DRIVER, *paths, *args, env=env, first=FAKE)

    def calls(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    # What the driver should call, call by call.

    def shared(self, *more):
        return ["--data", str(self.data), "--annotation", str(self.annotation), *more]

    def inputs(self, dtype="float32", images=""):
        suffix = {"float32": "", "uint8": "_uint8"}[dtype]
        return str(self.out / f"ssd_bin{images and '_'}{images}{suffix}")

    def start(self, rungs, dtypes=("float32",), first=(), more=(), images="", source=None):
        source = source or self.data / "annotations" / "instances_val2017.json"
        asked = [[stage("ssd_infer.py"), "--model", str(self.path(r))] for r in rungs]
        made = [
            [stage("ssd_preprocess.py"), *self.shared(*more), "--bin-output"]
            + [self.inputs(dtype, images), "--dtype", dtype, "--reserve-outputs", "2"]
            for dtype in dtypes
        ]
        prepare = [stage("prepare-json.py"), "--keep-keys", *first]
        return [
            *([*call, "--print_dtype"] for call in asked),
            [*prepare, str(source), str(self.annotation)],
            *made,
        ]

    def rung(self, name, above=None, dtype="float32", more=(), images="", device=()):
        infer = [stage("ssd_infer.py"), "--model", str(self.path(name)), "--input"]
        infer += [self.inputs(dtype, images), "--output", str(self.out)]
        infer += ["--output_dirname", name, *device]
        return [infer, *self.scored(name, above, more)]

    def scored(self, name, above, more=()):
        score = [stage("ssd_postprocess.py"), *self.shared(*more)]
        score += ["--bin-input", str(self.out / name)]
        score += ["--output", str(self.out / f"{name}_result.json")]
        score += ["--detections", str(self.out / f"{name}_detections.json")]
        compare = [stage("ssd_ladder.py"), "compare", str(self.out), above, name]
        return [score, [*compare, *self.shared(*more)]] if above else [score]

    def table(self, rungs, *more, tolerance="0.5"):
        command = [stage("ssd_ladder.py"), "table", str(self.out), "--rungs", rungs]
        return [*command, "--tolerance", tolerance, *more]

    def layers(self, *more):
        return [stage("ssd_ladder.py"), "layers", str(self.out), *self.shared(*more)]


def stage(name):
    return str(ROOT / name)


@pytest.fixture
def kit(run_driver, tmp_path):
    return Kit(run_driver, tmp_path)


def check(kit, done, calls, status=0):
    assert done.returncode == status, done.stderr
    assert kit.calls() == calls


def test_each_rung_is_run_scored_and_compared_with_the_one_above(kit):
    rungs = ["pytorch", "float32", "uint8", "int8"]
    kit.there(*rungs)
    check(
        kit,
        kit.run(),
        [
            *kit.start(rungs, ("float32", "uint8")),
            *kit.rung("pytorch"),
            *kit.rung("float32", "pytorch"),
            *kit.rung("uint8", "float32", "uint8"),
            *kit.rung("int8", "uint8"),
            kit.table("pytorch,float32,uint8,int8"),
        ],
    )


def test_each_option_reaches_its_stages(kit):
    kit.there("uint8", "int8")
    other, pictures = kit.tmp / "in st.json", kit.tmp / "pic tures"
    args = [f"--annotation={other}", f"--pictures={pictures}", "--images=12", "--all_images"]
    args += ["--tolerance=2", "--goal=0.23"]
    more = ["--images", str(pictures), "--all-images"]
    first = ["--images", "12", "--all-images"]
    kinds = ("float32", "uint8")
    check(
        kit,
        kit.run(*args),
        [
            *kit.start(["uint8", "int8"], kinds, first, more, images="12", source=other),
            *kit.rung("uint8", dtype="uint8", more=more, images="12"),
            *kit.rung("int8", "uint8", more=more, images="12"),
            kit.table("uint8,int8", "--goal", "0.23", tolerance="2"),
        ],
    )


def test_without_a_number_of_images_all_images_is_not_for_the_annotations(kit):
    kit.there("float32")
    more = ["--all-images"]
    check(
        kit,
        kit.run("--all_images"),
        [
            *kit.start(["float32"], more=more),
            *kit.rung("float32", more=more),
            kit.table("float32"),
        ],
    )


@pytest.mark.parametrize("layers", [True, False])
def test_a_rung_that_loses_is_status_3_and_its_layers_are_compared_if_asked_for(kit, layers):
    kit.there("float32", "int8")
    lost = {"if": ["table"], "status": 3, "print": "int8 loses\n"}
    done = kit.run(*["--layers"] * layers, rules=[*DTYPES, lost])
    calls = [
        *kit.start(["float32", "int8"]),
        *kit.rung("float32"),
        *kit.rung("int8", "float32"),
        kit.table("float32,int8"),
    ]
    check(kit, done, calls + [kit.layers()] * layers, status=3)
    assert done.stdout == "int8 loses\n" and "failed" not in done.stderr


def test_where_no_rung_loses_no_layers_are_compared(kit):
    kit.there("float32", "int8")
    assert kit.run("--layers").returncode == 0
    assert not any("layers" in call for call in kit.calls())


def test_the_om_runs_on_a_card_with_ais_bench(kit):
    kit.there("float32", "om")
    aipp = {"if": ["ssd_bs1.om", "--print_dtype"], "print": "uint8\n"}
    check(
        kit,
        kit.run("--device=2", rules=[NEW_TOOL, aipp, *DTYPES]),
        [
            [stage("ssd_ascend.py"), "tool"],
            *kit.start(["float32", "om"], ("float32", "uint8")),
            *kit.rung("float32"),
            *kit.rung("om", "float32", "uint8", device=["--device", "2"]),
            kit.table("float32,om"),
        ],
    )


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_om_runs_with_the_tool_of_2022(kit, by):
    kit.there("float32", "om")
    script = kit.tmp / ODD / "ais_infer.py"
    args = [f"--ais_infer={script}"] if by == "option" else []
    env = {"AIS_INFER": str(script)} if by == "environment" else {}
    done = kit.run(*args, rules=[{"if": ["tool"], "print": f"{script}\n"}, *DTYPES], **env)
    run = [str(script), "--output", str(kit.out / "om"), "--outfmt", "BIN"]
    run += ["--model", str(kit.path("om")), "--batchsize", "1", "--device", "0"]
    check(
        kit,
        done,
        [
            [stage("ssd_ascend.py"), "tool", "--ais_infer", str(script)],
            *kit.start(["float32", "om"]),
            *kit.rung("float32"),
            [*run, "--input", kit.inputs()],
            *kit.scored("om", "float32"),
            kit.table("float32,om"),
        ],
    )
    told = json.loads((kit.out / "om_summary.json").read_text())
    model = str(kit.path("om"))
    assert told == {"engine": "ais_infer.py", "provider": "card 0", "model": model}


def test_an_om_without_a_card_is_passed_over_with_the_reason(kit):
    kit.there("float32", "om")
    reason = "npu-smi: not on PATH, so no card"
    rule = {"if": ["tool"], "status": 1, "complain": f"ssd_ascend.py: error: {reason}\n"}
    check(
        kit,
        kit.run(rules=[rule, *DTYPES]),
        [
            [stage("ssd_ascend.py"), "tool"],
            *kit.start(["float32"]),
            *kit.rung("float32"),
            kit.table("float32", "--missing", f"om={reason}"),
        ],
    )


def test_what_a_former_run_left_goes_first(kit):
    kit.there("float32")
    (kit.out / "int8").mkdir(parents=True)
    (kit.out / "int8" / "tensor([1])_0.bin").write_text("")
    names = ["int8_result.json", "float32_against.json", "om_summary.json", "ladder.json"]
    for name in [*names, "layers.json", "mine.txt"]:
        (kit.out / name).write_text("")
    assert kit.run().returncode == 0
    assert [path.name for path in kit.out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nosuch"], "unknown option --nosuch; see --help"),
        (["--images=0"], "--images=0: give a number of images"),
        (["--images=pictures"], "--images=pictures: give a number of images"),
        (["--tolerance=-1"], "--tolerance=-1: give points"),
        (["--tolerance="], "--tolerance=: give points"),
        (["--goal=23"], "--goal=23: give 0 to 1"),
        (["--device=0,1"], "--device=0,1: give a number such as 0"),
        (["--data_path="], "--data_path=DIR is missing; see --help"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2_before_any_work(kit, options, message):
    kit.there("float32")
    done = kit.run(*options)
    assert (done.returncode, done.stderr) == (2, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == [] and not kit.out.exists()


def test_what_is_not_there_is_told_before_any_work(kit):
    nothing = "none of ssd_bs1.onnx, ..., ssd_bs1.om can be run, and no checkpoint; see --help"
    for options, message in [
        ([], f"{kit.models}: {nothing}"),
        (["--pth_path=no.pt"], "no.pt: no such checkpoint; correct --pth_path, or leave it empty"),
        (["--pth_path="], f"{kit.models}: {nothing}"),
        (["--data_path=/no"], "/no: no such folder; give the one that holds val2017/"),
    ]:
        done = kit.run(*options)
        assert (done.returncode, done.stderr) == (1, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == [] and not kit.out.exists()


@pytest.mark.parametrize(("status", "seen"), [(1, 1), (3, 3), (-9, 137)])
@pytest.mark.parametrize("call", range(3, 11))
def test_a_failing_stage_stops_the_run_with_its_status(kit, call, status, seen):
    kit.there("float32", "int8")
    rules = [{"call": call, "status": status, "complain": "stage.py: error: it\n"}, *DTYPES]
    done = kit.run(rules=rules)
    names = ["annotations", "preprocess, float32", "float32", "float32, scoring", "int8"]
    names += ["int8, scoring", "int8 against float32", "table"]
    assert done.returncode == seen
    assert len(kit.calls()) == call
    if names[call - 3] == "table":
        assert ("stage 'table' failed" in done.stderr) == (status != 3)
    else:
        assert done.stderr.splitlines()[-1] == (
            f"{DRIVER}: error: stage '{names[call - 3]}' failed (see above); "
            "what was done before it is kept"
        )


def test_a_model_that_cannot_be_read_stops_the_run_at_once(kit):
    kit.there("float32", "int8")
    broken = {"if": ["ssd_bs1_int8.onnx"], "status": 1, "complain": "ssd_infer.py: error: it\n"}
    done = kit.run(rules=[broken, *DTYPES])
    assert (done.returncode, done.stderr) == (1, "ssd_infer.py: error: it\n")
    assert len(kit.calls()) == 2


def test_relative_paths_mean_the_folder_where_the_user_is(kit):
    kit.there("float32")
    env = os.environ | {"FAKE_LOG": str(kit.log), "FAKE_REAL": sys.executable}
    env |= {"FAKE_RULES": json.dumps(DTYPES), "PATH": f"{FAKE}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", os.path.relpath(ROOT / "test" / DRIVER, kit.models), "--data_path=../coco"]
    subprocess.run(command, cwd=kit.models, env=env, check=True)
    assert kit.calls()[0] == [stage("ssd_infer.py"), "--model", "./ssd_bs1.onnx", "--print_dtype"]
    assert kit.calls()[-1][2] == "./ladder" and (kit.models / "ladder").is_dir()


def test_help_tells_every_option_that_the_driver_takes(kit):
    done = kit.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    code = (ROOT / "test" / DRIVER).read_text()
    taken = set(re.findall(r"^ {12}(--\w+)(?:=\*)?\)", code, re.M))
    assert taken == set(re.findall(r"^ {2}(--\w+)", done.stdout, re.M))
    assert kit.calls() == []


def load_detector():
    pytest.importorskip("onnx")
    path = ROOT / "test" / "colour_detector.py"
    spec = importlib.util.spec_from_file_location("colour_detector", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_real_ladder_names_the_rung_and_the_layer_and_leaves_no_outputs(run_driver, tmp_path):
    detector = load_detector()
    data = detector.write_data(tmp_path / ODD / "coco")
    models = tmp_path / ODD
    detector.save(models / MODELS["float32"])
    detector.save(models / MODELS["uint8"], "uint8")
    detector.save(models / MODELS["int8"], tint=np.diag([1, 0.1, 1]))  # green is hardly seen
    out = tmp_path / ODD / "out"
    args = [f"--data_path={data}", f"--models={models}", f"--output={out}", "--images=5"]
    done = run_driver(DRIVER, *args, "--pth_path=", "--layers")
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    assert "Scored: all 5 images" in lines
    assert "int8 loses 33.333 points of mAP to uint8, more than 0.5" in lines
    assert lines[-1] == "The cosine first falls at /tint/Conv (Conv)"
    heading = next(i for i, line in enumerate(lines) if line.startswith("rung "))
    assert [line.split()[0] for line in lines[heading + 1 : heading + 4]] == list(MODELS)[:3]
    assert max(map(len, lines[heading : heading + 7])) <= 80
    assert not list(out.glob("*/tensor*_0.bin"))
    assert sum(1 for _ in (out / "ssd_bin_5").glob("tensor*")) == 5
    found = json.loads((out / "ladder.json").read_text())
    assert [row["map"] for row in found["rungs"]] == [1, 1, pytest.approx(2 / 3)]


@pytest.mark.parametrize("tool", ["ais_bench", "ais_infer.py"])
def test_a_real_om_rung_runs_with_either_tool(tool, run_driver, run_stage, tmp_path, standin):
    detector = load_detector()
    data = detector.write_data(tmp_path / ODD, count=1)
    onnx = detector.save(tmp_path / ODD / MODELS["float32"])
    om = ["--onnx-path", onnx, "--om-path", tmp_path / ODD / MODELS["om"], "--bs", "1", "--aipp"]
    made = run_stage("ssd_onnx2om.py", *om, "--soc_version", "Ascend310P3")
    assert made.returncode == 0, made.stderr
    args = [f"--data_path={data}", f"--models={tmp_path / ODD}", f"--output={tmp_path / 'out'}"]
    env = {"ASCEND_TOOLKIT_HOME": "/none"}
    if tool != "ais_bench":
        args.append(f"--ais_infer={ROOT / 'test' / 'ascend_standin' / tool}")
        env["PYTHONPATH"] = ""
    done = run_driver(DRIVER, *args, "--pth_path=", env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "ladder.json").read_text())
    row = found["rungs"][-1]
    assert (row["rung"], row["map"], row["matched"]) == ("om", 1, 1)
    assert row["engine"].split()[0] == tool and row["precision"] == "atc: aipp"
    assert 0 < row["max_abs"] < 0.1 and 0.999 < row["cosine"] < 1  # half precision
    assert not list((tmp_path / "out").glob("om/**/tensor*"))


@pytest.mark.slow
def test_from_a_checkpoint_down_a_disturbed_layer_is_found(run_driver, run_stage, tmp_path):
    pytest.importorskip("torch")
    onnx = pytest.importorskip("onnx")
    sample = tmp_path / "sample"
    made = run_stage("ssd_sample.py", "--output", sample)
    assert made.returncode == 0, made.stderr
    for name, dtype in ((MODELS["float32"], "float32"), (MODELS["uint8"], "uint8")):
        export = ["--pth-path", sample / "models" / "sample.pt", "--onnx-path", tmp_path / name]
        made = run_stage("ssd_pth2onnx.py", *export, "--input", dtype)
        assert made.returncode == 0, made.stderr
    model = onnx.load(tmp_path / MODELS["uint8"])
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    tensor = weights["network.model.5.2.conv1.weight"]
    values = -onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / MODELS["uint8"])
    args = [f"--data_path={sample}", f"--models={tmp_path}", f"--output={tmp_path / 'out'}"]
    done = run_driver(
        DRIVER, *args, f"--pth_path={sample / 'models' / 'sample.pt'}", "--images=8", "--layers"
    )
    assert done.returncode == 3, done.stderr
    found = json.loads((tmp_path / "out" / "ladder.json").read_text())
    first, second, third = found["rungs"]
    assert first["map"] > 0.9 and abs(second["change"]) < 0.01 and second["matched"] == 1
    assert found["lost"] == third["rung"] == "uint8"
    told = "The cosine first falls at /model/model.5/model.5.2/conv1/Conv (Conv)"
    assert done.stdout.splitlines()[-1] == told
