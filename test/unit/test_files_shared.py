"""Files and folders that several runs want: locks, and what a folder was made from."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

from ssd import files
from ssd.cli import KitError
from ssd.files import (
    atomic,
    claim_folder,
    differing,
    digest,
    digest_files,
    locked,
    scratch_folder,
    write_json,
)

import pytest
from models import ROOT

HOLD = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from ssd.files import {name}
with {name}(Path({path!r}), *{more!r}):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Return a function that has another process hold a path until its stdin is closed."""
    held = []

    def start(name, path, *more):
        code = HOLD.format(root=str(ROOT), name=name, path=str(path), more=more)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        held.append(subprocess.Popen([sys.executable, "-c", code], **pipes))
        assert held[-1].stdout.readline() == "held\n"
        return held[-1]

    yield start
    for process in held:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_folder_has_one_run_at_a_time(end, hold, tmp_path):
    folder = tmp_path / "not there yet"
    process = hold("locked", folder)
    with pytest.raises(KitError, match="yet: another run is using it; wait"), locked(folder):
        pass
    process.stdin.close() if end == "close" else process.kill()
    process.wait()
    with locked(folder):
        assert os.listdir(folder) == []


def test_a_run_that_is_being_killed_is_waited_for(hold, tmp_path):
    process = hold("locked", tmp_path)
    threading.Timer(0.3, process.kill).start()
    with locked(tmp_path):
        assert process.wait() == -signal.SIGKILL


def test_a_driver_holds_a_folder_for_its_stages(hold, tmp_path, monkeypatch):
    hold("locked", tmp_path)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSD_LOCK", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for same in (tmp_path, tmp_path / "other" / ".."):
        with locked(same):
            pass
    hold("locked", tmp_path / "other")
    with pytest.raises(KitError, match="other: another run"), locked(tmp_path / "other"):
        pass


def test_a_folder_that_is_a_file_cannot_be_held(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(KitError, match="file: cannot write: File exists; give"),
        locked(tmp_path / "file"),
    ):
        pass


