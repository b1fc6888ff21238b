"""Quantize a float model of the kit to INT8 with ONNX Runtime's own tool.

Activations become uint8 with a zero point, weights int8 with a scale for each output channel: on
x86 the quick pair. The file has QuantizeLinear and DequantizeLinear nodes of the standard domain.
"""

import contextlib
import copy
import io
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ssd.cli import KitError, first_few, progress, working
from ssd.engines import open_engine
from ssd.engines.onnxruntime import import_onnxruntime
from ssd.files import atomic
from ssd.onnx_graph import NETWORK, copy_shared_tensors, load_onnx
from ssd.quantize.images import read_image, run_images
from ssd.tensors import OUTPUT_NAMES

import numpy as np

METHODS = {"percentile": "Percentile", "minmax": "MinMax", "entropy": "Entropy"}
PERCENTILE = 99.999  # percent of an activation's values that its INT8 range covers
OPS = ("Conv", "Add", "Relu", "MaxPool")  # the heads' Reshape and Concat stay in float
QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}
OPSET = 13  # the first that quantizes per channel
SHAPES_KNOWN = {"onnx.infer": "onnxruntime.quant"}  # else the tool infers them for each model
IR_VERSION = 8  # the newest that readers of that opset all know


class Reader:
    """Gives onnxruntime's calibration one batch, once."""

    def __init__(self, feeds: dict[str, np.ndarray]) -> None:
        self.feeds: dict[str, np.ndarray] | None = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        feeds, self.feeds = self.feeds, None
        return feeds


def block_of(name: str) -> str:
    """Return the part of the network that a node belongs to, by the name that the exporter gave it.

    `/network/model/model.3/model.3.0/conv1/Conv` is of `model.3.0`, `/mbox.0/convs.1/Conv` of
    `mbox.0`; a name without slashes is itself.
    """
    parts = name.removeprefix(NETWORK).strip("/").split("/")
    return [part for part in parts if part == parts[0] or part.startswith(f"{parts[0]}.")][-1]


def load_float(path: Path) -> Any:
    """Read a float ONNX model in the form that the quantizer takes: opset 13, named nodes.

    Raises KitError if it is no model of the kit, quantized already, not float32, or without Conv.
    """
    if path.is_file() and path.suffix != ".onnx":
        raise KitError(f"{path}: not an ONNX file; make one with ssd_pth2onnx.py")
    open_engine(path)  # refuses what is no model of the kit
    model = load_onnx(path)
    import onnx

    found = {node.op_type for node in model.graph.node}
    if found & QUANTIZED:
        raise KitError(f"{path}: is quantized already; give the float32 model")
    if "Conv" not in found:
        raise KitError(f"{path}: no convolution in it, so nothing to quantize; give another model")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    if not all(types.get(name) == onnx.TensorProto.FLOAT for name in weights):
        raise KitError(f"{path}: convolutions whose weights are not float32; export it again")
    copy_shared_tensors(model.graph)  # which ssd_pth2onnx.py once left shared
    if any(entry.version < OPSET for entry in model.opset_import if not entry.domain):
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


class Quantizer:
    """A float model, from which INT8 models are made once `calibrate` has seen images.

    path: its file. model: as `load_float` returns it. single: a file of it in the scratch folder
    that takes one image at a time, so that memory does not grow with the batch size. names: of all
    nodes. blocks: block -> its nodes of OPS, for blocks with a Conv. work: Conv -> its
    multiply-adds for one image.
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
        """Find the range of each activation over the images; memory holds one image's layers.

        method: of METHODS. Raises KitError if a range is not finite.
        """
        import_onnxruntime()
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        with contextlib.redirect_stdout(io.StringIO()):  # it prints with every image
            calibrator = create_calibrator(
                self.single,
                OPS,
                augmented_model_path=str(self.scratch / "calibration.onnx"),
                calibrate_method=CalibrationMethod[METHODS[method]],
                extra_options={"percentile": PERCENTILE, "symmetric": False},
            )
            for path in progress(paths, "calibration"):
                image = read_image(path, self.dtype)
                calibrator.collect_data(Reader({self.input_name: image[None]}))
            with working("ranges of the activations"):
                self.ranges = calibrator.compute_data()
        ranges = {name: values.range_value for name, values in self.ranges.items()}
        wild = [name for name, limits in ranges.items() if not np.isfinite(limits).all()]
        if wild:
            raise KitError(
                f"{self.path}: NaN or infinite values in {first_few(wild)}; check the checkpoint"
            )

    def make(self, skip: Collection[str], target: Path, single: bool = True) -> None:
        """Write an INT8 model whose nodes of the names in `skip` stay in float.

        single: for one image at a time, else of the batch size that the float model has.
        """
        import_onnxruntime()
        from onnxruntime.quantization import QDQQuantizer, QuantType

        model = copy.deepcopy(self.single_model if single else self.model)
        types = QuantType.QInt8, QuantType.QUInt8  # of weights, of activations
        quantizer = QDQQuantizer(
            model, True, False, *types, self.ranges, [], list(skip), list(OPS), {}
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))

    def nodes_of(self, blocks: Collection[str]) -> list[str]:
        """Return the names of the nodes of those blocks."""
        return [name for block in blocks for name in self.blocks[block]]

    def int8_share(self, skip: Collection[str]) -> float:
        """Return the share of the multiply-adds (0..1) in INT8 if those nodes stay in float."""
        skip = set(skip)
        kept = sum(count for name, count in self.work.items() if name not in skip)
        return kept / max(sum(self.work.values()), 1)

    def sensitivity(self, paths: list[Path]) -> dict[str, float]:
        """Return each block's error at the outputs if it alone is in INT8, over these images.

        That is the power of the outputs' error over their variance, ploc's and plabel's added. The
        error of several blocks together is near the sum of theirs, as long as it is small.
        """
        expected = list(run_images(open_engine(self.single), paths))
        target, found = self.scratch / "block.onnx", {}
        for block in progress(self.blocks, "sensitive blocks", unit="block"):
            self.make(self.nodes_of(self.blocks.keys() - {block}), target)
            found[block] = relative_error(expected, run_images(open_engine(target), paths))
        return found

    def block_work(self) -> dict[str, int]:
        """Return the multiply-adds of each block."""
        return {
            block: sum(self.work.get(name, 0) for name in names)
            for block, names in self.blocks.items()
        }


def _infer_shapes(model: Any, path: Path) -> Any:
    """Return the model with the shapes of all values. Raises KitError if they contradict."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())[-120:]
        raise KitError(
            f"{path}: does not run with one image; export it with ssd_pth2onnx.py ({reason})"
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
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    return {
        node.name: int(
            np.prod(weights[node.input[1]])
            * np.prod([dim.dim_value for dim in shapes.get(node.output[0], [])][2:])
        )
        for node in graph.node
        if node.op_type == "Conv"
    }


def relative_error(
    expected: Iterable[list[np.ndarray]], outputs: Iterable[list[np.ndarray]]
) -> float:
    """Return the power of the outputs' error over their variance, summed over ploc and plabel.

    Both iterables give each image's outputs.
    """
    errors, signals = np.zeros(len(OUTPUT_NAMES)), np.zeros(len(OUTPUT_NAMES))
    for wanted, found in zip(expected, outputs, strict=True):
        errors += [np.square(f - w).mean() for w, f in zip(wanted, found, strict=True)]
        signals += [w.var() for w in wanted]
    return float((errors / np.maximum(signals, np.finfo(np.float32).tiny)).sum())
