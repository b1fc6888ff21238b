"""A detector so small that ladders of it take seconds: it tells red, green and blue pictures apart.

Its box is always the last default box, its score the picture's mean colour. It has the kit's
interface and the exporter's names; `/stem/Conv` and `/tint/Conv` hand the colours on unchanged.
"""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ssd_boxes import MEAN, NUM_BOXES, STD, cxcywh_to_ltrb, default_boxes

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}  # labels 1, 2, 3
LABELS = 1 + len(COLOURS)
UNCHANGED = np.eye(3)
NODES = (  # operator, name, what it reads beside the one before it, attributes
    ("Conv", "/stem/Conv", ["stem"], {}),
    ("Conv", "/tint/Conv", ["tint"], {}),
    ("Relu", "/relu/Relu", [], {}),
    ("GlobalAveragePool", "/GlobalAveragePool", [], {}),
    ("Conv", "/classify/Conv", ["classify", "bias"], {}),
    ("Reshape", "/Reshape", ["column"], {}),
)


def save(path, dtype="float32", tint=UNCHANGED, order=range(LABELS)):
    """Write the detector. tint: (3, 3), of colour in (column) to colour out; order: of labels."""
    weights = {"stem": UNCHANGED, "tint": tint}  # after the Relu 0 is dark, 2.2 or more bright
    weights["classify"] = 8 * np.eye(LABELS)[:, 1:]
    weights = {k: v[:, :, None, None].astype(np.float32) for k, v in weights.items()}
    weights["bias"] = np.array([0, -8, -8, -8], np.float32)
    weights["column"] = np.array([1, LABELS, 1])
    nothing = np.zeros((1, LABELS, NUM_BOXES - 1), np.float32)
    nothing[:, 0] = 10
    weights |= {"nothing": nothing, "still": np.zeros((1, 4, NUM_BOXES), np.float32)}
    weights["order"] = np.array(list(order))
    nodes, tensor, within = [], "image", ""
    if dtype == "uint8":
        nodes, tensor, within = normalising(weights), "/Div_1_output_0", "/network"
    for op, name, reads, more in NODES:
        made = f"{within}{name}_output_0"
        nodes.append(helper.make_node(op, [tensor, *reads], [made], within + name, **more))
        tensor = made
    joined = f"{within}/Concat_output_0"
    ends = {"name": f"{within}/Concat", "axis": 2}
    nodes.append(helper.make_node("Concat", ["nothing", tensor], [joined], **ends))
    nodes.append(helper.make_node("Gather", [joined, "order"], ["plabel"], "/Gather", axis=1))
    nodes.append(helper.make_node("Identity", ["still"], ["ploc"], "/Identity"))
    shape = (1, 300, 300, 3) if dtype == "uint8" else (1, 3, 300, 300)
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", kind, shape)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, size, NUM_BOXES))
        for name, size in (("ploc", 4), ("plabel", LABELS))
    ]
    tensors = [numpy_helper.from_array(v, name) for name, v in weights.items()]
    graph = helper.make_graph(nodes, "colours", [image], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def normalising(weights):
    """Return the nodes that ssd_pth2onnx.Uint8Input puts in front, and add what they read."""
    mean, std = (np.array(value, np.float32).reshape(1, 3, 1, 1) for value in (MEAN, STD))
    weights |= {"full": np.float32([255]), "mean": mean, "std": std}
    chain = [("Transpose", [], {"perm": [0, 3, 1, 2]}), ("Cast", [], {"to": TensorProto.FLOAT})]
    chain += [("Div", ["full"], {}), ("Sub", ["mean"], {}), ("Div", ["std"], {})]
    nodes, tensor = [], "image"
    for op, reads, more in chain:
        name = f"/{op}_1" if reads == ["std"] else f"/{op}"
        nodes.append(helper.make_node(op, [tensor, *reads], [f"{name}_output_0"], name, **more))
        tensor = nodes[-1].output[0]
    return nodes


def write_data(root, count=2):
    """Write a data set of `count` pictures of each colour, on which the detector is perfect."""
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    left, top, right, bottom = cxcywh_to_ltrb(default_boxes()[-1]) * 100.0
    box = [float(v) for v in (left, top, right - left, bottom - top)]
    images, annotations = [], []
    for i in range(count * len(COLOURS)):
        label, image_id = i % len(COLOURS), 9 + 130 * i
        name = f"{image_id:012}.png"
        colour = list(COLOURS.values())[label]
        Image.fromarray(np.full((100, 100, 3), colour, np.uint8)).save(root / "val2017" / name)
        images.append({"id": image_id, "file_name": name, "height": 100, "width": 100})
        one = {"id": i + 1, "image_id": image_id, "category_id": 3 + 4 * label, "bbox": box}
        annotations.append(one | {"area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": 3 + 4 * i, "name": name} for i, name in enumerate(COLOURS)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(data))
    return root
