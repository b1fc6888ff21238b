"""What quantising a model gains and costs: candidates judged, and printed as a table."""

import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import ssd_coco
import ssd_score
from ssd_boxes import INPUT_SIZE
from ssd_engines import Engine, open_engine
from ssd_files import KitError, tensor_id
from ssd_int8 import Quantiser, read_picture, run_pictures, spread
from ssd_layers import Difference
from ssd_rungs import share_found

MAX_LOST = 0.02  # of mAP, for a model to be good
MIN_SAME = 0.92  # share of the float model's detections found again; where there is no mAP
SCORED = 500  # pictures that mAP is measured on at most
COMPARED = 64  # without a data set: the outputs of these are kept in memory
TURNS, RUNS = 6, 3  # for the speed the models run in turn, RUNS times each
WIDTH = 80  # columns of the table


class Verdict(NamedTuple):
    """What a judge says of a model: two figures for the table, and whether `auto` accepts them."""

    first: float
    second: float
    good: bool


class MapJudge:
    """Scores models on the pictures of a data set that are in the calibration folder."""

    heads = ("mAP", "lost")

    def __init__(self, paths: list[Path], data: ssd_coco.DataSet, floats: Engine) -> None:
        files = {tensor_id(path): path for path in paths}
        images = spread([image for image in data.selected if image["id"] in files], SCORED)
        if not images:
            raise KitError(
                f"{paths[0].parent}: no picture of {data.annotation}; make it with "
                "ssd_preprocess.py from that data set"
            )
        self.ids = ssd_coco.category_ids(data.instances)
        if len(self.ids) + 1 != floats.labels:
            raise KitError(
                f"{data.annotation}: {len(self.ids)} categories, the model has "
                f"{floats.labels - 1}; give the data set of this model"
            )
        self.data, self.images = data, images
        self.paths = [files[image["id"]] for image in images]
        self.pictures = f"mAP of {len(images)} of {len(data.selected)} pictures"
        self.reference = Verdict(self.mean_ap(floats), 0.0, True)

    def mean_ap(self, engine: Engine) -> float:
        outputs = run_pictures(engine, progress(self.paths, "score"))
        rows = [
            ssd_coco.results(image, *pair, self.ids)
            for image, pair in zip(self.images, outputs, strict=True)
        ]
        joined = ssd_coco.join_results(self.data.annotation, self.images, rows)
        ids = [image["id"] for image in self.images]
        return ssd_score.score(self.data.instances, joined, ids).stats["AP"]

    def judge(self, engine: Engine) -> Verdict:
        value = self.mean_ap(engine)
        lost = self.reference.first - value
        return Verdict(value, lost, lost <= MAX_LOST)


class SameJudge:
    """Compares models with the float one on calibration pictures, where there is no data set."""

    heads = ("same", "cosine")
    reference = Verdict(1.0, 1.0, True)

    def __init__(self, paths: list[Path], floats: Engine) -> None:
        self.paths = spread(paths, COMPARED)
        self.pictures = f"detections of {len(self.paths)} pictures"
        self.ids = np.arange(1, floats.labels)
        self.outputs = list(run_pictures(floats, progress(self.paths, "compare")))
        self.rows = self.decode(self.outputs)

    def decode(self, outputs: list[list[np.ndarray]]) -> np.ndarray:
        size = {"width": INPUT_SIZE, "height": INPUT_SIZE}
        images = [{"id": i} | size for i in range(len(self.paths))]
        rows = [
            ssd_coco.results(image, *pair, self.ids)
            for image, pair in zip(images, outputs, strict=True)
        ]
        return ssd_coco.join_results(self.paths[0].parent, images, rows)

    def judge(self, engine: Engine) -> Verdict:
        outputs = list(run_pictures(engine, progress(self.paths, "compare")))
        moved = Difference()
        for pair, other in zip(self.outputs, outputs, strict=True):
            for one, two in zip(pair, other, strict=True):
                moved.add(one, two)
        same = share_found(self.rows, self.decode(outputs))
        same = 1.0 if same is None else same
        return Verdict(same, moved.cosine, same >= MIN_SAME)


class Table:
    """Makes INT8 models, prints a line of each, and keeps what the lines say."""

    def __init__(self, quantiser: Quantiser, judge: MapJudge | SameJudge, floats: Engine) -> None:
        self.quantiser, self.judge, self.floats = quantiser, judge, floats
        self.picture = read_picture(judge.paths[0], quantiser.dtype)[None]
        self.verdicts: list[Verdict] = []

    def print_line(self, int8: float, speed: float, verdict: Verdict, skip: list[str]) -> None:
        figures = f"{100 * int8:5.0f} %{speed:8.2f}{verdict.first:9.4f}{verdict.second:9.4f}  "
        text = textwrap.wrap(", ".join(skip), WIDTH - len(figures), break_on_hyphens=False)
        print(figures + ("\n" + " " * len(figures)).join(text), flush=True)

    def begin(self) -> None:
        print(f"{self.judge.pictures}; speed: times float32, one picture at a time")
        head = "".join(f"{name:>9}" for name in self.judge.heads)
        print(f"{'INT8':>7}{'speed':>8}{head}  left in float")
        self.print_line(0, 1, self.judge.reference, ["everything"])

    def add(self, skip: list[str], names: list[str]) -> Verdict:
        """Judge the model whose nodes `skip` stay in float; `names` tell them in the table."""
        target = self.quantiser.scratch / "candidate.onnx"
        self.quantiser.make(skip, target)
        engine = open_engine(target)
        verdict = self.judge.judge(engine)
        speed = time_ratio(self.floats, engine, self.picture)
        self.print_line(self.quantiser.int8_share(skip), speed, verdict, names or ["nothing"])
        self.verdicts.append(verdict)
        return verdict


def float_steps(noise: dict[str, float], work: dict[str, int]) -> Iterator[list[str]]:
    """Yield blocks to leave in float: so many that half of the noise goes, then half again, ...

    noise, work: as `Quantiser.noise` and `Quantiser.block_work` give them. Those go first that
    give most noise for their work, so that little speed is lost. The last step leaves one in INT8.
    """
    order = sorted(noise, key=lambda block: noise[block] / max(work[block], 1))
    chosen: list[str] = []
    left = sum(noise.values())
    while len(order) > 1 and left > 0:
        goal = left / 2
        while len(order) > 1 and left > goal:
            chosen.append(order.pop())
            left -= noise[chosen[-1]]
        yield list(chosen)


def progress(paths: list[Path], what: str) -> tqdm:
    return tqdm(paths, what, unit="image", disable=None, leave=False)


def time_ratio(first: Engine, second: Engine, picture: np.ndarray) -> float:
    """Return how many times quicker `second` is, by the medians of runs in turn."""
    seconds: list[list[float]] = [[], []]
    for _ in range(TURNS):
        for engine, kept in zip((first, second), seconds, strict=True):
            engine.run(picture)  # not counted: the other's threads still look for work
            for _ in range(RUNS):
                start = time.perf_counter()
                engine.run(picture)
                kept.append(time.perf_counter() - start)
    return float(np.median(seconds[0]) / np.median(seconds[1]))
