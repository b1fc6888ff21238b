"""Tests of the driver ssd_eval_acc_perf.sh with a fake python3 that logs how it is called.

Run: python -m pytest test/test_ssd_eval_acc_perf_sh.py
"""

import json
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "test" / "fake_python"
DRIVER = "ssd_eval_acc_perf.sh"
ODD = "wei rd;'\"$HOME é"  # a folder name that wants quoting
NO_CARD = "ssd_ascend.py: error: npu-smi: not on PATH, so no card\n"
FLOAT = {"if": ["--print_dtype"], "print": "float32\n"}
UINT8 = {"if": ["--print_dtype"], "print": "uint8\n"}
NEW_TOOL = {"if": ["tool"], "print": "ais_bench\n"}
HELP = {"if": ["ais_bench", "--help"], "print": "usage: ais_bench [--divide_input 0/1]\n" * 3000}
ONNX = ("--engine=onnxruntime",)


class Kit:
    """Runs the driver over a data folder and models, empty files that nobody reads."""

    def __init__(self, run_driver, tmp_path):
        self.run_driver, self.tmp = run_driver, tmp_path
        self.log = tmp_path / "calls.json"
        self.data = tmp_path / ODD / "coco"
        self.models = tmp_path / ODD / "models"
        self.out = tmp_path / ODD / "result"
        for folder in (self.data, self.models):
            folder.mkdir(parents=True)
        self.annotation = self.out / "bbox_only_instances_val2017.json"
        self.made = {"if": ["prepare-json.py"], "write": {str(self.annotation): "{}"}}

    def model(self, *names):
        for name in names:
            (self.models / name).write_text(name)

    def run(self, *args, rules=(FLOAT,), **env):
        rules = [*rules, self.made]
        env = {
            "FAKE_LOG": str(self.log),
            "FAKE_REAL": sys.executable,
            "FAKE_RULES": json.dumps(rules),
            "HOME": str(self.tmp),
            "ASCEND_TOOLKIT_HOME": "/none",  # as if sourced, so that no real one is
            "AIS_INFER": "",
            "PATH": "/usr/bin:/bin",
        } | env
        self.log.unlink(missing_ok=True)
        paths = [f"--data_path={self.data}", f"--models={self.models}", f"--output={self.out}"]
        return self.run_driver(DRIVER, *paths, *args, env=env, first=FAKE)

    def calls(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    # What the driver should call, call by call.

    def shared(self, images=(), annotation=None):
        annotated = ["--data", str(self.data), "--annotation", str(annotation or self.annotation)]
        return [*annotated, *images]

    def start(self, models, dtype="float32", more=(), reserve=("--reserve-outputs", "1"), **shared):
        source = shared.pop("source", self.data / "annotations" / "instances_val2017.json")
        inputs = str(self.inputs(dtype))
        return [
            *([stage("ssd_infer.py"), "--model", self.path(m), "--print_dtype"] for m in models),
            [stage("prepare-json.py"), "--keep-keys", str(source), str(self.annotation)],
            [stage("ssd_preprocess.py"), *self.shared(more), "--bin-output", inputs]
            + ["--dtype", dtype, *reserve],
        ]

    def inputs(self, dtype="float32"):
        return self.out / ("ssd_bin" if dtype == "float32" else f"ssd_bin_{dtype}")

    def path(self, model):
        return str(self.models / model)

    def embedded(self, name, model, batch, *more, engine=()):
        command = [stage("ssd_infer.py"), "--model", self.path(model), "--batchsize", str(batch)]
        return [*command, "--output", str(self.out), "--output_dirname", name, *engine, *more]

    def tool(self, name, model, batch, *more, device="0"):
        command = ["-m", "ais_bench", "--output", str(self.out), "--output_dirname", name]
        return [*command, "--outfmt", "BIN", *self.tool_options(model, batch, device, *more)]

    def old_tool(self, script, name, model, batch, *more):
        command = [str(script), "--output", str(self.out / name), "--outfmt", "BIN"]
        return [*command, *self.tool_options(model, batch, "0", *more)]

    def tool_options(self, model, batch, device, *more):
        options = ["--model", self.path(model), "--batchsize", str(batch), "--device", device]
        return [*options, *map(str, more)]

    def score(self, batch, more=(), threshold="0.23", in_process=False):
        detections = str(self.out / f"bs{batch}_detections.json")
        result = str(self.out / f"bs{batch}_result.json")
        command = [stage("ssd_postprocess.py"), *self.shared(more), "--threshold", threshold]
        command += ["--output", result]
        if in_process:
            return [*command, "--score-only", detections]
        return [*command, "--bin-input", str(self.out / f"bs{batch}"), "--detections", detections]

    def report(self, args, batches, *facts, more=()):
        paths = [f"--data_path={self.data}", f"--models={self.models}", f"--output={self.out}"]
        told = " ".join([DRIVER, *paths, *args])
        facts = [f"command={told}", f"data={self.data}", *facts]
        pairs = [word for fact in facts for word in ("--fact", fact)]
        command = [stage("ssd_report.py"), str(self.out), *self.shared(more), *pairs]
        return [*command, "--batch_sizes", batches]


def stage(name):
    return str(ROOT / name)


def ask(*more, device="0"):
    return [stage("ssd_ascend.py"), "tool", "--device", device, *more]


def loops(count):
    return ["--loop", str(count)]


@pytest.fixture
def kit(run_driver, tmp_path):
    return Kit(run_driver, tmp_path)


def check(kit, done, calls):
    assert done.returncode == 0, done.stderr
    assert kit.calls() == calls
    assert done.stdout.splitlines()[-1] == "success"
    assert not list(kit.out.glob(".*.done"))  # nothing of the run is left over


def test_the_embedded_engine_scores_and_times_each_batch_size(kit):
    kit.model("ssd_bs1.onnx", "ssd_bs16.onnx")
    bin_input = ["--input", str(kit.inputs())]
    check(
        kit,
        kit.run(*ONNX),
        [
            *kit.start(["ssd_bs1.onnx", "ssd_bs16.onnx"]),
            kit.embedded("bs1", "ssd_bs1.onnx", 1, *bin_input),
            kit.score(1),
            kit.embedded("bs1_perf", "ssd_bs1.onnx", 1, *loops(24)),
            kit.embedded("bs16", "ssd_bs16.onnx", 16, *bin_input),
            kit.score(16),
            kit.embedded("bs16_perf", "ssd_bs16.onnx", 16, *loops(3)),
            kit.report(ONNX, "1,16"),
        ],
    )


def test_each_option_reaches_its_stages(kit):
    kit.model("ssd_bs4_uint8.onnx")
    other, pictures = kit.tmp / "in st.json", kit.tmp / "pic tures"
    args = [*ONNX, "--batch_sizes=4", "--variant=uint8", f"--annotation={other}", "--loop=7"]
    args += [f"--images={pictures}", "--all_images", "--threshold=0.5", "--keep_outputs"]
    more = ["--images", str(pictures), "--all-images"]
    check(
        kit,
        kit.run(*args, rules=[UINT8]),
        [
            *kit.start(["ssd_bs4_uint8.onnx"], "uint8", more, source=other),
            kit.embedded("bs4", "ssd_bs4_uint8.onnx", 4, "--input", str(kit.inputs("uint8"))),
            kit.score(4, more, "0.5"),
            kit.embedded("bs4_perf", "ssd_bs4_uint8.onnx", 4, *loops(7)),
            kit.report(args, "4", more=more),
        ],
    )


def test_in_process_no_outputs_are_reserved_and_detections_are_scored(kit):
    kit.model("ssd_bs1.onnx")
    args = [*ONNX, "--batch_sizes=1", "--in_process", "--all_images"]
    more = ["--all-images"]
    detections = ["--detections", str(kit.out / "bs1_detections.json"), *kit.shared(more)]
    check(
        kit,
        kit.run(*args),
        [
            *kit.start(["ssd_bs1.onnx"], more=more, reserve=()),
            kit.embedded("bs1", "ssd_bs1.onnx", 1, "--input", str(kit.inputs()), *detections),
            kit.score(1, more, in_process=True),
            kit.embedded("bs1_perf", "ssd_bs1.onnx", 1, *loops(24)),
            kit.report(args, "1", more=more),
        ],
    )


def test_fast_times_all_and_scores_batch_1_and_the_fastest(kit):
    kit.model("ssd_bs1.onnx", "ssd_bs4.onnx", "ssd_bs8.onnx")
    args = [*ONNX, "--batch_sizes=1,4,8", "--fast", "--loop=2"]
    best = {"if": ["--print-best"], "print": "8\n"}
    kit.out.mkdir()
    (kit.out / "bs4_result.json").write_text("a former run's")
    done = kit.run(*args, rules=[FLOAT, best])
    names = {n: f"ssd_bs{n}.onnx" for n in (1, 4, 8)}
    bin_input = ["--input", str(kit.inputs())]
    print_best = [stage("ssd_report.py"), str(kit.out), "--batch_sizes", "1,4,8", "--print-best"]
    check(
        kit,
        done,
        [
            *kit.start(names.values()),
            *(kit.embedded(f"bs{n}_perf", names[n], n, *loops(2)) for n in (1, 4, 8)),
            print_best,
            kit.embedded("bs1", names[1], 1, *bin_input),
            kit.score(1),
            kit.embedded("bs8", names[8], 8, *bin_input),
            kit.score(8),
            kit.report(args, "1,4,8"),
        ],
    )
    assert f"{DRIVER}: fastest: batch 8; scoring it and batch 1" in done.stderr.splitlines()
    assert not (kit.out / "bs4_result.json").exists()


def test_a_model_of_any_batch_size_serves_all(kit):
    kit.model("ssd_dynamic.onnx", "ssd_bs4.onnx")
    done = kit.run(*ONNX, "--batch_sizes=1,4", "--loop=2")
    assert done.returncode == 0, done.stderr
    ran = [call[2] for call in kit.calls() if "--batchsize" in call]
    assert ran == [kit.path("ssd_dynamic.onnx")] * 2 + [kit.path("ssd_bs4.onnx")] * 2


@pytest.mark.parametrize(
    ("options", "model", "engine"),
    [
        (["--engine=openvino"], "ssd_bs4.onnx", ["--device", "0", "--engine", "openvino"]),
        (
            ["--engine=openvino", "--precision=bf16", "--device=cpu"],
            "ssd_bs4.onnx",
            ["--device", "cpu", "--engine", "openvino", "--precision", "bf16"],
        ),
        (
            ["--engine=openvino", "--precision=int8"],
            "ssd_bs4_int8.onnx",
            ["--device", "0", "--engine", "openvino", "--precision", "int8"],
        ),
        (
            ["--engine=openvino", "--precision=int8", "--variant=mine"],
            "ssd_bs4_mine.onnx",
            ["--device", "0", "--engine", "openvino", "--precision", "int8"],
        ),
        (["--engine=onnxruntime", "--device=cuda:1"], "ssd_bs4.onnx", ["--device", "cuda:1"]),
    ],
)
def test_engine_device_and_precision_reach_the_inference(kit, options, model, engine):
    kit.model(model)
    args = [*options, "--batch_sizes=4"]
    bin_input = ["--input", str(kit.inputs())]
    runs = 100 if "cuda" in options[-1] else 6
    check(
        kit,
        kit.run(*args),
        [
            *kit.start([model]),
            kit.embedded("bs4", model, 4, *bin_input, engine=engine),
            kit.score(4),
            kit.embedded("bs4_perf", model, 4, *loops(runs), engine=engine),
            kit.report(args, "4"),
        ],
    )


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        ("a.onnx", []),
        ("a.pt", ["--device", "0", "--engine", "torch"]),
        ("a.pth", ["--device", "0", "--engine", "torch"]),
    ],
)
def test_one_model_file_serves_all_batch_sizes_in_its_own_engine(kit, model, engine):
    kit.model(model)
    args = [f"--models={kit.path(model)}", "--batch_sizes=1,2"]
    done = kit.run(*args)
    assert done.returncode == 0, done.stderr
    bin_input = ["--input", str(kit.inputs())]
    ran = [call for call in kit.calls() if "--batchsize" in call]
    assert ran == [
        kit.embedded("bs1", model, 1, *bin_input, engine=engine),
        kit.embedded("bs1_perf", model, 1, *loops(24), engine=engine),
        kit.embedded("bs2", model, 2, *bin_input, engine=engine),
        kit.embedded("bs2_perf", model, 2, *loops(12), engine=engine),
    ]


