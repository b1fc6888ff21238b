"""Preprocessing is bit-exact with torchvision, and tells every bad picture in one line."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import ssd_preprocess
from ssd_files import KitError


def as_torchvision(path):
    """What the reference's transform makes of a picture."""
    pytest.importorskip("torchvision")
    from torchvision import transforms

    steps = [transforms.Resize((300, 300)), transforms.ToTensor()]
    steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return transforms.Compose(steps)(Image.open(path).convert("RGB")).numpy()


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ssd_preprocess.SOURCE)


def test_real_pictures_have_the_bits_of_torchvision(coco_tiny, tmp_path, run_stage):
    done = run_stage("ssd_preprocess.py", "--data", coco_tiny, "--bin-output", tmp_path)
    assert done.returncode == 0, done.stderr
    images = json.loads((coco_tiny / "annotations/instances_val2017.json").read_text())["images"]
    assert done.stdout.strip().endswith(
        "80 images written, 0 kept, 0 bad, 0 left out as unannotated"
    )
    for image in images[::4]:
        data = (tmp_path / f"tensor([{image['id']}]).bin").read_bytes()
        expected = as_torchvision(coco_tiny / "val2017" / image["file_name"])
        assert len(data) == 1_080_000
        assert data == expected.tobytes()


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1"])
def test_other_colour_modes_have_the_bits_of_torchvision(mode, tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (77, 123, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    picture.save(path)
    made = ssd_preprocess.normalise(ssd_preprocess.resize(path))
    assert made.tobytes() == as_torchvision(path).tobytes()


def test_uint8_files_hold_the_resized_picture(tiny_coco, tmp_path, run_stage):
    done = run_stage(
        "ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b", "--dtype", "uint8"
    )
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "b" / "tensor([9]).bin").read_bytes()
    picture = Image.open(tiny_coco / "val2017" / "000000000009.jpg").convert("RGB")
    assert len(data) == 270_000
    assert data == picture.resize((300, 300), Image.Resampling.BILINEAR).tobytes()


def test_unannotated_images_are_left_out_unless_asked_for(tiny_coco, tmp_path, run_stage):
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b"]
    done = run_stage(*command)
    assert done.stdout.strip().endswith(
        "4 images written, 0 kept, 0 bad, 1 left out as unannotated"
    )
    done = run_stage(*command, "--all-images")
    assert done.stdout.strip().endswith(
        "1 images written, 4 kept, 0 bad, 0 left out as unannotated"
    )
    assert names(tmp_path / "b")[0] == "tensor([139]).bin"


def test_whole_files_are_kept_and_others_made_again(tiny_coco, tmp_path, run_stage):
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b"]
    run_stage(*command)
    whole, cut = tmp_path / "b" / "tensor([9]).bin", tmp_path / "b" / "tensor([139]).bin"
    good = cut.read_bytes()
    whole.write_bytes(bytes(len(good)))
    cut.write_bytes(good[:100])
    assert "1 images written, 3 kept" in run_stage(*command).stdout
    assert cut.read_bytes() == good
    assert whole.read_bytes() == bytes(len(good))
    assert "4 images written, 0 kept" in run_stage(*command, "--force").stdout
    assert whole.read_bytes() != bytes(len(good))


def test_files_of_other_pictures_are_not_kept(tiny_coco, tmp_path, run_stage):
    shutil.copytree(tiny_coco, tmp_path / "other")
    run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b")
    done = run_stage(
        "ssd_preprocess.py", "--data", tmp_path / "other", "--bin-output", tmp_path / "b"
    )
    assert "4 images written, 0 kept" in done.stdout
    assert "holds files of other pictures" in done.stderr


def test_every_bad_picture_is_listed_and_the_others_are_made(tiny_coco, tmp_path, run_stage):
    pictures = tiny_coco / "val2017"
    (pictures / "000000000009.jpg").unlink()
    (pictures / "000000000139.jpg").write_bytes(b"")
    whole = (pictures / "000000000269.jpg").read_bytes()
    (pictures / "000000000269.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "000000000399.jpg").write_text("no picture")
    done = run_stage(
        "ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b", "--all-images"
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert len(lines) == 4
    for line, image_id in zip(sorted(lines), (9, 139, 269, 399), strict=True):
        assert line.startswith("ssd_preprocess.py: error: ")
        assert f"{image_id:012}.jpg" in line and "fetch it" in line and "0x" not in line
    assert names(tmp_path / "b") == ["tensor([529]).bin"]


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg", ""])
def test_a_file_name_must_stay_in_the_picture_folder(name, tiny_coco, tmp_path, run_stage):
    path = tiny_coco / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = name
    path.write_text(json.dumps(data))
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b")
    assert done.returncode == 1
    assert "leaves the picture folder" in done.stderr
    assert len(names(tmp_path / "b")) == 3


def test_a_full_disk_is_told_before_any_work(tiny_coco, tmp_path, run_stage):
    done = run_stage(
        "ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b",
        "--reserve-outputs", 10**9,
    )  # fmt: skip
    assert done.returncode == 1
    assert "GB are free" in done.stderr and done.stderr.count("\n") == 1
    assert names(tmp_path / "b") == []


def test_missing_folders_are_told_in_one_line(tiny_coco, tmp_path, run_stage):
    for args in (
        ["--data", tmp_path / "none"],
        ["--data", tiny_coco, "--images", tmp_path / "none"],
        ["--data", tiny_coco, "--annotation", tmp_path / "none.json"],
        [],
    ):
        done = run_stage("ssd_preprocess.py", "--bin-output", tmp_path / "b", *args)
        assert done.returncode == 1
        assert done.stderr.startswith("ssd_preprocess.py: error: ") and done.stderr.count("\n") == 1


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(KitError, match="No space left on device"):
        ssd_preprocess.preprocess(tmp_path / "a.png", tmp_path / "out" / "t.bin", "uint8")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("record", ['{"pictures": "/other", "dtype": "float32"}', '{"pict'])
def test_files_of_another_source_are_gone_even_if_the_run_breaks_off(
    record, tiny_coco, tmp_path, run_stage
):
    out = tmp_path / "b"
    out.mkdir()
    for image_id in (9, 139, 77):
        (out / f"tensor([{image_id}]).bin").write_bytes(bytes(1_080_000))
    (out / "mine.bin").touch()
    (out / ssd_preprocess.SOURCE).write_text(record)
    picture = tiny_coco / "val2017" / "000000000139.jpg"
    whole = picture.read_bytes()
    picture.write_bytes(b"")
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", out]
    assert run_stage(*command).returncode == 1
    assert names(out) == ["mine.bin", "tensor([269]).bin", "tensor([529]).bin", "tensor([9]).bin"]
    picture.write_bytes(whole)
    assert "1 images written, 3 kept" in run_stage(*command).stdout


def test_another_dtype_is_written_anew(tiny_coco, tmp_path, run_stage):
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path]
    for dtype, size in (("float32", 1_080_000), ("uint8", 270_000), ("float32", 1_080_000)):
        assert "4 images written, 0 kept" in run_stage(*command, "--dtype", dtype).stdout
        assert {p.stat().st_size for p in tmp_path.glob("tensor*")} == {size}


def test_a_disk_that_fills_up_leaves_no_half_file(tiny_coco, tmp_path, run_stage, refused):
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b"]
    refused(run_stage(*command, room=500_000), "tensor([", "cannot write", "free space")
    assert names(tmp_path / "b") == []
    assert "4 images written" in run_stage(*command).stdout


def test_an_output_folder_that_cannot_be_is_told(tiny_coco, tmp_path, run_stage, refused):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", path)
        refused(done, path, "cannot write")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_no_half_of_a_picture_is_taken(suffix, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for part in np.linspace(0, 0.95, 15):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(KitError, match=r"a\..*not a whole picture \(.+\); fetch it again"):
            ssd_preprocess.resize(path)


def test_a_picture_that_cannot_be_opened_is_told_with_the_reason(tmp_path):
    with pytest.raises(KitError, match=r"not a whole picture \(Is a directory\)"):
        ssd_preprocess.resize(tmp_path)
    with pytest.raises(KitError, match=r"not a whole picture \(File name too long\)"):
        ssd_preprocess.resize(tmp_path / ("x" * 400))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (300, 300), (2000, 3)])
def test_pictures_of_any_shape_have_the_bits_of_torchvision(size, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    made = ssd_preprocess.normalise(ssd_preprocess.resize(path))
    assert made.shape == (3, 300, 300) and made.dtype == np.float32
    assert made.tobytes() == as_torchvision(path).tobytes()


def test_each_byte_becomes_the_value_of_the_definition():
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None]
    expected = (np.arange(256) / 255 - mean) / std
    np.testing.assert_allclose(ssd_preprocess.normalisation_table(), expected, atol=5e-7)


def test_odd_names_are_names_like_any_other(tiny_coco, tmp_path, run_stage):
    odd = "一 'b'; \"c\" $(d).jpg"
    (tiny_coco / "val2017" / "000000000009.jpg").rename(tiny_coco / "val2017" / odd)
    path = tiny_coco / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = odd
    path.write_text(json.dumps(data))
    out = tmp_path / 'o "u"; t*'
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", out)
    assert done.returncode == 0 and done.stderr == ""
    assert names(out)[-1] == "tensor([9]).bin"
