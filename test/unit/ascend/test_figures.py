"""ais_bench's figures, as the kit computes them for every engine."""

from ssd.ascend.summaries import summarize

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
    times = summarize(runs, 1)["NPU_compute_time"]
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
    found = summarize([], 16)
    assert set(found["NPU_compute_time"].values()) == {0} and found["throughput"] == 0.0
