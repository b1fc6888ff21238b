"""What the ais_bench of 2023-09 and newer refuses of paths, so that it is said before any work.

It takes few letters, no links, nothing of another owner and group (root neither), nothing that
others may write, and no folder for its results that others may read.
"""

import os
import re
from pathlib import Path

from ssd.cli import KitError

LETTERS = re.compile(r"[^A-Za-z0-9_/.-]")
OTHERS_WRITE = 0o022  # mode bits that no model and no input may have
OTHERS_ENTER = 0o027  # and no folder for results


def close_to_others() -> None:
    """Make all that this process creates such that the tool takes it."""
    os.umask(os.umask(0) | OTHERS_ENTER)


def check_run(model: Path, folders: list[Path], inputs: list[Path]) -> None:
    """Raise KitError, with the remedy, for what the tool would refuse of a run.

    folders: for results, those that are not there yet too. inputs: of which the first stands for
    all; their names do not count, as the kit links them under others.
    """
    check_path(model, OTHERS_WRITE)
    for folder in folders:
        check_path(folder, OTHERS_ENTER)
    for path in inputs[:1]:
        check_access(path, OTHERS_WRITE)


def check_path(path: Path, bits: int) -> None:
    """Raise KitError for the letters of a path, a link, and what `check_access` refuses."""
    full = path.absolute()
    if found := LETTERS.search(str(full)):
        raise KitError(
            f"{full}: this ais_bench refuses {found[0]!r} in paths; take A-Z a-z 0-9 _ - . alone"
        )
    if path.is_symlink():
        raise KitError(f"{path}: is a link, which this ais_bench refuses; give what it leads to")
    if path.exists():
        check_access(path, bits)


def check_access(path: Path, bits: int) -> None:
    """Raise KitError for a file of another owner and group, and for one with any of the bits."""
    status = path.stat()
    if status.st_uid != os.geteuid() and status.st_gid not in {os.getegid(), *os.getgroups()}:
        raise KitError(
            f"{path}: is of another user and group, which this ais_bench refuses; copy it, or "
            f"chown $(id -u) {path}"
        )
    if status.st_mode & bits:
        mode = "go-w" if bits == OTHERS_WRITE else "g-w,o-rwx"
        raise KitError(f"{path}: this ais_bench refuses its mode; chmod {mode} {path}")
