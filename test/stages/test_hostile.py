"""Hostile input as a table: what is given, the exit status, and words of the line on stderr.

Checkpoints have their table in test/unit/test_checkpoint.py, annotations theirs in test_coco.py and
test_annotation_checks.py.
"""

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ssd.cli import run_main
from ssd.files import locked

import pytest
from hostile import FILES, RESULT_FOLDERS, ROWS
from models import ROOT, save_colors, write_color_data

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def stage(monkeypatch, capsys):
    """Run a stage in this process and return its status, stdout and stderr."""

    def run(name, *args):
        main = importlib.import_module(name).main
        before = [signal.getsignal(number) for number in SIGNALS]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        try:
            run_main(main)
        except SystemExit as end:
            status = end.code or 0
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        if isinstance(status, str):  # as the interpreter does
            status, err = 1, err + status + "\n"
        return SimpleNamespace(status=status, out=out, err=err)

    return run


def text_of(value):
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The folder that the rows read: a sound data set and model, and hostile files."""
    folder = tmp_path_factory.mktemp("hostile")
    write_color_data(folder / "data")
    save_colors(folder / "good.onnx")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, (summary, score) in RESULT_FOLDERS.items():
        if summary is not None:
            (folder / name).mkdir()
            (folder / name / "bs1_summary.json").write_text(text_of(summary))
        if score is not None:
            (folder / name / "bs1_result.json").write_text(text_of(score))
    (folder / "images" / "folder.png").mkdir()
    (folder / "images" / "dangling.png").symlink_to("none.png")
    (folder / "images" / "loop.png").symlink_to("loop.png")
    (folder / "loop").symlink_to("loop")
    for name in ("images/fifo.png", "fifo", "fifo.json", "fifo.onnx", "fifo.pt"):
        os.mkfifo(folder / name)
    (folder / "folder.onnx").mkdir()
    (folder / "fifo-summary").mkdir()
    os.mkfifo(folder / "fifo-summary" / "bs1_summary.json")
    return folder


@pytest.mark.parametrize(("line", "status", "words"), ROWS, ids=lambda part: str(part)[:60])
def test_hostile_input_is_one_line(line, status, words, given, stage, tmp_path):
    def filled(text):
        return text.replace("{f}", str(given)).replace("{o}", str(tmp_path))

    done = stage(*map(filled, line))
    assert done.status == status, done.err
    last = done.err.splitlines()[-1]
    assert last.startswith(f"{line[0]}.py: error: ") and filled(words) in last
    assert status == 2 or done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["/dev/null", "fifo", "link"])
def test_what_is_no_file_is_written_through(name, given, stage, tmp_path):
    path = tmp_path / name  # an absolute name stays
    if name == "fifo":
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    elif name == "link":
        (tmp_path / "target").write_text("old")
        path.symlink_to("target")
    before = os.lstat(path)
    done = stage("prepare-json", given / "good.json", path)
    assert (done.status, done.err) == (0, "")
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    if name == "fifo":
        text = os.read(reader, 1 << 16)
        os.close(reader)
    elif name == "link":
        text = (tmp_path / "target").read_bytes()
    if name != "/dev/null":
        assert json.loads(text)["images"][0]["id"] == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == {"link": ["link", "target"]}.get(
        name, [name] if name == "fifo" else []
    )


def test_detections_go_through_a_pipe(given, tmp_path):
    command = [sys.executable, ROOT / "ssd_postprocess.py", "--score-only", given / "found.json"]
    command += ["--annotation", given / "good.json", "--output", tmp_path / "r.json"]
    command += ["--detections", "/dev/stderr"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert json.loads(done.stderr)[0]["image_id"] == 9
    assert json.loads((tmp_path / "r.json").read_text())["detections_sha256"] is None


@pytest.mark.parametrize("name", ["é猫.json", "b\udcff.json", "a\nb.json"])
def test_no_name_of_a_file_leads_to_a_traceback(name, given, tmp_path, run_stage):
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    made = run_stage("prepare-json.py", given / "good.json", tmp_path / "o" / name, env=ascii_only)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.isascii() and (tmp_path / "o" / name).is_file()
    done = run_stage("prepare-json.py", tmp_path / name, tmp_path / "none", env=ascii_only)
    assert done.returncode == 1 and "cannot read: No such file" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.isascii()


def test_a_report_is_not_made_of_a_folder_in_use(given, stage):
    with locked(given / "summary-bare"):
        done = stage("ssd_report", given / "summary-bare")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "summary-bare: another run is using it; wait" in done.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stdout_that_takes_nothing_is_one_line(unbuffered, given, tmp_path):
    command = [sys.executable, ROOT / "prepare-json.py", given / "good.json", tmp_path / "made"]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("prepare-json.py: error: stdout or a file: No space left on")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_gone_ends_the_stage_without_a_word(given, tmp_path):
    reader, stdout = os.pipe()
    os.close(reader)  # as head does once it has its lines
    command = [sys.executable, ROOT / "prepare-json.py", given / "good.json", tmp_path / "made"]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE)
    os.close(stdout)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    "line", ["prepare-json {f}/good.json {o}/x", "ssd_infer --loop 1 --model x"]
)
def test_what_the_system_refuses_is_one_line(line, given, stage, tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "exists", refuse)  # as in a folder that may not be entered
    name, *args = line.replace("{f}", str(given)).replace("{o}", str(tmp_path)).split(" ")
    done = stage(name, *args)
    assert done.status == 1 and done.err.count("\n") == 1
    assert "Permission denied" in done.err
