"""Choosing the engine, the model file and, on a card, the tool that runs it."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from ssd.ascend.ais_bench import Tool, find_tool
from ssd.ascend.npu_smi import card_notes, cards
from ssd.cli import KitError, counted, note
from ssd.engines import ENGINES, check_same_checkpoint, engine_of
from ssd.engines.npu import card_of

NAME = "ssd_bs{}{}"  # of a model file: batch size, _VARIANT
CARDS = r"\d+(,\d+)*"  # pattern of devices that are Ascend's
DYNAMIC = "ssd_dynamic{}"  # of a model for all batch sizes


class Choice(NamedTuple):
    """What runs: an engine of ENGINES on a device, and Ascend's tool (None for other engines).

    in_process: whether outputs are decoded as they come, and only detections are written.
    unused: why the cards of this machine do not run it, empty unless that is worth a warning.
    """

    engine: str
    device: str
    tool: Tool | None
    in_process: bool
    unused: str = ""


def choose(
    models: Path,
    engine: str,
    device: str,
    ais_infer: Path | None,
    in_process: bool,
    tool_python: Path | None = None,
) -> Choice:
    """Settle `auto` and say why, and check that engine, files and device go together.

    models: a model file or a folder of them. device: `cpu`, `cuda:N`, `npu:N`, or cards (`0,1`).
    ais_infer, tool_python: where the tool is, as in `find_tool`.
    With a folder auto takes ascend if an inference tool and a card are there and the device is not
    another one, else ONNX Runtime.
    Raises KitError if what is asked for cannot be.
    """
    if not models.exists() or models.is_fifo():
        raise KitError(f"{models}: no such model; make it with test/ssd_pth2om.sh")
    is_open = engine == "auto"
    if models.is_file() and is_open:
        engine = engine_of(models)
    elif models.is_file() and models.suffix not in ENGINES[engine][1]:
        raise KitError(f"{models}: --engine {engine} does not run such a file; leave --engine out")
    elif engine == "torch" and not models.is_file():
        raise KitError(f"{models}: --engine torch runs a checkpoint; give --models FILE")
    elif engine == "auto" and not re.fullmatch(CARDS, device):
        note(f"engine onnxruntime: for --device {device}")
        engine = "onnxruntime"
    if engine == "ascend" and (card := card_of(device)) is not None:  # as other engines name it
        device = str(card)
    tool, unused = None, ""
    if is_open and models.is_file() and engine == "onnxruntime" and device.isdecimal():
        unused = _unused_cards(f"{models.name} is no .om: see --device npu:0")
    if engine in ("auto", "ascend"):
        try:
            tool = tool_for_cards(device, ais_infer, tool_python, engine == "auto")
        except KitError as error:
            if engine == "ascend":
                raise KitError(f"--engine ascend: {error}") from None
            unused = _unused_cards(str(error))
            if not unused:
                note(f"engine onnxruntime: {error}")
            engine = "onnxruntime"
        else:
            if engine == "auto":
                note(f"engine ascend: {tool.name} and a card are there")
            engine = "ascend"
    if unused:
        note(unused)
    _check_device(engine, device)
    if tool and tool.script:
        if in_process:
            raise KitError(f"--in_process needs ais_bench, not {tool.name}")
        if "," in device:
            raise KitError(f"--device {device}: {tool.name} takes one card; give one")
    elif tool and in_process and tool.python != Path(sys.executable):
        raise KitError(
            f"--in_process: ais_bench is in {tool.python}, and this runs in {sys.executable}; "
            "install requirements-infer.txt there and run it with that one, or leave the option out"
        )
    return Choice(engine, device, tool, in_process, unused)


def tool_for_cards(
    device: str, ais_infer: Path | None, tool_python: Path | None, is_open: bool
) -> Tool:
    """Return the inference tool, with notes on the cards of `device`, such as `0,1`.

    is_open: whether something else may run instead, so that a card must be there for sure.
    Raises KitError without tool or card.
    """
    numbers = [int(part) for part in device.split(",") if part.isdecimal()]
    notes = card_notes(numbers, must=is_open)  # first, as looking for the tool takes longer
    tool = find_tool(ais_infer, tool_python)
    if tool.python != Path(sys.executable):
        notes.insert(0, f"{tool.name} runs in {tool.python}")
    for line in notes:
        note(line)
    return tool


def _unused_cards(reason: str) -> str:
    """Return the warning that cards are there and the CPU runs; empty if there is no card."""
    found = cards()
    if not found:
        return ""
    names = ", ".join(sorted({card.name for card in found} - {""})) or "not listed by npu-smi"
    count = counted(len(found), "card")
    return f"THE CPU RUNS THIS, NOT THE CARD: {count} ({names}) here, but {reason}"


def _check_device(engine: str, device: str) -> None:
    wanted = CARDS if engine == "ascend" else r"\d+|cpu|(cuda|npu)(:\d+)?"
    if not re.fullmatch(wanted, device):
        hint = "cards such as 0,1" if engine == "ascend" else "cpu, cuda:0 or npu:0"
        raise KitError(f"--device {device}: not for the engine {engine}; give {hint}")


def find_model(models: Path, batch: int, variant: str, engine: str) -> Path:
    """Return the model of a batch size: `models` itself if it is a file.

    In a folder that is ssd_bsN_VARIANT, else ssd_dynamic_VARIANT. Raises KitError if neither is
    there, or it is of another checkpoint than the model without VARIANT beside it.
    """
    if models.is_file():
        return models
    suffix, more = ENGINES[engine][1][0], f"_{variant}" if variant else ""
    path = models / f"{NAME.format(batch, more)}{suffix}"
    dynamic = models / f"{DYNAMIC.format(more)}{suffix}"
    if path.is_file() or dynamic.is_file():
        found = path if path.is_file() else dynamic
        plain = found.with_name(found.name.replace(more, ""))
        if variant and plain.is_file():
            check_same_checkpoint(
                (plain, found), f"make {found.name} again, or give --models {found}"
            )
        return found
    raise KitError(f"{path}: no such model; make it with test/ssd_pth2om.sh")
