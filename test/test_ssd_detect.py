"""Detection on one's own pictures and videos agrees with the pipeline, and survives bad files."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import ssd_coco
import ssd_detect
import ssd_find
import ssd_media
import ssd_preprocess
from ssd_draw import DrawnBox, draw, label_colour

ROOT = Path(__file__).parents[1]
NAMES = ["kite", "red fox", "猫", "tv"]  # for the light model's five labels
TURNS = {  # EXIF orientation: how the stored picture lies, seen from the upright one
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # the viewer turns it clockwise, so it lies counterclockwise
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def noise(width, height, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_video(path, frames, fourcc="MJPG", fps=12.5):
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, size)
    for frame in frames:
        writer.write(frame)
    writer.release()


def read_video(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = capture.read()
        if not there:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def fixed(path, target, batch):
    """Write a model of one batch size."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(model, target)
    return target


def with_bytes(path, target):
    """Write a model that takes uint8 (N, 300, 300, 3) instead, and normalises as the definition."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)[:, None, None]
    tensors = {"mean": mean.reshape(1, 3, 1, 1), "std": std.reshape(1, 3, 1, 1)}
    tensors["top"] = np.float32(255)
    nodes = [
        helper.make_node("Cast", ["bytes"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["t", "top"], ["d"]),
        helper.make_node("Sub", ["d", "mean"], ["s"]),
        helper.make_node("Div", ["s", "std"], ["image"]),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    given = helper.make_tensor_value_info("bytes", TensorProto.UINT8, ["N", 300, 300, 3])
    model.graph.input[0].CopyFrom(given)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in tensors.items())
    onnx.save(model, target)
    return target


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "na mes.txt"
    path.write_text("\n".join(NAMES) + "\n", "utf-8")
    return path


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pic tures"
    folder.mkdir()
    return folder


@pytest.fixture
def detect(light_onnx, labels, tmp_path, capsys):
    """Run the stage on the light model; return its status, its streams and its JSON."""

    def run(source, *args, model=light_onnx):
        options = ["--model", model, "--source", source, "--output", tmp_path / "out", "--json"]
        options += [] if "--labels" in args else ["--labels", labels]
        status = ssd_detect.main([*map(str, options), *map(str, args)])
        told = capsys.readouterr()
        found = json.loads((tmp_path / "out" / ssd_detect.JSON_NAME).read_text())
        return status, told.out.splitlines(), told.err.splitlines(), found

    return run


@pytest.fixture
def detect_stage(run_stage, light_onnx, labels, tmp_path):
    """Run the stage as a user does."""

    def run(source, *args, **how):
        options = ["--model", light_onnx, "--source", source, "--labels", labels]
        output = [] if "--output" in args else ["--output", tmp_path / "out"]
        return run_stage("ssd_detect.py", *options, *output, *args, **how)

    return run


def rows_of(found, image=None):
    """The annotations of an image (or all) as rows: box, score, category."""
    chosen = [a for a in found["annotations"] if image in (None, a["image_id"])]
    return [[*a["bbox"], a["score"], a["category_id"]] for a in chosen]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["any batch", "batch of 3", "uint8"])
def test_detections_are_those_of_the_pipeline(
    kind, detect, tiny_coco, light_onnx, tmp_path, run_stage
):
    data = ["--data", tiny_coco, "--all-images"]
    run_stage("ssd_preprocess.py", *data, "--bin-output", tmp_path / "bin")
    command = ["ssd_infer.py", "--model", light_onnx, "--input", tmp_path / "bin"]
    run_stage(*command, "--output", tmp_path / "r", "--output_dirname", "bs")
    command = ["ssd_postprocess.py", *data, "--bin-input", tmp_path / "r" / "bs"]
    command += ["--output", tmp_path / "scores.json", "--detections", tmp_path / "d.json"]
    assert run_stage(*command).returncode == 0
    expected = json.loads((tmp_path / "d.json").read_text())
    assert len(expected) > 100

    model = light_onnx
    if kind == "batch of 3":
        model = fixed(light_onnx, tmp_path / "fixed.onnx", 3)
    if kind == "uint8":
        model = with_bytes(light_onnx, tmp_path / "uint8.onnx")
    annotation = tiny_coco / ssd_coco.INSTANCES
    options = ["--labels", annotation, "--score", "0"]
    status, out, _, found = detect(tiny_coco / "val2017", *options, model=model)
    assert status == 0
    assert out[-1].endswith(f"5 images, 0 bad, {len(expected)} detections")
    images = {image["id"]: image for image in found["images"]}
    assert [image["file_name"] for image in images.values()] == names(tiny_coco / "val2017")
    tolerance = 2e-4 if kind == "uint8" else 0  # it normalises by itself
    for mine, theirs in zip(found["annotations"], expected, strict=True):
        assert int(images[mine["image_id"]]["file_name"][:12]) == theirs["image_id"]
        assert mine["category_id"] == theirs["category_id"]
        assert mine["bbox"] == pytest.approx(theirs["bbox"], rel=tolerance, abs=tolerance * 100)
        assert mine["score"] == pytest.approx(theirs["score"], abs=tolerance)


def test_the_json_is_a_coco_file_that_others_can_read(detect, pictures, tmp_path):
    from pycocotools.coco import COCO

    noise(90, 60).save(pictures / "a.png")
    noise(50, 70, 1).save(pictures / "b.jpg")
    _, _, _, found = detect(pictures, "--score", "0.6")
    path = tmp_path / "out" / "detections.json"
    coco = COCO(path)
    assert coco.loadImgs([2])[0] == {"id": 2, "file_name": "b.jpg", "width": 50, "height": 70}
    assert [one["name"] for one in coco.loadCats([1, 2, 3, 4])] == NAMES
    annotations = ssd_coco.read_instances(path)["annotations"]
    ssd_coco.check_scorable(found, path)
    assert annotations and all(one["score"] >= 0.6 for one in annotations)
    for one in annotations:
        assert one["area"] == one["bbox"][2] * one["bbox"][3]
    scores = [one["score"] for one in annotations if one["image_id"] == 1]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_picture_gives_what_the_upright_one_does(orientation, detect, pictures, tmp_path):
    upright = noise(96, 64)
    exif = Image.Exif()
    exif[0x112] = orientation
    upright.transpose(TURNS[orientation]).save(pictures / "turned.png", exif=exif)
    upright.save(pictures / "upright.png")
    _, _, _, found = detect(pictures)
    assert [(one["width"], one["height"]) for one in found["images"]] == [(96, 64), (96, 64)]
    assert rows_of(found, 1) == rows_of(found, 2) != []
    drawn = [Image.open(tmp_path / "out" / f"{name}.png") for name in ("turned", "upright")]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert drawn[0].getexif().get(0x112, 1) == 1


def test_a_single_picture_prints_what_is_found_and_shows_it(detect, pictures, tmp_path):
    noise(320, 240).save(pictures / "a.png")
    status, out, err, found = detect(pictures / "a.png", "--score", "0.8")
    assert status == 0 and err == []
    best = found["annotations"][0]
    x, y, width, height = best["bbox"]
    name = NAMES[best["category_id"] - 1]
    line = out[2].split(None, 5)
    assert line == [
        f"{best['score']:.3f}",
        *(f"{v:.1f}" for v in (x, y, x + width, y + height)),
        name,
    ]
    assert out[-1] == f"{tmp_path / 'out'}: 1 image, 0 bad, {len(found['annotations'])} detections"
    before = np.asarray(Image.open(pictures / "a.png"))
    after = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert before.shape == after.shape and (before != after).any()


def test_each_box_has_the_name_score_and_colour_of_its_label():
    categories = [{"id": 5, "name": "kite"}, {"id": 2, "name": "猫"}]
    detector = ssd_find.Detector(None, 1, categories, 0.5)
    rows = np.array([[0, 10, 20, 100, 50, 0.874, 2], [0, -30, 90, 80, 70, 0.5, 5]])
    bgr = np.asarray(noise(200, 200))
    boxes = [DrawnBox((10, 20, 110, 70), "猫 0.87", label_colour(2))]
    boxes.append(DrawnBox((-30, 90, 50, 160), "kite 0.50", label_colour(1)))
    made = ssd_find.draw_found(bgr, ssd_find.Found({}, rows), detector)
    assert (made == draw(bgr, boxes)).all()


def test_a_picture_without_a_detection_is_written_as_it_is(detect, pictures, tmp_path):
    noise(90, 60).save(pictures / "a.png")
    status, out, _, found = detect(pictures / "a.png", "--score", "1")
    assert status == 0 and found["annotations"] == [] and len(found["images"]) == 1
    assert out[-1].endswith("1 image, 0 bad, 0 detections")
    before, after = Image.open(pictures / "a.png"), Image.open(tmp_path / "out" / "a.png")
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("P", "png"), ("1", "png"), ("LA", "png")]
    + [("P", "gif"), ("RGB", "bmp"), ("RGB", "webp"), ("CMYK", "tif"), ("RGB", "JPEG")],
)
def test_every_colour_mode_gives_what_its_rgb_copy_does(mode, suffix, detect, pictures, tmp_path):
    noise(80, 60).convert(mode).save(pictures / f"a.{suffix}")
    Image.open(pictures / f"a.{suffix}").convert("RGB").save(pictures / "b.png")
    status, _, err, found = detect(pictures)
    assert status == 0 and err == []
    assert rows_of(found, 1) == rows_of(found, 2) != []
    written = f"a.{suffix}" if suffix in ("jpg", "JPEG", "png") else f"a.{suffix}.png"
    assert names(tmp_path / "out") == sorted([written, "b.png", "detections.json"])


def test_16_bit_grey_is_scaled_not_cut_off(detect, pictures):
    grey = np.asarray(noise(80, 60).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(pictures / "deep.png")
    Image.fromarray(grey).save(pictures / "flat.png")
    _, _, _, found = detect(pictures)
    assert rows_of(found, 1) == rows_of(found, 2) != []


def test_the_stage_for_coco_turns_nothing(pictures):
    exif = Image.Exif()
    exif[0x112] = 6
    noise(96, 64).save(pictures / "turned.png", exif=exif)
    plain = noise(96, 64).resize((300, 300), Image.Resampling.BILINEAR)
    assert ssd_preprocess.resize(pictures / "turned.png").tobytes() == plain.tobytes()


def test_broken_exif_data_turns_nothing_and_harms_nothing(detect, pictures):
    noise(96, 64).save(pictures / "a.jpg", exif=b"Exif\0\0MM\0R no EXIF data")
    Image.open(pictures / "a.jpg").save(pictures / "b.png", exif=b"")
    status, _, err, found = detect(pictures)
    assert status == 0 and err == []
    assert rows_of(found, 1) == rows_of(found, 2) != []


def test_a_picture_too_large_for_memory_is_told(detect, pictures, monkeypatch):
    noise(90, 60).save(pictures / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    Image.new("L", (2000, 1001)).save(pictures / "b.png")
    status, _, err, _ = detect(pictures)
    assert status == 1 and len(err) == 1
    assert err[0].endswith("b.png: more than 2 million pixels; scale it down")


def test_of_an_animation_the_first_picture_counts(detect, pictures):
    first, second = noise(40, 30).convert("P"), noise(40, 30, 1).convert("P")
    first.save(pictures / "a.gif", save_all=True, append_images=[second])
    Image.open(pictures / "a.gif").convert("RGB").save(pictures / "b.png")
    _, _, _, found = detect(pictures)
    assert rows_of(found, 1) == rows_of(found, 2) != []


def test_pictures_of_any_size_are_drawn_at_their_size(detect, pictures, tmp_path):
    sizes = [(1, 1), (1, 500), (500, 1), (60, 40), (3000, 2000)]
    for i, size in enumerate(sizes):
        noise(*size).save(pictures / f"{i}.png")
    status, _, err, _ = detect(pictures)
    assert status == 0 and err == []
    for i, size in enumerate(sizes):
        assert Image.open(tmp_path / "out" / f"{i}.png").size == size


def test_large_pictures_of_a_batch_are_read_again(detect, pictures, monkeypatch, tmp_path):
    for i in range(3):
        noise(90, 60, i).save(pictures / f"{i}.png")
    drawn = []
    for kept in (0, 1 << 30):
        monkeypatch.setattr("ssd_find.KEPT_BYTES", kept)
        detect(pictures)
        drawn.append([(tmp_path / "out" / f"{i}.png").read_bytes() for i in range(3)])
    assert drawn[0] == drawn[1]


def test_bad_files_are_told_and_the_others_done(detect, pictures, light_onnx, tmp_path):
    noise(90, 60).save(pictures / "a.png")
    (pictures / "0.jpg").write_text("no picture")
    (pictures / "c.png").write_bytes((pictures / "a.png").read_bytes()[:300])
    (pictures / "d\nd.mp4").write_text("no video")
    (pictures / "e.gif").touch()
    (pictures / "notes.txt").touch()
    noise(90, 60).save(pictures / "f.png")
    for model in (light_onnx, fixed(light_onnx, tmp_path / "fixed.onnx", 4)):
        status, out, err, found = detect(pictures, model=model)
        assert status == 1
        assert len(err) == 4
        for line, name in zip(sorted(err), ("0.jpg", "c.png", "d\\nd.mp4", "e.gif"), strict=True):
            assert line.startswith("ssd_detect.py: error: ") and f"{name}: not a" in line
        assert out[-1].startswith(f"{tmp_path / 'out'}: 2 images, 4 bad, ")
        assert [image["file_name"] for image in found["images"]] == ["a.png", "f.png"]
        assert rows_of(found, 1) == rows_of(found, 2)
        assert names(tmp_path / "out") == ["a.png", "detections.json", "f.png"]


def test_only_bad_files_is_not_a_crash(detect, pictures):
    (pictures / "b.jpg").write_text("no picture")
    status, out, err, found = detect(pictures)
    assert status == 1 and len(err) == 1 and found["images"] == []
    assert out[-1].endswith(": 0 images, 1 bad, 0 detections")


def test_odd_names_are_names_like_any_other(detect_stage, pictures, tmp_path):
    odd = ["一 'b'; \"c\" $(d).png", "new\nline.png", "x[1]*.png", "-o.png", "a" * 250 + ".png"]
    odd += [os.fsdecode(b"\xff.png"), "%02d.png"]
    for name in odd:
        noise(40, 30).save(pictures / name)
    done = detect_stage(pictures, "--json", "--output", tmp_path / 'o "u"; t*')
    assert done.returncode == 0 and done.stderr == "", done.stderr
    expected = [name if len(name) < 240 else "a" * 50 + ".png" for name in odd]
    assert names(tmp_path / 'o "u"; t*') == sorted([*expected, "detections.json"])
    for name in odd:
        done = detect_stage(pictures / name)
        assert done.returncode == 0 and done.stderr == ""


def test_names_do_not_collide(pictures, tmp_path):
    made = [pictures / name for name in ("x/a.jpg", "x/a.png", "y/a.jpg", "y/A.JPG", "y/a.tif")]
    made += [pictures / name for name in ("y/a.tif.png", "z/a_2.jpg", "z/v.avi", "z/v.mp4")]
    targets = [path.name for path in ssd_media.target_paths(made, tmp_path / "out")]
    expected = ["a.jpg", "a.png", "a_2.jpg", "A_3.JPG", "a.tif.png", "a.tif_2.png"]
    assert targets == [*expected, "a_2_2.jpg", "v.avi.mp4", "v.mp4"]


def test_a_pattern_takes_several_folders(detect, pictures, tmp_path):
    for folder in ("x", "y/z"):
        (pictures / folder).mkdir(parents=True)
        noise(40, 30).save(pictures / folder / "a.png")
        (pictures / folder / "a.txt").touch()
    _, _, _, found = detect(pictures / "**" / "*")
    assert [image["file_name"] for image in found["images"]] == ["x/a.png", "y/z/a.png"]
    assert names(tmp_path / "out") == ["a.png", "a_2.png", "detections.json"]


def test_a_folder_is_taken_in_natural_order_without_what_lies_below(pictures):
    for name in ("10.jpg", "9.jpg", "8.MP4", ".hidden.jpg", "below/7.jpg", "x.jpg/y"):
        (pictures / name).parent.mkdir(exist_ok=True)
        (pictures / name).touch()
    found = [path.name for path in ssd_media.find_sources(str(pictures))]
    assert found == ["8.MP4", "9.jpg", "10.jpg"]


def test_the_sources_are_never_written_over(detect_stage, pictures, refused, tmp_path):
    noise(40, 30).save(pictures / "a.png")
    before = (pictures / "a.png").read_bytes()
    (tmp_path / "link").symlink_to(pictures)
    for output in (pictures, tmp_path / "link", pictures / ".." / pictures.name):
        for source in (pictures, pictures / "a.png", tmp_path / "link" / "*.png"):
            done = detect_stage(source, "--output", output)
            refused(done, "holds the source a.png; choose another --output")
    assert names(pictures) == ["a.png"] and (pictures / "a.png").read_bytes() == before


@pytest.mark.parametrize("source", ["none.jpg", "empty", "*.nothing", "em*", ""])
def test_a_source_that_is_not_there_is_told(source, detect_stage, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    done = detect_stage(tmp_path / source if source else "/none", "--output", tmp_path / "o")
    refused(
        done, "no such file" if source in ("none.jpg", "*.nothing", "") else "no picture or video"
    )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\nc\n", "3 names, the model has 4 labels besides background"),
        ("", "0 names"),
        (b"\xff\xfe\xff", "not UTF-8"),
        (None, "cannot read: No such file"),
        ("{}", "no list of images"),
        ("[", "not JSON"),
    ],
)
def test_names_that_do_not_fit_are_told(text, told, detect_stage, refused, pictures, tmp_path):
    noise(40, 30).save(pictures / "a.png")
    path = tmp_path / ("l.json" if text in ("{}", "[") else "l.txt")
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(detect_stage(pictures, "--labels", path), path, told)
    assert not (tmp_path / "out").exists()


def test_coco_is_the_default_for_81_labels_alone():
    assert ssd_detect.read_categories(None, 81) == ssd_detect.read_categories("coco", 81)
    assert ssd_detect.read_categories(None, 81)[-1] == {"id": 90, "name": "toothbrush"}
    for labels in (None, "coco"):
        with pytest.raises(ssd_coco.KitError, match="80 names, the model has 4 labels"):
            ssd_detect.read_categories(labels, 5)


def test_names_of_a_text_file_may_have_a_mark_spaces_and_gaps(tmp_path):
    path = tmp_path / "names"
    path.write_bytes(b"\xef\xbb\xbfkite \r\n\r\n red fox\r\n")
    assert ssd_detect.read_categories(str(path), 3) == [
        {"id": 1, "name": "kite"},
        {"id": 2, "name": "red fox"},
    ]


def test_an_annotation_file_gives_its_categories_in_their_order(tiny_coco):
    found = ssd_detect.read_categories(str(tiny_coco / ssd_coco.INSTANCES), 5)
    assert [one["id"] for one in found] == [3, 7, 11, 90]


@pytest.mark.parametrize("args", [["--score", "1.5"], ["--score", "nan"], ["--score", "x"], []])
def test_wrong_usage_exits_2(args, run_stage):
    command = ["--model", "m", *(["--source", "s"] if args else [])]
    done = run_stage("ssd_detect.py", *command, *args)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_model_that_gives_no_numbers_is_told(detect_stage, pictures, light_onnx, tmp_path):
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
    noise(40, 30).save(pictures / "a.png")
    done = detect_stage(pictures, "--model", tmp_path / "nan.onnx")
    assert done.returncode == 1
    assert done.stderr == "ssd_detect.py: error: a.png: NaN or infinite outputs; " + (
        "check the model's precision\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_leaves_no_half_file(detect_stage, pictures, refused, tmp_path):
    noise(400, 300).save(pictures / "a.png")
    refused(detect_stage(pictures, room=10_000), "a.png: cannot write", "free space")
    assert names(tmp_path / "out") == []
    write_video(pictures / "v.avi", [np.asarray(noise(320, 240, i)) for i in range(20)])
    (pictures / "a.png").unlink()
    refused(detect_stage(pictures, room=30_000), "v.avi.mp4: cannot write", "free space")
    assert names(tmp_path / "out") == []


def test_an_output_that_cannot_be_is_told(detect_stage, pictures, refused, tmp_path):
    noise(40, 30).save(pictures / "a.png")
    (tmp_path / "file").touch()
    refused(detect_stage(pictures, "--output", tmp_path / "file"), "file", "cannot write")


def test_a_checkpoint_gives_what_its_onnx_does(
    detect, checkpoint, onnx_file, pictures, tmp_path, monkeypatch
):
    (tmp_path / "two").write_text("one\ntwo")
    noise(90, 60).save(pictures / "a.png")
    found = [
        detect(pictures, "--labels", tmp_path / "two", "--score", "0.3", model=model)[3]
        for model in (checkpoint, onnx_file)
    ]
    ours, theirs = (np.array(rows_of(one)) for one in found)
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours[:, 4], theirs[:, 4], atol=1e-3)


@pytest.mark.parametrize("batch", [None, 4])
def test_a_video_gives_a_video_of_what_is_in_its_frames(
    batch, detect, light_onnx, pictures, tmp_path
):
    frames = [np.asarray(noise(320, 240, i)) for i in range(10)]
    write_video(pictures / "一 v.avi", frames)
    frames, _ = read_video(pictures / "一 v.avi")  # as compressed
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"f{i}.png"), frame)
    _, _, _, expected = detect(tmp_path / "f*.png")
    model = fixed(light_onnx, tmp_path / "fixed.onnx", batch) if batch else light_onnx
    status, out, err, found = detect(pictures / "一 v.avi", model=model)
    assert status == 0 and err == []
    assert rows_of(found) == rows_of(expected) != []
    assert found["images"][9] == {
        **{"id": 10, "file_name": "一 v.avi", "width": 320, "height": 240, "frame": 9}
    }
    made, fps = read_video(tmp_path / "out" / "一 v.avi.mp4")
    assert len(made) == 10 and fps == pytest.approx(12.5)
    for i, frame in enumerate(made):  # near the drawn picture, and not the plain one
        drawn = cv2.imread(str(tmp_path / "out" / f"f{i}.png")).astype(int)
        plain = np.abs(frame - frames[i].astype(int)).mean()
        assert np.abs(frame - drawn).mean() < plain / 2


def test_a_video_that_breaks_off_is_told_and_kept(detect, pictures, tmp_path):
    frames = [np.asarray(noise(320, 240, i)) for i in range(20)]
    write_video(pictures / "v.avi", frames)
    whole = (pictures / "v.avi").read_bytes()
    (pictures / "v.avi").write_bytes(whole[: len(whole) // 2])
    status, _, err, found = detect(pictures)
    count = len(found["images"])
    assert status == 1 and 5 < count < 12
    told = f"{pictures / 'v.avi'}: ends after {count} of 20 frames; fetch it again"
    assert err == [f"ssd_detect.py: error: {told}"]
    assert len(read_video(tmp_path / "out" / "v.avi.mp4")[0]) == count


def test_a_video_without_a_frame_is_passed_over(detect, pictures, tmp_path):
    write_video(pictures / "v.avi", [np.asarray(noise(320, 240))])
    whole = (pictures / "v.avi").read_bytes()
    (pictures / "v.avi").write_bytes(whole[: whole.index(b"movi") + 4])
    noise(40, 30).save(pictures / "a.png")
    status, _, err, found = detect(pictures)
    assert status == 1 and len(found["images"]) == 1
    assert err == [
        f"ssd_detect.py: error: {pictures / 'v.avi'}: not a video that OpenCV can read; "
        "convert or fetch it again"
    ]
    assert names(tmp_path / "out") == ["a.png", "detections.json"]


class FakeCamera:
    """A camera of 10 frames a second; after `last` frames the user presses Ctrl-C."""

    def __init__(self, last=5):
        self.frame, self.last = np.asarray(noise(320, 240)).copy(), last
        self.taken = 0

    def isOpened(self):
        return True

    def get(self, what):
        return {cv2.CAP_PROP_FPS: 10.0}.get(what, 0.0)

    def read(self):
        self.taken += 1
        if self.taken == self.last:
            os.kill(os.getpid(), signal.SIGINT)
        return True, self.frame


def test_a_camera_is_recorded_until_ctrl_c(detect, tmp_path, monkeypatch):
    camera = FakeCamera()
    real = ssd_media.open_video
    monkeypatch.setattr(
        "ssd_media.open_video", lambda source: camera if source == 0 else real(source)
    )
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    status, out, err, found = detect("0")
    assert status == 0 and signal.getsignal(signal.SIGINT) is before
    assert "Ctrl-C ends it" in err[0]
    assert names(tmp_path / "out") == ["camera0.mp4", "detections.json"]
    made, fps = read_video(tmp_path / "out" / "camera0.mp4")
    assert fps == pytest.approx(10) and len(made) >= len(found["images"]) >= 5
    assert rows_of(found, 1) == rows_of(found, 5) != []


def test_a_slow_model_makes_a_recording_no_shorter():
    written = []
    engine = type("Engine", (), {"labels": 5})
    detector = ssd_find.Detector(engine, 1, [{"id": i, "name": "x"} for i in range(4)], 1.0)
    outputs = [np.zeros((4, 8732), np.float32), np.zeros((5, 8732), np.float32)]
    writer = ssd_find.FrameWriter(written.append, "camera", 10.0, detector)
    frames = [np.full((9, 9, 3), i, np.uint8) for i in range(4)]
    for frame, taken in zip(frames, (100.0, 100.01, 100.55, 101.0), strict=True):
        writer.finish(frame, taken, outputs)
    # at 10 a second: due are 1, 1, 6 and 11 frames
    assert [int(frame[0, 0, 0]) for frame in written] == [0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]


def test_no_camera_is_told(detect_stage, refused):
    refused(detect_stage("63"), "--source 63: no such camera")


def test_ctrl_c_in_the_middle_leaves_no_half_file(light_onnx, labels, pictures, tmp_path):
    write_video(pictures / "v.avi", [np.asarray(noise(640, 480, i)) for i in range(150)])
    command = [sys.executable, str(ROOT / "ssd_detect.py"), "--model", str(light_onnx)]
    command += ["--source", str(pictures), "--labels", str(labels), "--output", str(tmp_path / "o")]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not (tmp_path / "o").is_dir():
        pass
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    assert run.returncode == 130 and err == ""
    assert names(tmp_path / "o") == []
