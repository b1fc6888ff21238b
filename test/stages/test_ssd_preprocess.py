"""Preprocessing is bit-exact with torchvision, and reports every bad image in one line."""

import json
import os

import ssd_preprocess
from ssd.cli import KitError
from ssd.tensors import INPUT_RECORD, preprocessing

import numpy as np
import pytest
from models import as_coco2017, as_torchvision
from PIL import Image


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != INPUT_RECORD)


def test_real_images_have_the_bits_of_torchvision(coco_tiny, tmp_path, run_stage):
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


def test_uint8_files_hold_the_resized_image(tiny_coco, tmp_path, run_stage):
    done = run_stage(
        "ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b", "--dtype", "uint8"
    )
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "b" / "tensor([9]).bin").read_bytes()
    picture = Image.open(tiny_coco / "val2017" / "000000000009.jpg").convert("RGB")
    assert len(data) == 270_000
    assert data == picture.resize((300, 300), Image.Resampling.BILINEAR).tobytes()


def test_cocos_images_without_annotation_are_left_out(five_coco, tmp_path, run_stage):
    data = as_coco2017(five_coco)
    command = ["ssd_preprocess.py", "--data", data, "--bin-output", tmp_path / "b"]
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


def test_how_fast_inputs_were_made_is_noted_and_stays_while_few_are_made_again(
    tiny_coco, tmp_path, run_stage
):
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b"]
    assert preprocessing(tmp_path / "b") is None
    run_stage(*command)
    found = preprocessing(tmp_path / "b")
    assert found["images"] == 4 and found["seconds"] > 0
    run_stage(*command)
    (tmp_path / "b" / "tensor([9]).bin").unlink()
    assert "1 images written, 3 kept" in run_stage(*command).stdout
    assert preprocessing(tmp_path / "b") == found
    run_stage(*command, "--force")
    assert preprocessing(tmp_path / "b")["images"] == 4
    assert preprocessing(tmp_path / "b") != found


def test_only_the_inputs_of_images_that_changed_are_made_again(tiny_coco, tmp_path, run_stage):
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b"]
    run_stage(*command)
    image, other = (tiny_coco / "val2017" / f"{i:012}.jpg" for i in (9, 139))
    before = (tmp_path / "b" / "tensor([9]).bin").read_bytes()
    Image.new("RGB", (60, 40), "red").save(image)
    done = run_stage(*command)
    assert "1 images written, 3 kept" in done.stdout
    assert done.stderr == (
        f"{tmp_path / 'b'}: made from something else (000000000009.jpg); made again\n"
    )
    assert (tmp_path / "b" / "tensor([9]).bin").read_bytes() != before
    status = other.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert "1 images written, 3 kept" in run_stage(*command).stdout


def test_ids_that_are_dealt_out_anew_get_inputs_of_their_own(tiny_coco, tmp_path, run_stage):
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b"]
    run_stage(*command)
    first = (tmp_path / "b" / "tensor([9]).bin").read_bytes()
    path = tiny_coco / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    ids = [image["id"] for image in data["images"]]
    for image, image_id in zip(data["images"], reversed(ids), strict=True):
        image["id"] = image_id
    path.write_text(json.dumps(data))
    assert run_stage(*command).returncode == 0
    assert (tmp_path / "b" / "tensor([529]).bin").read_bytes() == first


def test_inputs_of_images_that_are_no_longer_asked_for_go(five_coco, tmp_path, run_stage):
    data = as_coco2017(five_coco)
    command = ["ssd_preprocess.py", "--data", data, "--bin-output", tmp_path / "b"]
    run_stage(*command, "--all-images")
    (tmp_path / "b" / "tensor notes.txt").write_text("no input, so not the stage's")
    done = run_stage(*command)
    assert "0 images written, 4 kept" in done.stdout
    assert "1 files of other images removed" in done.stderr
    (tmp_path / "b" / "tensor notes.txt").unlink()
    assert len(names(tmp_path / "b")) == 4


def test_files_that_may_be_the_user_s_are_never_removed(tiny_coco, tmp_path, run_stage, refused):
    (tmp_path / "b").mkdir()
    mine = tmp_path / "b" / "tensor([77]).bin"
    mine.write_text("mine")
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b")
    refused(done, "tensor([77]).bin", "give another folder")
    assert mine.read_text() == "mine"


def test_every_bad_image_is_listed_and_the_others_are_made(five_coco, tmp_path, run_stage):
    pictures = five_coco / "val2017"
    (pictures / "000000000009.jpg").unlink()
    (pictures / "000000000139.jpg").write_bytes(b"")
    whole = (pictures / "000000000269.jpg").read_bytes()
    (pictures / "000000000269.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "000000000399.jpg").write_text("no picture")
    done = run_stage("ssd_preprocess.py", "--data", five_coco, "--bin-output", tmp_path / "b")
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert len(lines) == 4
    for line, image_id in zip(sorted(lines), (9, 139, 269, 399), strict=True):
        assert line.startswith("ssd_preprocess.py: error: ")
        assert f"{image_id:012}.jpg" in line and "fetch it" in line and "0x" not in line
    assert names(tmp_path / "b") == ["tensor([529]).bin"]


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg", ""])
def test_a_file_name_must_stay_in_the_image_folder(name, tiny_coco, tmp_path, run_stage):
    path = tiny_coco / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = name
    path.write_text(json.dumps(data))
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b")
    assert done.returncode == 1
    assert "leaves the image folder" in done.stderr
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
        ssd_preprocess.preprocess(
            tmp_path / "a.png", (9, 9), tmp_path / "out" / "t.bin", "uint8", False
        )
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
    (out / INPUT_RECORD).write_text(record)
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


def test_a_phone_s_turned_image_is_refused_and_taken_with_apply_exif(
    tiny_coco, tmp_path, run_stage, refused
):
    path = tiny_coco / "val2017" / "000000000009.jpg"  # 60x40 by its annotation
    stored = Image.new("RGB", (40, 60))
    stored.paste((255, 0, 0), (0, 0, 40, 30))
    exif = stored.getexif()
    exif[0x0112] = 6  # viewers turn it clockwise
    stored.save(path, exif=exif, quality=100, subsampling=0)
    command = ["ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b"]
    command += ["--dtype", "uint8"]
    done = run_stage(*command)
    refused(done, path, "is 40x60, its annotation says 60x40", "--apply-exif")
    done = run_stage(*command, "--apply-exif")
    assert done.returncode == 0, done.stderr
    made = np.fromfile(tmp_path / "b" / "tensor([9]).bin", np.uint8).reshape(300, 300, 3)
    assert made[:, 200:, 0].min() > 200 and made[:, :100, 0].max() < 50  # the top is at the right


def test_a_file_name_that_windows_wrote_finds_its_image(tiny_coco, tmp_path, run_stage):
    (tiny_coco / "val2017" / "sub").mkdir()
    (tiny_coco / "val2017" / "000000000009.jpg").rename(tiny_coco / "val2017" / "sub" / "9.jpg")
    path = tiny_coco / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = "sub\\9.jpg"
    path.write_text(json.dumps(data))
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "b")
    assert "4 images written" in done.stdout, done.stderr
