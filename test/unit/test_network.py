"""The network and its checkpoints."""

import sys

from ssd.cli import KitError

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ssd.boxes import SSD300  # noqa: E402
from ssd.network import SSDR34, deploy, trunk  # noqa: E402

LABELS = 3  # enough for everything but the contract's own numbers


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
    full = SSDR34()
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
    network = SSDR34(LABELS).eval()
    for k, head in enumerate(network.mbox):
        torch.nn.init.zeros_(head.weight)
        bias = np.arange(len(head.bias), dtype=np.float32) + 1000 * k
        head.bias.data = torch.from_numpy(bias)
    ploc, plabel = run(network, image)
    start = 0
    for k, (boxes, size) in enumerate(
        zip(SSD300.boxes_per_cell, SSD300.feature_sizes, strict=True)
    ):
        for b in range(boxes):
            part = slice(start + b * size**2, start + (b + 1) * size**2)
            for c in range(LABELS):
                assert set(plabel[0, c, part]) == {1000 * k + c * boxes + b}
            for c in range(4):
                assert set(ploc[0, c, part]) == {1000 * k + (LABELS + c) * boxes + b}
        start += boxes * size**2


def test_folding_and_splitting_change_nothing(network, image):
    for deployed, plain in zip(run(deploy(network), image), run(network, image), strict=True):
        np.testing.assert_allclose(deployed, plain, atol=2e-4 * np.abs(plain).max())


def test_a_missing_torchvision_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if it were not installed
    with pytest.raises(KitError, match=r"network needs torchvision \(.*; install requirements.txt"):
        trunk()
