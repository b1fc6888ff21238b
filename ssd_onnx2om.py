#!/usr/bin/env python3
"""Convert an ONNX file to Ascend's .om with atc, and note beside it what it was made with.

Reads an ONNX file of ssd_pth2onnx.py (float32 input); writes OM, OM.json (sources, flags, chip,
input dtype and layout: the evaluation reads it) and, with --aipp, the AIPP config. An OM that is
there and was made from and with the same is kept. atc runs in a scratch folder, as it drops files
where it runs. Its output goes to OM's stem with .atc.log, which stays if it fails.

Example:
  python3 ssd_onnx2om.py --onnx-path ssd_bs1.onnx --om-path ssd_bs1.om --bs 1
"""

import argparse
import glob
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ssd.ascend import advice, npu_smi, pythons, toolkit  # a copied script needs ssd/ beside it
from ssd.ascend.calibration import calibration_data
from ssd.ascend.om import aipp_config, read_sidecar, sidecar_path
from ssd.ascend.path_rules import OTHERS_WRITE
from ssd.boxes import SSD300
from ssd.cli import (
    ArgumentParser,
    KitError,
    file_to_check,
    note,
    positive,
    run_main,
    sizes,
    working,
)
from ssd.engines import model_sha256
from ssd.files import scratch_folder, sha256, write_bytes, write_json
from ssd.onnx_graph import facts_of
from ssd.tensors import INPUT_NAME
from ssd.workers import run_processes

KIT_FLAGS = {  # set here, so not to be given in --atc_args; and the option to use
    "framework": "nothing: it is ONNX",
    "model": "--onnx-path",
    "output": "--om-path",
    "input_shape": "--bs or --dynamic_batch",
    "input_format": "nothing: it is NCHW",
    "soc_version": "--soc_version",
    "insert_op_conf": "--aipp",
    "output_type": "--output_fp16",
    "dynamic_batch_size": "--dynamic_batch",
    "precision_mode_v2": "--precision_mode_v2",
    "compression_optimize_conf": "--int8",
    "auto_tune_mode": "AOE: newer CANN discarded it",
}
SIGNATURE_FLAGS = {  # would give the model other inputs or outputs than its sidecar says
    "dynamic_dims",
    "dynamic_image_size",
    "input_fp16_nodes",
    "input_shape_range",
    "is_input_adjust_hw_layout",
    "is_output_adjust_hw_layout",
    "out_nodes",
}
SCRATCH_FLAGS = ("--output", "--op_compiler_cache_dir")  # differ from run to run
EXCLUSIVE = {  # an option of this script, and flags of atc that it excludes
    "precision_mode_v2": {"precision_mode"},
    "int8": {"op_precision_mode"},
}
HIGH_PRECISION = (  # ends of what --int8 excludes
    *("origin", "force_fp32", "must_keep_origin_dtype"),
    *("high_precision", "high_precision_for_all"),
)


def flag_names(words: list[str]) -> set[str]:
    """Return the names of atc's flags among words, as it reads them: `-a-b=1` is --a_b too."""
    names = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("-")]
    return {name.replace("-", "_") for name in names}


def split_flags(text: str) -> list[str]:
    """Split more flags for atc; files among their values get absolute, as atc runs elsewhere."""
    words = []
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        is_file = "." in value and Path(value).is_file()
        words.append(f"{name}={Path(value).absolute()}" if equals and is_file else word)
    return words


def check_options(args: argparse.Namespace) -> None:
    """Raise KitError for options that exclude each other, before atc runs."""
    extra = flag_names(args.atc_args)
    for name in sorted(extra & KIT_FLAGS.keys()):
        raise KitError(f"--atc_args: --{name} is set by this kit; use {KIT_FLAGS[name]}")
    for name in sorted(extra & SIGNATURE_FLAGS):
        why = "changes the model's inputs or outputs, which the evaluation must know; leave it out"
        raise KitError(f"--atc_args: --{name} {why}")
    for option, flags in EXCLUSIVE.items():
        for name in sorted(flags & extra):
            if getattr(args, option):
                raise KitError(f"--{option} and --{name} exclude each other; leave one out")
    if args.int8 and args.dynamic_batch:
        raise KitError("--int8 and --dynamic_batch exclude each other; convert each batch size")
    modes = [f"--precision_mode_v2={args.precision_mode_v2}", *args.atc_args]
    high = [mode for mode in modes if mode.endswith(HIGH_PRECISION)]
    if args.int8 and high:
        raise KitError(f"{high[0]} excludes INT8 calibration; leave one out")


