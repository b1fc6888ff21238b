#!/usr/bin/env python3
"""Find objects in your own images and videos, and draw them.

Reads an image, a video, a folder of them, a pattern or a camera (0); writes each with its boxes,
names and scores under its name, and with --json all that was found as detections.json, in the form
of a COCO instances file with a `score`. An image is turned as its EXIF data says; boxes are pixels
of the turned image. A camera is recorded until Ctrl-C; no window is opened. What Ctrl-C breaks off
is kept as far as it was done.

Example:
  python3 ssd_detect.py --model ssd_bs1.onnx --source photos --output out --json
"""

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path
from signal import SIGINT, Signals
from typing import Any

from ssd import coco  # a copied script needs ssd/ beside it
from ssd.cli import (
    ArgumentParser,
    KitError,
    Stop,
    Stopped,
    counted,
    first_few,
    fraction,
    note,
    printable,
    run_main,
)
from ssd.detect import media
from ssd.detect.detector import Detector, Job, detect_images, detect_video
from ssd.detect.results import Results
from ssd.detect.video import H264, BadFile, Camera, VideoFile, encoder
from ssd.engines import add_engine_arguments, model_sha256, open_engine
from ssd.files import claim_folder, digest, locked, read_lines

JSON_NAME = "detections.json"


def read_categories(labels: str | None, count: int) -> list[dict[str, Any]]:
    """Return the categories of a model's labels 1, 2, ...: `count` - 1 of them, id and name.

    labels: `coco`, a COCO-form annotation file (.json), or a text file with a name a line; None
    is coco where the count fits. Raises KitError if it does not fit.
    """
    if labels in (None, "coco"):
        categories, labels = coco.COCO_CATEGORIES, "coco"
    elif labels.lower().endswith(".json"):
        categories = coco.read_instances(Path(labels))["categories"]
    else:
        names = read_lines(Path(labels), "a name")
        categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    if len(categories) != count - 1:
        raise KitError(
            f"--labels {labels}: {len(categories)} names, the model has {count - 1} labels "
            "besides background; give a file with its names in order"
        )
    return [{"id": category["id"], "name": category["name"]} for category in categories]


def list_jobs(sources: list[Path], folder: Path) -> list[Job]:
    """Return what to do: each source, its target in `folder`, and its name.

    The name is the path from the folder that all sources have in common.
    """
    base = common_folder(sources)
    names = [os.path.relpath(os.path.abspath(source), base) for source in sources]
    names = [name.encode(errors="backslashreplace").decode() for name in names]
    return list(map(Job, sources, media.target_paths(sources, folder), names))


def common_folder(sources: list[Path]) -> str:
    return os.path.commonpath([os.path.abspath(source.parent) for source in sources])


def detect_files(jobs: list[Job], detector: Detector, results: Results, stop: Stop) -> None:
    """Run the model over images, then videos, until a signal comes.

    Raises KitError if the disk takes no more, or the model gives no numbers.
    """
    images = [job for job in jobs if not media.is_video(job.source)]
    if images:
        detect_images(images, detector, results, stop)
    for job in jobs:
        if not media.is_video(job.source) or stop.is_set():
            continue
        try:
            with closing(VideoFile(job.source)) as video:
                detect_video(video, job, detector, results, stop)
        except BadFile as error:
            results.bad.append(str(error))


def detect_camera(
    number: int, folder: Path, detector: Detector, results: Results, stop: Stop
) -> None:
    """Record a camera with what is found in it until a signal comes.

    Raises KitError if it is not there.
    """
    with closing(Camera(number)) as camera:
        name = f"camera{number}{media.VIDEO_OUT}"
        note(f"recording camera {number} to {folder / name}; Ctrl-C ends it")
        detect_video(camera, Job(Path(name), folder / name, name), detector, results, stop)
    if stop.signum == SIGINT:
        results.cut = ""  # how a recording ends


def print_found(results: Results) -> None:
    """Print every detection of a single image, else how many there are of each category."""
    names = {category["id"]: printable(category["name"]) for category in results.categories}
    if len(results) == 1:
        print("score     left      top    right   bottom  name")
        for part in results.parts():
            columns = (part.score, part.ltrb, part.category_id)
            for score, ltrb, category in zip(*(c.tolist() for c in columns), strict=True):
                print(f"{score:.3f} {' '.join(f'{v:8.1f}' for v in ltrb)}  {names[category]}")
        return
    counts: Counter[str] = Counter()
    for category, count in results.per_category().items():
        counts[names[category]] += count
    if counts:
        print(first_few([f"{name} {count}" for name, count in counts.most_common()], 8))


