"""COCO's side of the kit: the data set's layout, annotation files, labels and result files."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ssd_boxes import decode
from ssd_files import KitError, first_few, read_json, tensor_stem

PICTURES = "val2017"  # folders and files under DATA/coco
INSTANCES = "annotations/instances_val2017.json"
BBOX_ONLY = "annotations/bbox_only_instances_val2017.json"  # what prepare-json.py makes

COCO_NAMES = (  # of category ids 1, 2, ...; COCO left out those with a dash
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire "
    "hydrant, -, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe, -, backpack, umbrella, -, -, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis "
    "racket, bottle, -, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, "
    "orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, -, "
    "dining table, -, -, toilet, -, tv, laptop, mouse, remote, keyboard, cell phone, microwave, "
    "oven, toaster, sink, refrigerator, -, book, clock, vase, scissors, teddy bear, hair drier, "
    "toothbrush"
)
COCO_CATEGORIES = [
    {"id": i, "name": name} for i, name in enumerate(COCO_NAMES.split(", "), start=1) if name != "-"
]
EXACT = 2**53  # the whole numbers below are exact in float64, which result rows hold


def is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < EXACT


def is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value < EXACT


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_size(value: object) -> bool:
    return is_number(value) and value > 0


def is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


Kind = Callable[[object], bool]
FIELDS: dict[str, dict[str, Kind]] = {  # of an instances file: what the kit reads
    "images": {"id": is_whole, "file_name": is_text, "height": is_size, "width": is_size},
    "annotations": {"id": is_whole, "image_id": is_whole, "category_id": is_whole, "bbox": is_box},
    "categories": {"id": is_whole, "name": is_text},
}
SCORED_FIELDS: dict[str, Kind] = {"area": is_number, "iscrowd": lambda value: value in (0, 1)}
RESULT_FIELDS: dict[str, Kind] = {  # of a result file, in the order of RESULT_COLUMNS
    "image_id": is_whole,
    "bbox": is_box,
    "score": is_number,
    "category_id": is_whole,
}
RESULT_COLUMNS = ("image_id", "x", "y", "width", "height", "score", "category_id")


def annotation_path(data: Path, annotation: Path | None = None) -> Path:
    """Return the annotation file of DATA/coco: the one given, else prepare-json.py's, else COCO's.

    Raises KitError if the folder or the file is missing.
    """
    if annotation is None:
        if not data.is_dir():
            raise KitError(f"{data}: no such folder; --data wants the one that holds {PICTURES}/")
        annotation = data / (BBOX_ONLY if (data / BBOX_ONLY).exists() else INSTANCES)
    if not annotation.is_file():
        raise KitError(f"{annotation}: no such file; fetch COCO's annotations or check the path")
    return annotation


def read_instances(path: Path) -> dict[str, Any]:
    """Read a COCO instances file.

    Raises KitError if it is missing, broken, or not an instances file (captions, results, ...), or
    if ids in it do not fit together.
    """
    instances = read_json(path)
    ids = {}
    for part, fields in FIELDS.items():
        rows = instances.get(part) if isinstance(instances, dict) else None
        if not isinstance(rows, list):
            raise KitError(f"{path}: no list of {part}; give a COCO instances file")
        check_fields(rows, part, fields, path)
        ids[part] = {row["id"] for row in rows}
        if len(ids[part]) < len(rows):
            raise KitError(f"{path}: {part} that share an id; fetch or make it again")
    for part in ("images", "categories"):
        if not ids[part]:
            raise KitError(f"{path}: no {part}; give a COCO instances file")
    for key, part in (("image_id", "images"), ("category_id", "categories")):
        unknown = {annotation[key] for annotation in instances["annotations"]} - ids[part]
        if unknown:
            raise KitError(
                f"{path}: annotations of {part} that are not listed "
                f"({first_few(sorted(unknown))}); fetch or make it again"
            )
    return instances


def check_fields(rows: list[Any], part: str, fields: dict[str, Kind], path: Path) -> None:
    """Raise KitError unless each row of a part of an instances file has those fields."""
    for row in rows:
        missing = fields.keys() - row.keys() if isinstance(row, dict) else fields.keys()
        if missing:
            names = ", ".join(sorted(missing))
            raise KitError(f"{path}: {part} without {names}; give a COCO instances file")
        for key, is_right in fields.items():
            if not is_right(row[key]):
                value = json.dumps(row[key])[:40]
                raise KitError(f"{path}: {part} with {key} {value}; fetch or make it again")


def check_scorable(instances: dict[str, Any], path: Path) -> None:
    """Raise KitError unless the annotations have what scoring reads: area and iscrowd."""
    annotations = instances["annotations"]
    if any("area" not in a or "iscrowd" not in a for a in annotations):
        raise KitError(
            f"{path}: annotations without area or iscrowd cannot be scored; "
            "make it again with prepare-json.py --keep-keys"
        )
    check_fields(annotations, "annotations", SCORED_FIELDS, path)


def select_images(instances: dict[str, Any], all_images: bool) -> list[dict[str, Any]]:
    """Return the images that are scored, in file order: those with an annotation, or all.

    A crowd annotation counts as one. val2017: 4952 of 5000.
    """
    annotated = {annotation["image_id"] for annotation in instances["annotations"]}
    return [image for image in instances["images"] if all_images or image["id"] in annotated]


def describe_selection(instances: dict[str, Any], selected: list[dict[str, Any]]) -> str:
    """Say in words which images are scored, as every mAP must."""
    total = len(instances["images"])
    if len(selected) == total:
        return f"all {total} images"
    left_out = total - len(selected)
    return f"{len(selected)} of {total} images ({left_out} without annotation left out)"


def picture_path(folder: Path, file_name: str) -> Path:
    """Return the path of a picture; raises KitError if `file_name` leads out of `folder`.

    Or if it holds control characters, which would break the line that tells of a bad picture.
    """
    if any(ord(letter) < ord(" ") for letter in file_name):
        raise KitError(f"{file_name!r}: file_name with control characters; correct it")
    parts = PurePosixPath(file_name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise KitError(f"{file_name!r}: file_name leaves the picture folder {folder}; correct it")
    return folder / file_name


def results(
    image: dict[str, Any], ploc: np.ndarray, plabel: np.ndarray, category_ids: np.ndarray
) -> np.ndarray | None:
    """Decode one picture's outputs into rows of RESULT_COLUMNS: (K, 7) float64, pixels.

    image: its entry of the annotation file. ploc: (4, 8732), plabel: (labels, 8732) float32.
    category_ids: (labels - 1,), that of label 1 first. None if the outputs hold NaN or infinity,
    or give a box that does.
    """
    if not (np.isfinite(ploc).all() and np.isfinite(plabel).all()):
        return None
    found = decode(ploc, plabel)
    with np.errstate(over="ignore"):  # found below
        ltrb = found.ltrb * np.array([image["width"], image["height"]] * 2, np.float32)
    rows = np.empty((len(ltrb), len(RESULT_COLUMNS)))
    rows[:, 0] = image["id"]
    rows[:, 1:3] = ltrb[:, :2]
    rows[:, 3:5] = ltrb[:, 2:] - ltrb[:, :2]
    rows[:, 5] = found.scores
    rows[:, 6] = category_ids[found.labels - 1]
    return rows if np.isfinite(rows).all() else None  # a wild offset makes a box infinite


def join_results(
    source: Path, images: list[dict[str, Any]], rows: list[np.ndarray | None]
) -> np.ndarray:
    """Join what `results` returned for each image: (K, 7), K = 0 without any image.

    Raises KitError if any was None.
    """
    bad = [image["id"] for image, row in zip(images, rows, strict=True) if row is None]
    if bad:
        raise KitError(
            f"{source}: NaN or infinite outputs for {len(bad)} of {len(images)} images "
            f"({first_few(map(tensor_stem, bad))}); check the model's precision and its input"
        )
    return np.concatenate([np.empty((0, len(RESULT_COLUMNS))), *rows])


def category_ids(instances: dict[str, Any]) -> np.ndarray:
    """Return the category id of labels 1, 2, ...: the order of the file (COCO's ids have gaps)."""
    return np.array([category["id"] for category in instances["categories"]], np.int64)


def results_to_json(rows: np.ndarray) -> list[dict[str, Any]]:
    """Turn rows of RESULT_COLUMNS into COCO's standard result list."""
    return [
        {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5], "score": row[5]}
        for row in rows.tolist()
    ]


