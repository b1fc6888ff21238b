"""Arithmetic of the stand-in's card: float16 rounding and the static AIPP unit."""

import re

import numpy as np

HALF_MAX = 65504.0
CHANNELS = range(3)
AIPP_DEFAULTS = {f"mean_chn_{i}": 0.0 for i in CHANNELS}
AIPP_DEFAULTS |= {f"min_chn_{i}": 0.0 for i in CHANNELS}
AIPP_DEFAULTS |= {f"var_reci_chn_{i}": 1.0 for i in CHANNELS}
AIPP_SWITCHES = ("csc_switch", "rbuv_swap_switch", "crop", "resize", "padding")
AIPP_NUMBERS = ("src_image_size_w", "src_image_size_h", "related_input_rank")


def to_half(values: np.ndarray) -> np.ndarray:
    """Round to the nearest float16, saturating as the card does; float32 of the same shape."""
    clipped = np.clip(np.asarray(values, np.float32), -HALF_MAX, HALF_MAX)
    return clipped.astype(np.float16).astype(np.float32)


def apply_aipp(images: np.ndarray, aipp: dict[str, list[float]]) -> np.ndarray:
    """Return out = (in - mean - min) * var_reci, channels swapped first where asked for.

    images: (N, H, W, 3) uint8. Result (N, 3, H, W) float32 that holds float16 values; min and
    var_reci are float16 numbers in the documentation, so they are rounded before the use.
    """
    pixels = images.astype(np.float32)
    if aipp["swap"]:
        pixels = pixels[..., ::-1]
    offset = np.float32(aipp["mean"]) + to_half(aipp["min"])
    scaled = (pixels - offset) * to_half(aipp["var_reci"])
    return to_half(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def parse_aipp(text: str, height: int, width: int) -> dict[str, list[float]]:
    """Return `mean`, `min`, `var_reci` (three numbers each) and `swap` of a static AIPP config.

    The text is protobuf text of one `aipp_op`; height and width are the model's. Raises ValueError
    with the reason of E10052 for what the real parser refuses and for what is not played here.
    """
    body = re.fullmatch(r"\s*aipp_op\s*\{(.*)\}\s*", re.sub("#.*", "", text), re.DOTALL)
    if not body:
        raise ValueError("the file must hold one aipp_op { ... }")
    fields = dict(re.findall(r"(\w+)\s*:\s*(\S+)", body[1]))
    leftover = re.sub(r"\w+\s*:\s*\S+", "", body[1]).strip(" \t\r\n,;")
    if leftover:
        raise ValueError(f"not understood: {leftover[:60]}")
    known = {*AIPP_DEFAULTS, *AIPP_SWITCHES, *AIPP_NUMBERS, "aipp_mode", "input_format"}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"no field named {unknown[0]} (or the stand-in does not play it)")
    if fields.get("aipp_mode") != "static":
        raise ValueError("aipp_mode must be static (the stand-in plays no dynamic AIPP)")
    if fields.get("input_format") != "RGB888_U8":
        raise ValueError("input_format must be RGB888_U8 (the stand-in plays no other)")
    for name in AIPP_SWITCHES:
        if fields.get(name, "false") not in ("true", "false"):
            raise ValueError(f"{name} must be true or false")
        if name != "rbuv_swap_switch" and fields.get(name) == "true":
            raise ValueError(f"the stand-in plays no {name}")
    for name, size in (("src_image_size_h", height), ("src_image_size_w", width)):
        if int(fields.get(name, 0)) not in (0, size):
            text = f"{name} is {fields[name]}, the model's is {size}"
            raise ValueError(f"aipp output H and W should be equal to data's H and W: {text}")
    settings = {name: _number(name, fields) for name in AIPP_DEFAULTS}
    groups = {
        key: [settings[f"{key}_chn_{i}"] for i in CHANNELS] for key in ("mean", "min", "var_reci")
    }
    return groups | {"swap": fields.get("rbuv_swap_switch") == "true"}


def _number(name: str, fields: dict[str, str]) -> float:
    """Return a number of the config, its default if it is absent. Raises ValueError."""
    text = fields.get(name, str(AIPP_DEFAULTS[name]))
    if name in fields and name.startswith("mean") and not re.fullmatch(r"\d+", text):
        raise ValueError(f"{name} must be an integer, not {text}; min_chn takes a fraction")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {text}") from None
    low, high = (-HALF_MAX, HALF_MAX) if name.startswith("var") else (0, 255)
    if not low <= value <= high:
        raise ValueError(f"{name} is {text}, outside {low}..{high}")
    return value
