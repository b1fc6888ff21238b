#!/usr/bin/env python3
"""Reduce a COCO instances file to what this kit reads.

Reads IN, a COCO instances file or a data set that holds one; writes OUT, the same images,
annotations and categories without the rest (licenses, segmentations, ...). With --keep-keys OUT can
be scored, and its areas are the true ones: other tools write 1.0 there, which ruins the figures of
small, medium and large objects. With --limit N OUT is a data set of the first N images that are
scored, with every category, so that labels stay.

Example:
  python3 prepare-json.py --keep-keys DATA/coco/annotations/instances_val2017.json \\
      DATA/coco/annotations/bbox_only_instances_val2017.json
"""

import argparse
from pathlib import Path

from ssd import coco  # a copied script needs ssd/ beside it
from ssd.cli import ArgumentParser, KitError, positive, run_main
from ssd.coco import first_images, prepare
from ssd.files import write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("input", metavar="IN", type=Path, help="COCO instances file, or data set")
    parser.add_argument("output", metavar="OUT", type=Path, help="file to write")
    parser.add_argument(
        "--keep-keys",
        action="store_true",
        help="keep all keys of an annotation (true area and iscrowd: scoring needs them), "
        "segmentation emptied",
    )
    parser.add_argument(
        "--limit", metavar="N", type=positive, help="only the first N images that are scored"
    )
    parser.add_argument(
        "--all-images",
        action="store_true",
        help="with --limit: of COCO's 2017 images also those without annotation",
    )
    parser.add_argument(
        "--fill-area",
        action="store_true",
        help="where an annotation has none, take width times height as area and 0 as iscrowd",
    )
    parser.add_argument("--pretty-print", action="store_true", help="indent the JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    source = args.input
    if source.is_dir():
        source = coco.data_folder(source) / coco.INSTANCES
    instances = coco.read_instances(source)
    if args.fill_area:
        instances = coco.fill_area(instances)
    if args.keep_keys:
        coco.check_scorable(instances, source)
    if args.limit:
        instances = first_images(instances, args.limit, args.all_images)
    if args.output.exists() and args.output.samefile(source):
        raise KitError(f"{args.output}: is the input itself; give another name for the output")
    write_json(args.output, prepare(instances, args.keep_keys), 4 if args.pretty_print else None)
    images, boxes = len(instances["images"]), len(instances["annotations"])
    empty = images - len(coco.annotated_ids(instances))
    print(f"{args.output}: {images} images ({empty} without a box), {boxes} boxes")


if __name__ == "__main__":
    run_main(main)
