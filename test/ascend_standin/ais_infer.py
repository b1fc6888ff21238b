#!/usr/bin/env python3
"""Stand-in for `ais_infer.py`, the inference tool of 2022 (see standin.py).

It differs from ais_bench in that --output must exist, that the summary is `sumary.json` INSIDE the
dated folder, that --batchsize is 1 unless given, and in its fewer options and its one device.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import standin
from standin_model import Model, fail
from standin_run import Run, run_model


def str2bool(text: str) -> bool:
    """Return the truth value of yes/true/t/y/1 and their opposites."""
    if text.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if text.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError("Boolean value expected true, 1, false, 0")


def positive(text: str) -> int:
    """Return a number above 0."""
    if int(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is an invalid positive int value")
    return int(text)


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse the options of the tool as it was in the middle of 2022."""
    parser = argparse.ArgumentParser(prog="ais_infer.py")
    parser.add_argument("--model", "--om", required=True)
    parser.add_argument("--input", "-i")
    parser.add_argument("--output", "-o")
    parser.add_argument("--output_dirname")
    parser.add_argument("--outfmt", default="BIN", choices=["NPY", "BIN", "TXT"])
    parser.add_argument("--loop", "-r", type=positive, default=1)
    parser.add_argument("--debug", type=str2bool, default=False)
    parser.add_argument("--device", type=int, default=0, choices=range(0, 255), metavar="N")
    parser.add_argument("--dymBatch", type=int, default=0)
    for name in ("dymHW", "dymDims", "dymShape", "outputSize", "acl_json_path"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--batchsize", type=int, default=1)
    parser.add_argument("--pure_data_type", default="zero", choices=["zero", "random"])
    parser.add_argument("--profiler", action="store_true")
    parser.add_argument("--dump", action="store_true")
    parser.add_argument("--infer_queue_count", type=positive, default=20)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the tool; a failure is a traceback, as with the real one."""
    standin.start("ais_infer.py", argv)
    if standin.edition() > "2022-08":  # an edition of ais_bench
        os.environ["STANDIN_EDITION"] = "2022-08"
    args = parse_args(argv)
    model = Model(args.model, args.device)
    if args.dymHW or args.dymDims or args.dymShape:
        raise fail("the model has no dynamic size, dims or shape", "[1][ACL: invalid parameter]")
    if args.dymBatch:
        model.set_batch(args.dymBatch)
    folder = None
    if args.output is not None:
        folder = Path(args.output) / (args.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S"))
        folder.mkdir(0o755)  # --output must exist and the folder must not, else a traceback
    run = Run(
        argv=sys.argv,
        input=args.input,
        folder=folder,
        summary_path=folder and folder / "sumary.json",
        batchsize=args.batchsize,
        outfmt=args.outfmt,
        loop=args.loop,
        pure_data_type=args.pure_data_type,
        old=True,
        all_lines=True,
    )
    run_model(model, run)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
