"""The network, its checkpoints, its export, and the engines that run it."""

import collections
import hashlib
import json
import os
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import onnx  # noqa: E402
import torchvision  # noqa: E402

import ssd_engines  # noqa: E402
import ssd_r34  # noqa: E402
from ssd_boxes import BOXES_PER_CELL, FEATURE_SIZES  # noqa: E402
from ssd_files import KitError  # noqa: E402

LABELS = 3  # enough for everything but the contract's own numbers
ATC_TAKES = {"Conv", "Relu", "Add", "MaxPool", "Reshape", "Concat", "Constant", "Identity"}


def random_network(labels=LABELS):
    """A network whose batch norms and weights are all of some size."""
    torch.manual_seed(0)
    network = ssd_r34.SSDR34(labels)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.4, 0.8)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.bias)
    return network.eval()


@pytest.fixture(scope="session")
def network():
    return random_network()


@pytest.fixture(scope="session")
def checkpoint(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("check point;'é") / "ssd.pt"
    torch.save({"model": network.state_dict(), "epoch": 1}, path)
    return path


@pytest.fixture(scope="session")
def image():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 300, 300)).astype("f"))


def run(network, image):
    with torch.no_grad():
        return [output.numpy() for output in network(image)]


def expected_keys():
    """The keys as DESIGN.md describes them."""
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    keys = ["model.0.weight"] + [f"model.1.{name}" for name in norm]
    for layer, blocks in ((3, 3), (4, 4), (5, 6)):
        for block in range(blocks):
            prefix = f"model.{layer}.{block}"
            for i in (1, 2):
                keys.append(f"{prefix}.conv{i}.weight")
                keys += [f"{prefix}.bn{i}.{name}" for name in norm]
            if layer > 3 and block == 0:
                keys.append(f"{prefix}.downsample.0.weight")
                keys += [f"{prefix}.downsample.1.{name}" for name in norm]
    keys += [f"additional_blocks.{i}.{j}.{n}" for i in range(5) for j in (0, 2) for n in norm[:2]]
    return keys + [f"mbox.{i}.{name}" for i in range(6) for name in norm[:2]]


def test_the_network_is_the_contracts():
    full = ssd_r34.SSDR34()
    assert sorted(full.state_dict()) == sorted(expected_keys())
    assert sum(parameter.numel() for parameter in full.parameters()) == 19_972_534
    shapes = {key: tuple(value.shape) for key, value in full.state_dict().items()}
    assert shapes["model.0.weight"] == (64, 3, 7, 7)
    assert shapes["model.5.0.downsample.0.weight"] == (256, 128, 1, 1)
    assert shapes["additional_blocks.2.2.weight"] == (256, 128, 3, 3)
    channels = [4 * 85, 6 * 85, 6 * 85, 6 * 85, 4 * 85, 4 * 85]
    inputs = [256, 512, 512, 256, 256, 256]
    for i, (out, into) in enumerate(zip(channels, inputs, strict=True)):
        assert shapes[f"mbox.{i}.weight"] == (out, into, 3, 3)


def test_maps_and_outputs_have_the_contracts_shapes(network, image):
    with torch.no_grad():
        maps = network.features(image)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (256, 38, 38), (512, 19, 19), (512, 10, 10), (256, 5, 5), (256, 3, 3), (256, 1, 1)
    ]  # fmt: skip
    ploc, plabel = run(network, image)
    assert ploc.shape == (1, 4, 8732) and plabel.shape == (1, LABELS, 8732)


def test_head_channel_c_boxes_plus_b_is_row_c_of_box_b(image):
    network = ssd_r34.SSDR34(LABELS).eval()
    for k, head in enumerate(network.mbox):
        torch.nn.init.zeros_(head.weight)
        bias = np.arange(len(head.bias), dtype=np.float32) + 1000 * k
        head.bias.data = torch.from_numpy(bias)
    ploc, plabel = run(network, image)
    start = 0
    for k, (boxes, size) in enumerate(zip(BOXES_PER_CELL, FEATURE_SIZES, strict=True)):
        for b in range(boxes):
            part = slice(start + b * size**2, start + (b + 1) * size**2)
            for c in range(LABELS):
                assert set(plabel[0, c, part]) == {1000 * k + c * boxes + b}
            for c in range(4):
                assert set(ploc[0, c, part]) == {1000 * k + (LABELS + c) * boxes + b}
        start += boxes * size**2


def test_folding_and_splitting_change_nothing(network, image):
    for deployed, plain in zip(
        run(ssd_r34.deploy(network), image), run(network, image), strict=True
    ):
        np.testing.assert_allclose(deployed, plain, atol=2e-4 * np.abs(plain).max())


def reference_names(state):
    """The same weights under the MLPerf reference's own names."""
    new = {}
    swap = {"model.0.": "0.", "model.1.": "1.", "model.3.": "4.", "model.4.": "5."}
    for key, value in state.items():
        if key.startswith("mbox."):
            boxes = BOXES_PER_CELL[int(key.split(".")[1])]
            new[key.replace("mbox", "conf")] = value[: boxes * LABELS]
            new[key.replace("mbox", "loc")] = value[boxes * LABELS :]
        elif key.startswith("model.5."):
            new["model.layer2.0." + key[len("model.5.") :]] = value
        elif key.startswith("model."):
            new["model.layer1." + swap[key[:8]] + key[8:]] = value
        else:
            new[key] = value
    return new


