"""Models, images and options that ssd_quantize.py refuses, in one line each."""

import numpy as np
import pytest
from models import write_color_data

onnx = pytest.importorskip("onnx")
import ssd_quantize  # noqa: E402
from ssd.cli import KitError  # noqa: E402

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from small_ssd import NODES, save, weights_of, write_images  # noqa: E402


def quantize(model, folder):
    """Quantize all of a model with images in `folder`; return the INT8 model."""
    output, images = folder / "int8.onnx", write_images(folder / "in", dtype="float32")
    command = ["--onnx-path", model, "--calibration", images, "--output", output]
    ssd_quantize.main([*map(str, command), "--skip", "none"])
    return output


def as_float16(model):
    for tensor in model.graph.initializer:
        if tensor.name.endswith("weight"):
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype("e"), tensor.name)
            )
    for node in model.graph.node:
        node.input[:] = [f"{n}_32" if n.endswith("weight") else n for n in node.input]
    names = [t.name for t in model.graph.initializer if t.name.endswith("weight")]
    for name in names:
        cast = helper.make_node("Cast", [name], [f"{name}_32"], to=TensorProto.FLOAT)
        model.graph.node.insert(0, cast)


def broken(model):
    for tensor in model.graph.initializer:
        if tensor.name == f"{NODES[1]}.weight":
            tensor.CopyFrom(numpy_helper.from_array(weights_of()[NODES[1]] * np.nan, tensor.name))


@pytest.mark.parametrize(
    ("change", "message"),
    [(as_float16, "whose weights are not float32"), (broken, "NaN or infinite")],
)
def test_a_model_that_cannot_be_quantized_is_refused(change, message, tmp_path):
    path = save(tmp_path / "a.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(KitError, match=message):
        quantize(path, tmp_path)
    assert not (tmp_path / "int8.onnx").exists()


@pytest.fixture
def bad(tmp_path, run_stage, refused):
    """Run the stage as a user does, and check that it refuses in one line."""

    def check(*words, model=None, images=None, more=(), room=None):
        model = model or save(tmp_path / "a.onnx")
        images = images or write_images(tmp_path / "in", dtype="float32")
        command = ["--onnx-path", model, "--calibration", images, "--output", tmp_path / "o.onnx"]
        done = run_stage("ssd_quantize.py", *command, *more, room=room)
        refused(done, *words)
        assert not (tmp_path / "o.onnx").exists()
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    return check


def test_models_that_are_none_are_refused(bad, tmp_path, light_onnx):
    bad(tmp_path / "none.onnx", "no such model", model=tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    bad("text.onnx: not an ONNX model", model=tmp_path / "text.onnx")
    (tmp_path / "a.pt").write_text("checkpoint")
    bad("a.pt: not an ONNX file; make one with ssd_pth2onnx.py", model=tmp_path / "a.pt")
    bad("light.onnx: no convolution in it", model=light_onnx)
    fixed = onnx.load(save(tmp_path / "fixed.onnx", batch=2))
    shape = next(t for t in fixed.graph.initializer if t.name == "ploc_shape")
    shape.CopyFrom(numpy_helper.from_array(np.array([2, 4, 8732]), "ploc_shape"))
    (tmp_path / "fixed.onnx").write_bytes(fixed.SerializeToString())
    bad("fixed.onnx: does not run with one image", model=tmp_path / "fixed.onnx")
    output = quantize(save(tmp_path / "b.onnx"), tmp_path)
    bad("int8.onnx: is quantized already; give the float32 model", model=output)


def test_calibration_folders_that_do_not_fit_are_refused(bad, tmp_path):
    bad("no such folder; make it with ssd_preprocess.py", images=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    bad("no .bin or .npy file", images=tmp_path / "empty")
    floats = write_images(tmp_path / "floats", dtype="float32")
    model = save(tmp_path / "u.onnx", dtype="uint8")
    bad("tensor([9]).bin: float32, the model takes uint8", model=model, images=floats)
    (floats / "tensor([13]).bin").write_bytes(b"123")
    bad("tensor([13]).bin: 3 bytes, expected float32", images=floats)


def test_what_skip_does_not_find_is_named_with_what_is_near(bad):
    bad("--skip model.5.7: no such node; did you mean model.5.", more=["--skip", "model.5.7"])
    bad("--skip qqq: no such node; such as /model/model.0/Conv", more=["--skip", "qqq"])
    bad("leaves every convolution in float", more=["--skip", "*"])


def test_a_data_set_of_other_images_or_labels_is_refused(bad, tmp_path, tiny_coco):
    images = write_images(tmp_path / "one", 1, "float32")
    (images / "tensor([9]).bin").rename(images / "tensor([10]).bin")
    data = write_color_data(tmp_path / "data")
    bad("one: no image of", more=["--data", data], images=images)
    bad("4 categories, the model has 3", more=["--data", tiny_coco])
    bad("no such folder", more=["--data", tmp_path / "nowhere"])
    bad("no such file", more=["--annotation", tmp_path / "nowhere.json"])


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(bad, tmp_path):
    save(tmp_path / "a.onnx")
    bad("cannot write", room=10_000)  # not even the float model in the scratch folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "o", "--limit", "0"], "argument --limit: 0: must be a whole number"),
        (["--output", "o", "--method", "x"], "argument --method: invalid choice"),
        ([], "give --output, --ascend-calibration or both"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(options, message, run_stage):
    done = run_stage("ssd_quantize.py", "--onnx-path", "a", "--calibration", "b", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"ssd_quantize.py: error: {message}")
