#!/usr/bin/env python3
"""Time the stages around the model, each against its baseline in the same run, and print ratios.

Baselines: torchvision's transforms in one process; a per-label decoding in PyTorch; the bare
session.run loop. Rounds alternate, medians are compared, as machines are shared and noisy.

Example:
  python3 bench/bench_stages.py --data ../shared/coco_tiny --model ssd_bs1.onnx
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import ssd_preprocess
from ssd import engines, workers
from ssd.boxes import SSD300, candidates, default_boxes
from ssd.detections import decode_image
from ssd.engines.inference import run_to_files
from ssd.tensors import tensor_files, tensor_stem
from ssd.workers import num_cpus

from no_time import LABELS, raw_outputs

ROUNDS = 5


def compare(
    name: str,
    goal: float,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    before: Callable[[], object] = lambda: None,
) -> None:
    """Time both in turns, each after an untimed `before`, and print one line of the table."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for work, found in zip((theirs, ours), seconds, strict=True):
            before()
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    base, own = (statistics.median(found) for found in seconds)
    print(f"{name:<34}{base:>11.4f}{own:>11.4f}{base / own:>9.2f}x{goal:>8.2f}x", flush=True)


def empty(folder: Path) -> None:
    """Make `folder` new: writing over a file takes another time than making one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def torchvision_way(paths: list[Path], folder: Path) -> None:
    """Preprocess images as the reference does, in this process."""
    transforms = torchvision.transforms
    steps = [transforms.Resize((SSD300.input_size,) * 2), transforms.ToTensor()]
    steps.append(transforms.Normalize(SSD300.mean, SSD300.std))
    transform = transforms.Compose(steps)
    for i, path in enumerate(paths):
        tensor = transform(Image.open(path).convert("RGB"))
        tensor.numpy().tofile(folder / f"{tensor_stem(i)}.bin")


def stage_way(paths: list[Path], sizes: list[tuple[int, int]], folder: Path) -> None:
    """Preprocess images with the stage's workers, their start included; sizes: width and height."""
    targets = [folder / f"{tensor_stem(i)}.bin" for i in range(len(paths))]
    jobs = zip(paths, sizes, targets, repeat("float32"), repeat(False))
    with workers.Pool(ssd_preprocess.preprocess, num_cpus()) as pool:
        assert not any(pool.map(jobs))


def per_label_torch(ploc: torch.Tensor, plabel: torch.Tensor, defaults: torch.Tensor) -> None:
    """Decode label by label, as the reference does."""
    xy = ploc.T[:, :2] * 0.1 * defaults[:, 2:] + defaults[:, :2]
    wh = (ploc.T[:, 2:] * 0.2).exp() * defaults[:, 2:]
    boxes = torch.cat([xy - wh / 2, xy + wh / 2], dim=1)
    scores = plabel.T.softmax(dim=1)
    kept = []
    for label in range(1, LABELS):
        mask = scores[:, label] > 0.05
        if not mask.any():
            continue
        score, order = scores[mask, label].sort(descending=True)
        score, box = score[:200], boxes[mask][order[:200]]
        while len(box):
            kept.append((box[0], score[0], label))
            iou = torchvision.ops.box_iou(box[:1], box[1:])[0]
            box, score = box[1:][iou < 0.5], score[1:][iou < 0.5]
    sorted(kept, key=lambda one: -one[1])[:200]


def bench_decode(name: str, count: int, goal: float) -> None:
    ploc, plabel = raw_outputs(count)
    defaults = torch.from_numpy(default_boxes().copy())
    tensors = torch.from_numpy(ploc), torch.from_numpy(plabel), defaults
    found = len(candidates(ploc, plabel).boxes)
    image, ids = {"id": 1, "width": 640, "height": 480}, np.arange(1, LABELS)
    ours = partial(decode_image, image, ploc, plabel, ids)
    theirs = partial(per_label_torch, *tensors)
    ours(), theirs()
    compare(f"decode, {name} ({found} candidates)", goal, ours, theirs)


def bench_infer(model: Path, inputs: Path, scratch: Path) -> None:
    engine = engines.open_engine(model)
    paths, size = tensor_files(inputs)[:40], engine.batch or 1
    batch = np.zeros((size, *engine.shape), engine.dtype)

    def bare() -> None:
        for _ in range(-(-len(paths) // size)):
            engine.run(batch)

    bare()
    ours = partial(run_to_files, engine, paths, size, 1, scratch, "BIN")
    compare("inference, file to file", 0.95, ours, bare)


def main() -> None:
    global ROUNDS
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="holds val2017/")
    parser.add_argument("--model", metavar="FILE", type=Path, help="also time inference with it")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    args = parser.parse_args()
    ROUNDS = args.rounds
    torch.set_num_threads(1)  # small tensors: on a busy machine more threads only slow them down
    images = sorted((args.data / "val2017").glob("*.jpg"))
    images *= max(1, 400 // len(images))
    sizes = [Image.open(path).size for path in images]
    print(f"{'':<34}{'baseline s':>11}{'ours s':>11}{'ratio':>10}{'goal':>9}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        inputs = scratch / "in"
        pair = partial(stage_way, images, sizes, inputs), partial(torchvision_way, images, inputs)
        compare(f"preprocess, {len(images)} images", 1.8, *pair, partial(empty, inputs))
        bench_decode("clean", 40, 4)
        bench_decode("crowded", 3000, 20)
        if args.model:
            bench_infer(args.model, inputs, scratch)


if __name__ == "__main__":
    main()
