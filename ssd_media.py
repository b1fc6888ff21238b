"""Pictures, videos and cameras in; pictures and videos out, named after their sources."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from threading import Event

import cv2
import numpy as np

from ssd_files import KitError, atomic, natural_key, write_bytes

PICTURE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif"),
    *(".tiff", ".webp"),
)
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
WRITTEN_SUFFIXES = (".jpeg", ".jpg", ".png")  # names of others get .png added
VIDEO_OUT, FOURCC = ".mp4", "mp4v"  # what every build of OpenCV can write
DEFAULT_FPS = 25.0  # where a video or camera does not tell
MAX_NAME = 200  # bytes: file systems take 255, and a temporary name is longer


def shown(text: object) -> str:
    """Return a name or message fit for one line: what cannot be printed is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(source: str) -> list[Path]:
    """Return the files that a source names, in natural order.

    A file is itself, whatever its suffix. Of a folder (not of those in it) and of a pattern, where
    ** goes through folders, the pictures and videos. Raises KitError if there is none.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found, place = list(path.iterdir()), "in this folder"
    elif glob(source, recursive=True):
        found, place = [Path(name) for name in glob(source, recursive=True)], "among what it names"
    else:
        raise KitError(f"{source}: no such file or folder, and no pattern that names one")
    suffixes = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    found = [one for one in found if one.suffix.lower() in suffixes and one.is_file()]
    found = [one for one in found if not one.name.startswith(".")]
    if not found:
        kinds = " ".join(suffixes)
        raise KitError(f"{source}: no picture or video {place}; their names end in {kinds}")
    return sorted(found, key=lambda one: (natural_key(one), str(one)))


def target_paths(sources: list[Path], folder: Path) -> list[Path]:
    """Return where each source's result goes: its own name, with a suffix that can be written.

    No two are the same, not even where upper and lower case are. Raises KitError if a source lies
    in `folder`.
    """
    used: set[str] = set()
    targets = []
    for source in sources:
        if folder.resolve() in (source.resolve().parent, source.parent.resolve()):
            raise KitError(f"{folder}: holds the source {source.name}; choose another --output")
        stem, suffix = target_name(source)
        name, number = stem + suffix, 2
        while name.casefold() in used:
            name, number = f"{stem}_{number}{suffix}", number + 1
        used.add(name.casefold())
        targets.append(folder / name)
    return targets


def target_name(source: Path) -> tuple[str, str]:
    """Return stem and suffix of a result's name, short enough for a temporary name beside it."""
    kept, added = ((VIDEO_OUT,), VIDEO_OUT) if is_video(source) else (WRITTEN_SUFFIXES, ".png")
    stem, suffix = source.stem, source.suffix
    if suffix.lower() not in kept:
        stem, suffix = source.name, added
    if len(os.fsencode(stem)) > MAX_NAME:
        stem = stem[: MAX_NAME // 4]  # a letter has up to four bytes
    return stem, suffix


def write_picture(path: Path, bgr: np.ndarray) -> None:
    """Write a picture, (H, W, 3) uint8, in the format of its suffix, whole or not at all."""
    try:
        data = cv2.imencode(path.suffix.lower(), bgr)[1]
    except cv2.error as error:
        raise KitError(f"{path}: cannot be written ({error.err}); name the source .png") from None
    write_bytes(path, memoryview(data))


def open_video(source: Path | int) -> cv2.VideoCapture | None:
    """Open a video file or a camera; None if OpenCV cannot, or finds no frame in the file."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it would write to stderr by itself
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # it moved in OpenCV 5; 0 is silent
    if isinstance(source, int):
        capture = cv2.VideoCapture(source)
        return capture if capture.isOpened() else None
    name = str(source.absolute())  # to FFmpeg `a:b.mp4` alone would start with a protocol
    try:
        return cv2.VideoCapture(name) if cv2.VideoCapture(name).grab() else None
    except UnicodeEncodeError:  # a name that is no text
        return None


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Return a capture's frames per second, DEFAULT_FPS if it does not tell."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else DEFAULT_FPS


@contextmanager
def recording(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Give a function that adds a frame, (H, W, 3) uint8, to a video; whole or not at all.

    All frames have the size of the first; OpenCV drops the last row or column of an odd one.
    Raises KitError if the video cannot be written, or no frame came.
    """
    with atomic(path) as temporary:
        scratch = temporary.with_suffix(VIDEO_OUT)  # its suffix tells OpenCV the format
        writer = cv2.VideoWriter()
        frames = 0

        def write(bgr: np.ndarray) -> None:
            nonlocal frames
            if not frames:
                size, code = bgr.shape[1::-1], cv2.VideoWriter_fourcc(*FOURCC)
                writer.open(str(scratch), cv2.CAP_FFMPEG, code, fps, size)
            writer.write(bgr)
            frames += 1

        try:
            yield write
            writer.release()
            if frames != count_frames(scratch):  # the writer itself tells no error
                raise KitError(f"{path}: cannot write this video; free space or choose another")
            os.replace(scratch, temporary)
        finally:
            writer.release()
            scratch.unlink(missing_ok=True)


def count_frames(path: Path) -> int:
    """Return how many frames a video file says it has, 0 if it cannot be opened."""
    capture = open_video(path)
    return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture else 0


@contextmanager
def ctrl_c_sets(stop: Event) -> Iterator[None]:
    """Let the first Ctrl-C set an event instead of breaking off; a second one breaks off."""

    def handle(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
