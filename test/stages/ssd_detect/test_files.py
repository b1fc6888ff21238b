"""Files, names, labels and options of ssd_detect.py, good and bad."""

import os

import ssd_detect
from ssd.cli import KitError
from ssd.coco import INSTANCES
from ssd.detect import media

import numpy as np
import pytest
from detecting import fixed, names, noise, rows_of, write_video


def test_bad_files_are_listed_and_the_others_done(detect, images, light_onnx, tmp_path):
    noise(90, 60).save(images / "a.png")
    (images / "0.jpg").write_text("no image")
    (images / "c.png").write_bytes((images / "a.png").read_bytes()[:300])
    (images / "d\nd.mp4").write_text("no video")
    (images / "e.gif").touch()
    (images / "notes.txt").touch()
    noise(90, 60).save(images / "f.png")
    for model in (light_onnx, fixed(light_onnx, tmp_path / "fixed.onnx", 4)):
        status, out, err, found = detect(images, "--force", model=model)
        assert status == 1
        err = [line for line in err if not line.endswith("made again")]
        assert err.pop(0) == f"{images}: 1 file left out by suffix: 1 .txt"
        assert len(err) == 4
        for line, name in zip(sorted(err), ("0.jpg", "c.png", "d\\nd.mp4", "e.gif"), strict=True):
            assert line.startswith("ssd_detect.py: error: ") and f"{name}: not a" in line
        assert out[-1].startswith(f"{tmp_path / 'out'}: 2 images, 4 bad, ")
        assert [image["file_name"] for image in found["images"]] == ["a.png", "f.png"]
        assert rows_of(found, 1) == rows_of(found, 2)
        assert names(tmp_path / "out") == ["a.png", "detections.json", "f.png"]


def test_only_bad_files_is_not_a_crash(detect, images):
    (images / "b.jpg").write_text("no image")
    status, out, err, found = detect(images)
    assert status == 1 and len(err) == 1 and found["images"] == []
    assert out[-1].endswith(": 0 images, 1 bad, 0 detections")


def test_odd_names_are_names_like_any_other(detect_stage, images, tmp_path):
    odd = ["一 'b'; \"c\" $(d).png", "new\nline.png", "x[1]*.png", "-o.png", "a" * 250 + ".png"]
    odd += [os.fsdecode(b"\xff.png"), "%02d.png"]
    for name in odd:
        noise(40, 30).save(images / name)
    done = detect_stage(images, "--json", "--output", tmp_path / 'o "u"; t*')
    assert done.returncode == 0 and done.stderr == "", done.stderr
    expected = [name if len(name) < 240 else "a" * 50 + ".png" for name in odd]
    assert names(tmp_path / 'o "u"; t*') == sorted([*expected, "detections.json"])
    for name in odd:
        done = detect_stage(images / name)
        assert done.returncode == 0 and done.stderr == ""


def test_names_do_not_collide(images, tmp_path):
    made = [images / name for name in ("x/a.jpg", "x/a.png", "y/a.jpg", "y/A.JPG", "y/a.tif")]
    made += [images / name for name in ("y/a.tif.png", "z/a_2.jpg", "z/v.avi", "z/v.mp4")]
    targets = [path.name for path in media.target_paths(made, tmp_path / "out")]
    expected = ["a.jpg", "a.png", "a_2.jpg", "A_3.JPG", "a.tif.png", "a.tif_2.png"]
    assert targets == [*expected, "a_2_2.jpg", "v.avi.mp4", "v.mp4"]


def test_a_pattern_takes_several_folders(detect, images, tmp_path):
    for folder in ("x", "y/z"):
        (images / folder).mkdir(parents=True)
        noise(40, 30).save(images / folder / "a.png")
        (images / folder / "a.txt").touch()
    _, _, _, found = detect(images / "**" / "*")
    assert [image["file_name"] for image in found["images"]] == ["x/a.png", "y/z/a.png"]
    assert names(tmp_path / "out") == ["a.png", "a_2.png", "detections.json"]


def test_a_folder_is_taken_in_natural_order_without_what_lies_below(images):
    for name in ("10.jpg", "9.jpg", "8.MP4", ".hidden.jpg", "below/7.jpg", "x.jpg/y"):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).touch()
    found = [path.name for path in media.find_sources(str(images))[0]]
    assert found == ["8.MP4", "9.jpg", "10.jpg"]


def test_the_sources_are_never_written_over(detect_stage, images, refused, tmp_path):
    noise(40, 30).save(images / "a.png")
    before = (images / "a.png").read_bytes()
    (tmp_path / "link").symlink_to(images)
    for output in (images, tmp_path / "link", images / ".." / images.name):
        for source in (images, images / "a.png", tmp_path / "link" / "*.png"):
            done = detect_stage(source, "--output", output)
            refused(done, "holds the source a.png; choose another --output")
    assert names(images) == ["a.png"] and (images / "a.png").read_bytes() == before