@pytest.mark.parametrize(
    ("engine", "model"),
    [("onnxruntime", "a.pt"), ("torch", "a.onnx"), ("openvino", "a.om"), ("ascend", "a.onnx")],
)
def test_an_engine_that_does_not_run_the_model_file_is_refused(kit, engine, model):
    kit.model(model)
    done = kit.run(f"--engine={engine}", f"--models={kit.path(model)}")
    message = f"--engine={engine} does not run {kit.path(model)}; leave --engine out"
    assert (done.returncode, done.stderr) == (2, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == []


def test_an_interrupted_stage_says_how_to_go_on(kit):
    kit.model("ssd_bs1.onnx")
    stop = {"if": ["ssd_preprocess.py"], "status": 130}
    done = kit.run(*ONNX, "--batch_sizes=1", rules=[FLOAT, stop])
    assert done.returncode == 130
    last = done.stderr.splitlines()[-1]
    assert (
        last == f"{DRIVER}: error: interrupted in 'preprocess'; the same command goes on from there"
    )


def test_an_output_that_is_a_file_is_told(kit):
    kit.model("ssd_bs1.onnx")
    kit.out.write_text("")
    done = kit.run(*ONNX, "--batch_sizes=1")
    message = f"{kit.out}: cannot be made or is no folder; give another --output"
    assert (done.returncode, done.stderr) == (1, f"{DRIVER}: error: {message}\n")


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        (["--engine=onnxruntime", "--device=0,1"], []),
        (["--engine=ascend", "--device=cuda:0"], [NEW_TOOL]),
        (["--engine=ascend", "--device=cpu"], [NEW_TOOL]),
    ],
)
def test_a_device_of_another_engine_is_refused_before_any_work(kit, options, rules):
    kit.model("ssd_bs1.onnx", "ssd_bs1.om")
    done = kit.run(*options, "--batch_sizes=1", rules=rules)
    engine = options[0].partition("=")[2]
    message = f"{options[1]} is not for the engine {engine}; give another"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"{DRIVER}: error: {message}"
    assert not kit.out.exists()


