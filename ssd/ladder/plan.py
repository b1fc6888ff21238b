"""The plan of a ladder, a file in its folder: what runs, and so what a later run may remove."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ssd.cli import KitError
from ssd.engines import model_sha256
from ssd.files import (
    RECORD,
    check_folder,
    clear_folder,
    digest,
    own_folder,
    read_json,
    read_record,
    write_json,
)

PLAN = "rungs.json"
RESULTS = ("ladder.json", "ladder.md", "ladder.html", "layers.json")
RUNG_RESULTS = ("summary", "result", "detections", "against")  # RUNG_*.json


class Plan(NamedTuple):
    """What a ladder runs and how it is judged.

    models: of each rung that runs, from the top; missing: rung -> why it does not run. tolerance:
    points of mAP that a rung may lose. goal: mAP (0..1) for the first rung, or None.
    """

    models: dict[str, str]
    missing: dict[str, str]
    tolerance: float
    goal: float | None


def read_plan(folder: Path) -> Plan:
    """Read a ladder's plan. Raises KitError if there is none, or the file is something else."""
    path = folder / PLAN
    try:
        return Plan(**read_json(path))
    except TypeError:
        raise KitError(f"{path}: not the plan of a ladder; move it away, or run again") from None


def begin(folder: Path, plan: Plan) -> None:
    """Take up what a former ladder left in `folder`, make the rungs' folders, write the plan.

    What is of rungs that do not run goes; what is of those that do is kept by each stage if it was
    made from and with the same. Raises KitError, before anything is removed, if a rung's folder is
    not the kit's.
    """
    former = read_plan(folder).models if (folder / PLAN).is_file() else {}
    folders = [folder / rung for rung in plan.models]
    for path in folders:
        check_folder(path)
    gone = [rung for rung in former if rung not in plan.models]
    clear_outputs(folder, gone)
    for name in [*RESULTS, *(f"{rung}_{what}.json" for rung in gone for what in RUNG_RESULTS)]:
        (folder / name).unlink(missing_ok=True)
    run_again(folder, plan.models)
    for path in folders:
        own_folder(path)
    write_json(folder / PLAN, plan._asdict(), indent=2)


def run_again(folder: Path, models: dict[str, str]) -> None:
    """Have rungs run again whose outputs are gone, but needed for a comparison that is not there.

    A rung without a summary is run, as nothing says that it was done.
    """
    for above, below in pairwise(models):
        if is_compared(folder, above, below) and all(
            summary_of(folder, rung).get("model_sha256") == model_sha256(Path(models[rung]))
            for rung in (above, below)
        ):
            continue
        for rung in (above, below):
            if not (folder / rung / RECORD).exists():
                (folder / f"{rung}_summary.json").unlink(missing_ok=True)


def is_compared(folder: Path, above: str, below: str) -> bool:
    """Return whether two rungs were compared as they are now."""
    against = read_record(folder / f"{below}_against.json")
    return bool(against) and against.get("made_from") == pair_of(folder, above, below)


def pair_of(folder: Path, above: str, below: str) -> dict[str, str]:
    """Return what a comparison of two rungs is made from: digests of what their runs were."""
    runs = {rung: summary_of(folder, rung).get("made_from") for rung in (above, below)}
    return {rung: digest(made_from) for rung, made_from in runs.items()}


def summary_of(folder: Path, rung: str) -> dict[str, Any]:
    """Return the summary of a rung's inference; {} if there is none, or it is broken."""
    return read_record(folder / f"{rung}_summary.json")


def clear_outputs(folder: Path, rungs: Iterable[str]) -> None:
    """Remove the rungs' folders of outputs (15 GB each on val2017) as far as the kit made them."""
    for rung in rungs:
        clear_folder(folder / rung)
