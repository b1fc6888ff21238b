"""INT8 models: where quantising nodes are, their scales, what auto leaves in float, bad inputs.

Run: python -m pytest test/test_ssd_quantize.py
"""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import ssd_quantize
from ssd_engines import open_engine
from ssd_files import KitError
from ssd_preprocess import normalise

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import ssd_int8  # noqa: E402
import ssd_tradeoff  # noqa: E402

path = Path(__file__).with_name("colour_detector.py")
spec = importlib.util.spec_from_file_location("colour_detector", path)
colour_detector = importlib.util.module_from_spec(spec)
spec.loader.exec_module(colour_detector)

LABELS = 4
CELLS = (59, 37)  # four boxes in each make 8732
STEM, BLOCK = "/model/model.0/Conv", "/model/model.5/model.5.{}"
HEADS = {"plabel": ("/mbox.0/convs.0/Conv", LABELS), "ploc": ("/mbox.0/convs.1/Conv", 4)}
NODES = [STEM, *(f"{BLOCK.format(i)}/conv{k}/Conv" for i in range(3) for k in (1, 2))]
NODES += [name for name, _ in HEADS.values()]


def weights_of(wild=()):
    """The weights of a small SSD: stem, three residual blocks, two heads.

    In the blocks `wild` one channel between the convolutions is 500 times as large as the others,
    and counts as much less after it: in float that is the same network.
    """
    rng = np.random.default_rng(0)
    made = {STEM: rng.normal(size=(8, 3, 10, 12)) / 19}
    for name in NODES[1:-2]:
        made[name] = rng.normal(size=(8, 8, 3, 3)) / 17
    made[NODES[-2]] = rng.normal(size=(4 * LABELS, 8, 1, 1))
    made[NODES[-1]] = rng.normal(size=(16, 8, 1, 1)) / 30
    for block in wild:
        first, second = (made[f"{BLOCK.format(block)}/conv{k}/Conv"] for k in (1, 2))
        first[3] *= 500
        second[:, 3] /= 500
    return {name: value.astype(np.float32) for name, value in made.items()}


