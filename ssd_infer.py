#!/usr/bin/env python3
"""Run a model over a folder of input files, with ais_bench's command line and output layout.

Reads `tensor([ID]).bin` files; writes `OUTPUT/DIRNAME/tensor([ID])_0.bin` (ploc) and `_1.bin`
(plabel), and `OUTPUT/DIRNAME_summary.json` with ais_bench's keys and ours. `.onnx` runs in ONNX
Runtime or OpenVINO, `.pt` in PyTorch, `.om` on a card: there ais_bench or ais_infer.py runs it.
With --in_process outputs are decoded as they come, and only `OUTPUT/DIRNAME_detections.json` is
written. Without --input pure inference is timed. What is there of the same run is kept: the same
command goes on where it was interrupted.

Example:
  python3 ssd_infer.py --model ssd_bs1.onnx --input ssd_bin --output result --output_dirname bs1
"""

import argparse
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ssd import coco  # a copied script needs ssd/ beside it
from ssd.ascend import path_rules
from ssd.ascend.ais_bench import add_tool_arguments
from ssd.ascend.om import batch_of
from ssd.cli import ArgumentParser, KitError, positive, run_main, seconds, sizes
from ssd.engines import add_engine_arguments, check_precision, input_and_labels, open_engine
from ssd.engines.choice import Choice, choose, find_model
from ssd.engines.in_process import check_labels, images_of, inputs_of
from ssd.engines.job import batch_size, run
from ssd.engines.record import WHOLE, Job
from ssd.engines.shards import read_shard
from ssd.engines.timing import SECONDS
from ssd.files import locked, write_bytes
from ssd.tensors import tensor_files
from ssd.workers import add_workers_argument

DEFAULT_NAME = "%Y_%m_%d-%H_%M_%S"  # of the output folder, as ais_bench has it
TIMES = {"mean": "mean", "median": "median", "percentile(99%)": "p99"}  # of a summary, shown


def loops(text: str) -> int | None:
    """Return the number of runs; None for `auto`, as if none was given."""
    return None if text == "auto" else positive(text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model",
        "--models",
        metavar="PATH",
        type=Path,
        required=True,
        help="a model file, or a folder with ssd_bsN models",
    )
    parser.add_argument(
        "--variant", default="", metavar="NAME", help="in a folder: run ssd_bsN_NAME"
    )
    parser.add_argument("--input", metavar="DIR", type=Path, help="folder of input files")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where results go")
    parser.add_argument(
        "--output_dirname", metavar="NAME", help="folder in --output (default: date and time)"
    )
    parser.add_argument("--outfmt", choices=("BIN", "NPY"), default="BIN", help="default: BIN")
    parser.add_argument(
        "--batchsize",
        metavar="N",
        type=sizes,
        help="default: the model's, 1 where it takes any; with --print_dtype several, as in 1,16",
    )
    parser.add_argument(
        "--loop",
        metavar="N",
        type=loops,
        help="runs of each batch (default: 1); without --input, where auto is the default: as many "
        "as fit into --seconds",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=seconds,
        help=f"how long pure inference is timed, without --input (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--warmup_count",
        metavar="N",
        type=int,
        default=1,
        help="runs before timing, at least (default: 1)",
    )
    parser.add_argument(
        "--device",
        default="0",
        help="cards of a .om, such as 0 (default) or 0,1; else cpu, cuda:0 or npu:0",
    )
    add_engine_arguments(parser)
    add_tool_arguments(parser)
    parser.add_argument(
        "--in_process",
        action="store_true",
        help="decode outputs as they come, and write only the detections; needs --data, --output; "
        "without --input it makes the inputs on the way, from the images",
    )
    parser.add_argument(
        "--detections",
        metavar="FILE",
        type=Path,
        help="--in_process, and write the detections to FILE as well; --output is its folder then",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        type=read_shard,
        default="0/1",
        help="with --in_process: every Nth batch from I on",
    )
    add_workers_argument(parser, "read images and decode, with --in_process")
    parser.add_argument(
        "--force", action="store_true", help="replace the results of another run in that folder"
    )
    parser.add_argument(
        "--print_dtype",
        action="store_true",
        help="check the models, print the dtype of their input files, and run nothing",
    )
    coco.add_data_arguments(parser)
    args = parser.parse_args(argv)
    if args.detections:
        args.in_process = True
        args.output_dirname = args.output_dirname or (None if args.output else args.detections.stem)
        if not args.output:
            args.output, args.force = args.detections.parent, True  # FILE names no run to keep
    if args.warmup_count < 0:
        parser.error("argument --warmup_count: must be at least 0")
    if args.in_process and not (args.output or args.print_dtype):
        parser.error("--in_process needs --output")
    if args.shard != WHOLE and not args.in_process:
        parser.error("--shard needs --in_process")
    if args.output_dirname and (not args.output or Path(args.output_dirname).is_absolute()):
        parser.error("--output_dirname needs --output and must be relative")
    if args.loop and args.seconds:
        parser.error("--loop is a number of runs, --seconds a time; give one of them")
    if args.seconds and (args.input or args.in_process) and not args.print_dtype:
        parser.error("--seconds is for timing, without --input")
    if args.batchsize and len(args.batchsize) > 1 and not args.print_dtype:
        parser.error("--batchsize: one size only, unless --print_dtype is given")
    return args


