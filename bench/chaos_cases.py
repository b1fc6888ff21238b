"""What else bench/chaos.py tries: two runs in one folder, and disks and files that fill up."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from chaos_subjects import Subject

ROOM = 100_000  # bytes that a file may have, less than what is to be written
BUSY = "another run is using it"
UNSHARE = ["unshare", "--mount", "bash", "-c"]


def limit_files() -> None:
    """Let no file of this process grow beyond ROOM, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:160]


def with_name(subjects: list[Subject], name: str) -> Subject:
    return next(subject for subject in subjects if subject.name == name)


def second_run(name: str, subjects: list[Subject], folder: Path) -> str:
    """Run one command twice at once; return what is wrong, empty if the second is refused."""
    out = folder / "out"
    command = with_name(subjects, name).command(out)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(command, start_new_session=True, **quiet)
    while not any(out.glob("*")) and first.poll() is None:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGSTOP)  # so that what changes now is the second run's doing
    try:
        before = files_of(out)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        changed = files_of(out) != before
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    status = first.wait()
    if second.returncode != 1 or BUSY not in second.stderr or changed:
        return f"the second run was not refused: {last_line(second.stderr)}"
    return "" if status == 0 else f"the first run ended with {status}"


def full(name: str, subjects: list[Subject], folder: Path) -> str:
    """Let files fill up, then run the same command with room; return what is wrong."""
    subject, out = with_name(subjects, name), folder / "out"
    subject.prepare(out)
    command = subject.command(out)
    settings = {"capture_output": True, "text": True, "check": False}
    first = subprocess.run(command, preexec_fn=limit_files, **settings)
    lines = [line for line in first.stderr.splitlines() if ": error: " in line]
    if first.returncode == 0 or not lines or "Traceback" in first.stderr:
        return f"status {first.returncode}, {last_line(first.stderr)}"
    second = subprocess.run(command, **settings)
    if second.returncode or subject.product(out) != subject.expected(folder)[0]:
        return f"then status {second.returncode}, {last_line(second.stderr)}"
    return ""


def on_small_disk(name: str, options: str, subjects: list[Subject], folder: Path) -> str:
    """Run with its output on such a tmpfs; return what is wrong. Needs the right to mount."""
    out = folder / "out"
    out.mkdir()
    mount = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    if subprocess.run([*UNSHARE, mount, str(out), "true"], capture_output=True).returncode:
        return ""
    command = with_name(subjects, name).command(out)
    done = subprocess.run(
        [*UNSHARE, mount, str(out), *command], capture_output=True, text=True, check=False
    )
    fine = done.returncode == 1 and ": error: " in done.stderr and "Traceback" not in done.stderr
    return "" if fine else f"status {done.returncode}, {last_line(done.stderr)}"


DRIVERS = ("evaluation, files", "ladder")
WRITERS = ("ssd_preprocess", "ssd_infer, files", "ssd_quantize", "ssd_report", *DRIVERS)
CASES: dict[str, Callable[[list[Subject], Path], str]] = {
    **{f"two runs at once, {name}": partial(second_run, name) for name in DRIVERS},
    **{f"no room in files, {name}": partial(full, name) for name in WRITERS},
    "a full disk, ssd_preprocess": partial(on_small_disk, "ssd_preprocess", "size=2m"),
    "a read-only folder, ssd_preprocess": partial(on_small_disk, "ssd_preprocess", "ro"),
    "a read-only folder, evaluation, files": partial(on_small_disk, "evaluation, files", "ro"),
    "no inodes, ssd_preprocess": partial(on_small_disk, "ssd_preprocess", "nr_inodes=9"),
    "a full disk, evaluation, files": partial(on_small_disk, "evaluation, files", "size=4m"),
}
