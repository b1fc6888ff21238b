"""ais_bench's figures, as the kit computes them for every engine."""

from ssd.ascend.summaries import percentile, summarize

import numpy as np
import pytest


def test_figures_are_those_worked_out_by_hand():
    runs = [float(n) for n in range(100, -1, -1)]  # 0 to 100 ms
    found = summarize(runs, 8)
    assert found["NPU_compute_time"] == {
        "min": 0.0,
        "max": 100.0,
        "mean": 50.0,
        "median": 50.0,
        "percentile(99%)": None,
        "count": 101,
    }
    assert found["quartiles"] == [25.0, 75.0]
    assert found["throughput"] == 8 / 0.050
    assert found["npu_compute_time_list"] == runs
    for name in ("H2D_latency", "D2H_latency"):
        assert found[name]["count"] == 101 and found[name]["mean"] == 0.0
        assert found[name].keys() == found["NPU_compute_time"].keys()


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_figures_of_any_number_of_runs_are_those_of_the_ordered_ones(count):
    runs = np.random.default_rng(count).gamma(2, 10, count).tolist()
    times = summarize(runs, 1)["NPU_compute_time"]
    ordered = sorted(runs)
    assert (times["mean"], times["median"]) == (
        pytest.approx(sum(runs) / count),
        pytest.approx((ordered[(count - 1) // 2] + ordered[count // 2]) / 2),
    )
    # place 197.01 of 0 to 199
    whole = ordered[197] + 0.01 * (ordered[198] - ordered[197]) if count == 200 else None
    assert times["percentile(99%)"] == pytest.approx(whole)


@pytest.mark.parametrize(("share", "enough"), [(90, 20), (95, 40), (99, 200)])
def test_a_percentile_wants_two_runs_beyond_it(share, enough):
    assert percentile([1.0] * (enough - 1), share) is None
    assert percentile([1.0] * enough, share) == 1.0


def test_without_a_run_all_figures_are_zero():
    found = summarize([], 16)
    assert set(found["NPU_compute_time"].values()) == {0, None} and found["throughput"] == 0.0
    assert found["quartiles"] is None
