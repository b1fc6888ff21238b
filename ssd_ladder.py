#!/usr/bin/env python3
"""Compare the rungs of an accuracy ladder, and name the one where the mAP falls.

The driver test/ssd_accuracy_ladder.sh runs the same pictures through each rung (the checkpoint,
ONNX, INT8, ...) and asks this script, with its output folder RESULT:
  compare  a rung with the one above it: reads RUNG/tensor([ID])_K.bin and RUNG_detections.json of
           both; writes RUNG_against.json
  table    all rungs: reads those, RUNG_result.json and RUNG_summary.json; prints the table, writes
           ladder.json and ladder.md; exit status 3 if a rung loses more than --tolerance
  layers   the rung that lost with the one above it: reads ladder.json and both models; prints where
           the layers' cosine falls, writes layers.json

Example:
  python3 ssd_ladder.py table ladder --rungs pytorch,float32
"""

import argparse
from pathlib import Path
from typing import Any

import ssd_coco
import ssd_table
from ssd_files import read_json, run_main, write_bytes, write_json
from ssd_layers import LayerDifference, compare_layers
from ssd_preprocess import resize
from ssd_rungs import RUNGS, SAME_IOU, compare_outputs, judge, make_row, points, share_found

TOLERANCE = 0.5  # points of mAP
LOST = 3  # exit status
FALL = 1e-5  # of a layer's cosine; engines in float32 differ by 1e-9
LAYER_PICTURES = 4
LAYERS_SHOWN = 8
COLUMNS = {  # of the table: title, width, and how a row's value is shown
    "rung": ("rung", -8, str),
    "engine": ("engine", -12, lambda value: value.split()[0][:12]),
    "map": ("mAP", 7, lambda value: f"{100 * value:.3f}"),
    "ap50": ("AP50", 7, lambda value: f"{100 * value:.3f}"),
    "change": ("change", 8, lambda value: f"{value:+.3f}"),
    "max_abs": ("largest", 7, lambda value: f"{value:.1e}"),
    "mean_abs": ("mean", 7, lambda value: f"{value:.1e}"),
    "cosine": ("cosine", 8, lambda value: f"{value:.6f}"),
    "matched": ("same", 5, lambda value: f"{100 * value:.1f}"),
}
GAP = " "  # between columns: two would not fit 80
LEGEND = (
    "mAP, AP50 in %. Against the rung above: change in points of mAP; largest and\n"
    "mean difference and cosine of the raw outputs; same: % of its detections that\n"
    f"are there again, with an IoU of {SAME_IOU} and the same label."
)


def compare(args: argparse.Namespace) -> None:
    """Compare a rung with the one above it and write what was found."""
    data = ssd_coco.open_data(args)
    folder, labels = args.folder, 1 + len(data.instances["categories"])
    image_ids = [image["id"] for image in data.selected]
    raw = compare_outputs(folder / args.above, folder / args.below, image_ids, labels)
    paths = [folder / f"{rung}_detections.json" for rung in (args.above, args.below)]
    rows = [ssd_coco.results_from_json(path) for path in paths]
    against = {
        "above": args.above,
        "images": len(image_ids),
        "raw": raw,
        "detections_above": len(rows[0]),
        "matched": share_found(*rows),
        "matched_any_label": share_found(*rows, any_label=True),
    }
    write_json(folder / f"{args.below}_against.json", against, indent=2)
    print(f"{args.below} against {args.above}: cosine of raw outputs {raw['all']['cosine']:.6f}")


def told(ladder: dict[str, Any]) -> list[str]:
    """Return the facts below the table and, last, the result."""
    rows = ladder["rungs"]
    lines = [
        f"{row['rung']}: {row['engine']}, {row['provider']}; {row['precision']}; "
        f"{Path(row['model']).name}"
        for row in rows
    ]
    lines += [f"{rung}: not there; {make}" for rung, make in ladder["missing"].items()]
    lines.append(f"Scored: {rows[0]['scored']}")
    if len(rows) == 1:
        lines.append(f"Only one rung, {rows[0]['rung']}: there is none to compare it with")
    if ladder["lost"]:
        change = next(row["change"] for row in rows if row["rung"] == ladder["lost"])
        lines.append(f"Look at {ladder['look']}")
        lines.append(
            f"{ladder['lost']} loses {-change:.3f} points of mAP to {ladder['above']}, "
            f"more than {ladder['tolerance']:g}"
        )
    elif len(rows) > 1 or ladder["goal"] is not None:
        lines.append(f"No rung loses more than {ladder['tolerance']:g} points of mAP")
    return lines


