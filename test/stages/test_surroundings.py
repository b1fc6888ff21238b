"""Stages in odd surroundings: standard streams closed, settings of others, no /dev/shm."""

import os
import subprocess
import sys

import pytest
from models import ROOT, write_color_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_color_data(tmp_path_factory.mktemp("data"))


def prepare(data, target, shell):
    """Run prepare-json.py in a shell line that ends in what `shell` says."""
    line = f'"$0" "$@" {shell}'
    source = data / "annotations" / "instances_val2017.json"
    command = ["bash", "-c", line, sys.executable, ROOT / "prepare-json.py", source, target]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("streams", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_closed_stdout_is_one_line_before_any_work(streams, data, tmp_path):
    done = prepare(data, tmp_path / "made", streams)
    assert done.returncode == 1 and not (tmp_path / "made").exists()
    line = "prepare-json.py: error: stdout is closed; leave it open, such as >/dev/null\n"
    assert done.stderr == ("" if "2>&-" in streams else line)


@pytest.mark.parametrize("streams", ["<&-", "2>&-", "<&- 2>&-"])
def test_what_is_printed_goes_into_no_file_where_streams_are_closed(streams, data, tmp_path):
    sound = prepare(data, tmp_path / "sound", "")
    done = prepare(data, tmp_path / "made", streams)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == sound.stdout.replace("sound", "made")
    assert (tmp_path / "made").read_bytes() == (tmp_path / "sound").read_bytes()


def test_notes_do_not_go_to_stdout_where_stderr_is_closed():
    code = "import ssd.cli; ssd.cli.note('a note'); print('a fact')"
    line = ["bash", "-c", '"$0" "$@" 2>&-', sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "a fact\n")


def test_charts_need_no_backend_that_the_user_set():
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-c", "import ssd.report.render"]
    env = os.environ | {"MPLBACKEND": "nosuch"}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_need_no_dev_shm(workers, data, tmp_path):
    line = 'mount -t tmpfs -o ro none /dev/shm && exec "$0" "$@"'
    unshare = ["unshare", "--mount", "bash", "-c", line]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    stage = [sys.executable, ROOT / "ssd_preprocess.py", "--workers", str(workers)]
    stage += ["--data", data, "--bin-output", tmp_path / "bin"]
    done = subprocess.run([*unshare, *stage], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "bin").glob("*.bin"))) == 6


@pytest.mark.parametrize("setting", [{"HOME": ""}, {"TMPDIR": "/none"}, {"LC_ALL": "C"}])
def test_odd_settings_of_the_environment_change_nothing(setting, data, tmp_path):
    stage = [sys.executable, ROOT / "ssd_preprocess.py", "--data", data, "--workers", "2"]
    env = os.environ | setting
    command = [*stage, "--bin-output", tmp_path / "bin"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
