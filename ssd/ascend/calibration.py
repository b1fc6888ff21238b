"""INT8 calibration by atc: the data that it calibrates with, and the config that names them."""

import re
from collections.abc import Iterable
from pathlib import Path

from ssd.cli import KitError
from ssd.files import atomic, write_bytes
from ssd.tensors import INPUT_SHAPES

import numpy as np

DATA_NAME, CONFIG_NAME = "calibration.bin", "calibration.cfg"
REMEDY = "make both with ssd_quantize.py --ascend-calibration"


def calibration_data(config: Path) -> Path:
    """Return the data file that a calibration config names. Raises KitError if there is none."""
    if not config.is_file():
        raise KitError(f"{config}: no such calibration config; {REMEDY}")
    match = re.search(r"input_data_dir:\s*(.+)", config.read_text())
    if not match or not Path(match[1].strip()).is_file():
        named = match[1].strip() if match else "no input_data_dir"
        raise KitError(f"{config}: names no calibration data that is there ({named}); {REMEDY}")
    return Path(match[1].strip())


def write_calibration(
    folder: Path, images: Iterable[np.ndarray], count: int, input_name: str, soc_version: str
) -> tuple[Path, Path]:
    """Write `count` images as one batch of atc's, and the config; return both paths.

    images: (3, 300, 300) float32 each. input_name: of the model. soc_version: the chip that atc
    calibrates on. Raises KitError if the config could not name the data file.
    """
    data, config = folder / DATA_NAME, folder / CONFIG_NAME
    if re.search(r"[\s,;]", str(data.absolute())):
        raise KitError(f"{data}: atc's config takes no blank, comma or semicolon; choose another")
    with atomic(data) as temporary, temporary.open("wb") as file:
        for image in images:
            file.write(memoryview(np.ascontiguousarray(image)).cast("B"))
    shape = ",".join(map(str, (count, *INPUT_SHAPES["float32"])))
    fields = {
        "input_data_dir": data.absolute(),
        "input_shape": f"{input_name}:{shape}",
        "infer_soc": soc_version,
    }
    lines = "".join(f"    {key}: {value}\n" for key, value in fields.items())
    write_bytes(config, f"calibration:\n{{\n{lines}}}\n".encode())
    return data, config
