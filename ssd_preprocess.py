#!/usr/bin/env python3
"""Turn COCO pictures into the network's input files.

Reads the pictures that the annotation file names; writes one `tensor([ID]).bin` each: float32
(3, 300, 300) RGB, resized with PIL's bilinear filter (aspect ratio not kept), scaled and
normalised; or, with --dtype uint8, the resized (300, 300, 3) RGB bytes themselves.
Whole files that are there already are kept.

Example:
  python3 ssd_preprocess.py --data DATA/coco --bin-output ssd_bin
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

import ssd_coco
from ssd_boxes import INPUT_SIZE, MEAN, STD
from ssd_files import (
    INPUT_SHAPES,
    KitError,
    check_free,
    end_with_parent,
    input_bytes,
    note,
    num_cpus,
    output_bytes,
    read_json,
    run_main,
    tensor_id,
    tensor_stem,
    write_bytes,
    write_json,
)

SOURCE = "source.json"  # says in the output folder which pictures its files were made from
CHUNK = 8  # pictures handed to a worker at a time


@cache
def normalisation_table() -> np.ndarray:
    """Return what each byte becomes in each channel: (3, 256) float32.

    The bits are those of torchvision's ToTensor and Normalize: float32 at every step.
    """
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    return (scaled - mean[:, None]) / std[:, None]


def read_rgb(path: Path, as_seen: bool = False) -> Image.Image:
    """Read a picture as RGB.

    as_seen: as a viewer shows it: turned as its EXIF data says, and 16-bit grey scaled to 8 bits;
    COCO's protocol and torchvision do neither.
    Raises KitError if it is missing, not a whole picture, or too large for PIL.
    """
    try:
        with Image.open(path) as picture:
            return (upright(picture) if as_seen else picture).convert("RGB")
    except FileNotFoundError:
        raise KitError(f"{path}: no such picture; fetch it") from None
    except Image.DecompressionBombError:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise KitError(f"{path}: more than {limit} million pixels; scale it down") from None
    except Exception as error:  # each format's reader raises its own on damaged data
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason.split(" <")[0].split(" '")[0]  # without object addresses and the path
        raise KitError(f"{path}: not a whole picture ({reason}); fetch it again") from None


def upright(picture: Image.Image) -> Image.Image:
    """Turn a picture, in place, as its EXIF data says; scale 16-bit grey, which is cut off else."""
    picture.load()
    with suppress(Exception):  # EXIF data that cannot be read turns nothing
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.int64) >> 8
        picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    return picture


def shrink(rgb: Image.Image) -> np.ndarray:
    """Return an RGB picture at the network's size: (300, 300, 3) uint8."""
    return np.asarray(rgb.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR))


def resize(path: Path) -> np.ndarray:
    """Read a picture as RGB at the network's size: (300, 300, 3) uint8.

    Raises KitError if it is missing or not a whole picture.
    """
    return shrink(read_rgb(path))


def normalise(rgb: np.ndarray) -> np.ndarray:
    """Turn (300, 300, 3) uint8 RGB into the network's input, (3, 300, 300) float32."""
    table = normalisation_table()
    result = np.empty(INPUT_SHAPES["float32"], np.float32)
    for channel in range(len(MEAN)):
        # clip: no byte is out of range, and checking that would buffer the output
        np.take(table[channel], rgb[:, :, channel], out=result[channel], mode="clip")
    return result


def preprocess(picture: Path, target: Path, dtype: str) -> str | None:
    """Write one picture's input file; return what is wrong if the picture cannot be read."""
    try:
        rgb = resize(picture)
    except KitError as error:
        return str(error)
    write_bytes(target, memoryview(rgb if dtype == "uint8" else normalise(rgb)).cast("B"))
    return None


def preprocess_job(job: tuple[Path, Path, str]) -> str | None:
    """`preprocess` in the form that a worker process takes."""
    return preprocess(*job)


def forget_other_source(folder: Path, source: dict[str, Any]) -> None:
    """Remove files in `folder` that were made from another source, and note this one there.

    They go first: were they there still when a run is broken off, the next one would keep them.
    """
    record = folder / SOURCE
    try:
        other = record.exists() and read_json(record) != source
    except KitError:  # a broken record tells nothing
        other = True
    if other:
        note(f"{folder}: holds files of other pictures or dtype; writing all of them again")
        for path in folder.glob("tensor*"):
            if tensor_id(path) is not None:
                path.unlink()
    write_json(record, source)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ssd_coco.add_data_arguments(parser)
    parser.add_argument(
        "--bin-output", metavar="DIR", type=Path, required=True, help="folder to write to"
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=num_cpus(), help="processes (default: all CPUs)"
    )
    parser.add_argument(
        "--dtype",
        choices=INPUT_SHAPES,
        default="float32",
        help="float32: normalised NCHW (default); uint8: plain NHWC, a quarter of the size, for "
        "models made with --input uint8 or AIPP",
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


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    data = ssd_coco.open_data(args)
    if not data.pictures.is_dir():
        raise KitError(f"{data.pictures}: no such picture folder; fetch the pictures or correct it")
    source = {"pictures": str(data.pictures.resolve()), "dtype": args.dtype}
    forget_other_source(args.bin_output, source)
    size = input_bytes(args.dtype)
    jobs, bad, kept = [], [], 0
    for image in data.selected:
        target = args.bin_output / f"{tensor_stem(image['id'])}.bin"
        if not args.force and target.exists() and target.stat().st_size == size:
            kept += 1
            continue
        try:
            picture = ssd_coco.picture_path(data.pictures, image["file_name"])
            jobs.append((picture, target, args.dtype))
        except KitError as error:
            bad.append(str(error))
    outputs = output_bytes(1 + len(data.instances["categories"]))
    needed = len(jobs) * size + args.reserve_outputs * len(data.selected) * outputs
    check_free(args.bin_output, needed, "inputs and outputs")
    workers = max(1, min(args.workers, len(jobs)))
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        outcomes = pool.map(preprocess_job, jobs, chunksize=CHUNK)
        progress = tqdm(outcomes, "preprocess", len(jobs), unit="image", disable=None)
        bad += [outcome for outcome in progress if outcome]
    for line in bad:
        print(f"{Path(__file__).name}: error: {line}", file=sys.stderr)
    left_out = len(data.instances["images"]) - len(data.selected)
    written = len(data.selected) - kept - len(bad)
    print(
        f"{args.bin_output}: {written} images written, {kept} kept, {len(bad)} bad, "
        f"{left_out} left out as unannotated"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    run_main(main)
