"""The accuracy ladder, as the page shows it: from the files that ssd_ladder.py wrote."""

from pathlib import Path
from typing import Any

from ssd.agreement import rank_falls
from ssd.cli import KitError
from ssd.files import read_json
from ssd.report.compare import verdict


def read_ladder(folder: Path) -> dict[str, Any]:
    """Return ladder.json with a verdict of each rung, and the layers of layers.json if it is there.

    layers: in the order of the network; fallen: the places in it of those where the cosine falls,
    the first one, then those that fall most. compared: the loss whose layers they are, None without
    layers. Raises KitError if there is no ladder, or the files are not of one.
    """
    path = folder / "ladder.json"
    if not path.is_file():
        raise KitError(f"{path}: no such file; run test/ssd_accuracy_ladder.sh first")
    ladder = read_json(path)
    layers = folder / "layers.json"
    try:
        for row in ladder["rungs"]:
            row["verdict"] = verdict(row["change"], ladder["tolerance"])
        names = {row["rung"] for row in ladder["rungs"]}
        losses = [loss for loss in ladder["losses"] if loss["above"] in names]  # not to the goal
        made = {"layers": [], "fallen": [], "compared": None}
        if layers.is_file() and losses:
            made = layers_of(read_json(layers)) | {"compared": losses[0]}
    except (LookupError, TypeError) as error:
        raise KitError(
            f"{path}: not of a ladder ({type(error).__name__}: {error}); run the ladder again"
        ) from None
    return ladder | made


def layers_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the layers, no number being None, and the places of those that fall, in order."""
    fallen = [i for i, row in enumerate(rows) if row["falls"]]
    known = [
        {key: None if value != value else value for key, value in row.items()}  # NaN
        for row in rows
    ]
    order = rank_falls([rows[i]["cosine"] - rows[i]["before"] for i in fallen])
    return {"layers": known, "fallen": [fallen[i] for i in order]}
