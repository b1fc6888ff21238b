"""Quantise a float model of the kit to INT8 with ONNX Runtime's own tool.

Activations become uint8 with a zero point, weights int8 with a scale for each output channel: on
x86 the quick pair. The file has QuantizeLinear and DequantizeLinear nodes of the standard domain.
"""

import contextlib
import copy
import io
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ssd_engines import Engine, open_engine
from ssd_files import OUTPUT_NAMES, KitError, atomic, first_few, input_layout, read_tensor
from ssd_layers import NETWORK, load_onnx
from ssd_preprocess import normalise

METHODS = {"percentile": "Percentile", "minmax": "MinMax", "entropy": "Entropy"}
PERCENTILE = 99.999  # of the values of an activation that its INT8 range covers
OPS = ("Conv", "Add", "Relu", "MaxPool")  # the heads' Reshape and Concat stay in float
QUANTISED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}
OPSET = 13  # the first that quantises per channel
SHAPES_KNOWN = {"onnx.infer": "onnxruntime.quant"}  # else the tool infers them for each model
IR_VERSION = 8  # the newest that readers of that opset all know


class Reader:
    """Gives onnxruntime's calibration one batch, once."""

    def __init__(self, feeds: dict[str, np.ndarray]) -> None:
        self.feeds: dict[str, np.ndarray] | None = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        feeds, self.feeds = self.feeds, None
        return feeds


def spread(paths: list[Path], count: int) -> list[Path]:
    """Choose `count` of the paths, evenly spread; all if there are no more."""
    count = min(count, len(paths))
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]


def check_pictures(paths: list[Path], dtype: str) -> None:
    """Raise KitError unless all are files that `read_picture` gives a model of that dtype."""
    for path in paths:
        found, _ = input_layout(path)
        if found not in (dtype, "uint8"):
            raise KitError(
                f"{path}: {found}, the model takes {dtype}; make the folder with "
                f"ssd_preprocess.py --dtype {dtype}"
            )


def read_picture(path: Path, dtype: str) -> np.ndarray:
    """Read one file of ssd_preprocess.py as a model takes it; uint8 ones are normalised for it."""
    found, shape = input_layout(path)
    picture = read_tensor(path, found, shape)
    return normalise(picture) if (found, dtype) == ("uint8", "float32") else picture


def run_pictures(engine: Engine, paths: list[Path]) -> Iterator[list[np.ndarray]]:
    """Yield each picture's ploc (4, 8732) and plabel (labels, 8732); the model takes one."""
    for path in paths:
        yield [output[0] for output in engine.run(read_picture(path, engine.dtype)[None])]


def block_of(name: str) -> str:
    """Return the part of the network that a node belongs to, by the name that the exporter gave it.

    `/network/model/model.3/model.3.0/conv1/Conv` is of `model.3.0`, `/mbox.0/convs.1/Conv` of
    `mbox.0`; a name without slashes is itself.
    """
    parts = name.removeprefix(NETWORK).strip("/").split("/")
    return [part for part in parts if part == parts[0] or part.startswith(f"{parts[0]}.")][-1]


def load_float(path: Path) -> Any:
    """Read a float ONNX model in the form that the quantiser takes: opset 13, named nodes.

    Raises KitError if it is no model of the kit, quantised already, not float32, or without Conv.
    """
    if path.is_file() and path.suffix != ".onnx":
        raise KitError(f"{path}: not an ONNX file; make one with ssd_pth2onnx.py")
    model = load_onnx(path)
    import onnx

    found = {node.op_type for node in model.graph.node}
    if found & QUANTISED:
        raise KitError(f"{path}: is quantised already; give the float32 model")
    if "Conv" not in found:
        raise KitError(f"{path}: no convolution in it, so nothing to quantise; give another model")
    types = {one.name: one.data_type for one in model.graph.initializer}
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    if not all(types.get(name) == onnx.TensorProto.FLOAT for name in weights):
        raise KitError(f"{path}: convolutions whose weights are not float32; export it again")
    _own_copies(model.graph)
    if any(one.version < OPSET for one in model.opset_import if not one.domain):
        model = _convert(model, path)
    model.ir_version = max(model.ir_version, IR_VERSION)
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    return model


def _convert(model: Any, path: Path) -> Any:
    """Bring a model to OPSET. Raises KitError if onnx cannot."""
    import onnx

    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # of several kinds
        reason = str(error).partition("\n")[0]
        raise KitError(f"{path}: export it again with --opset {OPSET} ({reason})") from None


def _own_copies(graph: Any) -> None:
    """Give each bias that the exporter made an Identity of another one a tensor of its own.

    The quantiser takes a bias only where it is stored as a tensor.
    """
    stored = {one.name: one for one in graph.initializer}
    copies = [n for n in graph.node if n.op_type == "Identity" and n.input[0] in stored]
    for node in copies:
        tensor = graph.initializer.add()
        tensor.CopyFrom(stored[node.input[0]])
        tensor.name = node.output[0]
        stored[tensor.name] = tensor
        graph.node.remove(node)


