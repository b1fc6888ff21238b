"""Which files are read, and how those that are written are named; images out."""

import os
from collections import Counter
from contextlib import suppress
from glob import glob
from pathlib import Path

from ssd import images
from ssd.cli import KitError
from ssd.detect.video import BadFile, quiet_opencv
from ssd.files import natural_key, write_bytes

import cv2
import numpy as np

VIDEO_SUFFIXES = (  # what FFmpeg reads
    *(".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
WRITTEN_SUFFIXES = (".jpeg", ".jpg", ".png")  # an image of another suffix gets .png added
VIDEO_OUT = ".mp4"
MAX_NAME = 200  # bytes of a file name: file systems take 255, and a temporary name is longer


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(source: str) -> tuple[list[Path], Counter[str]]:
    """Return the files that a source names, in natural order, and how many of which suffix it left.

    A file is itself, whatever its suffix. Of a folder (not of those in it) and of a pattern, where
    ** goes through folders, the images and videos. Hidden files do not count. Raises KitError if
    there is none.
    """
    path = Path(source)
    if path.is_file():
        return [path], Counter()
    if path.is_dir():
        found, place = list(path.iterdir()), "in this folder"
    elif names := glob(source, recursive=True):
        found, place = [Path(name) for name in names], "among what it names"
    else:
        raise KitError(f"{source}: no such file or folder, and no pattern that names a file")
    files = [file for file in found if file.is_file() and not file.name.startswith(".")]
    suffixes = images.SUFFIXES + VIDEO_SUFFIXES
    found = [file for file in files if file.suffix.lower() in suffixes]
    kinds = [file.suffix.lower() for file in files]
    left = Counter(sorted((kind for kind in kinds if kind not in suffixes), reverse=True))
    if not found:
        kinds = " ".join(suffixes)
        raise KitError(f"{source}: no image or video {place}; their names end in {kinds}")
    return sorted(found, key=lambda file: (natural_key(file), str(file))), left


def target_paths(sources: list[Path], folder: Path) -> list[Path]:
    """Return where each source's result goes: its name, with a suffix that can be written.

    No two are the same, not even where upper and lower case are. Raises KitError if a source lies
    in `folder`.
    """
    used: set[str] = set()
    targets = []
    for source in sources:
        parents = os.path.dirname(os.path.realpath(source)), os.path.realpath(source.parent)
        if os.path.realpath(folder) in parents:
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


def write_image(path: Path, bgr: np.ndarray) -> None:
    """Write an image, (H, W, 3) uint8, in the format of its suffix, whole or not at all.

    Raises BadFile if the format cannot take it.
    """
    quiet_opencv()
    with suppress(cv2.error):  # OpenCV 5 returns false instead
        fine, data = cv2.imencode(path.suffix.lower(), bgr)
        if fine:
            write_bytes(path, memoryview(data))
            return
    height, width = bgr.shape[:2]
    raise BadFile(f"{path}: cannot be written, {width}x{height} pixels; name the source .png")
