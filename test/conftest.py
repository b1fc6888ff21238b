"""Fixtures only: running stages and drivers, and the data sets that tests run on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
COCO_TINY = ROOT.parent / "shared" / "coco_tiny"


@pytest.fixture
def run_stage():
    """Run a top-level script as a user does, from another folder."""

    def run(name, *args, env=None):
        command = [sys.executable, str(ROOT / name), *map(str, args)]
        env = os.environ | (env or {})
        return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True)

    return run


@pytest.fixture
def run_driver():
    """Run a driver from another folder; `first` is a folder to put first on PATH."""

    def run(name, *args, env=None, first=None):
        env = os.environ | (env or {})
        if first:
            env["PATH"] = f"{first}{os.pathsep}{env['PATH']}"
        command = ["bash", str(ROOT / "test" / name), *map(str, args)]
        return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True)

    return run


@pytest.fixture
def coco_tiny():
    """Real COCO pictures beside the project, where they are."""
    if not COCO_TINY.is_dir():
        pytest.skip("no ../shared/coco_tiny beside the project")
    return COCO_TINY


@pytest.fixture
def tiny_coco(tmp_path):
    """A data set of five small pictures: ids with gaps, one unannotated, one with a crowd."""
    root = tmp_path / "da ta;'é" / "coco"
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (width, height) in enumerate([(60, 40), (33, 90), (300, 300), (71, 71), (500, 20)]):
        image_id = 9 + 130 * number
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        name = f"{image_id:012}.jpg"
        Image.fromarray(pixels).save(root / "val2017" / name)
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        if number != 3:
            box = {"bbox": [1.0, 2.0, width / 2, height / 2], "area": width * height / 4.5}
            box |= {"iscrowd": int(number == 4), "category_id": [3, 7, 90][number % 3]}
            box |= {"segmentation": [[1, 2, 3, 4, 5, 6]], "image_id": image_id}
            annotations.append(box | {"id": number + 1})
    categories = [{"id": i, "name": f"class {i}"} for i in (3, 7, 11, 90)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(data | {"info": {}}))
    return root
