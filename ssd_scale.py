#!/usr/bin/env python3
"""Run a model over any number of images, on this machine or on a cluster, through Ray Data.

Reads a folder, a pattern, a list, a data set or an object store; writes a row for each image with
the boxes, labels and scores found in it, or what is wrong with it, to OUTPUT/rows/*.parquet, and
the run's figures to OUTPUT/summary.json. With --data the detections are also scored. A host that is
lost is made up for by the others, and --resume goes on where a run was broken off.

Example:
  python3 ssd_scale.py --model ssd_bs16.onnx --images photos --output found
"""

import argparse
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ssd import __version__, coco  # a copied script needs ssd/ beside it
from ssd.ascend.om import batch_of, sidecar_path
from ssd.cli import (
    ArgumentParser,
    KitError,
    counted,
    fraction,
    note,
    positive,
    run_main,
)
from ssd.engines import add_engine_arguments, engine_of, model_sha256, open_engine
from ssd.engines.in_process import check_labels
from ssd.engines.job import batch_size
from ssd.files import (
    MARKER,
    RECORD,
    check_folder,
    claim_folder,
    digest,
    locked,
    sha256,
    write_json,
)

BATCH = 16  # of a model that takes any
ROWS = "rows"  # folder in --output


def actors(text: str) -> int | None:
    """Return the number of actors; None for `auto`."""
    return None if text == "auto" else positive(text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images",
        metavar="WHAT",
        help="folder (not those in it), quoted pattern, .txt with a path or URI a line, data set, "
        "or URI such as s3://bucket/folder; default: the images of --data",
    )
    parser.add_argument("--model", metavar="FILE", type=Path, required=True, help="to run")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="for the rows")
    parser.add_argument(
        "--address",
        metavar="auto|local",
        default="local",
        help="local (default): this machine; auto: the cluster of this host; or HOST:PORT",
    )
    parser.add_argument(
        "--batch",
        "--batchsize",
        metavar="N",
        type=positive,
        help=f"default: the model's, {BATCH} where it takes any",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=actors,
        help="actors that run the model; default: auto, one for each card, GPU or core",
    )
    parser.add_argument(
        "--score",
        metavar="S",
        type=fraction,
        default=0.05,
        help="least score, 0 to 1 (default: 0.05)",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="of .onnx and .pt (default: cpu)"
    )
    add_engine_arguments(parser)
    parser.add_argument(
        "--data", "--data_path", metavar="DIR", type=Path, help="score with this data set"
    )
    parser.add_argument(
        "--annotation", metavar="FILE", type=Path, help="COCO instances file of the data set"
    )
    parser.add_argument(
        "--all-images",
        action="store_true",
        help="of COCO's 2017 images also those without annotation",
    )
    parser.add_argument(
        "--apply-exif", action="store_true", help="turn images as their EXIF data says"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="go on with the images that have no row yet"
    )
    again.add_argument("--force", action="store_true", help="replace the rows of another run")
    args = parser.parse_args(argv)
    if not (args.images or args.data or args.annotation):
        parser.error("give --images or --data")
    return args


def check_packages() -> None:
    """Raise KitError unless the packages are there that only this stage needs."""
    missing = [name for name in ("ray", "pyarrow", "pandas") if find_spec(name) is None]
    if missing:
        raise KitError(f"needs Ray Data, without {missing[0]}; install requirements-scale.txt")


def find_images(args: argparse.Namespace) -> tuple[Any, coco.DataSet | None]:
    """Return the images to run (sources.SOURCE), and their data set if there is one.

    The data set is that of --data, or of --images itself. Raises KitError if there is no image.
    """
    from ssd.scale import sources

    if args.data or args.annotation:
        data = coco.read_data(args.data, args.annotation, all_images=args.all_images)
        return sources.data_table(data, args.images or str(data.image_folder)), data
    folder = coco.data_folder(Path(args.images))
    if (folder / coco.IMAGE_FOLDER).is_dir():
        data = coco.read_data(folder, all_images=True)
        return sources.data_table(data, str(data.image_folder)), data
    return sources.source_table(sources.list_images(args.images)), None


def check_model(args: argparse.Namespace, data: coco.DataSet | None) -> int:
    """Return the batch size. Raises KitError if the model fits neither engine nor data set.

    A .om is opened on the hosts with a card only.
    """
    if args.model.is_file() and args.model.suffix == ".om":
        its = batch_of(args.model)
    else:
        engine = open_engine(args.model, "cpu", args.engine, args.precision)
        its = engine.batch
        if data:
            check_labels(args.model, engine.labels, data)
    return batch_size(args.model, its, args.batch or (None if its else BATCH))


