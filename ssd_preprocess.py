#!/usr/bin/env python3
"""Turn COCO images into the network's input files.

Reads the images that the annotation file names; writes one `tensor([ID]).bin` each: float32
(3, 300, 300) RGB, resized with PIL's bilinear filter (aspect ratio not kept), scaled and
normalized; or, with --dtype uint8, the resized (300, 300, 3) RGB bytes themselves.
What was made from the same images is kept; the folder holds the inputs of one data set.

Example:
  python3 ssd_preprocess.py --data DATA/coco --bin-output ssd_bin
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from ssd import __version__, coco  # a copied script needs ssd/ beside it
from ssd.cli import ArgumentParser, KitError, first_few, note, progress, run_main
from ssd.files import identity, locked, read_record, write_bytes, write_json
from ssd.images import find_images, read_annotated, shrink, to_input
from ssd.machine import check_free
from ssd.tensors import (
    INPUT_RECORD,
    INPUT_SHAPES,
    input_bytes,
    output_bytes,
    tensor_id,
    tensor_stem,
)
from ssd.workers import Pool, add_workers_argument


def preprocess(
    image: Path, size: tuple[int, int], target: Path, dtype: str, apply_exif: bool
) -> str | None:
    """Write one image's input file; return what is wrong if the image cannot be taken.

    size: width and height that its annotation says.
    """
    try:
        rgb = shrink(read_annotated(image, size, apply_exif))
    except KitError as error:
        return str(error)
    write_bytes(target, memoryview(to_input(rgb, dtype)).cast("B"))
    return None


def forget(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Remove the input files in `folder` that were made from something else than `wanted` says.

    Then note `wanted` there: files that are missing can be made by this run or the next one.
    Returns the note, in which it still says how fast the former files were made.
    Raises KitError, and removes nothing, if files of other images lie there without a record: they
    may be the user's.
    """
    record = folder / INPUT_RECORD
    named = ((path, tensor_id(path)) for path in folder.glob("tensor*"))
    paths = {path: str(image_id) for path, image_id in named if image_id is not None}
    unused = [path for path, key in paths.items() if key not in wanted["images"]]
    if unused and not record.exists():
        raise KitError(
            f"{folder}: holds files of other images ({first_few(p.name for p in unused)}) and no "
            f"{INPUT_RECORD}; give another folder"
        )
    made_from = read_record(record)
    sources = made_from.get("images")
    sources = sources if isinstance(sources, dict) else {}
    same = all(made_from.get(key) == wanted[key] for key in wanted.keys() - {"images"})
    changed = []
    for path, key in paths.items():
        if path in unused or not same or sources.get(key) != wanted["images"][key]:
            path.unlink()
            changed += [wanted["images"][key][0]] if path not in unused else []
    if changed:
        what = first_few(changed) if same else "another dtype, --apply-exif or version of the kit"
        note(f"{folder}: made from something else ({what}); made again")
    if unused:
        note(f"{folder}: {len(unused)} files of other images removed")
    noted = wanted | ({"preprocess": made_from["preprocess"]} if "preprocess" in made_from else {})
    write_json(record, noted)
    return noted


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    coco.add_data_arguments(parser)
    parser.add_argument(
        "--bin-output", metavar="DIR", type=Path, required=True, help="folder to write to"
    )
    add_workers_argument(parser, "read images")
    parser.add_argument(
        "--dtype",
        choices=INPUT_SHAPES,
        default="float32",
        help="float32: normalized NCHW (default); uint8: plain NHWC, a quarter of the size, for "
        "models made with --input uint8 or AIPP",
    )
    parser.add_argument(
        "--apply-exif",
        action="store_true",
        help="turn images as their EXIF data says, for annotations made in a viewer that does",
    )
    parser.add_argument(
        "--reserve-outputs",
        metavar="N",
        type=int,
        default=0,
        help="stop unless the disk also has room for the outputs of N runs",
    )
    parser.add_argument("--force", action="store_true", help="write files anew that are there")
    return parser.parse_args(argv)


def make_inputs(args: argparse.Namespace, data: coco.DataSet) -> int:
    """Make what is missing in the output folder; return the exit status."""
    found, bad = find_images(data)
    record = {"kit": __version__, "dtype": args.dtype, "apply_exif": args.apply_exif}
    record |= {"images": {str(i): identity(p) for i, p in found.items()}}
    record = forget(args.bin_output, record)
    size = input_bytes(args.dtype)
    targets = {i: args.bin_output / f"{tensor_stem(i)}.bin" for i in found}
    missing = [
        i
        for i, path in targets.items()
        if args.force or not path.exists() or path.stat().st_size != size
    ]
    size_of = {image["id"]: (image["width"], image["height"]) for image in data.selected}
    outputs = output_bytes(1 + len(data.instances["categories"]))
    needed = len(missing) * size + args.reserve_outputs * len(data.selected) * outputs
    way_out = ", or take the in-process route (no output files)"
    check_free(args.bin_output, needed, "inputs and outputs", way_out)
    start = time.perf_counter()
    with Pool(preprocess, min(args.workers, len(missing))) as pool:
        jobs = ((found[i], size_of[i], targets[i], args.dtype, args.apply_exif) for i in missing)
        outcomes = pool.map(jobs)
        wrong = [line for line in progress(outcomes, "images", len(missing)) if line]
    made, seconds = len(missing) - len(wrong), time.perf_counter() - start
    if made >= record.get("preprocess", {}).get("images", 1):  # few say less of the speed than many
        timed = {"preprocess": {"images": made, "seconds": seconds}}
        write_json(args.bin_output / INPUT_RECORD, record | timed)
    for line in bad + wrong:
        print(f"{Path(__file__).name}: error: {line}", file=sys.stderr)
    left_out = len(data.instances["images"]) - len(data.selected)
    print(
        f"{args.bin_output}: {made} images written, "
        f"{len(found) - len(missing)} kept, {len(bad + wrong)} bad, "
        f"{left_out} left out as unannotated"
    )
    return 1 if bad or wrong else 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    data = coco.open_data(args)
    if not data.image_folder.is_dir():
        raise coco.no_image_folder(data)
    with locked(args.bin_output):
        return make_inputs(args, data)


if __name__ == "__main__":
    run_main(main)
