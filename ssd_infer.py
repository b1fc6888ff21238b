#!/usr/bin/env python3
"""Run a model over a folder of input files, with ais_bench's command line and output layout.

Reads `tensor([ID]).bin` files; writes `OUTPUT/DIRNAME/tensor([ID])_0.bin` (ploc) and `_1.bin`
(plabel), and `OUTPUT/DIRNAME_summary.json` with ais_bench's keys and ours. `.onnx` runs in ONNX
Runtime or OpenVINO, `.pt` in PyTorch, `.om` on a card. Without --input it times pure inference.
With --detections the outputs are decoded as they come, and only the detections are written.

Example:
  python3 ssd_infer.py --model ssd_bs1.onnx --input ssd_bin --output result --output_dirname bs1
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import ssd_coco
from ssd_engines import Engine, add_engine_arguments, input_dtype, open_engine
from ssd_files import (
    CHECKPOINT_KEY,
    OUTPUT_NAMES,
    KitError,
    atomic,
    end_with_parent,
    first_few,
    input_layout,
    num_cpus,
    run_main,
    sha256,
    tensor_files,
    tensor_id,
    tensor_stem,
    write_json,
)
from ssd_shares import read_share, run_shares, share_of
from ssd_stream import AHEAD, Sink, Times, run_files, summarise, time_runs

WRITERS = 2  # threads
DEFAULT_BATCH = 1  # for models that take any


def write_outputs(stem: Path, outputs: list[np.ndarray], outfmt: str) -> float:
    """Write one picture's outputs as `stem_0`, `stem_1`; return the seconds it took."""
    start = time.perf_counter()
    for path, output in zip(output_files(stem, outfmt), outputs, strict=True):
        with atomic(path) as temporary, temporary.open("wb") as file:
            if outfmt == "NPY":
                np.save(file, output)
            else:
                file.write(memoryview(np.ascontiguousarray(output)).cast("B"))
    return time.perf_counter() - start


def stem_of(folder: Path, path: Path) -> Path:
    """Return where a picture's outputs go, without `_K.bin`: its name ends at the first dot."""
    return folder / path.name.split(".")[0]


def output_files(stem: Path, outfmt: str) -> list[Path]:
    """Return the output files of one picture."""
    return [Path(f"{stem}_{k}.{outfmt.lower()}") for k in range(len(OUTPUT_NAMES))]


def write_files(
    engine: Engine, paths: list[Path], size: int, args: argparse.Namespace, folder: Path | None
) -> tuple[Times, dict[str, float]]:
    """Run the model over files and write its outputs, if `folder` is given; return both times."""
    sink = Sink(ThreadPoolExecutor(WRITERS), write_outputs, AHEAD * size)

    def put(path: Path, outputs: list[np.ndarray]) -> None:
        if folder:
            sink.put(stem_of(folder, path), outputs, args.outfmt)

    times = run_files(engine, paths, size, args.loop, put)
    return times, {"write": sum(sink.close())}


def decode_job(
    image: dict[str, Any], outputs: list[np.ndarray], category_ids: np.ndarray
) -> tuple[np.ndarray | None, float]:
    """Decode one picture's outputs in a worker; return its result rows and the seconds."""
    start = time.perf_counter()
    ploc, plabel = (output.astype(np.float32, copy=False) for output in outputs)
    return ssd_coco.results(image, ploc, plabel, category_ids), time.perf_counter() - start


def write_detections(
    engine: Engine, paths: list[Path], size: int, args: argparse.Namespace
) -> tuple[Times, dict[str, float]]:
    """Run the model over the data set's files, decoding beside it; write only the detections."""
    data = ssd_coco.open_data(args)
    category_ids = ssd_coco.category_ids(data.instances)
    if engine.labels != len(category_ids) + 1:
        raise KitError(
            f"{args.model}: tells {engine.labels} labels apart, {data.annotation} has "
            f"{len(category_ids)} categories; give the annotation file of its training"
        )
    path_of = {tensor_id(path): path for path in paths}
    missing = [image["id"] for image in data.selected if image["id"] not in path_of]
    if missing:
        raise KitError(
            f"{args.input}: no input for {len(missing)} of {len(data.selected)} images "
            f"({first_few(map(tensor_stem, missing))}); make them with ssd_preprocess.py"
        )
    image_of = {image["id"]: image for image in data.selected}
    paths = share_of([path for path in paths if tensor_id(path) in image_of], size, args.share)
    context = get_context("spawn")  # an engine's threads bar forking
    pool = ProcessPoolExecutor(num_cpus(), context, initializer=end_with_parent)
    sink = Sink(pool, decode_job, AHEAD * size + num_cpus())

    def put(path: Path, outputs: list[np.ndarray]) -> None:
        sink.put(image_of[tensor_id(path)], outputs, category_ids)

    times = run_files(engine, paths, size, args.loop, put)
    done = dict(zip(map(tensor_id, paths), sink.close(), strict=True))
    images = [image for image in data.selected if image["id"] in done]
    joined = ssd_coco.join_results(args.model, images, [done[i["id"]][0] for i in images])
    write_json(args.detections, ssd_coco.results_to_json(joined))
    return times, {"decode": sum(seconds for _, seconds in done.values())}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="FILE", type=Path, required=True, help="to run")
    parser.add_argument("--input", metavar="DIR", type=Path, help="folder of input files")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where results go")
    parser.add_argument(
        "--output_dirname", metavar="NAME", help="folder in --output (default: date and time)"
    )
    parser.add_argument("--outfmt", choices=("BIN", "NPY"), default="BIN", help="default: BIN")
    parser.add_argument(
        "--batchsize", metavar="N", type=int, help="default: the model's, 1 where it takes any"
    )
    parser.add_argument("--loop", metavar="N", type=int, default=1, help="runs of each batch")
    parser.add_argument(
        "--warmup_count", metavar="N", type=int, default=1, help="runs before timing (default: 1)"
    )
    parser.add_argument(
        "--device",
        default="0",
        help="card of a .om, several (0,1) with --detections; cpu or cuda:0 for the others",
    )
    add_engine_arguments(parser)
    parser.add_argument(
        "--share",
        metavar="I/N",
        type=read_share,
        default="0/1",
        help="with --detections: every Nth batch from I on",
    )
    parser.add_argument(
        "--print_dtype", action="store_true", help="print the dtype of the input files; run nothing"
    )
    parser.add_argument(
        "--detections",
        metavar="FILE",
        type=Path,
        help="decode in process and write a COCO result file instead of the outputs; needs --data",
    )
    ssd_coco.add_data_arguments(parser)
    args = parser.parse_args(argv)
    if args.loop < 1 or args.warmup_count < 0 or (args.batchsize or 1) < 1:
        parser.error("--loop and --batchsize must be at least 1, --warmup_count at least 0")
    if args.detections and not args.input:
        parser.error("--detections needs --input")
    if args.output_dirname and (not args.output or Path(args.output_dirname).is_absolute()):
        parser.error("--output_dirname needs --output and must be relative")
    return args