ASCEND_FACTS = ["engine=ais_bench", "devices=0", "route=files", "mode=plain", "cards=0: 310P3 OK"]
FACTS = {"if": ["ssd_ascend.py", "facts"], "print": "mode=plain\ncards=0: 310P3 OK\n"}


def test_a_card_is_taken_where_it_is_and_runs_ais_bench(kit):
    kit.model("ssd_bs1.om", "ssd_bs16.om")
    done = kit.run(rules=[FLOAT, NEW_TOOL, FACTS])
    bin_input = ["--input", str(kit.inputs())]
    check(
        kit,
        done,
        [
            ask(),
            *kit.start(["ssd_bs1.om", "ssd_bs16.om"]),
            kit.tool("bs1", "ssd_bs1.om", 1, *bin_input),
            kit.score(1),
            kit.tool("bs1_perf", "ssd_bs1.om", 1, *loops(100)),
            kit.tool("bs16", "ssd_bs16.om", 16, *bin_input),
            kit.score(16),
            kit.tool("bs16_perf", "ssd_bs16.om", 16, *loops(100)),
            [stage("ssd_ascend.py"), "facts", kit.path("ssd_bs1.om")],
            kit.report([], "1,16", *ASCEND_FACTS),
        ],
    )
    told = f"{DRIVER}: engine ascend: ais_bench and a card are there"
    assert done.stderr.splitlines()[0] == told
    wall = json.loads((kit.out / "bs16_wall.json").read_text())
    assert wall["model"] == "ssd_bs16.om"
    assert 0 <= wall["end"] - wall["start"] < 600
    assert (kit.out / "bs1.log").exists()