def print_summary(results: Results, seconds: float, output: Path) -> None:
    """Print how fast it was, and what was done; a video's frames are counted as frames."""
    images = len(results) - results.frames
    kinds = [(images, "image")] if images or not results.frames else []
    kinds += [(results.frames, "frame")] if results.frames else []
    unit = " and ".join(f"{noun}s" for _, noun in kinds)
    print(f"{seconds:.1f} s, {len(results) / seconds:.2f} {unit}/s with reading and drawing")
    done = ", ".join(counted(*kind) for kind in kinds)
    print(f"{output}: {done}, {len(results.bad)} bad, {counted(results.boxes, 'detection')}")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", metavar="FILE", type=Path, required=True, help="to run")
    parser.add_argument(
        "--source",
        metavar="WHAT",
        required=True,
        help="image, video, folder (not those in it), quoted pattern, or a camera's number",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("out"), help="default: out"
    )
    parser.add_argument(
        "--score",
        metavar="S",
        type=fraction,
        default=0.5,
        help="least score, 0 to 1 (default: 0.5)",
    )
    parser.add_argument("--json", action="store_true", help=f"write {JSON_NAME} too")
    parser.add_argument(
        "--force", action="store_true", help="replace another model's results in that folder"
    )
    parser.add_argument(
        "--labels",
        metavar="coco|FILE",
        help="names: coco (default), a COCO-form .json, or a text file with a name a line",
    )
    parser.add_argument(
        "--device",
        default="0",
        help="card of a .om (default: 0); cpu, cuda:0 or npu:0 for the others",
    )
    add_engine_arguments(parser)
    return parser.parse_args(argv)


def run(
    camera: int | None, jobs: list[Job], detector: Detector, args: argparse.Namespace, info: dict
) -> tuple[Results, int]:
    """Detect, write the results and print them; return them and the signal that ended it, or 0."""
    start = time.perf_counter()
    results = Results(detector.categories, args.output / JSON_NAME if args.json else None, info)
    with Stop() as stop:
        if camera is None:
            detect_files(jobs, detector, results, stop)
        else:
            detect_camera(camera, args.output, detector, results, stop)
        seconds = time.perf_counter() - start
        for line in results.bad:
            print(f"{Path(__file__).name}: error: {printable(line)}", file=sys.stderr)
        signum = 0 if camera is not None and stop.signum == SIGINT else stop.signum
        if args.json:
            more = {"bad": results.bad} if results.bad else {}
            more |= {"stopped": Signals(signum).name, "cut": results.cut} if signum else {}
            results.save(**more)
    print_found(results)
    if results.cut:
        print(printable(results.cut))
    print_summary(results, seconds, args.output)
    return results, signum


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    warnings.filterwarnings("ignore", module="PIL")  # bad images are reported below
    camera = None
    jobs: list[Job] = []
    info: dict[str, Any] = {}
    if args.source.isdecimal() and not Path(args.source).exists():
        camera = int(args.source)
    else:
        sources, left = media.find_sources(args.source)
        jobs = list_jobs(sources, args.output)
        if left:
            kinds = first_few([f"{n} {kind or 'without any'}" for kind, n in left.most_common()], 8)
            note(f"{args.source}: {counted(left.total(), 'file')} left out by suffix: {kinds}")
            info["left_out"] = dict(left)
    videos = camera is not None or any(media.is_video(job.source) for job in jobs)
    if videos and encoder() != H264:
        note("videos are MPEG-4, which browsers do not play: this FFmpeg writes no H.264")
    engine = open_engine(args.model, args.device, args.engine, args.precision)
    categories = read_categories(args.labels, engine.labels)
    detector = Detector(engine, engine.batch or 1, categories, args.score)
    model = {"model_sha256": model_sha256(args.model)}
    with locked(args.output):
        made_from = model | {"labels": digest(categories)}
        claim_folder(args.output, made_from, set() if args.force else set(made_from))
        print(f"engine {engine.name}, {engine.provider}")
        info |= {"model": str(args.model)} | model
        info |= {"engine": engine.name, "provider": engine.provider, "score": args.score}
        results, signum = run(camera, jobs, detector, args, info)
    if signum:
        raise Stopped(signum)
    return 1 if results.bad else 0


if __name__ == "__main__":
    run_main(main)
