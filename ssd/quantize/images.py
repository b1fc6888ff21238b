"""Calibration images: chosen, checked, read, and run through a model one at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from ssd.cli import KitError
from ssd.engines.base import Engine
from ssd.images import to_input
from ssd.tensors import input_layout, read_tensor

import numpy as np

T = TypeVar("T")


def spread(items: list[T], count: int) -> list[T]:
    """Choose `count` of the items, evenly spread; all if there are no more."""
    count = min(count, len(items))
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def check_images(paths: list[Path], dtype: str) -> None:
    """Raise KitError unless `read_image` can give each file to a model of that dtype."""
    for path in paths:
        found, _ = input_layout(path)
        if found not in (dtype, "uint8"):
            raise KitError(
                f"{path}: {found}, the model takes {dtype}; make the folder with "
                f"ssd_preprocess.py --dtype {dtype}"
            )


def read_image(path: Path, dtype: str) -> np.ndarray:
    """Read a file of ssd_preprocess.py as a model takes it; uint8 is normalized for float32."""
    found, shape = input_layout(path)
    image = read_tensor(path, found, shape)
    return to_input(image, dtype) if found == "uint8" else image


def run_images(engine: Engine, paths: list[Path]) -> Iterator[list[np.ndarray]]:
    """Yield each image's ploc (4, 8732) and plabel (labels, 8732); the model takes one image."""
    for path in paths:
        yield [output[0] for output in engine.run(read_image(path, engine.dtype)[None])]
