#!/usr/bin/env python3
"""A data set of any size with a card that answers at once, to time what is around the card.

The engine returns the same outputs for each batch; the data set's images are links to a few real
ones. Run by bench_host.py, one measurement a process, on the processors that it is given.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ssd import coco
from ssd.boxes import SSD300
from ssd.detections import write_detections
from ssd.engines.in_process import images_of, run_to_detections
from ssd.files import write_json
from ssd.machine import peak_memory
from ssd.tensors import INPUT_SHAPES, tensor_stem

import numpy as np

LABELS = 81
SIZE = 16  # batch


def raw_outputs(boxes: int, labels: int = LABELS) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs of one image with so many boxes that are sure of a label."""
    rng = np.random.default_rng(0)
    ploc = rng.normal(0, 1, (4, SSD300.num_boxes)).astype(np.float32)
    plabel = rng.normal(0, 0.5, (labels, SSD300.num_boxes)).astype(np.float32)
    plabel[0] += 10
    chosen = rng.choice(SSD300.num_boxes, boxes, replace=False)
    plabel[rng.integers(1, labels, boxes), chosen] = 12
    return ploc, plabel


class Card:
    """An engine of no time."""

    name, provider, batch, labels, checkpoint = "none", "none", SIZE, LABELS, None

    def __init__(self, dtype: str, output: str, boxes: int) -> None:
        self.dtype, self.shape = dtype, INPUT_SHAPES[dtype]
        single = raw_outputs(boxes)
        self.outputs = [np.stack([array.astype(output)] * SIZE) for array in single]

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return self.outputs


def make_data(source: Path, folder: Path, count: int) -> Path:
    """Write a data set of `count` images, links to those of `source`, with their annotations.

    Without polygons, as the evaluation has them: they would be most of the memory.
    """
    instances = coco.prepare(coco.read_instances(source / coco.INSTANCES), keep_keys=True)
    of_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in instances["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    (folder / coco.IMAGE_FOLDER).mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        image = instances["images"][i % len(instances["images"])]
        name = f"{i + 1:012}.jpg"
        os.symlink(
            (source / coco.IMAGE_FOLDER / image["file_name"]).resolve(),
            folder / coco.IMAGE_FOLDER / name,
        )
        images.append(image | {"id": i + 1, "file_name": name})
        for annotation in of_image[image["id"]]:
            number = len(annotations) + 1
            annotations.append(annotation | {"id": number, "image_id": i + 1})
    write_json(folder / coco.INSTANCES, instances | {"images": images, "annotations": annotations})
    return folder


def make_inputs(folder: Path, count: int, dtype: str) -> list[Path]:
    """Make `count` input files, links to a few."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(64):
        values = rng.integers(0, 255, INPUT_SHAPES[dtype]).astype(dtype)
        values.tofile(folder / f"{i}.raw")
    paths = [folder / f"{tensor_stem(i + 1)}.bin" for i in range(count)]
    for i, path in enumerate(paths):
        os.symlink(folder / f"{i % 64}.raw", path)
    return paths


def measure(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run the in-process route over the data set; return what it took for an image."""
    data_folder = make_data(args.source, folder / "data", args.count)
    paths = make_inputs(folder / "in", args.count, args.input)
    data = coco.read_data(data_folder, all_images=True)
    card = Card(args.input, args.output, args.boxes)
    (folder / "out").mkdir()
    before, alone, start = sum(os.times()[:4]), time.thread_time(), time.perf_counter()
    sources = list(zip(data.selected, images_of(data) if args.images else paths, strict=True))
    rest = data, folder / "out", args.cores, args.images
    _, found, _ = run_to_detections(card, sources, SIZE, 1, *rest)
    write_detections(folder / "detections.json", found)
    seconds, busy = time.perf_counter() - start, sum(os.times()[:4]) - before
    alone = time.thread_time() - alone
    return {
        "wall": 1000 * seconds / args.count,
        "processor": 1000 * busy / args.count,
        "main_thread": 1000 * alone / args.count,
        "found": len(found) / args.count,
        "peak": peak_memory() / 1e6,  # MB
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="data set to link to")
    parser.add_argument("--count", type=int, default=1600, help="images")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--boxes", type=int, default=141, help="sure of a label")
    parser.add_argument("--input", choices=INPUT_SHAPES, default="float32")
    parser.add_argument("--output", choices=("float32", "float16"), default="float32")
    parser.add_argument("--images", action="store_true", help="from JPEG files, not input files")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(args, Path(folder))))


if __name__ == "__main__":
    main()
