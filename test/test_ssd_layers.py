"""Layer comparison: its figures, which layers are compared, and that a disturbed one is named.

Run: python -m pytest test/test_ssd_layers.py
"""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

import ssd_layers
from ssd_files import KitError
from ssd_preprocess import normalise

onnx = pytest.importorskip("onnx")
path = Path(__file__).with_name("colour_detector.py")
spec = importlib.util.spec_from_file_location("colour_detector", path)
colour_detector = importlib.util.module_from_spec(spec)
spec.loader.exec_module(colour_detector)


def pictures(count=3):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, 300, 300, 3), dtype=np.uint8))


def named(found):
    return {one.name: one for one in found}


def test_the_figures_of_pairs_are_those_of_all_elements_together():
    one = ssd_layers.Difference()
    assert (one.cosine, one.max_abs, one.mean_abs) == (1.0, 0.0, 0.0)
    one.add(np.float32([3, 4]), np.float32([4, 3]))
    assert one.cosine == pytest.approx(24 / 25)
    assert (one.max_abs, one.mean_abs) == (1.0, 1.0)
    one.add(np.float32([[0]]), np.float32([[-5]]))
    assert one.cosine == pytest.approx(24 / math.sqrt(25 * 50))
    assert (one.max_abs, one.mean_abs) == (5.0, pytest.approx(7 / 3))


@pytest.mark.parametrize(
    ("first", "second", "cosine"),
    [([0, 0], [0, 0], 1.0), ([0, 0], [0, 1], 0.0), ([1, 0], [0, 0], 0.0), ([1, 2], [-2, -4], -1.0)],
)
def test_zeros_and_opposites_have_a_cosine(first, second, cosine):
    one = ssd_layers.Difference()
    one.add(np.float32(first), np.float32(second))
    assert one.cosine == pytest.approx(cosine)


def test_one_nan_makes_all_figures_nan_for_good():
    one = ssd_layers.Difference()
    one.add(np.float32([1, np.nan]), np.float32([1, 1]))
    one.add(np.float32([1, 1]), np.float32([1, 1]))
    assert all(math.isnan(value) for value in (one.cosine, one.max_abs, one.mean_abs))


def test_equal_vectors_never_exceed_a_cosine_of_one():
    for seed in range(50):
        one = ssd_layers.Difference()
        values = np.random.default_rng(seed).normal(size=7).astype(np.float32)
        one.add(values, values)
        assert 1 - 1e-12 < one.cosine <= 1


def test_a_model_equals_itself_in_every_layer_and_the_layers_are_in_order(tmp_path):
    model = colour_detector.save(tmp_path / "a.onnx")
    found = ssd_layers.compare_layers(model, model, pictures())
    chain = ["/stem/Conv", "/tint/Conv", "/relu/Relu", "/GlobalAveragePool", "/classify/Conv"]
    assert [one.name for one in found] == [*chain, "/Reshape", "/Concat", "/Gather"]
    assert [one.op for one in found][:4] == ["Conv", "Conv", "Relu", "GlobalAveragePool"]
    for one in found:
        assert one[2:] == (pytest.approx(1.0), 0.0, 0.0, pytest.approx(1.0))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_figures_are_those_of_a_literal_run_of_the_disturbed_layer(dtype, tmp_path):
    tint = np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    above = colour_detector.save(tmp_path / "a.onnx")
    below = colour_detector.save(tmp_path / "b.onnx", dtype, tint=tint)
    rgb = pictures()
    found = named(ssd_layers.compare_layers(above, below, rgb))
    x = np.stack([normalise(one) for one in rgb]).astype(np.float64)
    y = np.einsum("oc,nchw->nohw", tint, x)
    disturbed = found["/tint/Conv"]
    cosine = (x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum())
    assert disturbed.cosine == pytest.approx(cosine, abs=1e-6)
    assert disturbed.max_abs == pytest.approx(np.abs(x - y).max(), rel=1e-5)
    assert disturbed.mean_abs == pytest.approx(np.abs(x - y).mean(), rel=1e-5)
    assert found["/stem/Conv"].cosine == pytest.approx(1.0) == disturbed.before
    assert found["/relu/Relu"].before == disturbed.cosine


def test_only_one_batch_is_made_at_a_time(tmp_path, monkeypatch):
    model = colour_detector.save(tmp_path / "a.onnx")
    made = []
    monkeypatch.setattr(ssd_layers, "normalise", lambda rgb: made.append(1) or normalise(rgb))
    run = ssd_layers.run_onnx(model, ssd_layers.onnx_layers(model), pictures(5))
    assert made == []
    next(run)
    assert made == [1]
    next(run)
    assert made == [1, 1]


def test_without_pictures_there_is_nothing_to_tell(tmp_path):
    model = colour_detector.save(tmp_path / "a.onnx")
    assert ssd_layers.compare_layers(model, model, []) == []


