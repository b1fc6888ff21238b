#!/usr/bin/env python3
"""Find objects in your own pictures and videos, and draw them.

Reads a picture, a video, a folder of them, a pattern or a camera (0); writes each with its boxes,
names and scores under its own name, and with --json all that was found as detections.json, in the
form of a COCO instances file with a `score`. A picture is turned as its EXIF data says; boxes are
pixels of the turned picture. A camera is recorded until Ctrl-C; no window is opened.

Example:
  python3 ssd_detect.py --model ssd_bs1.onnx --source pictures --output out --json
"""

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from threading import Event
from typing import Any

import ssd_coco
import ssd_media
from ssd_engines import add_engine_arguments, open_engine
from ssd_files import KitError, first_few, note, run_main, sha256, write_json
from ssd_find import Detector, Found, Job, detect_pictures, detect_video
from ssd_media import shown

JSON_NAME = "detections.json"


def read_categories(labels: str | None, count: int) -> list[dict[str, Any]]:
    """Return the categories of a model's labels 1, 2, ...: `count` - 1 of them, id and name.

    labels: `coco`, a COCO-form annotation file (.json), or a text file with one name a line; None
    is coco where the count fits. Raises KitError if it does not fit.
    """
    if labels in (None, "coco"):
        categories, labels = ssd_coco.COCO_CATEGORIES, "coco"
    elif labels.lower().endswith(".json"):
        categories = ssd_coco.read_instances(Path(labels))["categories"]
    else:
        try:
            lines = Path(labels).read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise KitError(f"{labels}: cannot read: {reason}; give one name a line") from None
        names = [line.strip() for line in lines if line.strip()]
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
    return list(map(Job, sources, ssd_media.target_paths(sources, folder), names))


def common_folder(sources: list[Path]) -> str:
    return os.path.commonpath([os.path.abspath(source.parent) for source in sources])


def detect_files(jobs: list[Job], detector: Detector) -> tuple[list[Found], list[str]]:
    """Run the model over pictures, then videos; return what is found and a line for each bad one.

    Raises KitError if an output cannot be written, or the model gives no numbers.
    """
    pictures = [job for job in jobs if not ssd_media.is_video(job.source)]
    found, bad = detect_pictures(pictures, detector) if pictures else ([], [])
    for job in jobs:
        if not ssd_media.is_video(job.source):
            continue
        capture = ssd_media.open_video(job.source)
        if capture is None:
            bad.append(f"{job.source}: not a video that OpenCV can read; convert or fetch it again")
            continue
        frames, wrong = detect_video(capture, job, detector)
        found += frames
        bad += [wrong] if wrong else []
    return found, bad


def detect_camera(number: int, folder: Path, detector: Detector) -> list[Found]:
    """Record a camera with what is found in it until Ctrl-C. Raises KitError if it is not there."""
    capture = ssd_media.open_video(number)
    if capture is None:
        raise KitError(f"--source {number}: no such camera; list /dev/video*, or give a file")
    name = f"camera{number}{ssd_media.VIDEO_OUT}"
    note(f"recording camera {number} to {folder / name}; Ctrl-C ends it")
    stop = Event()
    with ssd_media.ctrl_c_sets(stop):
        return detect_video(capture, Job(Path(name), folder / name, name), detector, stop)[0]


def to_coco(found: list[Found], detector: Detector, info: dict[str, Any]) -> dict[str, Any]:
    """Return all that was found as a COCO instances file, with a `score` in each annotation."""
    images, annotations = [], []
    for image_id, one in enumerate(found, start=1):
        images.append({"id": image_id} | one.image)
        for result in ssd_coco.results_to_json(one.rows):
            area = result["bbox"][2] * result["bbox"][3]
            own = {"id": len(annotations) + 1, "image_id": image_id, "area": area, "iscrowd": 0}
            annotations.append(result | own)
    categories = detector.categories
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def print_found(found: list[Found], detector: Detector) -> None:
    """Print every detection of a single picture, else how many there are of each category."""
    names = {category["id"]: shown(category["name"]) for category in detector.categories}
    if len(found) == 1:
        print("score     left      top    right   bottom  name")
        for _, x, y, width, height, score, category in found[0].rows.tolist():
            box = f"{x:8.1f} {y:8.1f} {x + width:8.1f} {y + height:8.1f}"
            print(f"{score:.3f} {box}  {names[category]}")
        return
    counts = Counter(names[int(row[6])] for one in found for row in one.rows)
    if counts:
        print(first_few([f"{name} {count}" for name, count in counts.most_common()], 8))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="FILE", type=Path, required=True, help="to run")
    parser.add_argument(
        "--source",
        metavar="WHAT",
        required=True,
        help="picture, video, folder (not those in it), quoted pattern, or a camera's number",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("out"), help="default: out"
    )
    parser.add_argument(
        "--score", metavar="S", type=float, default=0.5, help="least score, 0 to 1 (default: 0.5)"
    )
    parser.add_argument("--json", action="store_true", help=f"write {JSON_NAME} too")
    parser.add_argument(
        "--labels",
        metavar="coco|FILE",
        help="names: coco (default), a COCO-form .json, or a text file with one a line",
    )
    parser.add_argument(
        "--device", default="0", help="card of a .om (default: 0); cpu or cuda:0 for the others"
    )
    add_engine_arguments(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.score <= 1:
        parser.error(f"--score {args.score}: must be from 0 to 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    warnings.filterwarnings("ignore", module="PIL")  # what matters of a picture is told below
    camera = args.source.isdecimal() and not Path(args.source).exists()
    jobs = [] if camera else list_jobs(ssd_media.find_sources(args.source), args.output)
    engine = open_engine(args.model, args.device, args.engine, args.precision)
    categories = read_categories(args.labels, engine.labels)
    detector = Detector(engine, engine.batch or 1, categories, args.score)
    print(f"engine {engine.name}, {engine.provider}")
    start = time.perf_counter()
    if camera:
        found, bad = detect_camera(int(args.source), args.output, detector), []
    else:
        found, bad = detect_files(jobs, detector)
    seconds = time.perf_counter() - start
    for line in bad:
        print(f"{Path(__file__).name}: error: {shown(line)}", file=sys.stderr)
    print_found(found, detector)
    if args.json:
        facts = {"model": str(args.model), "model_sha256": sha256(args.model)}
        facts |= {"engine": engine.name, "provider": engine.provider, "score": args.score}
        write_json(args.output / JSON_NAME, to_coco(found, detector, facts))
    told = f"{len(found)} image{'s' * (len(found) != 1)}, {len(bad)} bad"
    print(f"{seconds:.1f} s, {len(found) / seconds:.2f} images/s with reading and drawing")
    print(f"{args.output}: {told}, {sum(len(one.rows) for one in found)} detections")
    return 1 if bad else 0


if __name__ == "__main__":
    run_main(main)
