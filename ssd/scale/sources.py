"""Where images lie: folders, patterns, lists, and object stores through pyarrow.fs.

A location is the absolute path of a local file, or a URI such as s3://bucket/a.jpg.
"""

import os
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import Any

from ssd import coco, images
from ssd.cli import KitError
from ssd.files import natural_key, read_lines

import pyarrow as pa
from pyarrow import fs

SOURCE = pa.schema(  # of an image that is to be read; all but the first null if not known
    {"path": pa.string(), "image_id": pa.int64(), "width": pa.int32(), "height": pa.int32()}
)


def is_uri(location: str) -> bool:
    return "://" in location


def open_location(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI, and the path in it. Raises KitError if there is none."""
    try:
        return fs.FileSystem.from_uri(uri)
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise KitError(f"{uri}: cannot be opened ({error}); check the address") from None


def list_images(what: str) -> list[str]:
    """Return the locations of the images that a text names, each once, in natural order.

    what: an image, a folder (not those in it), a pattern where ** goes through folders, a .txt file
    with a location a line, which keeps its order, or the URI of one of the first two.
    Raises KitError if there is none.
    """
    if is_uri(what):
        found = _list_store(what)
    elif os.path.isdir(what):
        with os.scandir(what) as entries:
            found = _named_as_images(entry.path for entry in entries)
    elif what.lower().endswith(".txt"):
        return _read_list(Path(what))
    elif os.path.isfile(what):
        found = [what]
    else:
        found = _named_as_images(glob(what, recursive=True))
    if not found:
        kinds = " ".join(images.SUFFIXES)
        raise KitError(f"{what}: no image there; their names end in {kinds}")
    found.sort(key=lambda name: (natural_key(Path(name)), name))
    return [absolute(name) for name in found]


def absolute(location: str) -> str:
    """Return a location that means the same to a worker in another folder."""
    return location if is_uri(location) else os.path.abspath(location)


def _named_as_images(paths: Any) -> list[str]:
    suffixes = images.SUFFIXES
    return [p for p in paths if p.lower().endswith(suffixes) and not Path(p).name.startswith(".")]


def _list_store(uri: str) -> list[str]:
    """Return the URI of an object, or of each image in a folder of a store."""
    store, path = open_location(uri)
    try:
        if store.get_file_info(path).type == fs.FileType.File:
            return [uri]
        infos = store.get_file_info(fs.FileSelector(path))
    except (OSError, pa.ArrowException) as error:
        raise KitError(f"{uri}: cannot be listed ({error}); check address and access") from None
    names = [info.base_name for info in infos if info.type == fs.FileType.File]
    base, query, options = uri.partition("?")
    return [f"{base.rstrip('/')}/{name}{query}{options}" for name in _named_as_images(names)]


def _read_list(path: Path) -> list[str]:
    names = [absolute(line) for line in read_lines(path, "a location")]
    if not names:
        raise KitError(f"{path}: names no image; give a location a line")
    return list(dict.fromkeys(names))


def read_location(location: str) -> BytesIO | None:
    """Return what lies at a URI; None for a local path, which is opened by its name.

    Raises KitError if it cannot be read.
    """
    if not is_uri(location):
        return None
    store, path = open_location(location)
    try:
        with store.open_input_stream(path) as stream:
            return BytesIO(stream.read())
    except (OSError, pa.ArrowException) as error:
        raise KitError(f"{location}: cannot be read ({error}); check address and access") from None


def source_table(locations: list[str]) -> pa.Table:
    """Return images of which nothing but the location is known.

    Raises KitError if a name is no text.
    """
    columns = [_texts(locations), *(pa.nulls(len(locations), kind) for kind in SOURCE.types[1:])]
    return pa.table(columns, schema=SOURCE)


def data_table(data: coco.DataSet, folder: str) -> pa.Table:
    """Return the selected images of a data set that lie in `folder`, a path or a URI.

    Raises KitError if a file name leads out of it.
    """
    rows = [(coco.image_path(Path(), image["file_name"]), image) for image in data.selected]
    places = [absolute(f"{folder.rstrip('/')}/{name.as_posix()}") for name, _ in rows]
    columns = [[image[key] for _, image in rows] for key in ("id", "width", "height")]
    return pa.table(dict(zip(SOURCE.names, [_texts(places), *columns], strict=True)), SOURCE)


def _texts(locations: list[str]) -> pa.Array:
    try:
        return pa.array(locations, pa.string())
    except UnicodeEncodeError as error:
        raise KitError(f"{error.object}: a name that is not UTF-8; rename it") from None