def test_a_short_batch_is_filled_up_and_the_filling_is_not_counted():
    rgb = pictures()
    (one, full), (two, rest) = ssd_layers.batches(rgb, 2, "uint8")
    assert (full, rest, two.dtype, two.shape) == (2, 1, np.uint8, (2, 300, 300, 3))
    assert (one == np.stack(rgb[:2])).all() and (two == np.stack([rgb[2]] * 2)).all()
    ((floats, count),) = ssd_layers.batches(rgb[:1], 1, "float32")
    assert (floats == normalise(rgb[0])[None]).all() and count == 1


@pytest.mark.parametrize(
    ("tensor", "key"),
    [
        ("/model/model.0/Conv_output_0", "model.0"),
        ("/model/model.3/model.3.0/relu_1/Relu_output_0", "model.3.0.relu_1"),
        (
            "/model/model.4/model.4.0/downsample/downsample.0/Conv_output_0",
            "model.4.0.downsample.0",
        ),
        ("/mbox.5/convs.1/Conv_output_0", "mbox.5.convs.1"),
        ("/model/model.3/model.3.0/Add_output_0", "model.3.0"),
        ("/Reshape_1_output_0", ""),
        ("plabel", "plabel"),
    ],
)
def test_tensor_names_tell_the_module(tensor, key):
    assert ssd_layers.module_key(tensor) == key


def test_a_checkpoint_and_its_onnx_agree_in_every_module(checkpoint, onnx_file):
    found = ssd_layers.compare_layers(checkpoint, onnx_file, pictures(2))
    # the stem, 2 in each of 13 blocks, 2 shortcuts, 10 in the extra blocks, 12 in the heads
    assert sum(one.op == "Conv" for one in found) == 51
    assert sum(one.op == "MaxPool" for one in found) == 1
    assert sum(one.op == "Relu" for one in found) == 1 + 2 * 13 + 10
    assert found[0].name == "/model/model.0/Conv" and found[0].before == 1.0
    assert [one.name for one in found[-2:]] == ["/Concat", "/Concat_1"]
    for one in found:
        assert one.cosine > 1 - 1e-9 and one.max_abs < 1e-3, one
        assert one.before > 1 - 1e-9


def disturb(source, target, weight, seed=0):
    """Save a model with noise on one weight."""
    model = onnx.load(source)
    (tensor,) = (one for one in model.graph.initializer if one.name == weight)
    values = onnx.numpy_helper.to_array(tensor)
    noise = np.random.default_rng(seed).normal(0, values.std(), values.shape)
    values = (values + 0.3 * noise).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, weight))
    onnx.save(model, target)


def test_what_a_layer_reads_is_looked_up_through_layers_that_are_not_compared(
    checkpoint, onnx_file, tmp_path
):
    disturb(onnx_file, tmp_path / "b.onnx", "model.3.0.conv2.weight")
    found = named(ssd_layers.compare_layers(checkpoint, tmp_path / "b.onnx", pictures(1)))
    block = "/model/model.3/model.3.0"
    assert f"{block}/Add" not in found  # a checkpoint has no module that adds
    assert found[f"{block}/relu_1/Relu"].before == found[f"{block}/conv2/Conv"].cosine < 0.999


@pytest.mark.parametrize("layer", ["model.4.0.downsample.0", "model.5.2.conv1", "mbox.2.convs.0"])
def test_the_disturbed_layer_is_the_first_to_fall(layer, checkpoint, onnx_file, tmp_path):
    below = tmp_path / "b.onnx"
    disturb(onnx_file, below, f"{layer}.weight")
    parts = layer.rpartition(".")
    for above in (checkpoint, onnx_file):
        found = ssd_layers.compare_layers(above, below, pictures(1))
        fallen = [one for one in found if one.before - one.cosine > 1e-3]
        assert fallen[0].op == "Conv" and fallen[0].name.endswith(f"{parts[2]}/Conv")
        assert ssd_layers.module_key(f"{fallen[0].name}_output_0") == layer


def quantise(source, target, *left_out):
    """Quantise a model on two pictures, but for the nodes that are left out."""
    from onnxruntime import quantization

    size = onnx.load(source).graph.input[0].type.tensor_type.shape.dim[0].dim_value

    class Reader(quantization.CalibrationDataReader):
        batches = iter([images for images, _ in ssd_layers.batches(pictures(2), size, "float32")])

        def get_next(self):
            images = next(self.batches, None)
            return None if images is None else {"image": images}

    options = {"per_channel": True, "nodes_to_exclude": list(left_out)}
    quantization.quantize_static(source, target, Reader(), **options)


