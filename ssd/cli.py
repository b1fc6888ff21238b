"""The command line of every stage: options, errors, progress, and how a stage ends."""

import argparse
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COCO_SERVER = "http://images.cocodataset.org"
SOURCES = {  # where what the kit reads is fetched from, for messages
    "images": f"COCO's: {COCO_SERVER}/zips/val2017.zip",
    "annotations": f"COCO's: {COCO_SERVER}/annotations/annotations_trainval2017.zip",
    "checkpoint": "iter_183250.pt: https://www.hiascend.com/zh/software/modelzoo/models/detail/2/"
    "4845219a98e5426199b59b149d3a9a56",
    "trunk": "https://download.pytorch.org/models/resnet34-333f7ec4.pth",
}
CHECKPOINT = Path("models/iter_183250.pt")  # where it is looked for
PULSE = 30  # seconds between lines of progress where there is no terminal


_stopped_by: list[int] = []  # the signal that ends this process, once it has come
_held: list[None] = []  # an entry for each step that is not to be disturbed


class KitError(Exception):
    """Something that the user can put right; the message names the file and the remedy."""


class Stopped(BaseException):
    """A signal that ends the stage; as BaseException no handler of errors takes it for one."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


def run_main(main: Callable[[], int | None]) -> None:
    """Run a stage and leave with its status; a KitError becomes one line on stderr and exit 1.

    So does what the system refuses for a path. What stdout's encoding lacks is printed escaped.
    SIGINT, SIGTERM and SIGHUP end it alike: what is temporary goes, one line, status 128 + n.
    """
    name = Path(sys.argv[0]).name
    for signum in ENDING:
        if signal.getsignal(signum) != signal.SIG_IGN:  # as nohup has it
            signal.signal(signum, _stop)
    if sys.stdout is None:
        sys.exit(f"{name}: error: stdout is closed; leave it open, such as >/dev/null")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _heeding_signals(main)
        sys.stdout.flush()
        sys.exit(status)
    except KitError as error:
        sys.exit(f"{name}: error: {printable(str(error))}")
    except Stopped as stopped:
        note(f"{name}: stopped by {signal.Signals(stopped.signum).name}; what was done is kept")
        sys.exit(128 + stopped.signum)
    except MemoryError:
        sys.exit(f"{name}: error: out of memory; free some, or give --workers 1 or a smaller batch")
    except BrokenPipeError:  # the reader of stdout (head, less) has gone
        drop_stdout()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.filename is None:  # most likely stdout, on a full disk
            drop_stdout()
        where = "stdout or a file" if error.filename is None else printable(str(error.filename))
        sys.exit(f"{name}: error: {where}: {error.strerror or error}; check it and its disk")


def _heeding_signals(main: Callable[[], int | None]) -> int | None:
    """Return main's status. Raises Stopped for what a library made of a signal, an ImportError."""
    try:
        return main()
    except Exception:
        if _stopped_by:
            raise Stopped(_stopped_by[0]) from None
        raise


def drop_stdout() -> None:
    """Let what cannot be printed go nowhere, so that leaving does not fail on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """Return a text as one line: control characters and lone surrogates are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _stop(signum: int, _frame: object) -> None:
    _stopped_by.append(signum)
    for each in ENDING:  # once is enough: cleaning up is not to be interrupted
        signal.signal(each, signal.SIG_IGN)
    if not _held:
        raise Stopped(signum)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let a signal that would end the stage wait until a step that must not be half done is."""
    _held.append(None)
    try:
        yield
    finally:
        _held.pop()
    if _stopped_by and not _held:
        raise Stopped(_stopped_by[0])


class Stop(threading.Event):
    """Within it, the first signal that would end the stage sets this event instead.

    So that what is done can be finished; a second signal ends the stage at once. signum: of the
    signal, 0 until then.
    """

    signum = 0

    def __enter__(self) -> "Stop":
        before = {signum: signal.getsignal(signum) for signum in ENDING}
        self.before = {key: value for key, value in before.items() if value != signal.SIG_IGN}
        for signum in self.before:  # which a signal from now on finds whole
            signal.signal(signum, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def _hear(self, signum: int, _frame: object) -> None:
        self.signum = signum
        self.set()
        self.__exit__()


def note(message: str) -> None:
    """Print something that is not a result, on stderr."""
    print(message, file=sys.stderr, flush=True)


def first_few(names: Iterable[object], limit: int = 5) -> str:
    """Join the first names with commas, and say with an ellipsis that there are more."""
    names = [str(name) for name in names]
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts: `1 image`, `2 images`."""
    return f"{number} {noun}{'s' * (number != 1)}"


class ArgumentParser(argparse.ArgumentParser):
    """argparse as all stages use it.

    Options are accepted with `-` and with `_`, as `--x V` and `--x=V`, and never abbreviated.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**settings, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        declared = {name.replace("_", "-"): name for name in self._option_string_actions}
        words = []
        for word in sys.argv[1:] if args is None else args:
            name, equals, value = word.partition("=")
            name = declared.get(name.replace("_", "-"), name) if word[:2] == "--" else name
            words.append(name + equals + value)
        return super().parse_known_args(words, namespace)


def positive(text: str) -> int:
    """Return a whole number from 1 on: the type of counts among the options."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least 1")
    return int(text)


def fraction(text: str) -> float:
    """Return a number from 0 to 1: the type of scores and mAP among the options."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 1")
    return value


def seconds(text: str) -> float:
    """Return a time above 0: the type of how long something is timed."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be seconds, more than 0")
    return value


def file_to_check(text: str) -> Path:
    """Return a path that is written and then read again: the type of such outputs."""
    path = Path(text)
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: is read again once written; give a plain file")
    return path


def sizes(text: str) -> list[int]:
    """Return the batch sizes of a list such as 1,16, without those that come again."""
    try:
        return list(dict.fromkeys(positive(part) for part in text.split(",")))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text}: must be sizes such as 1,16") from None


class _Lines(tqdm):
    """Progress as a line now and then, where stderr is no terminal."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:
            note(str(self))


def progress(
    items: Iterable[Any] | None = None, title: str = "", total: int | None = None, **settings: Any
) -> tqdm:
    """Return tqdm's progress bar over `items`; without a terminal, a line each PULSE seconds.

    settings: tqdm's; `unit` is `image` unless given.
    """
    settings = {"unit": "image"} | settings
    if sys.stderr.isatty():
        return tqdm(items, title, total, **settings)
    settings |= {"mininterval": PULSE, "maxinterval": PULSE, "delay": PULSE, "leave": False}
    form = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}"
    return _Lines(items, title, total, bar_format=form, **settings)


@contextmanager
def working(title: str) -> Iterator[None]:
    """Print a line each PULSE seconds while something runs whose progress cannot be counted."""
    done = threading.Event()
    start = time.monotonic()

    def pulse() -> None:
        while not done.wait(PULSE):
            note(f"{title}: {time.monotonic() - start:.0f} s")

    thread = threading.Thread(target=pulse, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
