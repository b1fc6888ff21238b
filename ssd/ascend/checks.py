"""What the doctor reports of Ascend's toolkit, cards and tools on this machine."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ssd.ascend import ais_bench, npu_smi, pythons, toolkit
from ssd.cli import KitError


class Fact(NamedTuple):
    """What was found. state: ok, warning or problem. remedy: empty where all is well."""

    state: str
    text: str
    remedy: str = ""


def check_toolkit(atc_python: Path | None) -> Iterator[Fact]:
    """Report atc, CANN and atc's Python. Without them ONNX Runtime does everything."""
    atc, version = shutil.which("atc"), toolkit.toolkit_version()
    if not atc and version:
        yield Fact("warning", f"CANN {version}, but no atc on PATH", "source its set_env.sh")
    elif not atc:
        yield Fact("ok", "no atc: ssd_pth2om.sh makes ONNX files, for ONNX Runtime")
        return
    else:
        yield Fact("ok", f"atc {atc}; CANN {version or 'of unknown version'}")
    env = pythons.atc_environment(atc_python)
    if not pythons.has_operator_compiler(env):
        remedy = "source its set_env.sh"
        yield Fact("warning", "CANN's operator compiler (tbe) is not on PYTHONPATH", remedy)
        return
    python, faults, remedy = pythons.atc_faults(env)
    if faults:
        yield Fact("warning", f"atc's Python, {python}: {'; '.join(faults)}", remedy)
    else:
        yield Fact("ok", f"atc's Python, {python}: has what CANN needs")


def check_cards() -> Iterator[Fact]:
    """Report each card. That there is none is well."""
    cards, reason = npu_smi.ask()
    there = npu_smi.device_files()
    if not cards and there:
        shown = ", ".join(f"davinci{number}" for number in there)
        text = f"{npu_smi.DEVICES} has {shown}, but {reason}: chip, health and load are not known"
        yield Fact("warning", text, f"{npu_smi.ADD_TO_PATH}; give atc --soc_version")
    elif not cards and not shutil.which("npu-smi"):
        yield Fact("ok", "no card (no npu-smi): ONNX Runtime runs the models")
    elif not cards:
        yield Fact("warning", reason, "check the driver and the card")
    for card in cards:
        text = f"card {card.device}: {card.name}, {card.health}"
        text += "" if card.use is None else f", AI Core {card.use} %"
        text += f", memory {card.memory[0]} of {card.memory[1]} MB" if card.memory else ""
        if card.health != "OK":
            yield Fact("warning", text, "see npu-smi info; take another card with --device")
        elif (card.use or 0) > npu_smi.BUSY_PERCENT:
            yield Fact("warning", text, "busy: its timings will mean little; wait or take another")
        else:
            yield Fact("ok", text)
    try:
        soc = npu_smi.soc_version() if cards else ""
    except KitError as error:
        yield Fact("warning", str(error))
    else:
        if soc:
            yield Fact("ok", f"atc converts for {soc}")
        for fault, remedy in toolkit.package_faults(soc):
            yield Fact("warning", fault, remedy)


def check_tool(ais_infer: Path | None, tool_python: Path | None) -> Iterator[Fact]:
    """Report the inference tool. It matters only where there is a card."""
    there = bool(npu_smi.cards())
    try:
        tool = ais_bench.find_tool(ais_infer, tool_python)
    except KitError as error:
        none = Fact("ok", "no inference tool of Ascend's: nothing here needs one")
        yield Fact("warning", str(error)) if there else none
        return
    where = "" if tool.python == Path(sys.executable) else f", in {tool.python}"
    if tool.script:
        yield Fact("ok", f"{tool.script}{where}")
        return
    reason = ais_bench.why_no_session(tool)
    if reason and there:
        remedy = "source CANN's set_env.sh; install its wheel and aclruntime for this Python"
        yield Fact(
            "warning", f"{tool.name}{where}: installed, but does not start ({reason})", remedy
        )
        return
    odd = "; refuses letters, links, owners and modes of some paths" if tool.rules else ""
    yield Fact("ok", f"{tool.name}{where}{odd}")
