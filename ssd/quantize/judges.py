"""Judges of INT8 models: by mAP, or by the detections of the float model found again."""

from pathlib import Path
from typing import NamedTuple

from ssd import coco, coco_eval, detections
from ssd.agreement import Difference, match_rate
from ssd.boxes import SSD300
from ssd.cli import KitError, progress
from ssd.engines.base import Engine
from ssd.quantize.images import run_images, spread
from ssd.tensors import tensor_id

import numpy as np

MAX_DROP = 0.02  # of mAP, for a model to be good
MIN_MATCH_RATE = 0.92  # for a model to be good, where no mAP can be measured
SCORED = 500  # images that mAP is measured on at most
COMPARED = 64  # images at most without a data set: their outputs are kept in memory


class Verdict(NamedTuple):
    """A judge's verdict on a model: two figures for the table, and whether `auto` accepts them."""

    first: float
    second: float
    good: bool


class MapJudge:
    """Scores models on the images of a data set that are in the calibration folder."""

    heads = ("mAP", "drop")

    def __init__(self, paths: list[Path], data: coco.DataSet, floats: Engine) -> None:
        files = {tensor_id(path): path for path in paths}
        images = spread([image for image in data.selected if image["id"] in files], SCORED)
        if not images:
            raise KitError(
                f"{paths[0].parent}: no image of {data.annotation}; make it with "
                "ssd_preprocess.py from that data set"
            )
        self.ids = coco.category_ids(data.instances)
        if len(self.ids) + 1 != floats.labels:
            raise KitError(
                f"{data.annotation}: {len(self.ids)} categories, the model has "
                f"{floats.labels - 1}; give the data set of this model"
            )
        self.data, self.images = data, images
        self.paths = [files[image["id"]] for image in images]
        self.title = f"mAP of {len(images)} of {len(data.selected)} images"
        self.reference = Verdict(self.mean_ap(floats), 0.0, True)

    def mean_ap(self, engine: Engine) -> float:
        outputs = run_images(engine, progress(self.paths, "scoring", leave=False))
        found = [
            detections.decode_image(image, *pair, self.ids)
            for image, pair in zip(self.images, outputs, strict=True)
        ]
        joined = detections.join_images(self.data.annotation, self.images, found)
        ids = [image["id"] for image in self.images]
        value = coco_eval.score(self.data.instances, joined, ids).stats["AP"]
        if value is None:
            raise KitError(
                f"{self.data.annotation}: nothing to find in {len(ids)} images, so no mAP; give "
                "a data set with boxes (not only crowds), or none"
            )
        return value

    def judge(self, engine: Engine) -> Verdict:
        value = self.mean_ap(engine)
        drop = self.reference.first - value
        return Verdict(value, drop, drop <= MAX_DROP)


class MatchJudge:
    """Compares models with the float model on calibration images, where there is no data set."""

    heads = ("same", "cosine")
    reference = Verdict(1.0, 1.0, True)

    def __init__(self, paths: list[Path], floats: Engine) -> None:
        self.paths = spread(paths, COMPARED)
        self.title = f"detections of {len(self.paths)} images"
        self.ids = np.arange(1, floats.labels)
        self.outputs = list(run_images(floats, progress(self.paths, "comparison", leave=False)))
        self.found = self.decode(self.outputs)

    def decode(self, outputs: list[list[np.ndarray]]) -> detections.Detections:
        size = {"width": SSD300.input_size, "height": SSD300.input_size}
        images = [{"id": i} | size for i in range(len(self.paths))]
        found = [
            detections.decode_image(image, *pair, self.ids)
            for image, pair in zip(images, outputs, strict=True)
        ]
        return detections.join_images(self.paths[0].parent, images, found)

    def judge(self, engine: Engine) -> Verdict:
        outputs = list(run_images(engine, progress(self.paths, "comparison", leave=False)))
        difference = Difference()
        for expected, found in zip(self.outputs, outputs, strict=True):
            for first, second in zip(expected, found, strict=True):
                difference.add(first, second)
        rate = match_rate(self.found, self.decode(outputs))
        rate = 1.0 if rate is None else rate
        return Verdict(rate, difference.cosine, rate >= MIN_MATCH_RATE)
