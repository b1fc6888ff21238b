"""What the exporter writes: ONNX that atc and the quantizer take, and that does as the network."""

import hashlib
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import ssd_pth2onnx  # noqa: E402
from ssd.engines import open_engine  # noqa: E402
from ssd.images import normalize  # noqa: E402
from ssd.onnx_graph import graph_digest  # noqa: E402

import onnx  # noqa: E402
from models import set_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def equal_biases(network, tmp_path_factory):
    """A checkpoint whose extra layers have biases of zero, as those of the sample have."""
    state = {
        name: torch.zeros_like(value) if "additional" in name and "bias" in name else value
        for name, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("equal") / "a.pt"
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_equal_tensors_are_stored_apart_and_the_outputs_keep_their_bits(
    dtype, equal_biases, tmp_path, monkeypatch
):
    before, copy = onnx.GraphProto(), ssd_pth2onnx.copy_shared_tensors

    def keep_and_copy(graph):
        before.CopyFrom(graph)
        copy(graph)

    monkeypatch.setattr(ssd_pth2onnx, "copy_shared_tensors", keep_and_copy)
    options = ["--pth-path", equal_biases, "--onnx-path", tmp_path / "a.onnx", "--input", dtype]
    ssd_pth2onnx.main(list(map(str, options)))
    model = onnx.load(tmp_path / "a.onnx")
    assert "Identity" not in [node.op_type for node in model.graph.node]
    model.graph.CopyFrom(before)
    assert "Identity" in [node.op_type for node in model.graph.node]
    onnx.save(model, tmp_path / "b.onnx")
    image = ssd_pth2onnx.random_input(1, dtype).numpy()
    outputs = [open_engine(tmp_path / name).run(image) for name in ("a.onnx", "b.onnx")]
    for ours, exporters in zip(*outputs, strict=True):
        assert np.array_equal(ours, exporters)


@pytest.mark.parametrize("options", [["--opset", "11"], ["--opset", "17"], ["--dynamic"]])
def test_the_export_is_what_atc_takes_and_is_kept(
    options, checkpoint, network, tmp_path, run_stage, monkeypatch, capsys
):
    path = tmp_path / "a b.onnx"
    done = run_stage("ssd_pth2onnx.py", "--pth-path", checkpoint, "--onnx-path", path, *options)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert done.stdout.splitlines()[-1] == f"{path}: SHA-256 {digest}"
    model = onnx.load(path)
    opset = int(options[1]) if options[0] == "--opset" else 11
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["ploc", "plabel"]
    engine = open_engine(path)
    assert (engine.batch, engine.labels) == (None if "--dynamic" in options else 1, 3)
    image = np.random.default_rng(0).normal(size=(1, 3, 300, 300)).astype(np.float32)
    with torch.no_grad():
        outputs = network(torch.from_numpy(image))
    for size in (1, 3) if engine.batch is None else (1,):
        batch = np.repeat(image, size, axis=0)
        for found, expected in zip(engine.run(batch), outputs, strict=True):
            assert len(found) == size
            np.testing.assert_allclose(found[-1], expected[0], atol=1e-3)
    monkeypatch.setattr(ssd_pth2onnx, "load_checkpoint", None)
    ssd_pth2onnx.main(["--pth-path", str(checkpoint), "--onnx-path", str(path), *options])
    words = "kept, exported from the same checkpoint with the same options"
    assert capsys.readouterr().out == f"{path}: {words}\n"


def test_a_uint8_model_normalizes_by_itself(checkpoint, tmp_path, run_stage):
    path = tmp_path / "u.onnx"
    command = ["ssd_pth2onnx.py", "--pth-path", checkpoint, "--onnx-path", path]
    assert run_stage(*command, "--input", "uint8", "--bs", 2).returncode == 0
    rgb = np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
    engine = open_engine(path)
    assert (engine.dtype, engine.batch) == ("uint8", 2)
    torch_engine = open_engine(checkpoint)
    floats = np.stack([normalize(image) for image in rgb])
    for a, b in zip(engine.run(rgb), torch_engine.run(floats), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize(
    "change", ["", "checkpoint", "--opset=12", "--bs=2", "--input=uint8", "trunk", "graph", "text"]
)
def test_an_export_is_kept_only_if_made_from_and_with_the_same(change, light_onnx, tmp_path):
    checkpoint, path, trunk = (tmp_path / name for name in ("a.pt", "a.onnx", "trunk.pth"))
    checkpoint.write_text("weights")
    words = ["--pth-path", str(checkpoint), "--onnx-path", str(path)]
    words += ["--resnet34-model", str(trunk)]  # read only where it is
    model = onnx.load(light_onnx)
    made_from = ssd_pth2onnx.record(ssd_pth2onnx.parse_args(words))
    noted = made_from | {"graph_sha256": graph_digest(model)}
    onnx.helper.set_model_props(model, noted)
    if change == "graph":
        model.graph.node[0].name = "another"
    onnx.save(model, path)
    if change == "text":
        path.write_text("no model")
    elif change in ("checkpoint", "trunk"):
        (checkpoint if change == "checkpoint" else trunk).write_text("other weights")
    elif change.startswith("--"):
        words.append(change)
    wanted = ssd_pth2onnx.record(ssd_pth2onnx.parse_args(words))
    assert ssd_pth2onnx.is_made(path, wanted) == (change == "")


def test_int8_and_uint8_models_of_another_checkpoint_are_noted(light_onnx, tmp_path, capsys):
    names = {"m": "a", "m_int8": "b", "m_uint8": "a", "m_uint8_int8": "b", "m_other": "b"}
    for name, checkpoint in names.items():
        set_checkpoint(shutil.copy(light_onnx, tmp_path / f"{name}.onnx"), checkpoint)
    (tmp_path / "m_int8.om").write_text("x")
    (tmp_path / "m_int8.om.json").write_text('{"om_sha256": "of another"}')
    ssd_pth2onnx.note_others(tmp_path / "m.onnx")
    assert capsys.readouterr().err.splitlines() == [
        f"note: {tmp_path}/{name}: of another checkpoint than m.onnx; make it again"
        for name in ("m_int8.om", "m_int8.onnx", "m_uint8_int8.onnx")
    ]


def test_an_export_that_fails_leaves_nothing(network, tmp_path, run_stage):
    state = {k: v.clone() for k, v in network.state_dict().items()}
    state["mbox.0.bias"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    done = run_stage(
        "ssd_pth2onnx.py", "--pth-path", tmp_path / "nan.pt", "--onnx-path", tmp_path / "o.onnx"
    )
    assert done.returncode == 1
    assert "differs from" in done.stderr and done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nan.pt"]
