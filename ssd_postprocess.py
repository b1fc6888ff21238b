#!/usr/bin/env python3
"""Decode the network's output files into detections and score them with COCO's protocol.

Reads `tensor([ID])_0.bin` (ploc) and `tensor([ID])_1.bin` (plabel) of every image, float32 or
float16, .bin or .npy; writes the scores (--output), MLPerf's log beside them, and the detections in
COCO's result form (--detections); prints COCO's 12 numbers. What was scored of the same outputs and
annotations is kept. Where ssd_infer.py decoded in process, or outputs were removed once they were
scored, the detections take the outputs' place.

Example:
  python3 ssd_postprocess.py --data DATA/coco --bin-input result/bs1
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

from ssd import __version__, coco, coco_eval, detections  # a copied script needs ssd/ beside it
from ssd.annotation_checks import find_warnings
from ssd.cli import (
    ArgumentParser,
    KitError,
    first_few,
    fraction,
    note,
    progress,
    run_main,
)
from ssd.detections import Detections, decode_image, from_json, join_images
from ssd.files import digest, digest_files, read_record, sha256, write_bytes, write_json
from ssd.tensors import output_paths, read_outputs, tensor_id, tensor_stem
from ssd.workers import Pool, add_workers_argument

import numpy as np

BELOW = 4  # exit status where the mAP is below --fail-below


def decode_files(image: dict[str, Any], paths: list[Path], category_ids: Any) -> Detections | None:
    """Decode one image's output files; None if they are not finite."""
    return decode_image(image, *read_outputs(paths, len(category_ids) + 1), category_ids)


def decode_folder(
    folder: Path, found: dict[int, list[Path]], data: coco.DataSet, workers: int
) -> Detections:
    """Decode the outputs of all selected images, in image order.

    found: image id -> output files. Raises KitError if outputs are missing, of a wrong size, or not
    finite.
    """
    missing = [image["id"] for image in data.selected if image["id"] not in found]
    if missing:
        raise KitError(
            f"{folder}: no outputs for {len(missing)} of {len(data.selected)} images "
            f"({first_few(map(tensor_stem, missing))}); run the inference again"
        )
    work = partial(decode_files, category_ids=coco.category_ids(data.instances))
    with Pool(work, min(workers, len(data.selected))) as pool:
        parts = pool.map((image, found[image["id"]]) for image in data.selected)
        parts = list(progress(parts, "decoding", len(data.selected)))
    return join_images(folder, data.selected, parts)


def inference_of(folder: Path) -> dict[str, Any]:
    """Return the summary of the inference that filled a folder, {} if it left none."""
    summary = read_record(folder.with_name(f"{folder.name}_summary.json"))
    return summary if isinstance(summary.get("made_from"), dict) else {}


def stored_detections(
    args: argparse.Namespace, summary: dict[str, Any], empty: bool
) -> Path | None:
    """Return the file of detections to score, None if outputs are to be decoded.

    That is --score-only's, or what the inference left beside the folder if it decoded in process.
    empty: whether the folder has no outputs. Raises KitError if the file is not of that inference.
    """
    if args.score_only:
        return args.score_only
    path = args.bin_input.with_name(f"{args.bin_input.name}_detections.json")
    in_process = summary.get("made_from", {}).get("route") == "in process"
    if not (in_process and empty and path.is_file()):
        return None
    if sha256(path) != summary.get("detections_sha256"):
        raise KitError(f"{path}: not the detections that the inference left; run it again")
    return path


def record(
    args: argparse.Namespace, data: coco.DataSet, summary: dict[str, Any], outputs: list[Path]
) -> dict[str, Any]:
    """Return what the scores are made from and with."""
    if args.score_only:
        inference = sha256(args.score_only)
    else:
        inference = digest(summary["made_from"]) if summary else digest_files(outputs)
    return {
        "kit": __version__,
        "inference": inference,
        "annotation": sha256(data.annotation),
        "images": digest([image["id"] for image in data.selected]),
        "scorer": args.scorer,
    }


def find_kept(
    args: argparse.Namespace, made_from: dict[str, Any], newest: int
) -> dict[str, Any] | None:
    """Return the scores on file if they, and the detections asked for, are made from the same."""
    result = {} if args.score_only else read_record(args.output)
    if result.get("made_from") != made_from:
        return None
    # an older kit had another per_class and no warnings; outputs that are newer are others
    if "warnings" not in result or newest > result.get("newest_output", 0):
        return None
    if args.detections and (
        not args.detections.is_file() or sha256(args.detections) != result["detections_sha256"]
    ):
        return None
    return result


def first_seconds(path: Path, made_from: dict[str, Any]) -> dict[str, float] | None:
    """Return what decoding and scoring took when the same inference was scored first.

    So that scoring it again, with another scorer or on a busier machine, changes no speed.
    """
    before = read_record(path)
    try:
        same = all(before["made_from"][key] == made_from[key] for key in ("inference", "images"))
        return before["seconds"] if same else None
    except (LookupError, TypeError):
        return None


