"""Compare two models layer by layer: where do their values part?

Takes ONNX files, and as the first model a checkpoint (`.pt`) too. Memory holds one batch's layers,
however many pictures there are.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_engines import TorchEngine, open_engine
from ssd_files import OUTPUT_NAMES, KitError
from ssd_preprocess import normalise

NETWORK = "/network"  # what ssd_pth2onnx.Uint8Input puts before every name within


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


class Difference:
    """Sums over pairs of arrays, from which all figures follow; in float64.

    cosine: of everything as one vector; 1 if both are all zero, 0 if one is. max_abs, mean_abs:
    of the elements' differences. All are NaN where a value is; 1, 0 and 0 before the first pair.
    """

    def __init__(self) -> None:
        self.products = np.zeros(3)  # first·second, first·first, second·second
        self.largest = 0.0
        self.total = 0.0
        self.count = 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Count in a pair of the same shape."""
        a, b = (array.reshape(-1).astype(np.float64) for array in (first, second))
        apart = np.abs(a - b)
        self.products += (a @ b, a @ a, b @ b)
        self.largest = float(np.maximum(self.largest, apart.max(initial=0.0)))
        self.total += float(apart.sum())
        self.count += a.size

    def join(self, other: "Difference") -> None:
        """Count in all pairs of another."""
        self.products += other.products
        self.largest = float(np.maximum(self.largest, other.largest))
        self.total += other.total
        self.count += other.count

    @property
    def cosine(self) -> float:
        both, first, second = self.products
        if first == 0 or second == 0:
            return float(first == second)
        return min(float(both / np.sqrt(first) / np.sqrt(second)), 1.0)

    @property
    def max_abs(self) -> float:
        return self.largest

    @property
    def mean_abs(self) -> float:
        return self.total / max(self.count, 1)


class Layer(NamedTuple):
    """A layer of an ONNX graph: the tensor to take, its node, and the layers that it reads."""

    tensor: str
    name: str
    op: str
    reads: tuple[str, ...]


def compare_layers(first: Path, second: Path, pictures: list[np.ndarray]) -> list[LayerDifference]:
    """Run two models on the same pictures and compare the layers that both have.

    first: .onnx, or a checkpoint (then Conv, Relu, MaxPool and the two outputs are compared, as
    `ssd_r34.deploy` gives them). second: .onnx. pictures: (300, 300, 3) uint8 RGB each, as
    `ssd_preprocess.resize` gives them; each model gets them in its dtype and batch size.
    Returns the layers in the order of `first`, under the names that `second` has for their nodes
    (without `/network`); none without pictures.

    Layers are the same if their tensors have the same name, but for `/network`. Of a QDQ model
    the values after dequantisation are taken, which the next layer reads. Where the quantiser took
    a Relu away (its limit at 0 does the same), the Conv or Add before it has the Relu's tensor: it
    is compared with the float model's Relu, and the float model's Conv or Add has no counterpart.
    ONNX Runtime runs both without optimisation, so that quantised layers are computed as the file
    has them, in float32 on quantised values: what a processor's INT8 kernels add is not seen.
    Raises KitError if a file is missing or no model of the kit, or no layer is the same.
    """
    graph = below = onnx_layers(second)
    if first.suffix == ".onnx":
        above = {key: layer for key, layer in onnx_layers(first).items() if key in below}
        below = {key: below[key] for key in above}
        upper = run_onnx(first, above, pictures)
    else:
        upper = run_checkpoint(first, below, pictures)
    sums: dict[str, Difference] = {}
    for one, other in zip(upper, run_onnx(second, below, pictures), strict=True):
        for key in [key for key in one if key in other]:
            if one[key].shape != other[key].shape:
                raise KitError(
                    f"{second}: {graph[key].name} gives {other[key].shape}, that of {first} "
                    f"{one[key].shape}; compare models of the same network"
                )
            sums.setdefault(key, Difference()).add(one[key], other[key])
    if pictures and not sums:
        raise KitError(f"{second}: no layer in common with {first}; export both from one network")
    return [
        LayerDifference(
            graph[key].name,
            graph[key].op,
            found.cosine,
            found.max_abs,
            found.mean_abs,
            min((sums[one].cosine for one in nearest(graph, key, sums)), default=1.0),
        )
        for key, found in sums.items()
    ]