def test_a_dynamic_om_is_told_the_batch_size(kit):
    kit.model("ssd_dynamic.om")
    done = kit.run("--batch_sizes=1,4", "--loop=9", rules=[UINT8, NEW_TOOL, FACTS])
    name = "ssd_dynamic.om"
    bin_input = ["--input", str(kit.inputs("uint8"))]
    check(
        kit,
        done,
        [
            ask(),
            *kit.start([name, name], "uint8"),
            kit.tool("bs1", name, 1, *bin_input, "--dymBatch", 1),
            kit.score(1),
            kit.tool("bs1_perf", name, 1, *loops(9), "--dymBatch", 1),
            kit.tool("bs4", name, 4, *bin_input, "--dymBatch", 4),
            kit.score(4),
            kit.tool("bs4_perf", name, 4, *loops(9), "--dymBatch", 4),
            [stage("ssd_ascend.py"), "facts", kit.path(name)],
            kit.report(["--batch_sizes=1,4", "--loop=9"], "1,4", *ASCEND_FACTS),
        ],
    )


@pytest.mark.parametrize(("rule", "divide"), [(HELP, ["--divide_input", "1"]), ({}, [])])
def test_several_cards_share_the_inputs_where_the_tool_can(kit, rule, divide):
    kit.model("ssd_bs4.om")
    args = ["--batch_sizes=4", "--device=0,2", "--engine=ascend"]
    done = kit.run(*args, rules=[FLOAT, NEW_TOOL, rule or FACTS, FACTS])
    check(
        kit,
        done,
        [
            ask(device="0,2"),
            ["-m", "ais_bench", "--help"],
            *kit.start(["ssd_bs4.om"]),
            kit.tool("bs4", "ssd_bs4.om", 4, "--input", kit.inputs(), *divide, device="0,2"),
            kit.score(4),
            kit.tool("bs4_perf", "ssd_bs4.om", 4, *loops(100), device="0,2"),
            [stage("ssd_ascend.py"), "facts", kit.path("ssd_bs4.om")],
            kit.report(args, "4", ASCEND_FACTS[0], "devices=0,2", *ASCEND_FACTS[2:]),
        ],
    )


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_tool_of_2022_gets_a_folder_that_exists(kit, by):
    kit.model("ssd_bs1.om")
    script = kit.tmp / ODD / "ais_infer.py"
    args = ["--batch_sizes=1", "--loop=3"]
    env = {"AIS_INFER": str(script)} if by == "environment" else {}
    args += [f"--ais_infer={script}"] if by == "option" else []
    kit.out.mkdir()
    stale = kit.out / "bs1" / "2022_08_04-16_00_52" / "sumary.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("a former run's")
    old = {"if": ["tool"], "print": f"{script}\n"}
    done = kit.run(*args, rules=[FLOAT, old, FACTS], **env)
    check(
        kit,
        done,
        [
            ask("--ais_infer", str(script)),
            *kit.start(["ssd_bs1.om"]),
            kit.old_tool(script, "bs1", "ssd_bs1.om", 1, "--input", kit.inputs()),
            kit.score(1),
            kit.old_tool(script, "bs1_perf", "ssd_bs1.om", 1, *loops(3)),
            [stage("ssd_ascend.py"), "facts", kit.path("ssd_bs1.om")],
            kit.report(args, "1", "engine=ais_infer.py", *ASCEND_FACTS[1:]),
        ],
    )
    assert (kit.out / "bs1").is_dir()
    assert not stale.exists()


