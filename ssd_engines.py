"""The engines that run a model, one small class each.

ONNX Runtime and OpenVINO take `.onnx`, PyTorch the checkpoint itself (`.pt`), an Ascend card `.om`.

All have the same face: `name` and `provider` of what really runs, `batch` (None: any), `dtype`
and `shape` of one picture's input, `labels`, `checkpoint`, the SHA-256 of that which the model was
made of (None: not known), and `run`, which takes a batch (N, *shape) and returns ploc
(N, 4, 8732) and plabel (N, labels, 8732).
"""

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

import ssd_ascend
from ssd_boxes import NUM_BOXES
from ssd_files import CHECKPOINT_KEY, INPUT_SHAPES, OUTPUT_NAMES, KitError, input_bytes, sha256

PRECISIONS = {"f32": "f32", "bf16": "bf16", "int8": "f32"}  # and what OpenVINO does not quantise


class Engine(Protocol):
    """What every engine offers; see the module's docstring."""

    name: str
    provider: str
    batch: int | None
    dtype: str
    shape: tuple[int, ...]
    labels: int
    checkpoint: str | None

    def run(self, images: np.ndarray) -> list[np.ndarray]: ...


class OnnxRuntimeEngine:
    """ONNX Runtime, on the CPU unless `device` is `cuda:N`."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import onnxruntime  # late: an inference host may lack the engines it does not use

        self.name = f"onnxruntime {onnxruntime.__version__}"
        providers = _onnxruntime_providers(device)
        listed = onnxruntime.get_available_providers()
        _check_device(device, providers[0][0] in listed, self.name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; they come back as exceptions anyway
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime raises its own, per kind of failure
            raise KitError(f"{path}: not an ONNX model ({_first_line(error)})") from None
        self.provider = self.session.get_providers()[0]
        _check_device(device, self.provider == providers[0][0], self.name)  # listed is not started
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        types = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
        given = [(one.name, types.get(one.type, ""), one.shape) for one in inputs]
        face = _read_face(path, given, [(one.name, one.shape) for one in outputs])
        self.input_name, self.dtype, self.shape, self.batch, self.labels = face
        self.checkpoint = self.session.get_modelmeta().custom_metadata_map.get(CHECKPOINT_KEY)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return self.session.run(list(OUTPUT_NAMES), {self.input_name: images})


class OpenvinoEngine:
    """OpenVINO, on the CPU; `provider` tells the precision that its convolutions really have.

    precision: of PRECISIONS. bf16 is quicker where the processor has it, and not quite exact;
    int8 wants a model of ssd_quantize.py.
    """

    def __init__(self, path: Path, device: str = "cpu", precision: str = "f32") -> None:
        try:
            import openvino
        except ImportError as error:
            raise KitError(
                f"{path}: needs OpenVINO ({error}); install requirements-openvino.txt"
            ) from None
        self.name = f"openvino {openvino.__version__.partition('-')[0]}"
        _check_device(device, device == "cpu", self.name)
        config = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
        try:
            model = openvino.Core().read_model(path)
            self.compiled = openvino.compile_model(model, "CPU", config)
        except RuntimeError as error:
            raise KitError(f"{path}: not an ONNX model ({_first_line(error)})") from None
        given = [_openvino_tensor(one) for one in model.inputs]
        made = [(name, shape) for name, _, shape in map(_openvino_tensor, model.outputs)]
        face = _read_face(path, given, made)
        _, self.dtype, self.shape, self.batch, self.labels = face
        place = ["framework", CHECKPOINT_KEY]
        known = model.has_rt_info(place)
        self.checkpoint = model.get_rt_info(place).astype(str) if known else None
        ran = _openvino_precisions(self.compiled)
        if precision == "int8" and not {"i8", "u8"} & ran.keys():
            raise KitError(f"{path}: nothing in it is INT8; make one with ssd_quantize.py")
        told = ", ".join(f"{count} in {kind}" for kind, count in ran.most_common())
        self.provider = f"CPU, convolutions: {told}" if ran else "CPU, no convolutions"

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        results = self.compiled([images])  # copies: the next run would overwrite them
        return [results[name] for name in OUTPUT_NAMES]


class TorchEngine:
    """PyTorch, straight from the checkpoint, on `cpu` or `cuda:N` (there in half precision)."""

    batch = None
    dtype = "float32"
    shape = INPUT_SHAPES["float32"]

    def __init__(self, path: Path, device: str = "cpu") -> None:
        try:
            import torch

            import ssd_r34
        except ImportError as error:
            raise KitError(f"{path}: needs PyTorch ({error}); install requirements.txt") from None
        index = torch.device(device).index or 0
        _check_device(device, device == "cpu" or index < torch.cuda.device_count(), "PyTorch")
        self.torch = torch
        self.device = torch.device(device)
        self.type = torch.float32 if device == "cpu" else torch.float16
        network = ssd_r34.load_checkpoint(path)
        self.labels, self.checkpoint = network.labels, sha256(path)
        self.network = ssd_r34.deploy(network).to(
            self.device, self.type, memory_format=torch.channels_last
        )
        self.name = f"torch {torch.__version__}"
        self.provider = device if device == "cpu" else torch.cuda.get_device_name(self.device)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        with self.torch.inference_mode():
            batch = self.torch.from_numpy(images).to(
                self.device, self.type, memory_format=self.torch.channels_last
            )
            return [output.float().cpu().numpy() for output in self.network(batch)]


class AscendEngine:
    """An Ascend card, through ais_bench's Python interface."""

    checkpoint = None

    def __init__(self, path: Path, device: str = "0") -> None:
        note = ssd_ascend.read_sidecar(path)
        try:
            from ais_bench.infer.interface import InferSession
        except ImportError as error:
            raise KitError(f"{path}: needs ais_bench ({error}); see README, Ascend") from None
        try:
            self.session = InferSession(int(device), str(path))
        except Exception as error:  # the toolkit raises its own
            reason = ssd_ascend.explain(str(error))
            raise KitError(f"{path}: card {device}: {_first_line(error)}; {reason}") from None
        self.name = f"ais_bench {ssd_ascend.ais_bench_version()}"
        self.provider = f"card {device}, {note.get('soc_version', 'chip not noted')}"
        self.dtype = note["input_dtype"]
        self.shape = INPUT_SHAPES[self.dtype]
        first = self.session.get_inputs()[0]
        self.dynamic = first.shape[0] < 0
        self.batch = None if self.dynamic else first.shape[0]
        if self.batch and first.size != self.batch * input_bytes(self.dtype):
            raise KitError(
                f"{path}: takes {first.size // self.batch} bytes a picture, but by its note "
                f"({note['mode']}) {self.dtype}; convert it with ssd_onnx2om.py, which notes it"
            )
        self.labels = self.session.get_outputs()[1].shape[1]

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            return self.session.infer([images], "dymbatch" if self.dynamic else "static")
        except Exception as error:
            reason = ssd_ascend.explain(str(error))
            raise KitError(f"{self.provider}: {_first_line(error)}; {reason}") from None


