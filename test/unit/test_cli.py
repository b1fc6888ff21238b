"""What every stage's command line shares."""

import os
import subprocess
import sys

from ssd import cli

import pytest
from models import ROOT


def run_code(code):
    """Run Python code in a process of its own, which may send itself signals."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_first_few_names_the_first():
    assert cli.first_few([]) == ""
    assert cli.first_few(range(5)) == "0, 1, 2, 3, 4"
    assert cli.first_few(range(6)) == "0, 1, 2, 3, 4, ..."


def test_one_of_a_thing_is_counted_as_one():
    shown = [cli.counted(number, "image") for number in range(3)]
    assert shown == ["0 images", "1 image", "2 images"]


def test_too_little_memory_is_one_line(monkeypatch):
    def main():
        raise MemoryError

    monkeypatch.setattr(sys, "argv", ["a.py"])
    monkeypatch.setattr(cli, "ENDING", ())  # this process keeps its signals
    with pytest.raises(SystemExit) as end:
        cli.run_main(main)
    assert str(end.value).startswith("a.py: error: out of memory; ")


TURNS_A_SIGNAL_INTO_AN_ERROR = """
import os, signal, time
from ssd.cli import run_main
def main():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except BaseException:
        raise ImportError("initialization failed") from None  # as C extensions have it
run_main(main)
"""


@pytest.mark.parametrize("driver", ["runs", "killed", "gone"])
def test_a_script_ends_with_its_driver_even_before_it_began(driver):
    process = subprocess.Popen(["sleep", "600"])
    if driver != "runs":
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # and stays listed
    if driver == "gone":
        process.wait()
    env = os.environ | {"SSD_DRIVER": str(process.pid)}
    done = subprocess.run([sys.executable, "-c", "import ssd"], cwd=ROOT, env=env)
    process.kill()
    process.wait()
    assert done.returncode == (0 if driver == "runs" else 143)


DISTURBED = """
import os, signal
from ssd.cli import run_main, undisturbed
def main():
    with undisturbed():
        with undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)  # a second one changes nothing
        print("done")
    print("not to be printed")
run_main(main)
"""


def test_a_signal_waits_for_a_step_that_must_not_be_half_done():
    done = run_code(DISTURBED)
    assert (done.returncode, done.stdout) == (143, "done\n")
    assert done.stderr == "-c: stopped by SIGTERM; what was done is kept\n"


def test_a_signal_that_a_library_turns_into_an_error_is_still_that_signal():
    done = run_code(TURNS_A_SIGNAL_INTO_AN_ERROR)
    assert done.returncode == 143
    assert done.stderr == "-c: stopped by SIGTERM; what was done is kept\n"


STOPPED_AS_IT_BEGINS = """
import os, signal
from ssd.cli import Stop, run_main
def main():
    install = signal.signal
    def signal_once_installed(signum, handler):
        before = install(signum, handler)
        os.kill(os.getpid(), signal.SIGINT)
        return before
    signal.signal = signal_once_installed
    with Stop():
        print("not to be printed")  # a second signal has come
run_main(main)
"""


def test_a_signal_is_heard_in_the_moment_in_which_a_stage_begins_to_listen():
    done = run_code(STOPPED_AS_IT_BEGINS)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "-c: stopped by SIGINT; what was done is kept\n"
