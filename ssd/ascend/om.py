"""An .om file's sidecar (what it was made from and with), and its AIPP config."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from ssd.boxes import SSD300
from ssd.cli import KitError
from ssd.files import read_record, sha256


def aipp_config() -> str:
    """Return the static AIPP config that does what ssd_preprocess.py does to float32 inputs.

    out = (in - min_chn) * var_reci_chn, on bytes; from the one mean and std of ssd.boxes.
    """
    lines = [
        "aipp_mode: static",
        "input_format: RGB888_U8",
        f"src_image_size_w: {SSD300.input_size}",
        f"src_image_size_h: {SSD300.input_size}",
        "csc_switch: false",
        "rbuv_swap_switch: false",
    ]
    lines += [f"min_chn_{i}: {255 * mean:.10g}" for i, mean in enumerate(SSD300.mean)]
    lines += [f"var_reci_chn_{i}: {1 / (255 * std):.16f}" for i, std in enumerate(SSD300.std)]
    return "aipp_op {\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


def sidecar_path(model: Path) -> Path:
    """Return the file beside a .om that says what it was made from and with."""
    return model.with_name(f"{model.name}.json")


def om_sha256(model: Path) -> str:
    """Return a .om's SHA-256, computed once while the file stays as it is: a run asks for it often.

    Raises OSError if it is missing.
    """
    status = model.stat()
    return _sha256(model, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=8)
def _sha256(model: Path, *_: int) -> str:
    return sha256(model)


def read_sidecar(model: Path) -> dict[str, Any]:
    """Return what ssd_onnx2om.py noted of a .om; without a note it takes float32, NCHW.

    Raises KitError if the note is of another file.
    """
    path = sidecar_path(model)
    if not path.exists():
        return {"input_dtype": "float32", "batch": None, "mode": "no note beside the .om"}
    sidecar = read_record(path)
    if sidecar.get("om_sha256") != om_sha256(model):
        raise KitError(f"{path}: is that of another {model.name}; convert again (ssd_onnx2om.py)")
    return sidecar


def batch_of(model: Path) -> int | None:
    """Return a .om's batch size by its note; None if it takes several, or has no note."""
    batch = read_sidecar(model)["batch"]
    return batch if isinstance(batch, int) else None


def takes_batches(model: Path) -> bool:
    """Return whether a .om takes several batch sizes, by its note or, without one, its name."""
    batch = read_sidecar(model)["batch"]
    return isinstance(batch, list) or (batch is None and model.stem.startswith("ssd_dynamic"))
