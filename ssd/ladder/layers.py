"""Compare two models layer by layer: where do their values part?

Takes ONNX files, and as the first model a checkpoint (`.pt`) too. Memory holds one batch's layers,
however many images there are.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ssd.agreement import Difference, rank_falls
from ssd.cli import KitError
from ssd.engines import open_engine
from ssd.engines.base import Engine
from ssd.engines.onnxruntime import import_onnxruntime
from ssd.engines.pytorch import TorchEngine
from ssd.images import to_input
from ssd.onnx_graph import Layer, load_onnx, onnx_layers
from ssd.tensors import OUTPUT_NAMES, pad_batch

import numpy as np

FALL = 1e-5  # a fall of a layer's cosine that is shown; engines in float32 differ by 1e-9
LAYERS_SHOWN = 8


class LayerDifference(NamedTuple):
    """How far one layer's output moved: name and operator of its node, and `Difference`.

    before: the lowest cosine among the compared layers that it reads; 1 if it reads none.
    """

    name: str
    op: str
    cosine: float
    max_abs: float
    mean_abs: float
    before: float = 1.0


def compare_layers(first: Path, second: Path, rgbs: list[np.ndarray]) -> list[LayerDifference]:
    """Run two models on the same images and compare the layers that both have.

    first: .onnx, or a checkpoint (then Conv, Relu, MaxPool and the two outputs are compared, as
    `ssd.network.deploy` returns them). second: .onnx. rgbs: images, (300, 300, 3) uint8 RGB each,
    as `ssd.images.resize` returns them; each model gets them in its dtype and batch size.
    Returns the layers in the order of `first`, under the names that `second` has for their nodes
    (without `/network`); none without images.

    Layers are the same if their tensors have the same name, but for `/network`. Of a QDQ model
    the values after dequantization are taken, which the next layer reads. Where the quantizer took
    a Relu away (its limit at 0 does the same), the Conv or Add before it has the Relu's tensor: it
    is compared with the float model's Relu, and the float model's Conv or Add has no counterpart.
    ONNX Runtime runs both without optimization, so that quantized layers are computed as the file
    has them, in float32 on quantized values: what a processor's INT8 kernels add is not seen.
    Raises KitError if a file is missing or no model of the kit, or no layer is the same.
    """
    engine, model = open_engine(second), load_onnx(second)
    graph = below = onnx_layers(model.graph)
    if first.suffix == ".onnx":
        pair = open_engine(first), load_onnx(first)
        above = {key: layer for key, layer in onnx_layers(pair[1].graph).items() if key in below}
        below = {key: below[key] for key in above}
        upper = run_onnx(*pair, above, rgbs)
    else:
        upper = run_checkpoint(first, below, rgbs)
    sums: dict[str, Difference] = {}
    for expected, found in zip(upper, run_onnx(engine, model, below, rgbs), strict=True):
        for key in [key for key in expected if key in found]:
            if expected[key].shape != found[key].shape:
                raise KitError(
                    f"{second}: {graph[key].name} gives {found[key].shape}, that of {first} "
                    f"{expected[key].shape}; compare models of the same network"
                )
            sums.setdefault(key, Difference()).add(expected[key], found[key])
    if rgbs and not sums:
        raise KitError(f"{second}: no layer in common with {first}; export both from one network")
    return [
        LayerDifference(
            graph[key].name,
            graph[key].op,
            difference.cosine,
            difference.max_abs,
            difference.mean_abs,
            min((sums[read].cosine for read in nearest(graph, key, sums)), default=1.0),
        )
        for key, difference in sums.items()
    ]


def nearest(graph: dict[str, Layer], key: str, known: Collection[str]) -> Iterator[str]:
    """Yield the nearest layers of `known` that a layer of the graph reads, directly or not."""
    for read in graph[key].reads:
        if read in known:
            yield read
        elif read in graph:
            yield from nearest(graph, read, known)


def module_key(tensor: str) -> str:
    """Return which call of which module made a tensor, by the name that the exporter gave it.

    `/model/model.3/model.3.0/relu/Relu_output_0` is `model.3.0.relu`; the second call of that
    module is `model.3.0.relu_1`. The network's outputs are themselves.
    """
    parts: list[str] = []
    for part in tensor.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):  # a Sequential repeats its name
            parts.pop()
        parts.append(part)
    return ".".join(parts) if "/" in tensor else tensor


def batches(rgbs: list[np.ndarray], size: int, dtype: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the images as batches in the dtype that a model takes, and how many are no padding.

    A short last batch is filled up with its first image.
    """
    for start in range(0, len(rgbs), size):
        taken = rgbs[start : start + size]
        yield pad_batch([to_input(rgb, dtype) for rgb in taken], size), len(taken)


