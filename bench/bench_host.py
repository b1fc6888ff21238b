#!/usr/bin/env python3
"""Time what surrounds a card that answers at once, and print it beside its goal.

Best of the rounds, and in brackets the worst. Machines are shared and noisy, so all times but those
of `in process` are processor time, of all threads, which other users disturb least. The serial part
is what more cores do not share: twice the time on two cores less the time on one; and, which others
disturb less, the processor time of the main thread, as the rest is done by threads and processes.

Example:
  OMP_NUM_THREADS=1 python3 bench/bench_host.py --data ../shared/coco_tiny
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ssd import coco, coco_eval
from ssd.detections import Detections, decode_image
from ssd.images import resize, shrink

import numpy as np
from no_time import make_data, raw_outputs
from PIL import Image

HERE = Path(__file__).parent
VAL2017, BOXES = 4952, 106  # images that are scored, and detections of each: 525,000
STAGES = ("prepare-json", "ssd_preprocess", "ssd_infer", "ssd_postprocess", "ssd_report")


def show(what: str, goal: str, found: list[float], unit: str, more: str = "") -> None:
    """Print a line: the best and the worst of several measurements."""
    times = f"{min(found):>9.2f} ({max(found):.2f}) {unit}"
    print(f"{what:<50}{times:<24}goal {goal:<6}{more}".rstrip(), flush=True)


def busy() -> float:
    """Return the seconds of processor time so far, of this process and of those that have ended."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def timed(work: Callable[[], object]) -> float:
    """Return the milliseconds of processor time that `work` takes, here and in what it starts."""
    start = busy()
    work()
    return 1000 * (busy() - start)


def around_a_card(data: Path, cores: int, *options: str) -> dict[str, float]:
    """Return what no_time.py measures."""
    command = [sys.executable, HERE / "no_time.py", "--source", data, "--cores", str(cores)]
    return json.loads(subprocess.run([*command, *options], check=True, stdout=-1).stdout)


def bench_in_process(data: Path, rounds: int) -> None:
    kinds = {
        "float32": [],
        "float16 outputs, uint8 inputs": ["--output=float16", "--input=uint8"],
        "from JPEG files": ["--images"],
    }
    for name, options in kinds.items():
        runs = [[around_a_card(data, n, *options) for n in (1, 2)] for _ in range(rounds)]
        single, double = ([run[i]["wall"] for run in runs] for i in (0, 1))
        serial = 2 * min(double) - min(single)
        more = f"{1000 / min(double):.0f} images/s, serial part {max(serial, 0):.2f} ms"
        goal = "1.43" if "JPEG" not in name else "-"
        show(f"in process, {name}", goal, double, "ms", more)
        show("  its processor time", "-", [run[1]["processor"] for run in runs], "ms")
        main = [run[1]["main_thread"] for run in runs]
        show("  that of the main thread, which none shares", "0.5", main, "ms")
    peaks = [around_a_card(data, 2, f"--count={n}")["peak"] for n in (80, 5000)]
    show("  its memory, 80 images and 5000", "1000", peaks, "MB")


def bench_decode(rounds: int) -> None:
    image, ids = {"id": 1, "width": 640, "height": 480}, np.arange(1, 81)
    for boxes, goal in ((40, "0.8"), (141, "-"), (3000, "-")):
        raw = [[part.copy() for part in raw_outputs(boxes)] for _ in range(32)]  # past all caches
        work = lambda raw=raw: [decode_image(image, *one, ids) for one in raw]  # noqa: E731
        found = [timed(work) / len(raw) for _ in range(rounds)]
        show(f"decode, {boxes} boxes that are sure", goal, found, "ms")


def bench_images(data: Path, rounds: int) -> None:
    paths = sorted((data / coco.IMAGE_FOLDER).glob("*.jpg"))
    by_pil = lambda path: shrink(Image.open(path).convert("RGB"))  # noqa: E731
    ways: dict[str, list[float]] = {"PIL": [], "ours": []}
    for _ in range(rounds):
        for found, way in zip(ways.values(), (by_pil, resize), strict=True):
            found.append(timed(lambda way=way: [way(path) for path in paths]) / len(paths))
    ratio = min(ways["PIL"]) / min(ways["ours"])
    more = f"{ratio:.2f}x as fast as PIL, {min(ways['PIL']):.2f}"
    show("JPEG to 300 x 300, one core", "3.0", ways["ours"], "ms", more)


def jittered(instances: dict, boxes: int) -> Detections:
    """Return so many detections in each image near its annotations, many of equal score."""
    rng = np.random.default_rng(0)
    rows = [(a["image_id"], *a["bbox"], a["category_id"]) for a in instances["annotations"]]
    table = np.array(rows, np.float64)
    images = len(instances["images"])
    chosen = table[rng.integers(len(table), size=images * boxes)]
    corner = chosen[:, 1:3] + rng.normal(0, 0.1, (len(chosen), 2)) * chosen[:, 3:5]
    ltrb = np.hstack([corner, corner + chosen[:, 3:5]]).astype(np.float32)
    score = rng.random(len(chosen)).round(3).astype(np.float32)
    return Detections(chosen[:, 0].astype(int), ltrb, score, chosen[:, 5].astype(int))


def bench_score(data: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = make_data(data, Path(folder) / "data", VAL2017)
        instances = coco.read_instances(made / coco.INSTANCES)
    found = jittered(instances, BOXES)
    ids = [image["id"] for image in instances["images"]]
    seconds = [timed(lambda: coco_eval.score(instances, found, ids)) / 1000 for _ in range(rounds)]
    show(f"scoring {VAL2017} images, {len(found)} boxes", "1", seconds, "s")


def bench_evaluation(data: Path) -> None:
    run = around_a_card(data, 2, "--images", f"--count={VAL2017}")
    seconds = run["wall"] * VAL2017 / 1000
    show(f"JPEG to detections, {VAL2017} images, no network", "60", [seconds], "s")


def bench_starts(rounds: int) -> None:
    for stage in STAGES:
        command = [sys.executable, HERE.parent / f"{stage}.py", "--help"]
        run = lambda command=command: subprocess.run(command, check=True, stdout=-3)  # noqa: E731
        run()
        show(f"start of {stage}.py", "0.6", [timed(run) / 1000 for _ in range(rounds)], "s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="holds val2017/")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    args = parser.parse_args()
    bench_decode(args.rounds)
    bench_images(args.data, args.rounds)
    bench_score(args.data, args.rounds)
    bench_starts(args.rounds)
    bench_in_process(args.data, args.rounds)
    bench_evaluation(args.data)


if __name__ == "__main__":
    main()
