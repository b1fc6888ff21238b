"""Both drivers, run for real against the stand-in for Ascend's tools, in every mode.

What a mode finds is held against the float32 engine, ONNX Runtime: in every mode with a detector
of colors, in the main ones with the network on real images.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import stage_process
from models import NO_PLOTS, ROOT, RUNTIME, STANDIN, save_colors, write_color_data

TWO_CARDS = {"STANDIN_CARDS": "310P3:OK,310P3:OK"}
OLD_TOOL = [f"--ais_infer={STANDIN / 'ais_infer.py'}"]
CANN = "7.0.0"  # the version in the stand-in's toolkit folder


def surroundings(env):
    """Return the environment that sourcing the stand-in's set_env.sh would give, with more."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("STANDIN_")}
    base |= {"PATH": f"{STANDIN}:{os.environ['PATH']}", "PYTHONPATH": str(STANDIN)}
    base |= {"STANDIN_PYTHON": sys.executable}
    return base | {"AIS_INFER": ""} | {name: str(value) for name, value in env.items()}


def run(command, **env):
    words = [str(word) for word in command]
    done = subprocess.run(words, env=surroundings(env), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def stage(name, *args, **env):
    done = stage_process.run(str(ROOT / name), [str(arg) for arg in args], surroundings(env))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


class Machine:
    """Runs the drivers over one data set, with the stand-in and a toolkit's folder."""

    def __init__(self, folder, data, annotation=None):
        self.folder, self.data = folder, data
        self.annotation = [f"--annotation={annotation}"] if annotation else []
        if not (folder / "tk").exists():
            run([sys.executable, STANDIN / "standin.py", folder / "tk", CANN])
        self.env = {"ASCEND_TOOLKIT_HOME": folder / "tk" / "latest"}

    def export(self, name, checkpoint, sizes, options=()):
        """Make the models of a checkpoint; return their folder."""
        made = [f"--pth_path={checkpoint}", f"--output={self.folder / name}"]
        driver = ROOT / "test" / "ssd_pth2om.sh"
        run(["bash", driver, *made, f"--batch_sizes={sizes}", *options], **self.env)
        return self.folder / name

    def convert(self, name, onnx, sizes, options=()):
        """Convert an ONNX file, unless that was done; return the folder of the models."""
        if (self.folder / name).exists():
            return self.folder / name
        dynamic = "--dynamic_batch" in options
        for size in [sizes] if dynamic else sizes.split(","):
            om = self.folder / name / ("ssd_dynamic.om" if dynamic else f"ssd_bs{size}.om")
            paths = ["--onnx-path", onnx, "--om-path", om, "--soc_version", "Ascend310P3"]
            words = [f"{word}={size}" if word == "--dynamic_batch" else word for word in options]
            words += [] if dynamic else ["--bs", size]
            stage("ssd_onnx2om.py", *paths, *words, **self.env)
        return self.folder / name

    def evaluate(self, name, models, sizes, *options, page=False, **env):
        """Evaluate; return report.json, the lines on stdout and the folder of the results."""
        paths = [env.get("PYTHONPATH", STANDIN), *([] if page else [NO_PLOTS])]
        env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        name = re.sub("[^a-z0-9]+", "_", str(name))  # the tool of 2024 takes few letters
        out = self.folder / f"result_{name}"
        given = [f"--data_path={self.data}", f"--models={models}", f"--output={out}", *options]
        given += [f"--batch_sizes={sizes}", "--loop=1", "--threshold=0.5", *self.annotation]
        driver = ROOT / "test" / "ssd_eval_acc_perf.sh"
        done = run(["bash", driver, *given], **self.env | env)
        return json.loads((out / "report.json").read_text()), done.stdout.splitlines(), out


def check_report(report, lines, out, sizes, **facts):
    """Hold the report, on screen and as files, against what ran."""
    facts = {"engine": "ais_bench 0.0.2", "soc_version": "Ascend310P3", "cann": CANN} | facts
    facts = {"mode": "plain", "devices": "0", "route": "files"} | facts
    assert {key: report["facts"].get(key) for key in facts} == facts
    for key, value in facts.items():
        assert f"- {key}: {value}" in (out / "report.md").read_text().splitlines()
    line = f"{facts['soc_version']}, CANN {CANN}, mode {facts['mode']}, device {facts['devices']}, "
    assert line + facts["route"] in " ".join(lines)
    assert f" {facts['engine']}, " in " ".join(lines)
    assert lines[-1] == "success"
    name = "ssd_dynamic.om" if "dynamic" in facts["mode"] else "ssd_bs{}.om"
    rows = [row.split() for row in lines if re.match(r"ssd_\w+\.om ", row)]
    assert [row[:2] for row in rows] == [[name.format(n), str(n)] for n in sizes]
    for row in report["rows"]:
        assert row["fps"] > 0 and row["end_to_end"] > 0
        assert {"mean", "p50", "p99"} <= row["latency_ms"].keys()
        share = -(-row["images"] // 2)  # --divide_input deals out files, so each part may be padded
        parts = [share, row["images"] - share] if facts["devices"] != "0" else [row["images"]]
        parts = [row["images"]] if facts["route"] == "in process" else parts
        assert row["padded"] == sum(-part % row["batch"] for part in parts)


EVERYTHING = ["--aipp", "--output_fp16", "--dynamic_batch"]
EVERY = "aipp output_fp16 dynamic_batch"
IN_PROCESS = {"route": "in process"}
DEVICES = {"devices": "0,1"}
CONVERSIONS = {
    "plain": ("1,4,16", []),
    "aipp": ("1,4", ["--aipp"]),
    "fp16": ("1,4", ["--output_fp16"]),
    "dynamic": ("1,4,16", ["--dynamic_batch"]),
    "everything": ("1,4", EVERYTHING),
}
MODES = {  # conversion; batch sizes; options of the evaluation; environment; facts of the report
    "plain": ("plain", "1,4,16", [], {}, {}),
    "aipp": ("aipp", "1,4", [], {}, {"mode": "aipp"}),
    "output_fp16": ("fp16", "1,4", [], {}, {"mode": "output_fp16"}),
    "dynamic": ("dynamic", "1,4,16", [], {}, {"mode": "dynamic_batch"}),
    "everything": ("everything", "1,4", ["--in_process"], {}, {"mode": EVERY} | IN_PROCESS),
    "two devices": ("plain", "1,4", ["--device=0,1"], TWO_CARDS, DEVICES),
    "two devices, 2023": (
        *("plain", "16", ["--device=0,1"]),
        *(TWO_CARDS | {"STANDIN_EDITION": "2023-06"}, DEVICES),
    ),
    "old tool": ("plain", "1,16", OLD_TOOL, {"PYTHONPATH": RUNTIME}, {"engine": "ais_infer.py"}),
    "in process": ("plain", "1,16", ["--in_process"], {}, IN_PROCESS),
    "in process, two devices": (
        *("plain", "4", ["--in_process", "--device=0,1"]),
        *(TWO_CARDS, DEVICES | IN_PROCESS),
    ),
    "tool of 2025": ("everything", "4", [], {"STANDIN_EDITION": "2025-12"}, {"mode": EVERY}),
}
NETWORK_MODES = {name: MODES[name] for name in ("plain", "everything")}
NETWORK_MODES["everything, old tool"] = (
    *("everything", "4", OLD_TOOL, {"PYTHONPATH": RUNTIME}),
    {"mode": EVERY, "engine": "ais_infer.py"},
)


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """Nine images, the detector of colors, and what it finds in them in float32."""
    folder = tmp_path_factory.mktemp("colors")
    data = write_color_data(folder / "coco", count=3)
    (folder / "onnx").mkdir()
    onnx = save_colors(folder / "onnx" / "ssd_dynamic.onnx", batch="N")
    machine = Machine(folder, data)
    *_, out = machine.evaluate("float32", onnx.parent, "4", "--engine=onnxruntime")
    return machine, onnx, json.loads((out / "bs4_detections.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_finds_what_float32_does_and_reports_what_it_was(mode, colors):
    machine, onnx, float32 = colors
    conversion, sizes, options, env, facts = MODES[mode]
    models = machine.convert(conversion, onnx, *CONVERSIONS[conversion])
    report, lines, out = machine.evaluate(mode, models, sizes, *options, **env)
    assert [(row["batch"], row["map"]) for row in report["rows"]] == [
        (int(size), 1) for size in sizes.split(",")
    ]
    for size in sizes.split(","):
        found = json.loads((out / f"bs{size}_detections.json").read_text())
        for mine, other in zip(found, float32, strict=True):
            assert mine == other | {
                "score": pytest.approx(other["score"], abs=2e-3),
                "bbox": pytest.approx(other["bbox"], abs=0.05),
            }
    check_report(report, lines, out, sizes.split(","), **facts)


@pytest.fixture(scope="session")
def network(real, make_once):
    """The network's models, which were fitted to real images, and its float32 mAP on them."""

    def make(folder):
        machine = Machine(folder, real.data)
        (folder / "plain").mkdir()
        shutil.copy(real.onnx, folder / "plain")  # the driver keeps it
        machine.export("plain", real.checkpoint, "4")
        machine.export("everything", real.checkpoint, "2,4", EVERYTHING)
        machine.evaluate("float32", folder / "plain", "4", "--engine=onnxruntime")

    folder = make_once("network", make)
    report = json.loads((folder / "result_float32" / "report.json").read_text())
    return Machine(folder, real.data), report["rows"][0]["map"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", NETWORK_MODES)
def test_the_network_scores_on_the_card_as_in_float32(mode, network):
    machine, float32 = network
    assert float32 >= 0.5
    conversion, _, options, env, facts = NETWORK_MODES[mode]
    models = machine.folder / conversion
    report, lines, out = machine.evaluate(mode, models, "4", *options, **env)
    assert report["rows"][0]["map"] == pytest.approx(float32, abs=2e-3)
    check_report(report, lines, out, "4", **facts)


@pytest.mark.slow
def test_the_sample_is_found_on_the_card(sample, tmp_path):
    machine = Machine(tmp_path, sample)
    models = machine.convert("models", sample / "models" / "ssd_bs1.onnx", "1")
    report, _, out = machine.evaluate("sample", models, "1", "--limit=7", page=True)
    assert report["rows"][0]["map"] > 0.99
    assert "Ascend310P3" in (out / "report.html").read_text()


@pytest.fixture(scope="session")
def light_models(light_onnx, make_once):
    """The model that only moves numbers, converted in some ways, for batches of two."""

    def make(folder):
        machine = Machine(folder, None)
        machine.convert("plain", light_onnx, "2")
        machine.convert("aipp", light_onnx, "2", ["--aipp"])
        machine.convert("every", light_onnx, "2,3", EVERYTHING)

    return make_once("light_models", make)


@pytest.fixture
def light(light_models, tiny_coco, tmp_path):
    """Those models in a folder of the test's, beside its data."""
    shutil.copytree(light_models, tmp_path, dirs_exist_ok=True)
    return Machine(tmp_path, tiny_coco)


ROUTES = [
    ([], {}),
    (["--in_process"], {}),
    (["--device=0,1"], TWO_CARDS),
    (["--in_process", "--device=0,1"], TWO_CARDS),
    (OLD_TOOL, {"PYTHONPATH": RUNTIME}),
]


@pytest.mark.slow
def test_uint8_inputs_and_float16_outputs_give_the_same_by_every_route(light):
    found = []
    for options, env in ROUTES:
        *_, out = light.evaluate(len(found), light.folder / "every", "2", *options, **env)
        inputs = list((out / "ssd_bin").glob("tensor*.bin"))
        files = 0 if "--in_process" in options else 4  # in process takes the images themselves
        assert [path.stat().st_size for path in inputs] == [270_000] * files
        found.append((out / "bs2_detections.json").read_bytes())
    assert len(json.loads(found[0])) > 4
    assert found == [found[0]] * len(ROUTES)


def test_uint8_through_aipp_is_the_float_input_to_float16_accuracy(light, tmp_path):
    outputs = {}
    for name, dtype in (("plain", "float32"), ("aipp", "uint8")):
        inputs = ["--bin-output", tmp_path / dtype, "--dtype", dtype]
        stage("ssd_preprocess.py", "--data", light.data, *inputs)
        model = light.folder / name / "ssd_bs2.om"
        where = ["--output", tmp_path, "--output_dirname", f"out {name}"]
        stage("ssd_infer.py", "--model", model, "--input", tmp_path / dtype, *where)
        files = sorted((tmp_path / f"out {name}").glob("*.bin"))
        assert len(files) == 8
        outputs[name] = np.concatenate([np.fromfile(file, np.float32) for file in files])
    # values to 2.64: half a float16 step is 1e-3, and AIPP rounds min, var_reci and the product
    np.testing.assert_allclose(outputs["aipp"], outputs["plain"], atol=5e-3)
    assert (outputs["aipp"] != outputs["plain"]).any()


def test_a_model_whose_note_is_missing_is_not_fed_wrong(light, tmp_path):
    model = light.folder / "aipp" / "ssd_bs2.om"
    (model.parent / f"{model.name}.json").unlink()
    stage("ssd_preprocess.py", "--data", light.data, "--bin-output", tmp_path / "in")
    infer = ["ssd_infer.py", "--model", model, "--input", tmp_path / "in", "--output", tmp_path]
    with pytest.raises(AssertionError, match="an input is not of the size that the model takes"):
        stage(*infer)
    with pytest.raises(AssertionError, match="takes 270000 bytes an .* but by its note .no note"):
        stage(*infer, "--in_process", "--data", light.data)
