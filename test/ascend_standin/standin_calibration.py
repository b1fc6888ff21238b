"""INT8 calibration inside the stand-in's atc: the config is checked, nothing is quantised.

The file is that of --compression_optimize_conf, as documented:
    enable_first_layer_quantization: true
    calibration: { input_data_dir: a.bin input_shape: image:16,3,300,300 infer_soc: Ascend310P3 }
The data are those of the ONNX model's own inputs, before AIPP (assumed: the real atc calibrates
the parsed graph, and AIPP is put in later).
"""

import math
import re
from pathlib import Path

import numpy as np
import standin
from standin_atc import AtcError, invalid

FLAG = "compression_optimize_conf"
NEEDED = ("input_data_dir", "input_shape", "infer_soc")
OPTIONAL = ("config_file", "infer_aicore_num", "infer_device_id", "infer_ip", "infer_port", "log")


def read_config(text: str) -> tuple[dict[str, str], bool]:
    """Return the fields of `calibration` and whether the first layer is quantised with AIPP.

    Raises ValueError for what is not understood, unknown or missing.
    """
    form = r"\s*(?:enable_first_layer_quantization\s*:\s*(true|false)\s*)?"
    match = re.fullmatch(form + r"(?:calibration\s*:\s*\{(.*)\}\s*)?", text, re.DOTALL)
    if not match or match[2] is None:
        raise ValueError("the file must hold calibration:{ ... }")
    fields = dict(re.findall(r"(\w+)\s*:\s*(\S+)", match[2]))
    leftover = re.sub(r"\w+\s*:\s*\S+", "", match[2]).strip()
    if leftover:
        raise ValueError(f"not understood: {leftover[:60]}")
    for name in fields:
        if name not in NEEDED + OPTIONAL:
            raise ValueError(f"no field named {name}")
    for name in NEEDED:
        if name not in fields:
            raise ValueError(f"calibration needs {name}")
    return fields, match[1] == "true"


def check_data(fields: dict[str, str], inputs: dict[str, tuple[str, list[int]]]) -> None:
    """Hold data files against the model's inputs: name -> dtype, shape. Raises ValueError."""
    files, shapes = fields["input_data_dir"].split(","), fields["input_shape"].split(";")
    if not len(files) == len(shapes) == len(inputs):
        raise ValueError(f"{len(files)} files, {len(shapes)} shapes, {len(inputs)} inputs")
    for path, shape in zip(files, shapes, strict=True):
        name, _, text = shape.rpartition(":")
        if name not in inputs or not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
            raise ValueError(f"input_shape {shape}: the model's inputs are {', '.join(inputs)}")
        dims = [int(dim) for dim in text.split(",")]
        dtype, own = inputs[name]
        if dims[1:] != own[1:]:
            raise ValueError(f"input_shape {shape}: the model's is {own}")
        if not Path(path).is_file():
            raise ValueError(f"{path} is missing")
        found, needed = Path(path).stat().st_size, math.prod(dims) * np.dtype(dtype).itemsize
        if found != needed:
            raise ValueError(f"{path} has {found} bytes, {shape} {dtype} takes {needed}")


def check_device(fields: dict[str, str]) -> None:
    """Look for the card that calibrates. Raises AtcError, or ValueError for a wrong chip."""
    cards, device = standin.cards(), int(fields.get("infer_device_id", "0"))
    if device >= len(cards):
        text = f"calibration runs on a device: acl open device {device} failed, 507033"
        raise AtcError("E19999", text)
    if fields["infer_soc"] != f"Ascend{cards[device].name}":
        raise ValueError(f"infer_soc {fields['infer_soc']}: the card is {cards[device].name}")


def check_calibration(
    flags: dict[str, str], inputs: dict[str, tuple[str, list[int]]]
) -> str | None:
    """Check the config and its data; return what atc then says, None without calibration.

    inputs: name -> dtype and shape of the ONNX model's inputs. Raises AtcError.
    """
    if FLAG not in flags:
        return None
    try:
        fields, first_layer = read_config(Path(flags[FLAG]).read_text())
        if first_layer and (
            flags.get("enable_small_channel") != "1" or "310P" not in flags["soc_version"]
        ):
            raise ValueError("the first layer needs 310P and --enable_small_channel=1")
        if "config_file" in fields and not Path(fields["config_file"]).is_file():
            raise ValueError(f"config_file {fields['config_file']} is missing")
        check_data(fields, inputs)
        check_device(fields)
    except ValueError as error:
        raise invalid(FLAG, flags[FLAG], str(error)) from None
    return "STAND-IN: calibration checked; nothing is quantised, the model runs in float16"