def test_in_process_on_cards_only_the_timing_uses_the_tool(kit):
    kit.model("ssd_bs1.om")
    args = ["--batch_sizes=1", "--in_process", "--device=0,1"]
    done = kit.run(*args, rules=[UINT8, NEW_TOOL, HELP, FACTS])
    detections = ["--detections", str(kit.out / "bs1_detections.json"), *kit.shared()]
    bin_input = ["--input", str(kit.inputs("uint8"))]
    devices = ["--device", "0,1"]
    check(
        kit,
        done,
        [
            ask(device="0,1"),
            ["-m", "ais_bench", "--help"],
            *kit.start(["ssd_bs1.om"], "uint8", reserve=()),
            kit.embedded("bs1", "ssd_bs1.om", 1, *bin_input, *detections, engine=devices),
            kit.score(1, in_process=True),
            kit.tool("bs1_perf", "ssd_bs1.om", 1, *loops(100), device="0,1"),
            [stage("ssd_ascend.py"), "facts", kit.path("ssd_bs1.om")],
            kit.report(
                args, "1", ASCEND_FACTS[0], "devices=0,1", "route=in process", *ASCEND_FACTS[3:]
            ),
        ],
    )


def test_an_ais_bench_that_refuses_our_names_is_taken_in_process(kit):
    kit.model("ssd_bs1.om")
    newer = {"if": ["tool"], "print": "ais_bench in process\n"}
    done = kit.run("--batch_sizes=1", rules=[FLOAT, newer, FACTS])
    detections = ["--detections", str(kit.out / "bs1_detections.json"), *kit.shared()]
    bin_input = ["--input", str(kit.inputs())]
    check(
        kit,
        done,
        [
            ask(),
            *kit.start(["ssd_bs1.om"], reserve=()),
            kit.embedded("bs1", "ssd_bs1.om", 1, *bin_input, *detections, engine=["--device", "0"]),
            kit.score(1, in_process=True),
            kit.tool("bs1_perf", "ssd_bs1.om", 1, *loops(100)),
            [stage("ssd_ascend.py"), "facts", kit.path("ssd_bs1.om")],
            kit.report(
                ["--batch_sizes=1"], "1", *ASCEND_FACTS[:2], "route=in process", *ASCEND_FACTS[3:]
            ),
        ],
    )
    assert done.stderr.splitlines()[:2] == [
        f"{DRIVER}: this ais_bench refuses file names such as tensor([139]).bin: "
        "--in_process is taken",
        f"{DRIVER}: engine ascend: ais_bench and a card are there",
    ]
    assert kit.out.stat().st_mode & 0o777 == 0o750  # it refuses a folder that others may read


def test_what_speaks_against_cards_is_told_and_the_run_goes_on(kit):
    kit.model("ssd_bs1.om")
    busy = {"if": ["tool"], "print": "card 0: busy\ncard 1: unhealthy\nais_bench\n"}
    done = kit.run("--batch_sizes=1", "--device=0,1", rules=[FLOAT, busy, FACTS])
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:3] == [
        "card 0: busy",
        "card 1: unhealthy",
        f"{DRIVER}: engine ascend: ais_bench and a card are there",
    ]
    assert kit.calls()[0] == ask(device="0,1")


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_only_cards_are_looked_up_among_cards(kit, device):
    none = {"if": ["tool"], "status": 1, "complain": NO_CARD}
    kit.run(f"--device={device}", rules=[none])
    assert kit.calls()[0] == [stage("ssd_ascend.py"), "tool"]


