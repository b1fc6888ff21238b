"""What atc calibrates with, as ssd_quantize.py writes it."""

import sys

import pytest

pytest.importorskip("onnx")
import ssd_quantize
from ssd.cli import KitError

from small_ssd import save, write_images


def ascend(tmp_path, model, *options, images=None):
    images = images or write_images(tmp_path / "in", dtype="float32")
    command = ["--onnx-path", model, "--calibration", images]
    command += ["--ascend-calibration", tmp_path / "atc", "--soc_version", "Ascend310P3", *options]
    ssd_quantize.main([str(part) for part in command])
    return tmp_path / "atc"


def test_atc_gets_the_images_joined_and_a_config(tmp_path, capsys):
    folder = ascend(tmp_path, save(tmp_path / "a.onnx", 3))
    assert sorted(path.name for path in folder.iterdir()) == ["calibration.bin", "calibration.cfg"]
    files = [tmp_path / "in" / f"tensor([{i}]).bin" for i in (9, 17, 25)]  # of 9, 13, 17, 21, 25
    joined = b"".join(path.read_bytes() for path in files)
    assert (folder / "calibration.bin").read_bytes() == joined
    assert (folder / "calibration.cfg").read_text() == (
        "calibration:\n{\n"
        f"    input_data_dir: {folder}/calibration.bin\n"
        "    input_shape: image:3,3,300,300\n"
        "    infer_soc: Ascend310P3\n}\n"
    )
    assert "3 images" in capsys.readouterr().out


def test_atc_gets_uint8_images_normalized_as_before_aipp(tmp_path):
    model, made = save(tmp_path / "a.onnx", "N"), []
    for dtype in ("float32", "uint8"):
        images = write_images(tmp_path / dtype, dtype=dtype)
        made.append((ascend(tmp_path, model, images=images) / "calibration.bin").read_bytes())
    assert made[0] == made[1] and len(made[0]) == 5 * 1080000


def test_atc_calibrates_on_as_many_images_as_the_batch(tmp_path, capsys):
    ascend(tmp_path, save(tmp_path / "a.onnx", 1))
    assert (tmp_path / "atc" / "calibration.bin").stat().st_size == 1080000
    assert "on one batch, here 1 images" in capsys.readouterr().err
    with pytest.raises(KitError, match="5 images, .* takes 9 at a time; make more"):
        ascend(tmp_path, save(tmp_path / "b.onnx", 9))


def test_atcs_files_need_no_quantizing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    ascend(tmp_path, save(tmp_path / "a.onnx", 1))
    with pytest.raises(ImportError):
        from onnxruntime.quantization import QuantType  # noqa: F401


def test_atc_refuses_models_and_paths_that_it_could_not_take(tmp_path, run_stage, refused):
    images = write_images(tmp_path / "in", dtype="uint8")
    model = save(tmp_path / "a.onnx", dtype="uint8")
    command = ["ssd_quantize.py", "--calibration", images, "--soc_version", "Ascend310"]
    done = run_stage(*command, "--onnx-path", model, "--ascend-calibration", tmp_path / "atc")
    refused(done, "a.onnx: takes uint8; atc wants a float32 model")
    model = save(tmp_path / "b.onnx")
    done = run_stage(*command, "--onnx-path", model, "--ascend-calibration", tmp_path / "a b")
    refused(done, "a b/calibration.bin: atc's config takes no blank, comma or semicolon")
    done = run_stage(*command, "--onnx-path", model, "--ascend-calibration", tmp_path / "c", room=9)
    refused(done, "cannot write")
    assert list((tmp_path / "c").iterdir()) == []