@pytest.mark.parametrize("source", ["none.jpg", "empty", "*.nothing", "em*", ""])
def test_a_source_that_is_not_there_is_reported(source, detect_stage, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    done = detect_stage(tmp_path / source if source else "/none", "--output", tmp_path / "o")
    refused(
        done, "no such file" if source in ("none.jpg", "*.nothing", "") else "no image or video"
    )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\nc\n", "3 names, the model has 4 labels besides background"),
        ("", "0 names"),
        (b"\xff\xfe\xff", "not UTF-8"),
        (None, "cannot read: No such file"),
        ("{}", "no list of images"),
        ("[", "not JSON"),
    ],
)
def test_names_that_do_not_fit_are_reported(text, message, detect_stage, refused, images, tmp_path):
    noise(40, 30).save(images / "a.png")
    path = tmp_path / ("l.json" if text in ("{}", "[") else "l.txt")
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(detect_stage(images, "--labels", path), path, message)
    assert not (tmp_path / "out").exists()


def test_coco_is_the_default_for_81_labels_alone():
    assert ssd_detect.read_categories(None, 81) == ssd_detect.read_categories("coco", 81)
    assert ssd_detect.read_categories(None, 81)[-1] == {"id": 90, "name": "toothbrush"}
    for labels in (None, "coco"):
        with pytest.raises(KitError, match="80 names, the model has 4 labels"):
            ssd_detect.read_categories(labels, 5)


def test_names_of_a_text_file_may_have_a_mark_spaces_and_gaps(tmp_path):
    path = tmp_path / "names"
    path.write_bytes(b"\xef\xbb\xbfkite \r\n\r\n red fox\r\n")
    assert ssd_detect.read_categories(str(path), 3) == [
        {"id": 1, "name": "kite"},
        {"id": 2, "name": "red fox"},
    ]


def test_an_annotation_file_gives_its_categories_in_their_order(tiny_coco):
    found = ssd_detect.read_categories(str(tiny_coco / INSTANCES), 5)
    assert [category["id"] for category in found] == [3, 7, 11, 90]


@pytest.mark.parametrize(
    "args", [["--score", "1.5"], ["--score", "50"], ["--score", "nan"], ["--score", "x"], []]
)
def test_wrong_usage_exits_2(args, run_stage):
    command = ["--model", "m", *(["--source", "s"] if args else [])]
    done = run_stage("ssd_detect.py", *command, *args)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_model_that_gives_no_numbers_is_reported(detect_stage, images, light_onnx, tmp_path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(light_onnx)
    for node in model.graph.node:
        if node.output[0] == "ploc":
            node.output[0] = "finite"
    nan = numpy_helper.from_array(np.array(np.nan, np.float32), "nan")
    model.graph.initializer.append(nan)
    model.graph.node.append(onnx.helper.make_node("Add", ["finite", "nan"], ["ploc"]))
    onnx.save(model, tmp_path / "nan.onnx")
    noise(40, 30).save(images / "a.png")
    done = detect_stage(images, "--model", tmp_path / "nan.onnx")
    assert done.returncode == 1
    assert done.stderr == "ssd_detect.py: error: a.png: NaN or infinite outputs; " + (
        "check the model's precision\n"
    )
    assert names(tmp_path / "out") == []


def test_a_disk_that_fills_up_leaves_no_half_file(detect_stage, images, refused, tmp_path):
    noise(400, 300).save(images / "a.png")
    refused(detect_stage(images, room=10_000), "a.png: cannot write", "free space")
    assert names(tmp_path / "out") == []
    write_video(images / "v.avi", [np.asarray(noise(320, 240, i)) for i in range(20)])
    (images / "a.png").unlink()
    refused(detect_stage(images, room=30_000), "v.avi.mp4: cannot write", "free space")
    assert names(tmp_path / "out") == []


def test_an_output_that_cannot_be_is_reported(detect_stage, images, refused, tmp_path):
    noise(40, 30).save(images / "a.png")
    (tmp_path / "file").touch()
    refused(detect_stage(images, "--output", tmp_path / "file"), "file", "cannot write")


def test_a_checkpoint_gives_what_its_onnx_does(detect, checkpoint, onnx_file, images, tmp_path):
    (tmp_path / "two").write_text("one\ntwo")
    noise(90, 60).save(images / "a.png")
    found = [
        detect(images, "--labels", tmp_path / "two", "--score", "0.3", "--force", model=model)[3]
        for model in (checkpoint, onnx_file)
    ]
    ours, theirs = (np.array(rows_of(part)) for part in found)
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours[:, 4], theirs[:, 4], atol=1e-3)
