"""The system's locks on files and folders: they go with the process, however it ends."""

import errno
import fcntl
import os
import time
from pathlib import Path

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # on a disk without, as Lustre may be
LEAVING = 2.0  # seconds in which a run that was killed may still hold what it had locked


def lock(handle: int) -> None:
    """Lock what is open, where the disk has locks.

    Raises BlockingIOError if another process has it, and keeps it: the kernel frees the memory of a
    killed process before its locks.
    """
    end = time.monotonic() + LEAVING
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return
            if not isinstance(error, BlockingIOError) or time.monotonic() > end:
                raise
        time.sleep(0.02)


def lock_file(path: Path) -> int:
    """Open a file, made if it is missing, and lock it until it is closed.

    Raises BlockingIOError if another process has it.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(handle)
            if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)  # it was renamed meanwhile
