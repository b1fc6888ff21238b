"""What ssd_detect.py finds in images of every kind is what the pipeline finds."""

import json
from collections import Counter

from ssd.coco import INSTANCES, check_scorable, read_instances
from ssd.detect.detector import Detector, draw_found, pack
from ssd.detections import RESULT_FIELDS
from ssd.draw import DrawnBox, draw, label_color
from ssd.images import resize

import numpy as np
import pytest
from detecting import NAMES, fixed, names, noise, rows_of, with_bytes
from models import make_detections
from PIL import Image

TURNS = {  # EXIF orientation: how the stored image lies, seen from the upright one
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # the viewer turns it clockwise, so it lies counterclockwise
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["any batch", "batch of 3", "uint8"])
def test_detections_are_those_of_the_pipeline(
    kind, detect, five_coco, light_onnx, tmp_path, run_stage
):
    data = ["--data", five_coco]
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
    annotation = five_coco / INSTANCES
    options = ["--labels", annotation, "--score", "0"]
    status, out, _, found = detect(five_coco / "val2017", *options, model=model)
    assert status == 0
    assert out[-1].endswith(f"5 images, 0 bad, {len(expected)} detections")
    images = {image["id"]: image for image in found["images"]}
    assert [image["file_name"] for image in images.values()] == names(five_coco / "val2017")
    tolerance = 2e-4 if kind == "uint8" else 0  # it normalizes by itself
    for mine, theirs in zip(found["annotations"], expected, strict=True):
        assert int(images[mine["image_id"]]["file_name"][:12]) == theirs["image_id"]
        assert mine["category_id"] == theirs["category_id"]
        assert mine["bbox"] == pytest.approx(theirs["bbox"], rel=tolerance, abs=tolerance * 100)
        assert mine["score"] == pytest.approx(theirs["score"], abs=tolerance)


def test_the_json_is_a_coco_file_that_others_can_read(detect, images, tmp_path):
    from pycocotools.coco import COCO

    noise(90, 60).save(images / "a.png")
    noise(50, 70, 1).save(images / "b.jpg")
    _, _, _, found = detect(images, "--score", "0.6")
    path = tmp_path / "out" / "detections.json"
    coco = COCO(path)
    assert coco.loadImgs([2])[0] == {"id": 2, "file_name": "b.jpg", "width": 50, "height": 70}
    assert [category["name"] for category in coco.loadCats([1, 2, 3, 4])] == NAMES
    annotations = read_instances(path)["annotations"]
    check_scorable(found, path)
    assert annotations and all(a["score"] >= 0.6 for a in annotations)
    for a in annotations:
        assert a["area"] == a["bbox"][2] * a["bbox"][3]
    scores = [a["score"] for a in annotations if a["image_id"] == 1]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_image_gives_what_the_upright_one_does(orientation, detect, images, tmp_path):
    upright = noise(96, 64)
    exif = Image.Exif()
    exif[0x112] = orientation
    upright.transpose(TURNS[orientation]).save(images / "turned.png", exif=exif)
    upright.save(images / "upright.png")
    _, _, _, found = detect(images)
    assert [(image["width"], image["height"]) for image in found["images"]] == [(96, 64), (96, 64)]
    assert rows_of(found, 1) == rows_of(found, 2) != []
    drawn = [Image.open(tmp_path / "out" / f"{name}.png") for name in ("turned", "upright")]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert drawn[0].getexif().get(0x112, 1) == 1


def test_a_single_image_prints_what_is_found_and_shows_it(detect, images, tmp_path):
    noise(320, 240).save(images / "a.png")
    status, out, err, found = detect(images / "a.png", "--score", "0.8")
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
    before = np.asarray(Image.open(images / "a.png"))
    after = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert before.shape == after.shape and (before != after).any()


def test_each_box_has_the_name_score_and_color_of_its_label():
    categories = [{"id": 5, "name": "kite"}, {"id": 2, "name": "猫"}]
    detector = Detector(None, 1, categories, 0.5)
    detections = make_detections((0, 10, 20, 110, 70, 0.874, 2), (0, -30, 90, 50, 160, 0.5, 5))
    bgr = np.asarray(noise(200, 200))
    boxes = [DrawnBox((10, 20, 110, 70), "猫 0.87", label_color(2))]
    boxes.append(DrawnBox((-30, 90, 50, 160), "kite 0.50", label_color(1)))
    made = draw_found(bgr, detections, detector)
    assert (made == draw(bgr, boxes)).all()


def test_an_image_without_a_detection_is_written_as_it_is(detect, images, tmp_path):
    noise(90, 60).save(images / "a.png")
    status, out, _, found = detect(images / "a.png", "--score", "1")
    assert status == 0 and found["annotations"] == [] and len(found["images"]) == 1
    assert out[-1].endswith("1 image, 0 bad, 0 detections")
    before, after = Image.open(images / "a.png"), Image.open(tmp_path / "out" / "a.png")
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("P", "png"), ("1", "png"), ("LA", "png")]
    + [("P", "gif"), ("RGB", "bmp"), ("RGB", "webp"), ("CMYK", "tif"), ("RGB", "JPEG")],
)
def test_every_color_mode_gives_what_its_rgb_copy_does(mode, suffix, detect, images, tmp_path):
    noise(80, 60).convert(mode).save(images / f"a.{suffix}")
    Image.open(images / f"a.{suffix}").convert("RGB").save(images / "b.png")
    status, _, err, found = detect(images)
    assert status == 0 and err == []
    assert rows_of(found, 1) == rows_of(found, 2) != []
    written = f"a.{suffix}" if suffix in ("jpg", "JPEG", "png") else f"a.{suffix}.png"
    assert names(tmp_path / "out") == sorted([written, "b.png", "detections.json"])


