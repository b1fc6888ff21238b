"""The ladder's table and its verdict: which rungs lose mAP."""

from pathlib import Path
from typing import Any

from ssd import tables
from ssd.agreement import SAME_IOU
from ssd.cli import KitError
from ssd.files import CHECKPOINT_KEY, digest, read_record, sha256
from ssd.ladder.plan import Plan, is_compared
from ssd.ladder.rungs import RUNGS, precision

GOAL = "the goal"  # stands for the rung above the first
LOOK_FIRST = (
    "what all rungs share: images in BGR or resized by another library, the order of the "
    "categories in the annotation file, the checkpoint, the goal itself"
)
LOOK_LABELS = "the order of the labels (the boxes are found again under other ones)"
COLUMNS = {  # of the table: title, width, and how a row's value is shown
    "rung": ("rung", -8, str),
    "engine": ("engine", -12, lambda value: value.split()[0][:12]),
    "map": ("mAP", 7, tables.percent),
    "ap50": ("AP50", 7, tables.percent),
    "change": ("change", 8, lambda value: f"{value:+.3f}"),
    "max_abs": ("largest", 7, lambda value: f"{value:.1e}"),
    "mean_abs": ("mean", 7, lambda value: f"{value:.1e}"),
    "cosine": ("cosine", 8, lambda value: f"{value:.6f}"),
    "match_rate": ("same", 5, lambda value: f"{100 * value:.1f}"),
}
GAP = " "  # between columns: two would not fit 80
LEGEND = (
    "mAP, AP50 in %. Against the rung above: change in points of mAP; largest and\n"
    "mean difference and cosine of the raw outputs; same: % of its detections that\n"
    f"are there again, with an IoU of {SAME_IOU} and the same label."
)


def make_ladder(folder: Path, plan: Plan) -> dict[str, Any]:
    """Gather what the rungs' stages wrote: a row of each rung, and the losses, as JSON.

    Raises KitError if something is missing, or rungs were scored on different images.
    """
    rows: list[dict[str, Any]] = []
    for rung in plan.models:
        rows.append(make_row(folder, rung, rows[-1] if rows else None))
    if plan.goal is not None:
        rows[0]["change"] = points(rows[0]["map"], plan.goal)
    settings = {"missing": plan.missing, "goal": plan.goal, "tolerance": plan.tolerance}
    return {"rungs": rows} | settings | {"losses": find_losses(rows, plan.tolerance)}


def make_row(folder: Path, rung: str, above: dict[str, Any] | None) -> dict[str, Any]:
    """Return the table's row of a rung; `above` is that of the rung above it, None for the first.

    Raises KitError if its files are of different runs, or it was scored on other images.
    """
    result = read_record(folder / f"{rung}_result.json")
    summary = read_record(folder / f"{rung}_summary.json")
    scored = result.get("made_from", {}).get("inference")
    fits = "made_from" in summary and scored == digest(summary["made_from"])
    if not fits or result.get("detections_sha256") != sha256(folder / f"{rung}_detections.json"):
        raise KitError(f"{folder}: files of {rung} are of different runs; run the ladder again")
    row = {"rung": rung, "above": above and above["rung"]}
    row |= {
        key: summary.get(key)
        for key in ("engine", "provider", "model", "model_sha256", CHECKPOINT_KEY)
    }
    row["precision"] = precision(Path(row["model"]), row["provider"])
    row |= {"map": result["stats"]["AP"], "ap50": result["stats"]["AP50"]}
    if row["map"] is None:
        raise KitError(f"{folder}: nothing to find in its images, so no mAP; give others")
    row |= {"scored": result["scored"], "change": None}
    if above:
        against = read_record(folder / f"{rung}_against.json")
        fits = is_compared(folder, above["rung"], rung)
        if not fits or row["scored"] != above["scored"]:
            raise KitError(f"{folder}: {rung} is of another run; run the ladder again")
        row["change"] = points(row["map"], above["map"])
        row |= against["raw"]["all"] | against
        del row["made_from"]
    return row


def points(value: float, reference: float) -> float:
    """Return the difference of two mAP (0..1) in points, without float64's last digits."""
    return round(100 * (value - reference), 6)


def find_losses(rows: list[dict[str, Any]], tolerance: float) -> list[dict[str, Any]]:
    """Return each `change` that is a loss of more than `tolerance` points, from the top.

    A loss has the `rung`, what is `above` it, the `points` lost, and where to `look`.
    """
    losses = []
    for row in rows:
        if row["change"] is None or row["change"] >= -tolerance:
            continue
        look = RUNGS[row["rung"]].look if row["above"] else LOOK_FIRST
        same, any_label = row.get("match_rate") or 0.0, row.get("match_rate_any_label") or 0.0
        if any_label > 0.5 and same < any_label / 2:
            look = f"{LOOK_LABELS}; {look}"
        loss = {"rung": row["rung"], "above": row["above"] or GOAL}
        losses.append(loss | {"points": -row["change"], "look": look})
    return losses


def describe(ladder: dict[str, Any]) -> list[str]:
    """Return the facts below the table and, last, the result: each loss, or that there is none."""
    rows, tolerance = ladder["rungs"], f"{ladder['tolerance']:g}"
    lines = [
        f"{row['rung']}: {row['engine']}, {row['provider']}; {row['precision']}; "
        f"{Path(row['model']).name}"
        for row in rows
    ]
    lines += [f"{rung}: not there; {make}" for rung, make in ladder["missing"].items()]
    lines.append(f"Scored: {rows[0]['scored']}")
    for loss in ladder["losses"]:
        lines.append(f"Look at {loss['look']}")
        lines.append(
            f"{loss['rung']} loses {loss['points']:.3f} points of mAP to {loss['above']}, "
            f"more than {tolerance}"
        )
    return (
        lines
        if ladder["losses"]
        else [*lines, f"No rung loses more than {tolerance} points of mAP"]
    )


def as_text(ladder: dict[str, Any]) -> str:
    """Return the ladder for the terminal: table, legend, facts, result."""
    cells = tables.cells(COLUMNS, ladder["rungs"])
    return "\n".join([tables.as_text(COLUMNS, cells, GAP), LEGEND, *describe(ladder)])


def as_page(ladder: dict[str, Any]) -> str:
    """Return the ladder as Markdown."""
    cells = tables.cells(COLUMNS, ladder["rungs"])
    page = ["# SSD-ResNet34 accuracy ladder", "", *tables.as_markdown(cells), ""]
    return "\n".join([*page, LEGEND, "", *(f"- {line}" for line in describe(ladder)), ""])