ENGINES: dict[str, tuple[Any, tuple[str, ...]]] = {  # class, and the files that it takes
    "onnxruntime": (OnnxRuntimeEngine, (".onnx",)),
    "openvino": (OpenvinoEngine, (".onnx",)),
    "torch": (TorchEngine, (".pt", ".pth")),
    "ascend": (AscendEngine, (".om",)),
}


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose an engine: --engine and --precision."""
    parser.add_argument(
        "--engine",
        choices=("auto", *ENGINES),
        default="auto",
        help="default: by the model's suffix",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="f32", help="of OpenVINO (default: f32)"
    )


def open_engine(
    path: Path, device: str = "cpu", engine: str = "auto", precision: str = "f32"
) -> Engine:
    """Return an engine with the model loaded.

    engine: of ENGINES, or auto: the first that takes such a file. device: `cpu`, `cuda:N`, or a
    bare number: the card for a .om, the CPU for the others. precision: OpenVINO's.
    Raises KitError if the file is missing, of an unknown kind, or no model, or the engine cannot
    have it, the device or the precision.
    """
    if not path.is_file():
        raise KitError(f"{path}: no such model; make it with ssd_pth2onnx.py or ssd_pth2om.sh")
    takes = [name for name, (_, suffixes) in ENGINES.items() if path.suffix in suffixes]
    if not takes:
        known = ", ".join(sorted({one for _, suffixes in ENGINES.values() for one in suffixes}))
        raise KitError(f"{path}: no engine for this kind of file; models are {known}")
    name = takes[0] if engine == "auto" else engine
    if name not in takes:
        raise KitError(f"{path}: not a file for {name}; take one of {', '.join(ENGINES[name][1])}")
    if name != "openvino" and precision != "f32":
        raise KitError(f"--precision {precision}: is OpenVINO's alone; add --engine openvino")
    if name == "ascend":
        return AscendEngine(path, device)
    if not re.fullmatch(r"cpu|\d+|cuda(:\d+)?", device):
        raise KitError(f"--device {device}: no such device; give cpu, cuda:0 or a card's number")
    device = "cpu" if device.isdigit() else device
    if name == "openvino":
        return OpenvinoEngine(path, device, precision)
    return ENGINES[name][0](path, device)


def input_dtype(path: Path) -> str:
    """Return the dtype of the input files that a model takes; a .om is not loaded for it."""
    if path.suffix == ".om" and path.is_file():
        return ssd_ascend.read_sidecar(path)["input_dtype"]
    return open_engine(path).dtype


def output_shapes(engine: Engine) -> list[tuple[int, int]]:
    """Return the shapes of one picture's outputs, in order."""
    return [(4, NUM_BOXES), (engine.labels, NUM_BOXES)]


