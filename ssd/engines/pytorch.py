"""PyTorch: runs the checkpoint itself."""

from pathlib import Path
from typing import Any

from ssd.cli import KitError
from ssd.engines.base import USE_CPU, check_device, running
from ssd.engines.npu import check_npu, is_npu, trial_batch
from ssd.files import sha256
from ssd.tensors import INPUT_SHAPES

import numpy as np

NO_TORCH_NPU = "install torch_npu for this PyTorch and CANN (310P, not 310), source its set_env.sh"


class TorchEngine:
    """PyTorch, straight from the checkpoint, on `cpu`, `cuda:N` or, with torch_npu, `npu:N`.

    On `cuda` and `npu` in half precision. threads: of this process, all cores if None.
    """

    batch = None
    dtype = "float32"
    shape = INPUT_SHAPES["float32"]

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        try:
            from ssd.network import deploy, load_checkpoint

            import torch
        except ImportError as error:
            raise KitError(f"{path}: needs PyTorch ({error}); install requirements.txt") from None
        if threads:
            torch.set_num_threads(threads)
        self.torch = torch
        self.threads = torch.get_num_threads() if device == "cpu" else None
        kind, _, number = device.partition(":")
        there = kind == "cpu" or int(number or 0) < self.count_devices(kind)
        remedy = NO_TORCH_NPU if is_npu(device) else USE_CPU
        check_device(device, there, "PyTorch", remedy)
        self.name = f"torch {torch.__version__}"
        network = load_checkpoint(path)
        self.labels, self.checkpoint = network.labels, sha256(path)
        self.place(deploy(network), "cpu")
        if device != "cpu":
            batch = trial_batch(self)
            on_cpu = self.run(batch) if is_npu(device) else []
            self.place(self.network, device)
            if is_npu(device):
                check_npu(device, self.name, self.run(batch), on_cpu)
        self.provider = device
        if kind == "cuda":
            self.provider = torch.cuda.get_device_name(self.device)

    def count_devices(self, kind: str) -> int:
        """Return how many devices of a kind, cuda or npu, there are."""
        if kind == "npu":
            try:
                import torch_npu  # noqa: F401  it adds torch.npu
            except Exception:  # whatever a broken installation raises
                return 0
        return getattr(self.torch, kind).device_count()

    def place(self, network: Any, device: str) -> None:
        """Put the network onto a device, in the type and the order of memory that suit it."""
        torch = self.torch
        self.device = torch.device(device)
        self.type = torch.float32 if device == "cpu" else torch.float16
        self.order = torch.contiguous_format if is_npu(device) else torch.channels_last
        self.network = network.to(self.device, self.type, memory_format=self.order)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        with self.torch.inference_mode(), running(self.name):
            batch = self.torch.from_numpy(images).to(
                self.device, self.type, memory_format=self.order
            )
            return [output.float().cpu().numpy() for output in self.network(batch)]
