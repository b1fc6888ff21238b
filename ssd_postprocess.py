#!/usr/bin/env python3
"""Decode the network's output files into detections and score them with COCO's protocol.

Reads `tensor([ID])_0.bin` (ploc) and `tensor([ID])_1.bin` (plabel) of every image, float32 or
float16, .bin or .npy; writes the scores (--output) and the detections in COCO's result
form (--detections); prints COCO's 12 numbers and an MLPerf log.

Example:
  python3 ssd_postprocess.py --data DATA/coco --bin-input result/bs1
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import ssd_coco
import ssd_score
from ssd_files import (
    KitError,
    end_with_parent,
    first_few,
    num_cpus,
    output_paths,
    read_outputs,
    run_main,
    tensor_stem,
    write_json,
)

GOAL_MAP = 0.23  # MLPerf's target for this network
CHUNK = 8  # pictures handed to a worker at a time


def decode_files(
    job: tuple[dict[str, Any], list[Path]], category_ids: np.ndarray
) -> np.ndarray | None:
    """Decode one picture's output files into result rows (K, 7); None if they are not finite."""
    image, paths = job
    return ssd_coco.results(image, *read_outputs(paths, len(category_ids) + 1), category_ids)


def decode_folder(folder: Path, data: ssd_coco.DataSet, workers: int) -> np.ndarray:
    """Decode the outputs of all selected images into result rows (K, 7), in image order.

    Raises KitError if outputs are missing, of a wrong size, or not finite.
    """
    found = output_paths(folder)
    missing = [image["id"] for image in data.selected if image["id"] not in found]
    if missing:
        raise KitError(
            f"{folder}: no outputs for {len(missing)} of {len(data.selected)} images "
            f"({first_few(map(tensor_stem, missing))}); run the inference again"
        )
    jobs = [(image, found[image["id"]]) for image in data.selected]
    work = partial(decode_files, category_ids=ssd_coco.category_ids(data.instances))
    workers = max(1, min(workers, len(jobs)))
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        outcomes = pool.map(work, jobs, chunksize=CHUNK)
        rows = list(tqdm(outcomes, "decode", len(jobs), unit="image", disable=None))
    return ssd_coco.join_results(folder, data.selected, rows)


def score_and_log(data: ssd_coco.DataSet, rows: np.ndarray, scorer: str) -> ssd_score.Scores:
    """Score result rows (K, 7) and print the evaluation as MLPerf log lines."""
    from mlperf_logging import mllog  # late: others import this module for its decoding

    logger, keys = mllog.get_mllogger(), mllog.constants
    logger.event(keys.SUBMISSION_BENCHMARK, "ssd")
    logger.start(keys.EVAL_START)
    image_ids = [image["id"] for image in data.selected]
    scores = ssd_score.score(data.instances, rows, image_ids, scorer)
    logger.event(keys.EVAL_SAMPLES, len(image_ids))
    logger.event(keys.EVAL_ACCURACY, scores.stats["AP"])
    logger.end(keys.EVAL_STOP)
    return scores


def print_per_class(per_class: dict[str, float]) -> None:
    for name, value in sorted(per_class.items(), key=lambda item: -item[1]):
        print(f" {name:<20} {value:.5f}" if value >= 0 else f" {name:<20} none to find")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ssd_coco.add_data_arguments(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bin-input", metavar="DIR", type=Path, help="folder of output files")
    source.add_argument(
        "--score-only", metavar="FILE", type=Path, help="score a COCO result file instead"
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=num_cpus(), help="processes (default: all CPUs)"
    )
    parser.add_argument(
        "--threshold", type=float, default=GOAL_MAP, help=f"mAP to reach (default: {GOAL_MAP})"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("result.json"), help="scores to write"
    )
    parser.add_argument(
        "--detections", metavar="FILE", type=Path, help="detections to write, in COCO's result form"
    )
    parser.add_argument("--per-class", action="store_true", help="print the AP of every category")
    parser.add_argument(
        "--scorer",
        choices=ssd_score.SCORERS,
        default=ssd_score.SCORERS[0],
        help="faster-coco-eval (default) or pycocotools: the same numbers, several times slower",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    data = ssd_coco.open_data(args)
    ssd_coco.check_scorable(data.instances, data.annotation)
    start = time.perf_counter()
    if args.score_only:
        rows = ssd_coco.results_from_json(args.score_only)
    else:
        rows = decode_folder(args.bin_input, data, args.workers)
    decoded = time.perf_counter()
    if args.detections:
        write_json(args.detections, ssd_coco.results_to_json(rows))
    start_score = time.perf_counter()
    scores = score_and_log(data, rows, args.scorer)
    seconds = {"decode": decoded - start, "score": time.perf_counter() - start_score}
    scored = ssd_coco.describe_selection(data.instances, data.selected)
    result = {
        "stats": scores.stats,
        "goal": args.threshold,
        "scored": scored,
        "images": len(data.selected),
        "detections": len(rows),
        "scorer": args.scorer,
        "seconds": seconds,
        "per_class": scores.per_class,
    }
    write_json(args.output, result, indent=2)
    print(ssd_score.format_stats(scores.stats))
    if args.per_class:
        print_per_class(scores.per_class)
    print(f"Scored: {scored}; {len(rows)} detections")
    print(f"Current AP: {scores.stats['AP']:.5f} AP goal: {args.threshold:.5f}")


if __name__ == "__main__":
    run_main(main)
