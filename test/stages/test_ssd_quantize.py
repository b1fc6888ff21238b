"""INT8 models: where quantizing nodes are, their scales, and what auto leaves in float."""

import importlib.util
import re

import numpy as np
import pytest
from models import save_colors, write_color_data

onnx = pytest.importorskip("onnx")
import ssd_quantize  # noqa: E402
from ssd.engines import open_engine  # noqa: E402
from ssd.quantize import search  # noqa: E402
from ssd.quantize.images import read_image  # noqa: E402
from ssd.quantize.quantizer import METHODS, Quantizer  # noqa: E402

from onnx import helper  # noqa: E402
from small_ssd import (  # noqa: E402
    LABELS,
    NODES,
    STEM,
    in_int8,
    made_by,
    save,
    values,
    weights_of,
    write_images,
)


@pytest.fixture
def quantize(tmp_path, capsys, monkeypatch):
    """Run the stage in this process, as if OpenVINO were missing, which would cost time.

    Returns the model and what was printed.
    """
    monkeypatch.setattr(search, "has_openvino", lambda: False)

    def run(model, *options, images=None):
        images = images or write_images(tmp_path / "in", dtype=open_engine(model).dtype)
        output = tmp_path / "int8.onnx"
        command = ["--onnx-path", model, "--calibration", images, "--output", output, *options]
        ssd_quantize.main([str(part) for part in command])
        captured = capsys.readouterr()
        run.err = captured.err
        return output, captured.out

    return run


def test_every_convolution_is_in_int8_and_joins_stay_in_float(tmp_path, quantize):
    output, printed = quantize(save(tmp_path / "a.onnx"), "--skip", "none")
    model = onnx.load(output)
    assert in_int8(model) == set(NODES)
    made = made_by(model)
    for name, node in ((node.name, node) for node in model.graph.node if node.op_type == "Add"):
        assert [made[name].op_type for name in node.input] == ["DequantizeLinear"] * 2, name
    for name in ("ploc", "plabel"):
        assert made[name].op_type == "Reshape"
    assert [(e.domain, e.version) for e in model.opset_import if not e.domain] == [("", 13)]
    assert {node.domain for node in model.graph.node} == {""}
    assert "9 of 9 convolutions in INT8, 100% of the multiply-adds" in printed
    assert {entry.key: entry.value for entry in model.metadata_props}["checkpoint_sha256"] == "abc"


def test_weights_have_a_scale_for_each_output_channel(tmp_path, quantize):
    output, _ = quantize(save(tmp_path / "a.onnx"), "--skip", "none")
    model = onnx.load(output)
    stored, made = values(model), made_by(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            weights, read = weights_of()[node.name], made[node.input[1]]
            quantized, scale, zero = (stored[name] for name in read.input)
            largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
            assert scale == pytest.approx(largest / 127, rel=1e-5)
            assert quantized.dtype == np.int8 and not zero.any()
            assert helper.get_node_attr_value(read, "axis") == 0
            expected = np.rint(weights / scale[:, None, None, None])
            assert np.abs(quantized - expected).max() <= 1  # halves may round either way
            assert (quantized == expected).mean() > 0.999


def test_activations_are_unsigned_and_their_scale_covers_what_was_seen(tmp_path, quantize):
    model, images = save(tmp_path / "a.onnx"), write_images(tmp_path / "in", dtype="float32")
    output, _ = quantize(model, "--skip", "none", "--method", "minmax", images=images)
    stored, made = values(onnx.load(output)), made_by(onnx.load(output))
    first = made[next(n for n in onnx.load(output).graph.node if n.name == STEM).input[0]]
    _, scale, zero = (stored.get(name) for name in first.input)
    seen = np.concatenate([np.fromfile(path, np.float32) for path in images.iterdir()])
    assert scale == pytest.approx((seen.max() - seen.min()) / 255, rel=1e-5)
    assert zero.dtype == np.uint8
    assert zero == pytest.approx(-seen.min() / scale, abs=0.5)


@pytest.mark.parametrize(
    ("skip", "floats"),
    [
        ("model.5.1", NODES[3:5]),
        ("/mbox.0/convs.1/Conv", NODES[-1:]),
        ("*conv2/Conv, model.0", [NODES[0], *NODES[2:-2:2]]),
    ],
)
def test_what_is_skipped_stays_in_float(skip, floats, tmp_path, quantize):
    output, printed = quantize(save(tmp_path / "a.onnx"), "--skip", skip)
    model = onnx.load(output)
    assert in_int8(model) == set(NODES) - set(floats)
    stored = values(model)
    for node in model.graph.node:
        if node.name in floats:
            assert (stored[node.input[1]] == weights_of()[node.name]).all()
    assert [line[35:] for line in printed.splitlines()[2:5]] == ["everything", "nothing", skip]
    assert f"{9 - len(floats)} of 9 convolutions in INT8" in printed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("batch", "dtype"), [(1, "float32"), (3, "float32"), ("N", "uint8")])