def table(args: argparse.Namespace) -> int:
    """Gather the rungs into the ladder; return LOST if one loses."""
    rows: list[dict[str, Any]] = []
    for rung in args.rungs:
        rows.append(make_row(args.folder, rung, rows[-1] if rows else None))
    if args.goal is not None:
        rows[0]["change"] = points(rows[0]["map"], args.goal)
    reasons = dict(args.missing)
    missing = {r: reasons.get(r, RUNGS[r].make) for r in RUNGS if r not in args.rungs}
    ladder = {"rungs": rows, "missing": missing, "goal": args.goal, "tolerance": args.tolerance}
    ladder |= judge(rows, args.tolerance)
    lines = ssd_table.cells(COLUMNS, rows)
    page = ["# SSD-ResNet34 accuracy ladder", "", *ssd_table.as_markdown(lines), ""]
    page += [LEGEND, "", *(f"- {line}" for line in told(ladder)), ""]
    write_json(args.folder / "ladder.json", ladder, indent=2)
    write_bytes(args.folder / "ladder.md", "\n".join(page).encode())
    print(f"{args.folder}: ladder.json, ladder.md")
    print("\n".join([ssd_table.as_text(COLUMNS, lines, GAP), LEGEND, *told(ladder)]))
    return LOST if ladder["lost"] else 0


def falls(found: list[LayerDifference]) -> list[LayerDifference]:
    """Return the layers whose cosine is FALL or more below what they read, or no number.

    The first of them in graph order comes first, then the others, those that fall most first.
    """
    fallen = [one for one in found if not one.before - one.cosine < FALL]
    return fallen[:1] + sorted(fallen[1:], key=lambda one: one.cosine - one.before)


def layers(args: argparse.Namespace) -> None:
    """Compare the layers of the rung that lost with those of the one above it."""
    ladder = read_json(args.folder / "ladder.json")
    models = {row["rung"]: Path(row["model"]) for row in ladder["rungs"]}
    lost, above = ladder["lost"], ladder.get("above")
    if above not in models:
        reason = f"{lost} has no rung above it" if lost else "no rung lost"
        print(f"Layers not compared: {reason}")
        return
    if models[lost].suffix == ".om":
        print(f"Layers not compared: those of {models[lost]} cannot be read (an .om is compiled)")
        return
    data = ssd_coco.open_data(args)
    names = [image["file_name"] for image in data.selected[: args.pictures]]
    pictures = [resize(ssd_coco.picture_path(data.pictures, name)) for name in names]
    found = compare_layers(models[above], models[lost], pictures)
    write_json(args.folder / "layers.json", [one._asdict() for one in found], indent=2)
    print(f"{args.folder}: layers.json, {len(found)} layers of {lost} against {above}")
    print("\n".join(told_layers(found, lost)))


def told_layers(found: list[LayerDifference], lost: str) -> list[str]:
    """Return the table of the layers where the cosine falls and, last, the result.

    The first one that falls comes first, then those that fall most.
    """
    fallen = falls(found)
    if not fallen:
        worst = min(found, key=lambda one: one.cosine)
        return [
            f"No layer's cosine falls by {FALL} or more (the lowest is {worst.cosine:.6f}, at "
            f"{worst.name}): on the same pictures the models agree, so look at the input files "
            f"of {lost}"
        ]
    lines = ["  cosine    before  largest     mean  layer"]
    lines += [
        f"{one.cosine:8.6f}  {one.before:8.6f}  {one.max_abs:7.1e}  {one.mean_abs:7.1e}  {one.name}"
        for one in fallen[:LAYERS_SHOWN]
    ]
    if len(fallen) > LAYERS_SHOWN:
        lines.append(f"and {len(fallen) - LAYERS_SHOWN} more that fall by {FALL} or more")
    first = fallen[0]
    return [*lines, f"The cosine first falls at {first.name} ({first.op})"]


def read_missing(text: str) -> tuple[str, str]:
    """Return RUNG and REASON of `RUNG=REASON`. Raises ValueError if it is not that."""
    rung, reason = text.split("=", 1)
    if rung not in RUNGS:
        raise ValueError
    return rung, reason


def read_rungs(text: str) -> list[str]:
    """Return the rungs of a list such as pytorch,float32, from the top. Raises ValueError."""
    named = text.split(",")
    if not set(named) <= set(RUNGS):
        raise ValueError
    return [rung for rung in RUNGS if rung in named]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("compare", help="compare a rung with the one above it")
    two = commands.add_parser("table", help="print the table and name the rung that loses")
    three = commands.add_parser("layers", help="compare the layers of the rung that lost")
    for command in (one, two, three):
        command.add_argument("folder", metavar="RESULT", type=Path, help="the ladder's folder")
    for name in ("above", "below"):
        one.add_argument(name, choices=RUNGS, help=f"the rung {name}")
    for command in (one, three):
        ssd_coco.add_data_arguments(command)
    two.add_argument(
        "--rungs", metavar="RUNG,RUNG", type=read_rungs, required=True, help="those that ran"
    )
    two.add_argument(
        "--missing",
        metavar="RUNG=REASON",
        type=read_missing,
        action="append",
        default=[],
        help="why a rung did not run",
    )
    two.add_argument(
        "--tolerance",
        metavar="POINTS",
        type=float,
        default=TOLERANCE,
        help=f"of mAP that a rung may lose (default: {TOLERANCE})",
    )
    two.add_argument(
        "--goal", metavar="MAP", type=float, help="what the first rung is held against"
    )
    three.add_argument(
        "--pictures",
        metavar="N",
        type=int,
        default=LAYER_PICTURES,
        help=f"how many (default: {LAYER_PICTURES})",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    args = parse_args(argv)
    return {"compare": compare, "table": table, "layers": layers}[args.command](args)


if __name__ == "__main__":
    run_main(main)