@pytest.mark.parametrize("form", ["wrapped", "bare", "module", "reference", "no counts"])
def test_every_form_of_checkpoint_loads(form, network, tmp_path):
    state = network.state_dict()
    saved = {
        "wrapped": {"model": state},
        "bare": state,
        "module": {"model": {f"module.{key}": value for key, value in state.items()}},
        "reference": {"model": reference_names(state)},
        "no counts": {k: v for k, v in state.items() if "num_batches" not in k},
    }[form]
    torch.save(saved, tmp_path / "c.pt")
    loaded = ssd_r34.load_checkpoint(tmp_path / "c.pt")
    assert loaded.labels == LABELS and not loaded.training
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_missing_trunk_is_read_from_torchvisions_checkpoint(network, tmp_path):
    heads = {k: v for k, v in network.state_dict().items() if not k.startswith("model.")}
    torch.save(heads, tmp_path / "c.pt")
    resnet = torchvision.models.resnet34(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    loaded = ssd_r34.load_checkpoint(tmp_path / "c.pt", tmp_path / "resnet.pth")
    assert torch.equal(loaded.model[5][5].conv2.weight, resnet.layer3[5].conv2.weight)
    with pytest.raises(KitError, match="no trunk weights"):
        ssd_r34.load_checkpoint(tmp_path / "c.pt", tmp_path / "none.pth")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("/tmp/ssd-evil-was-here",)


def bad_checkpoints(network, folder):
    state = network.state_dict()
    wrong = state | {"model.0.weight": torch.zeros(1)}
    fewer = {k: v for k, v in state.items() if k != "mbox.3.bias"}
    for name, value in {
        "evil": {"model": Evil()},
        "wrong shape": wrong,
        "missing": fewer,
        "unknown": state | {"extra.weight": torch.zeros(1)},
        "list": [1, 2],
        "empty dict": {},
    }.items():
        torch.save(value, folder / f"{name}.pt")
    (folder / "text.pt").write_text("hello")
    (folder / "nothing.pt").write_bytes(b"")
    with zipfile.ZipFile(folder / "zip.pt", "w") as file:
        file.writestr("a", "b")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none", "no such checkpoint"),
        ("evil", "could run code"),
        ("wrong shape", "1 weights of a wrong shape (model.0.weight)"),
        ("missing", "1 weights missing (mbox.3.bias)"),
        ("unknown", "1 weights unknown (extra.weight)"),
        ("list", "no state dict"),
        ("empty dict", "no state dict"),
        ("text", "not a checkpoint"),
        ("nothing", "not a checkpoint"),
        ("zip", "not a checkpoint"),
    ],
)
def test_a_bad_checkpoint_is_told_in_one_line(name, told, network, tmp_path):
    bad_checkpoints(network, tmp_path)
    with pytest.raises(KitError) as caught:
        ssd_r34.load_checkpoint(tmp_path / f"{name}.pt")
    assert told in str(caught.value) and f"{name}.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not os.path.exists("/tmp/ssd-evil-was-here")


@pytest.mark.parametrize("options", [["--opset", "11"], ["--opset", "17"], ["--dynamic"]])
def test_the_export_is_what_atc_takes(options, checkpoint, network, image, tmp_path, run_stage):
    path = tmp_path / "a b.onnx"
    done = run_stage("ssd_pth2onnx.py", "--pth-path", checkpoint, "--onnx-path", path, *options)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert done.stdout.splitlines()[-1] == f"{path}: SHA-256 {digest}"
    model = onnx.load(path)
    opset = int(options[1]) if options[0] == "--opset" else 11
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    assert {node.op_type for node in model.graph.node} <= ATC_TAKES
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["ploc", "plabel"]
    engine = ssd_engines.open_engine(path)
    assert (engine.batch, engine.labels) == (None if "--dynamic" in options else 1, LABELS)
    for size in (1, 3) if engine.batch is None else (1,):
        batch = np.repeat(image.numpy(), size, axis=0)
        for found, expected in zip(engine.run(batch), run(network, image), strict=True):
            assert len(found) == size
            np.testing.assert_allclose(found[-1], expected[0], atol=1e-3)


