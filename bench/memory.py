#!/usr/bin/env python3
"""Measure the memory of each stage over as many images as val2017 has, and print its peak.

The images are links to a few drawn ones; the light model moves their pixels to its outputs, which
makes 200 detections of nearly every image. The peak is of the largest process of a stage, with
all that it has loaded.

Example:
  nice python3 bench/memory.py --images 5000
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "test"))  # whose model is light

from child_usage import usage_of
from models import save_light

ROOT = Path(__file__).resolve().parents[1]
DRAWN = 10  # different images
SIDES = 640, 480  # of an image, as many of COCO's have
BOXES = 7  # of an image, as COCO has on average
CATEGORIES = 4  # as many as the model has labels, but for the background


def make_data(folder: Path, count: int) -> Path:
    """Make a data set of `count` images, links to DRAWN ones, and return it."""
    rng = np.random.default_rng(0)
    images = folder / "data" / "val2017"
    images.mkdir(parents=True)
    for i in range(DRAWN):
        coarse = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(SIDES).save(folder / f"{i}.jpg")
    rows, boxes = [], []
    for i in range(1, count + 1):
        (images / f"{i:012}.jpg").symlink_to(folder / f"{i % DRAWN}.jpg")
        row = {"id": i, "file_name": f"{i:012}.jpg"}
        rows.append(row | dict(zip(("width", "height"), SIDES, strict=True)))
        for left, top, width, height in rng.uniform(10, 240, (BOXES, 4)).round(2).tolist():
            box = {"id": len(boxes) + 1, "image_id": i, "bbox": [left, top, width, height]}
            box |= {"category_id": i % CATEGORIES + 1, "area": width * height, "iscrowd": 0}
            boxes.append(box)
    names = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CATEGORIES)]
    annotation = folder / "data" / "annotations" / "instances_val2017.json"
    annotation.parent.mkdir()
    found = {"images": rows, "annotations": boxes, "categories": names}
    annotation.write_text(json.dumps(found))
    return folder / "data"


def link_all(source: Path, target: Path, count: int) -> None:
    """Give each image of the data set the files of one of the DRAWN, as links."""
    target.mkdir()
    for i in range(1, count + 1):
        first = (i - 1) % DRAWN + 1
        for path in source.glob(f"tensor(?{first}?)*"):
            os.link(path, target / path.name.replace(f"[{first}]", f"[{i}]"))


def measure(name: str, *words: object) -> None:
    """Run a stage, and print its peak memory and the seconds it took."""
    script, *options = words
    used = usage_of([sys.executable, ROOT / script, *options])
    print(f"{name:<40}{used['peak'] / 1e6:>8.0f} MB{used['wall']:>8.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000, help="default: 5000")
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = ["--data", make_data(folder, count), "--workers", 2]
        model = save_light(folder / "light.onnx")
        few = ["--annotation", folder / "few.json", "--images", folder / "data" / "val2017"]
        limit = ["--limit", DRAWN, data[1], folder / "few.json"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        for script, *words in (
            ["prepare-json.py", *limit],
            ["ssd_preprocess.py", *few, "--bin-output", folder / "few"],
            ["ssd_infer.py", "--model", model, "--input", folder / "few", "--output", folder]
            + ["--output_dirname", "few_out"],
        ):
            subprocess.run([sys.executable, str(ROOT / script), *map(str, words)], **quiet)
        link_all(folder / "few", folder / "inputs", count)
        link_all(folder / "few_out", folder / "outputs", count)
        found = folder / "in_process_detections.json"
        scores = ["ssd_postprocess.py", *data, "--output", folder / "r.json"]
        images = ["ssd_preprocess.py", *data, "--dtype", "uint8", "--bin-output"]
        measure("ssd_preprocess.py", *images, folder / "bytes")
        shutil.rmtree(folder / "bytes")
        where = ["--output", folder, "--output_dirname", "in_process", "--in_process"]
        infer = ["ssd_infer.py", "--model", model, *data]
        measure("ssd_infer.py --in_process", *infer, "--input", folder / "inputs", *where)
        outputs = ["--bin-input", folder / "outputs", "--detections", folder / "d.json"]
        measure("ssd_postprocess.py", *scores, *outputs)
        measure("ssd_postprocess.py --score-only", *scores, "--score-only", found)
        print(f"{len(json.loads(found.read_bytes()))} detections in {count} images")


if __name__ == "__main__":
    main()