def test_auto_takes_the_embedded_engine_and_says_why(kit):
    kit.model("ssd_bs1.onnx")
    none = {"if": ["tool"], "status": 1, "complain": NO_CARD}
    done = kit.run("--batch_sizes=1", rules=[FLOAT, none])
    assert done.returncode == 0, done.stderr
    reason = "npu-smi: not on PATH, so no card"
    assert done.stderr.splitlines()[0] == f"{DRIVER}: engine onnxruntime: {reason}"


def test_an_asked_for_card_that_is_missing_is_an_error(kit):
    none = {"if": ["tool"], "status": 1, "complain": NO_CARD}
    done = kit.run("--engine=ascend", rules=[none])
    reason = "npu-smi: not on PATH, so no card"
    assert (done.returncode, done.stderr) == (1, f"{DRIVER}: error: --engine=ascend: {reason}\n")
    assert len(kit.calls()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nosuch=1"], "unknown option --nosuch=1; see --help"),
        (["--fast=1"], "unknown option --fast=1; see --help"),
        (["--data_path="], "--data_path=DIR is missing; see --help"),
        (["--batch_sizes=1,x"], "--batch_sizes=1,x: give sizes such as 1,16"),
        (["--batch_sizes=01"], "--batch_sizes=01: give sizes such as 1,16"),
        (["--engine=npu"], "--engine=npu: give one of auto ascend onnxruntime openvino torch"),
        (["--precision=fp8"], "--precision=fp8: give one of f32 bf16 int8"),
        (["--precision=bf16"], "--precision=bf16 is for --engine=openvino"),
        (["--engine=torch"], "--engine=torch: give the checkpoint, --models=FILE"),
        (["--device=cuda:"], "--device=cuda:: give cards such as 0,1, or cpu or cuda:0"),
        (["--loop=0"], "--loop=0: give a number of runs"),
        (["--loop=ten"], "--loop=ten: give a number of runs"),
        (["--device=0,"], "--device=0,: give cards such as 0,1, or cpu or cuda:0"),
        (["--device=npu"], "--device=npu: give cards such as 0,1, or cpu or cuda:0"),
        (["--threshold=23%"], "--threshold=23%: give 0 to 1"),
        (["--threshold="], "--threshold=: give 0 to 1"),
        (["--threshold=23"], "--threshold=23: give 0 to 1"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2_before_any_work(kit, options, message):
    done = kit.run(*options)
    assert (done.returncode, done.stderr) == (2, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == []
    assert not kit.out.exists()


@pytest.mark.parametrize("threshold", ["0", "1", "1.0", "0.23", ".5", "0.0"])
def test_thresholds_from_0_to_1_are_taken(kit, threshold):
    kit.model("ssd_bs1.onnx")
    done = kit.run(*ONNX, "--batch_sizes=1", f"--threshold={threshold}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--in_process"], "--in_process needs ais_bench, not ais_infer.py"),
        (["--device=0,1"], "--device=0,1: ais_infer.py takes one card; give one"),
    ],
)
def test_what_the_tool_of_2022_cannot_do_is_refused_before_any_work(kit, options, message):
    kit.model("ssd_bs1.om")
    old = {"if": ["tool"], "print": "/opt/ais_infer.py\n"}
    done = kit.run(*options, "--ais_infer=/opt/ais_infer.py", rules=[FLOAT, old])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"{DRIVER}: error: {message}"
    assert len(kit.calls()) == 1
    assert not kit.out.exists()


def test_missing_data_and_models_are_one_clear_line(kit):
    done = kit.run(*ONNX, f"--data_path={kit.tmp}/none")
    message = f"{kit.tmp}/none: no such folder; give the one that holds val2017/"
    assert (done.returncode, done.stderr) == (1, f"{DRIVER}: error: {message}\n")
    kit.model("ssd_bs1.onnx")
    done = kit.run(*ONNX)
    missing = f"{kit.models}/ssd_bs16.onnx: no such model; make it with test/ssd_pth2om.sh"
    assert (done.returncode, done.stderr) == (1, f"{DRIVER}: error: {missing}\n")
    assert [call[-1] for call in kit.calls()] == ["--print_dtype"]


