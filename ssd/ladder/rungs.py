"""The rungs of the accuracy ladder: which there are, and which can be run here.

A rung is one way to run the network on the same images. Its outputs and detections are files.
"""

from pathlib import Path
from typing import NamedTuple

from ssd.ascend.om import read_sidecar
from ssd.cli import CHECKPOINT, KitError
from ssd.engines.choice import tool_for_cards
from ssd.onnx_graph import count_int8


class Rung(NamedTuple):
    """A rung's model file, how to get it if it is missing, and where to look if it loses."""

    file: str
    make: str
    look: str


RUNGS = {  # from the top
    "pytorch": Rung("", "give the checkpoint with --pth_path", "the checkpoint"),
    "float32": Rung(
        "ssd_bs1.onnx",
        "make it with ssd_pth2onnx.py",
        "the export: was the ONNX file made of this checkpoint?",
    ),
    "uint8": Rung(
        "ssd_bs1_uint8.onnx",
        "make it with ssd_pth2onnx.py --input uint8",
        "the uint8 inputs (RGB, not BGR; not normalized) and the normalization in the model",
    ),
    "int8": Rung(
        "ssd_bs1_int8.onnx",
        "make it with ssd_quantize.py",
        "the images of the calibration, and layers that should stay in float (--skip)",
    ),
    "om": Rung(
        "ssd_bs1.om",
        "make it with test/ssd_pth2om.sh where atc is",
        "atc's precision (--precision_mode_v2=origin), and with AIPP mean, scale and RGB order",
    ),
}


def find_rungs(
    folder: Path,
    checkpoint: str,
    ais_infer: Path | None,
    device: int,
    tool_python: Path | None = None,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the model of each rung that can be run, and why the other rungs cannot.

    folder: of the models. checkpoint: PyTorch's model; empty leaves that rung out. ais_infer,
    tool_python: where the tool for the card `device` is, of which what may spoil a run is noted.
    Raises KitError if a checkpoint that the user named is missing.
    """
    models, missing = {}, {}
    for name, rung in RUNGS.items():
        model = Path(checkpoint) if name == "pytorch" else folder / rung.file
        if model.is_file():
            models[name] = model
        elif name == "pytorch" and checkpoint and model != CHECKPOINT:
            raise KitError(f"{model}: no such checkpoint; correct --pth_path, or leave it empty")
        else:
            missing[name] = rung.make
    if "om" in models:
        try:
            tool_for_cards(str(device), ais_infer, tool_python, is_open=True)
        except KitError as error:
            del models["om"]
            missing["om"] = str(error)
    return models, missing


def precision(model: Path, provider: str) -> str:
    """Return what a model computes in, as its file and the device show; `not known` if neither."""
    if model.suffix == ".om":
        return f"atc: {read_sidecar(model)['mode']}"
    if model.suffix != ".onnx":  # as ssd.engines.TorchEngine has it
        return "float32" if provider == "cpu" else "float16"
    try:
        int8, total = count_int8(model)
    except KitError:  # an inference host may lack the package onnx
        return "not known"
    return f"INT8 in {int8} of {total} convolutions" if int8 else "float32"
