"""One run of a model over input files, or on nothing to time it: what is done and noted."""

import time
from pathlib import Path
from typing import Any

from ssd.ascend import ais_bench, path_rules, summaries
from ssd.ascend.om import batch_of, takes_batches
from ssd.ascend.toolkit import card_facts, newer_note
from ssd.cli import KitError, note
from ssd.detections import check_room, write_detections
from ssd.engines import checkpoint_of, input_and_labels, open_engine
from ssd.engines.base import Engine
from ssd.engines.in_process import check_labels, note_files, run_to_detections
from ssd.engines.inference import Times, files_info, run_to_files, shard_of, summary_of
from ssd.engines.record import FIXED, Job, find_kept, record
from ssd.engines.shards import run_shards
from ssd.engines.timing import TRIAL, loop_for, settle, time_pure, warm_up
from ssd.files import (
    CHECKPOINT_KEY,
    claim_folder,
    clear_folder,
    own_folder,
    sha256,
    write_json,
)
from ssd.machine import age, machine, moment, peak_memory
from ssd.tensors import INPUT_SHAPES, input_layout, preprocessing, tensor_id

LINKS = "_todo"  # end of the folder with links to the inputs that were not run yet


def run(job: Job, force: bool) -> dict[str, Any]:
    """Do a job, or as much of it as was not done, and return its summary.

    force: replace what another run left there. Raises KitError if model, inputs and data do not go
    together, or another run's results lie there.
    """
    now = moment()
    tool = job.choice.tool if not job.choice.in_process else None
    several = "," in job.choice.device
    engine = None
    if not tool and not several:
        choice = job.choice
        engine = open_engine(job.model, choice.device, choice.engine, job.precision)
        print(f"engine {engine.name}, {engine.provider}; input {engine.dtype} {engine.shape}")
    dtype, labels = (engine.dtype, engine.labels) if engine else input_and_labels(job.model)
    if job.data:
        check_labels(job.model, labels, job.data)
    check_inputs(job, dtype)
    if job.choice.tool and job.choice.tool.rules:
        folders = [job.target.parent, job.target] if tool and job.target else []
        path_rules.check_run(job.model, folders, job.inputs if tool else [])
    if job.choice.engine == "ascend" and (newer := newer_note(job.model)):
        note(newer)
    size = batch_size(job.model, engine.batch if engine else batch_of(job.model), job.batch)
    made_from = record(job, engine.name if engine else job.choice.tool.name, size)
    if job.target:
        kept = find_kept(job, made_from)
        if kept:
            note(f"{job.target}: kept, it is of the same model and inputs")
            return kept
        if job.choice.in_process and job.inputs:
            check_room(job.beside("_detections.json"), len(job.inputs))
        if job.inputs:
            claim_folder(job.target, made_from, set() if force else FIXED)
        job.beside("_summary.json").unlink(missing_ok=True)  # of another run
    if engine and job.by_time:
        settle(engine, size, job.warmup, job.seconds)
    elif engine:
        warm_up(engine, size, job.warmup)
    elif tool and job.by_time:
        trial = run_tool(job._replace(loop=TRIAL), size)["NPU_compute_time"]["mean"]
        job = job._replace(loop=loop_for(trial, job.seconds))
    began, start = age(), time.perf_counter()
    if tool:
        found = run_tool(job, size)
    elif several:
        found = run_cards(job)
    else:
        found = run_engine(job, engine, size)
    seconds = {"wall": time.perf_counter() - start, "start": began}
    seconds |= found["seconds"]  # cards time themselves
    summary = found | {
        "preprocess": found.get("preprocess") or preprocessed(job, found["images"], seconds),
        "batch_size": size,
        "model": str(job.model),
        "model_sha256": made_from["model_sha256"],
        "input_dtype": dtype,
        "seconds": seconds,
        "images_per_second": found["images"] / seconds["wall"],
        "facts": facts(job) | now | threads_of(engine),
        "peak_bytes": peak_memory() if engine else None,
        "warnings": [job.choice.unused] if job.choice.unused else [],
        "finished": time.strftime(summaries.MOMENT, time.gmtime()),
        "made_from": made_from,
    }
    if job.choice.in_process and job.inputs:
        summary["detections_sha256"] = sha256(job.beside("_detections.json"))
    if job.target:
        write_json(job.beside("_summary.json"), summary)
    return summary


def preprocessed(job: Job, images: int, seconds: dict[str, float]) -> dict[str, Any] | None:
    """Return how many images preprocessing alone makes inputs of in how many seconds.

    inside: whether this run did so. None if it is not known.
    """
    if not job.inputs or not job.from_images:
        return preprocessing(job.inputs[0].parent) if job.inputs else None
    alone = seconds.pop("preprocess_alone", 0)
    return {"images": images, "seconds": alone, "inside": True} if images and alone else None


