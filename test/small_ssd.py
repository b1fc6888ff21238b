"""A small SSD as the exporter writes it, calibration images, and what a file has in INT8."""

from ssd.images import normalize

import numpy as np
import onnx
from models import normalizing_nodes
from onnx import TensorProto, helper, numpy_helper

LABELS = 4
CELLS = (59, 37)  # four boxes in each make 8732
STEM, BLOCK = "/model/model.0/Conv", "/model/model.5/model.5.{}"
HEADS = {"plabel": ("/mbox.0/convs.0/Conv", LABELS), "ploc": ("/mbox.0/convs.1/Conv", 4)}
NODES = [STEM, *(f"{BLOCK.format(i)}/conv{k}/Conv" for i in range(3) for k in (1, 2))]
NODES += [name for name, _ in HEADS.values()]


def weights_of(wild=()):
    """The weights of a small SSD: stem, three residual blocks, two heads.

    In the blocks `wild` one channel between the convolutions is 500 times as large as the others,
    and counts as much less after it: in float that is the same network.
    """
    rng = np.random.default_rng(0)
    made = {STEM: rng.normal(size=(8, 3, 10, 12)) / 19}
    for name in NODES[1:-2]:
        made[name] = rng.normal(size=(8, 8, 3, 3)) / 17
    made[NODES[-2]] = rng.normal(size=(4 * LABELS, 8, 1, 1))
    made[NODES[-1]] = rng.normal(size=(16, 8, 1, 1)) / 30
    for block in wild:
        first, second = (made[f"{BLOCK.format(block)}/conv{k}/Conv"] for k in (1, 2))
        first[3] *= 500
        second[:, 3] /= 500
    return {name: value.astype(np.float32) for name, value in made.items()}


def save(path, batch="N", wild=(), dtype="float32", opset=11):
    """Write the small SSD as the exporter would; return the path."""
    tensors, nodes, tensor, within = {}, [], "image", ""
    if dtype == "uint8":
        nodes, tensor, within = normalizing_nodes(tensors), "/Div_1_output_0", "/network"

    def add(op, name, reads, **more):
        name = within + name
        nodes.append(helper.make_node(op, reads, [f"{name}_output_0"], name, **more))
        return nodes[-1].output[0]

    def conv(name, reads, **more):
        tensors[f"{name}.weight"] = weights[name]
        bias = np.linspace(-0.5, 0.5, len(weights[name])).astype(np.float32)
        tensors[f"{name}.bias"] = bias
        return add("Conv", name, [reads, f"{name}.weight", f"{name}.bias"], **more)

    weights = weights_of(wild)
    tensor = add("Relu", "/model/model.2/Relu", [conv(STEM, tensor, strides=[5, 8])])
    for i in range(3):
        block, held = BLOCK.format(i), tensor
        tensor = conv(f"{block}/conv1/Conv", tensor, pads=[1] * 4)
        tensor = add("Relu", f"{block}/relu/Relu", [tensor])
        tensor = conv(f"{block}/conv2/Conv", tensor, pads=[1] * 4)
        tensor = add("Add", f"{block}/Add", [tensor, held])
        tensor = add("Relu", f"{block}/relu_1/Relu", [tensor])
    for output, (name, rows) in HEADS.items():
        tensors[f"{output}_shape"] = np.array([-1, rows, 8732])
        reads = [conv(name, tensor), f"{output}_shape"]
        nodes.append(helper.make_node("Reshape", reads, [output], f"/Reshape_{output}"))
    tensors["/mbox.0/convs.0/Conv.bias"] += np.repeat(np.float32([4, 0, 0, 0]), 4)
    size = (300, 300, 3) if dtype == "uint8" else (3, 300, 300)
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", kind, [batch, *size])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, rows, 8732])
        for name, rows in (("ploc", 4), ("plabel", LABELS))
    ]
    initializers = [numpy_helper.from_array(v, name) for name, v in tensors.items()]
    graph = helper.make_graph(nodes, "small", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    helper.set_model_props(model, {"checkpoint_sha256": "abc"})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_images(folder, count=5, dtype="uint8"):
    """Write images of colored patches on noise, as ssd_preprocess.py does; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for i in range(count):
        small = rng.integers(0, 256, (10, 10, 3))
        rgb = np.kron(small, np.ones((30, 30, 1))) * 0.8 + rng.integers(0, 50, (300, 300, 3))
        rgb = rgb.astype(np.uint8)
        (rgb if dtype == "uint8" else normalize(rgb)).tofile(folder / f"tensor([{9 + 4 * i}]).bin")
    return folder


def made_by(model):
    """Map each tensor of a model to the node that makes it."""
    return {output: node for node in model.graph.node for output in node.output}


def in_int8(model):
    """Return the names of the Conv nodes whose image and weights are both quantized."""
    made = made_by(model)
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and all(
            made.get(name) and made[name].op_type == "DequantizeLinear" for name in node.input[:2]
        )
    }


def values(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