def test_outputs_are_near_floats_for_every_batch_size_and_dtype(
    method, batch, dtype, tmp_path, quantize
):
    model = save(tmp_path / "a.onnx", batch, dtype=dtype)
    output, printed = quantize(model, "--skip", "none", "--method", method)
    before, after = open_engine(model), open_engine(output)
    assert (after.batch, after.dtype, after.labels) == (before.batch, dtype, LABELS)
    assert f"input image: {dtype} ({batch}, " in printed
    files = sorted((tmp_path / "in").iterdir())[: after.batch or 2]
    images = np.stack([read_image(path, dtype) for path in files])
    for name, a, b in zip(("ploc", "plabel"), before.run(images), after.run(images), strict=True):
        assert b.dtype == np.float32 and a.shape == b.shape
        assert np.sqrt(np.square(a - b).mean()) < 0.05 * a.std(), name


def test_a_uint8_model_normalizes_in_float(tmp_path, quantize):
    output, _ = quantize(save(tmp_path / "a.onnx", 1, dtype="uint8"), "--skip", "none")
    model = onnx.load(output)
    made = made_by(model)
    stem = next(node for node in model.graph.node if node.name == f"/network{STEM}")
    chain, tensor = [], stem.input[0]
    while tensor in made:
        chain.append(made[tensor].op_type)
        tensor = made[tensor].input[0]
    normalizing = ["Div", "Sub", "Div", "Cast", "Transpose"]
    assert chain == ["DequantizeLinear", "QuantizeLinear", *normalizing]


def test_uint8_images_calibrate_a_float_model_alike(tmp_path, quantize):
    model, made = save(tmp_path / "a.onnx"), []
    for dtype in ("uint8", "float32"):
        images = write_images(tmp_path / dtype, dtype=dtype)
        made.append(quantize(model, "--skip", "none", images=images)[0].read_bytes())
    assert made[0] == made[1]


