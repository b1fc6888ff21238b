"""What the scripts of the kit share; importing it settles how a script ends."""

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

__version__ = "1.0.0"  # noted in what is kept, so that another version makes it again
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def _hold_streams() -> None:
    """Open the null device for those of stdin, stdout and stderr that are closed.

    A file that is written would get their number, and with it what libraries print. What print()
    has for stderr must not go to stdout instead, so that is replaced, too.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def signal_with_parent(signum: int) -> None:
    """Let the kernel send this process a signal when its parent ends; nothing but on Linux."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signum)


def _end_with_driver() -> None:
    """End with the driver (SSD_DRIVER, its process) that started this script, even if it is killed.

    Before anything else is imported, which takes seconds: the driver may go meanwhile.
    """
    driver = os.environ.get("SSD_DRIVER", "")
    if driver == str(os.getppid()):
        signal_with_parent(signal.SIGTERM)
    if driver and Path("/proc/self").exists() and not _runs(driver):
        sys.exit(128 + signal.SIGTERM)


def _runs(process: str) -> bool:
    """Return whether a process runs: one that was killed is listed until its parent notices."""
    try:
        return Path("/proc", process, "stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def _end_import(kind: type[BaseException], error: BaseException, trace: TracebackType) -> None:
    """Print one line, not a traceback, if a script ends while it imports what it needs."""
    name = Path(sys.argv[0]).name
    if kind is KeyboardInterrupt:
        sys.exit(130)
    if kind is ModuleNotFoundError and (error.name or "").partition(".")[0] != "ssd":
        print(
            f"{name}: error: the package {error.name} is missing; activate the kit's environment "
            "(source .venv/bin/activate), or install requirements.txt",
            file=sys.stderr,
        )
        return
    sys.__excepthook__(kind, error, trace)


_hold_streams()
sys.excepthook = _end_import
_end_with_driver()