def known(found: Detections, data: coco.DataSet, path: Path) -> Detections:
    """Return those detections whose image and category the data set has, and note the others.

    Raises KitError if there are detections but none fits.
    """
    images = np.isin(found.image_id, [image["id"] for image in data.selected])
    categories = np.isin(found.category_id, coco.category_ids(data.instances))
    fits = images & categories
    counts = f"{(~images).sum()} of images, {(~categories).sum()} of categories"
    if len(found) and not fits.any():
        raise KitError(
            f"{path}: none of {len(found)} detections fits {data.annotation} ({counts} that it "
            "does not score); give the annotation file that they belong to"
        )
    if not fits.all():
        note(f"{path}: {(~fits).sum()} detections left out ({counts} that are not scored)")
    return found[fits]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    coco.add_data_arguments(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bin-input", metavar="DIR", type=Path, help="folder of output files")
    source.add_argument(
        "--score-only", metavar="FILE", type=Path, help="score a COCO result file instead"
    )
    source.add_argument(
        "--check", action="store_true", help="check options and annotations, and do nothing"
    )
    add_workers_argument(parser, "decode")
    parser.add_argument(
        "--goal",
        "--threshold",
        metavar="MAP",
        type=fraction,
        help=f"mAP to reach, 0 to 1 (default: {coco_eval.GOAL_MAP} for COCO's 80 categories)",
    )
    parser.add_argument(
        "--fail-below", metavar="MAP", type=fraction, help=f"exit {BELOW} if the mAP is less"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("result.json"), help="scores to write"
    )
    parser.add_argument(
        "--detections", metavar="FILE", type=Path, help="detections to write, in COCO's result form"
    )
    parser.add_argument(
        "--remove-outputs",
        action="store_true",
        help="remove the output files once they are scored and the detections are written",
    )
    parser.add_argument("--per-class", action="store_true", help="print the AP of every category")
    parser.add_argument(
        "--scorer",
        choices=coco_eval.SCORERS,
        default=coco_eval.SCORERS[0],
        help="hotcoco (default) or pycocotools: the same numbers, 30 times slower",
    )
    args = parser.parse_args(argv)
    if args.remove_outputs and args.score_only:
        parser.error("--remove-outputs needs --bin-input")
    if args.remove_outputs and not args.detections and not args.check:
        parser.error("--remove-outputs needs --detections, which take their place")
    return args


def make_result(
    args: argparse.Namespace,
    data: coco.DataSet,
    made_from: dict[str, Any],
    outputs: dict[int, list[Path]],
    stored: Path | None,
) -> dict[str, Any]:
    """Decode and score; write the detections, and return what the result file is to hold.

    stored: the detections to score instead of outputs, as `stored_detections` returns it.
    """
    if args.detections and not stored:
        detections.check_room(args.detections, len(data.selected))
    start = time.perf_counter()
    found = (
        from_json(stored) if stored else decode_folder(args.bin_input, outputs, data, args.workers)
    )
    if args.score_only:
        found = known(found, data, stored)
    decoded = time.perf_counter()
    if args.detections and args.detections.resolve() != (stored and stored.resolve()):
        detections.write_detections(args.detections, found)
    rereadable = args.detections and args.detections.is_file()  # a pipe would be waited for
    start_score = time.perf_counter()
    image_ids = [image["id"] for image in data.selected]
    scores, lines = coco_eval.score_logged(data.instances, found, image_ids, args.scorer)
    seconds = {"decode": decoded - start, "score": time.perf_counter() - start_score}
    return {
        "stats": scores.stats,
        "scored": coco.describe_selection(data.instances, data.selected),
        "images": len(data.selected),
        "detections": len(found),
        "detections_sha256": sha256(args.detections) if rereadable else None,
        "scorer": args.scorer,
        "seconds": first_seconds(args.output, made_from) or seconds,
        "per_class": scores.per_class,
        "truth_digest": coco.truth_digest(data),
        "warnings": find_warnings(data.instances, coco.COCO_CATEGORIES),
        "made_from": made_from,
        "mlperf_log": lines,
    }


def main(argv: list[str] | None = None) -> int | None:
    args = parse_args(argv)
    data = coco.open_data(args)
    coco.check_scorable(data.instances, data.annotation)
    if args.score_only and not args.score_only.is_file():
        raise KitError(f"{args.score_only}: no such file; give COCO's result form")
    if args.check:
        return None
    outputs = output_paths(args.bin_input) if args.bin_input else {}
    summary = inference_of(args.bin_input) if args.bin_input else {}
    made_from = record(args, data, summary, [path for paths in outputs.values() for path in paths])
    times = [path.stat().st_mtime_ns for paths in outputs.values() for path in paths]
    newest = max(times, default=0)  # 0 once outputs were removed
    result = find_kept(args, made_from, newest)
    if result:
        note(f"{args.output}: kept, it is of the same outputs and annotations")
    else:
        stored = stored_detections(args, summary, empty=not outputs)
        result = make_result(args, data, made_from, outputs, stored)
    goal = coco_eval.default_goal(data.instances) if args.goal is None else args.goal
    result |= {"goal": goal, "newest_output": newest}
    lines = result.pop("mlperf_log", None)
    write_json(args.output, result, indent=2)
    if lines:
        write_bytes(args.output.with_suffix(".log"), "\n".join([*lines, ""]).encode())
    if args.remove_outputs:
        for path in args.bin_input.glob("**/tensor*"):
            if tensor_id(path) is not None:
                path.unlink()
    for warning in result["warnings"]:
        note(f"warning: {data.annotation}: {warning}")
    print(coco_eval.format_stats(result["stats"]))
    if args.per_class:
        print("\n".join(coco_eval.format_per_class(result["per_class"])))
    print(f"Scored: {result['scored']}; {result['detections']} detections")
    ap = result["stats"]["AP"]
    wanted = "none" if goal is None else f"{goal:.5f}"
    print(f"Current AP: {coco_eval.format_ap(ap)} AP goal: {wanted}")
    if args.fail_below is None or (ap or 0) >= args.fail_below:
        return None
    note(f"{args.output}: mAP {coco_eval.format_ap(ap)} is below {args.fail_below} (--fail-below)")
    return BELOW


if __name__ == "__main__":
    run_main(main)
