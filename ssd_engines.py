"""The engines that run a model, one small class each.

ONNX Runtime takes `.onnx`, PyTorch the checkpoint itself (`.pt`), an Ascend card `.om`.

All have the same face: `name` and `provider` of what really runs, `batch` (None: any), `dtype`
and `shape` of one picture's input, `labels`, and `run`, which takes a batch (N, *shape) and
returns ploc (N, 4, 8732) and plabel (N, labels, 8732).
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

import ssd_ascend
from ssd_boxes import NUM_BOXES
from ssd_files import INPUT_SHAPES, OUTPUT_NAMES, KitError


class Engine(Protocol):
    """What every engine offers; see the module's docstring."""

    name: str
    provider: str
    batch: int | None
    dtype: str
    shape: tuple[int, ...]
    labels: int

    def run(self, images: np.ndarray) -> list[np.ndarray]: ...


class OnnxRuntimeEngine:
    """ONNX Runtime, on the CPU unless `device` is `cuda:N`."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import onnxruntime  # late: an inference host may lack the engines it does not use

        self.name = f"onnxruntime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; they come back as exceptions anyway
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=_onnxruntime_providers(device)
            )
        except Exception as error:  # onnxruntime raises its own, per kind of failure
            raise KitError(f"{path}: not an ONNX model ({_first_line(error)})") from None
        self.provider = self.session.get_providers()[0]
        _check_device(device, self.provider == "CPUExecutionProvider", self.name)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        layout = (str(inputs[0].type), tuple(inputs[0].shape[1:]))
        types = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}
        known = [d for d, s in INPUT_SHAPES.items() if (types[d], s) == layout]
        if len(inputs) != 1 or not known or [o.name for o in outputs] != list(OUTPUT_NAMES):
            raise KitError(f"{path}: not a model of this kit; make it with ssd_pth2onnx.py")
        self.input_name = inputs[0].name
        self.dtype, self.shape = known[0], INPUT_SHAPES[known[0]]
        self.batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
        self.labels = outputs[1].shape[1]

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return self.session.run(list(OUTPUT_NAMES), {self.input_name: images})


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
        _check_device(device, not torch.cuda.is_available(), "PyTorch")
        self.torch = torch
        self.device = torch.device(device)
        self.type = torch.float32 if device == "cpu" else torch.float16
        network = ssd_r34.load_checkpoint(path)
        self.labels = network.labels
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
        self.dynamic = isinstance(note["batch"], list)
        self.batch = None if self.dynamic else self.session.get_inputs()[0].shape[0]
        self.labels = self.session.get_outputs()[1].shape[1]

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            return self.session.infer([images], "dymbatch" if self.dynamic else "static")
        except Exception as error:
            reason = ssd_ascend.explain(str(error))
            raise KitError(f"{self.provider}: {_first_line(error)}; {reason}") from None


ENGINES: dict[str, Any] = {
    ".onnx": OnnxRuntimeEngine,
    ".pt": TorchEngine,
    ".pth": TorchEngine,
    ".om": AscendEngine,
}


def open_engine(path: Path, device: str = "cpu") -> Engine:
    """Return the engine for a model file, told by its suffix, with the model loaded.

    device: `cpu`, `cuda:N`, or a bare number: the card for a .om, the CPU for the others.
    Raises KitError if the file is missing, of an unknown kind, or no model.
    """
    if not path.is_file():
        raise KitError(f"{path}: no such model; make it with ssd_pth2onnx.py or ssd_pth2om.sh")
    if path.suffix not in ENGINES:
        known = ", ".join(ENGINES)
        raise KitError(f"{path}: no engine for this kind of file; models are {known}")
    if path.suffix == ".om":
        return AscendEngine(path, device)
    return ENGINES[path.suffix](path, "cpu" if device.isdigit() else device)


def input_dtype(path: Path) -> str:
    """Return the dtype of the input files that a model takes; a .om is not loaded for it."""
    if path.suffix == ".om" and path.is_file():
        return ssd_ascend.read_sidecar(path)["input_dtype"]
    return open_engine(path).dtype


def output_shapes(engine: Engine) -> list[tuple[int, int]]:
    """Return the shapes of one picture's outputs, in order."""
    return [(4, NUM_BOXES), (engine.labels, NUM_BOXES)]


def _onnxruntime_providers(device: str) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    cuda = ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)})
    return [cuda, "CPUExecutionProvider"]


def _check_device(device: str, missing: bool, engine: str) -> None:
    """Raise KitError if a GPU was asked for and the engine cannot have it."""
    if device != "cpu" and (missing or not device.startswith("cuda")):
        raise KitError(f"--device {device}: {engine} has no such device here; use --device cpu")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
