#!/usr/bin/env python3
"""Convert an ONNX file to Ascend's .om with atc, and note beside it what it was made with.

Reads an ONNX file of ssd_pth2onnx.py (float32 input); writes OM, OM.json (sources, flags, chip,
input dtype and layout: the evaluation reads it) and, with --aipp, the AIPP config. An OM that is
there and was made from and with the same is kept. atc runs in a scratch folder, as it drops files
where it runs. If it fails, its log stays beside OM.

Example:
  python3 ssd_onnx2om.py --onnx-path ssd_bs1.onnx --om-path ssd_bs1.om --bs 1
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ssd_ascend
from ssd_boxes import INPUT_SIZE
from ssd_files import KitError, run_main, sha256, write_bytes, write_json

INPUT_NAME = "image"
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
FACE_FLAGS = {  # would make a model of other inputs or outputs than the note beside it tells
    "dynamic_dims",
    "dynamic_image_size",
    "input_fp16_nodes",
    "input_shape_range",
    "is_input_adjust_hw_layout",
    "is_output_adjust_hw_layout",
    "out_nodes",
}
SCRATCH_FLAGS = ("--output", "--op_compiler_cache_dir")  # differ from run to run
EXCLUSIVE = {  # an option of ours, and flags of atc that it excludes
    "precision_mode_v2": {"precision_mode"},
    "int8": {"op_precision_mode"},
}
HIGH_PRECISION = (  # ends of what --int8 excludes
    *("origin", "force_fp32", "must_keep_origin_dtype"),
    *("high_precision", "high_precision_for_all"),
)
OTHERS_WRITE = 0o022  # newer ais_bench refuses a model with these mode bits


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
    for name in sorted(extra & FACE_FLAGS):
        told = "changes the model's inputs or outputs, which the evaluation must know; leave it out"
        raise KitError(f"--atc_args: --{name} {told}")
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
        f"--input_shape={INPUT_NAME}:{batch},3,{INPUT_SIZE},{INPUT_SIZE}",
        "--log=error",
        f"--soc_version={soc}",
    ]
    if args.dynamic_batch:
        command.append(f"--dynamic_batch_size={args.dynamic_batch}")
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


def calibration_data(config: Path) -> Path:
    """Return the data file that a calibration config names. Raises KitError if there is none."""
    remedy = "make both with ssd_quantize.py --ascend-calibration"
    if not config.is_file():
        raise KitError(f"{config}: no such calibration config; {remedy}")
    match = re.search(r"input_data_dir:\s*(.+)", config.read_text())
    if not match or not Path(match[1].strip()).is_file():
        named = match[1].strip() if match else "no input_data_dir"
        raise KitError(f"{config}: names no calibration data that is there ({named}); {remedy}")
    return Path(match[1].strip())


def noted_flags(command: list[str]) -> list[str]:
    """Return atc's flags, but for scratch folders; for a file its SHA-256 stands, not its path."""
    flags = []
    for word in command[1:]:
        name, _, value = word.partition("=")
        if name not in SCRATCH_FLAGS:
            is_file = value and Path(value).is_file()
            flags.append(f"{name}=SHA-256 {sha256(Path(value))}" if is_file else word)
    return flags


def note(args: argparse.Namespace, soc: str, command: list[str]) -> dict[str, Any]:
    """Return what OM.json says of the .om to be made, but for its SHA-256."""
    names = ("aipp", "output_fp16", "dynamic_batch", "int8")
    modes = [name for name in names if getattr(args, name)]
    if args.precision_mode_v2:
        modes.append(args.precision_mode_v2)
    sizes = [int(size) for size in (args.dynamic_batch or "").split(",") if size]
    calibration = {"calibration_sha256": sha256(calibration_data(args.int8))} if args.int8 else {}
    return calibration | {
        "onnx": args.onnx_path.name,
        "onnx_sha256": sha256(args.onnx_path),
        "flags": noted_flags(command),
        "mode": " ".join(modes) or "plain",
        "soc_version": soc,
        "cann": ssd_ascend.toolkit_version(),
        "input_dtype": "uint8" if args.aipp else "float32",
        "input_layout": "NHWC" if args.aipp else "NCHW",
        "output_dtype": "float16" if args.output_fp16 else "float32",
        "batch": sizes or args.bs,
    }