def test_a_bias_that_the_exporter_shares_is_quantized_too(tmp_path, quantize):
    path = save(tmp_path / "a.onnx")
    model = onnx.load(path)
    conv = next(node for node in model.graph.node if node.name == NODES[1])
    shared = helper.make_node("Identity", [f"{NODES[2]}.bias"], [conv.input[2]], "Identity_3")
    model.graph.node.insert(0, shared)
    bias = next(t for t in model.graph.initializer if t.name == conv.input[2])
    model.graph.initializer.remove(bias)
    path.write_bytes(model.SerializeToString())
    model = onnx.load(quantize(path, "--skip", "none")[0])
    stored, made = values(model), made_by(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert stored[made[node.input[2]].input[0]].dtype == np.int32, node.name


def test_auto_leaves_the_block_with_a_wild_channel_in_float(tmp_path, quantize):
    output, printed = quantize(save(tmp_path / "a.onnx", wild=[1]))
    assert in_int8(onnx.load(output)) == set(NODES) - set(NODES[3:5])
    lines = printed.splitlines()
    assert lines[3].endswith("  nothing") and lines[4].endswith("  model.5.1")
    assert float(lines[3][15:24]) < 0.9 < float(lines[4][15:24])


def test_auto_goes_on_until_the_model_is_good(tmp_path, quantize):
    output, printed = quantize(save(tmp_path / "a.onnx", wild=[0, 2]))
    assert in_int8(onnx.load(output)) == set(NODES) - {*NODES[1:3], *NODES[5:7]}
    lines = printed.splitlines()
    assert lines[4][35:] in ("model.5.0", "model.5.2")
    assert set(lines[5][35:].split(", ")) == {"model.5.0", "model.5.2"}


def test_auto_skips_nothing_where_nothing_suffers(tmp_path, quantize, monkeypatch):
    made, make = [], Quantizer.make

    def record(self, skip, target, **more):
        made.append(target.name)
        make(self, skip, target, **more)

    monkeypatch.setattr(Quantizer, "make", record)
    output, printed = quantize(save(tmp_path / "a.onnx"))
    assert in_int8(onnx.load(output)) == set(NODES)
    assert printed.splitlines()[3].endswith("  nothing")
    assert made == ["candidate.onnx", "int8.onnx"]  # no third one for an OpenVINO that is not there


def test_with_a_data_set_the_table_shows_map(tmp_path, run_stage):
    data = write_color_data(tmp_path / "da ta")
    model = save_colors(tmp_path / "c.onnx")
    assert (
        run_stage("ssd_preprocess.py", "--data", data, "--bin-output", tmp_path / "in").returncode
        == 0
    )
    command = ["ssd_quantize.py", "--onnx-path", model, "--calibration", tmp_path / "in"]
    done = run_stage(*command, "--data", data, "--output", tmp_path / "o" / "int8.onnx")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("mAP of 6 of 6 images;")
    title, speed, *judged = "", "", *lines[4:-3]
    if importlib.util.find_spec("openvino"):  # whose speed and verdict are shown, too
        title, speed = "  OpenVINO", r" +\d+\.\d\d"
        assert judged == ["in OpenVINO: mAP 1.0000, drop 0.0000"]
    assert lines[1] == f"   INT8   speed{title}      mAP     drop  left in float"
    assert re.fullmatch(rf"    0 %    1\.00{speed}   1\.0000   0\.0000  everything", lines[2])
    assert re.fullmatch(rf"  100 % +\d+\.\d\d{speed}   1\.0000   0\.0000  nothing", lines[3])
    assert re.fullmatch(r"/.*/int8\.onnx: 0\.\d MB, SHA-256 [0-9a-f]{64}", lines[-1])
    assert all(len(line) <= 80 for line in lines[:-1])
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["int8.onnx"]


def test_long_lists_are_wrapped_at_80_columns(tmp_path, quantize):
    skip = ",".join(NODES[1:-2])
    _, printed = quantize(save(tmp_path / "a.onnx"), "--skip", skip)
    assert all(len(line) <= 80 for line in printed.splitlines()[:-1])
    assert set(NODES[1:-2]) <= set(re.split(r"[\s,]+", printed))


def test_auto_without_a_good_model_takes_the_best(tmp_path, quantize, monkeypatch):
    """All blocks suffer, so that less than half would stay in INT8."""
    monkeypatch.setattr(search, "MIN_INT8", 0.9)
    output, printed = quantize(save(tmp_path / "a.onnx", wild=[1]))
    assert in_int8(onnx.load(output)) == set(NODES)
    assert printed.splitlines()[4].startswith("input image")
    assert "note: none of them is good enough" in quantize.err


@pytest.mark.slow
def test_on_real_images_auto_loses_at_most_2_points(
    real, tmp_path, run_stage, quantize, monkeypatch
):
    def stage(name, *args):
        done = run_stage(name, *args)
        assert done.returncode == 0, done.stderr

    for name in ("TURNS", "RUNS", "SEARCHED"):  # nothing here is of the speeds
        monkeypatch.setattr(search, name, 1)
    images = tmp_path / "in"
    stage("ssd_preprocess.py", "--data", real.data, "--bin-output", images)
    output, printed = quantize(real.onnx, "--limit", 8, "--data", real.data, images=images)
    lines = printed.splitlines()
    rows = [line.split() for line in lines[2:] if re.match(r" +\d+ % ", line)]
    place = 1 + lines[1].split().index("drop")  # one more, for the sign of per cent
    drops = {row[0]: float(row[place]) for row in rows}
    (share,) = re.findall(r"INT8, (\d+)% of the multiply-adds", "\n".join(lines))
    assert drops["0"] == 0 and drops["100"] > 0.02 >= drops[share]
    assert 75 < int(share) < 100
    assert {"model.0", "model.3.0"} <= set(re.split(r"[\s,]+", " ".join(lines)))
    assert output.stat().st_size < real.onnx.stat().st_size / 3
