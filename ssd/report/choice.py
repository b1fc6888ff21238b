"""Which images a page shows: the best, the worst, some at random, and some of every kind."""

from typing import Any

from ssd import coco
from ssd.report import metrics
from ssd.report.matching import ERRORS, KINDS, Analysis

import numpy as np

SHOWN = {"best": 10, "worst": 10, "random": 14}  # images in each group of the gallery
MOST_SHOWN = 160  # images in the gallery; the rest are chosen so that every topic is seen
OF_EACH_ERROR = 12  # images that show a kind of error, at least
SEED = 0  # seed of the random group


def topics(analysis: Analysis) -> dict[int, set]:
    """Map each image's index to what it can show: its labels, and confusions of two labels.

    A label is a topic if it is in the image or was found there, a confusion (true, given).
    """
    truth, found, given = analysis.truth, analysis.found, analysis.given
    strong = found.score >= analysis.detail["score"]
    seen: dict[int, set] = {}
    for image, label in zip(
        np.concatenate([truth.image, found.image[strong]]).tolist(),
        np.concatenate([truth.label, found.label[strong]]).tolist(),
        strict=True,
    ):
        seen.setdefault(image, set()).add(label)
    frequent = {tuple(row["labels"]) for row in analysis.detail["confusions"]}
    paired = np.flatnonzero(given >= 0)
    pairs = zip(truth.label[given[paired]].tolist(), found.label[paired].tolist(), strict=True)
    for image, pair in zip(found.image[paired].tolist(), pairs, strict=True):
        if pair in frequent:
            seen[image].add(pair)
    return seen


def error_images(analysis: Analysis, counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return for each kind of error the images with the most of it, that with the most first."""
    found, outcome = analysis.found, analysis.outcome
    strong = found.score >= analysis.detail["score"]
    tables = {"missed": counts["missed"]}
    for name in ERRORS:
        chosen = found.image[strong & (outcome.kind == KINDS.index(name))]
        tables[name] = np.bincount(chosen, minlength=len(analysis.image_ids))
    return {
        name: np.argsort(-table, kind="stable")[: min(OF_EACH_ERROR, np.count_nonzero(table))]
        for name, table in tables.items()
    }


def gallery(data: coco.DataSet, analysis: Analysis) -> list[dict[str, Any]]:
    """Return the images to show, in the order of their groups; an image may be in several."""
    score, names = analysis.detail["score"], analysis.names
    parts = (analysis.truth, analysis.found, analysis.outcome, len(analysis.image_ids), score)
    counts, about = metrics.image_counts(*parts), topics(analysis)
    entry_of = {image["id"]: image for image in data.selected}
    shown = []
    for i, groups in choose(counts, about, error_images(analysis, counts)).items():
        image = entry_of[int(analysis.image_ids[i])]
        labels = sorted(topic for topic in about.get(i, ()) if isinstance(topic, int))
        shown.append(
            {"image_id": image["id"], "file_name": image["file_name"], "groups": groups}
            | metrics.counts_of(counts, i)
            | {"classes": [names[k] for k in labels]}
        )
    return shown


def choose(
    counts: dict[str, np.ndarray], about: dict[int, set], errors: dict[str, np.ndarray]
) -> dict[int, list[str]]:
    """Map the index of each chosen image to its groups: best, worst, random, more.

    Best by F1, then by boxes found; worst by F1, then by errors; images without any box are in
    neither. `more` are those of `errors`, then those that show the most topics of `about` that no
    other chosen image shows.
    """
    hits, wrong = 2 * counts["found"], counts["missed"] + counts["false"]
    f1 = hits / np.maximum(hits + wrong, 1)
    judged = np.flatnonzero(hits + wrong)
    ranks = {
        "best": judged[np.lexsort((-hits[judged], -f1[judged]))],
        "worst": judged[np.lexsort((-wrong[judged], f1[judged]))],
        "random": np.random.default_rng(SEED).permutation(len(f1)),
    }
    chosen: dict[int, list[str]] = {}
    for group, order in ranks.items():
        for i in order[: SHOWN[group]].tolist():
            chosen.setdefault(i, []).append(group)
    for images in errors.values():
        for i in images.tolist():
            chosen.setdefault(i, ["more"])
    unseen = set().union(*about.values()) - set().union(*(about.get(i, set()) for i in chosen))
    while unseen and len(chosen) < MOST_SHOWN:
        i = min(about, key=lambda i: (-len(about[i] & unseen), i))
        chosen[i] = ["more"]
        unseen -= about[i]
    return chosen
