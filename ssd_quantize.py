#!/usr/bin/env python3
"""Quantise an ONNX model of the kit to INT8, and show what that gains and costs.

Reads a float32 ONNX file and a folder of ssd_preprocess.py, whose pictures calibrate it; writes an
ONNX file with the same input and outputs, for ONNX Runtime and OpenVINO (ATC does not read it).
Sensitive layers stay in float. With --ascend-calibration it writes what atc itself needs to
calibrate: calibration.bin and calibration.cfg, for ssd_onnx2om.py --int8.

Example:
  python3 ssd_quantize.py --onnx-path ssd_bs1.onnx --calibration ssd_bin \\
      --output ssd_bs1_int8.onnx
"""

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from tqdm import tqdm

import ssd_ascend
import ssd_coco
from ssd_engines import open_engine
from ssd_files import (
    INPUT_SHAPES,
    KitError,
    atomic,
    note,
    run_main,
    sha256,
    tensor_files,
    write_bytes,
)
from ssd_int8 import METHODS, Quantiser, block_of, check_pictures, load_float, read_picture, spread
from ssd_layers import NETWORK, count_int8
from ssd_tradeoff import MAX_LOST, MIN_SAME, MapJudge, SameJudge, Table, float_steps

MIN_INT8 = 0.5  # share of the multiply-adds; with less there is little speed to gain
SEARCHED = 4  # pictures that sensitive blocks are found with
FEW = 8  # pictures that atc's ranges are poor with
ASCEND_DATA, ASCEND_CONFIG = "calibration.bin", "calibration.cfg"


def named_nodes(text: str, names: list[str]) -> list[str]:
    """Return the nodes that comma-joined names, blocks or globs of either mean.

    Raises KitError for one that means none.
    """
    found: set[str] = set()
    known = {name: (name, name.removeprefix(NETWORK), block_of(name)) for name in names}
    for pattern in filter(None, (part.strip() for part in text.split(","))):
        hits = {n for n, own in known.items() if any(fnmatchcase(one, pattern) for one in own)}
        if not hits:
            near = get_close_matches(pattern, {one for own in known.values() for one in own}, 3)
            hint = f"did you mean {', '.join(near)}?" if near else f"such as {names[0]}"
            raise KitError(f"--skip {pattern}: no such node; {hint}")
        found |= hits
    return [name for name in names if name in found]


def choose(quantiser: Quantiser, table: Table, skip: str, paths: list[Path]) -> list[str]:
    """Judge candidates as --skip asks for, print the table, return the nodes to leave in float."""
    table.begin()
    nothing = table.add([], [])
    if skip == "auto":
        return [] if nothing.good else search(quantiser, table, paths)
    chosen = [] if skip == "none" else named_nodes(skip, quantiser.names)
    if chosen:
        table.add(chosen, [part.strip() for part in skip.split(",")])
    return chosen


