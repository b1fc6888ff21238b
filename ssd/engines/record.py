"""What a run of a model is asked for, and what it was made from and with: so it may be kept."""

import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

from ssd import __version__, coco
from ssd.engines import model_sha256
from ssd.engines.choice import Choice
from ssd.engines.timing import SECONDS
from ssd.files import digest, digest_files, read_record, sha256
from ssd.tensors import tensor_id, whole_outputs
from ssd.workers import num_cpus

WHOLE = (0, 1)  # the shard that is everything
# another run if they differ
FIXED = {"model_sha256", "images", "shard", "annotation", "route", "precision"}


class Job(NamedTuple):
    """What is asked for.

    inputs: files, none to time pure inference. from_images: they are the images of `data`, in its
    order, from which inputs are made on the way. data: the data set of the inputs, None if it is
    not known (needed to decode in process). target: where results go, without _summary.json; None:
    nowhere. loop: runs of a batch; without inputs None is as many as fit into `seconds`.
    """

    model: Path
    choice: Choice
    precision: str
    batch: int | None
    inputs: list[Path]
    from_images: bool
    data: coco.DataSet | None
    target: Path | None
    loop: int | None
    warmup: int
    outfmt: str
    workers: int
    shard: tuple[int, int]
    script: Path  # ssd_infer.py, and its arguments, for a run on several cards
    argv: list[str]
    seconds: float = SECONDS

    @property
    def by_time(self) -> bool:
        """Whether pure inference is timed for `seconds`."""
        return self.loop is None and not self.inputs

    def beside(self, end: str) -> Path:
        """Return a path beside the target: its name and `end`."""
        return self.target.with_name(self.target.name + end)

    def ids(self) -> list[int]:
        """Return the image id of each input."""
        if self.from_images:
            return [image["id"] for image in self.data.selected]
        return [tensor_id(path) for path in self.inputs]

    def whole_outputs(self) -> dict[int, list[Path]]:
        """Return the outputs that are there already, by image id."""
        labels = len(self.data.instances["categories"]) + 1 if self.data else None
        return whole_outputs(self.target, labels) if self.target and self.inputs else {}


def record(job: Job, engine: str, size: int) -> dict[str, Any]:
    """Return what the results of a job are made from and with."""
    found = {"kit": __version__, "model_sha256": model_sha256(job.model), "engine": engine}
    found |= {"device": job.choice.device, "precision": job.precision, "batch": size}
    if not job.inputs:
        found |= {"seconds": job.seconds} if job.by_time else {"loop": job.loop}
        found |= {"host": platform.node(), "processors": num_cpus()}
        return found | {"threads": os.environ.get("OMP_NUM_THREADS")}  # which bounds engines
    route = "in process" if job.choice.in_process else "files"
    found |= {"images": digest(job.ids()), "inputs": digest_files(job.inputs), "route": route}
    found["shard"] = list(job.shard)
    if job.choice.in_process:  # labels and sizes of images come from the annotation file
        return found | {"annotation": sha256(job.data.annotation)}
    return found | {"outfmt": job.outfmt}


def find_kept(job: Job, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Return the summary of the same job if it is done, and what it made is still there.

    Outputs that were removed once they were scored count as there while the scores and the
    detections are of this run.
    """
    summary = read_record(job.beside("_summary.json"))
    if summary.get("made_from") != made_from:
        return None
    if not job.inputs:
        done = True
    elif job.choice.in_process:
        found = job.beside("_detections.json")
        done = found.is_file() and sha256(found) == summary.get("detections_sha256")
    else:
        done = len(job.whole_outputs()) >= len(job.inputs) or is_scored(job, made_from)
    return summary if done else None


def is_scored(job: Job, made_from: dict[str, Any]) -> bool:
    """Return whether the scores and the detections of a job's outputs are there."""
    result, detections = read_record(job.beside("_result.json")), job.beside("_detections.json")
    scored = result.get("made_from")
    return (
        isinstance(scored, dict)
        and scored.get("inference") == digest(made_from)
        and (not job.data or scored.get("annotation") == sha256(job.data.annotation))
        and detections.is_file()
        and result.get("detections_sha256") == sha256(detections)
    )