def save(path, batch="N", wild=(), dtype="float32", opset=11):
    """Write the small SSD as the exporter would; return the path."""
    tensors, nodes, tensor, within = {}, [], "image", ""
    if dtype == "uint8":
        nodes, tensor, within = colour_detector.normalising(tensors), "/Div_1_output_0", "/network"

    def add(op, name, reads, **more):
        name = within + name
        nodes.append(helper.make_node(op, reads, [f"{name}_output_0"], name, **more))
        return nodes[-1].output[0]

    def conv(name, reads, **more):
        tensors[f"{name}.weight"] = weights[name]
        bias = np.linspace(-0.5, 0.5, len(weights[name])).astype(np.float32)
        tensors[f"{name}.bias"] = bias
        return add("Conv", name, [reads, f"{name}.weight", f"{name}.bias"], **more)

    weights = weights_of(wild)
    tensor = add("Relu", "/model/model.2/Relu", [conv(STEM, tensor, strides=[5, 8])])
    for i in range(3):
        block, held = BLOCK.format(i), tensor
        tensor = conv(f"{block}/conv1/Conv", tensor, pads=[1] * 4)
        tensor = add("Relu", f"{block}/relu/Relu", [tensor])
        tensor = conv(f"{block}/conv2/Conv", tensor, pads=[1] * 4)
        tensor = add("Add", f"{block}/Add", [tensor, held])
        tensor = add("Relu", f"{block}/relu_1/Relu", [tensor])
    for output, (name, rows) in HEADS.items():
        tensors[f"{output}_shape"] = np.array([-1, rows, 8732])
        reads = [conv(name, tensor), f"{output}_shape"]
        nodes.append(helper.make_node("Reshape", reads, [output], f"/Reshape_{output}"))
    tensors["/mbox.0/convs.0/Conv.bias"] += np.repeat(np.float32([4, 0, 0, 0]), 4)
    size = (300, 300, 3) if dtype == "uint8" else (3, 300, 300)
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", kind, [batch, *size])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, rows, 8732])
        for name, rows in (("ploc", 4), ("plabel", LABELS))
    ]
    initializers = [numpy_helper.from_array(v, name) for name, v in tensors.items()]
    graph = helper.make_graph(nodes, "small", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    helper.set_model_props(model, {"checkpoint_sha256": "abc"})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_pictures(folder, count=5, dtype="uint8"):
    """Write pictures of coloured patches on noise, as ssd_preprocess.py does; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for i in range(count):
        small = rng.integers(0, 256, (10, 10, 3))
        rgb = np.kron(small, np.ones((30, 30, 1))) * 0.8 + rng.integers(0, 50, (300, 300, 3))
        rgb = rgb.astype(np.uint8)
        (rgb if dtype == "uint8" else normalise(rgb)).tofile(folder / f"tensor([{9 + 4 * i}]).bin")
    return folder


@pytest.fixture
def quantise(tmp_path, capsys):
    """Run the stage in this process; returns the model and what was printed."""

    def run(model, *options, pictures=None):
        pictures = pictures or write_pictures(tmp_path / "in", dtype=open_engine(model).dtype)
        output = tmp_path / "int8.onnx"
        command = ["--onnx-path", model, "--calibration", pictures, "--output", output, *options]
        ssd_quantize.main([str(part) for part in command])
        captured = capsys.readouterr()
        run.err = captured.err
        return output, captured.out

    return run


def opened(model):
    return ssd_int8.Quantiser(model, ssd_int8.load_float(model), model.parent)


def made_by(model):
    """Map each tensor of a model to the node that makes it."""
    return {output: node for node in model.graph.node for output in node.output}


def in_int8(model):
    """Return the names of the Conv nodes whose picture and weights are both quantised."""
    made = made_by(model)
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and all(made.get(one) and made[one].op_type == "DequantizeLinear" for one in node.input[:2])
    }


def values(model):
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def test_every_convolution_is_in_int8_and_joins_stay_in_float(tmp_path, quantise):
    output, told = quantise(save(tmp_path / "a.onnx"), "--skip", "none")
    model = onnx.load(output)
    assert in_int8(model) == set(NODES)
    made = made_by(model)
    for name, node in ((node.name, node) for node in model.graph.node if node.op_type == "Add"):
        assert [made[one].op_type for one in node.input] == ["DequantizeLinear"] * 2, name
    for name in ("ploc", "plabel"):
        assert made[name].op_type == "Reshape"
    assert [(one.domain, one.version) for one in model.opset_import if not one.domain] == [("", 13)]
    assert {node.domain for node in model.graph.node} == {""}
    assert "9 of 9 convolutions in INT8, 100% of the multiply-adds" in told
    assert {one.key: one.value for one in model.metadata_props}["checkpoint_sha256"] == "abc"


def test_weights_have_a_scale_for_each_output_channel(tmp_path, quantise):
    output, _ = quantise(save(tmp_path / "a.onnx"), "--skip", "none")
    model = onnx.load(output)
    stored, made = values(model), made_by(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            weights, read = weights_of()[node.name], made[node.input[1]]
            quantised, scale, zero = (stored[one] for one in read.input)
            largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
            assert scale == pytest.approx(largest / 127, rel=1e-5)
            assert quantised.dtype == np.int8 and not zero.any()
            assert helper.get_node_attr_value(read, "axis") == 0
            expected = np.rint(weights / scale[:, None, None, None])
            assert np.abs(quantised - expected).max() <= 1  # halves may round either way
            assert (quantised == expected).mean() > 0.999


def test_activations_are_unsigned_and_their_scale_covers_what_was_seen(tmp_path, quantise):
    model, pictures = save(tmp_path / "a.onnx"), write_pictures(tmp_path / "in", dtype="float32")
    output, _ = quantise(model, "--skip", "none", "--method", "minmax", pictures=pictures)
    stored, made = values(onnx.load(output)), made_by(onnx.load(output))
    first = made[next(n for n in onnx.load(output).graph.node if n.name == STEM).input[0]]
    _, scale, zero = (stored.get(one) for one in first.input)
    seen = np.concatenate([np.fromfile(one, np.float32) for one in pictures.iterdir()])
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
def test_what_is_skipped_stays_in_float(skip, floats, tmp_path, quantise):
    output, told = quantise(save(tmp_path / "a.onnx"), "--skip", skip)
    model = onnx.load(output)
    assert in_int8(model) == set(NODES) - set(floats)
    stored = values(model)
    for node in model.graph.node:
        if node.name in floats:
            assert (stored[node.input[1]] == weights_of()[node.name]).all()
    assert [line[35:] for line in told.splitlines()[2:5]] == ["everything", "nothing", skip]
    assert f"{9 - len(floats)} of 9 convolutions in INT8" in told


@pytest.mark.parametrize("method", ssd_int8.METHODS)
@pytest.mark.parametrize(("batch", "dtype"), [(1, "float32"), (3, "float32"), ("N", "uint8")])
def test_outputs_are_near_floats_for_every_batch_size_and_dtype(
    method, batch, dtype, tmp_path, quantise
):
    model = save(tmp_path / "a.onnx", batch, dtype=dtype)
    output, told = quantise(model, "--skip", "none", "--method", method)
    before, after = open_engine(model), open_engine(output)
    assert (after.batch, after.dtype, after.labels) == (before.batch, dtype, LABELS)
    assert f"input image: {dtype} ({batch}, " in told
    files = sorted((tmp_path / "in").iterdir())[: after.batch or 2]
    images = np.stack([ssd_int8.read_picture(one, dtype) for one in files])
    for name, a, b in zip(("ploc", "plabel"), before.run(images), after.run(images), strict=True):
        assert b.dtype == np.float32 and a.shape == b.shape
        assert np.sqrt(np.square(a - b).mean()) < 0.05 * a.std(), name


def test_a_uint8_model_normalises_in_float(tmp_path, quantise):
    output, _ = quantise(save(tmp_path / "a.onnx", 1, dtype="uint8"), "--skip", "none")
    model = onnx.load(output)
    made = made_by(model)
    stem = next(node for node in model.graph.node if node.name == f"/network{STEM}")
    chain, tensor = [], stem.input[0]
    while tensor in made:
        chain.append(made[tensor].op_type)
        tensor = made[tensor].input[0]
    normalising = ["Div", "Sub", "Div", "Cast", "Transpose"]
    assert chain == ["DequantizeLinear", "QuantizeLinear", *normalising]


def test_uint8_pictures_calibrate_a_float_model_alike(tmp_path, quantise):
    model, made = save(tmp_path / "a.onnx"), []
    for dtype in ("uint8", "float32"):
        pictures = write_pictures(tmp_path / dtype, dtype=dtype)
        made.append(quantise(model, "--skip", "none", pictures=pictures)[0].read_bytes())
    assert made[0] == made[1]


def test_a_bias_that_the_exporter_shares_is_quantised_too(tmp_path, quantise):
    path = save(tmp_path / "a.onnx")
    model = onnx.load(path)
    conv = next(node for node in model.graph.node if node.name == NODES[1])
    shared = helper.make_node("Identity", [f"{NODES[2]}.bias"], [conv.input[2]], "Identity_3")
    model.graph.node.insert(0, shared)
    own = next(one for one in model.graph.initializer if one.name == conv.input[2])
    model.graph.initializer.remove(own)
    path.write_bytes(model.SerializeToString())
    model = onnx.load(quantise(path, "--skip", "none")[0])
    stored, made = values(model), made_by(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert stored[made[node.input[2]].input[0]].dtype == np.int32, node.name


def test_calibration_holds_one_picture_at_a_time(tmp_path, monkeypatch):
    import onnxruntime.quantization as tool

    seen, made = [], tool.create_calibrator

    def create(*args, **kwargs):
        calibrator = made(*args, **kwargs)
        collect = calibrator.collect_data

        def watched(reader):
            feeds = reader.feeds
            assert [one.shape for one in feeds.values()] == [(1, 3, 300, 300)]
            collect(reader)
            assert reader.get_next() is None
            seen.append(len(calibrator.intermediate_outputs))

        calibrator.collect_data = watched
        return calibrator

    monkeypatch.setattr(tool, "create_calibrator", create)
    files = sorted(write_pictures(tmp_path / "in").iterdir())
    for method in ssd_int8.METHODS:
        quantiser = opened(save(tmp_path / "a.onnx", batch=16))
        quantiser.calibrate(files, method)
    assert seen == [0] * (len(files) * len(ssd_int8.METHODS))  # nothing is kept between pictures


def test_auto_leaves_the_block_with_a_wild_channel_in_float(tmp_path, quantise):
    output, told = quantise(save(tmp_path / "a.onnx", wild=[1]))
    assert in_int8(onnx.load(output)) == set(NODES) - set(NODES[3:5])
    lines = told.splitlines()
    assert lines[3].endswith("  nothing") and lines[4].endswith("  model.5.1")
    assert float(lines[3][15:24]) < 0.9 < float(lines[4][15:24])


def test_auto_goes_on_until_the_model_is_good(tmp_path, quantise):
    output, told = quantise(save(tmp_path / "a.onnx", wild=[0, 2]))
    assert in_int8(onnx.load(output)) == set(NODES) - {*NODES[1:3], *NODES[5:7]}
    lines = told.splitlines()
    assert lines[4][35:] in ("model.5.0", "model.5.2")
    assert set(lines[5][35:].split(", ")) == {"model.5.0", "model.5.2"}


def test_auto_tries_once_fewer_blocks_than_the_first_good_model(tmp_path, capsys):
    class Quantiser:
        names = list("abcde")

        def noise(self, paths):
            return {"a": 60.0, "b": 12.0, "c": 11.0, "d": 10.0, "e": 1.0}

        def block_work(self):
            return {"a": 1, "b": 20, "c": 20, "d": 20, "e": 1}

        def nodes_of(self, blocks):
            return list(blocks)

        def int8_share(self, nodes):
            return 0.9

    class Table(ssd_tradeoff.Table):
        def __init__(self, needed):
            self.needed, self.asked, self.verdicts = needed, [], []

        def begin(self):
            pass

        def add(self, skip, names):
            self.asked.append("".join(names))
            self.verdicts.append(ssd_tradeoff.Verdict(len(names), 0, self.needed <= set(names)))
            return self.verdicts[-1]

    for needed, asked, chosen in [  # noise left: a 34, then e b c 10
        ("a", ["", "a"], "a"),  # half of one block is none
        ("ae", ["", "a", "aebc", "ae"], "ae"),
        ("aeb", ["", "a", "aebc", "ae"], "aebc"),
        ("xyz", ["", "a", "aebc"], "aebc"),  # never good: the best by mAP
    ]:
        table = Table(set(needed))
        assert "".join(ssd_quantize.choose(Quantiser(), table, "auto", [])) == chosen
        assert table.asked == asked


def test_auto_skips_nothing_where_nothing_suffers(tmp_path, quantise):
    output, told = quantise(save(tmp_path / "a.onnx"))
    assert in_int8(onnx.load(output)) == set(NODES)
    assert told.splitlines()[3].endswith("  nothing")


def test_the_noise_of_a_block_is_that_of_a_model_with_it_alone_in_int8(tmp_path):
    files = sorted(write_pictures(tmp_path / "in", 2, "float32").iterdir())
    quantiser = opened(save(tmp_path / "a.onnx", wild=[1]))
    quantiser.calibrate(files, "minmax")
    noise = quantiser.noise(files)
    assert list(noise) == ["model.0", "model.5.0", "model.5.1", "model.5.2", "mbox.0"]
    assert max(noise, key=noise.get) == "model.5.1"
    others = [
        name for block, names in quantiser.blocks.items() if block != "mbox.0" for name in names
    ]
    quantiser.make(others, tmp_path / "alone.onnx")
    assert in_int8(onnx.load(tmp_path / "alone.onnx")) == set(NODES[-2:])
    x = np.stack([np.fromfile(one, np.float32).reshape(3, 300, 300) for one in files])
    pairs = [open_engine(tmp_path / "a.onnx").run(x)]
    pairs += [
        [
            np.concatenate([open_engine(tmp_path / "alone.onnx").run(one[None])[k] for one in x])
            for k in (0, 1)
        ]
    ]
    expected = 0
    for a, b in zip(*pairs, strict=True):
        within = np.mean([one.var() for one in a])
        expected += np.square(a - b).mean() / within
    assert noise["mbox.0"] == pytest.approx(expected, rel=1e-3)


def test_steps_halve_the_noise_and_take_much_for_little_work_first():
    noise = {"a": 8.0, "b": 4.0, "c": 2.0, "d": 2.0}
    work = {"a": 80, "b": 10, "c": 1, "d": 100}
    steps = list(
        ssd_tradeoff.float_steps(noise, work)
    )  # in order of noise / work: c b a d; 16 to 8: cba
    assert steps == [["c", "b", "a"]]
    work = dict.fromkeys("abcd", 1)
    assert list(ssd_tradeoff.float_steps(noise, work)) == [["a"], ["a", "b"], ["a", "b", "d"]]
    noise = {"a": 98.0, "b": 1.0, "c": 1.0}
    assert list(ssd_tradeoff.float_steps(noise, work)) == [["a"], ["a", "c"]]
    assert list(ssd_tradeoff.float_steps({"a": 1.0}, {"a": 1})) == []
    assert list(ssd_tradeoff.float_steps({"a": 0.0, "b": 0.0}, work)) == []


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("/network/model/model.3/model.3.0/conv1/Conv", "model.3.0"),
        ("/model/model.4/model.4.0/downsample/downsample.0/Conv", "model.4.0"),
        ("/model/model.0/Conv", "model.0"),
        ("/additional_blocks.0/additional_blocks.0.2/Conv", "additional_blocks.0.2"),
        ("/mbox.5/convs.1/Conv", "mbox.5"),
        ("Conv_12", "Conv_12"),
    ],
)
def test_blocks_are_the_networks_own_parts(name, block):
    assert ssd_int8.block_of(name) == block


def test_the_share_in_int8_counts_multiply_adds(tmp_path):
    quantiser = opened(save(tmp_path / "a.onnx"))
    cells = CELLS[0] * CELLS[1]
    assert quantiser.work[STEM] == 8 * 3 * 120 * cells
    assert quantiser.work[NODES[1]] == 8 * 8 * 9 * cells
    total = 2880 + 6 * 576 + 2 * 16 * 8  # of one cell
    assert quantiser.int8_share([]) == 1
    assert quantiser.int8_share([STEM]) == pytest.approx((total - 2880) / total)
    assert quantiser.int8_share(["/model/model.2/Relu"]) == 1


def test_pictures_are_spread_over_the_folder():
    assert ssd_int8.spread(list(range(9)), 3) == [0, 4, 8]
    assert ssd_int8.spread(list(range(9)), 99) == list(range(9))
    assert ssd_int8.spread([5], 1) == [5]


def test_with_a_data_set_the_table_tells_map(tmp_path, run_stage):
    data = colour_detector.write_data(tmp_path / "da ta")
    model = colour_detector.save(tmp_path / "c.onnx")
    assert (
        run_stage("ssd_preprocess.py", "--data", data, "--bin-output", tmp_path / "in").returncode
        == 0
    )
    command = ["ssd_quantize.py", "--onnx-path", model, "--calibration", tmp_path / "in"]
    done = run_stage(*command, "--data", data, "--output", tmp_path / "o" / "int8.onnx")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("mAP of 6 of 6 pictures;")
    assert lines[1] == "   INT8   speed      mAP     lost  left in float"
    assert lines[2] == "    0 %    1.00   1.0000   0.0000  everything"
    assert re.fullmatch(r"  100 %    \d+\.\d\d   1\.0000   0\.0000  nothing", lines[3])
    assert re.fullmatch(r"/.*/int8\.onnx: 0\.\d MB, SHA-256 [0-9a-f]{64}", lines[-1])
    assert all(len(line) <= 80 for line in lines[:-1])
    assert [one.name for one in (tmp_path / "o").iterdir()] == ["int8.onnx"]


def test_long_lists_are_wrapped_at_80_columns(tmp_path, quantise):
    skip = ",".join(NODES[1:-2])
    _, told = quantise(save(tmp_path / "a.onnx"), "--skip", skip)
    assert all(len(line) <= 80 for line in told.splitlines()[:-1])
    assert set(NODES[1:-2]) <= set(re.split(r"[\s,]+", told))


def test_auto_without_a_good_model_takes_the_best(tmp_path, quantise, monkeypatch):
    """All blocks suffer, so that less than half would stay in INT8."""
    monkeypatch.setattr(ssd_quantize, "MIN_INT8", 0.9)
    output, told = quantise(save(tmp_path / "a.onnx", wild=[1]))
    assert in_int8(onnx.load(output)) == set(NODES)
    assert told.splitlines()[4].startswith("input image")
    assert "note: none of them is good enough" in quantise.err


def ascend(tmp_path, model, *options, pictures=None):
    pictures = pictures or write_pictures(tmp_path / "in", dtype="float32")
    command = ["--onnx-path", model, "--calibration", pictures]
    command += ["--ascend-calibration", tmp_path / "atc", "--soc_version", "Ascend310P3", *options]
    ssd_quantize.main([str(part) for part in command])
    return tmp_path / "atc"


def test_atc_gets_the_pictures_joined_and_a_config(tmp_path, capsys):
    folder = ascend(tmp_path, save(tmp_path / "a.onnx", 3))
    assert sorted(one.name for one in folder.iterdir()) == ["calibration.bin", "calibration.cfg"]
    files = [tmp_path / "in" / f"tensor([{i}]).bin" for i in (9, 17, 25)]  # of 9, 13, 17, 21, 25
    joined = b"".join(one.read_bytes() for one in files)
    assert (folder / "calibration.bin").read_bytes() == joined
    assert (folder / "calibration.cfg").read_text() == (
        "calibration:\n{\n"
        f"    input_data_dir: {folder}/calibration.bin\n"
        "    input_shape: image:3,3,300,300\n"
        "    infer_soc: Ascend310P3\n}\n"
    )
    assert "3 pictures" in capsys.readouterr().out


def test_atc_gets_uint8_pictures_normalised_as_before_aipp(tmp_path):
    model, made = save(tmp_path / "a.onnx", "N"), []
    for dtype in ("float32", "uint8"):
        pictures = write_pictures(tmp_path / dtype, dtype=dtype)
        made.append((ascend(tmp_path, model, pictures=pictures) / "calibration.bin").read_bytes())
    assert made[0] == made[1] and len(made[0]) == 5 * 1080000


def test_atc_calibrates_on_as_many_pictures_as_the_batch(tmp_path, capsys):
    ascend(tmp_path, save(tmp_path / "a.onnx", 1))
    assert (tmp_path / "atc" / "calibration.bin").stat().st_size == 1080000
    assert "on one batch, here 1 pictures" in capsys.readouterr().err
    with pytest.raises(KitError, match="5 pictures, .* takes 9 at a time; make more"):
        ascend(tmp_path, save(tmp_path / "b.onnx", 9))


def test_atcs_files_need_no_quantising_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    ascend(tmp_path, save(tmp_path / "a.onnx", 1))
    with pytest.raises(ImportError):
        from onnxruntime.quantization import QuantType  # noqa: F401


def as_float16(model):
    for one in model.graph.initializer:
        if one.name.endswith("weight"):
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype("e"), one.name))
    for node in model.graph.node:
        node.input[:] = [f"{n}_32" if n.endswith("weight") else n for n in node.input]
    names = [one.name for one in model.graph.initializer if one.name.endswith("weight")]
    for name in names:
        cast = helper.make_node("Cast", [name], [f"{name}_32"], to=TensorProto.FLOAT)
        model.graph.node.insert(0, cast)


def broken(model):
    for one in model.graph.initializer:
        if one.name == f"{NODES[1]}.weight":
            one.CopyFrom(numpy_helper.from_array(weights_of()[NODES[1]] * np.nan, one.name))


@pytest.mark.parametrize(
    ("change", "told"),
    [(as_float16, "whose weights are not float32"), (broken, "NaN or infinite")],
)
def test_a_model_that_cannot_be_quantised_is_refused(change, told, tmp_path, quantise):
    path = save(tmp_path / "a.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(KitError, match=told):
        quantise(path, "--skip", "none")
    assert not (tmp_path / "int8.onnx").exists()


@pytest.fixture
def bad(tmp_path, run_stage, refused):
    """Run the stage as a user does, and check that it refuses in one line."""

    def check(*told, model=None, pictures=None, more=(), room=None):
        model = model or save(tmp_path / "a.onnx")
        pictures = pictures or write_pictures(tmp_path / "in", dtype="float32")
        command = ["--onnx-path", model, "--calibration", pictures, "--output", tmp_path / "o.onnx"]
        done = run_stage("ssd_quantize.py", *command, *more, room=room)
        refused(done, *told)
        assert not (tmp_path / "o.onnx").exists()
        assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]

    return check


def test_models_that_are_none_are_refused(bad, tmp_path, light_onnx, quantise):
    bad(tmp_path / "none.onnx", "no such model", model=tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    bad("text.onnx: not an ONNX model", model=tmp_path / "text.onnx")
    (tmp_path / "a.pt").write_text("checkpoint")
    bad("a.pt: not an ONNX file; make one with ssd_pth2onnx.py", model=tmp_path / "a.pt")
    bad("light.onnx: no convolution in it", model=light_onnx)
    fixed = onnx.load(save(tmp_path / "fixed.onnx", batch=2))
    shape = next(one for one in fixed.graph.initializer if one.name == "ploc_shape")
    shape.CopyFrom(numpy_helper.from_array(np.array([2, 4, 8732]), "ploc_shape"))
    (tmp_path / "fixed.onnx").write_bytes(fixed.SerializeToString())
    bad("fixed.onnx: does not run with one picture", model=tmp_path / "fixed.onnx")
    output, _ = quantise(save(tmp_path / "b.onnx"), "--skip", "none")
    bad("int8.onnx: is quantised already; give the float32 model", model=output)


def test_calibration_folders_that_do_not_fit_are_refused(bad, tmp_path):
    bad("no such folder; make it with ssd_preprocess.py", pictures=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    bad("no .bin or .npy file", pictures=tmp_path / "empty")
    floats = write_pictures(tmp_path / "floats", dtype="float32")
    model = save(tmp_path / "u.onnx", dtype="uint8")
    bad("tensor([9]).bin: float32, the model takes uint8", model=model, pictures=floats)
    (floats / "tensor([13]).bin").write_bytes(b"123")
    bad("tensor([13]).bin: 3 bytes, expected float32", pictures=floats)


def test_what_skip_does_not_find_is_told_with_what_is_near(bad):
    bad("--skip model.5.7: no such node; did you mean model.5.", more=["--skip", "model.5.7"])
    bad("--skip qqq: no such node; such as /model/model.0/Conv", more=["--skip", "qqq"])
    bad("leaves every convolution in float", more=["--skip", "*"])


def test_a_data_set_of_other_pictures_or_labels_is_refused(bad, tmp_path, tiny_coco):
    pictures = write_pictures(tmp_path / "one", 1, "float32")
    (pictures / "tensor([9]).bin").rename(pictures / "tensor([10]).bin")
    data = colour_detector.write_data(tmp_path / "data")
    bad("one: no picture of", more=["--data", data], pictures=pictures)
    bad("4 categories, the model has 3", more=["--data", tiny_coco])
    bad("no such folder", more=["--data", tmp_path / "nowhere"])
    bad("no such file", more=["--annotation", tmp_path / "nowhere.json"])


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(bad, tmp_path):
    save(tmp_path / "a.onnx")
    bad("cannot write", room=10_000)  # not even the float model in the scratch folder


def test_atc_refuses_models_and_paths_that_it_could_not_take(tmp_path, run_stage, refused):
    pictures = write_pictures(tmp_path / "in", dtype="uint8")
    model = save(tmp_path / "a.onnx", dtype="uint8")
    command = ["ssd_quantize.py", "--calibration", pictures, "--soc_version", "Ascend310"]
    done = run_stage(*command, "--onnx-path", model, "--ascend-calibration", tmp_path / "atc")
    refused(done, "a.onnx: takes uint8; atc wants a float32 model")
    model = save(tmp_path / "b.onnx")
    done = run_stage(*command, "--onnx-path", model, "--ascend-calibration", tmp_path / "a b")
    refused(done, "a b/calibration.bin: atc's config takes no blank, comma or semicolon")
    done = run_stage(*command, "--onnx-path", model, "--ascend-calibration", tmp_path / "c", room=9)
    refused(done, "cannot write")
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--output", "o", "--images", "0"], "argument --images: must be at least 1"),
        (["--output", "o", "--method", "x"], "argument --method: invalid choice"),
        ([], "give --output, --ascend-calibration or both"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(options, told, run_stage):
    done = run_stage("ssd_quantize.py", "--onnx-path", "a", "--calibration", "b", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"ssd_quantize.py: error: {told}")


@pytest.mark.slow
def test_on_real_pictures_auto_loses_at_most_2_points(coco_tiny, tmp_path, run_stage):
    pytest.importorskip("torch")

    def stage(name, *args):
        done = run_stage(name, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    model, pictures = tmp_path / "ssd_bs1.onnx", tmp_path / "in"
    stage("ssd_sample.py", "--output", tmp_path, "--fit-to", coco_tiny)
    checkpoint = tmp_path / "models" / "sample.pt"
    stage("ssd_pth2onnx.py", "--pth-path", checkpoint, "--onnx-path", model)
    stage("ssd_preprocess.py", "--data", coco_tiny, "--bin-output", pictures)
    command = ["ssd_quantize.py", "--onnx-path", model, "--calibration", pictures]
    output = tmp_path / "int8.onnx"
    told = stage(*command, "--images", 16, "--data", coco_tiny, "--output", output)
    rows = [line.split()[:5] for line in told[2:] if re.match(r" +\d+ % ", line)]
    lost = {row[0]: float(row[4]) for row in rows}
    (share,) = re.findall(r"INT8, (\d+)% of the multiply-adds", "\n".join(told))
    assert lost["0"] == 0 and lost["100"] > 0.02 >= lost[share]
    assert 75 < int(share) < 100
    assert {"model.0", "model.3.0"} <= set(re.split(r"[\s,]+", " ".join(told)))
    assert output.stat().st_size < model.stat().st_size / 3
