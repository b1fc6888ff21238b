#!/usr/bin/env python3
"""Turn the files of a result folder into a table, a report and an HTML page.

Reads RESULT/bsN_summary.json and bsN_perf_summary.json (inference and its timing, ais_bench's
form), bsN_result.json (scores) and bsN_detections.json; prints the table and writes report.json,
report.md, report.html and plots/*.png. With --data the page also has curves, classes, confusions
and images. Facts given with --fact are kept in report.json.
With two result folders it compares the second with the first: compare.json, compare.md,
compare.html, in the first folder unless --output names another; with --data it also shows the
images that changed. With more of them it writes history.json, history.md and history.html: what
changed from run to run, in the order in which they ended. With --ladder RESULT is the folder of
test/ssd_accuracy_ladder.sh: it writes ladder.html.

Example:
  python3 ssd_report.py result --data DATA/coco
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ssd import coco  # a copied script needs ssd/ beside it
from ssd.cli import ArgumentParser, fraction, note, run_main, sizes, working
from ssd.files import locked, write_bytes, write_json
from ssd.report import compare, history, ladder, table
from ssd.report.collect import collect

MIN_SCORE = 0.3  # least score of a detection that counts in the confusion matrix and the gallery
NEEDED = "install requirements-infer.txt"
SINGLE, PAIR, HISTORY = "a single RESULT", "a comparison of two", "a history of more"
LADDER, BEST = "--ladder", "--print-best"
DATA = ("--data", "--annotation", "--images", "--all-images", "--score")
TAKES = {  # what can be asked for, and the options that it takes
    SINGLE: (*DATA, "--batch_sizes", "--latency_limit", "--fact", "--matches", "--print-best"),
    PAIR: (*DATA, "--batch_sizes", "--output"),
    HISTORY: ("--batch_sizes", "--output"),
    BEST: ("--batch_sizes", "--latency_limit", "--print-best"),
    LADDER: ("--ladder",),
}


def write_page(
    report: dict[str, Any], folder: Path, data: coco.DataSet | None, analysis: Any
) -> Path | None:
    """Write report.html and plots/*.png; None, and a note, where their packages are missing."""
    try:
        # late: these imports take a second, and a card's host may not have the packages
        from ssd.report.gallery import read_gallery
        from ssd.report.page import report_page
    except ImportError as error:
        note(f"report.html and the plots are left out: {error}; {NEEDED}")
        return None
    images, shots = {}, {}
    if analysis:
        images, shots, unread = read_gallery(data, analysis)
        if unread:
            report["missing"].append({"what": "images", "details": unread})
    page, plots = report_page(report, images, shots)
    write_plots(folder / "plots", plots)
    write_bytes(folder / "report.html", page)
    return folder / "report.html"


def write_plots(folder: Path, plots: dict[str, bytes]) -> None:
    for name, png in plots.items():
        write_bytes(folder / f"{name}.png", png)


def compare_runs(args: argparse.Namespace, data: coco.DataSet | None) -> None:
    """Write compare.json, compare.md and compare.html, and print the short table."""
    folders = (args.folder, *args.others)
    reports = tuple(collect(folder, args.batch_sizes, {}) for folder in folders)
    comparison, images, sides = compare.compare(folders, reports), {}, []
    if data:
        from ssd.report import pair  # late: it takes a second, too

        images, sides = pair.read_and_compare(comparison, folders, reports, data, args.score)
    doubts = compare.warning_lines(comparison)
    show((args.output or args.folder) / "compare", compare, comparison, doubts, images, sides)


def show(path: Path, words: Any, made: dict[str, Any], doubts: list[str], *images: Any) -> None:
    """Write what was `made` as path.json, .md and .html, note the doubts, print the short table.

    words: the module that makes its texts. images: what the page shows of them.
    """
    write_json(path.with_suffix(".json"), made, indent=2)
    write_bytes(path.with_suffix(".md"), words.as_markdown(made).encode())
    for line in doubts:
        note(f"note: {line}")
    print(f"{path.parent}: {path.name}.json, {path.name}.md")
    print(words.as_text(made))
    write_made(path.with_suffix(".html"), made, *images)


def write_made(path: Path, *content: Any) -> None:
    """Write the page NAME.html that NAME_page of ssd.report.page makes, and its plots; name it.

    It is left out, and a note says so, where its packages are missing.
    """
    try:
        from ssd.report import page  # late, as in write_page
    except ImportError as error:
        note(f"{path.name} is left out: {error}; {NEEDED}")
        return
    made, plots = getattr(page, f"{path.stem}_page")(*content)
    write_plots(path.parent / "plots", plots)
    write_bytes(path, made)
    print(f"page {path}")


def show_history(args: argparse.Namespace) -> None:
    """Write history.json, history.md and history.html of three runs or more; print the table."""
    folders = [args.folder, *args.others]
    reports = [collect(folder, args.batch_sizes, {}) for folder in folders]
    made = history.make_history(folders, reports)
    show((args.output or args.folder) / "history", history, made, history.doubts(made))


def show_ladder(folder: Path) -> None:
    """Write ladder.html of what ssd_ladder.py left in a folder."""
    write_made(folder / "ladder.html", ladder.read_ladder(folder))


def parse_facts(pairs: list[str]) -> dict[str, str]:
    """Return the facts of a list of KEY=VALUE."""
    return dict(pair.split("=", 1) for pair in pairs)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", metavar="RESULT", type=Path, help="a result folder")
    parser.add_argument(
        "others", metavar="RESULT", type=Path, nargs="*", help="compare with this, or with these"
    )
    coco.add_data_arguments(parser)
    parser.add_argument(
        "--fact", metavar="KEY=VALUE", action="append", default=[], help="a fact about the run"
    )
    parser.add_argument(
        "--batch_sizes",
        metavar="N,N",
        type=sizes,
        default=[],
        help="batch sizes in the table (default: all that are found)",
    )
    parser.add_argument(
        "--latency_limit",
        metavar="MS",
        type=float,
        help="the best is the fastest batch size whose batches take no longer (p99, or the slowest "
        "of fewer than 200 runs)",
    )
    parser.add_argument(
        "--score",
        type=fraction,
        default=MIN_SCORE,
        help="least score of a detection that counts in confusion matrix and gallery "
        f"(default: {MIN_SCORE})",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="where a comparison is written (default: the first RESULT)",
    )
    parser.add_argument(
        "--matches",
        action="store_true",
        help="also write every match: matches.csv, and matches.json in COCO's form",
    )
    parser.add_argument(
        "--ladder", action="store_true", help="RESULT is the accuracy ladder's: write ladder.html"
    )
    parser.add_argument(
        "--print-best",
        action="store_true",
        help="print only the batch size with the highest throughput",
    )
    args = parser.parse_args(argv)
    if any("=" not in fact for fact in args.fact):
        parser.error("--fact wants KEY=VALUE")
    if args.latency_limit is not None and not args.latency_limit > 0:
        parser.error("--latency_limit wants milliseconds above 0")
    if args.ladder and args.others:
        parser.error("--ladder takes the ladder's folder alone")
    check_options(parser, args)
    return args


def check_options(parser: ArgumentParser, args: argparse.Namespace) -> None:
    """End with usage if an option is given that what is asked for would pass over."""

    def given(option: str) -> bool:
        name = option.removeprefix("--").replace("-", "_")
        return getattr(args, name) != parser.get_default(name)

    kinds = {LADDER: args.ladder, BEST: args.print_best and not args.others}
    kinds |= {HISTORY: len(args.others) > 1, PAIR: args.others, SINGLE: True}
    asked = next(kind for kind, is_asked in kinds.items() if is_asked)
    for option in filter(given, dict.fromkeys(o for options in TAKES.values() for o in options)):
        if option not in TAKES[asked]:
            takers = [kind for kind in TAKES if option in TAKES[kind] and kind != option]
            parser.error(f"{option} is for {' or '.join(takers)}, not for {asked}")
    if not (args.data or args.annotation):
        for option in filter(given, ("--images", "--all-images", "--score")):
            parser.error(f"{option} needs the data set: --data or --annotation")


def report_run(args: argparse.Namespace, data: coco.DataSet | None) -> None:
    """Write the report of one run, and print its table."""
    report = collect(args.folder, args.batch_sizes, parse_facts(args.fact), args.latency_limit)
    if args.print_best:
        print(report["rows"][report["best"]]["batch"])
        return
    from ssd.report.analysis import look_closely  # late: --print-best needs none of it

    with working("report"):
        analysis = look_closely(report, args.folder, data, args.score)
    write_json(args.folder / "report.json", report, indent=2)
    write_bytes(args.folder / "report.md", table.as_markdown(report).encode())
    print(f"{args.folder}: report.json, report.md")
    print(table.as_text(report))
    sys.stdout.flush()
    if args.matches:
        from ssd.report.export import write_matches  # late, too

        write_matches(args.folder, data, analysis)
    with working("page"):  # last, as drawing takes the most time and memory
        page = write_page(report, args.folder, data, analysis)
    if page:
        write_json(args.folder / "report.json", report, indent=2)  # with images it did not find
        missing = ", ".join(entry["what"] for entry in report["missing"])
        print(f"page {page}" + (f" (without {missing}; the page says why)" if missing else ""))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.ladder:
        show_ladder(args.folder)
        return
    data = coco.open_data(args) if args.data or args.annotation else None
    if args.others:
        show_history(args) if len(args.others) > 1 else compare_runs(args, data)
        return
    # what is no folder is not made by locking it
    with locked(args.folder) if args.folder.is_dir() else nullcontext():
        report_run(args, data)


if __name__ == "__main__":
    run_main(main)