def test_a_uint8_model_normalises_by_itself(checkpoint, tmp_path, run_stage):
    from ssd_preprocess import normalise

    path = tmp_path / "u.onnx"
    command = ["ssd_pth2onnx.py", "--pth-path", checkpoint, "--onnx-path", path]
    assert run_stage(*command, "--input", "uint8", "--bs", 2).returncode == 0
    rgb = np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
    engine = ssd_engines.open_engine(path)
    assert (engine.dtype, engine.batch) == ("uint8", 2)
    torch_engine = ssd_engines.open_engine(checkpoint)
    floats = np.stack([normalise(one) for one in rgb])
    for a, b in zip(engine.run(rgb), torch_engine.run(floats), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


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


def test_inference_writes_what_ais_bench_writes(checkpoint, network, tmp_path, run_stage):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(5, 3, 300, 300)).astype("f")
    (tmp_path / "in").mkdir()
    for image_id, one in zip((9, 10, 100, 139, 7), inputs, strict=True):
        one.tofile(tmp_path / "in" / f"tensor([{image_id}]).bin")
    files = {7: 4, 9: 0, 10: 1, 100: 2, 139: 3}
    base = ["ssd_infer.py", "--model", checkpoint, "--input", tmp_path / "in", "--output", tmp_path]
    done = run_stage(*base, "--output_dirname", "bs2", "--batchsize", 2, "--warmup_count", 0)
    assert done.returncode == 0, done.stderr
    assert run_stage(*base, "--output_dirname", "bs1", "--outfmt", "NPY").returncode == 0
    expected = [run(network, torch.from_numpy(one[None])) for one in inputs]
    for image_id, i in files.items():
        for k in range(2):
            made = np.fromfile(tmp_path / "bs2" / f"tensor([{image_id}])_{k}.bin", "f")
            other = np.load(tmp_path / "bs1" / f"tensor([{image_id}])_{k}.npy")
            np.testing.assert_allclose(made.reshape(other.shape), other, atol=1e-3)
            np.testing.assert_allclose(other, expected[i][k][0], atol=1e-3)
    assert len(list((tmp_path / "bs2").iterdir())) == 10
    summary = json.loads((tmp_path / "bs2_summary.json").read_text())
    assert {"filesinfo", "args", "NPU_compute_time", "H2D_latency", "D2H_latency"} <= set(summary)
    times = summary["NPU_compute_time"]
    assert set(times) == {"min", "max", "mean", "median", "percentile(99%)", "count"}
    assert times["count"] == len(summary["npu_compute_time_list"]) == 3
    assert summary["throughput"] == pytest.approx(2000 / times["mean"])
    assert (summary["padded"], summary["images"], summary["batch_size"]) == (1, 5, 2)
    first = summary["filesinfo"]["0"]
    assert [os.path.basename(f) for f in first["infiles"]] == ["tensor([7]).bin", "tensor([9]).bin"]
    assert len(first["outfiles"]) == 4
    assert summary["engine"].startswith("torch ") and summary["provider"] == "cpu"


def test_pure_inference_counts_its_runs(checkpoint, tmp_path, run_stage):
    done = run_stage("ssd_infer.py", "--model", checkpoint, "--loop", 3, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*_summary.json")
    assert json.loads(path.read_text())["NPU_compute_time"]["count"] == 3
    assert "throughput" in done.stdout


def test_bad_inference_input_is_told_in_one_line(checkpoint, tmp_path, run_stage):
    (tmp_path / "empty").mkdir()
    for name, size in (("cut", 5), ("bytes", 270_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tensor([1]).bin").write_bytes(bytes(size))
    for args, status, told in (
        (["--input", tmp_path / "none"], 1, "no such folder"),
        (["--input", tmp_path / "empty"], 1, "no .bin or .npy file"),
        (["--input", tmp_path / "cut"], 1, "5 bytes, expected float32"),
        (["--input", tmp_path / "bytes"], 1, "--dtype float32"),
        (["--loop", "0"], 2, "must be at least 1"),
        (["--detections", "x"], 2, "needs --input"),
        (["--device", "0,1"], 1, "several cards"),
    ):
        done = run_stage("ssd_infer.py", "--model", checkpoint, *args)
        assert done.returncode == status
        assert told in done.stderr and "Traceback" not in done.stderr
        assert status == 2 or done.stderr.count("\n") == 1


def test_the_in_process_route_gives_the_same_bits(network, tiny_coco, tmp_path, run_stage):
    torch.save(random_network(labels=5).state_dict(), tmp_path / "5.pt")
    binary = tmp_path / "bin"
    run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", binary)
    base = ["ssd_infer.py", "--model", tmp_path / "5.pt", "--input", binary, "--batchsize", 3]
    done = run_stage(*base, "--output", tmp_path, "--output_dirname", "o")
    assert done.returncode == 0, done.stderr
    done = run_stage(*base, "--data", tiny_coco, "--detections", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    run_stage(
        "ssd_postprocess.py", "--data", tiny_coco, "--bin-input", tmp_path / "o",
        "--detections", tmp_path / "b.json", "--output", tmp_path / "r.json",
    )  # fmt: skip
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    counts = collections.Counter(
        d["image_id"] for d in json.loads((tmp_path / "a.json").read_text())
    )
    assert set(counts) == {9, 139, 269, 529}
    torch.save(network.state_dict(), tmp_path / "3.pt")
    base[2] = tmp_path / "3.pt"
    done = run_stage(*base, "--data", tiny_coco, "--detections", tmp_path / "c.json")
    assert done.returncode == 1 and "tells 3 labels apart" in done.stderr
