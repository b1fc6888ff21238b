"""A checkpoint without training: a random trunk, and heads fitted to a few images in closed form.

It detects what it was fitted to, so its mAP shows whether everything after it works; it knows
nothing of other images.
"""

from pathlib import Path
from typing import Any

from ssd import coco
from ssd.boxes import (
    SSD300,
    cxcywh_to_ltrb,
    default_boxes,
    encode_boxes,
    iou,
    ltrb_to_cxcywh,
    xywh_to_ltrb,
)
from ssd.cli import progress
from ssd.images import normalize, resize
from ssd.network import SSDR34

import numpy as np
import torch
from torch import Tensor, nn

BATCH = 8  # images that go through the network at a time
MATCH_IOU = 0.5
LOGIT = 10.0  # fitted logit of the true label; that of the others is 0
MATCHED_WEIGHT = 20.0  # weight of a cell with a matched box, as the others are many
RIDGE = 1e-3  # ridge term, as a share of the Gram matrix's mean diagonal


def match(ltrb: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match default boxes to true ones: by IoU, and each true box to its nearest default box.

    ltrb: (K, 4) fractions, labels: (K,). Returns the label of each default box, (8732,) with 0 for
    background, and the offsets to its true box, (8732, 4), which mean something where matched.
    """
    defaults = default_boxes()
    if len(ltrb) == 0:
        return np.zeros(len(defaults), np.int64), np.zeros((len(defaults), 4), np.float32)
    overlap = iou(cxcywh_to_ltrb(defaults)[:, None], ltrb)  # (8732, K)
    best = overlap.argmax(axis=1)
    matched = overlap.max(axis=1) >= MATCH_IOU
    nearest = overlap.argmax(axis=0)
    best[nearest], matched[nearest] = np.arange(len(ltrb)), True
    offsets = encode_boxes(ltrb_to_cxcywh(ltrb)[best], defaults)
    return np.where(matched, labels[best], 0), offsets.astype(np.float32)


def targets(instances: dict[str, Any], image: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return `match` for one image of an instances file, crowds left out."""
    ids = coco.category_ids(instances).tolist()
    annotations = [a for a in instances["annotations"] if a["image_id"] == image["id"]]
    annotations = [a for a in annotations if not a.get("iscrowd") and min(a["bbox"][2:]) > 0]
    xywh = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
    size = np.array([image["width"], image["height"]] * 2, np.float32)
    labels = np.array([ids.index(a["category_id"]) + 1 for a in annotations], np.int64)
    return match(xywh_to_ltrb(xywh) / size, labels)


def random_network(labels: int, inputs: Tensor, seed: int) -> SSDR34:
    """Return a network with random trunk and blocks, its batch norms set by the inputs."""
    torch.manual_seed(seed)
    network = SSDR34(labels)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # average over all batches
    network.train()
    for batch in inputs.split(BATCH):
        network.model(batch)
    return network.eval()


def neighborhoods(feature: Tensor) -> Tensor:
    """Return each cell's 3x3 neighborhood and a constant 1: (C, H, W) to (H * W, 9 * C + 1)."""
    rows = nn.functional.unfold(feature[None], kernel_size=3, padding=1)[0].T
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def fit_labels(features: Tensor, labels: Tensor, count: int) -> Tensor:
    """Solve the weighted ridge regression from cells to logits: (9 * C + 1, count * boxes).

    features: (M, C, H, W). labels: (M, boxes, H * W) int64, 0 where nothing is matched.
    """
    gram = cross = 0
    for feature, label in zip(features, labels, strict=True):
        rows = neighborhoods(feature)
        logits = LOGIT * nn.functional.one_hot(label, count).permute(1, 2, 0).flatten(1)
        weighted = rows.T * (1 + (MATCHED_WEIGHT - 1) * (label > 0).any(dim=0))
        gram += weighted @ rows
        cross += weighted @ logits
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    factor = torch.linalg.cholesky((gram + ridge).double())
    return torch.cholesky_solve(cross.double(), factor).float()


def fit_offsets(features: Tensor, labels: Tensor, offsets: Tensor) -> Tensor:
    """Solve the ridge regression from matched cells to offsets: (9 * C + 1, 4 * boxes).

    Solved in its dual form, as the matched cells are fewer than the weights.
    features: (M, C, H, W). labels: (M, boxes, H * W). offsets: (M, boxes, H * W, 4).
    """
    boxes = labels.shape[1]
    width = 9 * features.shape[1] + 1
    weights = torch.zeros(width, 4, boxes)
    for box in range(boxes):
        rows = [
            neighborhoods(f)[label > 0] for f, label in zip(features, labels[:, box], strict=True)
        ]
        rows = torch.cat(rows).double()
        if len(rows):
            gram = rows @ rows.T
            gram += RIDGE * gram.trace() / width * torch.eye(len(rows))
            wanted = offsets[:, box][labels[:, box] > 0].double()
            weights[:, :, box] = (rows.T @ torch.linalg.solve(gram, wanted)).float()
    return weights.flatten(1)


@torch.no_grad()
def fit(instances: dict[str, Any], image_folder: Path, seed: int) -> SSDR34:
    """Return a network whose heads are fitted to all images of an instances file."""
    images = instances["images"]
    paths = [coco.image_path(image_folder, image["file_name"]) for image in images]
    inputs = torch.stack([torch.from_numpy(normalize(resize(path))) for path in paths])
    labels, offsets = zip(*(targets(instances, image) for image in images), strict=True)
    all_labels, all_offsets = (
        torch.from_numpy(np.stack(labels)),
        torch.from_numpy(np.stack(offsets)),
    )
    network = random_network(len(instances["categories"]) + 1, inputs, seed)
    maps = list(zip(*(network.features(batch) for batch in inputs.split(BATCH)), strict=True))
    start = 0
    for k, head in enumerate(progress(network.mbox, "fit", unit="map")):
        features = torch.cat(maps[k])
        part = slice(start, start + SSD300.boxes_per_map[k])
        start = part.stop
        shape = (len(images), -1, SSD300.feature_sizes[k] ** 2)
        label = all_labels[:, part].reshape(shape)
        offset = all_offsets[:, part].reshape(*shape, 4)
        logits = fit_labels(features, label, network.labels)
        weights = torch.cat([logits, fit_offsets(features, label, offset)], dim=1)
        head.weight.copy_(weights[:-1].T.reshape(head.weight.shape))
        head.bias.copy_(weights[-1])
    return network
