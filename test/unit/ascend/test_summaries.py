"""Summaries, as the editions of Ascend's tools write them."""

import json

from ssd.ascend import summaries
from ssd.ascend.summaries import join_summaries, read_summaries
from ssd.cli import KitError

import numpy as np
import pytest


def summary(runs, count, **more):
    """Return a summary of ais_bench: runs in ms, of batches of two, over `count` files."""
    times = {"min": min(runs), "max": max(runs), "mean": float(np.mean(runs)), "count": len(runs)}
    files = {str(i): {"infiles": ["x"] * min(2, count - 2 * i), "outfiles": []} for i in range(9)}
    files = {key: group for key, group in files.items() if group["infiles"]}
    made = {"NPU_compute_time": times, "throughput": 2000 / times["mean"], "filesinfo": files}
    return made | {"npu_compute_time_list": runs} | more


PLACES = {
    "one card": {"bs2_summary.json": summary([4.0, 6.0], 3)},
    "two cards": {
        "bs2/device0_0_summary.json": summary([4.0], 2),
        "bs2/device1_1_summary.json": summary([6.0], 1),
    },
    "two cards, 2023": {
        "bs2/device0_summary.json": summary([4.0], 2),
        "bs2/device3_summary.json": summary([6.0], 1),
    },
    "2022": {"bs2/2022_08_04-16_00_52/sumary.json": summary([4.0, 6.0], 3)},
}


@pytest.mark.parametrize("place", PLACES)
def test_summaries_are_found_where_each_edition_puts_them(place, tmp_path):
    for name, text in PLACES[place].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(text))
    (tmp_path / "bs2_perf_summary.json").write_text("another run's")
    found = read_summaries(tmp_path, "bs2")
    assert found == list(PLACES[place].values())
    joined = join_summaries(found, 2)
    assert sorted(joined["npu_compute_time_list"]) == [4.0, 6.0]
    rate = 400.0 if len(found) == 1 else 2000 / 4 + 2000 / 6  # two at once: speeds are added
    assert joined["throughput"] == pytest.approx(rate)
    assert joined["padded"] == 1
    assert sum(len(group["infiles"]) for group in joined["filesinfo"].values()) == 3
    times = joined["NPU_compute_time"]
    assert (times["min"], times["mean"], times["max"], times["count"]) == (4.0, 5.0, 6.0, 2)

    summaries.forget_summaries(tmp_path, "bs2")
    assert read_summaries(tmp_path, "bs2") == []
    assert [path.name for path in tmp_path.glob("*.json")] == ["bs2_perf_summary.json"]


def test_without_a_list_of_times_the_means_are_joined():
    parts = [summary([mean] * count, 0) for mean, count in ((4.0, 10), (6.0, 30))]
    for part in parts:
        del part["npu_compute_time_list"]  # as with the tool of the middle of 2022
    parts[0]["NPU_compute_time"]["percentile(99%)"] = 4.5
    joined = join_summaries(parts[:1], 2)
    assert joined["NPU_compute_time"] == parts[0]["NPU_compute_time"]
    joined = join_summaries(parts, 2)
    assert (joined["NPU_compute_time"]["mean"], joined["NPU_compute_time"]["count"]) == (5.0, 40)
    assert joined["throughput"] == pytest.approx(2000 / 4 + 2000 / 6)
    assert joined["npu_compute_time_list"] == []


def test_a_summary_without_a_count_counts_nothing():
    part = summary([4.0], 0)
    del part["npu_compute_time_list"], part["NPU_compute_time"]["count"]
    assert join_summaries([part], 2)["NPU_compute_time"]["count"] == 0


def test_start_and_end_of_threads_become_durations():
    part = summary([1.0], 0, npu_compute_time_list=[[10.0, 14.0], [12.0, 18.0]])
    assert summaries.durations(part).tolist() == [4.0, 6.0]
    assert join_summaries([part], 2)["NPU_compute_time"]["mean"] == 5.0
    assert summaries.durations({}).tolist() == []


def test_a_run_without_a_summary_is_told():
    with pytest.raises(KitError, match="left no summary"):
        join_summaries([], 2)


def test_outputs_get_the_names_of_their_inputs_in_every_edition(tmp_path):
    inputs = [tmp_path / f"tensor([{n}]).bin" for n in (9, 10)]
    files = {"0": "sample_id_0_output_{}.bin", "1": "10_{}.bin"}
    read = {"0": "tensor([9]).bin", "1": "10.bin"}
    part = {"filesinfo": {}}
    for key, name in files.items():
        outs = [tmp_path / name.format(k) for k in (0, 1)]
        for path in outs:
            path.write_text(path.name)
        info = {"infiles": [f"/links/{read[key]}"], "outfiles": list(map(str, outs))}
        part["filesinfo"][key] = info
    summaries.restore_names([part, {}], inputs)
    for key, path in zip(files, inputs, strict=True):
        outs = [path.with_name(f"{path.stem}_{k}.bin") for k in (0, 1)]
        assert part["filesinfo"][key] == {"infiles": [str(path)], "outfiles": list(map(str, outs))}
        assert [out.read_text() for out in outs] == [files[key].format(k) for k in (0, 1)]
