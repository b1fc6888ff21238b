"""What the tests share: paths, a driver's surroundings, models and data that are quick to make.

The color detector is so small that ladders of it take seconds: it tells red, green and blue images
apart. Its box is always the last default box, its score the image's mean color. It has the kit's
interface and the exporter's names; `/stem/Conv` and `/tint/Conv` hand the colors on unchanged.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ssd.boxes import SSD300, cxcywh_to_ltrb, default_boxes
from ssd.coco import COCO_CATEGORIES
from ssd.detections import Detections

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
STANDIN = ROOT / "test" / "ascend_standin"
RUNTIME = STANDIN / "runtime"  # for PYTHONPATH: aclruntime without ais_bench
NO_PLOTS = ROOT / "test" / "no_plots"  # for PYTHONPATH: reports without page and plots
FAKE = ROOT / "test" / "fake_python"  # a python3 that logs its calls
FIVE = ROOT / "test" / "data" / "five"  # a finished run over five images
COCO_TINY = ROOT.parent / "shared" / "coco_tiny"
ODD = "wei rd;'\"$HOME é"  # a folder name that wants quoting

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}  # labels 1, 2, 3
LABELS = 1 + len(COLORS)
UNCHANGED = np.eye(3)
NODES = (  # operator, name, what it reads beside the one before it, attributes
    ("Conv", "/stem/Conv", ["stem"], {}),
    ("Conv", "/tint/Conv", ["tint"], {}),
    ("Relu", "/relu/Relu", [], {}),
    ("GlobalAveragePool", "/GlobalAveragePool", [], {}),
    ("Conv", "/classify/Conv", ["classify", "bias"], {}),
    ("Reshape", "/Reshape", ["column"], {}),
)


def make_detections(*rows):
    """Make Detections of rows (image_id, left, top, right, bottom, score, category_id)."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    ids = table[:, [0, 6]].astype(np.int64)
    return Detections(ids[:, 0], table[:, 1:5], table[:, 5], ids[:, 1])


def near_truth(instances, copies, seed):
    """Make detections near the annotations of a data set, some of them of a wrong category."""
    rng = np.random.default_rng(seed)
    rows = []
    for annotation in instances["annotations"] * copies:
        xywh = np.array(annotation["bbox"])
        box = xywh + rng.normal(0, 0.12, 4) * np.tile(xywh[2:], 2)
        category = rng.choice([annotation["category_id"]] * 4 + [instances["categories"][0]["id"]])
        ltrb = (*box[:2], *(box[:2] + box[2:].clip(1)))
        rows.append((annotation["image_id"], *ltrb, rng.random(), category))
    return make_detections(*rows)


