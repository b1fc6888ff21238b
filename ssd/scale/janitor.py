"""Ends what a local Ray cluster leaves behind, and removes its folder.

Runs as `python3 -I janitor.py FOLDER` and waits until stdin ends: the stage that started it has
closed the other end, or is gone. Ray's own processes notice that too, but some need a minute.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "SSD_SCALE_FOLDER"  # in the environment of all processes of the cluster
PATIENCE = 30  # seconds to go on trying
PAUSE = 0.05  # seconds between tries


def processes(folder: str) -> list[int]:
    """Return the processes of the cluster that has this folder, without this one."""
    mark, found = f"{VARIABLE}={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            environment = (entry / "environ").read_bytes().split(b"\0")
            if mark in environment and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def main() -> None:
    folder = sys.argv[1]
    sys.stdin.buffer.read()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and (left := processes(folder)):
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