def test_a_folder_that_holds_coco_is_taken_too(kit):
    kit.model("ssd_bs1.onnx")
    done = kit.run(*ONNX, "--batch_sizes=1", f"--data_path={kit.data.parent}")
    assert done.returncode == 0, done.stderr
    assert kit.calls()[2][1:3] == ["--data", str(kit.data)]


def test_models_of_unlike_inputs_are_refused(kit):
    kit.model("ssd_bs1.om", "ssd_bs4.om")
    mixed = [{"if": ["ssd_bs1.om", "--print_dtype"], "print": "uint8\n"}, FLOAT, NEW_TOOL]
    done = kit.run("--batch_sizes=1,4", rules=mixed)
    message = f"{kit.path('ssd_bs4.om')} takes float32, the models before it uint8"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"{DRIVER}: error: {message}; convert them alike"
    assert not any("prepare-json.py" in call[0] for call in kit.calls())


def test_a_model_that_cannot_be_read_stops_the_run_with_its_status(kit):
    kit.model("ssd_bs1.onnx")
    bad = {"if": ["--print_dtype"], "status": 5, "complain": "ssd_infer.py: error: bad\n"}
    done = kit.run(*ONNX, "--batch_sizes=1", rules=[bad])
    assert (done.returncode, done.stderr) == (5, "ssd_infer.py: error: bad\n")


@pytest.mark.parametrize(("status", "seen"), [(1, 1), (3, 3), (-9, 137)])
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["prepare-json.py"], "annotations"),
        (["ssd_preprocess.py"], "preprocess"),
        (["ssd_infer.py", "bs1"], "bs1"),
        (["ssd_postprocess.py"], "scoring, batch 1"),
        (["ssd_infer.py", "bs1_perf"], "bs1_perf"),
        (["ssd_report.py"], "report"),
    ],
)
def test_a_failing_stage_stops_the_run_with_its_status(kit, words, name, status, seen):
    kit.model("ssd_bs1.onnx")
    done = kit.run(*ONNX, "--batch_sizes=1", rules=[FLOAT, {"if": words, "status": status}])
    assert done.returncode == seen
    assert done.stderr.splitlines()[-1] == (
        f"{DRIVER}: error: stage '{name}' failed (see above); what was done before it is kept"
    )
    last = kit.calls()[-1]
    assert all(any(word.endswith(end) for word in last) for end in words)
    assert "success" not in done.stdout


def test_a_failing_print_best_stops_the_run(kit):
    kit.model("ssd_bs1.onnx")
    fail = {"if": ["--print-best"], "status": 4}
    done = kit.run(*ONNX, "--batch_sizes=1", "--fast", rules=[FLOAT, fail])
    assert done.returncode == 4
    assert "--print-best" in kit.calls()[-1]


@pytest.mark.parametrize(
    ("status", "seen", "how"), [(1, 1, "failed"), (-9, 137, "was killed by signal 9")]
)
def test_a_failing_tool_is_explained_and_stops_the_run(kit, status, seen, how):
    kit.model("ssd_bs1.om")
    text = "".join(f"line {n}\n" for n in range(9))
    rules = [
        {"if": ["ais_bench", "bs1"], "status": status, "print": text},
        {"if": ["explain"], "print": "507033: the card\n"},
    ]
    done = kit.run("--batch_sizes=1", rules=[FLOAT, NEW_TOOL, *rules])
    assert done.returncode == seen
    lines = [line for line in done.stderr.splitlines() if "Killed" not in line]
    log = kit.out / "bs1.log"
    assert lines[-7:-1] == [*(f"line {n}" for n in range(4, 9)), "507033: the card"]
    assert lines[-1] == (
        f"{DRIVER}: error: inference tool {how} (log {log}); what was done before it is kept"
    )
    assert log.read_text() == text
    assert kit.calls()[-1] == [stage("ssd_ascend.py"), "explain", str(log)]


def test_an_interrupted_run_goes_on_where_it_stopped(kit):
    kit.model("ssd_bs1.onnx", "ssd_bs16.onnx")
    killed = {"if": ["ssd_infer.py", "bs16"], "status": -9}
    done = kit.run(*ONNX, rules=[FLOAT, killed])
    assert done.returncode == 137
    assert sorted(p.name for p in kit.out.glob(".*")) == [".scoring1.done", ".timing1.done"]
    done = kit.run(*ONNX)
    assert done.returncode == 0, done.stderr
    kept = [line for line in done.stderr.splitlines() if "kept" in line]
    assert kept == [
        f"{DRIVER}: scoring, batch 1: kept from the interrupted run",
        f"{DRIVER}: timing, batch 1: kept from the interrupted run",
    ]
    ran = [call[7] for call in kit.calls() if "--output_dirname" in call]
    assert ran == ["--output_dirname"] * 2
    assert ["bs16" in " ".join(call) for call in kit.calls() if "--batchsize" in call] == [True] * 2
    done = kit.run(*ONNX)  # a run that ended is no interrupted one
    assert "kept" not in done.stderr