def save_colors(path, dtype="float32", tint=UNCHANGED, order=range(LABELS), batch=1):
    """Write the detector. tint: (3, 3), of color in (column) to color out; order: of labels.

    batch: 1, or "N" for a float32 model of any batch size.
    """
    weights = {"stem": UNCHANGED, "tint": tint}  # after the Relu 0 is dark, 2.2 or more bright
    weights["classify"] = 8 * np.eye(LABELS)[:, 1:]
    weights = {k: v[:, :, None, None].astype(np.float32) for k, v in weights.items()}
    weights["bias"] = np.array([0, -8, -8, -8], np.float32)
    weights["column"] = np.array([1 if batch == 1 else 0, LABELS, 1])  # 0: as many as there are
    nothing = np.zeros((1, LABELS, SSD300.num_boxes - 1), np.float32)
    nothing[:, 0] = 10
    weights |= {"nothing": nothing, "still": np.zeros((1, 4, SSD300.num_boxes), np.float32)}
    weights["order"] = np.array(list(order))
    nodes, tensor, within = [], "image", ""
    if dtype == "uint8":
        nodes, tensor, within = normalizing_nodes(weights), "/Div_1_output_0", "/network"
    for op, name, reads, more in NODES:
        made = f"{within}{name}_output_0"
        nodes.append(helper.make_node(op, [tensor, *reads], [made], within + name, **more))
        tensor = made
    joined = f"{within}/Concat_output_0"
    if batch == 1:
        ends = {"name": f"{within}/Concat", "axis": 2}
        nodes.append(helper.make_node("Concat", ["nothing", tensor], [joined], **ends))
        nodes.append(helper.make_node("Identity", ["still"], ["ploc"], "/Identity"))
    else:  # the constants spread over the batch: a product with 0, and with 1 at the last box
        weights["nothing"] = np.pad(nothing, [(0, 0), (0, 0), (0, 1)])
        weights["last"] = np.float32([0] * (SSD300.num_boxes - 1) + [1])
        weights["still"] = weights["last"] * 0
        nodes.append(helper.make_node("Mul", [tensor, "last"], ["/Mul_output_0"], "/Mul"))
        nodes.append(helper.make_node("Add", ["/Mul_output_0", "nothing"], [joined], "/Add"))
        nodes.append(helper.make_node("Mul", [tensor, "still"], ["ploc"], "/Mul_1"))
    nodes.append(helper.make_node("Gather", [joined, "order"], ["plabel"], "/Gather", axis=1))
    shape = (batch, 300, 300, 3) if dtype == "uint8" else (batch, 3, 300, 300)
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", kind, shape)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, size, SSD300.num_boxes))
        for name, size in (("ploc", 4), ("plabel", LABELS))
    ]
    tensors = [numpy_helper.from_array(v, name) for name, v in weights.items()]
    graph = helper.make_graph(nodes, "colors", [image], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def normalizing_nodes(weights):
    """Return the nodes that ssd_pth2onnx.Uint8Input puts in front, and add what they read."""
    mean, std = (
        np.array(value, np.float32).reshape(1, 3, 1, 1) for value in (SSD300.mean, SSD300.std)
    )
    weights |= {"full": np.float32([255]), "mean": mean, "std": std}
    chain = [("Transpose", [], {"perm": [0, 3, 1, 2]}), ("Cast", [], {"to": TensorProto.FLOAT})]
    chain += [("Div", ["full"], {}), ("Sub", ["mean"], {}), ("Div", ["std"], {})]
    nodes, tensor = [], "image"
    for op, reads, more in chain:
        name = f"/{op}_1" if reads == ["std"] else f"/{op}"
        nodes.append(helper.make_node(op, [tensor, *reads], [f"{name}_output_0"], name, **more))
        tensor = nodes[-1].output[0]
    return nodes


def write_color_data(root, count=2):
    """Write a data set of `count` pictures of each color, on which the detector is perfect."""
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    left, top, right, bottom = cxcywh_to_ltrb(default_boxes()[-1]) * 100.0
    box = [float(v) for v in (left, top, right - left, bottom - top)]
    images, annotations = [], []
    for i in range(count * len(COLORS)):
        label, image_id = i % len(COLORS), 9 + 130 * i
        name = f"{image_id:012}.png"
        color = list(COLORS.values())[label]
        Image.fromarray(np.full((100, 100, 3), color, np.uint8)).save(root / "val2017" / name)
        images.append({"id": image_id, "file_name": name, "height": 100, "width": 100})
        one = {"id": i + 1, "image_id": image_id, "category_id": 3 + 4 * label, "bbox": box}
        annotations.append(one | {"area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": 3 + 4 * i, "name": name} for i, name in enumerate(COLORS)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(data))
    return root


def as_coco2017(root):
    """Give a data set COCO's 80 categories, so that with names of 12 digits it is one of COCO's."""
    path = root / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text()) | {"categories": COCO_CATEGORIES}
    path.write_text(json.dumps(data))
    return root


