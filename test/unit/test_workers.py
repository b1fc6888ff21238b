"""Worker processes: order, errors and kills that come out at once, and who ends with whom."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ssd.cli import KitError
from ssd.workers import PENDING, Pool, run_processes

import pytest
from models import ROOT, gone

METHODS = ["fork", "spawn"]
SLEEP = "import time; time.sleep(600)"


def square(n):
    return n * n, os.getpid()


def slow_first(n, folder):
    """The first job ends after the second, which another worker has."""
    if n == 0:
        while not (folder / "1").exists():
            time.sleep(0.001)
    (folder / str(n)).touch()
    return n


def picky(n):
    if n == 5:
        raise KitError("5: bad; give another")
    return n


def send_half(n):
    """Send a part of an answer, as a worker does that is killed while it sends a long one."""
    if n == 2:
        for path in Path("/proc/self/fd").iterdir():
            if os.path.islink(path) and os.readlink(path).startswith("socket:"):
                os.write(int(path.name), (1000).to_bytes(4, "big") + b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_are_the_same_and_in_order_with_any_number_of_workers(workers, method):
    with Pool(divmod, workers, method) as pool:
        results = list(pool.map((n, 7) for n in range(40)))
    assert results == [(n // 7, n % 7) for n in range(40)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_work_is_done_in_as_many_processes_as_asked_for(workers):
    with Pool(square, workers) as pool:
        pids = {pid for _, pid in pool.map((n,) for n in range(40))}
    assert len(pids) == workers
    assert (os.getpid() in pids) == (workers == 1)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_no_job_gives_no_result(workers):
    with Pool(square, workers) as pool:
        assert list(pool.map([])) == []
        assert list(pool.ready()) == [] and list(pool.rest()) == []


def test_a_result_waits_for_those_before_it(tmp_path):
    with Pool(slow_first, 2) as pool:
        assert list(pool.map((n, tmp_path) for n in range(6))) == list(range(6))


def test_few_jobs_are_on_their_way_at_any_time():
    with Pool(square, 2) as pool:
        for n in range(40):
            pool.submit(n)
            assert sum(map(len, pool.jobs)) <= 2 * PENDING
        got = [*pool.ready(), *pool.rest()]
    assert [result for result, _ in got] == [n * n for n in range(40)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_in_a_worker_comes_back_as_itself(workers):
    seen = []
    with pytest.raises(KitError, match="5: bad; give another"), Pool(picky, workers) as pool:
        seen.extend(pool.map((n,) for n in range(1000)))
    assert seen == list(range(len(seen))) and len(seen) <= 5
    with pytest.raises(ZeroDivisionError), Pool(divmod, workers, "spawn") as pool:
        list(pool.map((1, n) for n in (3, 2, 1, 0)))


@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_job_that_failed_nothing_is_waited_for_and_no_answer_changes_places(workers):
    results = []
    with Pool(picky, workers) as pool:
        with pytest.raises(KitError):
            for n in range(1000):
                pool.submit(n)
        results += pool.rest()
        assert list(pool.rest()) == []
    assert results == list(range(len(results))) and len(results) <= 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [6, 1000])
def test_a_worker_that_is_killed_in_the_middle_of_a_job_is_noticed(count, method):
    jobs = [(0,)] * 5 + [(signal.SIGKILL,)] + [(0,)] * (count - 6)  # 0 is no signal
    with (
        pytest.raises(KitError, match="a worker was killed .*--workers 1"),
        Pool(signal.raise_signal, 2, method) as pool,
    ):
        assert next(pool.map(jobs[:1])) is None  # the workers are up
        list(pool.map(jobs))
    assert not any(process.is_alive() for process in pool.processes)


def test_a_worker_that_is_killed_in_the_middle_of_an_answer_is_noticed():
    with pytest.raises(KitError, match="a worker was killed"), Pool(send_half, 2) as pool:
        list(pool.map((n,) for n in range(40)))


def test_an_idle_worker_that_is_killed_is_noticed_by_its_next_job():
    with pytest.raises(KitError, match="a worker was killed"), Pool(square, 2) as pool:
        list(pool.map((n,) for n in range(4)))
        for process in pool.processes:
            process.kill()
            process.join()
        list(pool.map((n,) for n in range(4)))


def test_large_jobs_and_large_answers_do_not_wait_for_each_other():
    jobs = [(bytes([n]) * 1_000_000,) for n in range(12)]
    found = []
    with Pool(bytes, 2) as pool:
        thread = threading.Thread(target=lambda: found.extend(pool.map(jobs)), daemon=True)
        thread.start()
        thread.join(60)
        for process in pool.processes if thread.is_alive() else []:
            process.kill()
    assert found == [data for (data,) in jobs]


def test_a_large_job_reaches_a_worker_that_is_busy():
    with Pool(len, 2) as pool:
        assert list(pool.map((bytes(10**7),) for _ in range(8))) == [10**7] * 8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_workers_end_with_their_parent(how, method, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        f"import sys, time; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\n"
        "from ssd.workers import Pool\n"
        "if __name__ == '__main__':\n"
        f"    pool = Pool(time.sleep, 3, {method!r})\n"
        "    for _ in range(3): pool.submit(600)\n"
        "    print(*(process.pid for process in pool.processes), flush=True)\n"
        "    time.sleep(600)\n"
    )
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **pipes) as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        getattr(process, how)()
    assert len(pids) == 3 and all(map(gone, pids))


def python(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("statuses", [[0], [0, 0], [3], []])
def test_commands_end_with_their_statuses(statuses):
    assert run_processes([python(f"exit({status})") for status in statuses]) == statuses


def test_commands_run_side_by_side(tmp_path):
    code = (
        "import pathlib, time, sys\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / sys.argv[1]).touch()\n"
        "while len(list(folder.iterdir())) < 2: time.sleep(0.01)\n"
    )
    assert run_processes([[*python(code), name] for name in "ab"]) == [0, 0]


@pytest.mark.parametrize(
    ("code", "status"), [("exit(7)", 7), ("import os; os.kill(os.getpid(), 11)", -11)]
)
def test_the_first_failure_ends_the_others_which_have_no_status(code, status):
    assert run_processes([python(SLEEP), python(code), python(SLEEP)]) == [None, status, None]


def test_settings_reach_the_processes(tmp_path):
    with (tmp_path / "log").open("w") as log:
        code = "import os; print(os.environ['X'])"
        assert run_processes([python(code)], stdout=log, env=os.environ | {"X": "y"}) == [0]
    assert (tmp_path / "log").read_text() == "y\n"


def test_a_command_that_cannot_start_ends_those_that_did(tmp_path):
    noted = tmp_path / "pid"
    code = f"import os, pathlib; pathlib.Path({str(noted)!r}).write_text(str(os.getpid())); {SLEEP}"
    with pytest.raises(FileNotFoundError):
        run_processes([python(code), ["/no/such/program"]])
    assert not noted.exists() or gone(int(noted.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's alone")
@pytest.mark.parametrize("how", ["kill", "terminate", "interrupt"])
def test_commands_end_with_their_parent(how, tmp_path):
    noted, script = tmp_path / "pid", tmp_path / "parent.py"
    code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from ssd.cli import run_main\n"
        "from ssd.workers import run_processes\n"
        f"run_main(lambda: run_processes([[sys.executable, '-c', {code!r}]]) and 0)\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **pipes) as process:
        pid = int(process.stdout.readline())
        number = {"kill": 9, "terminate": 15, "interrupt": 2}[how]
        process.send_signal(number)
        try:
            error = process.communicate(timeout=60)[1]
        finally:
            process.kill()  # where it did not heed the signal
    assert process.returncode == (-9 if how == "kill" else 128 + number)
    assert gone(pid)
    assert error == "" if how == "kill" else error.count("\n") == 1
    assert not noted.exists()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_leave_by_themselves_when_the_work_is_done(method):
    with Pool(abs, 3, method) as pool:
        assert list(pool.map((-n,) for n in range(9))) == list(range(9))
    assert [process.exitcode for process in pool.processes] == [0, 0, 0]  # not ended by a signal
