#!/usr/bin/env python3
"""Reduce a COCO instances file to what this kit reads.

Reads IN, a COCO instances file; writes OUT, the same images, annotations and categories without
the rest (licences, segmentations, ...). With --keep-keys OUT can be scored, and its areas are the
true ones: other tools write 1.0 there, which ruins the small/medium/large figures. With --images N
OUT is a data set of the first N images that are scored, with every category, so that labels stay.

Example:
  python3 prepare-json.py --keep-keys DATA/coco/annotations/instances_val2017.json \\
      DATA/coco/annotations/bbox_only_instances_val2017.json
"""

import argparse
from pathlib import Path
from typing import Any

import ssd_coco
from ssd_files import KitError, run_main, write_json

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
    images = ssd_coco.select_images(instances, all_images)[:count]
    ids = {image["id"] for image in images}
    annotations = [one for one in instances["annotations"] if one["image_id"] in ids]
    return instances | {"images": images, "annotations": annotations}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", metavar="IN", type=Path, help="COCO instances file")
    parser.add_argument("output", metavar="OUT", type=Path, help="file to write")
    parser.add_argument(
        "--keep-keys",
        action="store_true",
        help="keep all keys of an annotation (true area and iscrowd: scoring needs them), "
        "segmentation emptied",
    )
    parser.add_argument(
        "--images", metavar="N", type=int, help="only the first N images that have an annotation"
    )
    parser.add_argument(
        "--all-images", action="store_true", help="with --images: the first N with or without one"
    )
    parser.add_argument("--pretty-print", action="store_true", help="indent the JSON")
    args = parser.parse_args(argv)
    if args.images is not None and args.images < 1:
        parser.error("argument --images: must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    instances = ssd_coco.read_instances(args.input)
    if args.keep_keys:
        ssd_coco.check_scorable(instances, args.input)
    if args.images:
        instances = first_images(instances, args.images, args.all_images)
    if args.output.exists() and args.output.samefile(args.input):
        raise KitError(f"{args.output}: is the input itself; give another name for the output")
    write_json(args.output, prepare(instances, args.keep_keys), 4 if args.pretty_print else None)
    images, boxes = len(instances["images"]), len(instances["annotations"])
    empty = images - len(ssd_coco.select_images(instances, all_images=False))
    print(f"{args.output}: {images} images ({empty} without a box), {boxes} boxes")


if __name__ == "__main__":
    run_main(main)
