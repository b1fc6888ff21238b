"""What breaks on the way to a card: named in one line, what was done is kept and not done again.

Both drivers run for real against the stand-in for Ascend's tools, with a model that only moves
numbers about.
"""

import json
import os

import pytest
from models import NO_PLOTS, STANDIN

EXPORT, EVALUATE = "ssd_pth2om.sh", "ssd_eval_acc_perf.sh"
KEPT = "what was done before it is kept"


@pytest.fixture
def calls(standin):
    """Return what a program of the stand-in was called with since the last time it was asked."""

    def since(program):
        lines = standin.read_text().splitlines() if standin.exists() else []
        standin.unlink(missing_ok=True)
        return [call[1:] for call in map(json.loads, lines) if call[0] == program]

    return since


def ran(calls):
    """Return the names of ais_bench's runs."""
    called = [call for call in calls("ais_bench") if call != ["--help"]]
    return [call[call.index("--output_dirname") + 1] for call in called]


@pytest.mark.slow
def test_a_failing_atc_keeps_the_models_before_it(checkpoint, calls, run_driver, tmp_path):
    out = tmp_path / "models"
    args = ["--batch_sizes=1,2", f"--pth_path={checkpoint}", f"--output={out}"]
    done = run_driver(EXPORT, *args, env={"STANDIN_ATC_ERROR": "E10001@bs2"})
    lines = done.stderr.splitlines()
    assert done.returncode == 255
    assert lines[-2].startswith(f"ssd_onnx2om.py: error: {out}/ssd_bs2.om: atc failed: E10001: ")
    assert lines[-2].endswith(f"({out}/ssd_bs2.atc.log)")
    assert lines[-1] == f"{EXPORT}: error: stage 'om, batch 2' failed (see above); {KEPT}"
    assert "E10001" in (out / "ssd_bs2.atc.log").read_text()
    names = ["ssd_bs1.om", "ssd_bs1.om.json", "ssd_bs1.onnx", "ssd_bs2.atc.log", "ssd_bs2.onnx"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(calls("atc")) == 2
    before = (out / "ssd_bs1.om").stat().st_mtime_ns

    done = run_driver(EXPORT, *args)
    assert done.returncode == 0, done.stderr
    (call,) = calls("atc")  # for batch 2 alone
    assert f"--model={out}/ssd_bs2.onnx" in call
    assert f"{out}/ssd_bs1.om: kept, made from the same file" in done.stdout
    assert (out / "ssd_bs1.om").stat().st_mtime_ns == before
    assert sorted({path.suffix for path in out.iterdir()}) == [".json", ".om", ".onnx"]


@pytest.fixture
def evaluate(light_oms, tiny_coco, standin, run_driver, tmp_path):
    """Evaluate the light model, in batches of two and then of one, on four images."""

    def go(*options, out="result", **env):
        given = [f"--data_path={tiny_coco}", f"--models={light_oms}", f"--output={tmp_path / out}"]
        given += ["--batch_sizes=2,1", "--loop=1", *options]
        env |= {"PYTHONPATH": f"{STANDIN}{os.pathsep}{NO_PLOTS}", "ASCEND_TOOLKIT_HOME": "/none"}
        return run_driver(EVALUATE, *given, env=env)

    return go


LOST = "507033: the card did not open or was lost; check npu-smi info, free or restart the card"
ACL = "[-1][ACL: general failure]; ACL: general failure: the card failed"
TWO = {"STANDIN_CARDS": "310P3,310P3"}
TOOL = "ssd_infer.py: error: {out}/bs1.log: the inference tool"
SHARD = "ssd_infer.py: error: card 1: the run failed (see above); check npu-smi"
STAGE = f"{EVALUATE}: error: stage 'inference, batch 1' failed (see above); {KEPT}"
STAGE_KILLED = (
    f"{EVALUATE}: error: stage 'inference, batch 1' was killed by signal 9: out of memory? "
    "what was done is kept"
)
# A batch counts, of size 2 and then of size 1: 2 and 4 of them, in process 1 more to warm up; a
# card of two has half of them. So size 2 gets done, and size 1 breaks off before its last batch.
BREAKS = {  # options; environment, for both runs and for the first; status; how stderr ends
    "killed": ([], {}, {"KILL_AFTER": "3"}, 1, [f"{TOOL} was killed by signal 9: ", STAGE]),
    "lost": ([], {}, {"CARD_LOST_AFTER": "3"}, 1, [f"{TOOL} failed: {LOST}", STAGE]),
    "one of two lost": (
        *(["--device=0,1"], TWO, {"CARD_LOST_AFTER": "1@1"}),
        *(1, [f"{TOOL} failed: {LOST}", STAGE]),
    ),
    "killed in process": (["--in_process"], {}, {"KILL_AFTER": "4"}, 137, [STAGE_KILLED]),
    "lost in process": (
        *(["--in_process"], {}, {"CARD_LOST_AFTER": "3"}),
        *(1, [f"ssd_infer.py: error: card 0, Ascend310P3: {ACL}", STAGE]),
    ),
    "one of two lost in process": (
        *(["--in_process", "--device=0,1"], TWO, {"CARD_LOST_AFTER": "2@1"}),
        *(1, [SHARD, STAGE]),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_named_and_the_next_run_goes_on_where_it_was(name, evaluate, calls, tmp_path):
    options, machine, fault, status, ends = BREAKS[name]
    out = tmp_path / "result"
    done = evaluate(*options, **machine, **{f"STANDIN_{key}": n for key, n in fault.items()})
    assert done.returncode == status, done.stderr
    # after a kill Python's own resource tracker may complain, whenever it gets to it
    lines = [line for line in done.stderr.splitlines() if "resource_tracker" not in line]
    for line, end in zip(lines[-len(ends) :], ends, strict=True):
        assert line.startswith(end.format(out=out))
    assert done.stdout.splitlines()[-1] != "success"
    in_process = "--in_process" in options
    assert ran(calls) == (["bs2_perf"] if in_process else ["bs2", "bs2_perf", "bs1"])
    before = {path: path.stat().st_mtime_ns for path in out.glob("bs2_*.json")}
    assert {path.name for path in before} == {
        f"bs2_{end}.json" for end in ("detections", "perf_summary", "result", "summary")
    }

    done = evaluate(*options, **machine)
    assert done.returncode == 0, done.stderr
    kept = [line for line in done.stderr.splitlines() if line.startswith(f"{out}/bs2")]
    assert kept == [
        f"{out}/bs2: kept, it is of the same model and inputs",
        f"{out}/bs2_result.json: kept, it is of the same outputs and annotations",
        f"{out}/bs2_perf: kept, it is of the same model and inputs",
    ]
    assert ran(calls) == (["bs1_perf"] if in_process else ["bs1", "bs1_perf"])
    if not in_process:  # there some that were decoded may not be noted yet
        summary = json.loads((out / "bs1_summary.json").read_text())
        assert 1 <= summary["images"] < 4  # the others were there
    same = [path for path in before if path.name != "bs2_result.json"]  # which has the goal in it
    assert {path: path.stat().st_mtime_ns for path in same} == {p: before[p] for p in same}
    found = [(out / f"bs{size}_detections.json").read_bytes() for size in (1, 2)]
    assert found[0] == found[1]  # this model gives every batch size the same
    report = json.loads((out / "report.json").read_text())
    assert [row["batch"] for row in report["rows"]] == [1, 2]
    assert not list(out.glob(".*"))
    assert not list(out.glob("*_todo"))


@pytest.mark.slow
def test_a_run_that_is_done_runs_nothing_again(evaluate, calls, tmp_path):
    first = evaluate()
    assert first.returncode == 0, first.stderr
    report = json.loads((tmp_path / "result" / "report.json").read_text())
    calls("ais_bench")
    again = evaluate("--goal=0")
    assert again.returncode == 0, again.stderr
    assert ran(calls) == []
    after = json.loads((tmp_path / "result" / "report.json").read_text())
    assert [row["fps"] for row in after["rows"]] == [row["fps"] for row in report["rows"]]
    assert [row["goal_map"] for row in after["rows"]] == [0.0, 0.0]
    refused = evaluate("--in_process")
    assert refused.returncode == 1
    assert "bs2: holds a run that differs in " in refused.stderr
    assert "give another --output, or --force" in refused.stderr
    assert evaluate("--in_process", "--force").returncode == 0
