"""The command line of the stand-in ais_bench: options, one device, several devices."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import standin
from standin_files import list_inputs
from standin_model import INVALID, Model, fail, say
from standin_run import Run, run_model


def str2bool(text: str) -> bool:
    """Return the truth value of yes/true/t/y/1 and their opposites."""
    if text.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if text.lower() in ("no", "false", "f", "n", "0"):
        return False
    reason = "Boolean value expected true, 1, false, 0 with case insensitive."
    raise argparse.ArgumentTypeError(reason)


def positive(text: str) -> int:
    """Return a number above 0."""
    if int(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is an invalid positive int value")
    return int(text)


def nonnegative(text: str) -> int:
    """Return a number that is not negative."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is an invalid nonnegative int value")
    return int(text)


def device_list(text: str) -> list[int]:
    """Return the device numbers of `0` or `0,1`."""
    devices = [int(part) for part in text.split(",")]
    if not all(0 <= device <= 255 for device in devices):
        reason = f"device:{text} is invalid. valid value range is [0, 255]"
        raise argparse.ArgumentTypeError(reason)
    return devices


def check_legal(kind: str, text: str, perm: str) -> None:
    """Refuse a path that the tool of 2024 does not take."""
    if not standin.has_rules():
        return
    from standin_paths import FileStat, OpenException

    try:
        legal = FileStat(text).is_basically_legal(perm)
    except OpenException:
        raise argparse.ArgumentTypeError(f"{kind} path string is illegal. Please check.") from None
    if not legal:
        raise argparse.ArgumentTypeError(f"{kind} path:{text} is illegal. Please check.")


def output_path(text: str) -> str:
    """Return --output, refused by the tool of 2024 if others may read it."""
    check_legal("output", text, "write")
    return text


def om_path(text: str) -> str:
    """Return the path of a model, refused when it is no .om or others may write to it."""
    check_legal("om", text, "read")
    bad = not os.path.isfile(text) or not text.endswith(".om") or not os.access(text, os.R_OK)
    if bad or (not standin.is_2023() and os.stat(text).st_mode & 0o022):
        raise argparse.ArgumentTypeError(f"om path:{text} is illegal. Please check.")
    return text


def input_paths(text: str) -> str:
    """Return --input, refused when one of its paths is not there."""
    for path in text.split(","):
        check_legal("input", path, "read")
        if not os.access(path, os.R_OK):
            raise argparse.ArgumentTypeError(f"input path:{path} is illegal. Please check.")
    return text


def make_parser() -> argparse.ArgumentParser:
    """Return the parser, with the names of ais_bench, not of msit."""
    parser = argparse.ArgumentParser(prog="ais_bench")
    add = parser.add_argument
    add("--model", "-m", type=om_path, required=True)
    add("--input", "-i", type=input_paths)
    add("--output", "-o", type=output_path)
    add("--output_dirname")
    add("--outfmt", default="BIN", choices=["NPY", "BIN", "TXT"])
    add("--loop", "-l", type=positive, default=1)
    add("--device", "-d", type=device_list, default=[0])
    add("--dymBatch", type=positive, default=0)
    add("--dymShape", "--dym-shape")
    for name in ("dymHW", "dymDims", "outputSize", "dymShape_range"):
        add(f"--{name}")
    add("--batchsize", type=positive)
    add("--pure_data_type", default="zero", choices=["zero", "random"])
    add("--output_batchsize_axis", type=nonnegative, default=0)
    add("--run_mode", default="array", choices=["array", "files", "tensor", "full"])
    add("--warmup_count", "--warmup-count", type=nonnegative, default=1)
    add("--npu_id", default="0")
    add("--backend", choices=["trtexec"])
    add("--threads", type=positive, default=1)  # --thread, its older name, abbreviates it
    for name in ("acl_json_path", "aipp_config"):
        add(f"--{name}")
    switches = ["debug", "auto_set_dymshape_mode", "auto_set_dymdims_mode", "profiler", "dump"]
    switches += ["display_all_summary", "energy_consumption", "perf", "pipeline"]
    switches += ["profiler_rename", "dump_npy"] + ([] if standin.is_2023() else ["divide_input"])
    for name in switches:
        add(f"--{name}", type=str2bool, default=False)
    return parser


def refuse(text: str, reason: str) -> NoReturn:
    """Fail as the tool does for options that do not go together."""
    raise fail(text, reason)


