"""File names, sizes and types of the kit, whole-or-nothing writing, and the one error class."""

import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np

from ssd_boxes import INPUT_SIZE, NUM_BOXES

INPUT_SHAPES = {  # of one picture, for each dtype that ssd_preprocess.py writes
    "float32": (3, INPUT_SIZE, INPUT_SIZE),
    "uint8": (INPUT_SIZE, INPUT_SIZE, 3),
}
OUTPUT_NAMES = ("ploc", "plabel")  # in the order of the model's outputs
TENSOR_SUFFIXES = (".bin", ".npy")
CHECKPOINT_KEY = "checkpoint_sha256"  # in an ONNX file's metadata, and in summaries and reports


class KitError(Exception):
    """Something that the user can put right; the message names the file and the remedy."""


def run_main(main: Callable[[], int | None]) -> None:
    """Run a stage and leave with its status; a KitError becomes one line on stderr and exit 1."""
    try:
        sys.exit(main())
    except KitError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of stdout (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def note(message: str) -> None:
    """Tell the user something that is not a result."""
    print(message, file=sys.stderr)


def num_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def end_with_parent() -> None:
    """In a worker process: end it when its parent is gone, as after a kill it would wait for ever.

    For ProcessPoolExecutor's `initializer`. An orphan would also keep open what reads its output.
    Ctrl-C reaches all processes: only the parent is to tell of it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def tensor_stem(image_id: int) -> str:
    """Return the file name, without suffix, that belongs to a picture: `tensor([139])`."""
    return f"tensor([{image_id}])"


def tensor_id(path: Path) -> int | None:
    """Return the image id in a file name such as `tensor([139])_0.bin`, None if there is none."""
    match = re.match(r"tensor\(\[(\d+)\]\)", path.name)
    return int(match[1]) if match else None


def first_few(names: Iterable[object], limit: int = 5) -> str:
    """Join the first names with commas, and say with an ellipsis that there are more."""
    names = [str(name) for name in names]
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def natural_key(path: Path) -> list:
    """Sort key that puts `tensor([9])` before `tensor([10])`, as ais_bench does."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def tensor_files(folder: Path) -> list[Path]:
    """Return the tensor files of a folder in natural order.

    Raises KitError if the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise KitError(f"{folder}: no such folder; make it with ssd_preprocess.py")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in TENSOR_SUFFIXES]
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise KitError(f"{folder}: no .bin or .npy file; fill it with ssd_preprocess.py")
    return sorted(paths, key=natural_key)


def input_bytes(dtype: str) -> int:
    """Return the size of one picture's input file."""
    return int(np.prod(INPUT_SHAPES[dtype])) * np.dtype(dtype).itemsize


def output_bytes(labels: int) -> int:
    """Return the size of one picture's two output files together, in float32."""
    return 4 * NUM_BOXES * (4 + labels)


def input_layout(path: Path) -> tuple[str, tuple[int, ...]]:
    """Tell an input file's dtype and shape, by its size (.bin) or header (.npy).

    Raises KitError if it is neither of INPUT_SHAPES.
    """
    if path.suffix.lower() == ".npy":
        array = load_npy(path)
        known = [d for d, s in INPUT_SHAPES.items() if (d, s) == (str(array.dtype), array.shape)]
        found = f"{array.dtype} {array.shape}"
    else:
        known = [dtype for dtype in INPUT_SHAPES if input_bytes(dtype) == path.stat().st_size]
        found = f"{path.stat().st_size} bytes"
    if not known:
        raise KitError(
            f"{path}: {found}, expected float32 {INPUT_SHAPES['float32']} or uint8 "
            f"{INPUT_SHAPES['uint8']}; make it again with ssd_preprocess.py --force"
        )
    return known[0], INPUT_SHAPES[known[0]]


def load_npy(path: Path) -> np.ndarray:
    """Read one .npy file. Raises KitError if it is not one."""
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path}: not a whole .npy file ({error}); make it again") from None


