"""Files: written whole or not at all, JSON, folders and locks, and what a file was made from."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ssd.cli import KitError, note
from ssd.locks import lock, lock_file

RECORD = "made_from.json"  # in a folder of results
MARKER = ".ssd-kit"  # lies in a folder that the kit made, and may therefore remove
MARKER_TEXT = "The SSD-ResNet34 kit made this folder; a later run of it may remove it.\n"
CHECKPOINT_KEY = "checkpoint_sha256"  # in an ONNX file's metadata, and in summaries and reports


def natural_key(path: Path) -> list:
    """Sort key that puts `tensor([9])` before `tensor([10])`, as ais_bench does."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


@contextmanager
def atomic(path: Path, lasting: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes the name, on failure it goes.

    lasting: have it on the disk before it takes the name, should the machine's power fail.
    That of a killed run is used again. What is no regular file (a device, a FIFO) is written to,
    not replaced, and of a link the target is written. Raises KitError for what the system refuses
    (no space, no permission), and if another process is writing the same file.
    """
    regular = path.is_file() or not path.exists()
    target = Path(os.path.realpath(path)) if regular else path  # a pipe's realpath leads nowhere
    temporary = target.with_name(f".{target.name}.tmp") if regular else target
    handle, leave = None, not regular
    try:
        if regular and target.is_symlink():  # of links that go round in a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if regular:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle = lock_file(temporary)
        yield temporary
        if regular:
            if lasting:
                os.fsync(handle)
            os.replace(temporary, target)
            leave = True  # a file of that name is another process's from now on
    except BlockingIOError:
        leave = True
        raise KitError(f"{path}: another run is writing it; wait for that") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise KitError(f"{path}: cannot write: {reason}; free space or choose another") from None
    finally:
        if not leave:  # also where a signal came between making the file and locking it
            with suppress(OSError):
                temporary.unlink()
        if handle is not None:
            os.close(handle)


def write_bytes(path: Path, data: bytes | memoryview, lasting: bool = False) -> None:
    """Write a file whole or not at all; lasting: as `atomic` has it."""
    with atomic(path, lasting) as temporary:
        temporary.write_bytes(data)


def check_folder(path: Path) -> None:
    """Raise KitError unless `own_folder` can take the path: nothing, empty, or with its marker."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise KitError(f"{path}: is no folder of this kit's; move it or give another --output")
    if path.is_dir() and any(path.iterdir()) and not (path / MARKER).is_file():
        raise KitError(
            f"{path}: holds files that are not this kit's; move it or give another --output"
        )


def own_folder(path: Path) -> None:
    """Make a folder that may be removed again, with MARKER in it; an empty one is taken too.

    What lies in a marked folder stays. Raises KitError for any other folder, before anything is
    changed, and for what the system refuses.
    """
    check_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / MARKER).write_text(MARKER_TEXT)
    except OSError as error:
        raise KitError(f"{path}: cannot be made: {error.strerror}; give another --output") from None


def clear_folder(path: Path) -> None:
    """Remove a folder that `own_folder` made, with all that is in it; any other stays as it is.

    Raises KitError if the system refuses it.
    """
    if path.is_symlink() or not (path / MARKER).is_file():
        return
    try:
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child.name != MARKER:
                child.unlink()
        (path / MARKER).unlink()  # last: a removal that was broken off can be taken up again
        path.rmdir()
    except OSError as error:
        reason = error.strerror
        raise KitError(f"{path}: cannot be removed: {reason}; remove it yourself") from None


