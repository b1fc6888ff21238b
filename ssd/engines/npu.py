"""Cards without atc: what ONNX Runtime's CANN provider and torch_npu have in common.

Both may leave work to the CPU without a word, so what they return is held against the CPU's own.
"""

import re

from ssd.cli import KitError
from ssd.engines.base import Engine

import numpy as np

NEAR = 0.05  # of the CPU's outputs: more than float16 and another order of sums make of them


def is_npu(device: str) -> bool:
    """Return whether a device is a card that is named as `npu` or `npu:N`."""
    return device.partition(":")[0] == "npu"


def card_of(device: str) -> int | None:
    """Return the number of a card, which is named as `N`, `npu:N` or, if 0, `npu`; None if none."""
    match = re.fullmatch(r"npu|(?:npu:)?(\d+)", device)
    return int(match[1] or 0) if match else None


def trial_batch(engine: Engine) -> np.ndarray:
    """Return a batch of noise, of the size that the model takes, or of one image."""
    noise = np.random.default_rng(0)
    shape = (engine.batch or 1, *engine.shape)
    if engine.dtype == "uint8":
        return noise.integers(0, 256, shape, np.uint8)
    return noise.standard_normal(shape, np.float32)


def check_npu(device: str, engine: str, found: list[np.ndarray], cpu: list[np.ndarray]) -> None:
    """Raise KitError if outputs of a card are the CPU's to the last bit, or far from them.

    found, cpu: the outputs for one batch, in one order. A card computes in float16, so the same
    bits everywhere mean that the CPU has computed them.
    """
    if all(np.array_equal(mine, other) for mine, other in zip(found, cpu, strict=True)):
        raise KitError(
            f"--device {device}: {engine} ran the model on the CPU, not on the card; see that "
            "CANN's set_env.sh was sourced and fits it, or convert with test/ssd_pth2om.sh"
        )
    for mine, other in zip(found, cpu, strict=True):
        error = np.linalg.norm(np.float32(mine) - other) / max(float(np.linalg.norm(other)), 1e-9)
        if not error <= NEAR:  # not a number is far too
            raise KitError(
                f"--device {device}: {engine} returns outputs that differ from the CPU's by "
                f"{100 * error:.3g} %; take the .om of test/ssd_pth2om.sh"
            )
