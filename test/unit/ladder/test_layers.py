"""Layer comparison: its figures, which layers are compared, and that a disturbed one is named."""

import math

from ssd.cli import KitError
from ssd.engines import open_engine
from ssd.images import normalize, to_input
from ssd.ladder import layers
from ssd.ladder.layers import LayerDifference, compare_layers, describe_layers, falls
from ssd.onnx_graph import count_int8, load_onnx, onnx_layers

import numpy as np
import pytest
from models import save_colors

onnx = pytest.importorskip("onnx")


def make_rgbs(count=3):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, 300, 300, 3), dtype=np.uint8))


def named(found):
    return {layer.name: layer for layer in found}


def test_a_model_equals_itself_in_every_layer_and_the_layers_are_in_order(tmp_path):
    model = save_colors(tmp_path / "a.onnx")
    found = compare_layers(model, model, make_rgbs())
    chain = ["/stem/Conv", "/tint/Conv", "/relu/Relu", "/GlobalAveragePool", "/classify/Conv"]
    assert [layer.name for layer in found] == [*chain, "/Reshape", "/Concat", "/Gather"]
    assert [layer.op for layer in found][:4] == ["Conv", "Conv", "Relu", "GlobalAveragePool"]
    for layer in found:
        assert layer[2:] == (pytest.approx(1.0), 0.0, 0.0, pytest.approx(1.0))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_figures_are_those_of_a_literal_run_of_the_disturbed_layer(dtype, tmp_path):
    tint = np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    above = save_colors(tmp_path / "a.onnx")
    below = save_colors(tmp_path / "b.onnx", dtype, tint=tint)
    rgb = make_rgbs()
    found = named(compare_layers(above, below, rgb))
    x = np.stack([normalize(image) for image in rgb]).astype(np.float64)
    y = np.einsum("oc,nchw->nohw", tint, x)
    disturbed = found["/tint/Conv"]
    cosine = (x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum())
    assert disturbed.cosine == pytest.approx(cosine, abs=1e-6)
    assert disturbed.max_abs == pytest.approx(np.abs(x - y).max(), rel=1e-5)
    assert disturbed.mean_abs == pytest.approx(np.abs(x - y).mean(), rel=1e-5)
    assert found["/stem/Conv"].cosine == pytest.approx(1.0) == disturbed.before
    assert found["/relu/Relu"].before == disturbed.cosine


def test_only_one_batch_is_made_at_a_time(tmp_path, monkeypatch):
    model = save_colors(tmp_path / "a.onnx")
    made = []
    monkeypatch.setattr(
        "ssd.ladder.layers.to_input", lambda rgb, dtype: made.append(1) or to_input(rgb, dtype)
    )
    engine, loaded = open_engine(model), load_onnx(model)
    run = layers.run_onnx(engine, loaded, onnx_layers(loaded.graph), make_rgbs(5))
    assert made == []
    next(run)
    assert made == [1]
    next(run)
    assert made == [1, 1]


def test_each_model_is_opened_once(tmp_path, monkeypatch):
    models = save_colors(tmp_path / "a.onnx"), save_colors(tmp_path / "b.onnx")
    opened = []

    def counting(work):
        return lambda path: opened.append(path.name) or work(path)

    for name in ("open_engine", "load_onnx"):
        monkeypatch.setattr(layers, name, counting(getattr(layers, name)))
    compare_layers(*models, make_rgbs(1))
    assert sorted(opened) == ["a.onnx"] * 2 + ["b.onnx"] * 2


def test_without_images_no_layer_is_compared(tmp_path):
    model = save_colors(tmp_path / "a.onnx")
    assert compare_layers(model, model, []) == []


def test_a_short_batch_is_filled_up_and_the_filling_is_not_counted():
    rgb = make_rgbs()
    (first, full), (second, rest) = layers.batches(rgb, 2, "uint8")
    assert (full, rest, second.dtype, second.shape) == (2, 1, np.uint8, (2, 300, 300, 3))
    assert (first == np.stack(rgb[:2])).all() and (second == np.stack([rgb[2]] * 2)).all()
    ((floats, count),) = layers.batches(rgb[:1], 1, "float32")
    assert (floats == normalize(rgb[0])[None]).all() and count == 1


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
def test_tensor_names_give_the_module(tensor, key):
    assert layers.module_key(tensor) == key