def claim_folder(path: Path, made_from: dict[str, Any], fixed: set[str]) -> None:
    """Make a folder for the results of a run, or take up what the same run left there.

    made_from: what the results are made from and with; noted in the folder. Results that were made
    otherwise are removed, as are those whose record is broken. Raises KitError, naming the
    difference, if it is in a key of `fixed`, and for folders that are not the kit's.
    """
    record = path / RECORD
    before = read_record(record) if record.exists() else made_from
    others = differing(before, made_from)
    refused = before and fixed.intersection(others)
    what = ", ".join(key.removesuffix("_sha256") for key in sorted(refused or others))
    if refused:
        remedy = "give another --output, or --force"
        raise KitError(f"{path}: holds a run that differs in {what}; {remedy}")
    if others:
        note(f"{path}: {f'differs in {what}' if before else f'{RECORD} is broken'}; made again")
        clear_folder(path)
    own_folder(path)
    write_json(record, made_from)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write JSON whole or not at all; UTF-8, letters as they are."""
    text = json.dumps(value, indent=indent, ensure_ascii=False) + "\n"
    data = text.encode(errors="backslashreplace")  # JSON's escape of a lone surrogate
    write_bytes(path, data, lasting=True)


def read_json(path: Path) -> Any:
    """Read JSON. Raises KitError if the file is missing or broken."""
    try:
        if stat.S_IFMT(path.stat().st_mode) in (stat.S_IFIFO, stat.S_IFCHR):  # it may never end
            raise KitError(f"{path}: is a FIFO or a device, no file; give a file")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise KitError(f"{path}: cannot read: {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:  # the latter: brackets without end
        raise KitError(f"{path}: not JSON ({error}); fetch or make it again") from None


def read_lines(path: Path, wanted: str) -> list[str]:
    """Return a UTF-8 text's lines, stripped, none blank. Raises KitError if it cannot be read."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise KitError(f"{path}: cannot read: {reason}; give {wanted} a line") from None
    return [line.strip() for line in lines if line.strip()]


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object that the kit wrote; {}, which proves nothing, if that is not there."""
    try:
        found = read_json(path)
    except KitError:
        return {}
    return found if isinstance(found, dict) else {}


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def identity(path: Path) -> list[Any]:
    """Return a file's name, size in bytes and time of change in ns: it is the same while they are.

    Raises OSError if it is missing.
    """
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def digest(value: Any) -> str:
    """Return the SHA-256 of a value as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """Return one digest for the identities of files."""
    return digest([identity(path) for path in paths])


def differing(made_from: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the keys in which two records of what something was made from differ."""
    keys = sorted(made_from.keys() | wanted.keys())
    return [key for key in keys if made_from.get(key) != wanted.get(key)]


@contextmanager
def scratch_folder(parent: Path, prefix: str, place: str) -> Iterator[Path]:
    """Give a new folder in `parent`, and remove it afterwards; those of killed runs go first.

    place: what names another parent, for messages. While the folder is in use it is locked, which
    ends with the process. Raises KitError if the system refuses it.
    """
    folder = handle = None
    try:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for left in parent.glob(f"{prefix}*"):
                _sweep(left)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            handle = os.open(folder, os.O_RDONLY)
            lock(handle)
            (folder / MARKER).write_text(MARKER_TEXT)  # without it nobody sweeps; it is locked now
        except OSError as error:
            reason = error.strerror
            raise KitError(f"{parent}: cannot write: {reason}; give another {place}") from None
        yield folder
    finally:
        if handle is not None:
            os.close(handle)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove a scratch folder of this user's that no process holds."""
    if folder.is_symlink() or not (folder / MARKER).is_file():
        return
    with suppress(OSError):  # another user's, in use, or gone
        if folder.stat().st_uid != os.getuid():
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if it is missing; the kernel lets go of it when the process ends.

    A driver that holds it for its stages says so in SSD_LOCK. Raises KitError if another run holds
    it, or it cannot be made.
    """
    if os.environ.get("SSD_LOCK") == os.path.realpath(folder):
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise KitError(f"{folder}: cannot write: {error.strerror}; give another folder") from None
    try:
        try:
            lock(handle)
        except BlockingIOError:
            remedy = "wait for that, or give another folder"
            raise KitError(f"{folder}: another run is using it; {remedy}") from None
        yield
    finally:
        os.close(handle)
