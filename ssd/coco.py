"""COCO data sets: their layout, annotation files, and which images are scored."""

import argparse
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ssd.annotation_checks import (
    FIELDS,
    SCORED_FIELDS,
    check_areas,
    check_boxes,
    check_fields,
)
from ssd.cli import SOURCES, KitError, first_few
from ssd.files import digest, read_json

import numpy as np

# paths below DATA/coco
IMAGE_FOLDER = "val2017"
INSTANCES = "annotations/instances_val2017.json"
BBOX_ONLY = "annotations/bbox_only_instances_val2017.json"  # what prepare-json.py makes

COCO_NAMES = (  # names of the category ids 1, 2, ...; a dash is an id that COCO does not use
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


def annotation_path(data: Path, annotation: Path | None = None) -> Path:
    """Return the annotation file of DATA/coco: the one given, else prepare-json.py's, else COCO's.

    Raises KitError if the folder or the file is missing.
    """
    if annotation is None:
        if not data.is_dir():
            raise KitError(
                f"{data}: no such folder; --data wants the one that holds {IMAGE_FOLDER}/"
            )
        annotation = data / (BBOX_ONLY if (data / BBOX_ONLY).exists() else INSTANCES)
    if not annotation.is_file():
        raise KitError(
            f"{annotation}: no such file; check the path, or fetch it ({SOURCES['annotations']})"
        )
    return annotation


def read_instances(path: Path) -> dict[str, Any]:
    """Read a COCO instances file.

    Raises KitError if it is missing, broken, or not an instances file (captions, results, ...), or
    if ids in it do not fit together, or boxes cannot be right.
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
    check_boxes(instances, path)
    return instances


def check_scorable(instances: dict[str, Any], path: Path) -> None:
    """Raise KitError unless the annotations have what scoring reads, area and iscrowd, in order."""
    annotations = instances["annotations"]
    if any("area" not in a or "iscrowd" not in a for a in annotations):
        raise KitError(
            f"{path}: annotations without area or iscrowd cannot be scored; "
            "make it again with prepare-json.py --keep-keys (--fill-area, if its source has none)"
        )
    check_fields(annotations, "annotations", SCORED_FIELDS, path)
    check_areas(instances, path)


def fill_area(instances: dict[str, Any]) -> dict[str, Any]:
    """Return the instances with area (width times height) and iscrowd (0) where they are missing.

    Other tools assume these for data sets without them.
    """
    annotations = [
        {"area": annotation["bbox"][2] * annotation["bbox"][3], "iscrowd": 0} | annotation
        for annotation in instances["annotations"]
    ]
    return instances | {"annotations": annotations}


def select_images(instances: dict[str, Any], all_images: bool) -> list[dict[str, Any]]:
    """Return the images that are scored, in file order.

    All of them, but of COCO's 2017 images, unless `all_images`, only those with an annotation, as
    this network's published mAP has it: 4952 of val2017's 5000. A crowd annotation counts as one.
    """
    if all_images or not is_coco2017(instances):
        return instances["images"]
    ids = annotated_ids(instances)
    return [image for image in instances["images"] if image["id"] in ids]


def annotated_ids(instances: dict[str, Any]) -> set[int]:
    return {annotation["image_id"] for annotation in instances["annotations"]}


def is_coco2017(instances: dict[str, Any]) -> bool:
    """Return whether these are COCO's 2017 images or some of them, by categories and file names."""
    sides = (instances["categories"], COCO_CATEGORIES)
    mine, theirs = ({(c["id"], c["name"]) for c in categories} for categories in sides)
    names = ((image["file_name"].partition(".")[0], image["id"]) for image in instances["images"])
    return mine == theirs and all(stem == f"{image_id:012}" for stem, image_id in names)


def describe_selection(instances: dict[str, Any], selected: list[dict[str, Any]]) -> str:
    """Return in words which images are scored, for the reader of a mAP."""
    total = len(instances["images"])
    if len(selected) == total:
        return f"all {total} images"
    left_out = total - len(selected)
    return f"{len(selected)} of {total} images ({left_out} without annotation left out)"


def image_path(folder: Path, file_name: str) -> Path:
    """Return the path of an image.

    Raises KitError if it leads out of `folder`, or holds control characters, which would break a
    line that reports it.
    """
    if any(ord(letter) < ord(" ") for letter in file_name):
        raise KitError(f"{file_name!r}: file_name with control characters; correct it")
    parts = PurePosixPath(file_name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise KitError(f"{file_name!r}: file_name leaves the image folder {folder}; correct it")
    return folder / parts  # also where Windows wrote the name


def category_names(instances: dict[str, Any]) -> dict[int, str]:
    """Return each category id's name; names that several share have the id behind them."""
    shared = Counter(category["name"] for category in instances["categories"])
    return {
        category["id"]: category["name"] + f" ({category['id']})" * (shared[category["name"]] > 1)
        for category in instances["categories"]
    }


def category_ids(instances: dict[str, Any]) -> np.ndarray:
    """Return the category id of labels 1, 2, ...: the order of the file (COCO's ids have gaps)."""
    return np.array([category["id"] for category in instances["categories"]], np.int64)


class DataSet(NamedTuple):
    """A data set as the user named it; `selected` holds the entries of the images to be scored."""

    annotation: Path
    image_folder: Path
    instances: dict[str, Any]
    selected: list[dict[str, Any]]


def no_image_folder(data: DataSet) -> KitError:
    """Return the error for a data set whose image folder is not there."""
    remedy = f"correct it, or fetch the images ({SOURCES['images']})"
    return KitError(f"{data.image_folder}: no such image folder; {remedy}")


def truth_digest(data: DataSet) -> str:
    """Return a digest of what a score depends on: images, boxes and categories, however written."""
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    boxes = [[annotation[key] for key in keys] for annotation in data.instances["annotations"]]
    names = [(category["id"], category["name"]) for category in data.instances["categories"]]
    return digest([[image["id"] for image in data.selected], boxes, names])


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `open_data` reads."""
    parser.add_argument(
        "--data",
        "--data_path",
        metavar="DIR",
        type=Path,
        help=f"the data set: {IMAGE_FOLDER}/, {INSTANCES}, or a folder coco/ with these",
    )
    parser.add_argument(
        "--annotation",
        metavar="FILE",
        type=Path,
        help=f"COCO instances file (default: {BBOX_ONLY} if there, else {INSTANCES}, of --data)",
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        help=f"image folder (default: {IMAGE_FOLDER} of --data)",
    )
    parser.add_argument(
        "--all-images",
        action="store_true",
        help="of COCO's 2017 images also those without annotation: its official protocol",
    )


def data_folder(data: Path) -> Path:
    """Return the folder that holds the data set: DATA/coco if there is one, else DATA itself."""
    return data / "coco" if (data / "coco").is_dir() else data


def open_data(args: argparse.Namespace) -> DataSet:
    """Read the data set that the options of `add_data_arguments` name, as `read_data` does."""
    return read_data(args.data, args.annotation, args.images, args.all_images)


def read_data(
    data: Path | None,
    annotation: Path | None = None,
    images: Path | None = None,
    all_images: bool = False,
) -> DataSet:
    """Read a data set: DATA/coco or a folder that holds it, else what the annotation file lies in.

    annotation, images: file and folder in place of those of `data`.
    Raises KitError if something is missing or no instances file, or no image is left to score.
    """
    if data is None and annotation is None:
        raise KitError("no data set: give --data DIR (or --annotation FILE)")
    data = None if data is None else data_folder(data)
    annotation = annotation_path(data, annotation)
    image_folder = images or (data or annotation.parent.parent) / IMAGE_FOLDER
    instances = read_instances(annotation)
    selected = select_images(instances, all_images)
    if not selected:
        raise KitError(f"{annotation}: no image has an annotation; give --all-images or another")
    return DataSet(annotation, image_folder, instances, selected)


IMAGE_KEYS = ("id", "file_name", "height", "width")
ANNOTATION_KEYS = ("image_id", "bbox", "category_id", "id")


def prepare(instances: dict[str, Any], keep_keys: bool) -> dict[str, Any]:
    """Return the reduced instances; with `keep_keys` annotations lose only their polygons."""
    if keep_keys:
        annotations = [annotation | {"segmentation": []} for annotation in instances["annotations"]]
    else:
        annotations = [{key: a[key] for key in ANNOTATION_KEYS} for a in instances["annotations"]]
    return {
        "images": [{key: image[key] for key in IMAGE_KEYS} for image in instances["images"]],
        "annotations": annotations,
        "categories": instances["categories"],
    }


def first_images(instances: dict[str, Any], count: int, all_images: bool) -> dict[str, Any]:
    """Return the instances of the first `count` images that are scored, of all if fewer are.

    Categories stay, as label k is the kth of them.
    """
    images = select_images(instances, all_images)[:count]
    ids = {image["id"] for image in images}
    annotations = [a for a in instances["annotations"] if a["image_id"] in ids]
    return instances | {"images": images, "annotations": annotations}
