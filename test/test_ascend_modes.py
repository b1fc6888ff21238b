"""Both drivers, run for real against the stand-in for Ascend's tools, in every mode.

What a mode scores is held against the float32 engine, ONNX Runtime. The quick tests take a model
that only moves numbers about; the slow ones the network, on the sample and on real pictures.

Run: python -m pytest test/test_ascend_modes.py
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
STANDIN = ROOT / "test" / "ascend_standin"
TWO_CARDS = {"STANDIN_CARDS": "310P3:OK,310P3:OK"}
OLD_TOOL = [f"--ais_infer={STANDIN / 'ais_infer.py'}"]
CANN = "7.0.0"  # the version that the stand-in's toolkit folder tells


def run(command, **env):
    """Run something with the stand-in on PATH, as sourcing its set_env.sh would have it."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("STANDIN_")}
    base |= {"PATH": f"{STANDIN}:{os.environ['PATH']}", "PYTHONPATH": str(STANDIN)}
    base |= {"AIS_INFER": ""} | {name: str(value) for name, value in env.items()}
    done = subprocess.run([str(w) for w in command], env=base, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def stage(name, *args, **env):
    return run([sys.executable, ROOT / name, *args], **env)


class Kit:
    """Runs the drivers over one data set; a conversion is made once, when it is first asked for."""

    def __init__(self, folder, data, checkpoint, *, annotation=None):
        self.folder, self.data, self.checkpoint = folder, data, checkpoint
        self.annotation = [f"--annotation={annotation}"] if annotation else []
        run([sys.executable, STANDIN / "standin.py", folder / "tk", CANN])
        self.env = {"ASCEND_TOOLKIT_HOME": folder / "tk" / "latest"}

    def models(self, name, sizes="", options=()):
        """Return the folder of a conversion's models."""
        folder = self.folder / name
        if sizes and not folder.exists():
            made = [f"--pth_path={self.checkpoint}", f"--output={folder}", f"--batch_sizes={sizes}"]
            run(["bash", ROOT / "test" / "ssd_pth2om.sh", *made, *options], **self.env)
        return folder

    def evaluate(self, name, models, sizes, *options, **env):
        """Evaluate; return report.json and the lines on stdout."""
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
    line = f"{facts['engine']}, {facts['soc_version']}, CANN {CANN}, mode {facts['mode']}, "
    assert line + f"device {facts['devices']}, {facts['route']}" in " ".join(lines)
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
MODES = {  # conversion; batch sizes; options of the evaluation; environment; facts of the report
    "plain": ("plain", "1,4,16", [], {}, {}),
    "aipp": ("aipp", "1,4", [], {}, {"mode": "aipp"}),
    "output_fp16": ("fp16", "1,4", [], {}, {"mode": "output_fp16"}),
    "dynamic": ("dynamic", "1,4,16", [], {}, {"mode": "dynamic_batch"}),
    "everything": ("everything", "1,4", ["--in_process"], {}, {"mode": EVERY} | IN_PROCESS),
    "two devices": ("plain", "1,4", ["--device=0,1"], TWO_CARDS, DEVICES),
    "two devices, 2023": (
        *("plain", "16", ["--device=0,1"]),
        *(TWO_CARDS | {"STANDIN_AIS_BENCH": "2023"}, DEVICES),
    ),
    "old tool": ("plain", "1,16", OLD_TOOL, {"PYTHONPATH": ""}, {"engine": "ais_infer.py"}),
    "in process": ("plain", "1,16", ["--in_process"], {}, IN_PROCESS),
    "in process, two devices": (
        *("plain", "4", ["--in_process", "--device=0,1"]),
        *(TWO_CARDS, DEVICES | IN_PROCESS),
    ),
    "tool of 2024": (
        *("everything", "4", []),
        *({"STANDIN_AIS_BENCH": "2024"}, {"mode": EVERY} | IN_PROCESS),
    ),
}
CONVERSIONS = {
    "plain": ("1,4,16", []),
    "aipp": ("1,4", ["--aipp"]),
    "fp16": ("1,4", ["--output_fp16"]),
    "dynamic": ("1,4,16", ["--dynamic_batch"]),
    "everything": ("1,4", EVERYTHING),
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample and its checkpoint, of which the first seven annotated pictures are scored."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("modes")
    stage("ssd_sample.py", "--output", folder)
    data = folder / "coco"
    instances = json.loads((data / "annotations" / "instances_val2017.json").read_text())
    boxed = {one["image_id"] for one in instances["annotations"]}
    kept = [image for image in instances["images"] if image["id"] in boxed][:7]
    ids = {image["id"] for image in kept}
    marks = [one for one in instances["annotations"] if one["image_id"] in ids]
    subset = folder / "seven.json"
    subset.write_text(json.dumps(instances | {"images": kept, "annotations": marks}))
    return Kit(folder, data, folder / "models" / "sample.pt", annotation=subset)


@pytest.fixture(scope="module")
def float32(sample):
    """The mAP of the float32 engine on the sample."""
    models = sample.models("plain", *CONVERSIONS["plain"])
    report, _, _ = sample.evaluate("float32", models, "4", "--engine=onnxruntime")
    return report["rows"][0]["map"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_scores_as_float32_does_and_tells_what_it_was(mode, sample, float32):
    conversion, sizes, options, env, facts = MODES[mode]
    models = sample.models(conversion, *CONVERSIONS[conversion])
    report, lines, out = sample.evaluate(mode, models, sizes, *options, **env)
    assert [row["batch"] for row in report["rows"]] == [int(size) for size in sizes.split(",")]
    for row in report["rows"]:
        assert row["map"] == pytest.approx(float32, abs=2e-3)
    check_report(report, lines, out, sizes.split(","), **facts)


@pytest.mark.slow
def test_real_pictures_score_alike_on_the_card(coco_tiny, tmp_path):
    pytest.importorskip("torch")
    stage("ssd_sample.py", "--output", tmp_path, "--fit-to", coco_tiny)
    kit = Kit(tmp_path, coco_tiny, tmp_path / "models" / "sample.pt")
    plain, every = kit.models("plain", "4"), kit.models("every", "4,16", EVERYTHING)
    float32 = kit.evaluate("float32", plain, "4", "--engine=onnxruntime")[0]["rows"][0]["map"]
    assert float32 >= 0.5
    for models, sizes, options, env in [
        (plain, "4", [], {}),
        (plain, "4", ["--in_process", "--device=0,1"], TWO_CARDS),
        (every, "16", [], {}),
        (every, "16", OLD_TOOL, {"PYTHONPATH": ""}),
    ]:
        report = kit.evaluate(f"{models.name} {options}", models, sizes, *options, **env)[0]
        assert report["rows"][0]["map"] == pytest.approx(float32, abs=2e-3)


@pytest.fixture
def light(light_onnx, tiny_coco, tmp_path):
    """The model that only moves numbers, converted in some ways, for batches of two."""
    kit = Kit(tmp_path, tiny_coco, None)
    for name, options in [
        ("plain", []),
        ("aipp", ["--aipp"]),
        ("every", ["--aipp", "--output_fp16", "--dynamic_batch", "2,3"]),
    ]:
        om = kit.models(name) / f"ssd_{'dynamic' if name == 'every' else 'bs2'}.om"
        paths = ["--onnx-path", light_onnx, "--om-path", om, "--bs", 2]
        stage("ssd_onnx2om.py", *paths, *options, "--soc_version", "Ascend310P3")
    return kit


ROUTES = [
    ([], {}),
    (["--in_process"], {}),
    (["--device=0,1"], TWO_CARDS),
    (["--in_process", "--device=0,1"], TWO_CARDS),
    (OLD_TOOL, {"PYTHONPATH": ""}),
]


@pytest.mark.slow
def test_uint8_inputs_and_float16_outputs_give_the_same_by_every_route(light):
    found = []
    for options, env in ROUTES:
        *_, out = light.evaluate(len(found), light.models("every"), "2", *options, **env)
        assert len(list((out / "ssd_bin_uint8").glob("tensor*.bin"))) == 4
        assert not (out / "ssd_bin").exists()
        found.append((out / "bs2_detections.json").read_bytes())
    assert len(json.loads(found[0])) > 4
    assert found == [found[0]] * len(ROUTES)


def test_uint8_through_aipp_is_the_float_input_to_float16_accuracy(light, tmp_path):
    outputs = {}
    for name, dtype in (("plain", "float32"), ("aipp", "uint8")):
        inputs = ["--bin-output", tmp_path / dtype, "--dtype", dtype]
        stage("ssd_preprocess.py", "--data", light.data, *inputs)
        model = light.models(name) / "ssd_bs2.om"
        where = ["--output", tmp_path, "--output_dirname", f"out {name}"]
        stage("ssd_infer.py", "--model", model, "--input", tmp_path / dtype, *where)
        files = sorted((tmp_path / f"out {name}").glob("*.bin"))
        assert len(files) == 8
        outputs[name] = np.concatenate([np.fromfile(file, np.float32) for file in files])
    # values to 2.64: half a float16 step is 1e-3, and AIPP rounds min, var_reci and the product
    np.testing.assert_allclose(outputs["aipp"], outputs["plain"], atol=5e-3)
    assert (outputs["aipp"] != outputs["plain"]).any()


def test_a_model_whose_note_is_missing_is_not_fed_wrong(light, tmp_path):
    model = light.models("aipp") / "ssd_bs2.om"
    (model.parent / f"{model.name}.json").unlink()
    stage("ssd_preprocess.py", "--data", light.data, "--bin-output", tmp_path / "in")
    with pytest.raises(AssertionError) as caught:
        stage("ssd_infer.py", "--model", model, "--input", tmp_path / "in")
    told = f"ssd_infer.py: error: {model}: takes 270000 bytes a picture, but by its note (no note"
    assert told in str(caught.value)
