"""Fixtures only: jobs of a light model over five images."""

from ssd import coco
from ssd.cli import KitError
from ssd.engines import job as jobs
from ssd.engines import open_engine
from ssd.engines.choice import Choice
from ssd.engines.job import Job

import numpy as np
import pytest
from models import ROOT

ONNX = Choice("onnxruntime", "cpu", None, False)


class Counter:
    """Opens engines that count their runs; the run of number `fails_at` fails."""

    def __init__(self):
        self.calls, self.fails_at = 0, None

    def open(self, *args):
        engine = open_engine(*args)
        run, self.calls = engine.run, 0

        def counted(images):
            self.calls += 1
            if self.calls == self.fails_at:
                raise KitError("the card was lost")
            return run(images)

        engine.run = counted
        return engine


@pytest.fixture
def engine(monkeypatch):
    """What counts the runs of the last job's engine."""
    counter = Counter()
    monkeypatch.setattr(jobs, "open_engine", counter.open)
    return counter


@pytest.fixture
def data(five_coco):
    return coco.read_data(five_coco)


@pytest.fixture
def inputs(data, tmp_path):
    """An input file of each of the data set's five images."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / "in" / f"tensor([{image['id']}]).bin" for image in data.selected]
    paths[0].parent.mkdir()
    for path in paths:
        rng.normal(size=(3, 300, 300)).astype(np.float32).tofile(path)
    return paths


@pytest.fixture
def job(light_onnx, data, inputs, tmp_path):
    """Return a function that makes a job like the light model's on these inputs."""

    def make(**changes):
        wanted = {
            "model": light_onnx,
            "choice": ONNX,
            "precision": "f32",
            "batch": 2,
            "inputs": inputs,
            "from_images": False,
            "data": data,
            "target": tmp_path / "out" / "bs2",
            "loop": 1,
            "warmup": 0,
            "outfmt": "BIN",
            "workers": 1,
            "shard": (0, 1),
            "script": ROOT / "ssd_infer.py",
            "argv": [],
        }
        return Job(**wanted | changes)

    return make
