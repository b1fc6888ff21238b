"""Jobs that were interrupted go on image by image; outputs that are not whole are made again."""

import json
import shutil
import signal

from ssd import cli
from ssd.cli import KitError, Stopped
from ssd.engines import in_process as in_process_module
from ssd.engines import job as jobs
from ssd.engines.choice import Choice
from ssd.engines.job import run
from ssd.files import digest, sha256

import pytest

IN_PROCESS = {"choice": Choice("onnxruntime", "cpu", None, True)}
ROUTES = [{}, IN_PROCESS]


def outputs_of(made):
    return sorted(path.name for path in made.target.glob("tensor*"))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_run_goes_on_with_the_images_that_are_missing(fails_at, route, job, engine):
    whole = job(**route, target=job().target.with_name("whole"))
    run(whole, force=False)
    engine.fails_at = fails_at
    with pytest.raises(KitError, match="the card was lost"):
        run(job(**route), force=False)
    assert not job().beside("_summary.json").exists()
    engine.fails_at = None
    summary = run(job(**route), force=False)
    left = 5 - 2 * (fails_at - 1)
    assert (engine.calls, summary["images"]) == (-(-left // 2), left)
    assert summary["padded"] == 1
    if route:
        pair = [made.beside("_detections.json").read_bytes() for made in (whole, job())]
        assert pair[0] == pair[1]
    else:
        assert outputs_of(job()) == outputs_of(whole)
        for name in outputs_of(whole):
            assert (job().target / name).read_bytes() == (whole.target / name).read_bytes()
    assert not list(job().target.glob("part-*"))
    run(job(**route), force=False)
    assert engine.calls == 0


@pytest.fixture
def heeded(monkeypatch):
    """Have no signal noted, and what a signal sets undone in the end."""
    before = {signum: signal.getsignal(signum) for signum in cli.ENDING}
    monkeypatch.setattr(cli, "_stopped_by", [])
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("at", [1, 2, 4, 5])  # of five images
def test_a_signal_while_decoding_hangs_nothing_and_loses_nothing(
    at, job, engine, heeded, monkeypatch
):
    whole = job(**IN_PROCESS, target=job().target.with_name("whole"))
    run(whole, force=False)
    decode, calls = in_process_module.decode_candidates, iter(range(1, 9))

    def disturbed(*args):
        if next(calls) == at:
            cli._stop(signal.SIGTERM, None)  # as the signal would; a test's process is to live on
        return decode(*args)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(in_process_module, "decode_candidates", disturbed)
        run(job(**IN_PROCESS), force=False)
    cli._stopped_by.clear()  # the next run is another process
    summary = run(job(**IN_PROCESS), force=False)
    assert summary["images"] < 5  # the batch that was in work is done
    pair = [made.beside("_detections.json").read_bytes() for made in (whole, job())]
    assert pair[0] == pair[1]


def test_notes_are_written_now_and_then(job, engine, monkeypatch):
    monkeypatch.setattr(in_process_module, "PART", 2)
    monkeypatch.setattr(in_process_module.Notes, "flush", spy := Spy(in_process_module.Notes.flush))
    run(job(**IN_PROCESS, batch=1), force=False)
    assert [count for count in spy.counts if count] == [2, 2, 1]


class Spy:
    """Notes.flush, with the images that it found to write."""

    def __init__(self, flush):
        self.flush, self.counts = flush, []

    def __get__(self, notes, _):
        def flush():
            self.counts.append(len(notes.fresh))
            self.flush(notes)

        return flush


def test_a_run_whose_detections_cannot_be_written_keeps_what_it_found(job, engine, monkeypatch):
    def full(*_):
        raise KitError("no space")

    with monkeypatch.context() as patch, pytest.raises(KitError, match="no space"):
        patch.setattr(jobs, "write_detections", full)
        run(job(**IN_PROCESS), force=False)
    assert engine.calls == 3
    assert run(job(**IN_PROCESS), force=False)["images"] == 0 and engine.calls == 0
    whole = job(**IN_PROCESS, target=job().target.with_name("whole"))
    run(whole, force=False)
    pair = [made.beside("_detections.json").read_bytes() for made in (whole, job())]
    assert pair[0] == pair[1]
    assert not list(job().target.glob("part-*"))


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_outputs_that_are_not_whole_are_made_again(harm, job, engine):
    run(job(), force=False)
    path = job().target / f"tensor([{job().data.selected[1]['id']}])_1.bin"
    before = path.read_bytes()
    if harm == "cut":
        path.write_bytes(before[:-4])
    else:
        path.unlink()
    summary = run(job(), force=False)
    assert (engine.calls, summary["images"]) == (1, 1)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_a_broken_summary_is_made_again(text, job, engine):
    run(job(), force=False)
    job().beside("_summary.json").write_text(text)
    summary = run(job(), force=False)
    assert engine.calls == 0 and summary["images"] == 0  # all outputs are there
    assert json.loads(job().beside("_summary.json").read_text()) == summary


# Outputs that were removed once they were scored.


@pytest.fixture
def scored(job):
    """Run a job, leave scores of it as ssd_postprocess.py does, and remove the outputs."""
    run(job(), force=False)
    made_from = json.loads(job().beside("_summary.json").read_text())["made_from"]
    detections = job().beside("_detections.json")
    detections.write_text("[]\n")
    result = {
        "made_from": {
            "inference": digest(made_from),
            "annotation": sha256(job().data.annotation),
        },
        "detections_sha256": sha256(detections),
    }
    job().beside("_result.json").write_text(json.dumps(result))
    for path in job().target.glob("tensor*"):
        path.unlink()


@pytest.mark.parametrize("with_data", [True, False])
def test_outputs_that_were_removed_once_scored_count_as_kept(with_data, scored, job, engine):
    run(job(**({} if with_data else {"data": None})), force=False)
    assert engine.calls == 0 and outputs_of(job()) == []


@pytest.mark.parametrize(
    "change",
    ["no scores", "no detections", "other detections", "annotation", "other scores", "{", "[1]"],
)
def test_outputs_that_cannot_be_scored_otherwise_are_made_again(change, scored, job, engine):
    scores, detections = job().beside("_result.json"), job().beside("_detections.json")
    if change == "no scores":
        scores.unlink()
    elif change == "no detections":
        detections.unlink()
    elif change == "other detections":
        detections.write_text("[] \n")
    elif change == "annotation":
        annotation = job().data.annotation
        annotation.write_text(annotation.read_text() + " ")
    elif change != "other scores":
        scores.write_text(change)  # broken
    else:
        result = json.loads(scores.read_text())
        result["made_from"]["inference"] = "another"
        scores.write_text(json.dumps(result))
    run(job(), force=False)
    assert engine.calls == 3 and len(outputs_of(job())) == 10


def test_a_disk_without_room_for_the_detections_is_refused_before_any_work(
    job, engine, monkeypatch
):
    usage = shutil.disk_usage("/")._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(KitError, match="detections in .*_detections.json need .* GB are free"):
        run(job(**IN_PROCESS), force=False)
    assert engine.calls == 0 and not job().target.exists()