@pytest.mark.parametrize(
    "change", ["model", "annotation", "loop", "all_images", "threshold", "in_process", "keep"]
)
def test_what_was_made_otherwise_is_made_again(kit, change):
    kit.model("ssd_bs1.onnx")
    stop = {"if": ["ssd_report.py"], "status": 1}
    assert kit.run(*ONNX, "--batch_sizes=1", rules=[FLOAT, stop]).returncode == 1
    more = {
        "loop": ["--loop=3"],
        "all_images": ["--all_images"],
        "threshold": ["--threshold=0.4"],
        "in_process": ["--in_process"],
        "keep": ["--keep_outputs"],
    }.get(change, [])
    rules = [FLOAT]
    if change == "model":
        (kit.models / "ssd_bs1.onnx").write_text("another")
    if change == "annotation":
        rules.append({"if": ["prepare-json.py"], "write": {str(kit.annotation): "{} "}})
    done = kit.run(*ONNX, "--batch_sizes=1", *more, rules=rules)
    assert done.returncode == 0, done.stderr
    assert "kept" not in done.stderr
    assert any("ssd_postprocess.py" in call[0] for call in kit.calls())


@pytest.mark.parametrize("keep", [False, True])
def test_outputs_go_once_scored_unless_kept(kit, keep):
    kit.model("ssd_bs1.onnx")
    outputs = [kit.out / "bs1" / n for n in ("tensor([1])_0.bin", "device0_0/tensor([2])_0.bin")]
    summary = kit.out / "bs1" / "device0_0_summary.json"
    written = {str(path): "" for path in [*outputs, summary]}
    infer = {"if": ["ssd_infer.py", "bs1"], "write": written}
    options = ["--keep_outputs"] if keep else []
    done = kit.run(*ONNX, "--batch_sizes=1", *options, rules=[FLOAT, infer])
    assert done.returncode == 0, done.stderr
    assert [path.exists() for path in outputs] == [keep, keep]
    assert summary.exists()


def test_what_a_former_run_left_is_not_taken_for_this_ones(kit):
    kit.model("ssd_bs1.om")
    stale = [
        kit.out / name
        for name in (
            "bs1_summary.json",
            "bs1_perf_summary.json",
            "bs1_perf/device3_3_summary.json",
            "bs1/device3_3/tensor([7])_0.bin",
            "report.json",
        )
    ]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    written = {str(kit.out / "bs1_perf" / "out_0.bin"): ""}
    pure = {"if": ["ais_bench", "bs1_perf"], "write": written}
    done = kit.run("--batch_sizes=1", rules=[FLOAT, NEW_TOOL, FACTS, pure])
    assert done.returncode == 0, done.stderr
    assert [path for path in stale if path.exists()] == []
    assert not (kit.out / "bs1_perf" / "out_0.bin").exists()  # nobody scores what blanks give


def test_the_reserve_is_for_all_batch_sizes_if_outputs_are_kept(kit):
    kit.model("ssd_bs1.onnx", "ssd_bs4.onnx")
    kit.run(*ONNX, "--batch_sizes=1,4", "--keep_outputs")
    call = next(call for call in kit.calls() if "ssd_preprocess.py" in call[0])
    assert call[-2:] == ["--reserve-outputs", "2"]


def test_help_tells_every_option_that_the_driver_takes(kit):
    done = kit.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    code = (ROOT / "test" / DRIVER).read_text()
    taken = set(re.findall(r"^ {12}(--\w+)=?\*?\)", code, re.M))
    assert taken == set(re.findall(r"^ {2}(--\w+)", done.stdout, re.M))
    assert kit.calls() == []


def test_paths_with_pattern_letters_mean_themselves(kit):
    kit.out = kit.tmp / "r[es]*ult?"
    kit.annotation = kit.out / kit.annotation.name
    kit.made["write"] = {str(kit.annotation): "{}"}
    kit.model("ssd_bs1.om")
    written = {str(kit.out / "bs1_perf" / "out_0.bin"): ""}
    pure = {"if": ["ais_bench", "bs1_perf"], "write": written}
    done = kit.run("--batch_sizes=1", rules=[FLOAT, NEW_TOOL, FACTS, pure])
    assert done.returncode == 0, done.stderr
    assert not (kit.out / "bs1_perf" / "out_0.bin").exists()
    assert os.listdir(kit.out / "bs1_perf") == []
