"""The rungs of the accuracy ladder: which there are, and how far two of them are apart.

A rung is one way to run the network on the same pictures. Its outputs and detections are files.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import ssd_ascend
from ssd_boxes import match_boxes
from ssd_files import OUTPUT_NAMES, KitError, output_paths, read_json, read_outputs
from ssd_layers import Difference, count_int8

SAME_IOU = 0.9  # two detections this near to each other are the same


class Rung(NamedTuple):
    """What to say of a rung: how to get it if it is missing, where to look if it loses."""

    make: str
    look: str


RUNGS = {  # from the top
    "pytorch": Rung("give the checkpoint with --pth_path", "the checkpoint"),
    "float32": Rung(
        "make it with ssd_pth2onnx.py", "the export: was the ONNX file made of this checkpoint?"
    ),
    "uint8": Rung(
        "make it with ssd_pth2onnx.py --input uint8",
        "the uint8 inputs (RGB, not BGR; not normalised) and the normalisation in the model",
    ),
    "int8": Rung(
        "make it with ssd_quantize.py",
        "the pictures of the calibration, and layers that should stay in float (--skip)",
    ),
    "om": Rung(
        "make it with test/ssd_pth2om.sh where atc is",
        "atc's precision (--precision_mode_v2=origin), and with AIPP mean, scale and RGB order",
    ),
}
LOOK_FIRST = (
    "what all rungs share: pictures in BGR or resized by another library, the order of the "
    "categories in the annotation file, the checkpoint, the goal itself"
)
LOOK_LABELS = "the order of the labels (the boxes are found again under other ones)"


def compare_outputs(
    above: Path, below: Path, image_ids: Iterable[int], labels: int
) -> dict[str, dict[str, float]]:
    """Compare the raw outputs in two folders, over all images: ploc, plabel, and both as `all`.

    Returns largest and mean absolute difference and cosine of each.
    Raises KitError if an image has no outputs in one of them.
    """
    folders = [(folder, output_paths(folder)) for folder in (above, below)]
    sums = {name: Difference() for name in OUTPUT_NAMES}
    for image_id in tqdm(image_ids, "compare", unit="image", disable=None):
        pair = []
        for folder, found in folders:
            if image_id not in found:
                raise KitError(f"{folder}: no outputs of image {image_id}; run the ladder again")
            pair.append(read_outputs(found[image_id], labels))
        for name, first, second in zip(OUTPUT_NAMES, *pair, strict=True):
            sums[name].add(first, second)
    both = Difference()
    for one in sums.values():
        both.join(one)
    return {
        name: {"max_abs": one.max_abs, "mean_abs": one.mean_abs, "cosine": one.cosine}
        for name, one in (sums | {"all": both}).items()
    }


def by_image(rows: np.ndarray) -> dict[int, np.ndarray]:
    """Split result rows (K, 7) by image, the best score first in each."""
    rows = rows[np.lexsort((-rows[:, 5], rows[:, 0]))]
    ids, starts = np.unique(rows[:, 0], return_index=True)
    return dict(zip(ids.astype(int).tolist(), np.split(rows, starts[1:]), strict=False))


def share_found(above: np.ndarray, below: np.ndarray, any_label: bool = False) -> float | None:
    """Return the share of the detections `above` that are among those `below` of the same picture.

    above, below: result rows (K, 7), pixels. A pair has an IoU of SAME_IOU or more and, unless
    `any_label`, one label; each detection is in one pair at most, the best above choose first.
    None if there is nothing above.
    """
    found, lower = 0, by_image(below)
    for image_id, a in by_image(above).items():
        b = lower.get(image_id, below[:0])
        ltrb = [np.hstack([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]]) for rows in (a, b)]
        allowed = (a[:, None, 6] == b[None, :, 6]) | any_label  # (K, M)
        found += int((match_boxes(*ltrb, allowed, SAME_IOU) >= 0).sum())
    return found / len(above) if len(above) else None


def precision(model: Path, provider: str) -> str:
    """Say what a model computes in, as its file and the device tell it; `not known` if neither."""
    if model.suffix == ".om":
        return f"atc: {ssd_ascend.read_sidecar(model)['mode']}"
    if model.suffix != ".onnx":  # as ssd_engines.TorchEngine has it
        return "float32" if provider == "cpu" else "float16"
    try:
        int8, total = count_int8(model)
    except KitError:  # an inference host may lack the package onnx
        return "not known"
    return f"INT8 in {int8} of {total} convolutions" if int8 else "float32"


def make_row(folder: Path, rung: str, above: dict[str, Any] | None) -> dict[str, Any]:
    """Return the table's row of a rung; `above` is that of the rung above it, None for the first.

    Raises KitError if it was compared with another rung or scored on other images.
    """
    result = read_json(folder / f"{rung}_result.json")
    summary = read_json(folder / f"{rung}_summary.json")
    row = {"rung": rung, "above": above and above["rung"]}
    row |= {key: summary.get(key) for key in ("engine", "provider", "model", "model_sha256")}
    row["precision"] = precision(Path(row["model"]), row["provider"])
    row |= {"map": result["stats"]["AP"], "ap50": result["stats"]["AP50"]}
    row |= {"scored": result["scored"], "change": None}
    if above:
        against = read_json(folder / f"{rung}_against.json")
        if (against["above"], row["scored"]) != (row["above"], above["scored"]):
            raise KitError(f"{folder}: {rung} is of another run; run the ladder again")
        row["change"] = points(row["map"], above["map"])
        row |= against["raw"]["all"] | against
    return row


def points(value: float, reference: float) -> float:
    """Return the difference of two mAP (0..1) in points, without float64's last digits."""
    return round(100 * (value - reference), 6)


def judge(rows: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """Name the first row whose `change` is a loss of more than `tolerance` points.

    Returns `lost` (None if there is none), what is `above` it, and where to `look`.
    """
    row = next((r for r in rows if r["change"] is not None and r["change"] < -tolerance), None)
    if row is None:
        return {"lost": None}
    look = RUNGS[row["rung"]].look if row["above"] else LOOK_FIRST
    same, anyhow = row.get("matched") or 0.0, row.get("matched_any_label") or 0.0
    if anyhow > 0.5 and same < anyhow / 2:
        look = f"{LOOK_LABELS}; {look}"
    return {"lost": row["rung"], "above": row["above"] or "the goal", "look": look}
