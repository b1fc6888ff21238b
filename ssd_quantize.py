#!/usr/bin/env python3
"""Quantize an ONNX model of the kit to INT8, and show what that gains and costs.

Reads a float32 ONNX file and a folder of ssd_preprocess.py, whose images calibrate it; writes an
ONNX file with the same input and outputs, for ONNX Runtime and OpenVINO (ATC does not read it).
Sensitive layers stay in float. With --ascend-calibration it writes what atc itself needs to
calibrate: calibration.bin and calibration.cfg, for ssd_onnx2om.py --int8.

Example:
  python3 ssd_quantize.py --onnx-path ssd_bs1.onnx --calibration ssd_bin \\
      --output ssd_bs1_int8.onnx
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssd import coco  # a copied script needs ssd/ beside it
from ssd.ascend import npu_smi
from ssd.ascend.calibration import CONFIG_NAME, DATA_NAME, write_calibration
from ssd.cli import ArgumentParser, KitError, file_to_check, note, positive, progress, run_main
from ssd.engines import open_engine
from ssd.files import atomic, scratch_folder, sha256
from ssd.machine import check_free
from ssd.onnx_graph import count_int8
from ssd.quantize.images import check_images, read_image, spread
from ssd.quantize.judges import MAX_DROP, MIN_MATCH_RATE, MapJudge, MatchJudge
from ssd.quantize.quantizer import METHODS, Quantizer, load_float
from ssd.quantize.search import Table, choose, named_nodes
from ssd.tensors import tensor_files

import numpy as np

FEW = 8  # images that atc's ranges are poor with


def write_ascend(
    model: Path, paths: list[Path], limit: int, soc_version: str, folder: Path
) -> None:
    """Write what atc calibrates with: as many images as the model's batch, and the config.

    atc runs them as one batch: its --input_shape has their number, `limit` where the model takes
    any. soc_version: the chip, or auto to ask npu-smi.
    Raises KitError if the model does not take float32, or the images are too few.
    """
    engine = open_engine(model)
    if engine.dtype != "float32":
        raise KitError(f"{model}: takes {engine.dtype}; atc wants a float32 model")
    check_images(paths, engine.dtype)
    chosen = spread(paths, engine.batch or limit)
    if len(chosen) < (engine.batch or 1):
        raise KitError(
            f"{paths[0].parent}: {len(chosen)} images, {model} takes {engine.batch} at a time; "
            "make more with ssd_preprocess.py"
        )
    soc = npu_smi.soc_version() if soc_version == "auto" else soc_version
    images = (read_image(path, "float32") for path in progress(chosen, "calibration data"))
    data, config = write_calibration(folder, images, len(chosen), engine.input_name, soc)
    if len(chosen) < FEW:
        note(f"note: atc calibrates on one batch, here {len(chosen)} images; more are better")
    print(f"{data}: {len(chosen)} images, SHA-256 {sha256(data)}")
    print(f"{config}: for {soc}; give it to ssd_onnx2om.py --int8")


def read_data(data: Path | None, annotation: Path | None) -> coco.DataSet:
    """Read the data set that mAP is measured on; its images come from the calibration folder."""
    found = coco.read_data(data, annotation)
    coco.check_scorable(found.instances, found.annotation)
    return found


@contextmanager
def scratch_room(needed: int) -> Iterator[Path]:
    """Give a folder for scratch files, and remove it afterwards.

    Raises KitError if it has no room for `needed` bytes, or the system refuses a file in it.
    """
    try:
        with scratch_folder(Path(tempfile.gettempdir()), "ssd_quantize.", "TMPDIR") as folder:
            check_free(folder, needed, "scratch files", "; TMPDIR names it")
            yield folder
    except OSError as error:
        reason = error.strerror or str(error)
        raise KitError(
            f"scratch folder: cannot write: {reason}; free space, or name another in TMPDIR"
        ) from None


def nodes_to_skip(text: str, quantizer: Quantizer) -> list[str]:
    """Return the nodes that --skip names. Raises KitError if no convolution is left in INT8."""
    named = [] if text == "none" else named_nodes(text, quantizer.names)
    if not quantizer.int8_share(named):
        raise KitError(f"--skip {text}: leaves every convolution in float; skip fewer")
    return named


def write_model(quantizer: Quantizer, nodes: list[str], image: Path, output: Path) -> None:
    """Make the model of the full batch size, check it on an image, and write it to `output`.

    Raises KitError if its outputs are not finite or it cannot be written.
    """
    import onnx

    target = quantizer.scratch / "int8.onnx"
    quantizer.make(nodes, target, single=False)
    onnx.checker.check_model(target, full_check=True)
    before, engine = open_engine(quantizer.path), open_engine(target)
    same = [(e.dtype, e.shape, e.batch, e.labels) for e in (before, engine)]
    assert same[0] == same[1], same
    images = np.stack([read_image(image, engine.dtype)] * (engine.batch or 1))
    if not all(np.isfinite(values).all() for values in engine.run(images)):
        raise KitError(f"{output}: gives NaN or infinity; not written; try another --method")
    with atomic(output) as temporary:
        shutil.copyfile(target, temporary)
    int8, total = count_int8(output)
    batch, shape = engine.batch or "N", ", ".join(map(str, engine.shape))
    print(f"input {engine.input_name}: {engine.dtype} ({batch}, {shape})")
    share = quantizer.int8_share(nodes)
    print(f"{int8} of {total} convolutions in INT8, {share:.0%} of the multiply-adds")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(output)}")


def add_ascend_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ascend-calibration",
        metavar="DIR",
        type=Path,
        help=f"write {DATA_NAME} and {CONFIG_NAME} for atc",
    )
    parser.add_argument(
        "--soc_version",
        default="auto",
        help="chip that atc calibrates on, such as Ascend310P3 (default: ask npu-smi)",
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--onnx-path", metavar="FILE", type=Path, required=True, help="float model, any batch size"
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        type=Path,
        required=True,
        help="images to calibrate with: a folder of ssd_preprocess.py",
    )
    parser.add_argument("--output", metavar="FILE", type=file_to_check, help="INT8 model to write")
    parser.add_argument(
        "--limit",
        metavar="N",
        type=positive,
        default=64,
        help="images to calibrate with, spread over the folder (default: 64); for atc the batch",
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
        f"(default): sensitive blocks, until mAP drops by at most {MAX_DROP} or, without "
        f"--data, {MIN_MATCH_RATE:.0%} of the detections are found again".replace("%", "%%"),
    )
    parser.add_argument(
        "--data", "--data_path", metavar="DIR", type=Path, help="data set to measure mAP on"
    )
    parser.add_argument(
        "--annotation", metavar="FILE", type=Path, help="COCO instances file (default: --data's)"
    )
    add_ascend_arguments(parser)
    args = parser.parse_args(argv)
    if not (args.output or args.ascend_calibration):
        parser.error("give --output, --ascend-calibration or both")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    paths = tensor_files(args.calibration)
    if args.ascend_calibration:
        write_ascend(args.onnx_path, paths, args.limit, args.soc_version, args.ascend_calibration)
    if not args.output:
        return
    model = load_float(args.onnx_path)
    with scratch_room(4 * model.ByteSize()) as scratch:
        quantizer = Quantizer(args.onnx_path, model, scratch)
        check_images(paths, quantizer.dtype)
        named = None if args.skip == "auto" else nodes_to_skip(args.skip, quantizer)
        floats, seen = open_engine(quantizer.single), spread(paths, args.limit)
        if args.data or args.annotation:
            judge = MapJudge(paths, read_data(args.data, args.annotation), floats)
        else:
            judge = MatchJudge(seen, floats)
        quantizer.calibrate(seen, args.method)
        table = Table(quantizer, judge, floats)
        nodes = choose(quantizer, table, args.skip, named, seen)
        table.judge_in_openvino(nodes)
        write_model(quantizer, nodes, seen[0], args.output)


if __name__ == "__main__":
    run_main(main)
