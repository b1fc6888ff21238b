"""Images: reading, resizing to the network's input size, and normalizing."""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ssd.boxes import SSD300
from ssd.cli import SOURCES, KitError
from ssd.coco import DataSet, image_path
from ssd.tensors import INPUT_SHAPES

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, features

JPEG_START = b"\xff\xd8"
SUFFIXES = (  # of files that are taken for images: what PIL reads
    *(".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
BITS_PER_SAMPLE = 258  # TIFF tag


@cache
def normalization_table() -> np.ndarray:
    """Return what each byte becomes in each channel: (3, 256) float32.

    The bits are those of torchvision's ToTensor and Normalize: float32 at every step.
    """
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    mean, std = np.array(SSD300.mean, np.float32), np.array(SSD300.std, np.float32)
    return (scaled - mean[:, None]) / std[:, None]


def read_rgb(
    path: Path | str, apply_exif: bool = False, file: BinaryIO | None = None
) -> Image.Image:
    """Read an image file as RGB; gray of more than 8 bits is scaled to 8, not clipped.

    apply_exif: turn it as its EXIF data says, as viewers do, but COCO's protocol does not.
    file: what to read where `path` is only its name, as that of an object in a store.
    Raises KitError if the file is missing, not a whole image, or too large for PIL, or its values
    have no known range.
    """
    try:
        rgb = None if apply_exif or file else read_jpeg(path)
        if rgb is not None:
            return rgb
        with Image.open(file or path) as image:
            image.load()
            if apply_exif:
                with suppress(Exception):  # EXIF data that cannot be read turns nothing
                    ImageOps.exif_transpose(image, in_place=True)
            return (deep_gray(image, path) if image.mode[0] in "IF" else image).convert("RGB")
    except FileNotFoundError:
        raise KitError(
            f"{path}: no such image; correct the path, or fetch it ({SOURCES['images']})"
        ) from None
    except Image.DecompressionBombError:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise KitError(f"{path}: more than {limit} million pixels; scale it down") from None
    except KitError:
        raise
    except Exception as error:  # each format's reader raises its own on damaged data
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason.split(" <")[0].split(" '")[0]  # without object addresses and the path
        raise KitError(f"{path}: not a whole image ({reason}); fetch it again") from None


def read_jpeg(path: Path) -> Image.Image | None:
    """Read a JPEG file as PIL does, bit for bit, but sooner.

    Returns None for what is left to PIL: other formats and colors, a file that is broken or very
    large, and everything where PIL has another decoder.
    """
    if not (path.is_file() and features.check("libjpeg_turbo")):
        return None
    with path.open("rb") as file:
        data = file.read(len(JPEG_START))
        if data != JPEG_START:
            return None
        data += file.read()
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in ("YCbCr", "Gray") or height * width > (Image.MAX_IMAGE_PIXELS or 0):
            return None
        pixels = simplejpeg.decode_jpeg(data, "RGBX")  # as PIL has RGB in memory
        # what Image.frombuffer does for RGBX; a copy would cost what was gained
        mapped = Image.core.map_buffer(pixels, (width, height), "raw", 0, ("RGB", 0, 1))
        image = Image.Image()._new(mapped)
        image.readonly = 1
        return image
    except (ValueError, AttributeError, TypeError):  # another PIL may have none of these
        return None


def deep_gray(image: Image.Image, path: Path | str) -> Image.Image:
    """Return a gray image of 12, 16 or 32 bits, or of floats from 0 to 1, as 8 bits.

    The bits are those that a TIFF file declares, else 16. Raises KitError for other values, as
    their range is not known.
    """
    values = np.asarray(image)
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
    floats = image.mode == "F"
    largest = 1.0 if floats else 2.0**bits - 1
    if not (values.min() >= 0 and values.max() <= largest):  # false for NaN as well
        kind = "floats" if floats else f"values of {bits} bits"
        raise KitError(f"{path}: {kind} outside of 0 to {largest:g}; convert it to 8 bits")
    gray = values * 255 if floats else values.astype(np.int64) >> (bits - 8)
    return Image.fromarray(gray.astype(np.uint8))


def read_annotated(
    path: Path | str,
    size: tuple[int, int],
    apply_exif: bool = False,
    file: BinaryIO | None = None,
) -> Image.Image:
    """Read an image file as RGB whose width and height must be those of its annotation.

    Boxes would lie elsewhere otherwise. Raises KitError as `read_rgb` does, and if they differ.
    """
    rgb = read_rgb(path, apply_exif, file)
    if rgb.size != size:
        shown = ["{}x{}".format(*pair) for pair in (rgb.size, size)]
        remedy = "correct the annotation, or fetch the image again"
        if not apply_exif and rgb.size == size[::-1]:
            remedy = "give --apply-exif if viewers show it so, or correct the annotation"
        raise KitError(f"{path}: is {shown[0]}, its annotation says {shown[1]}; {remedy}")
    return rgb


def find_images(data: DataSet) -> tuple[dict[int, Path], list[str]]:
    """Return the file of each selected image, and a line for each that is not there."""
    found, bad = {}, []
    for image in data.selected:
        try:
            path = image_path(data.image_folder, image["file_name"])
        except KitError as error:
            bad.append(str(error))
            continue
        if path.is_file():
            found[image["id"]] = path
        else:
            bad.append(f"{path}: no such image; fetch it ({SOURCES['images']})")
    return found, bad


def shrink(rgb: Image.Image) -> np.ndarray:
    """Return an RGB image at the network's size: (300, 300, 3) uint8."""
    return np.asarray(rgb.resize((SSD300.input_size, SSD300.input_size), Image.Resampling.BILINEAR))


def resize(path: Path) -> np.ndarray:
    """Read an image file as RGB at the network's size: (300, 300, 3) uint8.

    Raises KitError as `read_rgb` does.
    """
    return shrink(read_rgb(path))


def fill_input(rgb: np.ndarray, out: np.ndarray) -> None:
    """Put a (300, 300, 3) uint8 RGB image into `out` as a model of that dtype takes it.

    uint8 models normalize by themselves; float32 ones take (3, 300, 300).
    """
    if out.dtype == np.uint8:
        out[...] = rgb
        return
    table = normalization_table()
    for channel in range(len(SSD300.mean)):
        # clip: no byte is out of range, and checking that would buffer the output
        np.take(table[channel], rgb[:, :, channel], out=out[channel], mode="clip")


def normalize(rgb: np.ndarray) -> np.ndarray:
    """Turn (300, 300, 3) uint8 RGB into the network's input, (3, 300, 300) float32."""
    result = np.empty(INPUT_SHAPES["float32"], np.float32)
    fill_input(rgb, result)
    return result


def to_input(rgb: np.ndarray, dtype: str) -> np.ndarray:
    """Return a (300, 300, 3) uint8 RGB image as a model of that input dtype takes it."""
    return rgb if dtype == "uint8" else normalize(rgb)
