#!/usr/bin/env python3
"""Export a checkpoint to ONNX, and check the file against PyTorch.

Reads a checkpoint (MLPerf v0.7 names, or the MLPerf reference's own); writes an ONNX file with
input `image`, float32 (N, 3, 300, 300), and raw outputs `ploc` (N, 4, 8732) and `plabel`
(N, labels, 8732). Batch norms are folded, and every node is one that ATC takes.

Example:
  python3 ssd_pth2onnx.py --bs 1 --pth-path models/iter_183250.pt --onnx-path ssd_bs1.onnx
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import ssd_r34
from ssd_boxes import MEAN, STD
from ssd_files import (
    CHECKPOINT_KEY,
    INPUT_SHAPES,
    OUTPUT_NAMES,
    KitError,
    atomic,
    run_main,
    sha256,
)

INPUT_NAME = "image"
OPSETS = range(11, 18)  # what ATC reads
MAX_DIFFERENCE = 1e-3  # between ONNX Runtime's outputs and PyTorch's


class Uint8Input(nn.Module):
    """The network with its normalisation in front: takes (N, 300, 300, 3) uint8 RGB."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (MEAN, STD))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scaled = image.permute(0, 3, 1, 2).float() / 255
        return self.network((scaled - self.mean) / self.std)


def random_input(batch: int, dtype: str) -> Tensor:
    """Return a batch of what ssd_preprocess.py writes as `dtype`, drawn with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, *INPUT_SHAPES[dtype])
    if dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, generator=generator)


def export(network: nn.Module, path: Path, image: Tensor, opset: int, dynamic: bool) -> None:
    """Write the ONNX file. The TorchScript exporter keeps the opset asked for; dynamo does not."""
    names = (INPUT_NAME, *OUTPUT_NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of that exporter, in favour of dynamo
        warnings.simplefilter("ignore", UserWarning)
        torch.onnx.export(
            network,
            (image,),
            str(path),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            opset_version=opset,
            dynamic_axes={name: {0: "batch"} for name in names} if dynamic else None,
            dynamo=False,
        )


def note_and_check(path: Path, opset: int, checkpoint: Path) -> None:
    """Note the checkpoint in the file; raise KitError unless it is ONNX of the opset asked for."""
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {CHECKPOINT_KEY: sha256(checkpoint)})
    onnx.save(model, path)
    onnx.checker.check_model(model, full_check=True)
    found = [entry.version for entry in model.opset_import]
    if found != [opset]:
        raise KitError(f"opset {found} in the file, {opset} asked for; use another torch or opset")


def difference(network: nn.Module, path: Path, image: Tensor) -> float:
    """Return the largest difference between ONNX Runtime's outputs and PyTorch's."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    actual = session.run(list(OUTPUT_NAMES), {INPUT_NAME: image.numpy()})
    with torch.no_grad():
        expected = [output.numpy() for output in network(image)]
    pairs = zip(actual, expected, strict=True)
    return float(np.max([np.abs(a - e).max() for a, e in pairs]))  # NaN if any is, unlike max()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bs", metavar="N", type=int, default=1, help="batch size (default: 1)")
    parser.add_argument("--pth-path", metavar="FILE", type=Path, required=True, help="checkpoint")
    parser.add_argument("--onnx-path", metavar="FILE", type=Path, required=True, help="to write")
    parser.add_argument(
        "--resnet34-model",
        metavar="FILE",
        type=Path,
        help="torchvision's ResNet-34 weights; read only if the checkpoint has no trunk",
    )
    parser.add_argument(
        "--opset", type=int, choices=OPSETS, default=OPSETS[0], help="default: 11; ATC takes 11-17"
    )
    parser.add_argument("--dynamic", action="store_true", help="leave the batch size open")
    parser.add_argument(
        "--input",
        choices=INPUT_SHAPES,
        default="float32",
        help="uint8: the model normalises by itself, and takes what ssd_preprocess.py --dtype "
        "uint8 writes (for ATC export float32 and use AIPP)",
    )
    args = parser.parse_args(argv)
    if args.bs < 1:
        parser.error("argument --bs: must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    reference = ssd_r34.load_checkpoint(args.pth_path, args.resnet34_model)
    parameters = sum(parameter.numel() for parameter in reference.parameters())
    network = ssd_r34.deploy(reference)
    if args.input == "uint8":
        reference, network = Uint8Input(reference).eval(), Uint8Input(network).eval()
    image = random_input(args.bs, args.input)
    with atomic(args.onnx_path) as temporary:
        export(network, temporary, image, args.opset, args.dynamic)
        note_and_check(temporary, args.opset, args.pth_path)
        error = difference(reference, temporary, image)
        print(f"largest difference from PyTorch: {error:.2e} (allowed {MAX_DIFFERENCE})")
        if not error <= MAX_DIFFERENCE:
            raise KitError(
                f"{args.onnx_path}: differs from {args.pth_path} by {error:.2e}; not written; "
                "check the checkpoint for NaN or huge weights"
            )
    batch = "N" if args.dynamic else args.bs
    shape = ", ".join(map(str, INPUT_SHAPES[args.input]))
    print(f"input {INPUT_NAME}: {args.input} ({batch}, {shape}); opset {args.opset}")
    print(f"{parameters:,} parameters, {network_labels(reference)} labels")
    print(f"{args.onnx_path}: SHA-256 {sha256(args.onnx_path)}")


def network_labels(network: nn.Module) -> int:
    """Return how many labels the network tells apart, the background among them."""
    return getattr(network, "network", network).labels


if __name__ == "__main__":
    run_main(main)
