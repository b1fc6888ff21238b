"""Fixtures of the stages' tests: conversions with the stand-in, and a result folder."""

import json
import shutil
from pathlib import Path

import pytest
from models import FIVE, save_product


@pytest.fixture
def convert(standin, tmp_path, run_stage):
    """Convert `in/m.onnx` to `out/m.om` with options."""
    folder = tmp_path / "in"
    folder.mkdir()
    save_product(folder / "m.onnx")

    def run(*options, **env):
        paths = ["--onnx-path", folder / "m.onnx", "--om-path", tmp_path / "out" / "m.om"]
        return run_stage("ssd_onnx2om.py", *paths, *options, env=env)

    return run


@pytest.fixture
def atc_calls(standin):
    """Return atc's calls so far, without its name."""

    def read():
        lines = standin.read_text().splitlines() if standin.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == "atc"]

    return read


@pytest.fixture
def inputs(tiny_coco, run_stage, tmp_path):
    """The input files of the four annotated images."""
    folder = tmp_path / "in put"
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def infer(run_stage, light_onnx, inputs, tmp_path):
    """Run the light model over them into `bs2`."""

    def run(*more, model=light_onnx, name="bs2", env=None):
        where = ["--output", tmp_path / "out", "--output_dirname", name]
        given = ["--model", model, "--input", inputs, *where, "--batchsize", 2]
        return run_stage("ssd_infer.py", *given, *more, env=env)

    return run


@pytest.fixture
def result(tmp_path):
    """A copy of the result folder of test/data/five: batch 1 scored, batch 4 timed alone."""
    return Path(shutil.copytree(FIVE / "result", tmp_path / "re sult;'é"))
