"""Jobs on a card: what the tool is asked, what is kept of it, and whose summaries are read."""

import json

from ssd.ascend.ais_bench import Tool
from ssd.cli import KitError
from ssd.engines import job as jobs
from ssd.engines import timing
from ssd.engines.choice import Choice
from ssd.engines.job import run

import pytest
from models import STANDIN

AIS_BENCH = Tool()
TOOLS = {
    "ais_bench": (AIS_BENCH, "0"),
    "two cards": (AIS_BENCH, "0,1"),
    "ais_infer.py": (Tool(STANDIN / "ais_infer.py"), "0"),
}


@pytest.fixture
def card(job, light_onnx, standin, run_stage, tmp_path, monkeypatch):
    """Return a function that makes a job for the stand-in, and one that gives its tool's calls."""
    model = tmp_path / "models" / "ssd_bs2.om"
    paths = ["--onnx-path", light_onnx, "--om-path", model]
    assert run_stage("ssd_onnx2om.py", *paths, "--bs", 2).returncode == 0
    monkeypatch.setenv("STANDIN_CARDS", "310P3,310P3")

    def make(tool=AIS_BENCH, device="0", **changes):
        (tmp_path / "out").mkdir(exist_ok=True)
        return job(model=model, choice=Choice("ascend", device, tool, False), **changes)

    def calls():
        lines = standin.read_text().splitlines() if standin.exists() else []
        standin.unlink(missing_ok=True)
        found = [
            call for call in map(json.loads, lines) if call[0] in ("ais_bench", "ais_infer.py")
        ]
        return [call for call in found if call[1:] != ["--help"]]

    calls()
    return make, calls


@pytest.mark.parametrize("name", TOOLS)
def test_a_job_of_the_tool_is_kept_and_goes_on(name, card):
    make, calls = card
    made = make(*TOOLS[name])
    first = run(made, force=False)
    assert first["images"] == 5 and first["throughput"] > 0
    assert first["padded"] == 1  # two cards have three files and two
    assert len(calls()) == 1
    assert run(made, force=False) == first and calls() == []
    next(made.target.glob("**/tensor*")).unlink()
    for dated in made.target.glob("20*"):
        dated.rename(made.target / "2022_08_04-16_00_52")  # the script's clock is that of seconds
    again = run(made, force=False)
    (call,) = calls()
    assert again["images"] == 1
    assert sum(len(group["infiles"]) for group in again["filesinfo"].values()) == 1
    mean = again["NPU_compute_time"]["mean"]  # of this part alone
    assert again["throughput"] == pytest.approx(2 * 1000 / mean)
    assert call[call.index("--input") + 1] == str(made.beside("_todo"))
    assert not made.beside("_todo").exists()
    assert len(made.whole_outputs()) == 5


@pytest.mark.parametrize("name", TOOLS)
def test_pure_inference_is_the_tools_and_leaves_a_summary_alone(name, card):
    make, calls = card
    tool, device = TOOLS[name]
    made = make(tool, device, inputs=[], data=None, loop=3)
    summary = run(made, force=False)
    (call,) = calls()
    assert call[call.index("--loop") + 1] == "3" and "--input" not in call
    if name != "ais_infer.py":  # which counts nothing
        assert summary["NPU_compute_time"]["count"] == 3 * len(device.split(","))
    assert not made.target.exists()
    assert run(made, force=False) == summary and calls() == []


def test_the_tools_runs_are_as_many_as_a_trial_says_fit_into_the_time(card, monkeypatch):
    make, calls = card
    monkeypatch.setattr(jobs, "loop_for", lambda mean, seconds: 7 if mean > 0 else 0)
    made = make(inputs=[], data=None, loop=None, seconds=5)
    assert run(made, force=False)["NPU_compute_time"]["count"] == 7
    assert [call[call.index("--loop") + 1] for call in calls()] == [str(timing.TRIAL), "7"]


@pytest.mark.parametrize("more", [{}, {"inputs": [], "data": None}])
def test_a_summary_of_another_run_is_not_read_as_this_ones(more, card):
    make, calls = card
    run(make(**more), force=False)
    two = run(make(device="0,1", **more), force=False)
    assert two["NPU_compute_time"]["count"] == (2 if more else 3)
    assert two["facts"]["devices"] == "0,1"
    assert len(calls()) == 2


def test_a_job_that_was_stopped_before_its_summary_is_run_again(card):
    make, calls = card
    run(make(), force=False)
    make().beside("_summary.json").unlink()
    summary = run(make(), force=False)
    assert summary["images"] == 5 and len(calls()) == 2


def test_options_of_a_run_reach_the_tool(card):
    make, calls = card
    made = make(outfmt="NPY", loop=2, warmup=3)
    summary = run(made, force=False)
    (call,) = calls()
    assert call[call.index("--loop") + 1] == "2"
    assert call[call.index("--warmup_count") + 1] == "3"
    assert {path.suffix for path in made.target.glob("tensor*")} == {".npy"}
    assert summary["NPU_compute_time"]["count"] == 6
    assert run(made, force=False) == summary


def test_the_models_batch_size_is_that_of_its_note(card):
    make, _ = card
    assert run(make(batch=None), force=False)["batch_size"] == 2
    with pytest.raises(KitError, match="has batch size 2, --batchsize 4 was given"):
        run(make(batch=4), force=False)
