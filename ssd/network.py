"""SSD300-ResNet34 as MLPerf trained it: the network and its checkpoints (torch).

`state_dict` keys are those of the MLPerf v0.7 checkpoints (`iter_183250.pt`).
"""

import copy
from pathlib import Path

from ssd.boxes import SSD300
from ssd.checkpoint import read_state_dict
from ssd.cli import SOURCES, KitError, first_few

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NUM_LABELS = SSD300.labels
TRUNK_CHANNELS = 256
EXTRA_CHANNELS = ((256, 512), (256, 512), (128, 256), (128, 256), (128, 256))  # middle, out
EXTRA_STRIDES = (2, 2, 2, 1, 1)
EXTRA_PADDING = (1, 1, 1, 0, 0)
TRUNK_PREFIXES = {  # key prefixes of torchvision's ResNet-34: those of the checkpoint
    "conv1.": "model.0.",
    "bn1.": "model.1.",
    "layer1.": "model.3.",
    "layer2.": "model.4.",
    "layer3.": "model.5.",
}
REFERENCE_PREFIXES = {  # key prefixes of the MLPerf reference's checkpoints: ours
    "model.layer1.0.": "model.0.",
    "model.layer1.1.": "model.1.",
    "model.layer1.4.": "model.3.",
    "model.layer1.5.": "model.4.",
    "model.layer2.0.": "model.5.",
}


def trunk() -> nn.Sequential:
    """Return ResNet-34 up to layer3, whose stride is taken out: (N, 3, 300, 300) to 256x38x38.

    Raises KitError without torchvision.
    """
    try:
        import torchvision  # here: it takes as long as torch, and a stage may end before
    except ImportError as error:
        raise KitError(
            f"the network needs torchvision ({error}); install requirements.txt"
        ) from None
    resnet = torchvision.models.resnet34(weights=None)
    resnet.layer3[0].conv1.stride = (1, 1)
    resnet.layer3[0].downsample[0].stride = (1, 1)
    stem = (resnet.conv1, resnet.bn1, nn.Sequential(resnet.relu, resnet.maxpool))
    return nn.Sequential(*stem, resnet.layer1, resnet.layer2, resnet.layer3)


def extra_block(channels: int, middle: int, out: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, middle, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(middle, out, kernel_size=3, stride=stride, padding=padding),
        nn.ReLU(),
    )


class Head(nn.Conv2d):
    """The head of one map: a convolution that gives confidences, then locations."""

    def __init__(self, channels: int, boxes: int, labels: int) -> None:
        self.sizes = (boxes * labels, boxes * 4)
        super().__init__(channels, sum(self.sizes), kernel_size=3, padding=1)

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        return super().forward(feature).split(self.sizes, dim=1)


class SSDR34(nn.Module):
    """The detector, without decoding. `labels` counts the background."""

    def __init__(self, labels: int = NUM_LABELS) -> None:
        super().__init__()
        self.labels = labels
        self.model = trunk()
        outs = [TRUNK_CHANNELS, *(out for _, out in EXTRA_CHANNELS)]
        self.additional_blocks = nn.ModuleList(
            extra_block(channels, *middle_out, stride, padding)
            for channels, middle_out, stride, padding in zip(
                outs, EXTRA_CHANNELS, EXTRA_STRIDES, EXTRA_PADDING, strict=False
            )
        )
        self.mbox = nn.ModuleList(
            Head(channels, boxes, labels)
            for channels, boxes in zip(outs, SSD300.boxes_per_cell, strict=True)
        )

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the six maps that the heads read, for image (N, 3, 300, 300) float32."""
        maps = [self.model(image)]
        for block in self.additional_blocks:
            maps.append(block(maps[-1]))
        return maps

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return ploc (N, 4, 8732) and plabel (N, labels, 8732) for image (N, 3, 300, 300)."""
        ploc, plabel = [], []
        heads = zip(self.mbox, self.features(image), SSD300.boxes_per_map, strict=True)
        for head, feature, boxes in heads:
            conf, loc = head(feature)
            plabel.append(conf.reshape(-1, self.labels, boxes))
            ploc.append(loc.reshape(-1, 4, boxes))
        return torch.cat(ploc, dim=2), torch.cat(plabel, dim=2)


