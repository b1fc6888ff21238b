"""Stand-in for `atc`: turns an ONNX model into a stand-in .om, refusing what the real one refuses.

Like the real one it prints its errors on stdout, exits non-zero, and leaves kernel_meta/ and
fusion_result.json in the current directory. standin.py says how tests steer it.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import standin
from standin_atc import MESSAGES, SOLUTIONS, TITLES, AtcError, check_flags, parse

TBE_MODULES = ("decorator", "sympy", "cffi", "attr", "yaml", "psutil", "scipy", "google.protobuf")


def drop_litter(flags: dict[str, str]) -> None:
    """Leave in the current directory what the real one leaves there."""
    folder = Path(flags.get("debug_dir", ".")) / "kernel_meta"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"te_conv2d_{os.getpid()}.json").write_text("{}\n")
    if flags.get("export_compile_stat", "1") == "1":
        Path("fusion_result.json").write_text('[{"graph_fusion": {}}]\n')


def fill_cache(flags: dict[str, str], kinds: list[str]) -> None:
    """Keep the compiled kernels: FOLDER/kernel_cache/CHIP/te_KIND_HASH.o, folder made if needed."""
    mode = flags.get("op_compiler_cache_mode", "disable")
    if mode == "disable":
        return
    default = os.path.expanduser("~/atc_data")
    folder = Path(flags.get("op_compiler_cache_dir", default)) / "kernel_cache"
    folder = folder / flags["soc_version"]
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        digest = hashlib.sha256(kind.encode()).hexdigest()[:16]
        kernel = folder / f"te_{kind.lower()}_{digest}.o"
        if mode == "force" or not kernel.exists():
            kernel.write_text(f"{kind} for {flags['soc_version']}\n")


def injected_fault(argv: list[str]) -> AtcError | None:
    """Return the failure that STANDIN_ATC_ERROR asks for, None if it asks for none here."""
    code, _, text = os.environ.get("STANDIN_ATC_ERROR", "").partition("@")
    if not code or not any(text in word for word in argv):
        return None
    if code == "SIGSEGV":
        os.kill(os.getpid(), signal.SIGSEGV)
    return AtcError(code, MESSAGES.get(code, "Unknown error occurred. Please check the log."))


def load_python() -> None:
    """Import what CANN's operator compiler needs in the python3 of PATH, if STANDIN_TBE is set.

    Raises AtcError for a module that is missing, and for numpy 2 before CANN 9.
    """
    if not os.environ.get("STANDIN_TBE"):
        return
    lines = [f"import {name}" for name in TBE_MODULES] + ["import numpy; print(numpy.__version__)"]
    command = ["python3", "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise AtcError("E40020", f"Failed to import Python module [{reason}.].")
    if done.stdout >= "2" and not standin.cann_at_least(9):
        raise AtcError("E40021", "Failed to compile Op [Conv_0]. (optype: [Conv2D])")


def convert(flags: dict[str, str], argv: list[str]) -> None:
    """Convert a model (--mode=0) or only check it (--mode=3). Raises AtcError."""
    check_flags(flags)
    load_python()
    drop_litter(flags)
    fault = injected_fault(argv)
    if fault:
        raise fault
    from standin_onnx import compile_model  # onnx takes half a second; wrong options need it not

    header, onnx_bytes, kinds = compile_model(flags)
    if flags.get("mode") == "3":
        Path(flags.get("check_report", "check_result.json")).write_text('{"result": "success"}\n')
        return
    fill_cache(flags, kinds)
    path = Path(flags["output"] + ".om")
    path.parent.mkdir(parents=True, exist_ok=True)
    standin.write_om(path, header, onnx_bytes)


def show_model(flags: dict[str, str]) -> None:
    """Write what an .om holds to --json (--mode=1) or print it (--mode=6). Raises AtcError."""
    for name in ("om", "json") if flags["mode"] == "1" else ("om",):
        if not flags.get(name):
            raise AtcError("E10054", f"The required parameter [--{name}] for ATC is empty.")
    try:
        header, _ = standin.read_om(flags["om"])
    except (OSError, ValueError) as error:
        raise AtcError("E10041", f"Failed to load the model from [--om]. {error}") from None
    text = json.dumps(header, indent=1) + "\n"
    if flags["mode"] == "1":
        Path(flags["json"]).write_text(text)
    else:
        print(text, end="")


def print_failure(error: AtcError) -> None:
    """Print a refusal in the form of the CANN that is played."""
    if not error.code:  # the parser of the options speaks on stderr and has no codes
        print(error, file=sys.stderr)
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    if not error.code:
        return
    stamp, cause = "", []
    time_now = f"[PID: {os.getpid()}] {time.strftime('%Y-%m-%d-%H:%M:%S')}.776.801 "
    if standin.cann_at_least(8):
        stamp = time_now
    head = f"{error.code}: {stamp}"
    if standin.cann_at_least(8, 5):
        head = f"{time_now}{TITLES.get(error.code, 'Inner_Error')}({error.code}): "
        cause = ["        Possible Cause: N/A"]
    solution = f"        Solution: {SOLUTIONS.get(error.code, 'N/A')}"
    print(f"{head}{error}", *cause, solution, sep="\n")
    print("        TraceBack (most recent call last):")


def main(argv: list[str]) -> int:
    """Run the program; the exit status is 255 for every refusal."""
    standin.start("atc", argv)
    print("ATC start working now, please wait for a moment.", flush=True)
    try:
        flags = parse(argv)
        if {"help", "h"} & set(flags):
            print("usage: atc <args>")
            return 0
        mode = flags.get("mode", "0")
        if mode in ("1", "6"):
            show_model(flags)
        elif mode in ("0", "3"):
            convert(flags, argv)
        else:
            raise AtcError("E10055", f"The stand-in does not play --mode={mode}.")
    except AtcError as error:
        print_failure(error)
        return 255
    print("ATC run success, welcome to the next use.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
