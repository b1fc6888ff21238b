"""Fixtures only: running stages and drivers, and the data and models that tests run on."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ssd.coco import IMAGE_FOLDER, INSTANCES

import numpy as np
import pytest
import stage_process
from models import COCO_TINY, ROOT, STANDIN, save_light
from PIL import Image

os.environ["STANDIN_PYTHON"] = sys.executable  # has onnx, wherever a test's PATH leads
NO_COCO_TINY = "no ../shared/coco_tiny beside the project"

# what starts the tests in the background may let them ignore Ctrl-C, and so all that they start
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Let each worker begin with its share of the slow tests, so that none is left at the end."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    items.clear()
    for i in range(workers):
        for kind in (slow, quick):
            items += kind[i * len(kind) // workers : (i + 1) * len(kind) // workers]


@pytest.fixture
def run_stage():
    """Run a top-level script as a user does, from another folder.

    No file that it writes may grow beyond `room` bytes, if given: as on a disk that fills up, the
    first bytes are written and the others are refused.
    """

    def run(name, *args, env=None, room=None):
        args = [str(arg) for arg in args]
        return stage_process.run(str(ROOT / name), args, os.environ | (env or {}), room)

    return run


@pytest.fixture
def refused():
    """Check that a stage ended as it must on bad input: exit 1, one line with the words."""

    def check(done, *words):
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        stage = Path(done.args[1]).name
        assert done.stderr.startswith(f"{stage}: error: ")
        for part in words:
            assert str(part) in done.stderr

    return check


@pytest.fixture
def run_driver():
    """Run a driver of test/, or a copy by its path; `first` is a folder to put first on PATH."""

    def run(name, *args, env=None, first=None, cwd="/"):
        env = {"VIRTUAL_ENV": sys.prefix} | os.environ | (env or {})
        if first:
            env["PATH"] = f"{first}{os.pathsep}{env['PATH']}"
        command = ["bash", str(ROOT / "test" / name), *map(str, args)]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)

    return run


@pytest.fixture
def standin(tmp_path, monkeypatch):
    """The stand-in for Ascend's tools on PATH, and the file that its calls are logged to."""
    monkeypatch.setenv("PATH", f"{STANDIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture
def coco_tiny():
    """Real COCO pictures beside the project, where they are."""
    if not COCO_TINY.is_dir():
        pytest.skip(NO_COCO_TINY)
    return COCO_TINY


UNLISTED = 3  # which of the five pictures tiny_coco does not list


@pytest.fixture
def tiny_coco(tmp_path):
    """A data set of four small pictures: ids with gaps, one with a crowd; another lies there."""
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
        if number != UNLISTED:
            images.append({"id": image_id, "file_name": name, "height": height, "width": width})
            box = {"bbox": [1.0, 2.0, width / 2, height / 2], "area": width * height / 4.5}
            box |= {"iscrowd": int(number == 4), "category_id": [3, 7, 90][number % 3]}
            box |= {"segmentation": [[1, 2, 3, 4, 5, 6]], "image_id": image_id}
            annotations.append(box | {"id": number + 1})
    categories = [{"id": i, "name": f"class {i}"} for i in (3, 7, 11, 90)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(data | {"info": {}}))
    return root


@pytest.fixture
def five_coco(tiny_coco):
    """`tiny_coco` with the other picture listed too, which has no annotation."""
    path = tiny_coco / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    image_id = 9 + 130 * UNLISTED
    image = {"id": image_id, "file_name": f"{image_id:012}.jpg", "height": 71, "width": 71}
    data["images"].insert(UNLISTED, image)
    path.write_text(json.dumps(data))
    return tiny_coco


@pytest.fixture(scope="session")
def make_once(tmp_path_factory):
    """Have a folder filled by `make(folder)` once for all workers of pytest-xdist; return it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name, make):
        folder, unfinished = base / name, base / f"{name}.part"
        with open(base / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            if not folder.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return once


@pytest.fixture(scope="session")
def fit(make_once):
    """Run ssd_sample.py with options once; return the folder that it filled (needs torch).

    export: the batch size for which its checkpoint is exported to `models/ssd_bsN.onnx`.
    """
    pytest.importorskip("torch")

    def run(name, *options, export):
        def make(folder):
            paths = ["--pth-path", folder / "models" / "sample.pt"]
            paths += ["--onnx-path", folder / "models" / f"ssd_bs{export}.onnx"]
            stages = {"ssd_sample.py": ["--output", folder, *options]}
            stages |= {"ssd_pth2onnx.py": [*paths, "--bs", export]}
            for stage, args in stages.items():
                done = stage_process.run(str(ROOT / stage), list(map(str, args)), os.environ)
                assert done.returncode == 0, done.stderr

        return make_once(name, make)

    return run


@pytest.fixture(scope="session")
def sample(fit):
    """The folder of the sample; only to be read.

    It has `coco`, `models/sample.pt` fitted to it, and `models/ssd_bs1.onnx`. The environment's
    SSD_SAMPLE names one that is there already.
    """
    there = os.environ.get("SSD_SAMPLE")
    return Path(there) if there else fit("sample", export=1)


@pytest.fixture(scope="session")
def real(fit, make_once):
    """`data` of eight real images, a `checkpoint` fitted to them, its `onnx`; only to be read.

    The images are the first of those beside the project: enough to see whether two routes score
    alike, and so few that every route can run. The ONNX file is of batch size 4.
    """
    if not COCO_TINY.is_dir():
        pytest.skip(NO_COCO_TINY)

    def make(folder):
        (folder / IMAGE_FOLDER).symlink_to(COCO_TINY / IMAGE_FOLDER)
        args = ["--keep-keys", "--limit", "8", str(COCO_TINY), str(folder / INSTANCES)]
        done = stage_process.run(str(ROOT / "prepare-json.py"), args, os.environ)
        assert done.returncode == 0, done.stderr

    data = make_once("real_coco", make)
    models = fit("real", "--fit-to", data, export=4) / "models"
    return SimpleNamespace(data=data, checkpoint=models / "sample.pt", onnx=models / "ssd_bs4.onnx")


@pytest.fixture(scope="session")
def network():
    """A random network, quick for its three labels, all of whose weights count (needs torch)."""
    torch = pytest.importorskip("torch")
    from ssd.network import SSDR34

    torch.manual_seed(0)
    made = SSDR34(labels=3)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.4, 0.8)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.bias)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def checkpoint(network, tmp_path_factory):
    """That network as a checkpoint file, in a folder whose name is no easy one."""
    import torch

    path = tmp_path_factory.mktemp("check point;'é") / "ssd.pt"
    torch.save({"model": network.state_dict(), "epoch": 1}, path)
    return path


@pytest.fixture(scope="session")
def onnx_file(checkpoint, tmp_path_factory):
    """That network as ONNX, of any batch size."""
    import ssd_pth2onnx

    path = tmp_path_factory.mktemp("onnx") / "ssd.onnx"
    options = ["--pth-path", str(checkpoint), "--onnx-path", str(path), "--dynamic"]
    ssd_pth2onnx.main(options)
    return path


@pytest.fixture(scope="session")
def light_onnx(tmp_path_factory):
    """The model of `models.save_light`."""
    return save_light(tmp_path_factory.mktemp("light") / "light.onnx")


@pytest.fixture(scope="session")
def light_oms(light_onnx, make_once):
    """A folder of that model for the stand-in, of batch sizes one and two; only to be read."""

    def make(folder):
        env = os.environ | {"PATH": f"{STANDIN}{os.pathsep}{os.environ['PATH']}"}
        for size in ("1", "2"):
            args = ["--onnx-path", str(light_onnx), "--om-path", str(folder / f"ssd_bs{size}.om")]
            args += ["--bs", size, "--soc_version", "Ascend310P3"]
            done = stage_process.run(str(ROOT / "ssd_onnx2om.py"), args, env)
            assert done.returncode == 0, done.stderr

    return make_once("light_oms", make)
