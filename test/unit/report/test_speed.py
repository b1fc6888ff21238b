"""What is best, equal, unstable and end to end, on figures worked out by hand."""

from ssd.report import speed

import pytest


def row(batch, fps, low=None, high=None, **more):
    times = {"p99": None, "max": 10.0 * batch, "mean": 9.0 * batch}
    made = {"batch": batch, "fps": fps, "fps_range": [low or fps, high or fps]}
    return made | {"latency_ms": times, "end_to_end": None} | more


@pytest.mark.parametrize(
    ("limit", "best", "equal"),
    [
        (None, 8, [4, 16]),  # their middle halves reach 99; that of batch 1 does not
        (80, 8, [4]),
        (79.9, 4, [1]),  # the middle half of batch 1 reaches 98, that of batch 4 begins at 80
        (9, 1, []),  # none is within it: the quickest
    ],
)
def test_the_best_and_those_as_fast_within_the_noise(limit, best, equal):
    rows = [row(1, 60, 50, 98), row(4, 90, 80, 99), row(8, 101, 99, 103), row(16, 100, 97, 105)]
    i, warnings = speed.choose_best(rows, limit)
    assert rows[i]["batch"] == best and bool(warnings) == (limit == 9)
    assert speed.equals(rows, i, limit) == equal


def test_a_size_whose_noise_is_not_known_equals_none():
    rows = [row(1, 100, 99, 101), row(4, 100) | {"fps_range": None}]
    assert speed.equals(rows, 0, None) == speed.equals(rows, 1, None) == []


def test_a_limit_is_held_against_p99_where_it_is_known():
    times = {"p99": 8.0, "max": 90.0, "mean": 5.0}
    assert speed.waits({"latency_ms": times}) == 8.0
    assert speed.waits({"latency_ms": times | {"p99": None}}) == 90.0
    assert speed.waits({"latency_ms": times | {"p99": None, "max": None}}) == 5.0


def test_the_middle_half_of_speeds_is_that_of_the_times():
    # 80 images/s of two cards with batches of 4 in 100 ms; the faster quarter takes 80 ms or less
    assert speed.fps_range(80, {"mean": 100, "p25": 80, "p75": 160}) == [50, 100]
    assert speed.fps_range(80, {"mean": 100, "p25": None, "p75": None}) is None


SCORE = {"images": 10, "seconds": {"decode": 1.0, "score": 2.0}}
MADE = {"images": 5, "seconds": 2.0}  # 0.4 s an image


def run(**more):
    found = {"seconds": {"wall": 6.0, "start": 99.0}, "images": 10}
    return found | {"npu_compute_time_list": [1000.0] * 4, "preprocess": MADE} | more


def test_end_to_end_adds_the_wall_clock_of_the_stages_without_their_start():
    found = speed.spent(run(), SCORE, {})
    assert found["end_to_end"] == pytest.approx(1 / (0.4 + 0.6 + 0.1 + 0.2))
    assert found["preprocess_fps"] == 2.5
    assert (found["wall_seconds"], found["start_seconds"]) == (6.0, 99.0)
    assert found["around_engine"] == pytest.approx(1 - (0.4 + 0.2) / 1.3)  # four runs of a second


def test_preprocessing_within_the_run_counts_once():
    found = speed.spent(run(preprocess=MADE | {"inside": True}), SCORE, {})
    assert found["end_to_end"] == pytest.approx(1 / (0.6 + 0.1 + 0.2))
    assert found["preprocess_fps"] == 2.5


def test_of_a_run_that_went_on_the_images_of_its_last_part_count():
    found = speed.spent(run(images=3), SCORE, {})
    assert found["end_to_end"] == pytest.approx(1 / (0.4 + 2.0 + 0.1 + 0.2))


def test_what_a_tool_takes_to_start_is_left_out():
    perf = {"seconds": {"tool": 5.0}, "npu_compute_time_list": [1000.0, 2000.0]}  # two to start
    found = speed.spent(run(), SCORE, perf)
    assert found["end_to_end"] == pytest.approx(1 / (0.4 + 0.4 + 0.1 + 0.2))
    found = speed.spent(run(), SCORE, perf | {"seconds": {"tool": 8.0}})  # not below the engine's
    assert found["end_to_end"] == pytest.approx(1 / (0.4 + 0.4 + 0.1 + 0.2))


@pytest.mark.parametrize("lacks", [{"preprocess": None}, {"seconds": {}}, {"images": 0}])
def test_end_to_end_is_unknown_where_a_part_of_it_is(lacks):
    assert speed.spent(run(**lacks), SCORE, {})["end_to_end"] is None


def test_a_run_faster_than_its_inference_alone_is_unstable():
    rows = [row(1, 7.0, end_to_end=7.1), row(4, 7.0, end_to_end=6.9), row(8, 7.0)]
    (line,) = speed.unstable(rows)
    assert line.startswith("batch 1: 7.100 images/s end to end beat 7.000 of inference alone")


@pytest.mark.parametrize(
    ("route", "share", "said"),
    [("files", 0.25, True), ("files", 0.09, False), ("in process", 0.9, False), (None, 0.9, False)],
)
def test_what_files_cost_is_said_where_it_is_worth_a_line(route, share, said):
    found = speed.cost_of_files({"route": route, "around_engine": share})
    assert [line.startswith("files: 25% of that time") for line in found] == [True] * said