def run_onnx(
    engine: Engine, model: Any, layers: dict[str, Layer], rgbs: list[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield for each image the layers' float outputs, without batch axis.

    engine, model: of one file, as `open_engine` and `load_onnx` return them; the model gets the
    layers as outputs.
    """
    from onnx import ValueInfoProto

    onnxruntime = import_onnxruntime()
    known = {value.name for value in model.graph.output}
    wanted = {layer.tensor for layer in layers.values()} - known
    model.graph.output.extend(ValueInfoProto(name=name) for name in sorted(wanted))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [layer.tensor for layer in layers.values()]
    for images, count in batches(rgbs, engine.batch or 1, engine.dtype):
        outputs = session.run(names, {engine.input_name: images})
        kept = {k: o for k, o in zip(layers, outputs, strict=True) if o.dtype.kind == "f"}
        yield from ({key: output[i] for key, output in kept.items()} for i in range(count))


def run_checkpoint(
    path: Path, keys: Iterable[str], rgbs: list[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield for each image the outputs of those layers that are modules, in order of their call.

    keys: as `onnx_layers` returns them; those of other layers are passed over.
    """
    engine = open_engine(path)
    if not isinstance(engine, TorchEngine):
        raise KitError(f"{path}: its layers cannot be read; compare .onnx files or a checkpoint")
    wanted = {module_key(key): key for key in keys}
    found: dict[str, np.ndarray] = {}
    calls: dict[str, int] = {}

    def keep(name: str, output: Any) -> None:
        count = calls[name] = calls.get(name, -1) + 1
        key = wanted.get(f"{name}_{count}" if count else name)
        if key:
            found[key] = output[0].float().cpu().numpy().copy()  # a Relu may write over it

    for name, module in engine.network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
    for images, _ in batches(rgbs, 1, engine.dtype):
        found.clear()
        calls.clear()
        outputs = engine.run(images)
        yield found | {key: o[0] for key, o in zip(OUTPUT_NAMES, outputs, strict=True)}


def falls(found: list[LayerDifference]) -> list[LayerDifference]:
    """Return the layers whose cosine is FALL or more below what they read, or no number.

    The first of them in graph order comes first, then the others, those that fall most first.
    """
    fallen = [layer for layer in found if not layer.before - layer.cosine < FALL]
    return [fallen[i] for i in rank_falls([layer.cosine - layer.before for layer in fallen])]


def describe_layers(found: list[LayerDifference], lost: str) -> list[str]:
    """Return the table of the layers where the cosine falls and, last, the result.

    The first one that falls comes first, then those that fall most.
    """
    fallen = falls(found)
    if not fallen:
        worst = min(found, key=lambda layer: layer.cosine)
        return [
            f"No layer's cosine falls by {FALL} or more (the lowest is {worst.cosine:.6f}, at "
            f"{worst.name}): on the same images the models agree, so look at the input files "
            f"of {lost}"
        ]
    lines = ["  cosine    before  largest     mean  layer"]
    lines += [
        f"{layer.cosine:8.6f}  {layer.before:8.6f}  {layer.max_abs:7.1e}  "
        f"{layer.mean_abs:7.1e}  {layer.name}"
        for layer in fallen[:LAYERS_SHOWN]
    ]
    if len(fallen) > LAYERS_SHOWN:
        lines.append(f"and {len(fallen) - LAYERS_SHOWN} more that fall by {FALL} or more")
    first = fallen[0]
    return [*lines, f"The cosine first falls at {first.name} ({first.op})"]