def record(args: argparse.Namespace, batch: int, data: coco.DataSet | None) -> dict[str, Any]:
    """Return what rows are made from and with, but for the images."""
    return {
        "kit": __version__,
        "model_sha256": model_sha256(args.model),
        "engine": args.engine,
        "device": args.device,
        "precision": args.precision,
        "batch": batch,
        "score": args.score,
        "categories": digest(coco.category_ids(data.instances).tolist()) if data else None,
        "annotation": sha256(data.annotation) if data else None,
        "apply_exif": args.apply_exif,
    }


def claim(args: argparse.Namespace, made_from: dict[str, Any]) -> Path:
    """Return the folder for the rows, cleared with --force.

    Raises KitError if rows lie there and neither --resume nor --force is given, or the run that
    they are of was another one.
    """
    folder = args.output / ROWS
    check_folder(args.output)
    if args.force and (args.output / MARKER).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        (args.output / RECORD).unlink(missing_ok=True)
    claim_folder(args.output, made_from, fixed=set(made_from))
    folder.mkdir(exist_ok=True)
    if any(folder.iterdir()) and not args.resume:
        raise KitError(f"{args.output}: holds rows; give --resume to go on, or --force")
    return folder


def score(args: argparse.Namespace, data: coco.DataSet, images: Any) -> None:
    """Score the rows of the images as ssd_postprocess.py does, and print its lines."""
    import ssd_postprocess
    from ssd.scale import rows

    place = {image["id"]: i for i, image in enumerate(data.selected)}
    results = rows.to_results(rows.within(images, rows.read_parts(args.output / ROWS)))
    found = sorted(results, key=lambda result: place[result["image_id"]])
    path = args.output / "detections.json"
    write_json(path, found)
    options = ["--annotation", str(data.annotation), "--score-only", str(path)]
    options += ["--output", str(args.output / "result.json")]
    ssd_postprocess.main(options + ["--all-images"] * args.all_images)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    check_packages()
    from ssd.scale import rows

    if args.engine == "auto" and args.model.is_file():
        args.engine = engine_of(args.model)
    images, data = find_images(args)
    batch = check_model(args, data)
    made_from = record(args, batch, data)
    with locked(args.output):
        folder = claim(args, made_from)
        todo = rows.without(images, rows.read_parts(folder, ["path"]))
        facts = detect(args, todo, data, batch, folder) if len(todo) else {}
        done = rows.within(images, rows.read_parts(folder, ["path", "error"]))
        left = len(rows.without(images, done))
        if left:
            raise KitError(f"{args.output}: {left} of {len(images)} images have no row; --resume")
        return report(args, data, images, done, facts | {"made_from": made_from})


def detect(
    args: argparse.Namespace, todo: Any, data: coco.DataSet | None, batch: int, folder: Path
) -> dict[str, Any]:
    """Run the model over the images that have no row yet; return what rows.collect does."""
    from ssd.scale import cluster, rows

    files = [path for path in (args.model, sidecar_path(args.model)) if path.is_file()]
    with cluster.connected(args.address):
        from ssd.scale import pipeline, tasks

        share = cluster.shares(args.engine, args.device, args.concurrency)
        plan = tasks.Plan(
            files={path.name: path.read_bytes() for path in files},
            engine=args.engine,
            precision=args.precision,
            device="npu" if args.engine == "ascend" else args.device,
            batch=batch,
            score=args.score,
            category_ids=coco.category_ids(data.instances) if data else None,
            apply_exif=args.apply_exif,
        )
        return rows.collect(pipeline.run(todo, plan, share), folder, len(todo))


def report(
    args: argparse.Namespace, data: Any, images: Any, done: Any, facts: dict[str, Any]
) -> int:
    """Print and write the figures of a run, and score it; return the exit status.

    done: path and error of the images' rows. facts: of rows.collect, {} if nothing was left to do.
    """
    errors = done["error"].drop_null().to_pylist()
    for error in errors[:5]:
        note(f"{Path(__file__).name}: error: {error}")
    counts = {"images": len(done), "errors": len(errors)}
    write_json(args.output / "summary.json", counts | facts, indent=2)
    for engine in facts.get("engines", []):
        print(f"engine {engine}")
    print(f"rows {args.output / ROWS}")
    line = f"{counted(len(done), 'image')}, {counted(len(errors), 'error')}"
    if "hosts" in facts:
        line += f", {facts['images_per_second']:.2f} images/s"
        line += "".join(f", {counted(facts[f'{noun}s'], noun)}" for noun in ("host", "actor"))
    print(line)
    if args.data or args.annotation:
        score(args, data, images)
    return 1 if errors else 0


if __name__ == "__main__":
    run_main(main)
