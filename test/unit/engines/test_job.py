"""Jobs: what is kept, made again and refused, by what it was made from and with."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path

from ssd.cli import KitError
from ssd.engines import job as jobs
from ssd.engines import record as records
from ssd.engines.choice import Choice
from ssd.engines.job import run
from ssd.tensors import tensor_id

import pytest
from models import save_light

IN_PROCESS = {"choice": Choice("onnxruntime", "cpu", None, True)}
ROUTES = [{}, IN_PROCESS]


def outputs_of(made):
    return sorted(path.name for path in made.target.glob("tensor*"))


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_job_is_kept(route, job, engine, capsys):
    first = run(job(**route), force=False)
    assert engine.calls == 3  # batches of five images
    assert first["images"] == 5 and first["padded"] == 1
    target = job().target
    assert json.loads(job().beside("_summary.json").read_text()) == first
    again = run(job(**route), force=False)
    assert engine.calls == 0 and again == first
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{target}: kept, it is of the same model and inputs"
    )
    assert run(job(**route), force=True) == first  # nothing is another's there
    names = (
        [] if route else [f"tensor([{tensor_id(p)}])_{k}.bin" for p in job().inputs for k in (0, 1)]
    )
    assert outputs_of(job()) == sorted(names)
    assert job().beside("_detections.json").exists() == bool(route)


def test_timing_is_kept_and_made_again_with_another_loop(job, engine):
    pure = {"inputs": [], "data": None, "loop": 4}
    first = run(job(**pure), force=False)
    assert (engine.calls, first["images"], first["NPU_compute_time"]["count"]) == (4, 8, 4)
    assert run(job(**pure), force=False) == first and engine.calls == 0
    assert run(job(**pure | {"loop": 3}), force=False)["images"] == 6 and engine.calls == 3
    assert not job().target.exists()


@pytest.mark.parametrize("change", ["node", "num_cpus", "OMP_NUM_THREADS"])
def test_another_machine_is_timed_anew_but_not_run_anew(change, job, engine, monkeypatch):
    pure = {"inputs": [], "data": None}
    run(job(**pure), force=False)
    run(job(target=job().target / "files"), force=False)
    if change == "node":
        monkeypatch.setattr(records.platform, "node", lambda: "another")
    elif change == "num_cpus":
        monkeypatch.setattr(records, "num_cpus", lambda: 999)
    else:
        monkeypatch.setenv(change, "999")
    run(job(target=job().target / "files"), force=False)
    assert engine.calls == 0
    run(job(**pure), force=False)
    assert engine.calls > 0


def test_a_summary_says_in_utc_when_its_run_finished(job):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    finished = datetime.strptime(run(job(), force=False)["finished"], "%Y-%m-%dT%H:%M:%SZ")
    assert before <= finished.replace(tzinfo=timezone.utc) <= datetime.now(timezone.utc)


def test_timing_by_time_is_kept_and_says_what_it_ran_on(job, engine):
    pure = {"inputs": [], "data": None, "loop": None, "seconds": 0.01, "warmup": 1}
    first = run(job(**pure), force=False)
    runs = first["NPU_compute_time"]["count"]
    assert runs >= 3 and engine.calls > runs and first["images"] == 2 * runs  # warmed up before
    assert first["made_from"]["seconds"] == 0.01 and "loop" not in first["made_from"]
    facts = {"machine", "cpus", "cpu_flags", "threads", "load", "date", "kit", "packages"}
    assert facts <= first["facts"].keys()
    assert first["peak_bytes"] > 10**7 and first["seconds"]["start"] > 0
    assert run(job(**pure), force=False) == first and engine.calls == 0
    run(job(**pure | {"seconds": 0.02}), force=False)
    assert engine.calls > 0


def test_a_part_does_not_pass_for_the_whole(job):
    in_process = {"choice": Choice("onnxruntime", "cpu", None, True)}
    assert run(job(**in_process, shard=(0, 2)), force=False)["images"] == 3  # of batches of two
    for shard in [(0, 1), (1, 2)]:
        with pytest.raises(KitError, match="holds a run that differs in shard; "):
            run(job(**in_process, shard=shard), force=False)
    assert run(job(**in_process), force=True)["images"] == 5


def test_outputs_of_another_format_are_made_again(job):
    run(job(), force=False)
    assert run(job(outfmt="NPY"), force=False)["images"] == 5
    assert {path.suffix for path in job().target.glob("tensor*")} == {".npy"}


def test_without_an_output_nothing_is_kept(job, engine):
    for _ in range(2):
        run(job(target=None), force=False)
        assert engine.calls == 3


def test_an_image_has_the_same_outputs_whatever_its_batch(job):
    run(job(), force=False)
    run(job(batch=5, target=job().target.with_name("bs5")), force=False)
    for name in outputs_of(job()):
        pair = [(job().target.with_name(folder) / name).read_bytes() for folder in ("bs2", "bs5")]
        assert pair[0] == pair[1]


# Another run: refused, or made again.


def another_model(job, tmp_path):
    path = save_light(tmp_path / "another.onnx")
    path.write_bytes(path.read_bytes() + b"\x72\x00")  # the doc_string's field, empty
    return job(model=path)


def fewer_images(job, tmp_path):
    wanted = job()
    selected = wanted.data.selected[:3]
    return job(inputs=wanted.inputs[:3], data=wanted.data._replace(selected=selected))


OTHERS = {
    "model": another_model,
    "images": fewer_images,
    "route": lambda job, _: job(**IN_PROCESS),
}


@pytest.mark.parametrize("difference", OTHERS)
def test_a_run_of_another_kind_is_refused_with_the_difference_named(
    difference, job, engine, tmp_path
):
    run(job(), force=False)
    before = {path: path.read_bytes() for path in tmp_path.glob("out/**/*") if path.is_file()}
    other = OTHERS[difference](job, tmp_path)
    with pytest.raises(
        KitError, match=f"bs2: holds a run that differs in .*{difference}; give another "
    ):
        run(other, force=False)
    assert engine.calls == 0
    assert before == {p: p.read_bytes() for p in tmp_path.glob("out/**/*") if p.is_file()}
    run(other, force=True)
    assert engine.calls == -(-len(other.inputs) // 2)
    files = 0 if other.choice.in_process else 2 * len(other.inputs)
    assert len(outputs_of(job())) == files  # nothing of the former run is left


def test_in_process_another_annotation_is_refused(job, engine):
    run(job(**IN_PROCESS), force=False)
    data = job().data
    data.annotation.write_text(data.annotation.read_text() + " ")
    with pytest.raises(KitError, match="holds a run that differs in annotation; "):
        run(job(**IN_PROCESS), force=False)
    assert engine.calls == 0


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("change", ["batch", "inputs"])
def test_what_was_made_otherwise_is_made_again_with_a_note(change, route, job, engine, capsys):
    run(job(**route), force=False)
    changes = dict(route)
    if change == "batch":
        changes["batch"] = 5
    else:
        os.utime(job().inputs[3], ns=(1, 1))  # made anew
    run(job(**changes), force=False)
    assert engine.calls == (1 if change == "batch" else 3)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{job().target}: differs in {change}; made again"
    )


def test_a_folder_of_the_users_is_refused(job, engine):
    folder = job().target
    folder.mkdir(parents=True)
    (folder / "mine").write_text("")
    for force in (False, True):
        with pytest.raises(KitError, match="bs2: holds files that are not this kit's"):
            run(job(), force=force)
    assert [path.name for path in folder.iterdir()] == ["mine"] and engine.calls == 0


# What does not go together is refused before anything is written.


def test_inputs_of_another_dtype_are_refused_with_the_remedy(job, tmp_path):
    path = tmp_path / "tensor([9]).bin"
    path.write_bytes(bytes(270_000))
    message = r"tensor\(\[9\]\).bin: uint8 .* takes float32 .*; make them with .* --dtype float32"
    with pytest.raises(KitError, match=message):
        run(job(inputs=[path], data=None), force=False)
    assert not job().target.parent.exists()


@pytest.mark.parametrize("route", ROUTES)
def test_a_model_of_other_labels_is_refused(route, job, data, engine):
    three = data.instances | {"categories": data.instances["categories"][:3]}
    with pytest.raises(KitError, match="5 labels = background . 4; .* has 3 categories; give "):
        run(job(**route, data=data._replace(instances=three)), force=False)
    assert engine.calls == 0 and not job().target.parent.exists()


def test_a_batch_size_that_is_not_the_models_is_refused():
    assert jobs.batch_size(Path("m"), None, None) == 1
    assert jobs.batch_size(Path("m"), None, 7) == 7
    assert jobs.batch_size(Path("m"), 4, None) == jobs.batch_size(Path("m"), 4, 4) == 4
    with pytest.raises(KitError, match="m: has batch size 4, --batchsize 7 was given; leave it"):
        jobs.batch_size(Path("m"), 4, 7)
