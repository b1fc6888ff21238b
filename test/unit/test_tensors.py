"""Names, sizes and reading of the network's input and output files."""

import tracemalloc
from pathlib import Path

from ssd import tensors
from ssd.cli import KitError

import numpy as np
import pytest


def test_sizes_of_files_are_those_of_the_contract():
    bytes_of = {d: int(np.prod(s)) * np.dtype(d).itemsize for d, s in tensors.INPUT_SHAPES.items()}
    assert bytes_of == {"float32": 1_080_000, "uint8": 270_000}
    assert tensors.output_bytes(81) == 139_712 + 2_829_168
    assert [tensors.input_bytes(d) for d in ("float32", "uint8")] == [1_080_000, 270_000]


def test_files_come_in_natural_order(tmp_path):
    for image_id in (10, 9, 100):
        (tmp_path / f"tensor([{image_id}]).bin").touch()
    (tmp_path / "source.json").touch()
    order = [tensors.tensor_id(path) for path in tensors.tensor_files(tmp_path)]
    assert order == [9, 10, 100]


def test_names_and_ids_are_each_others_reverse():
    assert tensors.tensor_stem(139) == "tensor([139])"
    for name in ("tensor([139]).bin", "tensor([139])_0.bin", "tensor([139])_1.npy"):
        assert tensors.tensor_id(Path(name)) == 139
    for name in ("tensor.bin", "tensor([]).bin", "x_tensor([1]).bin", "source.json"):
        assert tensors.tensor_id(Path(name)) is None


def test_a_folder_without_inputs_is_reported(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(KitError, match="ssd_preprocess.py"):
            tensors.tensor_files(folder)


def test_inputs_are_known_by_size_or_header(tmp_path):
    for dtype, shape in (("float32", (3, 300, 300)), ("uint8", (300, 300, 3))):
        np.zeros(shape, dtype).tofile(tmp_path / "a.bin")
        np.save(tmp_path / "a.npy", np.zeros(shape, dtype))
        for name in ("a.bin", "a.npy"):
            assert tensors.input_layout(tmp_path / name) == (dtype, shape)
    (tmp_path / "a.bin").write_bytes(bytes(1_079_999))
    np.save(tmp_path / "a.npy", np.zeros((3, 300, 300)))
    for name, found in (("a.bin", "1079999 bytes"), ("a.npy", "float64")):
        with pytest.raises(KitError, match=f"{name}: {found}.*ssd_preprocess.py --force"):
            tensors.input_layout(tmp_path / name)


def test_the_layout_of_an_input_is_found_without_reading_it(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 300, 300), np.float32))
    tensors.input_layout(tmp_path / "a.npy")  # what the first call loads does not count
    tracemalloc.start()
    tensors.input_layout(tmp_path / "a.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000  # the file has 1,080,128 bytes


@pytest.mark.parametrize("labels", [81, 4, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("suffix", [".bin", ".npy"])
def test_outputs_are_known_by_their_size(labels, dtype, swapped, suffix, tmp_path):
    rng = np.random.default_rng(0)
    ploc, plabel = (rng.normal(size=(n, 8732)).astype(dtype) for n in (4, labels))
    pair = (plabel, ploc) if swapped and labels != 4 else (ploc, plabel)
    for k, array in enumerate(pair):
        path = tmp_path / f"tensor([9])_{k}{suffix}"
        np.save(path, array[None]) if suffix == ".npy" else array.tofile(path)
    found = tensors.read_outputs(tensors.output_paths(tmp_path)[9], labels)
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


def with_a_third(path):
    path.with_name("tensor([9])_2.bin").write_bytes(path.read_bytes())


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "spoil", [without, as_broken_npy, as_double_npy, as_folder, with_a_third, cut, empty]
)
def test_outputs_that_are_not_one_of_each_are_refused(spoil, tmp_path):
    for k, labels in enumerate((4, 3)):
        np.zeros((labels, 8732), np.float32).tofile(tmp_path / f"tensor([9])_{k}.bin")
    spoil(tmp_path / "tensor([9])_1.bin")
    with pytest.raises(KitError, match=r"tensor\(\[9\]\)_[01]"):
        tensors.read_outputs(tensors.output_paths(tmp_path)[9], 3)


def test_inputs_handed_over_as_outputs_are_refused(tmp_path):
    np.zeros((3, 300, 300), np.float32).tofile(tmp_path / "tensor([9]).bin")
    with pytest.raises(KitError, match="1080000 bytes; expected two files of 139712 and 2829168"):
        tensors.read_outputs(tensors.output_paths(tmp_path)[9], 81)