def nearest(graph: dict[str, Layer], key: str, known: Collection[str]) -> Iterator[str]:
    """Yield the nearest layers of `known` that a layer of the graph reads, directly or not."""
    for one in graph[key].reads:
        if one in known:
            yield one
        elif one in graph:
            yield from nearest(graph, one, known)


def load_onnx(path: Path) -> Any:
    """Read an ONNX file. Raises KitError if it is none of the kit's, or the package is missing."""
    try:
        import onnx
    except ImportError as error:
        raise KitError(f"{path}: needs onnx ({error}); install requirements.txt") from None
    open_engine(path)  # says what is wrong with a file
    return onnx.load(path)


def count_int8(path: Path) -> tuple[int, int]:
    """Return how many convolutions of an ONNX file are quantised, and how many there are."""
    nodes = load_onnx(path).graph.node
    quantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    inputs = [set(node.input[:2]) for node in nodes if node.op_type == "Conv"]  # and its weights
    return sum(both <= quantised for both in inputs), len(inputs)


def onnx_layers(path: Path) -> dict[str, Layer]:
    """Return the layers of an ONNX file that depend on the picture, in graph order.

    Keys are tensor names without `/network`. Quantising and dequantising nodes are no layers.
    Raises KitError if it is no model of the kit.
    """
    graph = load_onnx(path).graph
    layers: dict[str, Layer] = {}  # by the tensor's own name
    aliases: dict[str, str] = {}  # quantised or dequantised tensor -> what was quantised
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


def module_key(tensor: str) -> str:
    """Return which call of which module made a tensor, by the name that the exporter gave it.

    `/model/model.3/model.3.0/relu/Relu_output_0` is `model.3.0.relu`; the second call of that
    module is `model.3.0.relu_1`. The network's outputs are themselves.
    """
    parts: list[str] = []
    for part in tensor.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):  # a Sequential's own name comes again
            parts.pop()
        parts.append(part)
    return ".".join(parts) if "/" in tensor else tensor


def batches(pictures: list[np.ndarray], size: int, dtype: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the pictures as batches in the dtype that a model takes, and how many are no padding.

    A short last batch is filled up with its last picture.
    """
    for start in range(0, len(pictures), size):
        taken = pictures[start : start + size]
        images = [rgb if dtype == "uint8" else normalise(rgb) for rgb in taken]
        images += images[-1:] * (size - len(images))
        yield np.stack(images), len(taken)


def run_onnx(
    path: Path, layers: dict[str, Layer], pictures: list[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield for each picture the layers' float outputs, without batch axis."""
    import onnxruntime
    from onnx import ValueInfoProto

    engine, model = open_engine(path), load_onnx(path)
    known = {one.name for one in model.graph.output}
    wanted = {layer.tensor for layer in layers.values()} - known
    model.graph.output.extend(ValueInfoProto(name=name) for name in sorted(wanted))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [layer.tensor for layer in layers.values()]
    for images, count in batches(pictures, engine.batch or 1, engine.dtype):
        outputs = session.run(names, {engine.input_name: images})
        kept = {k: o for k, o in zip(layers, outputs, strict=True) if o.dtype.kind == "f"}
        yield from ({key: output[i] for key, output in kept.items()} for i in range(count))


def run_checkpoint(
    path: Path, keys: Iterable[str], pictures: list[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield for each picture the outputs of those layers that are modules, in order of their call.

    keys: as `onnx_layers` gives them; those of other layers are passed over.
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
    for images, _ in batches(pictures, 1, engine.dtype):
        found.clear()
        calls.clear()
        outputs = engine.run(images)
        yield found | {key: o[0] for key, o in zip(OUTPUT_NAMES, outputs, strict=True)}
