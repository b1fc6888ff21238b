"""What keeps a model busy: order, bounds, and errors that come out once.

Run: python -m pytest test/test_ssd_stream.py
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ssd_stream
from ssd_files import KitError
from ssd_stream import AHEAD, Sink, prefetch, run_files, summarise

SHAPE = (3, 2)


class Engine:
    """Gives the batch back, and what each picture adds up to."""

    dtype, shape = "float32", SHAPE

    def __init__(self):
        self.batches = []

    def run(self, batch):
        self.batches.append(batch.copy())
        return [batch, batch.sum((1, 2))]


@pytest.fixture
def paths(tmp_path):
    """Seven input files; number n holds n everywhere."""
    made = [tmp_path / f"tensor([{n}]).bin" for n in range(7)]
    for n, path in enumerate(made):
        np.full(SHAPE, n, np.float32).tofile(path)
    return made


class Late:
    """Work that ends in the reverse of the order in which it began, as far as threads allow."""

    def __init__(self, together):
        self.together, self.gates = together, [threading.Event() for _ in range(100)]

    def __call__(self, n):
        if n % self.together != self.together - 1:  # the last of a group need not wait
            assert self.gates[n + 1].wait(30)
        self.gates[n].set()
        return n * n


def test_work_is_read_ahead_in_order_and_not_further():
    taken = []

    def jobs():
        for n in range(50):
            taken.append(n)
            yield n

    for n, (job, result) in enumerate(prefetch(lambda job: job * job, jobs())):
        assert (job, result) == (n, n * n)
        assert len(taken) <= n + 1 + AHEAD
    assert n == 49


def test_nothing_to_read_is_nothing():
    assert list(prefetch(str, [])) == []


def test_a_reader_that_fails_ends_the_reading_once():
    tried = []

    def work(job):
        tried.append(job)
        if job == 3:
            raise KitError("bad 3")
        return job

    reading, seen = prefetch(work, range(50)), []
    with pytest.raises(KitError, match="bad 3"):
        seen.extend(reading)
    assert seen == [(n, n) for n in range(3)]
    assert max(tried) <= 3 + AHEAD
    assert list(reading) == []  # the error does not come again


def test_reading_that_is_broken_off_stops():
    tried = []
    reading = prefetch(tried.append, range(50))
    next(reading)
    reading.close()
    assert len(tried) <= 1 + AHEAD


def test_what_workers_return_keeps_its_order():
    sink = Sink(ThreadPoolExecutor(4), Late(4), limit=8)
    for n in range(40):
        sink.put(n)
    assert sink.close() == [n * n for n in range(40)]


def test_few_are_waiting_for_the_workers_at_any_time():
    sink = Sink(ThreadPoolExecutor(2), lambda n: n, limit=5)
    for n in range(40):
        sink.put(n)
        assert len(sink.waiting) <= 5
        assert len(sink.waiting) + len(sink.done) == n + 1
    assert len(sink.close()) == 40


@pytest.mark.parametrize("bad", [0, 20, 39])
def test_a_worker_that_fails_is_told_once(bad):
    def work(n):
        if n == bad:
            raise KitError(f"bad {n}")
        return n

    sink, errors = Sink(ThreadPoolExecutor(2), work, limit=5), []
    for n in range(40):
        try:
            sink.put(n)
        except KitError as error:
            errors.append(str(error))
    try:
        sink.close()
    except KitError as error:
        errors.append(str(error))
    assert errors == [f"bad {bad}"]


def test_a_short_batch_is_padded_with_its_first_and_the_copies_go(paths):
    engine, put = Engine(), []
    times = run_files(engine, paths, 3, 1, lambda path, outputs: put.append((path, outputs)))
    assert [batch[:, 0, 0].tolist() for batch in engine.batches] == [[0, 1, 2], [3, 4, 5], [6] * 3]
    assert [path for path, _ in put] == paths
    for n, (_, (same, total)) in enumerate(put):
        np.testing.assert_array_equal(same, np.full(SHAPE, n))
        assert total == 6 * n
    assert (times.padded, len(times.runs)) == (2, 3)


def test_each_batch_is_run_as_often_as_asked_and_given_out_once(paths):
    engine, put = Engine(), []
    times = run_files(engine, paths[:4], 2, 5, lambda path, outputs: put.append(path))
    assert [batch[0, 0, 0] for batch in engine.batches] == [0] * 5 + [2] * 5
    assert (len(times.runs), times.padded, put) == (10, 0, paths[:4])


def test_no_files_are_no_runs():
    times = run_files(Engine(), [], 4, 1, None)
    assert times == ([], 0.0, 0)


def test_memory_does_not_grow_with_the_number_of_files(monkeypatch):
    alive, most = set(), 0

    def read(group, **_):
        nonlocal most
        alive.add(group[0])
        most = max(most, len(alive))
        return np.zeros((1, *SHAPE)), 0.0

    monkeypatch.setattr(ssd_stream, "read_batch", read)
    times = run_files(Engine(), list(range(50)), 1, 1, lambda path, outputs: alive.discard(path))
    assert len(times.runs) == 50
    assert most <= AHEAD + 1


def test_a_file_that_cannot_be_read_ends_the_run_once_with_its_name(paths):
    paths[5].write_bytes(b"cut")
    put = []
    with pytest.raises(KitError, match=r"tensor\(\[5\]\).bin: 3 bytes"):
        run_files(Engine(), paths, 2, 1, lambda path, outputs: put.append(path))
    assert put == paths[:4]


def test_an_engine_that_fails_ends_the_run_and_its_reader(paths, monkeypatch):
    engine, read = Engine(), []
    plain = ssd_stream.read_batch
    monkeypatch.setattr(
        ssd_stream, "read_batch", lambda group, **more: read.append(group) or plain(group, **more)
    )

    def fail(batch):
        raise KitError("card lost")

    engine.run = fail
    with pytest.raises(KitError, match="card lost"):
        run_files(engine, paths, 1, 1, None)
    assert len(read) <= 1 + AHEAD


def test_a_full_disk_is_told_once(light_onnx, tmp_path, run_stage, refused):
    (tmp_path / "in").mkdir()
    for n in range(6):
        np.zeros((3, 300, 300), np.float32).tofile(tmp_path / "in" / f"tensor([{n}]).bin")
    base = ["--model", light_onnx, "--input", tmp_path / "in", "--output", tmp_path]
    done = run_stage("ssd_infer.py", *base, "--output_dirname", "o", room=150_000)
    refused(done, "o/tensor([", "_1.bin: cannot write", "free space")  # ploc fits, plabel does not
    made = [path.name for path in (tmp_path / "o").iterdir()]
    assert all(name.endswith("_0.bin") for name in made)
    assert not (tmp_path / "o_summary.json").exists()


def test_figures_are_those_worked_out_by_hand():
    runs = [float(n) for n in range(100, -1, -1)]  # 0 to 100 ms
    found = summarise(runs, 8)
    assert found["NPU_compute_time"] == {
        "min": 0.0,
        "max": 100.0,
        "mean": 50.0,
        "median": 50.0,
        "percentile(99%)": 99.0,
        "count": 101,
    }
    assert found["throughput"] == 8 / 0.050
    assert found["npu_compute_time_list"] == runs
    for name in ("H2D_latency", "D2H_latency"):
        assert found[name]["count"] == 101 and found[name]["mean"] == 0.0
        assert found[name].keys() == found["NPU_compute_time"].keys()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_figures_of_few_runs_are_numpys(count):
    runs = np.random.default_rng(count).gamma(2, 10, count).tolist()
    times = summarise(runs, 1)["NPU_compute_time"]
    ordered = sorted(runs)
    place = 0.99 * (count - 1)
    low = ordered[int(place)]
    high = ordered[min(int(place) + 1, count - 1)]
    assert times["percentile(99%)"] == pytest.approx(low + (place - int(place)) * (high - low))
    assert times["percentile(99%)"] == pytest.approx(np.percentile(runs, 99))
    assert (times["mean"], times["median"]) == (
        pytest.approx(sum(runs) / count),
        pytest.approx((ordered[(count - 1) // 2] + ordered[count // 2]) / 2),
    )


def test_without_a_run_all_figures_are_zero():
    found = summarise([], 16)
    assert set(found["NPU_compute_time"].values()) == {0} and found["throughput"] == 0.0
