"""What keeps a model busy: order, bounds, and errors that come out once."""

from ssd.cli import KitError
from ssd.engines.inference import run_files
from ssd.workers import AHEAD

import numpy as np
import pytest

SHAPE = (3, 2)


class Engine:
    """Gives the batch back, and what each picture adds up to."""

    dtype, shape = "float32", SHAPE

    def __init__(self):
        self.batches = []

    def run(self, batch):
        self.batches.append(batch.copy())  # its memory is used again
        return [self.batches[-1], batch.sum((1, 2))]


def images_of(group, outputs):
    """Return what run_files hands out at a time image by image: its path and its outputs."""
    return zip(group, *outputs, strict=True)


@pytest.fixture
def paths(tmp_path):
    """Seven input files; number n holds n everywhere."""
    made = [tmp_path / f"tensor([{n}]).bin" for n in range(7)]
    for n, path in enumerate(made):
        np.full(SHAPE, n, np.float32).tofile(path)
    return made


def test_a_short_batch_is_padded_with_its_first_and_the_copies_go(paths):
    engine, put = Engine(), []
    times = run_files(engine, paths, 3, 1, lambda *batch: put.extend(images_of(*batch)))
    assert [batch[:, 0, 0].tolist() for batch in engine.batches] == [[0, 1, 2], [3, 4, 5], [6] * 3]
    assert [path for path, *_ in put] == paths
    for n, (_, same, total) in enumerate(put):
        np.testing.assert_array_equal(same, np.full(SHAPE, n))
        assert total == 6 * n
    assert (times.padded, len(times.runs)) == (2, 3)


def test_each_batch_is_run_as_often_as_asked_and_given_out_once(paths):
    engine, put = Engine(), []
    times = run_files(engine, paths[:4], 2, 5, lambda group, outputs: put.extend(group))
    assert [batch[0, 0, 0] for batch in engine.batches] == [0] * 5 + [2] * 5
    assert (len(times.runs), times.padded, put) == (10, 0, paths[:4])


def test_no_files_are_no_runs():
    times = run_files(Engine(), [], 4, 1, None)
    assert times == ([], 0, {"read": 0.0})


def test_memory_does_not_grow_with_the_number_of_images():
    given, most = [], 0

    def fill(item, place):
        given.append(item)
        place[...] = item

    def put(group, outputs):
        nonlocal most
        most = max(most, len(given) - group[0])
        np.testing.assert_array_equal(outputs[0][:, 0, 0], group)  # no other image's place

    engine = Engine()
    memory = set()
    engine.run = lambda batch: memory.add(batch.ctypes.data) or [batch.copy()]
    times = run_files(engine, list(range(50)), 2, 1, put, fill, threads=4)
    assert len(times.runs) == 25
    assert most <= 2 * (AHEAD + 1)
    assert len(memory) == AHEAD + 1


def test_a_file_that_cannot_be_read_ends_the_run_once_with_its_name(paths):
    paths[5].write_bytes(b"cut")
    put = []
    with pytest.raises(KitError, match=r"tensor\(\[5\]\).bin: 3 bytes"):
        run_files(Engine(), paths, 2, 1, lambda group, outputs: put.extend(group))
    assert put == paths[:4]


def test_an_engine_that_fails_ends_the_run_and_its_readers():
    engine, read = Engine(), []

    def fail(batch):
        raise KitError("card lost")

    engine.run = fail
    with pytest.raises(KitError, match="card lost"):
        run_files(engine, list(range(50)), 1, 1, None, lambda item, place: read.append(item))
    assert len(read) <= 1 + AHEAD


def test_a_full_disk_is_told_once(light_onnx, tmp_path, run_stage, refused):
    (tmp_path / "in").mkdir()
    for n in range(6):
        np.zeros((3, 300, 300), np.float32).tofile(tmp_path / "in" / f"tensor([{n}]).bin")
    base = ["--model", light_onnx, "--input", tmp_path / "in", "--output", tmp_path]
    done = run_stage("ssd_infer.py", *base, "--output_dirname", "o", room=150_000)
    refused(done, "o/tensor([", "_1.bin: cannot write", "free space")  # ploc fits, plabel does not
    made = [path.name for path in (tmp_path / "o").glob("tensor*")]
    assert all(name.endswith("_0.bin") for name in made)
    assert not (tmp_path / "o_summary.json").exists()
