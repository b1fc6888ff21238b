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
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import ssd_boxes
import ssd_engines
import ssd_infer
import ssd_preprocess
import ssd_stream
from ssd_files import num_cpus, tensor_files, tensor_stem

LABELS = 81
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
    """Preprocess pictures as the reference does, in this process."""
    transforms = torchvision.transforms
    steps = [transforms.Resize((ssd_boxes.INPUT_SIZE,) * 2), transforms.ToTensor()]
    steps.append(transforms.Normalize(ssd_boxes.MEAN, ssd_boxes.STD))
    transform = transforms.Compose(steps)
    for i, path in enumerate(paths):
        tensor = transform(Image.open(path).convert("RGB"))
        tensor.numpy().tofile(folder / f"{tensor_stem(i)}.bin")


def stage_way(paths: list[Path], folder: Path) -> None:
    """Preprocess pictures with the stage's own worker, pool start included."""
    jobs = [(path, folder / f"{tensor_stem(i)}.bin", "float32") for i, path in enumerate(paths)]
    with ProcessPoolExecutor(num_cpus()) as pool:
        work = pool.map(ssd_preprocess.preprocess_job, jobs, chunksize=ssd_preprocess.CHUNK)
        assert not any(work)


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


def raw_outputs(candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs with about so many scores above the threshold."""
    rng = np.random.default_rng(0)
    ploc = rng.normal(0, 1, (4, ssd_boxes.NUM_BOXES)).astype(np.float32)
    plabel = rng.normal(0, 0.5, (LABELS, ssd_boxes.NUM_BOXES)).astype(np.float32)
    plabel[0] += 10
    boxes = rng.choice(ssd_boxes.NUM_BOXES, candidates, replace=False)
    plabel[rng.integers(1, LABELS, candidates), boxes] = 12
    return ploc, plabel


def bench_decode(name: str, candidates: int, goal: float) -> None:
    ploc, plabel = raw_outputs(candidates)
    defaults = torch.from_numpy(ssd_boxes.default_boxes().copy())
    tensors = torch.from_numpy(ploc), torch.from_numpy(plabel), defaults
    found = len(ssd_boxes.candidates(plabel)[0])
    ours, theirs = partial(ssd_boxes.decode, ploc, plabel), partial(per_label_torch, *tensors)
    ours(), theirs()
    compare(f"decode, {name} ({found} candidates)", goal, ours, theirs)


def bench_infer(model: Path, inputs: Path, scratch: Path) -> None:
    engine = ssd_engines.open_engine(model)
    paths, size = tensor_files(inputs)[:40], engine.batch or 1
    batch = np.zeros((size, *engine.shape), engine.dtype)

    def bare() -> None:
        for _ in range(-(-len(paths) // size)):
            engine.run(batch)

    def files() -> None:
        pool = ThreadPoolExecutor(ssd_infer.WRITERS)
        sink = ssd_stream.Sink(pool, ssd_infer.write_outputs, ssd_stream.AHEAD * size)
        put = lambda path, outputs: sink.put(scratch / path.stem, outputs, "BIN")  # noqa: E731
        ssd_stream.run_files(engine, paths, size, 1, put)
        sink.close()

    bare()
    compare("inference, file to file", 0.95, files, bare)


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
    pictures = sorted((args.data / "val2017").glob("*.jpg"))
    pictures *= max(1, 400 // len(pictures))
    print(f"{'':<34}{'baseline s':>11}{'ours s':>11}{'ratio':>10}{'goal':>9}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        inputs = scratch / "in"
        pair = partial(stage_way, pictures, inputs), partial(torchvision_way, pictures, inputs)
        compare(f"preprocess, {len(pictures)} pictures", 1.8, *pair, partial(empty, inputs))
        bench_decode("clean", 40, 4)
        bench_decode("crowded", 3000, 20)
        if args.model:
            bench_infer(args.model, inputs, scratch)


if __name__ == "__main__":
    main()