def check_inputs(job: Job, dtype: str) -> None:
    """Raise KitError unless the input files are what the model takes."""
    if not job.inputs or job.from_images:
        return
    found, expected = input_layout(job.inputs[0]), (dtype, INPUT_SHAPES[dtype])
    if found != expected:
        raise KitError(
            f"{job.inputs[0]}: {' '.join(map(str, found))}, {job.model} takes {dtype} "
            f"{INPUT_SHAPES[dtype]}; make them with ssd_preprocess.py --dtype {dtype}"
        )


def facts(job: Job) -> dict[str, Any]:
    """Return what the report says of the machine and, on a card, of the device and the route."""
    found = machine()
    if job.choice.engine == "ascend":
        route = "in process" if job.choice.in_process else "files"
        found |= {"devices": job.choice.device, "route": route} | card_facts(job.model)
    return found


def threads_of(engine: Engine | None) -> dict[str, int]:
    """Return how many threads of the CPU compute, as a fact; none where that is not known."""
    return {"threads": engine.threads} if engine and engine.threads else {}


def batch_size(model: Path, its_batch: int | None, asked: int | None) -> int:
    """Return the batch size: the model's, else what was asked for. KitError if they differ."""
    if its_batch and asked not in (None, its_batch):
        raise KitError(
            f"{model}: has batch size {its_batch}, --batchsize {asked} was given; "
            "leave it out or take another model"
        )
    return its_batch or asked or 1


def run_engine(job: Job, engine: Engine, size: int) -> dict[str, Any]:
    """Run a job in this process; return its part of the summary."""
    if not job.inputs:
        times = Times(time_pure(engine, size, job.loop, job.seconds), 0, {})
        images = len(times.runs) * size
    elif job.choice.in_process:
        image_of = {image["id"]: image for image in job.data.selected}
        sources = [(image_of[i], path) for i, path in zip(job.ids(), job.inputs, strict=True)]
        mine = shard_of(sources, size, job.shard)
        times, detections, images = run_to_detections(
            engine, mine, size, job.loop, job.data, job.target, job.workers, job.from_images
        )
        write_detections(job.beside("_detections.json"), detections)
        for path in note_files(job.target):
            path.unlink()
    else:
        done = job.whole_outputs()
        paths = [path for path in job.inputs if tensor_id(path) not in done]
        times = run_to_files(engine, paths, size, job.loop, job.target, job.outfmt)
        images = len(paths)
    writes = job.target and not job.choice.in_process
    return summary_of(times, size, images) | {
        "engine": engine.name,
        "provider": engine.provider,
        CHECKPOINT_KEY: engine.checkpoint,
        "filesinfo": files_info(job.inputs, job.target, job.outfmt) if writes else {},
    }


def run_tool(job: Job, size: int) -> dict[str, Any]:
    """Run a job with Ascend's tool; return its part of the summary."""
    tool, target = job.choice.tool, job.target
    ais_bench.restore_plain(target)
    done = job.whole_outputs()
    todo = [path for path in job.inputs if tensor_id(path) not in done] or job.inputs
    cards = job.choice.device.split(",")[: len(todo) or None]  # one without a file would fail
    links = job.beside(LINKS)
    more = ["--dymBatch", str(size)] if takes_batches(job.model) else []
    more += ["--outfmt", job.outfmt]
    if not tool.script:
        more += ["--warmup_count", str(job.warmup)]
    elif job.warmup != 1:
        note(f"note: {tool.name} has no --warmup_count; it warms up as it likes")
    if job.inputs:
        summaries.forget_summaries(target.parent, target.name)
        for path in [*target.glob("**/tensor*"), *target.glob("**/sample_id_*")]:
            if tensor_id(path) not in done:  # half of a pair, which another card would not replace
                path.unlink()
        more += ["--input", str(ais_bench.folder_of(todo, links, tool.rules))]
        more += ["--loop", str(job.loop)] if job.loop > 1 else []
        if len(cards) > 1 and ais_bench.divides_inputs(tool):
            more += ["--divide_input", "1"]
    else:
        more += ["--loop", str(job.loop)]
        clear_folder(target)
        own_folder(target)
    command = ais_bench.tool_command(
        tool, job.model, size, ",".join(cards), target.parent, target.name, more
    )
    try:
        wall = ais_bench.run_tool(command, job.beside(".log"))
        parts = summaries.read_summaries(target.parent, target.name)
        summaries.restore_names(parts, todo)
    finally:
        clear_folder(links)
        if not job.inputs:
            clear_folder(target)  # outputs of nothing
    images = len(todo) if job.inputs else job.loop * size
    found = {"images": images, "engine": tool.name, "provider": f"card {job.choice.device}"}
    found[CHECKPOINT_KEY] = checkpoint_of(job.model)
    return summaries.join_summaries(parts, size) | found | {"seconds": {"tool": wall}}


def run_cards(job: Job) -> dict[str, Any]:
    """Run a job on several cards, in a process each; return its part of the summary."""
    image_ids = [image["id"] for image in job.data.selected]
    devices = job.choice.device.split(",")
    share = ["--workers", str(max(1, job.workers // len(devices)))]  # of each, or all have all
    summary, found = run_shards(job.script, job.argv + share, devices, job.target, image_ids)
    write_detections(job.beside("_detections.json"), found)
    return summary
