#!/usr/bin/env python3
"""Compare the rungs of an accuracy ladder, and name each one where the mAP falls.

The driver test/ssd_accuracy_ladder.sh runs the same images through each rung (the checkpoint,
ONNX, INT8, ...) and asks this script, with its output folder RESULT:
  plan     check the data set, the models and RESULT; remove what no rung needs any more; write
           rungs.json; print a line `RUNG<tab>DTYPE<tab>MODEL` for each rung that can be run
  compare  a rung with the one above it: read RUNG/tensor([ID])_K.bin and RUNG_detections.json of
           both; write RUNG_against.json; remove the outputs of the one above
  table    all rungs: read rungs.json, RUNG_against.json, RUNG_result.json and RUNG_summary.json;
           print the table, write ladder.json and ladder.md; exit status 3 if a rung loses
  layers   the first rung that lost mAP to the one above it: read ladder.json and both models; print
           where the layers' cosine falls, write layers.json

Example:
  python3 ssd_ladder.py table ladder
"""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssd import coco, detections  # a copied script needs ssd/ beside it
from ssd.agreement import compare_outputs, match_rate
from ssd.ascend.ais_bench import add_tool_arguments
from ssd.cli import CHECKPOINT, ArgumentParser, KitError, fraction, note, positive, run_main
from ssd.engines import check_same_checkpoint, input_and_labels
from ssd.engines.in_process import check_labels
from ssd.engines.npu import card_of
from ssd.files import locked, read_json, write_bytes, write_json
from ssd.images import resize
from ssd.ladder.layers import compare_layers, describe_layers, falls
from ssd.ladder.plan import (
    Plan,
    begin,
    clear_outputs,
    is_compared,
    pair_of,
    read_plan,
    run_again,
)
from ssd.ladder.rungs import RUNGS, find_rungs
from ssd.ladder.table import GOAL, as_page, as_text, make_ladder

TOLERANCE = 0.5  # points of mAP
LOST = 3  # exit status
LAYER_IMAGES = 4


def plan(args: argparse.Namespace) -> None:
    """Check everything that the ladder needs, only then take up a former one, write the plan."""
    data = coco.open_data(args)
    coco.check_scorable(data.instances, data.annotation)
    if not data.image_folder.is_dir():
        raise coco.no_image_folder(data)
    models, missing = find_rungs(
        args.models, args.pth_path, args.ais_infer, args.device, args.tool_python
    )
    ways = "; ".join(f"{rung}: {way}" for rung, way in missing.items())
    if not models:
        raise KitError(f"{args.models}: no rung can be run; make one ({ways})")
    if len(models) == 1 and args.goal is None:
        raise KitError(
            f"{args.models}: only {', '.join(models)} can be run, so there is nothing to compare; "
            f"give --goal, or another rung ({ways})"
        )
    check_same_checkpoint(models.values(), "make them from one, or leave PyTorch out (--pth_path=)")
    dtypes = {}
    for rung, model in models.items():
        dtypes[rung], labels = input_and_labels(model)
        check_labels(model, labels, data)
    names = {rung: str(model) for rung, model in models.items()}
    with locked(args.folder):
        begin(args.folder, Plan(names, missing, args.tolerance, args.goal))
    count = len(data.selected[: args.limit])
    note(f"{args.folder}: {count} images through {', '.join(names)}")
    for rung, model in names.items():
        print(rung, dtypes[rung], model, sep="\t")


def compare(args: argparse.Namespace) -> None:
    """Compare a rung with the one above it and write what was found, unless that is there.

    Raises KitError if outputs are missing; the same ladder then makes them again.
    """
    folder, above, below = args.folder, args.above, args.below
    path = folder / f"{below}_against.json"
    if is_compared(folder, above, below):
        note(f"{path}: kept, it is of the same outputs")
    else:
        try:
            against = look_closely(folder, above, below, coco.open_data(args))
        except KitError:
            with suppress(KitError):  # there may be no plan
                run_again(folder, read_plan(folder).models)
            raise
        write_json(path, against, indent=2)
    clear_outputs(folder, [above])
    cosine = read_json(path)["raw"]["all"]["cosine"]
    print(f"{below} against {above}: cosine of raw outputs {cosine:.6f}")