@pytest.mark.parametrize(
    ("name", "deepen"),
    [
        ("16.png", lambda gray: gray.astype(np.uint16) * 257),
        ("16.tif", lambda gray: gray.astype(np.uint16) * 257),
        ("float.tif", lambda gray: gray.astype(np.float32) / 255),
    ],
)
def test_deep_gray_is_scaled_not_cut_off(name, deepen, detect, images):
    gray = np.asarray(noise(80, 60).convert("L"))
    Image.fromarray(deepen(gray)).save(images / name)
    Image.fromarray(gray).save(images / "flat.png")
    status, _, err, found = detect(images)
    assert status == 0 and err == []
    assert rows_of(found, 1) == rows_of(found, 2) != []


def test_its_json_scores_1_against_itself(detect, images, light_onnx, tmp_path, run_stage):
    exif = Image.Exif()
    for orientation in (1, 3, 6, 8):
        exif[0x112] = orientation
        noise(96, 64, orientation).save(images / f"{orientation}.jpg", exif=exif)
    status, _, _, found = detect(images, "--score", "0.85")
    counts = Counter((a["image_id"], a["category_id"]) for a in found["annotations"])
    assert status == 0 and max(counts.values()) <= 100  # COCO scores no more
    path = tmp_path / "out" / "detections.json"
    data = ["--annotation", path, "--images", images]
    ours = [{key: a[key] for key in RESULT_FIELDS} for a in found["annotations"]]
    (tmp_path / "ours.json").write_text(json.dumps(ours))
    command = ["ssd_preprocess.py", *data, "--apply-exif", "--bin-output", tmp_path / "bin"]
    assert run_stage(*command).returncode == 0
    command = ["ssd_infer.py", "--model", light_onnx, "--input", tmp_path / "bin"]
    run_stage(*command, "--output", tmp_path / "r", "--output_dirname", "bs")
    for given in (["--score-only", tmp_path / "ours.json"], ["--bin-input", tmp_path / "r" / "bs"]):
        done = run_stage("ssd_postprocess.py", *data, *given, "--output", tmp_path / "s.json")
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "s.json").read_text())["stats"]["AP"] == 1


def test_the_stage_for_coco_turns_nothing(images):
    exif = Image.Exif()
    exif[0x112] = 6
    noise(96, 64).save(images / "turned.png", exif=exif)
    plain = noise(96, 64).resize((300, 300), Image.Resampling.BILINEAR)
    assert resize(images / "turned.png").tobytes() == plain.tobytes()


def test_broken_exif_data_turns_nothing_and_harms_nothing(detect, images):
    noise(96, 64).save(images / "a.jpg", exif=b"Exif\0\0MM\0R no EXIF data")
    Image.open(images / "a.jpg").save(images / "b.png", exif=b"")
    status, _, err, found = detect(images)
    assert status == 0 and err == []
    assert rows_of(found, 1) == rows_of(found, 2) != []


def test_an_image_too_large_for_memory_is_reported(detect, images, monkeypatch):
    noise(90, 60).save(images / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    Image.new("L", (2000, 1001)).save(images / "b.png")
    status, _, err, _ = detect(images)
    assert status == 1 and len(err) == 1
    assert err[0].endswith("b.png: more than 2 million pixels; scale it down")


def test_of_an_animation_the_first_frame_counts(detect, images):
    first, second = noise(40, 30).convert("P"), noise(40, 30, 1).convert("P")
    first.save(images / "a.gif", save_all=True, append_images=[second])
    Image.open(images / "a.gif").convert("RGB").save(images / "b.png")
    _, _, _, found = detect(images)
    assert rows_of(found, 1) == rows_of(found, 2) != []


def test_images_of_any_size_are_drawn_at_their_size(detect, images, tmp_path):
    sizes = [(1, 1), (1, 500), (500, 1), (60, 40), (3000, 2000)]
    for i, size in enumerate(sizes):
        noise(*size).save(images / f"{i}.png")
    status, _, err, _ = detect(images)
    assert status == 0 and err == []
    for i, size in enumerate(sizes):
        assert Image.open(tmp_path / "out" / f"{i}.png").size == size


def test_large_images_of_a_batch_are_read_again(detect, images, monkeypatch, tmp_path):
    for i in range(3):
        noise(90, 60, i).save(images / f"{i}.png")
    drawn = []
    for kept in (0, 1 << 30):
        monkeypatch.setattr("ssd.detect.detector.KEPT_BYTES", kept)
        detect(images)
        drawn.append([(tmp_path / "out" / f"{i}.png").read_bytes() for i in range(3)])
    assert drawn[0] == drawn[1]


def test_an_image_that_goes_meanwhile_is_one_bad_file(detect, images, monkeypatch):
    for i in range(2):
        noise(90, 60, i).save(images / f"{i}.png")

    def pack_and_remove(*args):
        (images / "0.png").unlink(missing_ok=True)
        return pack(*args)

    monkeypatch.setattr("ssd.detect.detector.KEPT_BYTES", 0)
    monkeypatch.setattr("ssd.detect.detector.pack", pack_and_remove)
    status, _, err, found = detect(images)
    assert status == 1 and len(err) == 1 and "0.png: no such image" in err[0]
    assert [image["file_name"] for image in found["images"]] == ["1.png"]