def check_models(args: argparse.Namespace, choice: Choice) -> str:
    """Open each model on its device, and return the dtype that all of them take.

    Raises KitError if one is missing or none of the kit's, or fits neither the others nor the data.
    """
    data = coco.open_data(args) if args.data or args.annotation else None
    first = ""
    for batch in args.batchsize or [None]:
        path = find_model(args.model, batch or 1, args.variant, choice.engine)
        if choice.tool:  # opening a model on the card is left to it
            if choice.tool.rules:
                is_tools = args.output and not choice.in_process
                path_rules.check_run(path, [args.output] if is_tools else [], [])
            its_batch, (dtype, labels) = batch_of(path), input_and_labels(path)
        else:
            engine = open_engine(path, args.device, choice.engine, args.precision)
            its_batch, dtype, labels = engine.batch, engine.dtype, engine.labels
        batch_size(path, its_batch, batch)
        if data:
            check_labels(path, labels, data)
        if first and dtype != first:
            raise KitError(
                f"{path} takes {dtype}, the models before it {first}; convert them alike"
            )
        first = dtype
    return first


def new_name(output: Path | None) -> str:
    """Return a name by date and time that no run in `output` has, even one of the same second."""
    now = name = time.strftime(DEFAULT_NAME)
    tries = 0
    while output and any((output / f"{name}{end}").exists() for end in ("", "_summary.json")):
        tries += 1
        name = f"{now}_{tries}"
    return name


def make_job(args: argparse.Namespace, choice: Choice, argv: list[str]) -> Job:
    """Return what the command line asks for."""
    batch = args.batchsize[0] if args.batchsize else None
    has_inputs, known = args.input or args.in_process, args.data or args.annotation
    data = coco.open_data(args) if has_inputs and known else None
    if has_inputs and choice.in_process and not data:
        raise KitError("--in_process: needs the data set of the inputs; give --data DIR")
    if args.input:
        inputs = tensor_files(args.input)
        inputs = inputs_of(data, inputs) if data else inputs
    else:
        inputs = images_of(data) if args.in_process else []
    name = args.output_dirname or new_name(args.output)
    return Job(
        model=find_model(args.model, batch or 1, args.variant, choice.engine),
        choice=choice,
        precision=args.precision,
        batch=batch,
        inputs=inputs,
        from_images=args.in_process and not args.input,
        data=data,
        target=args.output / name if args.output else None,
        loop=args.loop or (1 if has_inputs else None),
        warmup=args.warmup_count,
        outfmt=args.outfmt,
        workers=args.workers,
        shard=args.shard,
        script=Path(__file__),
        argv=argv,
        seconds=args.seconds or SECONDS,
    )


def run_aside(job: Job) -> dict[str, Any]:
    """Time a model with the tool in a folder that is gone afterwards; return the summary.

    Raises KitError if there are inputs, whose outputs would be lost.
    """
    if job.inputs:
        raise KitError(f"{job.choice.tool.name} writes outputs; give --output")
    with tempfile.TemporaryDirectory(prefix="ssd-") as folder:
        return run(job._replace(target=Path(folder) / "run"), force=False)


def report(job: Job, summary: dict[str, Any]) -> None:
    """Print the figures of a summary."""
    if job.target:
        print(f"summary {job.beside('_summary.json')}")
    times = summary["NPU_compute_time"]
    shown = [f"{times[key]:.2f} {name}" for key, name in TIMES.items() if times.get(key)]
    if summary.get("quartiles"):
        shown.append("middle half {:.2f} to {:.2f}".format(*summary["quartiles"]))
    print(f"batch {summary['batch_size']}: ms {', '.join(shown)} of {times.get('count', '?')} runs")
    print(f"throughput {summary['throughput']:.3f} images/s in the engine")
    print(f"wall clock {summary['images_per_second']:.3f} images/s, {summary['images']} images")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.model.is_dir() and args.precision == "int8" and not args.variant:
        args.variant = "int8"
    tool = args.ais_infer, args.in_process, args.tool_python
    choice = choose(args.model, args.engine, args.device, *tool)
    check_precision(choice.engine, args.precision)  # the tool on a card would not
    if choice.tool and choice.tool.rules:
        path_rules.close_to_others()
    if args.print_dtype:
        print(check_models(args, choice))
        return
    job = make_job(args, choice, sys.argv[1:] if argv is None else argv)
    if choice.tool and not args.output:
        report(job, run_aside(job))
        return
    with locked(args.output) if args.output else nullcontext():
        report(job, run(job, args.force))
    if args.detections and args.shard == WHOLE:  # else the run that asked for shards writes them
        write_bytes(args.detections, job.beside("_detections.json").read_bytes())


if __name__ == "__main__":
    run_main(main)