def atc_command(args: argparse.Namespace, soc: str, output: Path, aipp: Path) -> list[str]:
    """Return atc's argv. output: without .om, which atc appends."""
    batch = -1 if args.dynamic_batch else args.bs
    command = [
        "atc",
        "--framework=5",
        f"--model={args.onnx_path.absolute()}",
        f"--output={output}",
        "--input_format=NCHW",
        f"--input_shape={INPUT_NAME}:{batch},3,{SSD300.input_size},{SSD300.input_size}",
        "--log=error",
        f"--soc_version={soc}",
    ]
    if args.dynamic_batch:
        command.append(f"--dynamic_batch_size={','.join(map(str, args.dynamic_batch))}")
    if args.aipp:
        command += [f"--insert_op_conf={aipp.absolute()}", "--enable_small_channel=1"]
    if args.output_fp16:
        command.append("--output_type=FP16")
    if args.precision_mode_v2:
        command.append(f"--precision_mode_v2={args.precision_mode_v2}")
    if args.int8:
        command.append(f"--compression_optimize_conf={args.int8.absolute()}")
    if args.cache:
        cache = args.cache.absolute()
        command += ["--op_compiler_cache_mode=enable", f"--op_compiler_cache_dir={cache}"]
    return command + args.atc_args


def noted_flags(command: list[str]) -> list[str]:
    """Return atc's flags, but for scratch folders; a file stands there as its SHA-256."""
    flags = []
    for word in command[1:]:
        name, _, value = word.partition("=")
        if name not in SCRATCH_FLAGS:
            is_file = value and Path(value).is_file()
            flags.append(f"{name}=SHA-256 {sha256(Path(value))}" if is_file else word)
    return flags


def sidecar(args: argparse.Namespace, soc: str, command: list[str]) -> dict[str, Any]:
    """Return what OM.json says of the .om to be made, but for its SHA-256."""
    names = ("aipp", "output_fp16", "dynamic_batch", "int8")
    modes = [name for name in names if getattr(args, name)]
    if args.precision_mode_v2:
        modes.append(args.precision_mode_v2)
    found = facts_of(args.onnx_path)
    if args.int8:
        found["calibration_sha256"] = sha256(calibration_data(args.int8))
    return found | {
        "onnx": args.onnx_path.name,
        "onnx_sha256": model_sha256(args.onnx_path),
        "flags": noted_flags(command),
        "mode": " ".join(modes) or "plain",
        "soc_version": soc,
        "cann": toolkit.toolkit_version(),
        "input_dtype": "uint8" if args.aipp else "float32",
        "input_layout": "NHWC" if args.aipp else "NCHW",
        "output_dtype": "float16" if args.output_fp16 else "float32",
        "batch": args.dynamic_batch or args.bs,
    }


