"""Ascend's cards on this machine: as `npu-smi info` lists them, and as the system has them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from ssd.cli import KitError

FAMILY = "Ascend"  # what --soc_version puts before npu-smi's name of a chip
BUSY_PERCENT = 5  # of AI Core use: above it somebody else is at work
DEVICES = Path("/dev")  # where the driver, or a container's runtime, puts davinci0, davinci1, ...
UNCLEAR = {  # names in npu-smi's table of which atc wants to know more
    "310B": "Ascend310B1 or Ascend310B4",
    "Ascend910": "Ascend910_ and the number that npu-smi info -t board -i 0 -c 0 prints",
}
ADD_TO_PATH = "in a container, mount npu-smi of the host"


class Card(NamedTuple):
    """A chip of npu-smi's table. device: as programs number it. name: `310P3`, empty if not known.

    health: `OK` if well, empty if not known. use: percent of AI Core. memory: MB used, all. Both
    are None where the table has NA.
    """

    device: int
    name: str = ""
    health: str = ""
    use: int | None = None
    memory: tuple[int, int] | None = None


def parse_cards(text: str) -> list[Card]:
    """Read the table of `npu-smi info`; an empty list if it has no chip.

    Each chip has two rows: `NPU Name | Health | ...`, then `Chip Device | Bus-Id | AICore Memory`.
    Tables differ in the second: Device may be missing (910B) or be called Phy-ID, memory may stand
    there twice (DDR, HBM: the last that is not of 0 counts), and anything may be NA or `-`.
    """
    found: list[Card] = []
    second = False
    for line in text.partition("Process id")[0].splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if len(cells) < 3 or not cells[0] or not cells[0][0].isdecimal():
            continue
        if not second:
            health = " ".join(cells[1])
            found.append(Card(len(found), " ".join(cells[0][1:]), health))
        else:
            place, values = cells[0][1:], cells[2]
            pairs = re.findall(r"(\d+)\s*/\s*(\d+)", " ".join(values))
            pairs = [(int(used), int(size)) for used, size in pairs]
            sizes = [pair for pair in pairs if pair[1]] or pairs
            found[-1] = found[-1]._replace(
                device=int(place[0]) if place and place[0].isdecimal() else found[-1].device,
                use=int(values[0]) if values and values[0].isdecimal() else None,
                memory=sizes[-1] if sizes else None,
            )
        second = not second
    return found


def device_files() -> list[int]:
    """Return the numbers of the cards that the system has, whatever npu-smi makes of them."""
    names = [re.fullmatch(r"davinci(\d+)", path.name) for path in DEVICES.glob("davinci*")]
    return sorted(int(match[1]) for match in names if match)


def ask() -> tuple[list[Card], str]:
    """Ask npu-smi; return its cards and, without any, why it lists none."""
    if not shutil.which("npu-smi"):
        return [], "npu-smi: not on PATH"
    done = subprocess.run(["npu-smi", "info"], capture_output=True, text=True, check=False)
    found = parse_cards(done.stdout)
    lines = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
    return found, "" if found else f"npu-smi info: finds no card ({lines[0][:160]})"


def cards() -> list[Card]:
    """Return the cards; where npu-smi does not list them, those of the system, which are bare."""
    return ask()[0] or [Card(number) for number in device_files()]


def soc_version() -> str:
    """Return atc's name for the chip of this machine's healthy cards, such as Ascend310P3.

    A part of a card, such as 310P3-vir04, has the chip of the whole. Raises KitError if no card is
    healthy or they are of several kinds, and if npu-smi does not say enough.
    """
    found, reason = ask()
    if not found:
        raise KitError(f"{reason}; give --soc_version, such as {FAMILY}310P3")
    healthy = sorted({card.name.partition("-")[0] for card in found if card.health == "OK"})
    if not healthy:
        health = ", ".join(f"{card.device}: {card.health}" for card in found)
        raise KitError(f"npu-smi info: no healthy card ({health}); give --soc_version or repair it")
    if len(healthy) > 1:
        raise KitError(
            f"npu-smi info: several kinds of chip ({', '.join(healthy)}); "
            f"give --soc_version={FAMILY}{healthy[0]} or another"
        )
    if healthy[0] in UNCLEAR:
        raise KitError(
            f"npu-smi info: the chip is {healthy[0]}, of which there are several; "
            f"give --soc_version={UNCLEAR[healthy[0]]}"
        )
    return FAMILY + healthy[0]


def card_notes(devices: list[int], must: bool = False) -> list[str]:
    """Return what speaks against these cards: not listed, not healthy, or busy.

    If npu-smi is missing or unreadable, only that. Raises KitError if it finds no card, and the
    system neither; without npu-smi only if a card `must` be there for sure.
    """
    listed, reason = ask()
    if not listed:
        if (must or shutil.which("npu-smi")) and not device_files():
            raise KitError(f"{reason}, and {DEVICES} has no davinci0: no card; check the driver")
        return [f"{reason}, so health and load of the cards are not known; {ADD_TO_PATH}"]
    found, notes = {card.device: card for card in listed}, []
    for device in devices:
        card = found.get(device)
        if not card:
            notes.append(f"card {device}: not in the table of npu-smi info; see --device")
        elif card.health != "OK":
            notes.append(f"card {device}: its health is {card.health}; see npu-smi info")
        elif (card.use or 0) > BUSY_PERCENT:
            notes.append(f"card {device}: busy ({card.use} % of AI Core), so timings mean little")
    return notes
