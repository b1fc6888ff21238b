#!/usr/bin/env python3
"""Gather what a run left in its result folder into one table, one report and one page.

Reads RESULT/bsN_summary.json and bsN_perf_summary.json (inference and its timing, ais_bench's
form), bsN_result.json (scores) and bsN_detections.json; prints the table and writes report.json,
report.md, report.html and plots/*.png. With --data the page has curves, classes, confusions and
pictures, too. Facts given with --fact are kept in report.json.
With two result folders it compares the second with the first: compare.json, compare.md,
compare.html, in the first folder unless --output names another.

Example:
  python3 ssd_report.py result --data DATA/coco
"""

import argparse
import textwrap
from pathlib import Path
from typing import Any

import ssd_coco
import ssd_compare
import ssd_table
from ssd_files import KitError, note, run_main, write_bytes, write_json
from ssd_runs import BASELINE_FPS, collect

WIDTH = 80  # of a terminal
TOLD = {  # facts above the table, and how each is told
    "engine": "{}",
    "provider": "{}",
    "soc_version": "{}",
    "cann": "CANN {}",
    "mode": "mode {}",
    "devices": "device {}",
    "route": "{}",
}
MIN_SCORE = 0.3  # of a detection that counts in the confusion matrix and the gallery
SAME_AP = 1e-6  # scores that differ by more are of other data
COLUMNS = {  # of the table: title, width, and how a row's value is shown
    "model": ("model", -18, str),
    "batch": ("batch", 5, str),
    "goal_map": ("goal mAP", 8, lambda value: f"{100 * value:.3f}"),
    "map": ("mAP", 7, lambda value: f"{100 * value:.3f}"),
    "baseline_fps": ("base fps", 8, lambda value: f"{value:.3f}"),
    "fps": ("fps", 9, lambda value: f"{value:.3f}"),
    "end_to_end": ("end-to-end", 10, lambda value: f"{value:.3f}"),
}
NEEDED = "install requirements-infer.txt"


def table(report: dict[str, Any]) -> list[list[str]]:
    """Return the table's cells, headings first, and a Max row for the best batch size last."""
    rows = [*report["rows"], report["rows"][report["best"]] | {"model": "Max"}]
    return ssd_table.cells(COLUMNS, rows)


def as_markdown(report: dict[str, Any]) -> str:
    """Return report.md: the table, latency and facts."""
    lines = ["# SSD-ResNet34 evaluation", "", *ssd_table.as_markdown(table(report)), ""]
    lines += [f"mAP in %; fps: pure inference, images/s; base fps: {BASELINE_FPS}, published.", ""]
    latency = [["ms a batch", "mean", "p50", "p90", "p95", "p99", "runs"]]
    for row in report["rows"]:
        times = row["latency_ms"]
        values = [ssd_compare.number(times.get(name), ".2f") for name in latency[0][1:-1]]
        latency.append([str(row["batch"]), *values, str(times["runs"])])
    lines += [*ssd_table.as_markdown(latency), ""]
    return "\n".join([*lines, *(f"- {key}: {value}" for key, value in report["facts"].items()), ""])


def look_closely(
    report: dict[str, Any], folder: Path, data: ssd_coco.DataSet | None, score: float
) -> Any:
    """Fill in the report's `detail` from the detections on file; return the ssd_analysis.Analysis.

    What it cannot be made without goes to the report's `lacks`, and None is returned.
    """
    import ssd_analysis  # late: --print-best needs none of it

    def lack(what: str, *details: str) -> None:
        report["lacks"].append({"what": what, "details": list(details)})

    report |= {"lacks": [], "detail": None}
    path = folder / f"bs{report['scored_batch']}_detections.json"
    if report["scored_batch"] is None:
        return lack("scores")
    if data is None:
        return lack("data")
    try:
        rows = ssd_coco.results_from_json(path)
    except KitError as error:
        return lack("detections", str(error))
    try:
        analysis = ssd_analysis.analyse(data, rows, score)
    except KitError as error:
        return lack("annotations", str(error))
    report["detail"] = analysis.detail
    again, on_file = analysis.detail["stats"]["AP"], report["stats"]["AP"]
    if abs(again - on_file) > SAME_AP:
        lack("mismatch", f"{100 * again:.3f} %, {100 * on_file:.3f} %")
    return analysis


