"""One run of ais_bench or ais_infer.py on one device: warm up, infer, save, sum up."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import standin
from standin_files import Summary, group_files, list_inputs, pure_batch, read_batch
from standin_model import Model, Times, say

_batches_saved = 0  # of this process, whatever the device


@dataclass
class Run:
    """What the command line asks of one run."""

    argv: list[str]
    input: str | None
    folder: Path | None  # where the outputs go; None: nowhere
    summary_path: Path | None
    batchsize: int  # of the formula for the throughput alone
    outfmt: str = "BIN"
    loop: int = 1
    warmup_count: int = 1
    pure_data_type: str = "zero"
    axis: int = 0
    join: bool = True
    old: bool = False
    all_lines: bool = False


def count_batch() -> None:
    """Note that a batch is done, and die of STANDIN_KILL_AFTER if it was the last one allowed."""
    global _batches_saved
    _batches_saved += 1
    if _batches_saved == standin.kill_after():
        os.kill(os.getpid(), signal.SIGKILL)


def check_version() -> None:
    """Fail as the tool of early 2024 does where pkg_resources is missing."""
    try:
        import pkg_resources  # noqa: F401
    except ImportError:
        text = "local variable 'aclruntime_version' referenced before assignment"
        raise UnboundLocalError(text) from None


def run_model(model: Model, run: Run) -> float:
    """Run the inputs through the model; returns the throughput. Raises RuntimeError."""
    if run.folder is not None:
        say("INFO", f"output path:{run.folder}")
    if run.input is None:
        batches = [pure_batch(model)]
    else:
        files = list_inputs(run.input, len(model.inputs))
        batches = group_files(model, files, run.join)
    if standin.edition() == "2024-02":
        check_version()
    for _ in range(run.warmup_count):
        model.run_bytes(read_batch(model, batches[0], run.pure_data_type))
    model.times, model.runs = Times(), 0
    say("INFO", f"warm up {run.warmup_count} done")
    summary = Summary(run.argv)
    for index, batch in enumerate(batches):
        feeds = read_batch(model, batch, run.pure_data_type)
        outputs = model.run_bytes(feeds, run.loop)
        if run.folder is not None:
            where = {"folder": run.folder, "outfmt": run.outfmt, "axis": run.axis}
            summary.save_outputs(outputs, batch, index, **where)
        count_batch()
    throughput = summary.report(model.times, run.batchsize, run.old, run.all_lines)
    if run.summary_path is not None:
        summary.write(run.summary_path)
    return throughput