class Quantiser:
    """A float model, from which INT8 ones are made once `calibrate` has seen pictures.

    path: its file. model: as `load_float` gives it. single: a file of it in the scratch folder that
    takes one picture at a time, so that memory does not grow with the batch size. names: of all
    nodes. blocks: block -> its nodes of OPS, for blocks with a Conv. work: Conv -> its
    multiply-adds for one picture.
    """

    def __init__(self, path: Path, model: Any, scratch: Path) -> None:
        import onnx

        self.path = path
        self.scratch = scratch
        self.model = model
        engine = open_engine(path)
        self.dtype, self.input_name = engine.dtype, engine.input_name
        self.single = scratch / "float.onnx"
        self.single_model = copy.deepcopy(self.model)
        graph = self.single_model.graph
        for value in (*graph.input, *graph.output):
            if value.name in {self.input_name, *OUTPUT_NAMES}:
                value.type.tensor_type.shape.dim[0].dim_value = 1
        del graph.value_info[:]  # of the other batch size
        self.single_model = _infer_shapes(self.single_model, path)
        onnx.helper.set_model_props(self.single_model, SHAPES_KNOWN)
        with atomic(self.single) as temporary:
            onnx.save(self.single_model, temporary)
        self.names = [node.name for node in graph.node]
        self.blocks = blocks_of(graph)
        self.work = _multiply_adds(self.single_model.graph)
        self.ranges: Any = None

    def calibrate(self, paths: list[Path], method: str) -> None:
        """Find the range of each activation over the pictures; memory holds one picture's layers.

        method: of METHODS. Raises KitError if a range is not finite.
        """
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        with contextlib.redirect_stdout(io.StringIO()):  # it prints with every picture
            calibrator = create_calibrator(
                self.single,
                OPS,
                augmented_model_path=str(self.scratch / "calibration.onnx"),
                calibrate_method=CalibrationMethod[METHODS[method]],
                extra_options={"percentile": PERCENTILE, "symmetric": False},
            )
            for path in tqdm(paths, "calibrate", unit="image", disable=None):
                picture = read_picture(path, self.dtype)
                calibrator.collect_data(Reader({self.input_name: picture[None]}))
            self.ranges = calibrator.compute_data()
        wild = [name for name, one in self.ranges.items() if not np.isfinite(one.range_value).all()]
        if wild:
            raise KitError(
                f"{self.path}: NaN or infinite values in {first_few(wild)}; check the checkpoint"
            )

    def make(self, skip: Collection[str], target: Path, single: bool = True) -> None:
        """Write an INT8 model whose nodes of the names in `skip` stay in float.

        single: for one picture at a time, else of the batch size that the float model has.
        """
        from onnxruntime.quantization import QDQQuantizer, QuantType

        model = copy.deepcopy(self.single_model if single else self.model)
        types = QuantType.QInt8, QuantType.QUInt8  # of weights, of activations
        quantiser = QDQQuantizer(
            model, True, False, *types, self.ranges, [], list(skip), list(OPS), {}
        )
        quantiser.quantize_model()
        quantiser.model.save_model_to_file(str(target))

    def nodes_of(self, blocks: Collection[str]) -> list[str]:
        """Return the names of the nodes of those blocks."""
        return [name for block in blocks for name in self.blocks[block]]

    def int8_share(self, skip: Collection[str]) -> float:
        """Return the share of the multiply-adds that are in INT8 if those nodes stay in float."""
        skip = set(skip)
        kept = sum(count for name, count in self.work.items() if name not in skip)
        return kept / max(sum(self.work.values()), 1)

    def noise(self, paths: list[Path]) -> dict[str, float]:
        """Return what each block does to the outputs if it alone is in INT8.

        That is the power of the outputs' error over their variance, ploc's and plabel's added. The
        errors of all blocks together are near the sum, as long as they are small.
        """
        floats = list(run_pictures(open_engine(self.single), paths))
        target, found = self.scratch / "block.onnx", {}
        for block in tqdm(self.blocks, "find sensitive blocks", unit="block", disable=None):
            self.make(self.nodes_of(self.blocks.keys() - {block}), target)
            found[block] = _noise(floats, run_pictures(open_engine(target), paths))
        return found

    def block_work(self) -> dict[str, int]:
        """Return the multiply-adds of each block."""
        return {b: sum(self.work.get(one, 0) for one in own) for b, own in self.blocks.items()}


def _infer_shapes(model: Any, path: Path) -> Any:
    """Return the model with the shapes of all values. Raises KitError if they contradict."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())[-120:]
        raise KitError(
            f"{path}: does not run with one picture; export it with ssd_pth2onnx.py ({reason})"
        ) from None


def blocks_of(graph: Any) -> dict[str, list[str]]:
    """Group the nodes of OPS by block, in graph order; blocks without Conv are left out."""
    blocks: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type in OPS:
            blocks.setdefault(block_of(node.name), []).append(node.name)
    counted = {block_of(node.name) for node in graph.node if node.op_type == "Conv"}
    return {block: names for block, names in blocks.items() if block in counted}


def _multiply_adds(graph: Any) -> dict[str, int]:
    """Count the multiply-adds of each Conv; the graph knows the shapes of its values."""
    weights = {one.name: tuple(one.dims) for one in graph.initializer}
    shapes = {one.name: one.type.tensor_type.shape.dim for one in graph.value_info}
    return {
        node.name: int(
            np.prod(weights[node.input[1]])
            * np.prod([one.dim_value for one in shapes.get(node.output[0], [])][2:])
        )
        for node in graph.node
        if node.op_type == "Conv"
    }


def _noise(floats: list[list[np.ndarray]], outputs: Iterator[list[np.ndarray]]) -> float:
    """Return the power of the error over the variance, summed over the outputs."""
    errors, signals = np.zeros(len(OUTPUT_NAMES)), np.zeros(len(OUTPUT_NAMES))
    for expected, found in zip(floats, outputs, strict=True):
        errors += [np.square(f - e).mean() for e, f in zip(expected, found, strict=True)]
        signals += [e.var() for e in expected]
    return float((errors / np.maximum(signals, np.finfo(np.float32).tiny)).sum())
