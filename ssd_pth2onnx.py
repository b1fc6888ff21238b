#!/usr/bin/env python3
"""Export a checkpoint to ONNX, and check the file against PyTorch.

Reads a checkpoint (MLPerf v0.7 names, or those of the MLPerf reference); writes an ONNX file with
input `image`, float32 (N, 3, 300, 300), and raw outputs `ploc` (N, 4, 8732) and `plabel`
(N, labels, 8732). Batch norms are folded, and every node is one that ATC takes. A file that is
there and was exported from and with the same is kept.

Example:
  python3 ssd_pth2onnx.py --bs 1 --pth-path models/iter_183250.pt --onnx-path ssd_bs1.onnx
"""

import argparse
import glob
import re
import warnings
from pathlib import Path

from ssd import __version__  # a copied script needs ssd/ beside it
from ssd.boxes import SSD300
from ssd.cli import ArgumentParser, KitError, file_to_check, note, positive, run_main, working
from ssd.engines import checkpoint_of
from ssd.engines.onnxruntime import import_onnxruntime
from ssd.files import CHECKPOINT_KEY, atomic, sha256
from ssd.network import deploy, load_checkpoint
from ssd.onnx_graph import copy_shared_tensors, graph_digest, load_onnx, properties
from ssd.tensors import INPUT_NAME, INPUT_SHAPES, OUTPUT_NAMES

import numpy as np
import onnx
import torch
from torch import Tensor, nn

GRAPH_KEY = "graph_sha256"  # in the file's metadata
OPSETS = range(11, 18)  # the versions that ATC reads
MAX_DIFFERENCE = 1e-3  # largest allowed between ONNX Runtime's outputs and PyTorch's


class Uint8Input(nn.Module):
    """The network with its normalization in front: takes (N, 300, 300, 3) uint8 RGB."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (SSD300.mean, SSD300.std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scaled = image.permute(0, 3, 1, 2).float() / 255
        return self.network((scaled - self.mean) / self.std)


def random_input(batch: int, dtype: str) -> Tensor:
    """Return a batch as ssd_preprocess.py writes it in `dtype`, random with a fixed seed."""
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


def record(args: argparse.Namespace) -> dict[str, str]:
    """Return what the export is made from and with, as it is noted in the file."""
    found = {CHECKPOINT_KEY: sha256(args.pth_path), "kit": __version__, "torch": torch.__version__}
    trunk = args.resnet34_model
    found["trunk_sha256"] = sha256(trunk) if trunk and trunk.is_file() else ""
    batch = "N" if args.dynamic else str(args.bs)
    return found | {"input": args.input, "batch": batch, "opset": str(args.opset)}


def is_made(path: Path, made_from: dict[str, str]) -> bool:
    """Return whether the ONNX file is there, made from and with the same, and not changed since."""
    if not path.is_file():
        return False
    try:
        model = load_onnx(path)
    except KitError:  # something else
        return False
    noted = properties(model)
    return noted == made_from | {GRAPH_KEY: graph_digest(model)}


def note_others(path: Path) -> None:
    """Note the INT8 and uint8 models beside an ONNX file that are of another checkpoint."""
    checkpoint = checkpoint_of(path)
    for other in sorted(path.parent.glob(f"{glob.escape(path.stem)}_*")):
        end = other.name.removeprefix(path.stem)
        if re.fullmatch(r"(_u?int8)+\.(onnx|om)", end) and not is_of(other, checkpoint):
            note(f"note: {other}: of another checkpoint than {path.name}; make it again")


def is_of(model: Path, checkpoint: str | None) -> bool:
    """Return whether a model may be of a checkpoint: it is not known to be of another."""
    try:
        return checkpoint_of(model) in (None, checkpoint)
    except KitError:  # the note beside a .om is that of another file
        return False


def finish_and_check(path: Path, opset: int, made_from: dict[str, str]) -> None:
    """Store shared tensors apart, note in the file what it is made from, and check it.

    Raises KitError unless it is of the opset asked for.
    """
    model = onnx.load(path)
    copy_shared_tensors(model.graph)
    noted = made_from | {GRAPH_KEY: graph_digest(model)}
    onnx.helper.set_model_props(model, noted)
    onnx.save(model, path)
    onnx.checker.check_model(model, full_check=True)
    found = [entry.version for entry in model.opset_import]
    if found != [opset]:
        raise KitError(f"opset {found} in the file, {opset} asked for; use another torch or opset")


def difference(network: nn.Module, path: Path, image: Tensor) -> float:
    """Return the largest difference between ONNX Runtime's outputs and PyTorch's."""
    session = import_onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    actual = session.run(list(OUTPUT_NAMES), {INPUT_NAME: image.numpy()})
    with torch.no_grad():
        expected = [output.numpy() for output in network(image)]
    pairs = zip(actual, expected, strict=True)
    return float(np.max([np.abs(a - e).max() for a, e in pairs]))  # NaN if any is, unlike max()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--bs", metavar="N", type=positive, default=1, help="batch size (default: 1)"
    )
    parser.add_argument("--pth-path", metavar="FILE", type=Path, required=True, help="checkpoint")
    parser.add_argument(
        "--onnx-path", metavar="FILE", type=file_to_check, required=True, help="to write"
    )
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
        help="uint8: the model normalizes by itself, and takes what ssd_preprocess.py --dtype "
        "uint8 writes (for ATC export float32 and use AIPP)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    made_from = record(args) if args.pth_path.is_file() else {}  # else reading it says why
    if made_from and is_made(args.onnx_path, made_from):
        note_others(args.onnx_path)
        print(f"{args.onnx_path}: kept, exported from the same checkpoint with the same options")
        return
    reference = load_checkpoint(args.pth_path, args.resnet34_model)
    parameters = sum(parameter.numel() for parameter in reference.parameters())
    network = deploy(reference)
    if args.input == "uint8":
        reference, network = Uint8Input(reference).eval(), Uint8Input(network).eval()
    image = random_input(args.bs, args.input)
    with atomic(args.onnx_path) as temporary, working("export"):
        export(network, temporary, image, args.opset, args.dynamic)
        finish_and_check(temporary, args.opset, made_from)
        error = difference(reference, temporary, image)
        if not error <= MAX_DIFFERENCE:
            raise KitError(
                f"{args.onnx_path}: differs from {args.pth_path} by {error:.2e}; not written; "
                "check the checkpoint for NaN or huge weights"
            )
    note_others(args.onnx_path)
    print(f"largest difference from PyTorch: {error:.2e} (allowed {MAX_DIFFERENCE})")
    batch = "N" if args.dynamic else args.bs
    shape = ", ".join(map(str, INPUT_SHAPES[args.input]))
    print(f"input {INPUT_NAME}: {args.input} ({batch}, {shape}); opset {args.opset}")
    print(f"{parameters:,} parameters, {network_labels(reference)} labels")
    print(f"{args.onnx_path}: SHA-256 {sha256(args.onnx_path)}")


def network_labels(network: nn.Module) -> int:
    """Return how many labels the network has, the background among them."""
    return getattr(network, "network", network).labels


if __name__ == "__main__":
    run_main(main)
