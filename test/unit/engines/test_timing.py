"""Timing by time, with an engine and a clock whose times are chosen here."""

from ssd.engines import timing

import numpy as np
import pytest


class Sleeper:
    """An engine whose runs take the given seconds of a clock of its own, the last one for ever."""

    dtype, shape = "float32", (1,)

    def __init__(self, *seconds):
        self.now, self.ahead, self.sizes = 0.0, list(seconds), []

    def run(self, images):
        self.sizes.append(len(images))
        self.now += self.ahead.pop(0) if len(self.ahead) > 1 else self.ahead[0]
        return [np.zeros((len(images), 1))]


@pytest.fixture
def sleeper(monkeypatch):
    """Return a function that makes a Sleeper, whose clock is timing's."""

    def make(*seconds):
        made = Sleeper(*seconds)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: made.now)
        return made

    return make


@pytest.mark.parametrize(
    ("each", "seconds", "count"),
    [(0.25, 2, 8), (0.25, 2.1, 9), (5, 2, 3)],  # the last is slow: no fewer than three
)
def test_as_many_runs_are_timed_as_fit(each, seconds, count, sleeper):
    engine = sleeper(each)
    assert timing.time_pure(engine, 4, None, seconds) == [1000 * each] * count
    assert engine.sizes == [4] * count


def test_a_number_of_runs_is_timed_whatever_they_take(sleeper):
    assert timing.time_pure(sleeper(1, 2), 1, 2, 0.5) == [1000, 2000]


@pytest.mark.parametrize(
    ("runs", "settled"),
    [
        ([10] * 5, False),  # too few
        ([10] * 6, True),
        ([99, 10, 10, 10, 10, 10.4], True),  # medians 10 and 10
        ([20, 12, 12, 11, 10, 10], False),  # medians 12 and 10
        ([10, 10, 10, 10, 11, 11], False),  # slower and slower is no rest either
        ([50, 40, 20, 10, 10, 10, 10, 10, 10], True),
    ],
)
def test_times_have_settled_when_three_runs_took_as_long_as_the_three_before(runs, settled):
    assert timing.has_settled([float(run) for run in runs]) == settled


@pytest.mark.parametrize(
    ("times", "count", "seconds", "expected"),
    [
        ((0.5, 0.2, 0.1), 1, 9, 7),  # medians of runs 2 to 4 and 5 to 7 are the same
        ((0.1,), 10, 9, 10),  # no fewer than asked for
        ((4,), 1, 9, 3),  # slow: until the time is up
        ((4,), 0, 0.001, 1),
    ],
)
def test_a_warm_up_lasts_until_the_times_have_settled(times, count, seconds, expected, sleeper):
    engine = sleeper(*times)
    timing.settle(engine, 2, count, seconds)
    assert engine.sizes == [2] * expected


@pytest.mark.parametrize(
    ("milliseconds", "seconds", "count"),
    [(2.5, 10, 4000), (3, 0.01, 4), (6000, 10, 3), (0, 1, 10**6)],
)
def test_a_tool_runs_as_often_as_fits(milliseconds, seconds, count):
    assert timing.loop_for(milliseconds, seconds) == count
