"""Cards without atc: one line without a card, and the CPU's outputs never pass for a card's."""

import sys
import types

from ssd.cli import KitError
from ssd.engines import open_engine
from ssd.engines.npu import card_of, check_npu

import numpy as np
import pytest

CARDS = {"0": 0, "12": 12, "npu": 0, "npu:0": 0, "npu:3": 3}
NO_CARDS = ("", "cpu", "cuda:0", "npu:", "npu:x", "npu0", "0,1", "-1", "0\n")
CANN = "CANNExecutionProvider"


def half(array):
    return array.astype(np.float16).astype(np.float32)


OUTCOMES = {  # what the card makes of the CPU's outputs, and what is said of it
    "a card's": (half, None),
    "the CPU's": (
        lambda array: array,
        "ran the model on the CPU, not on the card; see that CANN's",
    ),
    "confused": (lambda array: array[..., ::-1], "differ from the CPU's by .* %; take the .om"),
    "no numbers": (lambda array: array * np.nan, "differ from the CPU's by nan %"),
}


def test_a_card_has_several_names():
    assert {device: card_of(device) for device in CARDS} == CARDS
    assert [card_of(device) for device in NO_CARDS] == [None] * len(NO_CARDS)


@pytest.mark.parametrize("device", NO_CARDS)
def test_an_om_is_opened_on_cards_alone(device, tmp_path):
    (tmp_path / "m.om").write_text("")
    with pytest.raises(
        KitError, match=f"--device {device}: not a card, which .*m.om needs; give its"
    ):
        open_engine(tmp_path / "m.om", device)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_first_batch_is_held_against_the_cpus(outcome):
    change, told = OUTCOMES[outcome]
    cpu = [np.random.default_rng(k).normal(size=(2, 4, 9)).astype(np.float32) for k in (0, 1)]
    if told is None:
        check_npu("npu:0", "e", [change(output) for output in cpu], cpu)
        check_npu("npu:0", "e", [cpu[0], change(cpu[1])], cpu)  # one output may be a constant
        return
    with pytest.raises(KitError, match=told) as caught:
        check_npu("npu:0", "e", [change(output) for output in cpu], cpu)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_onnx_runtime_on_a_card_is_checked_as_it_is_opened(outcome, light_onnx, monkeypatch):
    import onnxruntime

    change, told = OUTCOMES[outcome]
    asked = []

    class Session(onnxruntime.InferenceSession):
        """A session whose card is the CPU, with other numbers."""

        def __init__(self, path, options, providers):
            asked.append(providers)
            self.is_cann = providers[0][0] == CANN
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return [CANN] * self.is_cann + super().get_providers()

        def run(self, *args):
            outputs = super().run(*args)
            return [change(output) for output in outputs] if self.is_cann else outputs

    listed = [CANN, "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    if told:
        with pytest.raises(KitError, match=f"--device npu:3: onnxruntime .* {told}"):
            open_engine(light_onnx, "npu:3")
    else:
        assert open_engine(light_onnx, "npu:3").provider == CANN
    assert asked[0] == [(CANN, {"device_id": 3}), ("CPUExecutionProvider", {})]


def test_without_a_card_each_engine_says_so_in_one_line(light_onnx, checkpoint, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(KitError, match="npu:0: onnxruntime .* here; install onnxruntime-cann in"):
        open_engine(light_onnx, "npu:0")
    for module in (None, types.ModuleType("torch_npu")):  # not installed; no card
        monkeypatch.setitem(sys.modules, "torch_npu", module)
        import torch

        monkeypatch.setattr(
            torch, "npu", types.SimpleNamespace(device_count=lambda: 0), raising=False
        )
        with pytest.raises(
            KitError, match="npu:0: PyTorch has no such device here; install torch_"
        ):
            open_engine(checkpoint, "npu:0")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_pytorch_on_a_card_is_checked_as_it_is_opened(dtype, checkpoint, monkeypatch):
    from ssd.engines.pytorch import TorchEngine

    import torch

    place = TorchEngine.place

    def on_cpu(self, network, device):  # with the card's type, or as if nothing had moved
        place(self, network, "cpu")
        if device == "npu:1" and dtype == "float16":
            self.type, self.network = torch.float16, network.half()

    monkeypatch.setitem(sys.modules, "torch_npu", types.ModuleType("torch_npu"))
    monkeypatch.setattr(torch, "npu", types.SimpleNamespace(device_count=lambda: 2), raising=False)
    monkeypatch.setattr(TorchEngine, "place", on_cpu)
    if dtype == "float16":
        assert open_engine(checkpoint, "npu:1").provider == "npu:1"
    else:
        with pytest.raises(KitError, match="--device npu:1: torch .* ran the model on the CPU"):
            open_engine(checkpoint, "npu:1")
