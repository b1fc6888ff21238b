"""Worker processes and threads, with few jobs on their way at any time."""

import argparse
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import connection, get_context, parent_process
from queue import SimpleQueue
from typing import Any

from ssd import signal_with_parent
from ssd.cli import KitError, positive

AHEAD = 2  # batches read before the one that runs, and batches on their way out after it
PATIENCE = 1  # seconds that workers may take to finish a job when the work is broken off
POLL = 0.02  # seconds between looks at running processes
PENDING = 2  # jobs of a worker process at a time: one in work, and the next


def num_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def add_workers_argument(parser: argparse.ArgumentParser, task: str) -> None:
    """Add --workers, the number of processes for a task, which is said in the help."""
    parser.add_argument(
        "--workers",
        metavar="N",
        type=positive,
        default=num_cpus(),
        help=f"processes that {task} (default: all CPUs)",
    )


def end_with_parent() -> None:
    """In a worker process: end it when its parent is gone, as after a kill it would wait for ever.

    An orphan would also keep open what reads its output. Ctrl-C reaches all processes, and only the
    parent is to say so; SIGTERM ends a worker at once, whatever its parent makes of it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_processes(commands: list[list[str]], **settings: Any) -> list[int | None]:
    """Run commands side by side; return their statuses, -N for one that signal N ended.

    The first that fails ends the others, whose status is then None, and all end with this process,
    even if it is killed. settings: those of subprocess.Popen.
    """
    settings["preexec_fn"] = partial(signal_with_parent, signal.SIGKILL)
    running: list[subprocess.Popen] = []
    statuses: list[int | None] = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, **settings))
        while None in (statuses := [process.poll() for process in running]):
            if any(statuses):
                break
            time.sleep(POLL)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return statuses


def _serve(
    pipe: connection.Connection, work: Callable[..., Any], inherited: list[connection.Connection]
) -> None:
    """Answer jobs in a worker process, each with (True, result) or (False, exception).

    inherited: the parent's ends of pipes that a fork has copied; while they are open here, no
    worker would see that the parent has closed them.
    """
    end_with_parent()
    for end in inherited:
        end.close()
    jobs: SimpleQueue[tuple | None] = SimpleQueue()

    def take() -> None:  # beside the work: a large job and a large answer would wait for each other
        try:
            with suppress(EOFError, OSError):  # the parent has closed its end
                while True:
                    jobs.put(pipe.recv())
        finally:
            jobs.put(None)

    threading.Thread(target=take, daemon=True).start()
    with suppress(OSError):  # as above
        while (job := jobs.get()) is not None:
            try:
                answer = True, work(*job)
            except Exception as error:
                answer = False, error
            pipe.send(answer)


class Pool:
    """Worker processes that run `work` on jobs; results come in the order of the jobs.

    Each worker has a pipe of its own, so that one that is killed, even in the middle of an answer,
    is noticed: then KitError is raised, where concurrent.futures may wait for ever. With one worker
    the work is done in this process.
    method: `fork` starts quickest; `spawn` where the process has threads, as engines do.
    """

    def __init__(self, work: Callable[..., Any], workers: int, method: str = "fork") -> None:
        self.work = work
        self.done: dict[int, Any] = {}  # job number -> result that was not yielded yet
        self.count = self.given = 0  # jobs, and results yielded
        self.jobs: list[deque[int]] = []  # of each worker, those that it has not answered
        self.pipes: list[connection.Connection] = []
        self.processes = []
        context = get_context(method)
        for _ in range(workers if workers > 1 else 0):
            mine, theirs = context.Pipe()
            self.pipes.append(mine)
            inherited = self.pipes if method == "fork" else []
            process = context.Process(target=_serve, args=(theirs, work, inherited), daemon=True)
            process.start()
            theirs.close()  # else its end would stay open when the worker is gone
            self.processes.append(process)
            self.jobs.append(deque())

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self.pipes:
            pipe.close()
        patience = time.monotonic() + PATIENCE  # so that no half-written file is left
        for process in self.processes:
            process.join(max(0, patience - time.monotonic()))
            process.terminate()
            process.join()

    def submit(self, *job: Any) -> None:
        """Hand a job to the worker with the fewest; wait while all have enough.

        Raises KitError if a worker was killed, and what `work` raises.
        """
        number, self.count = self.count, self.count + 1
        if not self.pipes:
            self.done[number] = self.work(*job)
            return
        while min(map(len, self.jobs)) >= PENDING:
            self._receive()
        worker = min(range(len(self.jobs)), key=lambda i: len(self.jobs[i]))
        try:
            self.pipes[worker].send(job)
        except OSError:
            raise _killed() from None
        self.jobs[worker].append(number)

    def _receive(self) -> None:
        """Take the answers that are there; wait for one if none is."""
        busy = [pipe for pipe, jobs in zip(self.pipes, self.jobs, strict=True) if jobs]
        for pipe in connection.wait(busy):
            try:
                fine, value = pipe.recv()
            except (EOFError, OSError):
                raise _killed() from None
            number = self.jobs[self.pipes.index(pipe)].popleft()
            if not fine:
                raise value
            self.done[number] = value

    def ready(self) -> Iterator[Any]:
        """Yield the results that are there, in order, each once."""
        while self.given in self.done:
            yield self.done.pop(self.given)
            self.given += 1

    def rest(self) -> Iterator[Any]:
        """Yield the results that were not yielded yet, in order, waiting for them.

        If a job failed, only those before it.
        """
        yield from self.ready()
        while any(self.jobs):
            self._receive()
            yield from self.ready()

    def map(self, jobs: Iterable[tuple]) -> Iterator[Any]:
        """Yield the result of each job, in order."""
        for job in jobs:
            self.submit(*job)
            yield from self.ready()
        yield from self.rest()


def _killed() -> KitError:
    return KitError("a worker was killed (out of memory?); what was done is kept; try --workers 1")


def prefetch(
    work: Callable[[Any], Any], jobs: Iterable[Any], threads: int = 1, ahead: int = AHEAD
) -> Iterator[tuple[Any, Any]]:
    """Yield (job, work(job)) in order; threads work up to `ahead` jobs in advance."""
    waiting: deque[tuple[Any, Future]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                waiting.append((job, pool.submit(work, job)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


class Sink:
    """Hands each image's outputs to threads, so that few are waiting at any time.

    take: called with each result, in order; without it they are kept for `close`.
    """

    def __init__(
        self,
        executor: Executor,
        work: Callable[..., Any],
        limit: int,
        take: Callable[[Any], None] | None = None,
    ) -> None:
        self.executor, self.work, self.limit = executor, work, limit
        self.waiting: deque[Future] = deque()
        self.done: list[Any] = []
        self.take = take or self.done.append

    def put(self, *job: Any) -> None:
        self.waiting.append(self.executor.submit(self.work, *job))
        while len(self.waiting) > self.limit:
            self.take(self.waiting.popleft().result())

    def close(self) -> list[Any]:
        """Wait for all, and return what the workers returned, in order, unless it was taken."""
        while self.waiting:
            self.take(self.waiting.popleft().result())
        self.executor.shutdown()
        return self.done