def results_from_json(path: Path) -> np.ndarray:
    """Read a COCO result file into rows of RESULT_COLUMNS; (0, 7) if it is empty.

    Raises KitError if it is not one.
    """
    found = read_json(path)
    if not isinstance(found, list):
        raise KitError(f"{path}: not a COCO result file; make it with ssd_postprocess.py")
    for one in found:
        if not isinstance(one, dict) or not all(
            key in one and is_right(one[key]) for key, is_right in RESULT_FIELDS.items()
        ):
            raise KitError(
                f"{path}: not a COCO result file ({json.dumps(one)[:80]}); "
                "make it with ssd_postprocess.py"
            )
    rows = [[one["image_id"], *one["bbox"], one["score"], one["category_id"]] for one in found]
    return np.array(rows, np.float64).reshape(-1, len(RESULT_COLUMNS))


class DataSet(NamedTuple):
    """A data set as the user named it; `selected` are the entries of the images to be scored."""

    annotation: Path
    pictures: Path
    instances: dict[str, Any]
    selected: list[dict[str, Any]]


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `open_data` reads."""
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help=f"the data set: {PICTURES}/, {INSTANCES}"
    )
    parser.add_argument(
        "--annotation",
        metavar="FILE",
        type=Path,
        help=f"COCO instances file (default: {BBOX_ONLY} if there, else {INSTANCES}, of --data)",
    )
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help=f"picture folder (default: {PICTURES} of --data)"
    )
    parser.add_argument(
        "--all-images",
        action="store_true",
        help="also images without annotation, which is COCO's official protocol",
    )


def open_data(args: argparse.Namespace) -> DataSet:
    """Read the data set that the options of `add_data_arguments` name.

    Raises KitError if something is missing or no instances file, or no image is left to score.
    """
    if args.data is None and args.annotation is None:
        raise KitError("no data set: give --data DIR (or --annotation FILE)")
    annotation = annotation_path(args.data, args.annotation)
    pictures = args.images or (args.data or annotation.parent.parent) / PICTURES
    instances = read_instances(annotation)
    selected = select_images(instances, args.all_images)
    if not selected:
        raise KitError(f"{annotation}: no image has an annotation; give --all-images or another")
    return DataSet(annotation, pictures, instances, selected)