def test_quantised_outputs_are_compared_under_the_names_of_their_nodes(tmp_path):
    model = colour_detector.save(tmp_path / "a.onnx")
    quantise(model, tmp_path / "q.onnx")
    ends = [node for node in onnx.load(tmp_path / "q.onnx").graph.node if "plabel" in node.output]
    assert [node.op_type for node in ends] == ["DequantizeLinear"]
    found = named(ssd_layers.compare_layers(model, tmp_path / "q.onnx", pictures(2)))
    chain = ["/stem/Conv", "/tint/Conv", "/GlobalAveragePool", "/classify/Conv", "/Reshape"]
    assert list(found) == [*chain, "/Concat", "/Gather"]
    assert found["/Gather"].before == found["/Concat"].cosine < 1


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory):
    """The random network of batch 2, with uint8 input, and quantised with floats in its heads."""
    import ssd_pth2onnx

    folder = tmp_path_factory.mktemp("models")
    for name, options in {"a": ["--bs", "2", "--opset", "13"], "u": ["--input", "uint8"]}.items():
        options += ["--pth-path", str(checkpoint), "--onnx-path", str(folder / f"{name}.onnx")]
        ssd_pth2onnx.main(options)
    left_out = ["/mbox.0/convs.0/Conv", "/mbox.0/convs.1/Conv", "/Concat", "/Concat_1"]
    quantise(folder / "a.onnx", folder / "q.onnx", *left_out)
    return folder


def test_the_prefix_of_uint8_models_and_the_batch_size_do_not_matter(models, onnx_file):
    found = ssd_layers.compare_layers(models / "a.onnx", models / "u.onnx", pictures(3))
    assert not any(one.name.startswith("/network") for one in found)
    assert [one.name for one in found] == [
        one.name for one in ssd_layers.compare_layers(models / "a.onnx", onnx_file, pictures(1))
    ]
    assert sum(one.op == "Conv" for one in found) == 51
    assert all(one.cosine > 1 - 1e-9 for one in found)


def test_a_quantised_model_is_compared_where_both_have_a_value(models):
    found = ssd_layers.compare_layers(models / "a.onnx", models / "q.onnx", pictures(2))
    layers = named(found)
    assert len(layers) == len(found)  # nothing twice
    convs = [one.name for one in found if one.op == "Conv"]
    assert len(convs) == 51 and not any("Linear" in one.op for one in found)
    assert "/model/model.2/model.2.0/Relu" not in layers  # folded: the Conv stands for both
    plabel = layers["/Concat_1"]  # left in float, of quantised and of float parts
    assert 0.9 < plabel.cosine < 1 - 1e-6
    assert plabel.before == min(
        layers[name].cosine for name in layers if name.startswith("/Reshape") and even(name)
    )
    assert layers["/mbox.0/convs.0/Conv"].before == layers[last_add(layers)].cosine


def even(name):
    """Tell a reshape of confidences (every other one, from the first) from one of locations."""
    return int(name.partition("_")[2] or 0) % 2 == 0


def last_add(layers):
    return [name for name in layers if name.startswith("/model/model.5/model.5.5")][-1]


def test_dequantised_values_are_taken_as_the_next_layer_reads_them(models):
    key = "/model/model.2/model.2.0/Relu_output_0"
    layer = ssd_layers.onnx_layers(models / "q.onnx")[key]
    assert (layer.name, layer.op) == ("/model/model.0/Conv", "Conv")
    (values,) = ssd_layers.run_onnx(models / "q.onnx", {key: layer}, pictures(1))
    assert len(np.unique(values[key])) <= 256 and values[key].min() == 0


def test_quantised_and_float_convolutions_are_counted(models):
    assert ssd_layers.count_int8(models / "a.onnx") == (0, 51)
    assert ssd_layers.count_int8(models / "q.onnx") == (49, 51)


def test_what_cannot_be_compared_is_told(tmp_path, light_onnx, onnx_file):
    model = colour_detector.save(tmp_path / "a.onnx")
    with pytest.raises(KitError, match=r"b\.onnx: no such model"):
        ssd_layers.compare_layers(model, tmp_path / "b.onnx", pictures(1))
    with pytest.raises(KitError, match=r"gives \(4, 8732\), that of .* \(5, 8732\); compare"):
        ssd_layers.compare_layers(light_onnx, model, pictures(1))
    with pytest.raises(KitError, match="no such model"):
        ssd_layers.compare_layers(tmp_path / "a.om", model, pictures(1))
    other = onnx.load(model)
    for node in other.graph.node:
        renamed = [f"{name}_" if name.startswith("/") else name for name in node.output]
        reads = [f"{name}_" if name.startswith("/") else name for name in node.input]
        node.output[:], node.input[:] = renamed, reads
    onnx.save(other, tmp_path / "c.onnx")
    found = ssd_layers.compare_layers(model, tmp_path / "c.onnx", pictures(1))
    assert [one.name for one in found] == ["/Gather"]  # the output alone has one name in both
