"""The engines that run a model, a file for each library, and how one is chosen.

ONNX Runtime and OpenVINO take `.onnx`, PyTorch the checkpoint itself (`.pt`), an Ascend card `.om`.
All have the interface of `ssd.engines.base.Engine`.
"""

import argparse
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssd.ascend.om import om_sha256, read_sidecar
from ssd.cli import KitError
from ssd.engines.ascend import AscendEngine
from ssd.engines.base import Engine
from ssd.engines.npu import card_of
from ssd.engines.onnxruntime import OnnxRuntimeEngine
from ssd.engines.openvino import PRECISIONS, OpenvinoEngine
from ssd.engines.pytorch import TorchEngine
from ssd.files import CHECKPOINT_KEY, digest, sha256
from ssd.onnx_graph import facts_of

ENGINES: dict[str, tuple[Any, tuple[str, ...]]] = {  # class, and the files that it takes
    "onnxruntime": (OnnxRuntimeEngine, (".onnx",)),
    "openvino": (OpenvinoEngine, (".onnx",)),
    "torch": (TorchEngine, (".pt", ".pth")),
    "ascend": (AscendEngine, (".om",)),
}
# how an ONNX file names another one that holds a tensor: a key, the name's length, the name
OTHER_FILE = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")


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


def engine_of(path: Path) -> str:
    """Return the first engine that takes a model file. Raises KitError if none does."""
    for name, (_, suffixes) in ENGINES.items():
        if path.suffix in suffixes:
            return name
    known = ", ".join(sorted({suffix for _, suffixes in ENGINES.values() for suffix in suffixes}))
    raise KitError(f"{path}: no engine for this kind of file; models are {known}")


def open_engine(
    path: Path,
    device: str = "cpu",
    engine: str = "auto",
    precision: str = "f32",
    threads: int | None = None,
) -> Engine:
    """Return an engine with the model loaded.

    engine: of ENGINES, or auto: the first that takes such a file. device: `cpu`, `cuda:N`, `npu:N`,
    or a bare number: the card for a .om, the CPU for the others. precision: OpenVINO's. threads:
    that compute on a CPU, all cores if None.
    Raises KitError if the file is missing, of an unknown kind, or no model, or the engine cannot
    have it, the device or the precision.
    """
    if not path.is_file():
        raise KitError(f"{path}: no such model; make it with ssd_pth2onnx.py or ssd_pth2om.sh")
    first = engine_of(path)
    name = first if engine == "auto" else engine
    if path.suffix not in ENGINES[name][1]:
        raise KitError(f"{path}: not a file for {name}; take one of {', '.join(ENGINES[name][1])}")
    check_precision(name, precision)
    if name == "ascend":
        card = card_of(device)
        if card is None:
            raise KitError(f"--device {device}: not a card, which {path} needs; give its number")
        return AscendEngine(path, card)
    if not re.fullmatch(r"cpu|\d+|(cuda|npu)(:\d+)?", device):
        raise KitError(
            f"--device {device}: no such device; give cpu, cuda:0, npu:0 or a card's number"
        )
    device = "cpu" if device.isdigit() else device
    if name == "openvino":
        return OpenvinoEngine(path, device, precision, threads)
    return ENGINES[name][0](path, device, threads)


def check_precision(engine: str, precision: str) -> None:
    """Raise KitError unless the engine, of ENGINES, can compute in that precision."""
    if engine != "openvino" and precision != "f32":
        raise KitError(f"--precision {precision}: is OpenVINO's alone; add --engine openvino")


def input_and_labels(path: Path) -> tuple[str, int | None]:
    """Return the dtype of the input files that a model takes, and how many labels it has.

    A .om is not loaded for it; labels are None if its note has not their number.
    """
    if path.suffix == ".om" and path.is_file():
        note = read_sidecar(path)
        return note["input_dtype"], note.get("labels")
    engine = open_engine(path)
    return engine.dtype, engine.labels


def model_sha256(path: Path) -> str:
    """Return a model's SHA-256; if its weights lie in other files, as ONNX allows, of these too."""
    if path.suffix == ".om":
        return om_sha256(path)
    data = path.read_bytes()
    others = set()
    for match in OTHER_FILE.finditer(data) if path.suffix == ".onnx" else ():
        name = data[match.end() : match.end() + match[1][0]].decode(errors="replace")
        if (path.parent / name).is_file():
            others.add(name)
    found = hashlib.sha256(data).hexdigest()
    return digest([found, *(sha256(path.parent / o) for o in sorted(others))]) if others else found


def checkpoint_of(path: Path) -> str | None:
    """Return the SHA-256 of the checkpoint that a model was made from; None if it is not known.

    Nothing is loaded into an engine for it.
    """
    if path.suffix == ".om":
        return read_sidecar(path).get(CHECKPOINT_KEY)
    if path.suffix != ".onnx":
        return sha256(path)
    return facts_of(path).get(CHECKPOINT_KEY)


def check_same_checkpoint(models: Iterable[Path], remedy: str) -> None:
    """Raise KitError if two of the models are known to be of different checkpoints."""
    known = {path: checkpoint for path in models if (checkpoint := checkpoint_of(path))}
    if len(set(known.values())) > 1:
        named = "; ".join(f"{path}: {checkpoint[:12]}" for path, checkpoint in known.items())
        raise KitError(f"models of different checkpoints ({named}); {remedy}")
