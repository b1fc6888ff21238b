"""What drivers.sh does for all drivers: options, stages, signals, locks; with a fake python3."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from models import ODD, ROOT, Kit, gone

HOLDERS = {  # of each driver, one that runs while it holds its output
    "ssd_accuracy_ladder.sh": "plan",
    "ssd_eval_acc_perf.sh": "prepare-json.py",
    "ssd_pth2om.sh": "ssd_pth2onnx.py",
    "ssd_sample.sh": "ssd_pth2onnx.py",
}
START = f"""
set -euo pipefail
source {ROOT}/test/drivers.sh
usage() {{ echo "the usage"; }}
opt=([name]='' [two_words]="a default" [flag]=no [other_flag]=no [batch_sizes]="1,16" [output]=.)
parse_options "flag other_flag" "$@"
"""
KEPT = "what was done is kept"
OPTIONS = 'give name two_words flag other_flag\nprintf "<%s>\\n" "${words[@]}"\n'
STAGES = """
count_stages 2
stage "the first" python3 a.py "${opt[two_words]}"
ask python3 b.py
echo "answer $answer"
stage "the second" python3 c.py
finish
"""


@pytest.fixture
def mini(run_driver, tmp_path):
    """Return a function that makes a driver of a few lines over drivers.sh."""

    def make(text):
        path = tmp_path / "mini.sh"
        path.write_text(START + text)
        return Kit(path, run_driver, tmp_path / "machine")

    return make


@pytest.fixture(params=HOLDERS)
def driver(request, run_driver, tmp_path):
    """Each driver of the kit."""
    kit = Kit(request.param, run_driver, tmp_path / "machine")
    kit.out = tmp_path / ODD
    return kit


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], ["--two_words=a default"]),
        (["--name=x y"], ["--name=x y", "--two_words=a default"]),
        (["--name", "x y", "--two-words", "$z"], ["--name=x y", "--two_words=$z"]),
        (["--two-words=a=b"], ["--two_words=a=b"]),
        (["--two_words=--x=y", "--name", "-x"], ["--name=-x", "--two_words=--x=y"]),
        (["--two_words="], []),
        (["--name=no", "--two-words=yes"], ["--name=no", "--two_words=yes"]),
        (["--other-flag", "--flag", "--name=1"], ["--name=1", "--two_words=a default"]),
        (["--name=1", "--name=2"], ["--name=2", "--two_words=a default"]),
    ],
)
def test_each_form_of_an_option_is_read(given, words, mini):
    done = mini(OPTIONS).run(*given)
    flags = ["--flag", "--other_flag"] if "--flag" in given else []
    assert done.stdout.splitlines() == [f"<{word}>" for word in words + flags or [""]]
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--nosuch"], "unknown option --nosuch; see --help"),
        (["--nosuch=1"], "unknown option --nosuch=1; see --help"),
        (["1"], "unknown option 1; see --help"),
        ([""], "unknown option ; see --help"),
        (["-name=1"], "unknown option -name=1; see --help"),
        (["--"], "unknown option --; see --help"),
        (["--Name=1"], "unknown option --Name=1; see --help"),
        (["--na*e=1"], "unknown option --na*e=1; see --help"),
        (["--$(id)=1"], "unknown option --$(id)=1; see --help"),
        (["--nam=1"], "unknown option --nam=1; see --help"),
        (["--name"], "--name needs a value; see --help"),
        (["--two-words"], "--two_words needs a value; see --help"),
        (["--name", "--flag"], "--name needs a value; see --help"),
        (["--flag=1"], "--flag takes no value; see --help"),
        (["--flag", "1"], "unknown option 1; see --help"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(given, message, mini):
    done = mini(OPTIONS).run(*given)
    assert (done.returncode, done.stderr) == (2, f"mini.sh: error: {message}\n")
    assert done.stdout == ""


@pytest.mark.parametrize("text", ["0", "1,", ",1", "01", "1,x", "1 16", "1;ls", "-1", ""])
def test_batch_sizes_are_whole_numbers_joined_by_commas(text, mini):
    done = mini("read_batch_sizes").run(f"--batch_sizes={text}")
    message = f"--batch_sizes={text}: give sizes such as 1,16"
    assert (done.returncode, done.stderr) == (2, f"mini.sh: error: {message}\n")


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_ends_the_run_whatever_else_is_asked(word, mini):
    done = mini(STAGES).run("--name=1", word, "--nosuch")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the usage\n", "")


def test_stages_are_numbered_and_the_last_word_is_success(mini):
    kit = mini(STAGES)
    answer = {"if": ["b.py"], "print": "a line $x\nanother\n"}
    done = kit.run(rules=[answer])
    assert (done.returncode, done.stdout) == (0, "answer a line $x\nanother\nsuccess\n")
    assert done.stderr.splitlines() == ["[1/2] the first", "[2/2] the second"]
    assert kit.calls() == [["a.py", "a default"], ["b.py"], ["c.py"]]


def test_a_driver_in_a_driver_counts_on_and_leaves_it_the_last_word(mini):
    done = mini(STAGES).run(SSD_STAGES="3 9")
    assert (done.returncode, done.stdout) == (0, "answer \n")
    assert done.stderr.splitlines() == ["[4/9] the first", "[5/9] the second"]


@pytest.mark.parametrize(
    ("status", "seen", "message"),
    [
        (1, 1, "stage 'the second' failed (see above); what was done before it is kept"),
        (3, 3, "stage 'the second' failed (see above); what was done before it is kept"),
        (-6, 134, f"stage 'the second' was killed by signal 6; {KEPT}"),
        (-9, 137, f"stage 'the second' was killed by signal 9: out of memory? {KEPT}"),
        (141, 141, f"stage 'the second' ended, as the reader of its output did; {KEPT}"),
        (130, 130, "interrupted in 'the second'; the same command goes on from there"),
        (-15, 143, "interrupted in 'the second'; the same command goes on from there"),
    ],
)
def test_a_failing_stage_ends_the_run_with_its_status(status, seen, message, mini):
    kit = mini(STAGES.replace("finish", "stage 'a third' python3 d.py\nfinish"))
    rules = [{"if": ["c.py"], "status": status, "complain": "c.py: error: it\n"}]
    done = kit.run(rules=rules)
    lines = done.stderr.splitlines()
    assert done.returncode == seen
    assert lines[2] == "c.py: error: it"
    assert lines[-1] == f"mini.sh: error: {message}"
    assert len(kit.calls()) == 3 and "success" not in done.stdout


@pytest.mark.parametrize("status", [1, 4, -9])
def test_a_question_that_fails_ends_the_run_with_its_status(status, mini):
    kit = mini(STAGES)
    done = kit.run(rules=[{"if": ["b.py"], "status": status, "print": "half\n"}])
    assert done.returncode == (status if status > 0 else 137)
    assert len(kit.calls()) == 2 and done.stdout == ""
    assert ("was killed by signal 9: out of memory?" in done.stderr) == (status < 0)


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
@pytest.mark.parametrize("script", ["a.py", "b.py"])
def test_a_signal_to_the_driver_alone_ends_the_running_stage(script, name, mini, tmp_path):
    kit, pid = mini(STAGES), tmp_path / "pid"
    process = kit.start(rules=[{"if": [script], "pid": str(pid), "seconds": 600}])
    process.send_signal(signal.Signals[f"SIG{name}"])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[f"SIG{name}"]
    last = f"mini.sh: error: stopped by SIG{name}; the same command goes on from there"
    assert err.splitlines() == ["[1/2] the first", last]
    assert "success" not in out
    assert gone(int(pid.read_text()))


def test_a_signal_in_a_driver_in_a_driver_ends_both(mini, tmp_path):
    kit, pid = mini(f"run bash {ROOT}/test/ssd_pth2om.sh --output={tmp_path}/o"), tmp_path / "pid"
    process = kit.start(rules=[{"pid": str(pid), "seconds": 600}])
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert gone(int(pid.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's alone")
def test_a_stage_ends_when_its_driver_is_killed(tmp_path):
    script, driver, left = (tmp_path / name for name in ("stage.py", "driver.sh", "left"))
    script.write_text(
        "import os, pathlib, sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from ssd.cli import run_main\n"
        "def main():\n"
        "    try:\n"
        "        print(os.getpid(), flush=True)\n"
        "        time.sleep(600)\n"
        "    finally:\n"
        f"        pathlib.Path({str(left)!r}).write_text('cleaned up')\n"
        "run_main(main)\n"
    )
    driver.write_text(f"{START}count_stages 1\nstage it {sys.executable} {script}\n")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen(["bash", str(driver)], **pipes)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert gone(pid)
    assert left.read_text() == "cleaned up"
    process.stdout.close()


def test_a_second_run_in_the_same_output_is_refused(driver, tmp_path):
    pid = tmp_path / "pid"
    held = driver.out / "models" if driver.driver == "ssd_sample.sh" else driver.out
    env = {"VIRTUAL_ENV": str(tmp_path)}
    rules = [{"if": [HOLDERS[driver.driver]], "pid": str(pid), "seconds": 600}]
    first = driver.start(f"--output={driver.out}", rules=rules, **env)
    done = driver.run(f"--output={driver.out}", **env)
    message = f"{held}: another run is using it; wait for that, or give another --output"
    assert done.returncode == 1
    name = "ssd_pth2om.sh" if driver.driver == "ssd_sample.sh" else driver.driver
    assert done.stderr.splitlines()[-1] == f"{name}: error: {message}"
    threading.Timer(0.5, first.terminate).start()  # the next run waits for it
    done = driver.run(f"--output={driver.out}", **env)
    first.communicate(timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_disk_without_locks_is_written_without(driver, tmp_path):
    (tmp_path / "bin").mkdir()
    flock = tmp_path / "bin" / "flock"
    flock.write_text("#!/bin/sh\nexit 71\n")  # EX_OSERR, as it ends where flock(2) is refused
    flock.chmod(0o755)
    env = {"VIRTUAL_ENV": str(tmp_path), "PATH": f"{flock.parent}{os.pathsep}{os.environ['PATH']}"}
    done = driver.run(f"--output={driver.out}", **env)
    assert done.returncode == 0, done.stderr


def test_an_output_that_is_a_file_is_refused(driver, tmp_path):
    driver.out.write_text("")
    done = driver.run(f"--output={driver.out}", VIRTUAL_ENV=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "cannot be made or is no folder; give another --output" in last
    assert driver.out.read_text() == ""


def test_help_names_every_option_that_the_driver_takes(driver):
    done = driver.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    (table,) = re.findall(
        r"^    opt=\((.*?)\)$", (ROOT / "test" / driver.driver).read_text(), re.M | re.S
    )
    taken = {f"--{name}" for name in re.findall(r"\[(\w+)\]=", table)} | {"--help"}
    named = set(re.findall(r"--\w+", done.stdout.partition("Example:")[0])) | {"--help"}
    assert taken - named == set()
    for name in re.findall(r"^  (--\w+)", done.stdout, re.M):
        assert name in taken
    assert driver.calls() == []


def test_an_unknown_option_is_one_line_before_any_work(driver):
    done = driver.run(f"--output={driver.out}", "--nosuch=1")
    message = "unknown option --nosuch=1; see --help"
    assert (done.returncode, done.stderr) == (2, f"{driver.driver}: error: {message}\n")
    assert driver.calls() == [] and not driver.out.exists()
