"""Input and output tensors on disk: names, shapes, dtypes, and reading them."""

import os
import re
from pathlib import Path

from ssd.boxes import SSD300
from ssd.cli import KitError
from ssd.files import natural_key, read_json

import numpy as np

INPUT_SHAPES = {  # shape of one image's input, for each dtype that ssd_preprocess.py writes
    "float32": (3, SSD300.input_size, SSD300.input_size),
    "uint8": (SSD300.input_size, SSD300.input_size, 3),
}
INPUT_NAME = "image"  # of the model's input
OUTPUT_NAMES = ("ploc", "plabel")  # in the order of the model's outputs
TENSOR_SUFFIXES = (".bin", ".npy")
INPUT_RECORD = "source.json"  # in a folder of inputs: what they were made from, and how fast


def tensor_stem(image_id: int) -> str:
    """Return the file name, without suffix, that belongs to an image: `tensor([139])`."""
    return f"tensor([{image_id}])"


def tensor_id(path: Path) -> int | None:
    """Return the image id in a file name such as `tensor([139])_0.bin`, None if there is none."""
    match = re.match(r"tensor\(\[(\d+)\]\)", path.name)
    return int(match[1]) if match else None


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


def preprocessing(folder: Path) -> dict[str, float] | None:
    """Return how many images ssd_preprocess.py made the inputs of in how many seconds.

    None if it left no record of that.
    """
    try:
        found = read_json(folder / INPUT_RECORD).get("preprocess")
        return found if found["images"] > 0 and found["seconds"] > 0 else None
    except (KitError, OSError, AttributeError, LookupError, TypeError):  # not this kit's, or none
        return None


def input_bytes(dtype: str) -> int:
    """Return the size of one image's input file."""
    return int(np.prod(INPUT_SHAPES[dtype])) * np.dtype(dtype).itemsize


def output_bytes(labels: int) -> int:
    """Return the size of one image's two output files together, in float32."""
    return 4 * SSD300.num_boxes * (4 + labels)


def input_layout(path: Path) -> tuple[str, tuple[int, ...]]:
    """Return an input file's dtype and shape, by its size (.bin) or header (.npy).

    Raises KitError if it is neither of INPUT_SHAPES.
    """
    if path.suffix.lower() == ".npy":
        array = load_npy(path, mmap_mode="r")  # its header is enough
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


def load_npy(path: Path, mmap_mode: str | None = None) -> np.ndarray:
    """Read one .npy file, or as NumPy's `mmap_mode` says. Raises KitError if it is not one."""
    try:
        return np.load(path, mmap_mode, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path}: not a whole .npy file ({error}); make it again") from None


def read_tensor(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read one tensor whose dtype and shape are known. Raises KitError as `read_into` does."""
    array = np.empty(shape, dtype)
    read_into(path, array)
    return array


def read_into(path: Path, out: np.ndarray) -> None:
    """Read one tensor file into `out`, which has its dtype and shape.

    Raises KitError if the file is missing or of another size.
    """
    try:
        if path.suffix.lower() == ".npy":
            array = load_npy(path)
            if (array.dtype, array.size) == (out.dtype, out.size):
                out[...] = array.reshape(out.shape)
                return
            found = f"{array.dtype} {array.shape}"
        else:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == out.nbytes == file.readinto(memoryview(out).cast("B")):
                    return
            found = f"{size} bytes"
    except OSError as error:
        raise KitError(f"{path}: cannot read: {error.strerror}") from None
    raise KitError(f"{path}: {found}, expected {out.dtype} {out.shape}; make it again")


def pad_batch(inputs: list[np.ndarray], size: int) -> np.ndarray:
    """Return 1 to `size` inputs as a batch (size, *shape), filled up with the first."""
    batch = np.empty((size, *inputs[0].shape), inputs[0].dtype)
    for i, values in enumerate(inputs):
        batch[i] = values
    batch[len(inputs) :] = batch[0]
    return batch


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


def whole_outputs(folder: Path, labels: int | None) -> dict[int, list[Path]]:
    """Return those of `output_paths` that are whole, by their sizes; empty without a folder.

    labels: of the model, with the background; None if it is not known.
    """
    found = output_paths(folder) if folder.is_dir() else {}
    whole = {}
    for image_id, paths in found.items():
        sizes = sorted(path.stat().st_size for path in paths)
        values = labels and (4 + labels) * SSD300.num_boxes
        exact = values is None or any(0 <= sum(sizes) - n * values < 512 for n in (2, 4))
        if len(sizes) == 2 and exact:  # the difference: headers of .npy
            whole[image_id] = paths
    return whole


def read_outputs(paths: list[Path], num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one image's outputs: ploc (4, 8732) and plabel (num_labels, 8732), as float32.

    Sizes say which is which, and float32 or float16; two of one size keep the model's order.
    Raises KitError if they are not one of each.
    """
    shapes = [(4, SSD300.num_boxes), (num_labels, SSD300.num_boxes)]
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
    """Read a file as it lies: bytes for .bin, the file's dtype for .npy."""
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
