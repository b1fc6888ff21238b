"""The folder of ssd_detect.py's results, and what a folder of sources holds besides."""

from ssd.files import locked

import numpy as np
import onnx
import pytest
from detecting import names, noise, write_frames
from PIL import Image


@pytest.fixture
def other(light_onnx, tmp_path):
    """The light model as another file would be."""
    model = onnx.load(light_onnx)
    model.doc_string = "another"
    onnx.save(model, tmp_path / "other.onnx")
    return tmp_path / "other.onnx"


def test_another_models_results_are_refused_or_replaced(
    detect_stage, refused, images, other, tmp_path
):
    noise(40, 30).save(images / "a.png")
    assert detect_stage(images, "--json").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "na mes").write_text("a\nb\nc\nd\n")
    remedy = "give another --output, or --force"
    for options, difference in (
        (["--model", other], "model"),
        (["--labels", tmp_path / "na mes"], "labels"),
    ):
        done = detect_stage(images, *options)
        refused(done, f"{tmp_path / 'out'}: holds a run that differs in {difference}; {remedy}")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    (images / "a.png").rename(images / "b.png")
    done = detect_stage(images, "--model", other, "--force")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out") == ["b.png"]


def test_the_same_models_results_come_together(detect_stage, images, tmp_path):
    for name in ("a.png", "b.png"):
        noise(40, 30).save(images / name)
        assert detect_stage(images / name, "--score", "0.9").returncode == 0
    assert names(tmp_path / "out") == ["a.png", "b.png"]


def test_a_folder_with_files_of_the_user_is_refused(detect_stage, refused, images, tmp_path):
    noise(40, 30).save(images / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    for options in ([], ["--force"]):
        refused(detect_stage(images, *options), "holds files that are not this kit's")
    assert names(tmp_path / "out") == ["a.png"]
    assert (tmp_path / "out" / "a.png").read_text() == "mine"


def test_a_second_run_in_one_folder_changes_nothing(detect_stage, refused, images, tmp_path):
    noise(40, 30).save(images / "a.png")
    with locked(tmp_path / "out"):
        refused(detect_stage(images), f"{tmp_path / 'out'}: another run is using it")
    assert names(tmp_path / "out") == []


def test_what_is_left_out_by_its_suffix_is_counted_and_named(detect, images):
    for name in ("a.HEIC", "b.heic", "c.txt", "d", ".hidden"):
        (images / name).touch()
    noise(40, 30).save(images / "a.png")
    status, _, err, found = detect(images)
    assert status == 0
    assert err == [f"{images}: 4 files left out by suffix: 2 .heic, 1 .txt, 1 without any"]
    assert found["info"]["left_out"] == {".heic": 2, ".txt": 1, "": 1}


@pytest.mark.parametrize("suffix", ["jp2", "tga", "pbm", "dib", "jpe"])
def test_images_that_pil_reads_are_read(suffix, detect, images):
    noise(80, 60).save(images / f"a.{suffix}")
    Image.open(images / f"a.{suffix}").convert("RGB").save(images / "b.png")
    status, _, err, found = detect(images)
    assert status == 0 and err == []
    assert [image["file_name"] for image in found["images"]] == [f"a.{suffix}", "b.png"]


@pytest.mark.parametrize("suffix", ["ts", "3gp", "flv", "mts"])
def test_videos_that_ffmpeg_reads_are_read(suffix, detect, images):
    frames = [np.asarray(noise(176, 144, i)) for i in range(3)]
    codec = {"flv": "flv", "3gp": "mpeg4"}.get(suffix, "mpeg2video")
    write_frames(images / f"v.{suffix}", frames, codec=codec, pix_fmt="yuv420p")
    status, _, err, found = detect(images)
    assert status == 0 and err == [] and len(found["images"]) == 3
