"""Engines: the same answers from each, what they say of themselves, and what they refuse.

Run: python -m pytest test/test_ssd_engines.py
"""

import hashlib
import json
import sys
import types

import numpy as np
import pytest

import ssd_engines
from ssd_files import KitError
from ssd_preprocess import normalise

onnx = pytest.importorskip("onnx")


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


@pytest.fixture
def pictures():
    """Three batches of two, normalised."""
    rgb = np.random.default_rng(0).integers(0, 256, (3, 2, 300, 300, 3), dtype=np.uint8)
    return [np.stack([normalise(one) for one in batch]) for batch in rgb]


def test_openvino_gives_onnxruntimes_answers(openvino, onnx_file, pictures):
    reference = ssd_engines.open_engine(onnx_file)
    engine = ssd_engines.open_engine(onnx_file, engine="openvino")
    assert engine.name == f"openvino {openvino.__version__.partition('-')[0]}"
    assert engine.provider.startswith("CPU, convolutions: ") and " in f32" in engine.provider
    for key in ("batch", "dtype", "shape", "labels"):
        assert getattr(engine, key) == getattr(reference, key)
    found = [engine.run(batch) for batch in pictures]  # kept over later runs
    for batch, outputs in zip(pictures, found, strict=True):
        for one, other in zip(outputs, reference.run(batch), strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, atol=1e-3)


def test_each_engine_tells_the_checkpoint_of_a_model(onnx_file, light_onnx, checkpoint):
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert ssd_engines.open_engine(onnx_file).checkpoint == digest
    assert ssd_engines.open_engine(checkpoint).checkpoint == digest
    assert ssd_engines.open_engine(light_onnx).checkpoint is None
    pytest.importorskip("openvino")
    assert ssd_engines.open_engine(onnx_file, engine="openvino").checkpoint == digest
    assert ssd_engines.open_engine(light_onnx, engine="openvino").checkpoint is None


def test_bf16_is_near_and_is_named_if_it_ran(openvino, onnx_file, pictures):
    exact = ssd_engines.open_engine(onnx_file, engine="openvino")
    engine = ssd_engines.open_engine(onnx_file, engine="openvino", precision="bf16")
    has_it = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert (" in bf16" in engine.provider) == has_it
    for one, other in zip(engine.run(pictures[0]), exact.run(pictures[0]), strict=True):
        error = np.abs(one - other).max() / np.abs(other).max()
        assert error < 0.05 and (error > 0) == has_it


def test_int8_wants_a_quantised_model(openvino, onnx_file):
    with pytest.raises(KitError, match=r"nothing in it is INT8; make one with ssd_quantize.py"):
        ssd_engines.open_engine(onnx_file, engine="openvino", precision="int8")


def test_a_uint8_model_takes_bytes(openvino, checkpoint, tmp_path, run_stage):
    path = tmp_path / "u.onnx"
    command = ["ssd_pth2onnx.py", "--pth-path", checkpoint, "--onnx-path", path]
    assert run_stage(*command, "--input", "uint8", "--bs", 2).returncode == 0
    rgb = np.random.default_rng(1).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
    engines = [ssd_engines.open_engine(path, engine=name) for name in ("onnxruntime", "openvino")]
    assert [(one.dtype, one.batch) for one in engines] == [("uint8", 2)] * 2
    floats = np.stack([normalise(one) for one in rgb])
    torch_engine = ssd_engines.open_engine(checkpoint)
    assert torch_engine.name.startswith("torch ")
    for outputs in zip(torch_engine.run(floats), *(one.run(rgb) for one in engines), strict=True):
        for one in outputs[1:]:
            np.testing.assert_allclose(one, outputs[0], atol=1e-3)


def test_the_command_line_chooses_the_engine(openvino, light_onnx, tmp_path, run_stage):
    base = ["ssd_infer.py", "--model", light_onnx, "--output", tmp_path, "--output_dirname", "a"]
    done = run_stage(*base, "--engine", "openvino", "--precision", "bf16", "--batchsize", 2)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "a_summary.json").read_text())
    assert summary["engine"].startswith("openvino ") and summary["engine"] in done.stdout
    assert summary["provider"] == "CPU, no convolutions" and summary["batch_size"] == 2


def save_relu(path, inputs="x", outputs="y"):
    """Save a valid model that is not the kit's."""
    node = onnx.helper.make_node("Relu", list(inputs), list(outputs))
    ends = [onnx.helper.make_tensor_value_info(n, 1, [1]) for n in (*inputs, *outputs)]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 11)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.mark.parametrize("engine", ["auto", "openvino"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.onnx", "no such model"),
        ("a.onnx", "not an ONNX model"),
        ("empty.onnx", "not an ONNX model"),
        ("a.tflite", "no engine for this kind of file; models are .om, .onnx, .pt, .pth"),
        ("f.onnx", "not a model of this kit"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(name, told, engine, tmp_path):
    if engine == "openvino":
        pytest.importorskip("openvino")
    (tmp_path / "a.onnx").write_text("no")
    (tmp_path / "empty.onnx").write_text("")
    (tmp_path / "a.tflite").write_text("no")
    save_relu(tmp_path / "f.onnx")
    with pytest.raises(KitError, match=told) as caught:
        ssd_engines.open_engine(tmp_path / name, engine=engine)
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "torch"}, "not a file for torch; take one of .pt, .pth"),
        ({"precision": "bf16"}, "--precision bf16: is OpenVINO's alone; add --engine openvino"),
        ({"device": "gpu"}, "--device gpu: no such device; give cpu, cuda:0 or a card's number"),
        ({"device": "cuda:x"}, "--device cuda:x: no such device"),
        ({"device": "cuda:0"}, "--device cuda:0: onnxruntime .* has no such device here"),
        ({"device": "cuda:0", "engine": "openvino"}, "openvino .* has no such device here"),
    ],
)
def test_what_an_engine_cannot_is_told_in_one_line(
    options, told, light_onnx, recwarn, capfd, monkeypatch
):
    import onnxruntime

    if options.get("engine") == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(KitError, match=told):
        ssd_engines.open_engine(light_onnx, **options)
    assert not recwarn.list and capfd.readouterr() == ("", "")


def test_a_provider_that_is_listed_but_does_not_start_is_told(light_onnx, monkeypatch):
    import onnxruntime

    session = types.SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(KitError, match="has no such device here; use --device cpu"):
        ssd_engines.open_engine(light_onnx, "cuda:0")


def test_pytorch_without_a_gpu_says_so(checkpoint):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(KitError, match="--device cuda:0: PyTorch has no such device here"):
        ssd_engines.open_engine(checkpoint, "cuda:0")


@pytest.mark.parametrize(
    ("package", "engine", "file"),
    [
        ("openvino", "openvino", "requirements-openvino.txt"),
        ("torch", "torch", "requirements.txt"),
    ],
)
def test_a_missing_package_is_told_with_its_file(package, engine, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    path = tmp_path / ("m.pt" if engine == "torch" else "m.onnx")
    path.write_bytes(b"any")
    with pytest.raises(KitError, match=f"install {file}"):
        ssd_engines.open_engine(path, engine=engine)
