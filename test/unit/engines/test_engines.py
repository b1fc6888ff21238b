"""Engines: the same answers from each, what they say of themselves, and what they refuse."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import types

from ssd.cli import KitError, Stopped
from ssd.engines import model_sha256, open_engine
from ssd.files import sha256
from ssd.images import normalize

import numpy as np
import pytest
from models import ROOT

onnx = pytest.importorskip("onnx")

ENDLESS = """<ir_version: 8, opset_import: ["": 13]>
endless (float[1, 3, 300, 300] image) => (float[1, 4, 8732] ploc, float[1, 4, 8732] plabel)
<int64 times = {4611686018427387904}, bool go = {1}, int64[3] shape = {1, 4, 8732}> {
    looped = Loop <body = again (int64 i, bool b, float[1, 3, 300, 300] x)
        => (bool c, float[1, 3, 300, 300] y) { c = Identity (b) y = Identity (x) }>
        (times, go, image)
    most = ReduceMax <keepdims = 0> (looped)
    ploc = Expand (most, shape)
    plabel = Expand (most, shape)
}"""


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


@pytest.fixture
def pictures():
    """Three batches of two, normalised."""
    rgb = np.random.default_rng(0).integers(0, 256, (3, 2, 300, 300, 3), dtype=np.uint8)
    return [np.stack([normalize(one) for one in batch]) for batch in rgb]


def test_openvino_gives_onnxruntimes_answers(openvino, onnx_file, pictures):
    reference = open_engine(onnx_file)
    engine = open_engine(onnx_file, engine="openvino")
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
    assert open_engine(onnx_file).checkpoint == digest
    assert open_engine(checkpoint).checkpoint == digest
    assert open_engine(light_onnx).checkpoint is None
    pytest.importorskip("openvino")
    assert open_engine(onnx_file, engine="openvino").checkpoint == digest
    assert open_engine(light_onnx, engine="openvino").checkpoint is None


def test_bf16_is_near_and_is_named_if_it_ran(openvino, onnx_file, pictures):
    exact = open_engine(onnx_file, engine="openvino")
    engine = open_engine(onnx_file, engine="openvino", precision="bf16")
    has_it = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert (" in bf16" in engine.provider) == has_it
    for one, other in zip(engine.run(pictures[0]), exact.run(pictures[0]), strict=True):
        error = np.abs(one - other).max() / np.abs(other).max()
        assert error < 0.05 and (error > 0) == has_it


def test_int8_wants_a_quantised_model(openvino, onnx_file):
    with pytest.raises(KitError, match=r"nothing in it is INT8; make one with ssd_quantize.py"):
        open_engine(onnx_file, engine="openvino", precision="int8")


def test_a_uint8_model_takes_bytes(openvino, checkpoint, tmp_path, run_stage):
    path = tmp_path / "u.onnx"
    command = ["ssd_pth2onnx.py", "--pth-path", checkpoint, "--onnx-path", path]
    assert run_stage(*command, "--input", "uint8", "--bs", 2).returncode == 0
    rgb = np.random.default_rng(1).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
    engines = [open_engine(path, engine=name) for name in ("onnxruntime", "openvino")]
    assert [(one.dtype, one.batch) for one in engines] == [("uint8", 2)] * 2
    floats = np.stack([normalize(one) for one in rgb])
    torch_engine = open_engine(checkpoint)
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
        open_engine(tmp_path / name, engine=engine)
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "torch"}, "not a file for torch; take one of .pt, .pth"),
        ({"precision": "bf16"}, "--precision bf16: is OpenVINO's alone; add --engine openvino"),
        ({"device": "gpu"}, "--device gpu: no such device; give cpu, cuda:0, npu:0 or a"),
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
        open_engine(light_onnx, **options)
    assert not recwarn.list and capfd.readouterr() == ("", "")


def test_a_provider_that_is_listed_but_does_not_start_is_told(light_onnx, monkeypatch):
    import onnxruntime

    session = types.SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(KitError, match="has no such device here; use --device cpu"):
        open_engine(light_onnx, "cuda:0")


def test_a_run_that_fails_is_one_line_with_the_engine_and_a_remedy(light_onnx):
    engine = open_engine(light_onnx)
    with pytest.raises(KitError, match="onnxruntime [0-9.]*: .*INVALID_ARG.*; out of memory. take"):
        engine.run(np.zeros((1, 3, 9, 9), np.float32))


def test_pytorch_without_a_gpu_says_so(checkpoint):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(KitError, match="--device cuda:0: PyTorch has no such device here"):
        open_engine(checkpoint, "cuda:0")


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
        open_engine(path, engine=engine)


@pytest.mark.parametrize("setting", [None, "0"])
def test_a_session_leaves_nothing_in_the_home_of_the_user(setting, light_onnx, tmp_path):
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    env = os.environ | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    env |= {"ORT_DISABLE_TELEMETRY": setting} if setting else {}
    code = (
        "import os, sys; from pathlib import Path; from ssd.engines import open_engine; "
        "open_engine(Path(sys.argv[1])); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    command = [sys.executable, "-c", code, str(light_onnx)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == [setting or "1"]  # what the user set stays
    if not setting:
        assert list((tmp_path / "home").rglob("*")) == list((tmp_path / "tmp").rglob("*")) == []


def test_weights_beside_a_model_count_as_the_model(onnx_file, tmp_path):
    path, beside = tmp_path / "m.onnx", tmp_path / "m.onnx.data"
    settings = {"save_as_external_data": True, "location": beside.name}
    onnx.save(onnx.load(onnx_file), path, **settings)
    before, graph = model_sha256(path), path.read_bytes()
    assert beside.is_file() and open_engine(path).labels == open_engine(onnx_file).labels
    data = bytearray(beside.read_bytes())
    data[-1] ^= 1
    beside.write_bytes(data)
    assert model_sha256(path) != before and path.read_bytes() == graph
    assert model_sha256(onnx_file) == sha256(onnx_file)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_computes(signum, tmp_path):
    command = [sys.executable, "-u", ROOT / "ssd_infer.py", "--model"]
    onnx.save(onnx.parser.parse_model(ENDLESS), tmp_path / "m.onnx")
    command.append(tmp_path / "m.onnx")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes)
    try:
        assert process.stdout.readline().startswith("engine onnxruntime")
        process.send_signal(signum)
        _, printed = process.communicate(timeout=60)
    finally:
        process.kill()  # else what failed to end would go on for ever
    assert process.returncode == 128 + signum
    assert printed == f"ssd_infer.py: stopped by {signum.name}; what was done is kept\n"


def test_a_signal_while_a_run_is_handed_over_ends_it_too(tmp_path, monkeypatch):
    onnx.save(onnx.parser.parse_model(ENDLESS), tmp_path / "m.onnx")
    engine, futures = open_engine(tmp_path / "m.onnx"), []
    submit = engine.thread.submit

    def disturbed(*job):
        futures.append(submit(*job))
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(engine.thread, "submit", disturbed)
    with pytest.raises(Stopped):
        engine.run(np.zeros((1, *engine.shape), engine.dtype))
    assert futures[0].exception(timeout=60)  # it was terminated


def test_openvino_is_imported_without_what_reports_to_its_maker(openvino, tmp_path):
    pytest.importorskip("openvino_telemetry")
    code = (
        "import sys; from ssd.engines.openvino import import_openvino; import_openvino(); "
        "print(*[name for name in sys.modules if 'telemetry_stub' in name])"
    )
    env = os.environ | {"HOME": str(tmp_path), "CI": ""}  # where it would not report by itself
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "openvino.tools.ovc.telemetry_stub\n")
    assert list(tmp_path.iterdir()) == []


def test_threads_bound_what_an_engine_takes_of_a_cpu(onnx_file, openvino):
    engine = open_engine(onnx_file, threads=1)
    assert engine.session.get_session_options().intra_op_num_threads == 1
    assert open_engine(onnx_file).session.get_session_options().intra_op_num_threads == 0
    engine = open_engine(onnx_file, engine="openvino", threads=1)
    assert engine.compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_threads_bound_what_pytorch_takes_of_a_cpu(checkpoint):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        open_engine(checkpoint, threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
