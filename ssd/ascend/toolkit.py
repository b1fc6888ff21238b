"""Ascend's toolkit on this machine: its version, and the facts of a run on a card."""

import os
import re
from itertools import product
from pathlib import Path

from ssd.ascend.npu_smi import cards
from ssd.ascend.om import read_sidecar

KERNELS = "opp/built-in/op_impl/ai_core/tbe/kernel"  # in CANN's folder: compiled, a folder a chip
OLDER = (8, 5)  # CANN from here on does not serve plain Ascend310
VERSION_FILES = ("*_install.info", "*/*_install.info", "version.cfg", "*/version.info")  # CANN's


def places() -> list[Path]:
    """Return the folders of CANN that the environment names: of the toolkit, nnrt or nnae."""
    names = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")
    return [Path(os.environ[name]) for name in names if os.environ.get(name)]


def numbers(version: str | None) -> tuple[int, ...]:
    """Return the first two numbers of a version of CANN, to compare by; () if it is not known."""
    return tuple(int(part) for part in re.findall(r"\d+", version or "")[:2])


def toolkit_version() -> str | None:
    """Return the version of CANN as its files say, None if they are not found."""
    for folder, place in product(places(), VERSION_FILES):
        for path in sorted(folder.glob(place)):
            match = re.search(r"version=\[?([\w.]+)", path.read_text(errors="replace"), re.I)
            if match:
                return match[1]
    return None


def package_faults(soc: str) -> list[tuple[str, str]]:
    """Return what CANN's packages lack for a chip, such as Ascend310P3, and the remedies."""
    cann, family = toolkit_version(), re.match(r"Ascend\d+[A-Z]?", soc)
    kernels = [place / KERNELS for place in places() if (place / KERNELS).is_dir()]
    if soc == "Ascend310" and numbers(cann) >= OLDER:
        remedy = "take CANN 8.0 or older (which served it last is not proven)"
        return [(f"CANN {cann} does not serve plain Ascend310", remedy)]
    if not family or not kernels or (kernels[0] / family[0].lower()).is_dir():
        return []
    chip = family[0].lower().removeprefix("ascend")
    new, old = f"Ascend-cann-{chip}-ops", f"Ascend-cann-kernels-{chip}"
    package = new if numbers(cann) >= OLDER else old
    return [(f"CANN {cann or ''} has no operators for {soc}", f"install {package}")]


def newer_note(model: Path) -> str:
    """Return what speaks against a .om on this CANN: that a newer one made it; empty if nothing."""
    made, here = read_sidecar(model).get("cann"), toolkit_version()
    if not numbers(made) or not numbers(here) or numbers(made) <= numbers(here):
        return ""
    return f"{model}: made by CANN {made}, and {here} is here, which may not run it; convert here"


def card_facts(model: Path) -> dict[str, str]:
    """Return a .om's mode and chip, CANN's version and the cards, as far as they are known."""
    sidecar = read_sidecar(model)
    found = {"mode": sidecar["mode"], "soc_version": sidecar.get("soc_version")}
    found["cann"] = toolkit_version()
    shown = [f"{card.device}: {card.name} {card.health}".rstrip(" :") for card in cards()]
    found["cards"] = ", ".join(shown)
    return {key: value for key, value in found.items() if value}
