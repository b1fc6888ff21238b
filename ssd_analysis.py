"""One run's detections looked at closely: curves, confusions, each class, pictures worth seeing."""

from typing import Any, NamedTuple

import numpy as np

import ssd_coco
import ssd_curves
import ssd_score
from ssd_curves import Boxes, Outcome

SHOWN = {"best": 10, "worst": 10, "random": 14}  # pictures of each group of the gallery
MOST_SHOWN = 60  # pictures in all: the rest are chosen so that every class is seen
SEED = 0  # of the random ones
CONFUSIONS = 20  # most frequent ones that are listed


class Analysis(NamedTuple):
    """detail: what report.json holds of it. The rest is what drawing the gallery needs.

    image_ids: sorted, (images,) int64; `truth` and `found` name pictures by their place in it.
    """

    detail: dict[str, Any]
    image_ids: np.ndarray
    truth: Boxes
    found: Boxes
    outcome: Outcome
    names: list[str]


def analyse(data: ssd_coco.DataSet, rows: np.ndarray, score: float) -> Analysis:
    """Score result rows (K, 7) and tell what became of each.

    score: from which on a detection counts in the confusion matrix, the classes' counts and the
    gallery. Rows of pictures or categories that the data set lacks are left out.
    Raises KitError if the annotations cannot be scored.
    """
    ssd_coco.check_scorable(data.instances, data.annotation)
    image_ids = np.array(sorted(image["id"] for image in data.selected), np.int64)
    categories = sorted(data.instances["categories"], key=lambda category: category["id"])
    ids = np.array([category["id"] for category in categories], np.int64)
    rows = rows[np.isin(rows[:, 0], image_ids) & np.isin(rows[:, 6], ids)]
    scores = ssd_score.score(data.instances, rows, image_ids.tolist())
    truth = ssd_curves.true_boxes(data.instances["annotations"], image_ids, ids)
    found = ssd_curves.found_boxes(rows, image_ids, ids)
    outcome = ssd_curves.match(truth, found)
    counts = ssd_curves.confusion(truth, found, outcome, len(ids), score)
    per_picture = ssd_curves.picture_counts(truth, found, outcome, len(image_ids), score)
    names = [category["name"] for category in categories]
    classes = [
        {"id": int(ids[k]), "name": names[k]} | row
        for k, row in enumerate(ssd_curves.class_rows(scores.precision, counts))
    ]
    detail = {
        "score": score,
        "iou": ssd_curves.MATCH_IOU,
        "images": len(image_ids),
        "true_boxes": int((~truth.crowd).sum()),
        "crowds": int(truth.crowd.sum()),
        "detections": len(rows),
        "strong_detections": int((found.score >= score).sum()),
        "stats": scores.stats,
        "best_f1": ssd_curves.best_f1(truth, found, outcome),
        "sizes": size_rows(scores.stats, ssd_curves.size_counts(truth)),
        "histogram": ssd_curves.histogram(found, outcome),
        "classes": classes,
        "confusion": counts.tolist(),
        "confusions": [
            {"true": names[t], "given": names[g], "count": count, "share": count / int(row.sum())}
            for t, g, count in ssd_curves.frequent_confusions(counts, CONFUSIONS)
            for row in [counts[t]]
        ],
        "pr": ssd_curves.pr_curves(scores.precision),
        "gallery": gallery(data, image_ids, per_picture, seen_labels(truth, found, score), names),
    }
    return Analysis(detail, image_ids, truth, found, outcome, names)


def size_rows(stats: dict[str, float], counts: dict[str, int]) -> list[dict[str, Any]]:
    """Return AP, AR and the number of true boxes of each size; None where there is no box."""
    return [
        {"size": size, "true_boxes": count}
        | {
            key: stats[name] if stats[name] >= 0 else None
            for key, name in (("ap", f"AP_{size}"), ("ar", f"AR_{size}"))
        }
        for size, count in counts.items()
    ]


def seen_labels(truth: Boxes, found: Boxes, score: float) -> dict[int, set[int]]:
    """Map a picture's index to the labels that are in it or that were found there."""
    strong = found.score >= score
    pairs = zip(
        np.concatenate([truth.image, found.image[strong]]).tolist(),
        np.concatenate([truth.label, found.label[strong]]).tolist(),
        strict=True,
    )
    labels: dict[int, set[int]] = {}
    for image, label in pairs:
        labels.setdefault(image, set()).add(label)
    return labels


def gallery(
    data: ssd_coco.DataSet,
    image_ids: np.ndarray,
    counts: dict[str, np.ndarray],
    labels: dict[int, set[int]],
    names: list[str],
) -> list[dict[str, Any]]:
    """Return the pictures to show, in order of their groups; a picture may be in several."""
    entry_of = {image["id"]: image for image in data.selected}
    shown = []
    for i, groups in choose(counts, labels).items():
        image = entry_of[int(image_ids[i])]
        one = {name: int(values[i]) for name, values in counts.items()}
        hits = 2 * one["found"]
        total = hits + one["missed"] + one["false"]
        shown.append(
            {"image_id": image["id"], "file_name": image["file_name"], "groups": groups}
            | one
            | {"f1": hits / total if total else None}
            | {"classes": [names[k] for k in sorted(labels.get(i, ()))]}
        )
    return shown


def choose(counts: dict[str, np.ndarray], labels: dict[int, set[int]]) -> dict[int, list[str]]:
    """Map the index of each chosen picture to its groups: best, worst, random, more.

    Best by F1, then by boxes found; worst by F1, then by errors; neither without a box or
    detection. `more` are those that show the most classes which no other one shows.
    """
    hits, errors = 2 * counts["found"], counts["missed"] + counts["false"]
    f1 = hits / np.maximum(hits + errors, 1)
    judged = np.flatnonzero(hits + errors)
    ranks = {
        "best": judged[np.lexsort((-hits[judged], -f1[judged]))],
        "worst": judged[np.lexsort((-errors[judged], f1[judged]))],
        "random": np.random.default_rng(SEED).permutation(len(f1)),
    }
    chosen: dict[int, list[str]] = {}
    for group, order in ranks.items():
        for i in order[: SHOWN[group]].tolist():
            chosen.setdefault(i, []).append(group)
    lacking = set().union(*labels.values()) - set().union(*(labels.get(i, set()) for i in chosen))
    while lacking and len(chosen) < MOST_SHOWN:
        i = min(labels, key=lambda i: (-len(labels[i] & lacking), i))
        chosen[i] = ["more"]
        lacking -= labels[i]
    return chosen
