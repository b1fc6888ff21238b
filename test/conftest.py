"""Fixtures only: running stages and drivers, and the data and models that tests run on."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
STANDIN = ROOT / "test" / "ascend_standin"
COCO_TINY = ROOT.parent / "shared" / "coco_tiny"


@pytest.fixture
def run_stage():
    """Run a top-level script as a user does, from another folder.

    No file that it writes may grow beyond `room` bytes, if given: as on a disk that fills up, the
    first bytes are written and the others are refused.
    """

    def run(name, *args, env=None, room=None):
        command = [sys.executable, str(ROOT / name), *map(str, args)]
        limit = None if room is None else partial(setrlimit, RLIMIT_FSIZE, (room, room))
        return subprocess.run(
            command,
            cwd="/",
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            preexec_fn=limit,
        )

    return run


@pytest.fixture
def refused():
    """Check that a stage ended as it must on bad input: exit 1, one line on stderr with `told`."""

    def check(done, *told):
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        stage = Path(done.args[1]).name
        assert done.stderr.startswith(f"{stage}: error: ")
        for words in told:
            assert str(words) in done.stderr

    return check


@pytest.fixture
def run_driver():
    """Run a driver from another folder; `first` is a folder to put first on PATH."""

    def run(name, *args, env=None, first=None):
        env = {"VIRTUAL_ENV": sys.prefix} | os.environ | (env or {})
        if first:
            env["PATH"] = f"{first}{os.pathsep}{env['PATH']}"
        command = ["bash", str(ROOT / "test" / name), *map(str, args)]
        return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True)

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


@pytest.fixture(scope="session")
def network():
    """A random network, quick for its three labels, all of whose weights count (needs torch)."""
    torch = pytest.importorskip("torch")
    import ssd_r34

    torch.manual_seed(0)
    made = ssd_r34.SSDR34(labels=3)
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
    """An ONNX file with the kit's interface, for five labels, that only moves numbers about.

    Its outputs are slices of the picture itself, so pictures differ in what they give.
    """
    from onnx import TensorProto, helper, numpy_helper

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    sizes, weights, nodes, first = {"ploc": 4, "plabel": 5}, {"flat": [0, -1], "axis": [1]}, [], 0
    nodes.append(helper.make_node("Reshape", ["image", "flat"], ["all"], "Reshape_0"))
    for name, size in sizes.items():
        weights |= {f"{name}_from": [first], f"{name}_to": [first + 8732 * size]}
        weights |= {f"{name}_shape": [0, size, 8732]}
        cut = ["all", f"{name}_from", f"{name}_to", "axis"]
        nodes.append(helper.make_node("Slice", cut, [f"{name}_flat"], f"Slice_{name}"))
        shape = [f"{name}_flat", f"{name}_shape"]
        nodes.append(helper.make_node("Reshape", shape, [name], f"Reshape_{name}"))
        first += 8732 * size
    tensors = [numpy_helper.from_array(np.array(v), name) for name, v in weights.items()]
    outputs = [value(name, size, 8732) for name, size in sizes.items()]
    graph = helper.make_graph(nodes, "light", [value("image", 3, 300, 300)], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    path = tmp_path_factory.mktemp("light") / "light.onnx"
    path.write_bytes(model.SerializeToString())
    return path