def check_args(args: argparse.Namespace) -> None:
    """Refuse options that do not go together. Raises RuntimeError."""
    if args.profiler and args.dump:
        text = "parameter --profiler cannot be true at the same time as parameter --dump"
        refuse(text, "error bad parameters --profiler and --dump")
    if (args.profiler or args.dump) and args.output is None:
        refuse("when dump or profiler, miss output path", "miss output parameter!")
    if args.output is None and args.output_dirname is not None:
        text = "parameter --output_dirname cann't be used alone"
        refuse(text, "error bad parameters --output_dirname")
    if args.output_dirname is not None and os.path.isabs(args.output_dirname):
        text = "parameter --output_dirname must be a relative path"
        refuse(text, "error bad parameters --output_dirname")
    if args.aipp_config is not None and not args.aipp_config.endswith(".config"):
        refuse("aipp config file is not a .config file", "wrong aipp config file type!")
    if args.threads > 1 or args.perf or args.backend:
        refuse("the stand-in plays neither several threads nor another backend", "not played")
    if args.profiler and args.input is not None:
        args.warmup_count = 0


def load(args: argparse.Namespace, device: int) -> Model:
    """Load the model and set its batch. Raises RuntimeError."""
    model = Model(args.model, device)
    dynamic = [args.dymHW, args.dymDims, args.dymShape, args.dymShape_range, args.aipp_config]
    if any(dynamic) or args.auto_set_dymshape_mode or args.auto_set_dymdims_mode:
        refuse("the model has no dynamic size, dims, shape or AIPP", INVALID)
    if args.dymBatch:
        model.set_batch(args.dymBatch)
    if args.debug:
        for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
            say("DEBUG", f"{kind}:")
            for index, one in enumerate(tensors):
                shape, sizes = tuple(one.shape), f"{one.size}  {one.realsize}"
                say("DEBUG", f"  #{index}    {one.name}  {shape}  {one.datatype.name}  {sizes}")
    return model


def run_device(args: argparse.Namespace, stamp: str, index: int, files: str | None) -> float:
    """Run on the device with this place in --device; returns its throughput."""
    device = args.device[index]
    model = load(args, device)
    batchsize = args.batchsize or args.dymBatch or model.inputs[0].shape[0]
    say("INFO", f"try get model batchsize:{batchsize}")
    folder = None
    if args.output is not None:
        folder = Path(args.output) / (args.output_dirname or stamp)
        if len(args.device) > 1:
            folder /= f"device{device}" if standin.is_2023() else f"device{device}_{index}"
        folder.mkdir(0o750, parents=True, exist_ok=True)
    run = Run(
        argv=sys.argv,
        input=files,
        folder=folder,
        summary_path=folder and folder.with_name(f"{folder.name}_summary.json"),
        batchsize=batchsize,
        outfmt=args.outfmt,
        loop=args.loop,
        warmup_count=args.warmup_count,
        pure_data_type=args.pure_data_type,
        axis=args.output_batchsize_axis,
        join=not args.pipeline,
        all_lines=args.display_all_summary,
    )
    return run_model(model, run)


def split_inputs(args: argparse.Namespace) -> list[str | None]:
    """Return --input for every device: all of it, or a share by number of FILES, not batches."""
    jobs = len(args.device)
    divide = standin.is_2023() or args.divide_input
    if args.input is None or not divide or jobs == 1:
        return [args.input] * jobs
    count = len(Model(args.model, 0).inputs)  # on device 0, whichever devices are asked for
    shares: list[list[str]] = [[] for _ in range(jobs)]
    for files in list_inputs(args.input, count):
        each, more = divmod(len(files), jobs)
        first = 0
        for job, share in enumerate(shares):
            last = first + each + (job < more)
            share += files[first:last]
            first = last
    return [",".join(share) for share in shares]


def run_devices(args: argparse.Namespace, stamp: str) -> int:
    """Run on several devices, each to its own folder; 1 if any of them failed.

    The real tool has a process for each; here they take turns in one.
    """
    say("INFO", f"multidevice:{args.device} run begin")
    rates = []
    for index, files in enumerate(split_inputs(args)):
        start = time.time()
        try:
            rates.append(run_device(args, stamp, index, files))
        except RuntimeError as error:
            say("ERROR", f"subprocess run failed error_callback:{error}")
            continue
        times = f"start_time:{start} end_time:{time.time()}"
        say("INFO", f"i:{index} device_{args.device[index]} throughput:{rates[-1]} {times}")
    result = int(len(rates) < len(args.device))
    say("INFO", f"multidevice run end qsize:{2 * len(rates)} result:{result}")
    say("INFO", f"summary throughput:{sum(rates)}")
    return result


def main(argv: list[str]) -> int:
    """Run the tool; a failure on a single device is a traceback, as with the real one."""
    standin.start("ais_bench", argv)
    args = make_parser().parse_args(argv)
    check_args(args)
    stamp = time.strftime("%Y_%m_%d-%H_%M_%S")
    if len(args.device) > 1:
        return run_devices(args, stamp)
    run_device(args, stamp, 0, args.input)
    return 0
