"""Fixtures only: running ssd_detect.py on a light model, over a folder of images."""

import json

import ssd_detect

import pytest
from detecting import NAMES


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "na mes.txt"
    path.write_text("\n".join(NAMES) + "\n", "utf-8")
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "im ages"
    folder.mkdir()
    return folder


@pytest.fixture
def detect(light_onnx, labels, tmp_path, capsys):
    """Run the stage on the light model; return its status, its streams and its JSON."""

    def run(source, *args, model=light_onnx):
        options = ["--model", model, "--source", source, "--output", tmp_path / "out", "--json"]
        options += [] if "--labels" in args else ["--labels", labels]
        status = ssd_detect.main([*map(str, options), *map(str, args)])
        printed = capsys.readouterr()
        found = json.loads((tmp_path / "out" / ssd_detect.JSON_NAME).read_text())
        return status, printed.out.splitlines(), printed.err.splitlines(), found

    return run


@pytest.fixture
def detect_stage(run_stage, light_onnx, labels, tmp_path):
    """Run the stage as a user does."""

    def run(source, *args, **how):
        options = ["--model", light_onnx, "--source", source, "--labels", labels]
        output = [] if "--output" in args else ["--output", tmp_path / "out"]
        return run_stage("ssd_detect.py", *options, *output, *args, **how)

    return run
