"""Threads that read ahead and write behind: order, bounds, and errors that come out once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from ssd.cli import KitError
from ssd.workers import AHEAD, Sink, prefetch

import pytest


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
