#!/usr/bin/env python3
"""What is known of Ascend's toolchain on this machine: cards, versions, models, error codes.

The drivers ask it:
  tool     which inference tool there is, and that there is a card: prints `ais_bench` (followed by
           ` in process` if it refuses this kit's file names) or a path
  facts    mode and chip of a .om, and versions, as KEY=VALUE lines
  explain  what the error codes in a tool's log mean

Example:
  python3 ssd_ascend.py tool --ais_infer /opt/ais_infer/ais_infer.py
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ssd_boxes import INPUT_SIZE, MEAN, STD
from ssd_files import KitError, note, read_json, run_main, sha256, tensor_stem

FAMILY = "Ascend"  # what --soc_version puts before npu-smi's name of a chip
VERSION_FILES = ("*_install.info", "*/*_install.info", "version.cfg", "*/version.info")  # CANN's
AIS_BENCH = "0.0.2"  # the inference tool; 3.x of that name evaluates language models
WORDS = 160  # letters of a tool's own message that are told
BUSY_PERCENT = 5  # of AI Core use: above it somebody else is at work
ADVICE = {  # text in a log, and what to do; the first that is found counts
    "E10001": "an option has a value that this atc refuses; check --soc_version and --atc_args",
    "E10009": "options for dynamic shapes exclude each other; leave one out",
    "E10016": "the ONNX file has no input of that name; export it again with ssd_pth2onnx.py",
    "E10034": "AIPP and --input_fp16_nodes exclude each other; leave one out",
    "E10052": "this atc refuses the AIPP config beside the .om; see the log for why",
    "E10056": "two options exclude each other; see the log for which, and leave one out",
    "E10060": "an option was discarded in this CANN (auto_tune_mode: use AOE); remove it",
    "E16005": "the ONNX file has more than one opset domain; export it again with ssd_pth2onnx.py",
    "E19010": "atc has no parser for a node; export again with ssd_pth2onnx.py --opset 11",
    "EZ9010": "atc has no parser for a node; export again with ssd_pth2onnx.py --opset 11",
    "EZ3003": "the kernels for this chip are not installed; install Ascend-cann-kernels for it",
    "E40010": "bad auto-tune mode; newer CANN has none, remove the option",
    "E13000": "a file that an option names is missing; check the paths in --atc_args",
    "507033": "the card did not open or was lost; check npu-smi info, free or restart the card",
    "507011": "the card stopped while computing; check npu-smi info and the model's chip",
    "contains illegal char": "this ais_bench takes only A-Z a-z 0-9 _ - / . in paths; move models "
    "and results to such a folder, and add --in_process for file names such as tensor([139]).bin",
    "is a soft link": "this ais_bench takes no links; give the file or folder itself",
    "should not be over": "this ais_bench takes nothing that others may write, and no result "
    "folder that others may read; chmod go-w the model, chmod 750 the folder",
    "is illegal. Please check": "this ais_bench refuses the model or folder: others may write to "
    "it, or it has another owner; chmod go-w it, or copy it",
    "filesize": "an input is not of the size that the model takes; see ssd_preprocess.py --dtype",
    "unknown command line flag": "this atc does not know an option; check --atc_args",
    "unrecognized arguments": "this version of the tool does not know an option; update the tool",
    "error while loading shared libraries": "the environment is not set; source set_env.sh",
    "cannot open shared object file": "the environment is not set; source set_env.sh",
    "ACL: invalid parameter": "the runtime refuses the model or its batch; convert it for this "
    "chip and this batch size",
    "ACL: general failure": "the card failed; read the lines before, check npu-smi info",
}
NAME_PROBE = """
try:
    from ais_bench.infer.common.path_security_check import FileStat
except (ImportError, OSError):  # older ones look at no path
    raise SystemExit(0)
FileStat({!r})
"""
ATC_ERROR = re.compile(r"^\s*(E[A-Z0-9]\d{4}): (?:\[PID: \d+\] \S+ )?(.+)$", re.M)


class Card(NamedTuple):
    """A chip of npu-smi's table. name: `310P3`. use: percent of AI Core. memory: MB used, all."""

    device: int
    name: str
    health: str
    use: int
    memory: tuple[int, int]