def save_light(path):
    """Write a model with the kit's interface, of five labels and any batch, that moves numbers.

    Its outputs are slices of the image itself, so images differ in what they give.
    """

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    sizes, weights, nodes, first = {"ploc": 4, "plabel": 5}, {"flat": [0, -1], "axis": [1]}, [], 0
    nodes.append(helper.make_node("Reshape", ["image", "flat"], ["all"], "Reshape_0"))
    for name, size in sizes.items():
        weights |= {f"{name}_from": [first], f"{name}_to": [first + SSD300.num_boxes * size]}
        weights |= {f"{name}_shape": [0, size, SSD300.num_boxes]}
        cut = ["all", f"{name}_from", f"{name}_to", "axis"]
        nodes.append(helper.make_node("Slice", cut, [f"{name}_flat"], f"Slice_{name}"))
        shape = [f"{name}_flat", f"{name}_shape"]
        nodes.append(helper.make_node("Reshape", shape, [name], f"Reshape_{name}"))
        first += SSD300.num_boxes * size
    tensors = [numpy_helper.from_array(np.array(v), name) for name, v in weights.items()]
    outputs = [value(name, size, SSD300.num_boxes) for name, size in sizes.items()]
    graph = helper.make_graph(nodes, "light", [value("image", 3, 300, 300)], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def set_checkpoint(path, checkpoint):
    """Note in an ONNX file that it was made from a checkpoint of that SHA-256."""
    model = onnx.load(path)
    helper.set_model_props(model, {"checkpoint_sha256": checkpoint})
    onnx.save(model, path)


def save_product(path, weight=1.0):
    """Write a net of one multiplication that takes what the kit's network takes."""
    image, product = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 300, 300])
        for name in ("image", "y")
    )
    factor = numpy_helper.from_array(np.float32([weight]), "w")
    node = helper.make_node("Mul", ["image", "w"], ["y"], "Mul_0")
    graph = helper.make_graph([node], "g", [image], [product], [factor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def load_standin(name):
    """Import a module of the stand-in by its path: its folder stays off sys.path."""
    spec = importlib.util.spec_from_file_location(f"standin_test_{name}", STANDIN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gone(pid):
    """Wait until a process has ended, if it has not; return whether it has within a minute."""
    for _ in range(6000):
        try:
            os.kill(pid, 0)
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True  # where nobody reaps what is left without a parent
        except (ProcessLookupError, FileNotFoundError):  # it may end between the two
            return True
        time.sleep(0.01)
    return False


class Kit:
    """A driver and a machine of its own: a python3 that logs each call, no card, an empty HOME.

    driver: a name in test/, or the path of a copy; folder: where HOME and `bin`, which comes first
    on PATH after the fake python3, lie. What a test hands to `run` by name is environment.
    """

    def __init__(self, driver, run_driver, folder):
        self.driver, self.run_driver, self.folder = driver, run_driver, folder
        self.log = folder / "calls.json"
        self.home, self.bin = folder / "home", folder / "bin"
        for made in (self.home, self.bin):
            made.mkdir(parents=True)

    def tool(self, name, text="exit 1"):
        """Put a shell script on the driver's PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def environment(self, rules=(), **env):
        """Return the driver's environment; rules: what the fake python3 does, see fake.py."""
        return {
            "FAKE_LOG": str(self.log),
            "FAKE_REAL": sys.executable,
            "FAKE_RULES": json.dumps(list(rules)),
            "HOME": str(self.home),
            "ASCEND_TOOLKIT_HOME": "/none",  # as if sourced, so that no real one is
            "ASCEND_HOME_PATH": "",
            "AIS_INFER": "",
            "PATH": f"{self.bin}:/usr/bin:/bin",
        } | env

    def run(self, *args, rules=(), cwd="/", **env):
        """Run the driver from the folder cwd."""
        self.log.unlink(missing_ok=True)
        env = self.environment(rules, **env)
        return self.run_driver(self.driver, *args, env=env, first=FAKE, cwd=cwd)

    def start(self, *args, rules=(), **env):
        """Start the driver, and return its process once a rule's `pid` file is there."""
        self.log.unlink(missing_ok=True)
        env = {"VIRTUAL_ENV": sys.prefix} | os.environ | self.environment(rules, **env)
        env["PATH"] = f"{FAKE}{os.pathsep}{env['PATH']}"
        command = ["bash", str(ROOT / "test" / self.driver), *map(str, args)]
        made = next(Path(rule["pid"]) for rule in rules if "pid" in rule)
        made.unlink(missing_ok=True)
        process = subprocess.Popen(
            command, cwd="/", env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while not (made.exists() and made.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process

    def calls(self):
        """Return the argv of each call of python3 in the last run."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


def as_torchvision(path):
    """Return what the reference's transforms make of an image file; they need torchvision."""
    transforms = pytest.importorskip("torchvision").transforms

    steps = [transforms.Resize((300, 300)), transforms.ToTensor()]
    steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return transforms.Compose(steps)(Image.open(path).convert("RGB")).numpy()
