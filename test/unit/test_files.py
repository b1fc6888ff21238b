"""Folders, whole-or-nothing writing, records of what was made from what."""

import errno
import json
import os
from pathlib import Path

from ssd import files, tensors
from ssd.cli import KitError

import pytest


def test_atomic_leaves_nothing_when_the_writer_fails(tmp_path):
    path = tmp_path / "a" / "x.bin"
    with pytest.raises(ZeroDivisionError), files.atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []


def test_a_folder_with_the_marker_is_taken_again_and_removed(tmp_path):
    path = tmp_path / "a" / "b;'é"
    files.clear_folder(path)
    for _ in range(2):
        files.own_folder(path)
        assert (path / ".ssd-kit").is_file()
    (path / "within").mkdir()
    (path / "within" / "x.bin").write_text("")
    files.own_folder(path)
    assert (path / "within" / "x.bin").exists()
    files.clear_folder(path)
    assert list((tmp_path / "a").iterdir()) == []


def test_a_removal_that_was_broken_off_can_be_taken_up_again(tmp_path, monkeypatch):
    path = tmp_path / "ours"
    files.own_folder(path)
    for name in "abc":
        (path / name).write_text("")
    unlink, count = Path.unlink, iter(range(9))
    monkeypatch.setattr(Path, "unlink", lambda self: unlink(self) if next(count) < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        files.clear_folder(path)
    monkeypatch.undo()
    assert 0 < len(list(path.iterdir())) < 4
    files.clear_folder(path)
    assert not path.exists()


def test_an_empty_folder_is_taken_and_without_the_marker_stays(tmp_path):
    files.clear_folder(tmp_path)
    assert tmp_path.is_dir()
    files.own_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".ssd-kit"]


def test_folders_of_others_files_and_links_are_refused_and_stay(tmp_path):
    users, file, link = tmp_path / "users", tmp_path / "file", tmp_path / "link"
    users.mkdir()
    (users / "mine.txt").write_text("mine")
    file.write_text("mine")
    files.own_folder(tmp_path / "ours")
    link.symlink_to(tmp_path / "ours")
    before = sorted(tmp_path.rglob("*"))
    for path in (users, file, link):
        with pytest.raises(KitError, match=f"{path}: .*; move it or give another --output"):
            files.own_folder(path)
        files.clear_folder(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="within: cannot be made: Not a directory"):
        files.own_folder(tmp_path / "file" / "within")


def test_natural_order_takes_any_name():
    names = ["a10", "a9", "9", "10", "²", "a", "", "٣b"]
    assert sorted(map(Path, names), key=files.natural_key)[-2:] == [Path("a10"), Path("²")]


class TestAtomic:
    """A file that has its name is whole."""

    def test_a_full_disk_leaves_the_old_file_and_no_other(self, tmp_path, monkeypatch):
        path = tmp_path / "x.json"
        files.write_json(path, "old")
        real = Path.write_bytes

        def write_half(self, data):
            real(self, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

        monkeypatch.setattr(Path, "write_bytes", write_half)
        with pytest.raises(KitError, match=r"x\.json: cannot write: No space left .*; free space"):
            files.write_json(path, "new")
        assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
        assert json.loads(path.read_text()) == "old"

    def test_an_interrupt_leaves_nothing(self, tmp_path):
        path = tmp_path / "x"
        with pytest.raises(KeyboardInterrupt), files.atomic(path) as temporary:
            temporary.write_bytes(b"half")
            assert not path.exists()
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    def test_folders_are_made(self, tmp_path):
        path = tmp_path / "a" / "图 'b';" / "x.bin"
        files.write_bytes(path, b"12")
        assert path.read_bytes() == b"12"
        assert [p.name for p in path.parent.iterdir()] == ["x.bin"]

    def test_a_half_written_file_is_no_input(self, tmp_path):
        with files.atomic(tmp_path / "tensor([9]).bin") as temporary:
            temporary.write_bytes(b"half")
            with pytest.raises(KitError, match=r"no \.bin or \.npy file"):
                tensors.tensor_files(tmp_path)
            assert tensors.output_paths(tmp_path) == {}


def test_json_keeps_letters_as_they_are(tmp_path):
    files.write_json(tmp_path / "a.json", {"é": "图"})
    assert (tmp_path / "a.json").read_bytes() == '{"é": "图"}\n'.encode()
    assert files.read_json(tmp_path / "a.json") == {"é": "图"}


def test_json_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: (calls.append(n), r(*a))[1])
    files.write_json(tmp_path / "a.json", {})
    files.write_bytes(tmp_path / "a.bin", b"x")  # which are many, and made again
    assert calls == ["fsync", "replace", "replace"]


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(KitError, match="a.json: is a FIFO or a device, no file; give a file"):
        files.read_json(tmp_path / "a.json")


def test_a_list_is_read_without_blanks_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf cat \r\n\n \n\xe7\x8b\x97")
    assert files.read_lines(path, "a name") == ["cat", "狗"]
    path.write_bytes(b"\xff")
    with pytest.raises(KitError, match=r"a\.txt: cannot read: not UTF-8; give a name a line"):
        files.read_lines(path, "a name")
    with pytest.raises(KitError, match="cannot read: No such file or directory; give a name"):
        files.read_lines(tmp_path / "b.txt", "a name")
