#!/usr/bin/env python3
"""Kill stages and drivers at random moments, run the same command again, and print what was lost.

Each is started MOMENTS times for each way of killing it. After a kill no process of it may be left,
the same command must end well with the same bytes, images that were done must not be done again,
and no temporary file may stay. Then come locks and disks that fill up. All data are drawn here, the
model tells three colors apart. Exits 1 if anything was lost.

Example:
  nice python3 bench/chaos.py --moments 20
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "test"))  # whose models are light

import chaos_cases
from chaos_subjects import Subject, make_subjects

WAYS = {  # what is killed, and with which signal
    "all, KILL": ("all", signal.SIGKILL),
    "main, KILL": ("main", signal.SIGKILL),
    "main, TERM": ("main", signal.SIGTERM),
    "main, INT": ("main", signal.SIGINT),
    "child, KILL": ("child", signal.SIGKILL),
}
MARK = "SSD_CHAOS"  # in the environment of all processes of a run
GONE = 3.0  # seconds within which all processes of a killed run must have ended
HUNG = 900.0  # seconds after which a run counts as hung
LITTER = ("*.tmp", "part-*", "*_todo", ".atc-*", ".kernels*", "ssd_quantize.*")
HEADS = ("runs", "orphans", "hung", "other", "again", "litter", "status")


class Outcome(NamedTuple):
    """What a killed run and its second try left, counted as in HEADS; seconds: to its end."""

    orphans: int
    hung: int
    other: int
    again: int
    litter: int
    status: int
    seconds: float


def processes(mark: str) -> list[int]:
    """Return the ids of the living processes whose environment has the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
            if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(entry.name))
        except OSError:  # it has ended, or is another user's
            continue
    return sorted(found)


def kill(run: subprocess.Popen, mark: str, target: str, signum: int) -> None:
    """Send a signal to the run's first process, to all, or to a random one below the first."""
    pids = [pid for pid in processes(mark) if pid != run.pid]
    chosen = {"main": [run.pid], "all": [run.pid, *pids], "child": pids and [random.choice(pids)]}
    for pid in chosen[target]:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue


def wait_for_end(run: subprocess.Popen, mark: str, target: str) -> tuple[int, int, float]:
    """Wait for a killed run; return how many processes are left, whether it hung, the seconds."""
    start, hung = time.monotonic(), 0
    try:
        run.wait(HUNG)  # after the kill of a child it may go on, or end by itself
    except subprocess.TimeoutExpired:
        hung = 1
        run.kill()
        run.wait()
    ended = time.monotonic()
    while processes(mark) and time.monotonic() < ended + GONE:
        time.sleep(0.02)
    seconds = time.monotonic() - start
    left = processes(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left), hung, 0.0 if target == "child" else seconds


def wrong_status(status: int, errors: str, target: str, signum: int) -> bool:
    """Return whether a run ended otherwise than by its end, or as its signal has it.

    errors: its stderr. Python ends by Ctrl-C with its own status until it is set up.
    """
    if target == "child":
        return status < 0
    return status not in (0, -signum, 128 + signum) and "Fatal Python error: init_" not in errors


def try_once(subject: Subject, folder: Path, seconds: float, way: tuple[str, int]) -> Outcome:
    """Kill a run at a random moment within `seconds`, and run the same command to its end."""
    out = folder / "out"
    subject.prepare(out)
    mark = uuid.uuid4().hex
    env = os.environ | {MARK: mark, "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
    command, errors = subject.command(out), folder / "errors"
    with errors.open("w") as stderr:
        run = subprocess.Popen(command, start_new_session=True, **quiet | {"stderr": stderr})
    time.sleep(random.uniform(0, seconds))
    kill(run, mark, *way)
    left, hung, took = wait_for_end(run, mark, way[0])
    before = subject.done(out)
    try:
        status = subprocess.run(command, check=False, timeout=HUNG, **quiet).returncode
    except subprocess.TimeoutExpired:
        status, hung = 1, 1
    same = status == 0 and subject.product(out) == subject.expected(folder)[0]
    again = subject.done_again(out, before) if same else 0
    litter = [path for pattern in LITTER for path in folder.rglob(pattern)]
    if left or hung or not same or again or litter:
        facts = f"{left} left, hung {hung}, status {status}, again {again}, litter {litter}"
        print(f"  {' '.join(command)}: {facts}", file=sys.stderr)
    wrong = wrong_status(run.returncode, errors.read_text(errors="replace"), *way)
    return Outcome(left, hung, not same, again, len(litter), wrong, took)


def torture(subject: Subject, scratch: Path, moments: int, ways: list[str]) -> bool:
    """Print a row for each way of killing a subject; return whether anything was lost."""
    _, seconds = subject.expected(scratch)
    lost = False
    for name in ways:
        if WAYS[name][0] == "child" and not subject.children:
            continue
        outcomes = []
        for _ in range(moments):
            folder = Path(tempfile.mkdtemp(dir=scratch))
            outcomes.append(try_once(subject, folder, seconds, WAYS[name]))
            shutil.rmtree(folder)
        sums = [sum(column) for column in zip(*outcomes, strict=True)][:-1]
        lost |= any(sums)
        shown = "".join(f"{count:>8}" for count in (len(outcomes), *sums))
        slowest = max(outcome.seconds for outcome in outcomes)
        slowest = "-" if WAYS[name][0] == "child" else f"{slowest:.2f}"
        print(f"{subject.name:<24} {name:<12}{shown}{slowest:>8}", flush=True)
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moments", type=int, default=20, help="kills in each way (default: 20)")
    parser.add_argument(
        "--only", default="", help="what is tried: parts of names, as in ssd_infer;ladder"
    )
    parser.add_argument("--ways", default="", help="parts of ways, as in TERM;child")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    random.seed(args.seed)
    # what starts this in the background may let it ignore Ctrl-C, and so all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ways = [way for way in WAYS if any(part in way for part in args.ways.split(";"))]
    lost = False
    with tempfile.TemporaryDirectory() as folder:
        subjects, cases = make_subjects(Path(folder)), chaos_cases.CASES
        wanted = args.only.split(";")
        print(f"{'what':<24} {'killed':<12}{''.join(f'{name:>8}' for name in HEADS)}{'s':>8}")
        for subject in subjects:
            if any(part in subject.name for part in wanted):
                lost |= torture(subject, Path(folder), args.moments, ways)
        for name, case in cases.items():
            if any(part in name for part in wanted):
                scratch = Path(tempfile.mkdtemp(dir=folder))
                problem = case(subjects, scratch)
                lost |= bool(problem)
                print(f"{name}: {problem or 'as it must'}", flush=True)
    print("orphans: processes left; other: not the same bytes; again: images done twice;")
    print("status: an odd exit status; s: the longest from the kill to the end of all processes")
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())
