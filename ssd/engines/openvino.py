"""OpenVINO: runs .onnx files on the CPU, also in bf16 and INT8."""

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from ssd.cli import KitError
from ssd.engines.base import check_device, first_line, read_signature, running
from ssd.files import CHECKPOINT_KEY
from ssd.tensors import OUTPUT_NAMES

import numpy as np

PRECISIONS = {"f32": "f32", "bf16": "bf16", "int8": "f32"}  # and what OpenVINO does not quantize


def import_openvino() -> ModuleType:
    """Import OpenVINO: late, as few have it. Raises ImportError.

    Importing it leaves an id in the user's home and sends it to Google Analytics, unless the
    package for that is missing, which it seems to be here. All others import it through here.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # its import fails
    import openvino

    return openvino


class OpenvinoEngine:
    """OpenVINO, on the CPU; `provider` names the precision that its convolutions really have.

    precision: of PRECISIONS. bf16 is quicker where the processor has it, and not quite exact;
    int8 wants a model of ssd_quantize.py. threads: all cores if None.
    """

    def __init__(
        self, path: Path, device: str = "cpu", precision: str = "f32", threads: int | None = None
    ) -> None:
        try:
            openvino = import_openvino()
        except ImportError as error:
            raise KitError(
                f"{path}: needs OpenVINO ({error}); install requirements-openvino.txt"
            ) from None
        self.name = f"openvino {openvino.__version__.partition('-')[0]}"
        check_device(device, device == "cpu", self.name)
        config = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
        config |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
        try:
            model = openvino.Core().read_model(path)
            self.compiled = openvino.compile_model(model, "CPU", config)
        except RuntimeError as error:
            raise KitError(f"{path}: not an ONNX model ({first_line(error)})") from None
        self.threads = int(self.compiled.get_property("INFERENCE_NUM_THREADS"))
        given = [_openvino_tensor(one) for one in model.inputs]
        made = [(name, shape) for name, _, shape in map(_openvino_tensor, model.outputs)]
        signature = read_signature(path, given, made)
        _, self.dtype, self.shape, self.batch, self.labels = signature
        place = ["framework", CHECKPOINT_KEY]
        known = model.has_rt_info(place)
        self.checkpoint = model.get_rt_info(place).astype(str) if known else None
        ran = _openvino_precisions(self.compiled)
        if precision == "int8" and not {"i8", "u8"} & ran.keys():
            raise KitError(f"{path}: nothing in it is INT8; make one with ssd_quantize.py")
        shown = ", ".join(f"{count} in {kind}" for kind, count in ran.most_common())
        self.provider = f"CPU, convolutions: {shown}" if ran else "CPU, no convolutions"

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        with running(self.name):
            results = self.compiled([images])  # copies: the next run would overwrite them
        return [results[name] for name in OUTPUT_NAMES]


def _openvino_tensor(port: Any) -> tuple[str, str, list[Any]]:
    """Return name, dtype and shape of an input or output; None where a length is open."""
    shape = [None if one.is_dynamic else one.get_length() for one in port.partial_shape]
    return port.any_name, port.element_type.to_dtype().name, shape


def _openvino_precisions(compiled: Any) -> Counter[str]:
    """Count the precisions that the compiled model's convolutions run in."""
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    infos = [info for info in infos if info["layerType"].astype(str) == "Convolution"]
    return Counter(info["runtimePrecision"].astype(str) for info in infos)