class Face(NamedTuple):
    """What a model's inputs and outputs tell of it."""

    input_name: str
    dtype: str
    shape: tuple[int, ...]
    batch: int | None
    labels: int


def _read_face(path: Path, inputs: list[tuple], outputs: list[tuple]) -> Face:
    """Read a model's inputs (name, dtype, shape) and outputs (name, shape).

    A length that is no number is open. Raises KitError unless they are those of this kit's models.
    """
    if len(inputs) == 1 and [name for name, _ in outputs] == list(OUTPUT_NAMES):
        name, dtype, (batch, *rest) = inputs[0]
        if INPUT_SHAPES.get(dtype) == tuple(rest):
            batch = batch if isinstance(batch, int) else None
            return Face(name, dtype, tuple(rest), batch, outputs[1][1][1])
    raise KitError(f"{path}: not a model of this kit; make it with ssd_pth2onnx.py")


def _openvino_tensor(port: Any) -> tuple[str, str, list[Any]]:
    """Return name, dtype and shape of an input or output; None where a length is open."""
    shape = [None if one.is_dynamic else one.get_length() for one in port.partial_shape]
    return port.any_name, port.element_type.to_dtype().name, shape


def _openvino_precisions(compiled: Any) -> Counter[str]:
    """Count the precisions that the compiled model's convolutions run in."""
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    infos = [info for info in infos if info["layerType"].astype(str) == "Convolution"]
    return Counter(info["runtimePrecision"].astype(str) for info in infos)


def _onnxruntime_providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    cpu = ("CPUExecutionProvider", {})
    if device == "cpu":
        return [cpu]
    return [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), cpu]


def _check_device(device: str, there: bool, engine: str) -> None:
    """Raise KitError unless the engine has the device that was asked for."""
    if not there:
        raise KitError(f"--device {device}: {engine} has no such device here; use --device cpu")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