def is_made(om: Path, told: dict[str, Any]) -> bool:
    """Tell whether the .om is there already, whole, and made from and with the same."""
    try:
        found = ssd_ascend.read_sidecar(om)
    except (KitError, OSError):  # a broken note, or that of another .om
        return False
    return all(found.get(key, "not noted") == value for key, value in told.items())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx-path", metavar="FILE", type=Path, required=True, help="ONNX file")
    parser.add_argument("--om-path", metavar="FILE", type=Path, required=True, help="to write")
    parser.add_argument("--bs", metavar="N", type=int, default=1, help="its batch size")
    parser.add_argument(
        "--soc_version", default="auto", help="chip, such as Ascend310P3 (default: ask npu-smi)"
    )
    parser.add_argument(
        "--aipp", action="store_true", help="normalise on the card: the model takes uint8 NHWC"
    )
    parser.add_argument(
        "--output_fp16", action="store_true", help="float16 outputs, half the bytes"
    )
    parser.add_argument(
        "--dynamic_batch", metavar="N,N", help="one model for these batch sizes (dynamic ONNX)"
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
    parser.add_argument("--cache", metavar="DIR", type=Path, help="keep compiled kernels here")
    args = parser.parse_args(argv)
    if args.om_path.suffix != ".om":
        parser.error("argument --om-path: must end in .om")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    check_options(args)
    if not args.onnx_path.is_file():
        raise KitError(f"{args.onnx_path}: no such file; make it with ssd_pth2onnx.py")
    if not shutil.which("atc"):
        raise KitError("atc: not on PATH; install CANN's toolkit and source its set_env.sh")
    soc = ssd_ascend.soc_version() if args.soc_version == "auto" else args.soc_version
    folder = args.om_path.parent
    folder.mkdir(parents=True, exist_ok=True)
    aipp = args.om_path.with_name(f"{args.om_path.stem}.aipp.cfg")
    log = args.om_path.with_name(f"{args.om_path.stem}.atc.log")
    if args.aipp:
        write_bytes(aipp, ssd_ascend.aipp_config().encode())
    with tempfile.TemporaryDirectory(prefix=".atc-", dir=folder.absolute()) as scratch:
        output = Path(scratch) / args.om_path.stem
        command = atc_command(args, soc, output, aipp)
        told = note(args, soc, command)
        if is_made(args.om_path, told):
            print(f"{args.om_path}: kept, made from the same file with the same flags")
            return 0
        print(" \\\n    ".join(map(shlex.quote, command)))  # a line a flag, to read and to paste
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        made = output.with_suffix(".om")
        if done.returncode or not made.is_file():
            write_bytes(log, (done.stdout + done.stderr).encode())
            status = done.returncode if done.returncode > 0 else 128 - done.returncode
            reason = ssd_ascend.explain(done.stdout + done.stderr)
            if done.returncode < 0:
                reason = f"killed by {signal.Signals(-done.returncode).name}; {reason}"
            name = Path(__file__).name
            print(f"{name}: error: {args.om_path}: atc failed: {reason} ({log})", file=sys.stderr)
            return status if done.returncode else 1
        made.chmod(made.stat().st_mode & ~OTHERS_WRITE)
        # the note first: should the .om then not come, the note is of another and gets refused
        told = {"om_sha256": sha256(made)} | told
        write_json(ssd_ascend.sidecar_path(args.om_path), told, indent=2)
        os.replace(made, args.om_path)
    log.unlink(missing_ok=True)
    print(f"{args.om_path}: {soc}, SHA-256 {sha256(args.om_path)}")
    return 0


if __name__ == "__main__":
    run_main(main)
