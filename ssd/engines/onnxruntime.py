"""ONNX Runtime, the embedded engine: runs .onnx files on the CPU, a CUDA GPU or a card."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from ssd.cli import KitError, Stopped
from ssd.engines.base import USE_CPU, check_device, first_line, read_signature, running
from ssd.engines.npu import check_npu, is_npu, trial_batch
from ssd.files import CHECKPOINT_KEY
from ssd.tensors import OUTPUT_NAMES

import numpy as np

NO_CANN = "install onnxruntime-cann in an environment of its own, and source CANN's set_env.sh"


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime: late, as an inference host may lack the engines that it does not use.

    Since 1.32 each session leaves a device id and a database in the user's home, and looks up a
    host of its maker's, unless ORT_DISABLE_TELEMETRY is set before the import. A setting of the
    user's stays. All other modules import it through here.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


class OnnxRuntimeEngine:
    """ONNX Runtime, on the CPU unless `device` is `cuda:N` or, with onnxruntime-cann, `npu:N`.

    threads: all cores if None.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        onnxruntime = import_onnxruntime()
        self.name = f"onnxruntime {onnxruntime.__version__}"
        providers = _onnxruntime_providers(device)
        listed = onnxruntime.get_available_providers()
        remedy = NO_CANN if is_npu(device) else USE_CPU
        check_device(device, providers[0][0] in listed, self.name, remedy)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; they come back as exceptions anyway
        options.intra_op_num_threads = threads or 0
        before = count_threads()
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime raises its own, per kind of failure
            raise KitError(f"{path}: not an ONNX model ({first_line(error)})") from None
        self.settings = onnxruntime.RunOptions()
        self.settings.log_severity_level = 4  # lest it prints that it was stopped
        self.thread = ThreadPoolExecutor(1)
        self.provider = self.session.get_providers()[0]
        # it does not say how many it took; the one that calls it computes too
        self.threads = 1 + count_threads() - before if device == "cpu" else None
        started = self.provider == providers[0][0]  # listed is not started
        check_device(device, started, self.name, remedy)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        types = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
        given = [(one.name, types.get(one.type, ""), one.shape) for one in inputs]
        signature = read_signature(path, given, [(one.name, one.shape) for one in outputs])
        self.input_name, self.dtype, self.shape, self.batch, self.labels = signature
        self.checkpoint = self.session.get_modelmeta().custom_metadata_map.get(CHECKPOINT_KEY)
        if is_npu(device):
            batch = trial_batch(self)
            check_npu(device, self.name, self.run(batch), OnnxRuntimeEngine(path).run(batch))

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Run a batch in a thread: Python heeds no signal while a library computes."""
        job = [list(OUTPUT_NAMES), {self.input_name: images}, self.settings]
        with running(self.name):
            try:
                return self.thread.submit(self.session.run, *job).result()
            except Stopped:  # maybe within submit, when the thread computes already
                self.settings.terminate = True
                raise


def count_threads() -> int:
    """Return how many threads this process has, those of libraries too; 0 where no /proc is."""
    folder = Path("/proc/self/task")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _onnxruntime_providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    cpu = ("CPUExecutionProvider", {})
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return [cpu]
    name = "CANNExecutionProvider" if is_npu(device) else "CUDAExecutionProvider"
    return [(name, {"device_id": int(number or 0)}), cpu]