def batch_size(engine: Engine, args: argparse.Namespace) -> int:
    """Return the batch size: the model's, else --batchsize. Raises KitError if they differ."""
    if engine.batch and args.batchsize not in (None, engine.batch):
        raise KitError(
            f"{args.model}: has batch size {engine.batch}, --batchsize {args.batchsize} was given; "
            "leave it out or take another model"
        )
    return engine.batch or args.batchsize or DEFAULT_BATCH


def run(engine: Engine, args: argparse.Namespace, folder: Path | None) -> dict[str, Any]:
    """Do what the command line asks for and return the summary."""
    size = batch_size(engine, args)
    if args.input:
        paths = tensor_files(args.input)
        if input_layout(paths[0]) != (engine.dtype, engine.shape):
            found = " ".join(map(str, input_layout(paths[0])))
            raise KitError(
                f"{paths[0]}: {found}, {args.model} takes {engine.dtype} {engine.shape}; "
                f"make them with ssd_preprocess.py --dtype {engine.dtype}"
            )
    time_runs(engine, np.zeros((size, *engine.shape), engine.dtype), args.warmup_count)
    start = time.perf_counter()
    if not args.input:
        blank = np.zeros((size, *engine.shape), engine.dtype)
        times, busy = Times(time_runs(engine, blank, args.loop)[1], 0.0, 0), {}
    elif args.detections:
        times, busy = write_detections(engine, paths, size, args)
    else:
        times, busy = write_files(engine, paths, size, args, folder)
    wall = time.perf_counter() - start
    images = len(times.runs) * size - times.padded * args.loop
    infer = sum(times.runs) / 1000
    return summarise(times.runs, size) | {
        "batch_size": size,
        "images": images,
        "padded": times.padded,
        "images_per_second": images / wall,
        "seconds": {"read": times.read, "infer": infer} | busy | {"wall": wall},
        "engine": engine.name,
        "provider": engine.provider,
        "model": str(args.model),
        "model_sha256": sha256(args.model),
        CHECKPOINT_KEY: engine.checkpoint,
        "input_dtype": engine.dtype,
    }


def files_info(paths: list[Path], folder: Path, size: int, outfmt: str) -> dict[str, Any]:
    """Return ais_bench's map from batch to its input files and output files."""
    info = {}
    for i in range(0, len(paths), size):
        outs = [
            str(o) for p in paths[i : i + size] for o in output_files(stem_of(folder, p), outfmt)
        ]
        info[str(i // size)] = {"infiles": [str(p) for p in paths[i : i + size]], "outfiles": outs}
    return info


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.print_dtype:
        print(input_dtype(args.model))
        return
    name = args.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")
    if "," in args.device:
        if not args.detections:
            raise KitError(
                f"--device {args.device}: several cards need --detections (or ais_bench)"
            )
        own = sys.argv[1:] if argv is None else argv
        images = [image["id"] for image in ssd_coco.open_data(args).selected]
        devices = args.device.split(",")
        summary = run_shares(Path(__file__), own, devices, args.detections, images)
        report(args, name, summary)
        return
    engine = open_engine(args.model, args.device, args.engine, args.precision)
    print(f"engine {engine.name}, {engine.provider}; input {engine.dtype} {engine.shape}")
    summary = run(engine, args, args.output / name if args.output else None)
    report(args, name, summary)


def report(args: argparse.Namespace, name: str, summary: dict[str, Any]) -> None:
    """Write the summary if there is an --output, and print its figures."""
    if args.output:
        folder = args.output / name
        paths = tensor_files(args.input) if args.input and not args.detections else []
        info = files_info(paths, folder, summary["batch_size"], args.outfmt)
        target = args.output / f"{name}_summary.json"
        options = {key: str(value) for key, value in vars(args).items()}
        write_json(target, {"filesinfo": info, "args": options} | summary)
        print(f"summary {target}")
    times = summary["NPU_compute_time"]
    print(
        f"batch {summary['batch_size']}: {times['mean']:.2f} ms mean, "
        f"{times['median']:.2f} median, {times['percentile(99%)']:.2f} p99 of {times['count']} runs"
    )
    print(f"throughput {summary['throughput']:.3f} images/s in the engine")
    print(f"wall clock {summary['images_per_second']:.3f} images/s, {summary['images']} images")


if __name__ == "__main__":
    run_main(main)
