"""The sample is what it says, and the whole pipeline works on real images too."""

import json

import pytest
from PIL import Image

pytest.importorskip("torch")
import ssd_sample
from ssd import coco


def test_the_drawn_data_set_is_a_miniature_coco(tmp_path):
    for name in "ab":
        ssd_sample.make_data(tmp_path / name)
    files = [p.relative_to(tmp_path / "a") for p in sorted((tmp_path / "a").rglob("*.*"))]
    assert len(files) == 33
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    instances = coco.read_instances(tmp_path / "a" / coco.INSTANCES)
    coco.check_scorable(instances, tmp_path)
    assert [c["id"] for c in instances["categories"]][-1] == 90
    assert len(instances["categories"]) == 80
    assert len(instances["images"]) == 32
    assert len(coco.select_images(instances, all_images=False)) == 30
    assert sum(a["iscrowd"] for a in instances["annotations"]) == 1
    images = [Image.open(tmp_path / "a" / file) for file in files if file.suffix == ".jpg"]
    assert [p.mode for p in images].count("L") == 1
    assert len({p.size for p in images}) > 25
    for image in instances["images"]:
        size = Image.open(tmp_path / "a" / coco.IMAGE_FOLDER / image["file_name"]).size
        assert size == (image["width"], image["height"])


@pytest.mark.slow
def test_real_images_score_alike_in_every_engine(real, tmp_path, run_stage):
    def stage(name, *args):
        done = run_stage(name, *args)
        assert done.returncode == 0, done.stderr
        return done

    def score(model, inputs):
        detections, result = tmp_path / "d.json", tmp_path / "r.json"
        stage(
            "ssd_infer.py", "--model", model, "--input", tmp_path / inputs, "--data", real.data,
            "--detections", detections,
        )  # fmt: skip
        stage(
            "ssd_postprocess.py", "--data", real.data, "--score-only", detections,
            "--output", result,
        )  # fmt: skip
        return json.loads(result.read_text())["stats"]["AP"]

    for dtype in ("float32", "uint8"):
        stage(
            "ssd_preprocess.py", "--data", real.data, "--bin-output", tmp_path / dtype,
            "--dtype", dtype,
        )  # fmt: skip
    stage(
        "ssd_pth2onnx.py", "--pth-path", real.checkpoint, "--bs", "4", "--input", "uint8",
        "--onnx-path", tmp_path / "uint8.onnx",
    )  # fmt: skip
    in_torch = score(real.checkpoint, "float32")
    in_onnx = score(real.onnx, "float32")
    in_uint8 = score(tmp_path / "uint8.onnx", "uint8")
    assert in_torch >= 0.5
    assert in_onnx == pytest.approx(in_torch, abs=1e-3)
    assert in_uint8 == pytest.approx(in_onnx, abs=1e-4)
