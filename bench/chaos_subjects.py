"""The stages and drivers that bench/chaos.py kills, and what each must have made in the end."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ssd.files import sha256

import numpy as np
from models import STANDIN, save_colors, write_color_data
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
COUNT = 8  # images of each of the three colors
SIDE = 1500  # pixels of an image, so that reading it takes a moment
LOOP = "10"  # runs of each batch, so that the inference takes a moment
CHECKPOINT = """import sys, torch; from ssd.network import SSDR34; torch.manual_seed(0)
torch.save({"model": SSDR34(labels=4).state_dict()}, sys.argv[1])"""


@dataclass
class Subject:
    """What is killed. command: its argv for an output folder. product: what must be the same.

    given: a folder of what lies in the output folder before. children: whether it has any to kill.
    """

    name: str
    command: Callable[[Path], list[str]]
    product: Callable[[Path], Any]
    given: Callable[[], Path] | None = None
    children: bool = True
    reference: tuple[Any, float] | None = None

    def expected(self, scratch: Path) -> tuple[Any, float]:
        """Return what `product` returns of a run that nobody killed, and the seconds it took."""
        if self.reference is None:
            out = scratch / "expected"
            self.prepare(out)
            command, start = self.command(out), time.perf_counter()  # what it reads is made now
            subprocess.run(command, check=True, capture_output=True)
            self.reference = self.product(out), time.perf_counter() - start
            shutil.rmtree(out)
        return self.reference

    def prepare(self, out: Path) -> None:
        """Make the output folder as it is before the first try."""
        if self.given:
            shutil.copytree(self.given(), out)
        else:
            out.mkdir()

    def done(self, out: Path) -> dict[str, Any]:
        """Return what is done so far: times of input files, and images whose outputs are whole."""
        inputs = {path: path.stat().st_mtime_ns for path in out.glob("ssd_bin*/tensor*.bin")}
        images = {}
        for folder in (path.parent for path in out.glob("*/made_from.json")):
            notes = 0
            for part in folder.glob("part-*.npz"):
                with np.load(part) as arrays:
                    notes += len(arrays["images"])
            finished = folder.with_name(f"{folder.name}_summary.json").exists()
            outputs = len(list(folder.glob("tensor*_1.bin")))
            images[folder.name] = None if finished else outputs + notes
        return {"inputs": inputs, "images": images}

    def done_again(self, out: Path, before: dict[str, Any]) -> int:
        """Return how many images that were done `before` were done again."""
        again = sum(path.stat().st_mtime_ns != time for path, time in before["inputs"].items())
        for name, count in before["images"].items():
            path = out / f"{name}_summary.json"
            if count and path.exists():
                again += max(json.loads(path.read_text())["images"] + count - 3 * COUNT, 0)
        return again


def digest(*patterns: str) -> Callable[[Path], str]:
    """Return a function that gives one digest of the files in a folder that fit the patterns."""

    def find(out: Path) -> str:
        found = hashlib.sha256()
        for path in sorted(path for pattern in patterns for path in out.glob(pattern)):
            found.update(path.name.encode() + path.read_bytes())
        return found.hexdigest()

    return find


def stats(out: Path) -> Any:
    """Return the scores and the detections of a scored run."""
    return json.loads((out / "r.json").read_text())["stats"], digest("d.json")(out)


def made_models(out: Path) -> Any:
    """Return the ONNX files, and of each .om, which names its folder, whether its note is its."""
    notes = {om.name: json.loads(Path(f"{om}.json").read_text()) for om in out.glob("*.om")}
    fits = {name: note["om_sha256"] == sha256(out / name) for name, note in notes.items()}
    return digest("*.onnx")(out), fits


def make_data(folder: Path) -> None:
    """Draw a data set, and write the model as float32 and uint8."""
    write_color_data(folder / "data", COUNT)
    noise = np.random.default_rng(0).integers(0, 8, (SIDE, SIDE, 3), dtype=np.uint8)
    annotation = folder / "data" / "annotations" / "instances_val2017.json"
    instances = json.loads(annotation.read_text())
    for image in instances["images"]:
        path = folder / "data" / "val2017" / image["file_name"]
        color = np.array(Image.open(path))[0, 0]
        Image.fromarray(np.where(color > 0, 255 - noise, noise)).save(path, compress_level=1)
        image |= {"width": SIDE, "height": SIDE}
    for box in instances["annotations"]:
        box["bbox"] = [value * SIDE / 100 for value in box["bbox"]]
        box["area"] = box["bbox"][2] * box["bbox"][3]
    annotation.write_text(json.dumps(instances))
    (folder / "models").mkdir()
    save_colors(folder / "models" / "ssd_bs1.onnx")
    save_colors(folder / "models" / "ssd_bs1_uint8.onnx", "uint8")


def make_subjects(folder: Path) -> list[Subject]:
    """Make the data in `folder`, and return all subjects over them."""
    make_data(folder)
    data, models = folder / "data", folder / "models"
    annotation = data / "annotations" / "instances_val2017.json"
    model, two = str(models / "ssd_bs1.onnx"), ["--workers", "2"]

    def stage(name: str, *words: object) -> list[str]:
        return [sys.executable, str(ROOT / f"{name}.py"), *map(str, words)]

    def driver(name: str, out: Path, *words: str) -> list[str]:
        command = ["bash", str(ROOT / "test" / name), f"--data_path={data}", f"--models={models}"]
        return [*command, f"--output={out}", *words]

    def evaluate(out: Path, *words: str) -> list[str]:
        words = ("--engine=onnxruntime", "--batch_sizes=1", "--loop=1", "--workers=2", *words)
        return driver("ssd_eval_acc_perf.sh", out, *words)

    @cache
    def made() -> Path:
        """Make what later stages read, once it is asked for."""
        command = evaluate(folder / "made", "--keep_outputs")
        subprocess.run(command, check=True, capture_output=True)
        return folder / "made"

    def infer(out: Path, *words: object) -> list[str]:
        where = ["--output", out, "--output_dirname", "bs1"]
        given = ["--model", model, "--input", made() / "ssd_bin", "--loop", LOOP]
        return stage("ssd_infer", *given, *where, *words)

    def score(out: Path) -> list[str]:
        where = ["--output", out / "r.json", "--detections", out / "d.json"]
        return stage("ssd_postprocess", "--data", data, *two, "--bin-input", made() / "bs1", *where)

    def quantize(out: Path) -> list[str]:
        given = ["--onnx-path", model, "--calibration", made() / "ssd_bin", "--skip=none"]
        return stage("ssd_quantize", *given, "--output", out / "int8.onnx")

    @cache
    def checkpoint() -> Path:
        """Write a random network, once it is asked for."""
        path = folder / "checkpoint.pt"
        subprocess.run([sys.executable, "-c", CHECKPOINT, path], check=True, cwd=ROOT)
        return path

    def export(out: Path) -> list[str]:
        """Make models for the stand-in for Ascend's tools, which leaves litter as they do."""
        tools = [f"PATH={STANDIN}:{os.environ['PATH']}", f"PYTHONPATH={STANDIN}"]
        words = ["--batch_sizes=1,2", f"--pth_path={checkpoint()}", f"--output={out}"]
        return ["env", *tools, "bash", str(ROOT / "test" / "ssd_pth2om.sh"), *words]

    def detect(out: Path) -> list[str]:
        given = ["--model", model, "--labels", annotation, "--source", data / "val2017", "--json"]
        return stage("ssd_detect", *given, "--output", out / "found")

    images = ["--data", data, *two, "--bin-output"]
    return [
        Subject(
            "prepare-json",
            lambda out: stage("prepare-json", annotation, out / "a.json"),
            digest("a.json"),
            children=False,
        ),
        Subject(
            "ssd_preprocess",
            lambda out: stage("ssd_preprocess", *images, out / "ssd_bin"),
            digest("ssd_bin/tensor*"),
        ),
        Subject("ssd_infer, files", infer, digest("bs1/tensor*"), children=False),
        Subject(
            "ssd_infer, in process",
            lambda out: infer(out, "--in_process", "--data", data, *two),
            digest("bs1_detections.json"),
        ),
        Subject("ssd_postprocess", score, stats),
        Subject(
            "ssd_report",
            lambda out: stage("ssd_report", out, "--data", data),
            digest("report.html", "report.json", "plots/*.png"),
            given=made,
            children=False,
        ),
        Subject("ssd_quantize", quantize, digest("int8.onnx"), children=False),
        Subject("ssd_detect", detect, digest("found/*.png", "found/*.json"), children=False),
        Subject(
            "ssd_pth2onnx",
            lambda out: stage(
                "ssd_pth2onnx", "--pth-path", checkpoint(), "--onnx-path", out / "a.onnx"
            ),
            digest("a.onnx"),
            children=False,
        ),
        Subject("ssd_pth2om", export, made_models),
        Subject("evaluation, files", evaluate, digest("bs1_detections.json")),
        Subject(
            "evaluation, in process",
            lambda out: evaluate(out, "--in_process"),
            digest("bs1_detections.json"),
        ),
        Subject(
            "ladder",
            lambda out: driver("ssd_accuracy_ladder.sh", out, "--pth_path="),
            digest("ladder.json"),
        ),
    ]
