"""Weights out of checkpoint files, whatever their form; no code of the file is ever run (torch)."""

import re
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd.cli import SOURCES, KitError

import torch
from torch import Tensor

STATE_KEYS = ("model", "state_dict", "model_state_dict", "ema", "model_ema")
WRAPPERS = ("module.", "_orig_mod.")  # key prefixes of DataParallel and torch.compile
AVERAGED = "n_averaged"  # a count that torch's AveragedModel keeps beside its weights
SIGNATURES = {  # first bytes of what is often given instead: what it is, and what to do
    b"version https://git-lfs": "a git-LFS pointer, not the file itself; run git lfs pull",
    b"<": "a web page (HTML or XML), not a checkpoint; fetch the file itself",
    b"{": "JSON text, not a checkpoint; fetch the file itself",
    b"\x08": "an ONNX model, not a checkpoint; give the checkpoint that it was exported from",
    b"\x89HDF": "an HDF5 file, not a PyTorch checkpoint; give another",
    b"\x1f\x8b": "packed by gzip; unpack it first",
}
HEAD = 64  # bytes that are read to find these
LENGTH = 8  # bytes of the number that a safetensors file starts with: the size of its JSON header


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's weights: strided tensors of the CPU under their names, without wrappers.

    Bare or under one of STATE_KEYS. Raises KitError, which names the cause, for what is missing, no
    checkpoint, damaged, or would need code of the file to load.
    """
    _check_kind(path)
    state: Any = _read(path)
    while isinstance(state, Mapping):
        key = next((k for k in STATE_KEYS if isinstance(state.get(k), Mapping)), None)
        if key is None:
            break
        state = state[key]
    items = dict(state) if isinstance(state, Mapping) else {}
    if not items or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in items.items()):
        wanted = ", ".join(STATE_KEYS)
        raise KitError(
            f"{path}: holds no state dict, neither bare nor under {wanted}; give another"
        )
    items.pop(AVERAGED, None)
    for key, value in items.items():
        kind = _kind(value)
        if kind:
            raise KitError(f"{path}: {key} is a {kind} tensor; save plain, dense weights")
    return {_unwrapped(key): value for key, value in items.items()}


def _check_kind(path: Path) -> None:
    """Raise KitError unless the path is a regular file that may be a checkpoint."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO, say, would be waited for
            raise KitError(f"{path}: a folder or device, not a file; give the checkpoint's path")
        with path.open("rb") as file:
            head = file.read(HEAD).lstrip(b" \r\n\t")
    except FileNotFoundError:
        raise KitError(
            f"{path}: no such checkpoint; correct the path, or fetch it ({SOURCES['checkpoint']})"
        ) from None
    except OSError as error:
        raise KitError(f"{path}: cannot read: {error.strerror}; check the path") from None
    if not head:
        raise KitError(f"{path}: not a checkpoint but an empty file; fetch it again")
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            raise KitError(f"{path}: {kind}")


def _read(path: Path) -> object:
    """Return what a checkpoint holds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _is_safetensors(path):
                from safetensors.torch import load_file  # optional

                return load_file(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise KitError(f"{path}: safetensors; pip install safetensors to read it") from None
    except Exception as error:  # a damaged pickle may raise anything
        reason = " ".join(str(error).split()).rpartition("WeightsUnpickler error: ")[2]
        if "TorchScript" in reason:
            raise KitError(
                f"{path}: a TorchScript archive, which holds code; save the weights alone: "
                "torch.save({'model': torch.jit.load(FILE).state_dict()}, NEW_FILE)"
            ) from None
        offender = re.search(r"GLOBAL (\S+)", reason)
        if offender:
            raise KitError(
                f"{path}: holds {offender[1]}, not only weights (loading it could run code); where "
                "you trust it, save its state dict alone: torch.save({'model': ...}, NEW_FILE)"
            ) from None
        reason = f"{type(error).__name__}: {reason[:120]}" if reason else type(error).__name__
        raise KitError(f"{path}: not a checkpoint, or damaged ({reason}); fetch it again") from None


def _is_safetensors(path: Path) -> bool:
    """Look for the length of a JSON header that ends within the file, and for its first letter."""
    with path.open("rb") as file:
        head = file.read(LENGTH + 1)
    length = int.from_bytes(head[:LENGTH], "little")
    return head[LENGTH:] == b"{" and LENGTH + length <= path.stat().st_size


def _kind(tensor: Tensor) -> str:
    """Return in a word why a tensor's values cannot be taken as they are; empty if they can."""
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse" if "sparse" in str(tensor.layout) else "nested"
    if tensor.is_meta:
        return "meta (empty)"
    return ""


def _unwrapped(key: str) -> str:
    while key.startswith(WRAPPERS):
        key = key.removeprefix(WRAPPERS[0]).removeprefix(WRAPPERS[1])
    return key