def search(quantiser: Quantiser, table: Table, paths: list[Path]) -> list[str]:
    """Leave more and more of the sensitive blocks in float, until a model is good.

    Then once fewer: half of what the last step added. If none is good, the best one is taken.
    """
    tried: list[list[str]] = [[]]  # blocks; as long as table.verdicts
    noise = quantiser.noise(spread(paths, SEARCHED))
    for blocks in float_steps(noise, quantiser.block_work()):
        nodes = quantiser.nodes_of(blocks)
        if quantiser.int8_share(nodes) < MIN_INT8:
            break
        if table.add(nodes, blocks).good:
            fewer = blocks[: (len(tried[-1]) + len(blocks)) // 2]
            if len(fewer) > len(tried[-1]) and table.add(quantiser.nodes_of(fewer), fewer).good:
                return quantiser.nodes_of(fewer)
            return nodes
        tried.append(blocks)
    note("note: none of them is good enough; the best is written; --skip takes more nodes")
    best = int(np.argmax([one.first for one in table.verdicts]))
    return quantiser.nodes_of(tried[best])


def write_ascend(args: argparse.Namespace, paths: list[Path]) -> None:
    """Write what atc calibrates with: the pictures joined as float32 NCHW, and the config.

    As many as the model's batch, for atc runs them as one: its --input_shape has their number.
    Raises KitError if the model does not take float32, or atc's config could not name the file.
    """
    engine = open_engine(args.onnx_path)
    if engine.dtype != "float32":
        raise KitError(f"{args.onnx_path}: takes {engine.dtype}; atc wants a float32 model")
    check_pictures(paths, engine.dtype)
    paths = spread(paths, engine.batch or args.images)
    if len(paths) < (engine.batch or 1):
        raise KitError(
            f"{args.calibration}: {len(paths)} pictures, {args.onnx_path} takes {engine.batch} at "
            "a time; make more with ssd_preprocess.py"
        )
    data, config = (args.ascend_calibration / name for name in (ASCEND_DATA, ASCEND_CONFIG))
    if re.search(r"[\s,;]", str(data.absolute())):
        raise KitError(f"{data}: atc's config takes no blank, comma or semicolon; choose another")
    soc = ssd_ascend.soc_version() if args.soc_version == "auto" else args.soc_version
    with atomic(data) as temporary, temporary.open("wb") as file:
        for path in tqdm(paths, "join", unit="image", disable=None):
            file.write(memoryview(np.ascontiguousarray(read_picture(path, "float32"))).cast("B"))
    shape = ",".join(map(str, (len(paths), *INPUT_SHAPES["float32"])))
    fields = {
        "input_data_dir": data.absolute(),
        "input_shape": f"{engine.input_name}:{shape}",
        "infer_soc": soc,
    }
    lines = "".join(f"    {key}: {value}\n" for key, value in fields.items())
    write_bytes(config, f"calibration:\n{{\n{lines}}}\n".encode())
    if len(paths) < FEW:
        note(f"note: atc calibrates on one batch, here {len(paths)} pictures; a larger tells more")
    print(f"{data}: {len(paths)} pictures, SHA-256 {sha256(data)}")
    print(f"{config}: for {soc}; give it to ssd_onnx2om.py --int8")


def quantise(args: argparse.Namespace, paths: list[Path]) -> None:
    """Write the INT8 model, and print what was tried."""
    model = load_float(args.onnx_path)
    with scratch_folder(4 * model.ByteSize()) as scratch:
        quantiser = Quantiser(args.onnx_path, model, scratch)
        check_pictures(paths, quantiser.dtype)
        if args.skip not in ("auto", "none"):
            skip = named_nodes(args.skip, quantiser.names)
            if not quantiser.int8_share(skip):
                raise KitError(f"--skip {args.skip}: leaves every convolution in float; skip fewer")
        floats, seen = open_engine(quantiser.single), spread(paths, args.images)
        if args.data or args.annotation:
            judge = MapJudge(paths, read_data(args), floats)
        else:
            judge = SameJudge(seen, floats)
        quantiser.calibrate(seen, args.method)
        table = Table(quantiser, judge, floats)
        nodes = choose(quantiser, table, args.skip, seen)
        write_model(quantiser, nodes, seen[0], args.output)


def read_data(args: argparse.Namespace) -> ssd_coco.DataSet:
    names = {"data": args.data, "annotation": args.annotation, "images": None}
    data = ssd_coco.open_data(argparse.Namespace(**names, all_images=False))
    ssd_coco.check_scorable(data.instances, data.annotation)
    return data


@contextmanager
def scratch_folder(needed: int) -> Iterator[Path]:
    """Give a folder for scratch files, and remove it afterwards.

    Raises KitError if it has no room for `needed` bytes, or the system refuses a file in it.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="ssd_quantize.") as folder:
            free = shutil.disk_usage(folder).free
            if free < needed:
                raise KitError(
                    f"{folder}: scratch files need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
                    "free; free space, or name another folder in TMPDIR"
                )
            yield Path(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise KitError(
            f"scratch folder: cannot write: {reason}; free space, or name another in TMPDIR"
        ) from None


def write_model(quantiser: Quantiser, nodes: list[str], picture: Path, output: Path) -> None:
    """Make the model of the full batch size, check it and give it its name.

    Raises KitError if its outputs are not finite or it cannot be written.
    """
    import onnx

    target = quantiser.scratch / "int8.onnx"
    quantiser.make(nodes, target, single=False)
    onnx.checker.check_model(target, full_check=True)
    before, engine = open_engine(quantiser.path), open_engine(target)
    same = [(e.dtype, e.shape, e.batch, e.labels) for e in (before, engine)]
    assert same[0] == same[1], same
    images = np.stack([read_picture(picture, engine.dtype)] * (engine.batch or 1))
    if not all(np.isfinite(one).all() for one in engine.run(images)):
        raise KitError(f"{output}: gives NaN or infinity; not written; try another --method")
    with atomic(output) as temporary:
        shutil.copyfile(target, temporary)
    int8, total = count_int8(output)
    batch, shape = engine.batch or "N", ", ".join(map(str, engine.shape))
    print(f"input {engine.input_name}: {engine.dtype} ({batch}, {shape})")
    share = quantiser.int8_share(nodes)
    print(f"{int8} of {total} convolutions in INT8, {share:.0%} of the multiply-adds")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(output)}")


def add_ascend_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ascend-calibration",
        metavar="DIR",
        type=Path,
        help=f"write {ASCEND_DATA} and {ASCEND_CONFIG} for atc",
    )
    parser.add_argument(
        "--soc_version",
        default="auto",
        help="chip that atc calibrates on, such as Ascend310P3 (default: ask npu-smi)",
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--onnx-path", metavar="FILE", type=Path, required=True, help="float model, any batch size"
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        type=Path,
        required=True,
        help="pictures to calibrate with: a folder of ssd_preprocess.py",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="INT8 model to write")
    parser.add_argument(
        "--images",
        metavar="N",
        type=int,
        default=64,
        help="pictures to calibrate with, spread over the folder (default: 64); for atc the batch",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=next(iter(METHODS)),
        help="how an activation's range is found (default: percentile)",
    )
    parser.add_argument(
        "--skip",
        metavar="NODES",
        default="auto",
        help="what stays in float: none, or nodes, blocks or globs, joined by commas; auto "
        f"(default): sensitive blocks, until at most {MAX_LOST} of mAP is lost or, without "
        f"--data, {MIN_SAME:.0%} of the detections are found again".replace("%", "%%"),
    )
    parser.add_argument("--data", metavar="DIR", type=Path, help="data set to measure mAP on")
    parser.add_argument(
        "--annotation", metavar="FILE", type=Path, help="COCO instances file (default: --data's)"
    )
    add_ascend_arguments(parser)
    args = parser.parse_args(argv)
    if args.images < 1:
        parser.error("argument --images: must be at least 1")
    if not (args.output or args.ascend_calibration):
        parser.error("give --output, --ascend-calibration or both")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    paths = tensor_files(args.calibration)
    if args.ascend_calibration:
        write_ascend(args, paths)
    if args.output:
        quantise(args, paths)


if __name__ == "__main__":
    run_main(main)