class SplitHead(nn.Module):
    """A `Head` as two convolutions with the same weights, which leaves no split in the graph."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        weights, biases = head.weight.split(head.sizes), head.bias.split(head.sizes)
        for weight, bias in zip(weights, biases, strict=True):
            conv = nn.Conv2d(head.in_channels, len(bias), kernel_size=3, padding=1)
            conv.weight, conv.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
            self.convs.append(conv)

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        return tuple(conv(feature) for conv in self.convs)


def deploy(network: SSDR34) -> SSDR34:
    """Return a copy for inference: batch norms folded into convolutions, heads split in two.

    Folded in float64, so that the weights are those nearest to the true ones. Then the exported
    graph has nothing but Conv, Relu, Add, MaxPool, Reshape and Concat.
    """
    network = copy.deepcopy(network).eval().double()
    _fold(network.model, "0", "1")
    for layer in network.model[3:]:
        for block in layer:
            _fold(block, "conv1", "bn1")
            _fold(block, "conv2", "bn2")
            if block.downsample is not None:
                _fold(block.downsample, "0", "1")
    network.mbox = nn.ModuleList(SplitHead(head) for head in network.mbox)
    return network.float().requires_grad_(False)


def _fold(parent: nn.Module, conv: str, norm: str) -> None:
    """Fold the batch norm that follows a convolution into it, and put nothing in its place."""
    setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
    setattr(parent, norm, nn.Identity())


def _rename(state: dict[str, Tensor], prefixes: dict[str, str]) -> dict[str, Tensor]:
    """Replace the prefixes of keys; keys with none of them stay."""
    renamed = {}
    for key, value in state.items():
        old = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        renamed[prefixes.get(old, "") + key[len(old) :]] = value
    return renamed


def from_reference(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the MLPerf reference's keys, and join its two heads, confidences first."""
    state = _rename(state, REFERENCE_PREFIXES)
    for key in [key for key in state if key.startswith("conf.")]:
        loc = state.pop(key.replace("conf.", "loc."), None)
        conf = state.pop(key)
        if loc is not None and conf.dim() == loc.dim() > 0 and conf.shape[1:] == loc.shape[1:]:
            state[key.replace("conf.", "mbox.")] = torch.cat([conf, loc])
    return state


def load_checkpoint(path: Path, resnet34: Path | None = None) -> SSDR34:
    """Return the network with a checkpoint's weights, in evaluation mode.

    The number of labels is read off the heads. `resnet34`, a torchvision ResNet-34 checkpoint, is
    read only if the trunk's weights are missing. Raises KitError if keys are missing or unknown,
    or shapes or types are wrong.
    """
    state = read_state_dict(path)
    if any(key.startswith(("conf.", "model.layer")) for key in state):
        state = from_reference(state)
    if not any(key.startswith("model.") for key in state):
        state |= _read_trunk(path, resnet34)
    bias = state.get("mbox.0.bias", torch.empty(0))
    labels = bias.numel() // SSD300.boxes_per_cell[0] - 4
    labels = labels if labels >= 2 else NUM_LABELS
    with torch.device("meta"):  # no memory, no random weights: the heads may be of any size
        network = SSDR34(labels)
    expected = network.state_dict()
    # torch before 1.0 did not count a batch norm's batches, which nothing here reads
    state = {k: torch.tensor(0) for k in expected if k.endswith("num_batches_tracked")} | state
    missing, unknown = sorted(expected.keys() - state), sorted(state.keys() - expected)
    wrong = [k for k, v in expected.items() if k in state and state[k].shape != v.shape]
    types = [k for k in expected if k in state and not _fits(state[k], expected[k])]
    problems = {"missing": missing, "unknown": unknown, "of a wrong shape": wrong}
    for what, keys in (problems | {"of a wrong type": types}).items():
        if keys:
            raise KitError(
                f"{path}: not SSD300-ResNet34: {len(keys)} weights {what} ({first_few(keys, 3)}); "
                "give another checkpoint"
            )
    network.to_empty(device="cpu").load_state_dict(state)
    return network.eval()


def _fits(value: Tensor, expected: Tensor) -> bool:
    """Return whether a weight is of real floating-point numbers, if it is to be."""
    return value.is_floating_point() or not expected.is_floating_point()


def _read_trunk(path: Path, resnet34: Path | None) -> dict[str, Tensor]:
    """Read the trunk from a torchvision ResNet-34 checkpoint."""
    if resnet34 is None or not resnet34.is_file():
        raise KitError(
            f"{path}: holds no trunk weights (model.*); give a ResNet-34 checkpoint "
            f"(--resnet34-model; {resnet34 or 'none'} is not there; it is at {SOURCES['trunk']})"
        )
    state = _rename(read_state_dict(resnet34), TRUNK_PREFIXES)
    return {key: value for key, value in state.items() if key.startswith("model.")}