def read_tensor(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read one tensor whose dtype and shape are known; the result may be read-only.

    Raises KitError if the file is missing or of another size.
    """
    try:
        if path.suffix.lower() == ".npy":
            array = load_npy(path)
            if (str(array.dtype), array.size) == (dtype, np.prod(shape)):
                return array.reshape(shape)
            found = f"{array.dtype} {array.shape}"
        else:
            data = path.read_bytes()
            if len(data) == np.prod(shape) * np.dtype(dtype).itemsize:
                return np.frombuffer(data, dtype).reshape(shape)
            found = f"{len(data)} bytes"
    except OSError as error:
        raise KitError(f"{path}: cannot read: {error.strerror}") from None
    raise KitError(f"{path}: {found}, expected {dtype} {shape}; make it again")


def output_paths(folder: Path) -> dict[int, list[Path]]:
    """Map image id to its output files `tensor([ID])_K`, in order of K.

    Folders under `folder` are looked through too: those of several devices (`device0_0/`), and the
    dated one of the tool of 2022. Where each device ran all inputs, the first counts.
    Raises KitError if the folder is missing.
    """
    if not folder.is_dir():
        raise KitError(f"{folder}: no such folder; run ssd_infer.py or ais_bench first")
    found: dict[int, list[Path]] = {}
    for path in sorted([*folder.glob("tensor*"), *folder.glob("*/tensor*")]):
        image_id = tensor_id(path)
        if image_id is not None and path.suffix.lower() in TENSOR_SUFFIXES:
            files = found.setdefault(image_id, [])
            if not files or files[0].parent == path.parent:
                files.append(path)
    return found


def read_outputs(paths: list[Path], num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one picture's outputs: ploc (4, 8732) and plabel (num_labels, 8732), as float32.

    Which is which, and float32 or float16, is told by size; two of a size keep the model's order.
    Raises KitError if they are not one of each.
    """
    shapes = [(4, NUM_BOXES), (num_labels, NUM_BOXES)]
    arrays = [_flat(path) for path in paths]
    for loc, label in [(0, 1), (1, 0)] if len(paths) == 2 else []:
        for dtype in (np.float32, np.float16):
            ploc = _as_dtype(arrays[loc], dtype, shapes[0])
            plabel = _as_dtype(arrays[label], dtype, shapes[1])
            if ploc is not None and plabel is not None:
                return ploc.astype(np.float32, copy=False), plabel.astype(np.float32, copy=False)
    found = ", ".join(f"{p.name} of {a.nbytes} bytes" for p, a in zip(paths, arrays, strict=True))
    sizes = " and ".join(str(4 * int(np.prod(shape))) for shape in shapes)
    raise KitError(
        f"{paths[0].parent}: {found or 'nothing'}; expected two files of {sizes} bytes, or half of "
        f"that (ploc and plabel with {num_labels} labels); run the inference again"
    )


def _flat(path: Path) -> np.ndarray:
    """Read a file as it lies: bytes for .bin, its own dtype for .npy."""
    if path.suffix.lower() == ".npy":
        return load_npy(path).reshape(-1)
    try:
        return np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise KitError(f"{path}: cannot read: {error.strerror}") from None


def _as_dtype(array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the data as (shape) of that dtype, None if it cannot be that."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if array.nbytes != size or array.dtype not in (np.uint8, dtype):
        return None
    return array.view(dtype).reshape(shape)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes the name, on failure it goes.

    Raises KitError for what the system refuses: no space, no permission.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise KitError(f"{path}: cannot write: {reason}; free space or choose another") from None
    finally:
        if temporary.is_file():
            temporary.unlink()


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write JSON whole or not at all; UTF-8, letters as they are."""
    write_bytes(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON. Raises KitError if the file is missing or broken."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise KitError(f"{path}: cannot read: {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:  # the latter: brackets without end
        raise KitError(f"{path}: not JSON ({error}); fetch or make it again") from None


def check_free(folder: Path, needed: int, what: str) -> None:
    """Raise KitError unless `needed` bytes are free where `folder` is or will be."""
    while not folder.exists():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise KitError(
            f"{folder}: {what} need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; free "
            "space, choose another folder, or take the in-process route (no output files)"
        )


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