def write_page(
    report: dict[str, Any], folder: Path, data: ssd_coco.DataSet | None, analysis: Any
) -> Path | None:
    """Write report.html and plots/*.png; None, and a note, where their packages are missing."""
    try:
        import ssd_gallery  # late: they take a second, and packages that a card's host may lack
        import ssd_page
    except ImportError as error:
        note(f"report.html and the plots are left out: {error}; {NEEDED}")
        return None
    pictures = {}
    if analysis:
        pictures, unread = ssd_gallery.draw_all(data.pictures, analysis)
        if unread:
            report["lacks"].append({"what": "pictures", "details": unread})
    page, plots = ssd_page.report_page(report, pictures)
    write_plots(folder / "plots", plots)
    write_bytes(folder / "report.html", page)
    return folder / "report.html"


def write_plots(folder: Path, plots: dict[str, bytes]) -> None:
    for name, png in plots.items():
        write_bytes(folder / f"{name}.png", png)


def compare_runs(folders: tuple[Path, Path], batches: list[int], output: Path) -> None:
    """Write compare.json, compare.md and compare.html, and print the short table."""
    reports = tuple(collect(folder, batches, {}) for folder in folders)
    comparison = ssd_compare.compare(folders, reports)
    write_json(output / "compare.json", comparison, indent=2)
    write_bytes(output / "compare.md", ssd_compare.as_markdown(comparison).encode())
    for key in ("data", "scored"):
        told = [report["facts"].get(key) for report in reports]
        if all(told) and told[0] != told[1]:
            note(f"note: {key} differs ({told[0]} / {told[1]}): mAP may not compare")
    print(f"{output}: compare.json, compare.md")
    print(ssd_compare.as_text(comparison))
    try:
        import ssd_page  # late, as above
    except ImportError as error:
        note(f"compare.html is left out: {error}; {NEEDED}")
        return
    page, plots = ssd_page.compare_page(comparison)
    write_plots(output / "plots", plots)
    write_bytes(output / "compare.html", page)
    print(f"page {output / 'compare.html'}")


def parse_facts(pairs: list[str]) -> dict[str, str]:
    """Turn KEY=VALUE into a dict."""
    return dict(pair.split("=", 1) for pair in pairs)


def batch_sizes(text: str) -> list[int]:
    """Return the sizes of a list such as 1,16. Raises ValueError if it is not that."""
    return [int(size) for size in text.split(",")]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="RESULT", type=Path, help="a result folder")
    parser.add_argument("other", metavar="RESULT", type=Path, nargs="?", help="compare with this")
    ssd_coco.add_data_arguments(parser)
    parser.add_argument(
        "--fact", metavar="KEY=VALUE", action="append", default=[], help="a fact about the run"
    )
    parser.add_argument(
        "--batch_sizes",
        metavar="N,N",
        type=batch_sizes,
        default=[],
        help="those of the table (default: all that are found)",
    )
    parser.add_argument(
        "--score",
        type=float,
        default=MIN_SCORE,
        help="from which on a detection counts in confusion matrix and gallery "
        f"(default: {MIN_SCORE})",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="of a comparison (default: the first RESULT)"
    )
    parser.add_argument(
        "--print-best", action="store_true", help="print the batch size with the most fps, no more"
    )
    args = parser.parse_args(argv)
    if any("=" not in fact for fact in args.fact):
        parser.error("--fact wants KEY=VALUE")
    if not 0 <= args.score <= 1:
        parser.error("--score wants 0 to 1")
    if args.output and not args.other:
        parser.error("--output is for a comparison of two results")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.other:
        compare_runs((args.folder, args.other), args.batch_sizes, args.output or args.folder)
        return
    report = collect(args.folder, args.batch_sizes, parse_facts(args.fact))
    if args.print_best:
        print(report["rows"][report["best"]]["batch"])
        return
    data = ssd_coco.open_data(args) if args.data or args.annotation else None
    analysis = look_closely(report, args.folder, data, args.score)
    page = write_page(report, args.folder, data, analysis)
    write_json(args.folder / "report.json", report, indent=2)
    write_bytes(args.folder / "report.md", as_markdown(report).encode())
    print(f"{args.folder}: report.json, report.md")
    told = [(form, report["facts"].get(key)) for key, form in TOLD.items()]
    print(textwrap.fill(", ".join(form.format(fact) for form, fact in told if fact), WIDTH))
    print(ssd_table.as_text(COLUMNS, table(report)))
    if page:
        lacks = [one["what"] for one in report["lacks"]]
        print(f"page {page}" + (f" (without: {', '.join(lacks)}; it says why)" if lacks else ""))


if __name__ == "__main__":
    run_main(main)