def test_a_checkpoint_and_its_onnx_agree_in_every_module(checkpoint, onnx_file):
    found = compare_layers(checkpoint, onnx_file, make_rgbs(2))
    # the stem, 2 in each of 13 blocks, 2 shortcuts, 10 in the extra blocks, 12 in the heads
    assert sum(layer.op == "Conv" for layer in found) == 51
    assert sum(layer.op == "MaxPool" for layer in found) == 1
    assert sum(layer.op == "Relu" for layer in found) == 1 + 2 * 13 + 10
    assert found[0].name == "/model/model.0/Conv" and found[0].before == 1.0
    assert [layer.name for layer in found[-2:]] == ["/Concat", "/Concat_1"]
    for layer in found:
        assert layer.cosine > 1 - 1e-9 and layer.max_abs < 1e-3, layer
        assert layer.before > 1 - 1e-9


def disturb(source, target, weight, seed=0):
    """Save a model with noise on one weight."""
    model = onnx.load(source)
    (tensor,) = (t for t in model.graph.initializer if t.name == weight)
    values = onnx.numpy_helper.to_array(tensor)
    noise = np.random.default_rng(seed).normal(0, values.std(), values.shape)
    values = (values + 0.3 * noise).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, weight))
    onnx.save(model, target)


def test_what_a_layer_reads_is_looked_up_through_layers_that_are_not_compared(
    checkpoint, onnx_file, tmp_path
):
    disturb(onnx_file, tmp_path / "b.onnx", "model.3.0.conv2.weight")
    found = named(compare_layers(checkpoint, tmp_path / "b.onnx", make_rgbs(1)))
    block = "/model/model.3/model.3.0"
    assert f"{block}/Add" not in found  # a checkpoint has no module that adds
    assert found[f"{block}/relu_1/Relu"].before == found[f"{block}/conv2/Conv"].cosine < 0.999


@pytest.mark.parametrize("layer", ["model.4.0.downsample.0", "model.5.2.conv1", "mbox.2.convs.0"])
def test_the_disturbed_layer_is_the_first_to_fall(layer, checkpoint, onnx_file, tmp_path):
    below = tmp_path / "b.onnx"
    disturb(onnx_file, below, f"{layer}.weight")
    parts = layer.rpartition(".")
    for above in (checkpoint, onnx_file):
        found = compare_layers(above, below, make_rgbs(1))
        fallen = [layer for layer in found if layer.before - layer.cosine > 1e-3]
        assert fallen[0].op == "Conv" and fallen[0].name.endswith(f"{parts[2]}/Conv")
        assert layers.module_key(f"{fallen[0].name}_output_0") == layer


def quantize(source, target, *left_out):
    """Quantize a model on two images, but for the nodes that are left out."""
    from onnxruntime import quantization

    size = onnx.load(source).graph.input[0].type.tensor_type.shape.dim[0].dim_value

    class Reader(quantization.CalibrationDataReader):
        batches = iter([images for images, _ in layers.batches(make_rgbs(2), size, "float32")])

        def get_next(self):
            images = next(self.batches, None)
            return None if images is None else {"image": images}

    options = {"per_channel": True, "nodes_to_exclude": list(left_out)}
    quantization.quantize_static(source, target, Reader(), **options)


def test_quantized_outputs_are_compared_under_the_names_of_their_nodes(tmp_path):
    model = save_colors(tmp_path / "a.onnx")
    quantize(model, tmp_path / "q.onnx")
    ends = [node for node in onnx.load(tmp_path / "q.onnx").graph.node if "plabel" in node.output]
    assert [node.op_type for node in ends] == ["DequantizeLinear"]
    found = named(compare_layers(model, tmp_path / "q.onnx", make_rgbs(2)))
    chain = ["/stem/Conv", "/tint/Conv", "/GlobalAveragePool", "/classify/Conv", "/Reshape"]
    assert list(found) == [*chain, "/Concat", "/Gather"]
    assert found["/Gather"].before == found["/Concat"].cosine < 1


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory):
    """The random network of batch 2, with uint8 input, and quantized with floats in its heads."""
    import ssd_pth2onnx

    folder = tmp_path_factory.mktemp("models")
    for name, options in {"a": ["--bs", "2", "--opset", "13"], "u": ["--input", "uint8"]}.items():
        options += ["--pth-path", str(checkpoint), "--onnx-path", str(folder / f"{name}.onnx")]
        ssd_pth2onnx.main(options)
    left_out = ["/mbox.0/convs.0/Conv", "/mbox.0/convs.1/Conv", "/Concat", "/Concat_1"]
    quantize(folder / "a.onnx", folder / "q.onnx", *left_out)
    return folder


