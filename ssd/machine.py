"""The machine that something runs on: what a reader of its figures needs to know, and its room."""

import importlib.metadata
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ssd import __version__
from ssd.cli import KitError
from ssd.workers import num_cpus

PACKAGES = ("numpy", "onnxruntime", "torch", "openvino", "pillow", "hotcoco")
CPUINFO, UPTIME = Path("/proc/cpuinfo"), Path("/proc/uptime")
STAT, STATUS = Path("/proc/self/stat"), Path("/proc/self/status")
LOADED = time.monotonic()
FLAGS = {  # what quickens INT8 and bf16, and the names that Linux has for it on x86 and ARM
    "AMX": {"amx_tile"},
    "VNNI": {"avx512_vnni", "avx_vnni", "asimddp"},
    "BF16": {"avx512_bf16", "bf16"},
}


def machine() -> dict[str, object]:
    """Return the facts that do not change while it runs."""
    return {
        "machine": f"{platform.platform()}, {processor()}",
        "cpus": num_cpus(),
        "cpu_flags": cpu_flags(),
        "python": platform.python_version(),
        "packages": versions(),
    }


def moment() -> dict[str, str]:
    """Return the facts of this moment: when, with which kit, and how busy the machine is."""
    now = {"date": datetime.now().astimezone().isoformat(" ", "seconds"), "kit": __version__}
    with suppress(OSError):  # not every system counts it
        now["load"] = f"{os.getloadavg()[0]:.2f}"
    return now


def _cpuinfo() -> str:
    return CPUINFO.read_text() if CPUINFO.exists() else ""


def processor() -> str:
    """Return the processor's name as the system reports it."""
    match = re.search(r"model name\s*: (.+)", _cpuinfo())
    return match[1] if match else platform.processor() or platform.machine()


def cpu_flags() -> str:
    """Return which of FLAGS the processor has, and which it has not: `VNNI, BF16; no AMX`."""
    match = re.search(r"^(?:flags|Features)\s*: (.+)", _cpuinfo(), re.M)
    has = set(match[1].split()) if match else set()
    there = [name for name, names in FLAGS.items() if names & has]
    lacks = [name for name in FLAGS if name not in there]
    return "; ".join(filter(None, [", ".join(there), f"no {', '.join(lacks)}" if lacks else ""]))


def peak_memory() -> int | None:
    """Return the most bytes that this process has held in memory; None if the system hides it.

    Not ru_maxrss, which a process inherits from the one that started it.
    """
    match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return 1024 * int(match[1]) if match else None


def free_space(folder: Path) -> tuple[Path, int]:
    """Return the folder that is there, where `folder` is or will be, and the bytes free in it."""
    while not folder.exists():
        folder = folder.absolute().parent
    return folder, shutil.disk_usage(folder).free


def check_free(folder: Path, needed: int, what: str, way_out: str = "") -> None:
    """Raise KitError unless `needed` bytes are free where `folder` is or will be.

    what: needs them. way_out: another remedy than the usual ones.
    """
    folder, free = free_space(folder)
    if needed > free:
        raise KitError(
            f"{folder}: {what} need {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; free "
            f"space or choose another folder{way_out}"
        )


def age() -> float:
    """Return the seconds since this process started; since it loaded this, where no /proc is."""
    if not (STAT.exists() and UPTIME.exists()):
        return time.monotonic() - LOADED
    ticks = int(STAT.read_text().rpartition(")")[2].split()[19])  # since boot; a name may hold ")"
    return float(UPTIME.read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on."""
    found = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
