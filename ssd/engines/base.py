"""What all engines share: their interface, and checks of models and devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from ssd.cli import KitError
from ssd.tensors import INPUT_SHAPES, OUTPUT_NAMES

import numpy as np

USE_CPU = "use --device cpu"


class Engine(Protocol):
    """What every engine offers.

    name, provider: of what really runs. batch: the model's batch size, None if it takes any.
    dtype, shape: of one image's input. labels: how many, with the background. checkpoint: SHA-256
    of the checkpoint that the model was made from, None if it is not known. threads: that compute
    on the CPU, None if it is not known or another device computes. run: takes a batch (N, *shape)
    and returns ploc (N, 4, 8732) and plabel (N, labels, 8732).
    """

    name: str
    provider: str
    batch: int | None
    dtype: str
    shape: tuple[int, ...]
    labels: int
    checkpoint: str | None
    threads: int | None

    def run(self, images: np.ndarray) -> list[np.ndarray]: ...


class ModelSignature(NamedTuple):
    """What a model's inputs and outputs say about it."""

    input_name: str
    dtype: str
    shape: tuple[int, ...]
    batch: int | None
    labels: int


def read_signature(path: Path, inputs: list[tuple], outputs: list[tuple]) -> ModelSignature:
    """Read a model's inputs (name, dtype, shape) and outputs (name, shape).

    A length that is no number is open. Raises KitError unless they are those of this kit's models.
    """
    if len(inputs) == 1 and [name for name, _ in outputs] == list(OUTPUT_NAMES):
        name, dtype, (batch, *rest) = inputs[0]
        if INPUT_SHAPES.get(dtype) == tuple(rest):
            batch = batch if isinstance(batch, int) else None
            return ModelSignature(name, dtype, tuple(rest), batch, outputs[1][1][1])
    raise KitError(f"{path}: not a model of this kit; make it with ssd_pth2onnx.py")


@contextmanager
def running(engine: str) -> Iterator[None]:
    """Raise KitError for what a library raises, each its own, when it runs a model."""
    try:
        yield
    except Exception as error:
        reason = first_line(error)
        raise KitError(f"{engine}: {reason}; out of memory? take a smaller batch size") from None


def check_device(device: str, there: bool, engine: str, remedy: str = USE_CPU) -> None:
    """Raise KitError unless the engine has the device that was asked for."""
    if not there:
        raise KitError(f"--device {device}: {engine} has no such device here; {remedy}")


def first_line(error: Exception) -> str:
    """Return what a library's error says, in one line; its kind if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