def look_closely(folder: Path, above: str, below: str, data: coco.DataSet) -> dict[str, Any]:
    """Return how a rung's outputs and detections differ from those of the rung above it."""
    labels = 1 + len(data.instances["categories"])
    image_ids = [image["id"] for image in data.selected]
    raw = compare_outputs(folder / above, folder / below, image_ids, labels)
    found = [detections.from_json(folder / f"{rung}_detections.json") for rung in (above, below)]
    return {
        "above": above,
        "images": len(image_ids),
        "raw": raw,
        "detections_above": len(found[0]),
        "match_rate": match_rate(*found),
        "match_rate_any_label": match_rate(*found, any_label=True),
        "made_from": pair_of(folder, above, below),
    }


def table(args: argparse.Namespace) -> int:
    """Gather the rungs into the ladder; return LOST if one loses."""
    ladder = make_ladder(args.folder, read_plan(args.folder))
    write_json(args.folder / "ladder.json", ladder, indent=2)
    write_bytes(args.folder / "ladder.md", as_page(ladder).encode())
    clear_outputs(args.folder, [row["rung"] for row in ladder["rungs"]])
    print(f"{args.folder}: ladder.json, ladder.md")
    print(as_text(ladder))
    return LOST if ladder["losses"] else 0


def layers(args: argparse.Namespace) -> None:
    """Compare the layers of the first rung that lost to another with those of that one."""
    path = args.folder / "ladder.json"
    ladder = read_json(path)
    try:
        models = {row["rung"]: Path(row["model"]) for row in ladder["rungs"]}
        loss = next((loss for loss in ladder["losses"] if loss["above"] != GOAL), None)
    except (LookupError, TypeError):
        raise KitError(f"{path}: not the table of a ladder; run it again") from None
    if loss is None:
        reason = "only the first rung lost, to the goal" if ladder["losses"] else "no rung lost"
        print(f"Layers not compared: {reason}")
        return
    above, below = models[loss["above"]], models[loss["rung"]]
    if below.suffix == ".om":
        print(f"Layers not compared: those of {below} cannot be read (an .om is compiled)")
        return
    data = coco.open_data(args)
    names = [image["file_name"] for image in data.selected[: args.limit]]
    images = [resize(coco.image_path(data.image_folder, name)) for name in names]
    found = compare_layers(above, below, images)
    fallen = falls(found)
    rows = [layer._asdict() | {"falls": layer in fallen} for layer in found]
    write_json(args.folder / "layers.json", rows, indent=2)
    print(
        f"{args.folder}: layers.json, {len(found)} layers of {loss['rung']} against {loss['above']}"
    )
    print("\n".join(describe_layers(found, loss["rung"])))


def points(text: str) -> float:
    """Return points of mAP, 0 to 100: the type of --tolerance."""
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 100")
    return value


def card(text: str) -> int:
    """Return the number of a card, `0` or `npu:0`: the type of --device."""
    number = card_of(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text}: must be a card, such as 0 or npu:0")
    return number


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", metavar="N", type=positive, help="how many images will be run")
    parser.add_argument(
        "--models", metavar="DIR", type=Path, default=Path("."), help="folder of the models"
    )
    parser.add_argument(
        "--pth-path",
        metavar="FILE",
        default=str(CHECKPOINT),
        help=f"checkpoint; empty leaves PyTorch out (default: {CHECKPOINT}, if it is there)",
    )
    parser.add_argument(
        "--device",
        metavar="N",
        type=card,
        default=0,
        help="card; npu:N: for every rung, not only the om",
    )
    add_tool_arguments(parser)
    parser.add_argument(
        "--tolerance",
        metavar="POINTS",
        type=points,
        default=TOLERANCE,
        help=f"of mAP that a rung may lose (default: {TOLERANCE})",
    )
    parser.add_argument(
        "--goal", metavar="MAP", type=fraction, help="0 to 1: what the first rung is held against"
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {
        name: commands.add_parser(name, help=text)
        for name, text in (
            ("plan", "check what the ladder needs and choose its rungs"),
            ("compare", "compare a rung with the one above it"),
            ("table", "print the table and name each rung that loses"),
            ("layers", "compare the layers of the first rung that lost"),
        )
    }
    for name, command in parsers.items():
        command.add_argument("folder", metavar="RESULT", type=Path, help="the ladder's folder")
        if name != "table":
            coco.add_data_arguments(command)
    for name in ("above", "below"):
        parsers["compare"].add_argument(name, choices=RUNGS, help=f"the rung {name}")
    add_plan_arguments(parsers["plan"])
    parsers["layers"].add_argument(
        "--limit",
        metavar="N",
        type=positive,
        default=LAYER_IMAGES,
        help=f"how many images (default: {LAYER_IMAGES})",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    args = parse_args(argv)
    commands = {"plan": plan, "compare": compare, "table": table, "layers": layers}
    return commands[args.command](args)


if __name__ == "__main__":
    run_main(main)
