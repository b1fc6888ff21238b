"""Reading images: gray of many bits, EXIF data, and sizes that do not fit the annotation."""

from ssd.cli import KitError
from ssd.images import (
    normalization_table,
    normalize,
    read_annotated,
    read_jpeg,
    read_rgb,
    resize,
)

import numpy as np
import pytest
from models import as_torchvision
from PIL import Image

RAMP = np.linspace(0, 1, 256).reshape(16, 16)


@pytest.mark.parametrize(
    ("suffix", "values", "bits"),
    [
        ("png", (RAMP * 65535).astype(np.uint16), 16),
        ("tif", (RAMP * 65535).astype(np.uint16), 16),
        ("tif", (RAMP * (2**31 - 1)).astype(np.int32), 32),
        ("tif", RAMP.astype(np.float32), None),
    ],
    ids=["png16", "tif16", "tif32", "float"],
)
def test_gray_of_more_than_8_bits_is_scaled_not_clipped(suffix, values, bits, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    rgb = np.asarray(read_rgb(path))
    expected = values * 255 if bits is None else values.astype(np.int64) // 2 ** (bits - 8)
    assert rgb.shape == (16, 16, 3)
    for channel in range(3):
        np.testing.assert_array_equal(rgb[:, :, channel], expected.astype(np.uint8))


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_floats_of_an_unknown_range_are_refused(bad, tmp_path):
    values = RAMP.astype(np.float32)
    values[3, 3] = bad
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(KitError, match="a.tif: floats outside of 0 to 1; convert it"):
        read_rgb(tmp_path / "a.tif")


def test_an_image_of_another_size_than_its_annotation_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (60, 40)).save(path)
    assert read_annotated(path, (60, 40)).size == (60, 40)
    with pytest.raises(KitError, match="a.jpg: is 60x40, its annotation says 30x20; correct"):
        read_annotated(path, (30, 20))
    with pytest.raises(KitError, match="60x40, its annotation says 40x60; give --apply-exif"):
        read_annotated(path, (40, 60))


def colorful(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (17, 9), (64, 48)])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_jpeg_is_read_as_pil_reads_it_to_the_last_bit(size, progressive, subsampling, tmp_path):
    for quality, image in ((30, colorful(*size)), (95, colorful(*size).convert("L"))):
        path = tmp_path / f"{quality}.jpg"
        image.save(path, quality=quality, progressive=progressive, subsampling=subsampling)
        expected = np.asarray(Image.open(path).convert("RGB"))
        found = read_jpeg(path)
        np.testing.assert_array_equal(np.asarray(found), expected)
        found.paste((9, 9, 9), (0, 0, *size))  # drawing on the decoder's memory makes a copy
        assert found.getpixel((0, 0)) == (9, 9, 9)


def test_real_jpegs_are_read_as_pil_reads_them(coco_tiny):
    for path in sorted((coco_tiny / "val2017").glob("*.jpg"))[::4]:
        assert read_jpeg(path).tobytes() == Image.open(path).convert("RGB").tobytes()


def test_what_is_no_whole_plain_jpeg_is_left_to_pil(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    image = colorful(64, 48)
    image.convert("CMYK").save(path)
    assert read_jpeg(path) is None
    image.save(path, keep_rgb=True)
    assert read_jpeg(path) is None
    image.save(path)
    assert read_jpeg(path) is not None
    whole = path.read_bytes()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    assert read_jpeg(path) is None
    monkeypatch.undo()
    for broken in (
        b"",
        b"\xff\xd8",
        whole[:-9],
        whole[:700] + b"\xff\xfe" + whole[702:],
        b"GIF89a",
    ):
        path.write_bytes(broken)
        assert read_jpeg(path) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_data_turns_an_image_only_when_asked_for(orientation, tmp_path):
    image = Image.new("RGB", (60, 40))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_rgb(tmp_path / "a.jpg").size == (60, 40)
    turned = (40, 60) if orientation > 4 else (60, 40)
    assert read_annotated(tmp_path / "a.jpg", turned, apply_exif=True).size == turned


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1"])
def test_other_color_modes_have_the_bits_of_torchvision(mode, tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (77, 123, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    picture.save(path)
    made = normalize(resize(path))
    assert made.tobytes() == as_torchvision(path).tobytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_no_half_of_an_image_is_taken(suffix, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for part in np.linspace(0, 0.95, 15):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(KitError, match=r"a\..*not a whole image \(.+\); fetch it again"):
            resize(path)


def test_an_image_that_cannot_be_opened_is_reported_with_the_reason(tmp_path):
    with pytest.raises(KitError, match=r"not a whole image \(Is a directory\)"):
        resize(tmp_path)
    with pytest.raises(KitError, match=r"not a whole image \(File name too long\)"):
        resize(tmp_path / ("x" * 400))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (300, 300), (2000, 3)])
def test_images_of_any_shape_have_the_bits_of_torchvision(size, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    made = normalize(resize(path))
    assert made.shape == (3, 300, 300) and made.dtype == np.float32
    assert made.tobytes() == as_torchvision(path).tobytes()


def test_each_byte_becomes_the_value_of_the_definition():
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None]
    expected = (np.arange(256) / 255 - mean) / std
    np.testing.assert_allclose(normalization_table(), expected, atol=5e-7)
