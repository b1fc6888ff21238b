#!/usr/bin/env python3
"""Check whether this machine can run the kit; print one finding per line, with the fix.

Prints `ok`, `warning` or `problem` before each. A problem stops the default run; with any of them
the exit status is 1. With --measure it also runs models, in each engine and precision that is here,
and prints the fastest and, with --data, what each costs in mAP. Writes nothing. test/ssd_doctor.sh
sources CANN's environment first.

Example:
  bash test/ssd_doctor.sh --data_path DATA/coco --pth_path models/iter_183250.pt
"""

import argparse
import importlib
import importlib.metadata
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssd import coco, tables  # a copied script needs ssd/ beside it
from ssd.ascend import pythons
from ssd.ascend.ais_bench import add_tool_arguments
from ssd.ascend.checks import Fact, check_cards, check_tool, check_toolkit
from ssd.cli import CHECKPOINT, SOURCES, ArgumentParser, KitError, first_few, note, run_main
from ssd.engines import fastest
from ssd.engines.base import first_line
from ssd.engines.onnxruntime import import_onnxruntime
from ssd.engines.openvino import import_openvino
from ssd.machine import cpu_flags, free_space, processor
from ssd.tensors import input_bytes, output_bytes
from ssd.workers import num_cpus

PYTHONS = ((3, 10), (3, 13))  # oldest and newest that are tested
REQUIREMENTS = Path(__file__).parent / "requirements-infer.txt"
INSTEAD = {"onnxruntime": ("onnxruntime-cann", "onnxruntime-gpu")}  # the same module for others
IDENTITY = (  # ONNX, one Identity node, opset 11: an inference host has no onnx to make one
    b'\x08\x06:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x0b"
)


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare it by: `1.18.0rc1` -> (1, 18, 0, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def check_python() -> Iterator[Fact]:
    version = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield Fact("ok", f"Python {version}")
    else:
        tested = " to ".join(".".join(map(str, version)) for version in PYTHONS)
        yield Fact("warning", f"Python {version}", f"tested are {tested}")


def installed_version(name: str) -> str:
    """Return the version of a package, or of one that takes its place; empty without either."""
    for taken in (name, *INSTEAD.get(name, ())):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(taken)
    return ""


def check_packages() -> Iterator[Fact]:
    """Compare what is installed with requirements-infer.txt."""
    bad = False
    for line in REQUIREMENTS.read_text().splitlines():
        match = re.match(r"([\w-]+)>=([\d.]+)", line)
        if not match:
            continue
        name, least = match.groups()
        version = installed_version(name)
        if numbers(version) < numbers(least):
            bad = True
            remedy = f"pip install -r {REQUIREMENTS.name} -c constraints.txt"
            found = f"{version}, older than {least}" if version else "not installed"
            yield Fact("problem", f"{name}: {found}", remedy)
    if not bad:
        yield Fact("ok", f"packages of {REQUIREMENTS.name}")


def check_onnxruntime() -> Iterator[Fact]:
    """Start every provider that ONNX Runtime lists: listed ones often lack their libraries."""
    onnxruntime = import_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a provider that fails says so at length
    for provider in onnxruntime.get_available_providers():
        try:
            session = onnxruntime.InferenceSession(IDENTITY, options, providers=[provider])
            started = session.get_providers()
        except Exception:  # onnxruntime raises its own, per kind of failure
            started = []
        if provider in started:
            yield Fact("ok", f"ONNX Runtime {onnxruntime.__version__}: {provider}")
        else:
            state = "problem" if provider == "CPUExecutionProvider" else "warning"
            remedy = "install its libraries, or leave --device at cpu"
            yield Fact(state, f"ONNX Runtime: {provider} is listed but does not start", remedy)


def check_openvino() -> Iterator[Fact]:
    """Start OpenVINO, which nothing but --engine=openvino needs."""
    try:
        openvino = import_openvino()
        core = openvino.Core()
        core.compile_model(core.read_model(io.BytesIO(IDENTITY)), "CPU")
        precisions = {"FP32", "BF16", "INT8"} & set(
            core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        )
    except ModuleNotFoundError:
        yield Fact("ok", "no OpenVINO: it is optional (requirements-openvino.txt)")
    except Exception as error:  # whatever a broken installation raises
        reason = first_line(error)
        yield Fact("warning", f"OpenVINO does not start: {reason}", "take another --engine")
    else:
        version = openvino.__version__.partition("-")[0]
        yield Fact("ok", f"OpenVINO {version}: CPU, {', '.join(sorted(precisions))}")


def check_torch() -> Iterator[Fact]:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        remedy = "for ssd_pth2onnx.py and ssd_sample.py install requirements.txt"
        yield Fact("warning", "PyTorch: not installed; inference needs none", remedy)
        return
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if cuda else "CPU (no GPU that it can use)"
    yield Fact("ok", f"PyTorch {torch.__version__}: {device}")


def check_data(args: argparse.Namespace) -> Iterator[Fact]:
    """Check that the data set is whole, and that the disk has room for what a run makes of it."""
    if args.data is None and args.annotation is None:
        yield Fact("ok", "data set: none given, so not checked")
        return
    data = coco.open_data(args)
    yield Fact(
        "ok", f"{data.annotation}: " + coco.describe_selection(data.instances, data.selected)
    )
    names = [image["file_name"] for image in data.selected]
    missing = [n for n in names if not coco.image_path(data.image_folder, n).is_file()]
    if missing:
        shown = f"{data.image_folder}: {len(missing)} of {len(names)} images missing"
        yield Fact(
            "problem", f"{shown} ({first_few(missing, 3)})", f"fetch them ({SOURCES['images']})"
        )
    else:
        yield Fact("ok", f"{data.image_folder}: all {len(names)} images are there")
    yield from check_disk(args.output, len(names), 1 + len(data.instances["categories"]))


def check_disk(folder: Path, images: int, labels: int) -> Iterator[Fact]:
    """Compare the free space with what each route needs, one batch size's outputs at a time."""
    folder, free = free_space(folder)
    outputs = images * output_bytes(labels)
    inputs = {dtype: images * input_bytes(dtype) for dtype in ("float32", "uint8")}
    needs = {
        "files": inputs["float32"] + outputs,
        "files, uint8": inputs["uint8"] + outputs,
        "in process": inputs["float32"],
        "in process, uint8": inputs["uint8"],
    }
    shown = ", ".join(f"{route} {size / 1e9:.1f}" for route, size in needs.items())
    text = f"disk: {free / 1e9:.1f} GB free at {folder}; GB needed: {shown}"
    fits = [route for route, size in needs.items() if size <= free]
    if "files" in fits:
        yield Fact("ok", text)
    else:
        rest = f"; there is room for: {'; '.join(fits)}" if fits else ""
        yield Fact("problem", text, f"free space or give another --output{rest}")


def check_checkpoint(path: Path | None) -> Iterator[Fact]:
    """Load the checkpoint, if it was given or lies at its usual place."""
    if path is None and not CHECKPOINT.is_file():
        remedy = (
            f"fetch it ({SOURCES['checkpoint']}), or give --pth_path; test/ssd_sample.sh needs none"
        )
        yield Fact("warning", f"checkpoint: no {CHECKPOINT}", remedy)
        return
    path = path or CHECKPOINT
    try:
        network = importlib.import_module("ssd.network")
        importlib.import_module("torchvision")
    except ImportError:
        yield Fact("warning", f"{path}: not checked, for PyTorch or torchvision is missing")
        return
    labels = network.load_checkpoint(path).labels
    yield Fact("ok", f"{path}: SSD300-ResNet34, {labels} labels")


def gather(name: str, check: Callable[[], Iterator[Fact]]) -> list[Fact]:
    """Return a check's facts; whatever it raises is a problem, and the other checks go on."""
    found = []
    try:
        found.extend(check())
    except KitError as error:
        found.append(Fact("problem", str(error)))
    except Exception as error:  # a package may be broken in any way
        reason = first_line(error)
        remedy = f"pip install --force-reinstall -r {REQUIREMENTS.name} -c constraints.txt"
        found.append(Fact("problem", f"{name}: {type(error).__name__}: {reason}", remedy))
    return found


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    coco.add_data_arguments(parser)
    parser.add_argument(
        "--pth-path", metavar="FILE", type=Path, help=f"checkpoint (default: {CHECKPOINT} if there)"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("result"), help="where a run would write"
    )
    add_tool_arguments(parser)
    pythons.add_atc_argument(parser)
    fastest.add_measure_arguments(parser)
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the models, and return the row of the fastest way; print all unless --fastest."""
    models = fastest.models_of(args.model, args.batchsize, args.variant)
    data = None
    if (args.data or args.annotation) and not args.fastest:
        data = coco.open_data(args)
        coco.check_scorable(data.instances, data.annotation)
        data = data._replace(selected=data.selected[: args.limit])
    note(f"measuring {', '.join(path.name for path in models)}, {args.seconds:g} s each way")
    rows = fastest.measure(models, args.batchsize, args.seconds, data, num_cpus())
    best = fastest.choose_fastest(rows)
    if not args.fastest:
        print(f"{processor()}: {num_cpus()} CPUs, {cpu_flags()}")
        scored = f"; mAP in % of {len(data.selected)} images" if data else ""
        print(f"batch size {args.batchsize}; times: as fast as the first{scored}")
        print(tables.as_text(fastest.COLUMNS, tables.cells(fastest.COLUMNS, rows)))
        print(f"fastest: {best['way'].options()}")
    return best


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.fastest:
        way = measure(args)["way"]
        variant = fastest.INT8 if way.model.stem.endswith(f"_{fastest.INT8}") else args.variant
        print(f"{way.engine}:{way.precision}:{variant}")
        return 0
    checks: dict[str, Callable[[], Iterator[Fact]]] = {
        "Python": check_python,
        "packages": check_packages,
        "ONNX Runtime": check_onnxruntime,
        "OpenVINO": check_openvino,
        "PyTorch": check_torch,
        "CANN": lambda: check_toolkit(args.atc_python),
        "cards": check_cards,
        "inference tool": lambda: check_tool(args.ais_infer, args.tool_python),
        "data set": lambda: check_data(args),
        "checkpoint": lambda: check_checkpoint(args.pth_path),
    }
    problems = 0
    for name, check in checks.items():
        for fact in gather(name, check):
            problems += fact.state == "problem"
            print(f"{fact.state:<8} {fact.text}" + (f"; {fact.remedy}" if fact.remedy else ""))
    if args.measure:
        measure(args)
    print(f"not ready: {problems} to put right before a run" if problems else "ready")
    return 1 if problems else 0


if __name__ == "__main__":
    run_main(main)