def parse_cards(text: str) -> list[Card]:
    """Read the table of `npu-smi info`; an empty list if it has no chip."""
    first = r"\|\s*(\d+)\s+(\d\w*)\s*\|\s*(\w+)\s*\|[^\n]*\|"
    second = r"\|\s*(\d+)\s+(\d+)\s*\|[^|\n]*\|\s*(\d+)\s+(\d+)\s*/\s*(\d+)[^\n]*\|"
    return [
        Card(int(m[5]), m[2], m[3], int(m[6]), (int(m[7]), int(m[8])))
        for m in re.finditer(rf"{first}\s*\n{second}", text)
    ]


def cards() -> list[Card]:
    """Ask npu-smi for the cards. Raises KitError if it is missing or finds none."""
    if not shutil.which("npu-smi"):
        raise KitError(
            "npu-smi: not on PATH, so there is no Ascend card; --soc_version=auto asks one"
        )
    done = subprocess.run(["npu-smi", "info"], capture_output=True, text=True, check=False)
    found = parse_cards(done.stdout)
    if done.returncode or not found:
        reason = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
        raise KitError(f"npu-smi info: finds no card ({reason[0]}); check the driver and the card")
    return found


def soc_version() -> str:
    """Return atc's name for the chip of this machine's healthy cards, such as Ascend310P3.

    Raises KitError if none is healthy or they are of several kinds.
    """
    found = cards()
    healthy = sorted({card.name for card in found if card.health == "OK"})
    if not healthy:
        health = ", ".join(f"{card.device}: {card.health}" for card in found)
        raise KitError(f"npu-smi info: no healthy card ({health}); give --soc_version or repair it")
    if len(healthy) > 1:
        raise KitError(
            f"npu-smi info: several kinds of chip ({', '.join(healthy)}); "
            f"give --soc_version={FAMILY}{healthy[0]} or another"
        )
    return FAMILY + healthy[0]


def toolkit_version() -> str | None:
    """Return the version of CANN as its files tell it, None if they are not found."""
    for name, place in product(("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"), VERSION_FILES):
        for path in sorted(Path(os.environ.get(name) or "/nowhere").glob(place)):
            match = re.search(r"version=\[?([\w.]+)", path.read_text(errors="replace"), re.I)
            if match:
                return match[1]
    return None


def ais_bench_version() -> str | None:
    """Return the version of the installed package ais_bench, None if there is none."""
    try:
        return importlib.metadata.version("ais_bench")
    except importlib.metadata.PackageNotFoundError:
        return None


def inference_tool(ais_infer: str | None) -> str:
    """Return `ais_bench`, or the path of ais_infer.py. Raises KitError if neither is usable."""
    version = ais_bench_version()
    if version == AIS_BENCH:
        return "ais_bench"
    if ais_infer:
        if Path(ais_infer).is_file():
            return ais_infer
        raise KitError(f"{ais_infer}: no such file; give --ais_infer the path of ais_infer.py")
    if version:
        raise KitError(f"ais_bench {version}: another tool of that name; install {AIS_BENCH}")
    raise KitError(f"ais_bench: not installed; install {AIS_BENCH}, or give --ais_infer")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python apart from this process: ais_bench logs at length and may break on import."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def takes_our_names() -> bool:
    """Tell whether ais_bench reads files named as ours: newer ones refuse brackets in a path."""
    return run_python(NAME_PROBE.format(f"/{tensor_stem(1)}.bin")).returncode == 0


def why_no_session() -> str:
    """Return why ais_bench's Python interface does not start here; empty if it does."""
    done = run_python("import ais_bench.infer.interface")
    lines = done.stderr.strip().splitlines() or ["no output"]
    return lines[-1][:WORDS] if done.returncode else ""


