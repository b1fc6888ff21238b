"""ONNX graphs: reading them, their layers, and which convolutions are quantized."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from ssd.cli import KitError
from ssd.files import CHECKPOINT_KEY

NETWORK = "/network"  # what ssd_pth2onnx.Uint8Input puts before every name within


class Layer(NamedTuple):
    """A layer of an ONNX graph: the tensor to take, its node, and the layers that it reads."""

    tensor: str
    name: str
    op: str
    reads: tuple[str, ...]


def load_onnx(path: Path) -> Any:
    """Read an ONNX file. Raises KitError if it is none, or the package onnx is missing."""
    try:
        import onnx
    except ImportError as error:
        raise KitError(f"{path}: needs onnx ({error}); install requirements.txt") from None
    try:
        return onnx.load(path)
    except FileNotFoundError:
        raise KitError(f"{path}: no such model; make it with ssd_pth2onnx.py") from None
    except Exception as error:  # protobuf raises its own, by its build
        raise KitError(f"{path}: not an ONNX model ({error}); make it again") from None


def graph_digest(model: Any) -> str:
    """Return the SHA-256 of a model's graph: it is what was exported while this is the same."""
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def properties(model: Any) -> dict[str, str]:
    """Return what was noted in a model beside its graph."""
    return {entry.key: entry.value for entry in model.metadata_props}


def facts_of(path: Path) -> dict[str, Any]:
    """Return the checkpoint's SHA-256 and the number of labels of an ONNX file of the kit.

    What is not known is left out; that is all if the file cannot be read, as where onnx is missing.
    """
    try:
        model = load_onnx(path)
    except KitError:
        return {}
    dims = [output.type.tensor_type.shape.dim for output in model.graph.output[1:2]]
    labels = (
        dims[0][1].dim_value if dims and len(dims[0]) == 3 else 0
    )  # 0: open, as in dynamic ones
    found: dict[str, Any] = {"labels": labels} if labels else {}
    return found | {k: v for k, v in properties(model).items() if k == CHECKPOINT_KEY}


def copy_shared_tensors(graph: Any) -> None:
    """Store a copy, in place, of each tensor that an Identity node takes from another stored one.

    torch's exporter stores equal tensors, such as biases of zero, once, but the quantizer takes
    only biases that are stored. What the graph computes stays the same.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Identity" and n.input[0] in stored]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(stored[node.input[0]])
        tensor.name = node.output[0]
        stored[tensor.name] = tensor
        graph.node.remove(node)


def count_int8(path: Path) -> tuple[int, int]:
    """Return how many convolutions of an ONNX file are quantized, and how many there are."""
    nodes = load_onnx(path).graph.node
    quantized = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    inputs = [set(node.input[:2]) for node in nodes if node.op_type == "Conv"]  # and its weights
    return sum(both <= quantized for both in inputs), len(inputs)


def onnx_layers(graph: Any) -> dict[str, Layer]:
    """Return the layers of an ONNX graph that depend on the image, in graph order.

    Keys are tensor names without `/network`. Quantizing and dequantizing nodes are no layers.
    """
    layers: dict[str, Layer] = {}  # by the tensor's own name
    aliases: dict[str, str] = {}  # quantized or dequantized tensor -> what was quantized
    moving = {one.name for one in graph.input} - {one.name for one in graph.initializer}
    ends = {one.name for one in graph.output}
    for node in graph.node:
        if moving.isdisjoint(node.input):
            continue
        moving.update(node.output)
        tensor, source = node.output[0], aliases.get(node.input[0], node.input[0])
        if node.op_type == "QuantizeLinear":
            aliases[tensor] = source
        elif node.op_type == "DequantizeLinear":
            key = tensor if tensor in ends else source  # of an output the source is renamed
            aliases[tensor] = key
            if source in layers:
                layers[key] = layers.pop(source)._replace(tensor=tensor)
        else:
            reads = tuple(aliases.get(one, one) for one in node.input)
            reads = tuple(one.removeprefix(NETWORK) for one in reads)
            layers[tensor] = Layer(tensor, node.name.removeprefix(NETWORK), node.op_type, reads)
    return {tensor.removeprefix(NETWORK): layer for tensor, layer in layers.items()}
