"""How far two runs agree: raw outputs, and detections."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ssd.boxes import match_boxes
from ssd.cli import KitError, progress
from ssd.detections import Detections
from ssd.tensors import OUTPUT_NAMES, output_paths, read_outputs

import numpy as np


class Difference:
    """Sums over pairs of arrays, from which all figures follow; in float64.

    cosine: similarity of everything as one vector; 1 if both are all zero, 0 if only one is.
    max_abs, mean_abs: of the elementwise differences. All three are NaN if any value is; before the
    first pair they are 1, 0 and 0.
    """

    def __init__(self) -> None:
        self.products = np.zeros(3)  # first·second, first·first, second·second
        self.largest = 0.0
        self.total = 0.0
        self.count = 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Count in a pair of the same shape."""
        a, b = (array.reshape(-1).astype(np.float64) for array in (first, second))
        apart = np.abs(a - b)
        self.products += (a @ b, a @ a, b @ b)
        self.largest = float(np.maximum(self.largest, apart.max(initial=0.0)))
        self.total += float(apart.sum())
        self.count += a.size

    def join(self, other: "Difference") -> None:
        """Count in all pairs of another."""
        self.products += other.products
        self.largest = float(np.maximum(self.largest, other.largest))
        self.total += other.total
        self.count += other.count

    @property
    def cosine(self) -> float:
        both, first, second = self.products
        if first == 0 or second == 0:
            return float(first == second)
        return min(float(both / np.sqrt(first) / np.sqrt(second)), 1.0)

    @property
    def max_abs(self) -> float:
        return self.largest

    @property
    def mean_abs(self) -> float:
        return self.total / max(self.count, 1)


SAME_IOU = 0.9  # two detections that overlap this much count as the same


def compare_outputs(
    above: Path, below: Path, image_ids: Iterable[int], labels: int
) -> dict[str, dict[str, float]]:
    """Compare the raw outputs in two folders, over all images: ploc, plabel, and both as `all`.

    Returns largest and mean absolute difference and cosine of each.
    Raises KitError if an image has no outputs in one of them.
    """
    folders = [(folder, output_paths(folder)) for folder in (above, below)]
    sums = {name: Difference() for name in OUTPUT_NAMES}
    for image_id in progress(image_ids, "comparison"):
        pair = []
        for folder, found in folders:
            if image_id not in found:
                raise KitError(f"{folder}: no outputs of image {image_id}; run the ladder again")
            pair.append(read_outputs(found[image_id], labels))
        for name, first, second in zip(OUTPUT_NAMES, *pair, strict=True):
            sums[name].add(first, second)
    both = Difference()
    for difference in sums.values():
        both.join(difference)
    return {
        name: {
            "max_abs": difference.max_abs,
            "mean_abs": difference.mean_abs,
            "cosine": difference.cosine,
        }
        for name, difference in (sums | {"all": both}).items()
    }


def match_rate(above: Detections, below: Detections, any_label: bool = False) -> float | None:
    """Return the share of the detections `above` that are among those `below` of the same image.

    A pair has an IoU of SAME_IOU or more and, unless `any_label`, one category; each detection is
    in one pair at most, the best above choose first. None if there is nothing above.
    """
    found, lower = 0, below.by_image()
    for image_id, a in above.by_image().items():
        b = lower.get(image_id, below[:0])
        allowed = (a.category_id[:, None] == b.category_id) | any_label  # (K, M)
        found += int((match_boxes(a.ltrb, b.ltrb, allowed, SAME_IOU) >= 0).sum())
    return found / len(above) if len(above) else None


def rank_falls(falls: Sequence[float]) -> list[int]:
    """Return the places of layers that fall, by how far they do, negative: the first comes first.

    The others follow by depth. No number is the deepest fall.
    """
    deepest = np.nan_to_num(np.asarray(falls, np.float64), nan=-np.inf)
    return [*range(len(deepest))[:1], *(1 + np.argsort(deepest[1:], kind="stable")).tolist()]