def card_notes(devices: list[int]) -> list[str]:
    """Return what speaks against these cards: not in npu-smi's table, not healthy, or busy."""
    found, notes = {card.device: card for card in cards()}, []
    for device in devices:
        card = found.get(device)
        if not card:
            notes.append(f"card {device}: not in the table of npu-smi info; see --device")
        elif card.health != "OK":
            notes.append(f"card {device}: its health is {card.health}; see npu-smi info")
        elif card.use > BUSY_PERCENT:
            notes.append(f"card {device}: busy ({card.use} % of AI Core), so timings tell little")
    return notes


def aipp_config() -> str:
    """Return the static AIPP config that does what ssd_preprocess.py does to float32 inputs.

    out = (in - min_chn) * var_reci_chn, on bytes; from the one mean and std of ssd_boxes.
    """
    lines = [
        "aipp_mode: static",
        "input_format: RGB888_U8",
        f"src_image_size_w: {INPUT_SIZE}",
        f"src_image_size_h: {INPUT_SIZE}",
        "csc_switch: false",
        "rbuv_swap_switch: false",
    ]
    lines += [f"min_chn_{i}: {255 * mean:.10g}" for i, mean in enumerate(MEAN)]
    lines += [f"var_reci_chn_{i}: {1 / (255 * std):.16f}" for i, std in enumerate(STD)]
    return "aipp_op {\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


def sidecar_path(model: Path) -> Path:
    """Return the file beside a .om that tells what it was made from and with."""
    return model.with_name(f"{model.name}.json")


def read_sidecar(model: Path) -> dict[str, Any]:
    """Return what ssd_onnx2om.py noted of a .om; without a note it takes float32, NCHW.

    Raises KitError if the note is of another file.
    """
    path = sidecar_path(model)
    if not path.exists():
        return {"input_dtype": "float32", "batch": None, "mode": "no note beside the .om"}
    told = read_json(path)
    if told.get("om_sha256") != sha256(model):
        raise KitError(f"{path}: tells of another {model.name}; convert again (ssd_onnx2om.py)")
    return told


def explain(log: str) -> str:
    """Return in one line which error a log has, what to do, and atc's own words if there are."""
    said = {match[1]: match[2] for match in ATC_ERROR.finditer(log)}
    for text, advice in ADVICE.items():
        if text in log:
            return f"{text}: {advice}" + (f" ({said[text][:WORDS]})" if text in said else "")
    if said:
        code, words = next(iter(said.items()))
        return f"{code}: {words[:WORDS]}; read the log"
    return "no known error code; read the log"


def facts(model: Path) -> list[str]:
    """Return KEY=VALUE of a .om's mode and chip, and of versions, as far as they are known."""
    told = read_sidecar(model)
    found = {"mode": told["mode"], "soc_version": told.get("soc_version")}
    found["cann"] = toolkit_version()
    if ais_bench_version() == AIS_BENCH:
        found["engine"] = f"ais_bench {AIS_BENCH}"
    names = [f"{card.device}: {card.name} {card.health}" for card in cards()]
    found["cards"] = ", ".join(names)
    return [f"{key}={value}" for key, value in found.items() if value]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    tool = commands.add_parser("tool", help="print the inference tool")
    tool.add_argument("--ais_infer", metavar="PATH", default=os.environ.get("AIS_INFER"))
    tool.add_argument("--device", metavar="N,N", default="", help="cards to look at")
    model = commands.add_parser("facts", help="print a model's mode, chip and versions")
    model.add_argument("model", metavar="OM", type=Path)
    log = commands.add_parser("explain", help="print what a log's error means")
    log.add_argument("log", metavar="LOG", type=Path)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.command == "tool":
        devices = [int(part) for part in args.device.split(",") if part.isdigit()]
        for line in card_notes(devices):
            note(line)
        tool = inference_tool(args.ais_infer)
        print(tool if tool != "ais_bench" or takes_our_names() else f"{tool} in process")
    elif args.command == "facts":
        print("\n".join(facts(args.model)))
    else:
        print(explain(args.log.read_text(errors="replace")))


if __name__ == "__main__":
    run_main(main)
