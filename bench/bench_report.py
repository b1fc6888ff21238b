#!/usr/bin/env python3
"""Make a report of a large drawn data set; print how long it takes, its memory and its page's size.

Images hold noise; their true boxes are drawn at random, classes by Zipf's law, and the detections
lie near them, at wrong places or are of wrong classes. The goals are 60 s, 1 GB and 20 MB.

Example:
  python3 bench/bench_report.py --classes 1203
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from child_usage import usage_of
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 640, 480
TRUE, FOUND = 7, 100  # boxes and detections of an image, as in val2017
FILES = 50  # different images; the others are links to these
CATEGORY = "class {:04d}"


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes that lie within an image: (count, 4) xywh."""
    sides = rng.uniform(8, 200, (count, 2))
    return np.concatenate([rng.random((count, 2)) * ((WIDTH, HEIGHT) - sides), sides], axis=1)


def write_data(folder: Path, classes: int, images: int, rng: np.random.Generator) -> np.ndarray:
    """Write the images and annotations; return the boxes: (N, 6) image id, class, xywh."""
    files = folder / "val2017"
    files.mkdir(parents=True)
    for i in range(1, images + 1):
        target = files / f"{i}.jpg"
        if i > FILES:
            target.symlink_to(f"{1 + i % FILES}.jpg")
            continue
        small = Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8))
        small.resize((WIDTH, HEIGHT)).save(target)
    count = images * TRUE
    image = np.repeat(np.arange(1, images + 1), TRUE)
    true = np.column_stack([image, rng.zipf(1.2, count) % classes + 1, boxes(rng, count)])
    rows = [
        {"id": i, "image_id": int(row[0]), "category_id": int(row[1]), "bbox": row[2:].tolist()}
        | {"area": row[4] * row[5], "iscrowd": 0}
        for i, row in enumerate(true, start=1)
    ]
    size = {"width": WIDTH, "height": HEIGHT}
    entries = [{"id": i, "file_name": f"{i}.jpg"} | size for i in range(1, images + 1)]
    categories = [{"id": k, "name": CATEGORY.format(k)} for k in range(1, classes + 1)]
    instances = {"images": entries, "annotations": rows, "categories": categories}
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(instances))
    return true


def write_detections(path: Path, true: np.ndarray, classes: int, rng: np.random.Generator) -> None:
    """Write detections: three near each true box, a quarter of a wrong class, others anywhere."""
    near = np.repeat(true, 3, axis=0)
    near[:, 2:] += rng.normal(0, 0.15, (len(near), 4)) * np.tile(near[:, 4:], 2)
    near[:, 4:] = near[:, 4:].clip(2)
    wrong = rng.random(len(near)) < 0.25
    near[wrong, 1] = rng.integers(1, classes + 1, wrong.sum())
    images = int(true[:, 0].max())
    rest = images * (FOUND - 3 * TRUE)
    other = np.column_stack(
        [rng.integers(1, images + 1, rest), rng.integers(1, classes + 1, rest), boxes(rng, rest)]
    )
    scores = np.concatenate([rng.beta(2, 2, len(near)), rng.beta(1, 8, rest)]).clip(0.05)
    rows = [
        {"image_id": int(row[0]), "category_id": int(row[1]), "bbox": row[2:].tolist()}
        | {"score": score}
        for row, score in zip(np.concatenate([near, other]), scores.tolist(), strict=True)
    ]
    path.write_text(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--images", type=int, default=5000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        data, result = Path(name) / "data", Path(name) / "result"
        result.mkdir()
        true = write_data(data, args.classes, args.images, rng)
        write_detections(result / "bs1_detections.json", true, args.classes, rng)
        times = {"NPU_compute_time": {"mean": 1.0}, "npu_compute_time_list": [1.0]}
        summary = times | {"throughput": 1000.0, "model": "ssd.onnx"}
        (result / "bs1_summary.json").write_text(json.dumps(summary))
        score = [sys.executable, "ssd_postprocess.py", "--data", data, "--all-images"]
        score += ["--score-only", result / "bs1_detections.json"]
        score += ["--output", result / "bs1_result.json"]
        subprocess.run(score, cwd=ROOT, check=True, capture_output=True)
        report = [sys.executable, ROOT / "ssd_report.py", result, "--data", data, "--all-images"]
        used, size = usage_of(report), (result / "report.html").stat().st_size / 1e6
        print(f"{args.classes} classes, {args.images} images, {args.images * FOUND} detections:")
        seconds = f"{used['wall']:.0f} s ({used['busy']:.0f} s of CPU)"
        print(f"{seconds}, {used['peak'] / 1e9:.2f} GB, {size:.1f} MB")


if __name__ == "__main__":
    main()