def test_the_prefix_of_uint8_models_and_the_batch_size_do_not_matter(models, onnx_file):
    found = compare_layers(models / "a.onnx", models / "u.onnx", make_rgbs(3))
    assert not any(layer.name.startswith("/network") for layer in found)
    assert [layer.name for layer in found] == [
        layer.name for layer in compare_layers(models / "a.onnx", onnx_file, make_rgbs(1))
    ]
    assert sum(layer.op == "Conv" for layer in found) == 51
    assert all(layer.cosine > 1 - 1e-9 for layer in found)


def test_a_quantized_model_is_compared_where_both_have_a_value(models):
    found = compare_layers(models / "a.onnx", models / "q.onnx", make_rgbs(2))
    layers = named(found)
    assert len(layers) == len(found)  # nothing twice
    convs = [layer.name for layer in found if layer.op == "Conv"]
    assert len(convs) == 51 and not any("Linear" in layer.op for layer in found)
    assert "/model/model.2/model.2.0/Relu" not in layers  # folded: the Conv stands for both
    plabel = layers["/Concat_1"]  # left in float, of quantized and of float parts
    assert 0.9 < plabel.cosine < 1 - 1e-6
    assert plabel.before == min(
        layers[name].cosine for name in layers if name.startswith("/Reshape") and even(name)
    )
    assert layers["/mbox.0/convs.0/Conv"].before == layers[last_add(layers)].cosine


def even(name):
    """Return whether a reshape is of confidences (every other reshape, from the first)."""
    return int(name.partition("_")[2] or 0) % 2 == 0


def last_add(layers):
    return [name for name in layers if name.startswith("/model/model.5/model.5.5")][-1]


def test_dequantized_values_are_taken_as_the_next_layer_reads_them(models):
    key = "/model/model.2/model.2.0/Relu_output_0"
    path = models / "q.onnx"
    engine, model = open_engine(path), load_onnx(path)
    layer = onnx_layers(model.graph)[key]
    assert (layer.name, layer.op) == ("/model/model.0/Conv", "Conv")
    (values,) = layers.run_onnx(engine, model, {key: layer}, make_rgbs(1))
    assert len(np.unique(values[key])) <= 256 and values[key].min() == 0


def test_quantized_and_float_convolutions_are_counted(models):
    assert count_int8(models / "a.onnx") == (0, 51)
    assert count_int8(models / "q.onnx") == (49, 51)


def test_what_cannot_be_compared_is_refused(tmp_path, light_onnx):
    model = save_colors(tmp_path / "a.onnx")
    with pytest.raises(KitError, match=r"b\.onnx: no such model"):
        compare_layers(model, tmp_path / "b.onnx", make_rgbs(1))
    with pytest.raises(KitError, match=r"gives \(4, 8732\), that of .* \(5, 8732\); compare"):
        compare_layers(light_onnx, model, make_rgbs(1))
    with pytest.raises(KitError, match="no such model"):
        compare_layers(tmp_path / "a.om", model, make_rgbs(1))
    other = onnx.load(model)
    for node in other.graph.node:
        renamed = [f"{name}_" if name.startswith("/") else name for name in node.output]
        reads = [f"{name}_" if name.startswith("/") else name for name in node.input]
        node.output[:], node.input[:] = renamed, reads
    onnx.save(other, tmp_path / "c.onnx")
    found = compare_layers(model, tmp_path / "c.onnx", make_rgbs(1))
    assert [layer.name for layer in found] == ["/Gather"]  # the output alone has one name in both


def differences(*cosines):
    return [
        LayerDifference(f"n{i}", "Conv", cosine, 1.0, 0.5, before)
        for i, (before, cosine) in enumerate(cosines)
    ]


def test_the_first_layer_that_falls_comes_first_then_those_that_fall_most():
    found = differences((1, 0.999995), (1, 0.99), (0.99, 0.985), (0.985, 0.8), (0.8, 0.99))
    assert [layer.name for layer in falls(found)] == ["n1", "n3", "n2"]
    assert falls(found[:1]) == []
    nan = differences((1, 1), (1, math.nan), (math.nan, math.nan))
    assert [layer.name for layer in falls(nan)] == ["n1", "n2"]
    mixed = differences((1, 0.99), (1, 0.9), (1, math.nan), (1, 0.8))
    assert [layer.name for layer in falls(mixed)] == ["n0", "n2", "n3", "n1"]


def test_long_lists_of_layers_are_cut_and_counted():
    lines = describe_layers(differences(*[(1, 0.9)] * 11), "int8")
    assert len(lines) == 1 + 8 + 2
    assert lines[-2:] == [
        "and 3 more that fall by 1e-05 or more",
        "The cosine first falls at n0 (Conv)",
    ]