def test_a_file_has_one_writer_at_a_time(hold, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("the old one")
    process = hold("atomic", path)
    with pytest.raises(KitError, match="a.json: another run is writing it; wait for that"):
        write_json(path, 1)
    assert path.read_text() == "the old one"
    process.kill()
    process.wait()
    assert sorted(os.listdir(tmp_path)) == [".a.json.tmp", "a.json"]  # what the killed one left
    write_json(path, 1)
    assert path.read_text() == "1\n" and os.listdir(tmp_path) == ["a.json"]


def test_the_next_writers_file_is_left_alone(tmp_path, monkeypatch):
    path, replace = tmp_path / "a", os.replace

    def and_another_begins(source, target):
        replace(source, target)
        source.write_text("the next one's")

    monkeypatch.setattr(files.os, "replace", and_another_begins)
    with atomic(path) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"
    assert (tmp_path / ".a.tmp").read_text() == "the next one's"


def test_a_disk_without_locks_is_written_without(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_json(tmp_path / "a", 1)
    assert (tmp_path / "a").read_text() == "1\n" and os.listdir(tmp_path) == ["a"]
    with locked(tmp_path / "results"), scratch_folder(tmp_path, "x.", "TMPDIR") as scratch:
        assert scratch.is_dir()
    assert sorted(os.listdir(tmp_path)) == ["a", "results"]


def test_scratch_of_a_killed_run_goes_with_the_next_and_no_other(hold, tmp_path):
    others = {tmp_path / "x.mine", tmp_path / "other"}  # of no mark, of no such name
    for path in others:
        path.mkdir()
    (tmp_path / "x.link").symlink_to("other")
    (tmp_path / "other" / ".ssd-kit").write_text("")
    process = hold("scratch_folder", tmp_path, "x.", "TMPDIR")
    (held,) = set(tmp_path.glob("x.*")) - others - {tmp_path / "x.link"}
    (held / "big").write_text("")
    with scratch_folder(tmp_path, "x.", "TMPDIR") as mine:
        assert held.is_dir() and mine != held and mine.is_dir()
    assert held.is_dir() and not mine.exists()
    process.kill()
    process.wait()
    assert held.is_dir()
    with scratch_folder(tmp_path, "x.", "TMPDIR"):
        assert not held.exists()
    assert set(tmp_path.iterdir()) == others | {tmp_path / "x.link"}
    assert (tmp_path / "other" / ".ssd-kit").exists()


def test_scratch_that_the_system_refuses_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    words = "file: cannot write: File exists; give another TMPDIR"
    with pytest.raises(KitError, match=words), scratch_folder(tmp_path / "file", "x.", "TMPDIR"):
        pass
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Path, "write_text", Mock(side_effect=full))
    words = "cannot write: No space left on device; give another TMPDIR"
    with pytest.raises(KitError, match=words), scratch_folder(tmp_path, "x.", "TMPDIR"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_is_no_regular_file_is_written_and_not_replaced(kind, tmp_path):
    path, target = tmp_path / "it", tmp_path / "target"
    if kind == "link":
        path.symlink_to(target)
        write_json(path, 1)
        assert path.is_symlink() and target.read_text() == "1\n"
        return
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_json(path, 1)
    assert os.read(reader, 9) == b"1\n" and path.is_fifo()
    os.close(reader)


MADE = {"model": "a", "batch": 4, "list": [1]}


def test_what_differs_is_named():
    assert differing(MADE, dict(reversed(MADE.items()))) == []
    assert differing(MADE, MADE | {"batch": 5}) == ["batch"]
    assert differing(MADE, {"model": "a", "new": None, "other": 1}) == ["batch", "list", "other"]


def test_a_digest_heeds_values_and_not_their_order():
    assert digest(MADE) == digest(dict(reversed(MADE.items())))
    assert len({digest(value) for value in (MADE, MADE | {"batch": 5}, [], [1], [[1]], "1")}) == 6


def test_a_digest_of_files_heeds_names_sizes_and_times(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text("x")
        os.utime(path, ns=(1, 1))
    seen = {digest_files(paths), digest_files(paths[:1]), digest_files(paths[::-1])}
    paths[0].write_text("y")
    os.utime(paths[0], ns=(1, 1))
    assert digest_files(paths) in seen  # the same by all that is looked at
    os.utime(paths[0], ns=(1, 2))
    seen.add(digest_files(paths))
    paths[0].write_text("yy")
    os.utime(paths[0], ns=(1, 2))
    seen.add(digest_files(paths))
    assert len(seen) == 5


def fill(folder):
    (folder / "output").write_text("x")
    return folder


def test_a_folder_is_taken_up_by_the_same_run(tmp_path):
    folder = tmp_path / "new" / "bs1"
    claim_folder(folder, MADE, {"model"})
    assert json.loads((fill(folder) / files.RECORD).read_text()) == MADE
    claim_folder(folder, MADE, {"model"})
    assert (folder / "output").exists()


def test_what_another_run_made_is_removed_or_refused(tmp_path, capsys):
    folder = tmp_path / "bs1"
    claim_folder(folder, MADE, {"model"})
    other = fill(folder) and MADE | {"model": "b", "batch": 5}
    with pytest.raises(KitError, match="bs1: holds a run that differs in model; give another"):
        claim_folder(folder, other, {"model"})
    assert (folder / "output").exists()
    claim_folder(folder, MADE | {"batch": 5, "list": []}, {"model"})
    assert capsys.readouterr().err == f"{folder}: differs in batch, list; made again\n"
    assert not (folder / "output").exists()
    claim_folder(fill(folder), other, set())
    assert not (folder / "output").exists()
    assert json.loads((folder / files.RECORD).read_text()) == other


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_what_has_a_broken_record_is_made_again(text, tmp_path, capsys):
    folder = tmp_path / "bs1"
    claim_folder(folder, MADE, {"model"})
    (fill(folder) / files.RECORD).write_text(text)
    claim_folder(folder, MADE, {"model"})
    assert capsys.readouterr().err == f"{folder}: made_from.json is broken; made again\n"
    assert not (folder / "output").exists()
    assert json.loads((folder / files.RECORD).read_text()) == MADE


def test_a_folder_that_is_not_the_kits_is_refused(tmp_path):
    with pytest.raises(KitError, match="holds files that are not this kit's"):
        claim_folder(fill(tmp_path), MADE, set())
    assert os.listdir(tmp_path) == ["output"]
