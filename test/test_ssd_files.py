"""Names, sizes, whole-or-nothing writing, and reading of output files."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ssd_files
from ssd_files import KitError


def test_sizes_of_files_are_those_of_the_contract():
    bytes_of = {
        d: int(np.prod(s)) * np.dtype(d).itemsize for d, s in ssd_files.INPUT_SHAPES.items()
    }
    assert bytes_of == {"float32": 1_080_000, "uint8": 270_000}
    assert ssd_files.output_bytes(81) == 139_712 + 2_829_168
    assert [ssd_files.input_bytes(d) for d in ("float32", "uint8")] == [1_080_000, 270_000]


def test_files_come_in_natural_order(tmp_path):
    for image_id in (10, 9, 100):
        (tmp_path / f"tensor([{image_id}]).bin").touch()
    (tmp_path / "source.json").touch()
    order = [ssd_files.tensor_id(path) for path in ssd_files.tensor_files(tmp_path)]
    assert order == [9, 10, 100]


def test_atomic_leaves_nothing_when_the_writer_fails(tmp_path):
    path = tmp_path / "a" / "x.bin"
    with pytest.raises(ZeroDivisionError), ssd_files.atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []


def test_names_and_ids_are_each_others_reverse():
    assert ssd_files.tensor_stem(139) == "tensor([139])"
    for name in ("tensor([139]).bin", "tensor([139])_0.bin", "tensor([139])_1.npy"):
        assert ssd_files.tensor_id(Path(name)) == 139
    for name in ("tensor.bin", "tensor([]).bin", "x_tensor([1]).bin", "source.json"):
        assert ssd_files.tensor_id(Path(name)) is None


def test_natural_order_takes_any_name():
    names = ["a10", "a9", "9", "10", "²", "a", "", "٣b"]
    assert sorted(map(Path, names), key=ssd_files.natural_key)[-2:] == [Path("a10"), Path("²")]


def test_first_few_names_the_first():
    assert ssd_files.first_few([]) == ""
    assert ssd_files.first_few(range(5)) == "0, 1, 2, 3, 4"
    assert ssd_files.first_few(range(6)) == "0, 1, 2, 3, 4, ..."


def test_a_folder_without_inputs_is_told(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(KitError, match="ssd_preprocess.py"):
            ssd_files.tensor_files(folder)


def test_inputs_are_told_apart_by_size_or_header(tmp_path):
    for dtype, shape in (("float32", (3, 300, 300)), ("uint8", (300, 300, 3))):
        np.zeros(shape, dtype).tofile(tmp_path / "a.bin")
        np.save(tmp_path / "a.npy", np.zeros(shape, dtype))
        for name in ("a.bin", "a.npy"):
            assert ssd_files.input_layout(tmp_path / name) == (dtype, shape)
    (tmp_path / "a.bin").write_bytes(bytes(1_079_999))
    np.save(tmp_path / "a.npy", np.zeros((3, 300, 300)))
    for name, found in (("a.bin", "1079999 bytes"), ("a.npy", "float64")):
        with pytest.raises(KitError, match=f"{name}: {found}.*ssd_preprocess.py --force"):
            ssd_files.input_layout(tmp_path / name)


class TestAtomic:
    """A file that has its name is whole."""

    def test_a_full_disk_leaves_the_old_file_and_no_other(self, tmp_path, monkeypatch):
        path = tmp_path / "x.json"
        ssd_files.write_json(path, "old")
        real = Path.write_bytes

        def write_half(self, data):
            real(self, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

        monkeypatch.setattr(Path, "write_bytes", write_half)
        with pytest.raises(KitError, match=r"x\.json: cannot write: No space left .*; free space"):
            ssd_files.write_json(path, "new")
        assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
        assert json.loads(path.read_text()) == "old"

    def test_an_interrupt_leaves_nothing(self, tmp_path):
        path = tmp_path / "x"
        with pytest.raises(KeyboardInterrupt), ssd_files.atomic(path) as temporary:
            temporary.write_bytes(b"half")
            assert not path.exists()
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    def test_folders_are_made(self, tmp_path):
        path = tmp_path / "a" / "图 'b';" / "x.bin"
        ssd_files.write_bytes(path, b"12")
        assert path.read_bytes() == b"12"
        assert [p.name for p in path.parent.iterdir()] == ["x.bin"]

    def test_a_half_written_file_is_no_input(self, tmp_path):
        with ssd_files.atomic(tmp_path / "tensor([9]).bin") as temporary:
            temporary.write_bytes(b"half")
            with pytest.raises(KitError, match=r"no \.bin or \.npy file"):
                ssd_files.tensor_files(tmp_path)
            assert ssd_files.output_paths(tmp_path) == {}


def test_json_keeps_letters_as_they_are(tmp_path):
    ssd_files.write_json(tmp_path / "a.json", {"é": "图"})
    assert (tmp_path / "a.json").read_bytes() == '{"é": "图"}\n'.encode()
    assert ssd_files.read_json(tmp_path / "a.json") == {"é": "图"}


def test_space_is_checked_where_the_folder_will_be(tmp_path, monkeypatch):
    usage = ssd_files.shutil.disk_usage(tmp_path)._replace(free=2_000_000_000)
    monkeypatch.setattr(ssd_files.shutil, "disk_usage", lambda folder: usage)
    ssd_files.check_free(tmp_path / "a" / "b", 2_000_000_000, "outputs")
    with pytest.raises(KitError, match=r"outputs need 15\.0 GB, 2\.0 GB are free; free space"):
        ssd_files.check_free(tmp_path / "a" / "b", 15_000_000_000, "outputs")


@pytest.mark.parametrize("labels", [81, 4, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("suffix", [".bin", ".npy"])
def test_outputs_are_told_apart_by_size(labels, dtype, swapped, suffix, tmp_path):
    rng = np.random.default_rng(0)
    ploc, plabel = (rng.normal(size=(n, 8732)).astype(dtype) for n in (4, labels))
    pair = (plabel, ploc) if swapped and labels != 4 else (ploc, plabel)
    for k, array in enumerate(pair):
        path = tmp_path / f"tensor([9])_{k}{suffix}"
        np.save(path, array[None]) if suffix == ".npy" else array.tofile(path)
    found = ssd_files.read_outputs(ssd_files.output_paths(tmp_path)[9], labels)
    for array, expected in zip(found, (ploc, plabel), strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected.astype(np.float32))


def without(path):
    path.unlink()


def as_broken_npy(path):
    path.unlink()
    path.with_suffix(".npy").write_bytes(b"no")


def as_double_npy(path):
    path.unlink()
    np.save(path.with_suffix(".npy"), np.zeros((3, 8732)))


def as_folder(path):
    path.unlink()
    path.mkdir()


def one_more(path):
    path.with_name("tensor([9])_2.bin").write_bytes(path.read_bytes())


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "spoil", [without, as_broken_npy, as_double_npy, as_folder, one_more, cut, empty]
)
def test_outputs_that_are_not_one_of_each_are_refused(spoil, tmp_path):
    for k, labels in enumerate((4, 3)):
        np.zeros((labels, 8732), np.float32).tofile(tmp_path / f"tensor([9])_{k}.bin")
    spoil(tmp_path / "tensor([9])_1.bin")
    with pytest.raises(KitError, match=r"tensor\(\[9\]\)_[01]"):
        ssd_files.read_outputs(ssd_files.output_paths(tmp_path)[9], 3)


def test_inputs_handed_over_as_outputs_are_refused(tmp_path):
    np.zeros((3, 300, 300), np.float32).tofile(tmp_path / "tensor([9]).bin")
    with pytest.raises(KitError, match="1080000 bytes; expected two files of 139712 and 2829168"):
        ssd_files.read_outputs(ssd_files.output_paths(tmp_path)[9], 81)


POOL = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import ssd_files

def told(text):
    print(text, flush=True)

if __name__ == "__main__":
    context = get_context(sys.argv[1])
    pool = ProcessPoolExecutor(1, context, initializer=ssd_files.end_with_parent)
    pool.submit(told, "at work").result()
    input()
"""


@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_a_worker_ends_when_its_parent_is_killed(context, tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    env = os.environ | {"PYTHONPATH": str(Path(ssd_files.__file__).parent)}
    command = [sys.executable, str(tmp_path / "pool.py"), context]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, **pipes) as run:
        assert run.stdout.readline() == b"at work\n"
        run.kill()
        run.communicate(timeout=60)  # ends only when no process has the pipes open any more