def is_made(om: Path, made_from: dict[str, Any]) -> bool:
    """Return whether the .om is there already, whole, and made from and with the same."""
    try:
        found = read_sidecar(om)
    except (KitError, OSError):  # a broken sidecar, or that of another .om
        return False
    return all(found.get(key, "not noted") == value for key, value in made_from.items())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--onnx-path", metavar="FILE", type=Path, required=True, help="ONNX file")
    parser.add_argument(
        "--om-path", metavar="FILE", type=file_to_check, required=True, help="to write"
    )
    parser.add_argument("--bs", metavar="N", type=positive, default=1, help="its batch size")
    parser.add_argument(
        "--soc_version", default="auto", help="chip, such as Ascend310P3 (default: ask npu-smi)"
    )
    parser.add_argument(
        "--aipp", action="store_true", help="normalize on the card: the model takes uint8 NHWC"
    )
    parser.add_argument(
        "--output_fp16", action="store_true", help="float16 outputs, half the bytes"
    )
    parser.add_argument(
        "--dynamic_batch",
        metavar="N,N",
        type=sizes,
        help="one model for these batch sizes (dynamic ONNX)",
    )
    parser.add_argument("--precision_mode_v2", metavar="MODE", help="fp16 is atc's default")
    parser.add_argument(
        "--atc_args", metavar="ARGS", type=split_flags, default=[], help="more flags for atc"
    )
    parser.add_argument(
        "--int8",
        metavar="CONFIG",
        type=Path,
        help="calibrate to INT8 with this file of ssd_quantize.py --ascend-calibration",
    )
    pythons.add_atc_argument(parser)
    parser.add_argument("--cache", metavar="DIR", type=Path, help="keep compiled kernels here")
    args = parser.parse_args(argv)
    if args.om_path.suffix != ".om":
        parser.error("argument --om-path: must end in .om")
    return args


def run_atc(command: list[str], env: dict[str, str], scratch: Path, log: Path) -> int:
    """Run atc in a scratch folder, with its output in `log`; return its status, -N for signal N."""
    if pythons.has_operator_compiler(env):
        python, faults, remedy = pythons.atc_faults(env)
        if faults:
            note(f"atc's Python, {python}: {'; '.join(faults)}; {remedy}")
    # a line for each flag, to read and to paste
    print(" \\\n    ".join(map(shlex.quote, command)), flush=True)
    settings = {"cwd": scratch, "env": env, "stderr": subprocess.STDOUT}
    with log.open("wb") as file, working("atc"):
        (status,) = run_processes([command], stdout=file, **settings)
    return status


def failed(om: Path, status: int, log: Path) -> int:
    """Print why atc made no .om, and return the exit status for it: atc's, as a shell has it."""
    reason = advice.explain(log.read_text(errors="replace"))
    if status < 0:
        reason = f"killed by {signal.Signals(-status).name}; {reason}"
    print(f"{Path(__file__).name}: error: {om}: atc failed: {reason} ({log})", file=sys.stderr)
    return 128 - status if status < 0 else status or 1


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    check_options(args)
    if not args.onnx_path.is_file():
        raise KitError(f"{args.onnx_path}: no such file; make it with ssd_pth2onnx.py")
    env = pythons.atc_environment(args.atc_python)
    if not shutil.which("atc", path=env["PATH"]):
        raise KitError("atc: not on PATH; install CANN's toolkit and source its set_env.sh")
    soc = npu_smi.soc_version() if args.soc_version == "auto" else args.soc_version
    aipp = args.om_path.with_name(f"{args.om_path.stem}.aipp.cfg")
    log = args.om_path.with_name(f"{args.om_path.stem}.atc.log")
    with scratch_folder(args.om_path.parent.absolute(), ".atc-", "--om-path") as scratch:
        if args.aipp:
            write_bytes(aipp, aipp_config().encode())
        output = scratch / args.om_path.stem
        command = atc_command(args, soc, output, aipp)
        made_from = sidecar(args, soc, command)
        if is_made(args.om_path, made_from):
            print(f"{args.om_path}: kept, made from the same file with the same flags")
            return 0
        status = run_atc(command, env, scratch, log)
        # atc may add the system to the name of a model of dynamic shapes: NAME_linux_x86_64.om
        made = next(iter(sorted(scratch.glob(f"{glob.escape(args.om_path.stem)}*.om"))), None)
        if status or not made:
            return failed(args.om_path, status, log)
        made.chmod(made.stat().st_mode & ~OTHERS_WRITE)
        # the sidecar first: should the .om then not come, it is of another and gets refused
        digest = sha256(made)
        write_json(sidecar_path(args.om_path), {"om_sha256": digest} | made_from, indent=2)
        os.replace(made, args.om_path)
    log.unlink(missing_ok=True)
    print(f"{args.om_path}: {soc}, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    run_main(main)
