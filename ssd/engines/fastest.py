"""Which engine and precision of this CPU runs a model fastest, and what each costs in mAP."""

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ssd import coco, tables
from ssd.cli import KitError, note, positive, seconds
from ssd.engines import open_engine
from ssd.engines.base import Engine
from ssd.engines.choice import find_model
from ssd.engines.timing import settle, time_pure
from ssd.files import scratch_folder

import numpy as np

SECONDS = 3.0  # that each way of running is timed
ROUNDS = 3  # in which they take turns, as a machine's speed drifts
SAME = 0.05  # a way this near to the fastest counts as fast; of those the first is taken
INT8 = "int8"  # variant of a model, and precision
QUANTIZED = b"QuantizeLinear"  # in an INT8 file; an inference host has no onnx to read one
COLUMNS: tables.Columns = {
    "engine": ("engine", -12, str),
    "precision": ("precision", -9, str),
    "model": ("model", -20, str),
    "fps": ("images/s", 9, "{:.3f}".format),
    "ratio": ("times", 6, "{:.2f}".format),
    "map": ("mAP", 8, tables.percent),
    "change": ("change", 8, lambda value: f"{100 * value:+.3f}"),
}


class Way(NamedTuple):
    """A way to run a model: an engine of ENGINES, the precision of its options, and the file."""

    engine: str
    precision: str
    model: Path

    def options(self) -> str:
        """Return what chooses it, for ssd_infer.py and the evaluation."""
        precision = f" --precision={self.precision}" if self.precision != "f32" else ""
        return f"--engine={self.engine}{precision} --model={self.model}"


def models_of(places: list[Path], batch: int, variant: str) -> list[Path]:
    """Return the model files to measure: of a folder that of a batch size, and its INT8 one.

    Raises KitError if one is missing.
    """
    found = []
    for place in places:
        found.append(find_model(place, batch, variant, "onnxruntime"))
        if place.is_dir() and not variant:
            try:
                found.append(find_model(place, batch, INT8, "onnxruntime"))
            except KitError as error:
                note(f"no INT8 model is measured: {error}")
    return list(dict.fromkeys(found))


def is_int8(model: Path) -> bool:
    return QUANTIZED in model.read_bytes()


def ways_of(models: list[Path]) -> list[Way]:
    """Return the ways to run those models on a CPU with what is installed here."""
    found = []
    for model in models:
        found.append(Way("onnxruntime", "f32", model))
        if importlib.util.find_spec("openvino"):
            kinds = (INT8,) if is_int8(model) else ("f32", "bf16")
            found += [Way("openvino", kind, model) for kind in kinds]
    return found


def open_ways(ways: list[Way]) -> dict[Way, Engine]:
    """Open the ways that this machine has; a note names each of the others."""
    opened = {}
    for way in ways:
        try:
            opened[way] = open_engine(way.model, "cpu", way.engine, way.precision)
        except KitError as error:
            note(f"{way.engine} {way.precision}: left out: {error}")
    if not opened:
        raise KitError("no engine runs any of the models (see above)")
    return opened


def speeds(opened: dict[Way, Engine], batch: int, duration: float) -> dict[Way, float]:
    """Return images/s of each way, by the median of its runs, which take turns with the others'."""
    runs: dict[Way, list[float]] = {way: [] for way in opened}
    for _ in range(ROUNDS):
        for way, engine in opened.items():
            settle(engine, engine.batch or batch, 1, duration / ROUNDS)
            runs[way] += time_pure(engine, engine.batch or batch, None, duration / ROUNDS)
    return {
        way: 1000 * (engine.batch or batch) / float(np.median(runs[way]))
        for way, engine in opened.items()
    }


def mean_ap(engine: Engine, data: coco.DataSet, batch: int, workers: int) -> float | None:
    """Return the mAP of a data set's selected images."""
    # late, as in `measure`: the doctor is to start without the packages that it looks for
    from ssd import coco_eval
    from ssd.engines.in_process import images_of, run_to_detections

    sources = list(zip(data.selected, images_of(data), strict=True))
    with scratch_folder(Path(tempfile.gettempdir()), "ssd_measure.", "TMPDIR") as folder:
        size = engine.batch or batch
        _, found, _ = run_to_detections(engine, sources, size, 1, data, folder, workers, True)
    ids = [image["id"] for image in data.selected]
    return coco_eval.score(data.instances, found, ids).stats["AP"]


def measure(
    models: list[Path], batch: int, duration: float, data: coco.DataSet | None, workers: int
) -> list[dict[str, Any]]:
    """Return a row of COLUMNS for each way to run the models here, in `ways_of`'s order.

    batch: of models that take any. data: what mAP is measured on, None for no mAP. `ratio` and
    `change` are held against the first row, in general float32 in ONNX Runtime.
    """
    opened = open_ways(ways_of(models))
    if data:
        from ssd.engines.in_process import check_labels

        for way, engine in opened.items():
            check_labels(way.model, engine.labels, data)
    found, rows = speeds(opened, batch, duration), []
    for way, engine in opened.items():
        value = mean_ap(engine, data, batch, workers) if data else None
        precision = INT8 if is_int8(way.model) else way.precision
        row = {"way": way, "engine": way.engine, "precision": precision, "model": way.model.name}
        row |= {"fps": found[way], "map": value}
        first = rows[0] if rows else row
        row["ratio"] = row["fps"] / first["fps"]
        known = value is not None and first["map"] is not None and rows
        rows.append(row | {"change": value - first["map"] if known else None})
    return rows


def choose_fastest(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fastest row; of those that are as fast but for the noise, the first."""
    most = max(row["fps"] for row in rows)
    return next(row for row in rows if row["fps"] >= (1 - SAME) * most)


def add_measure_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what --measure is told."""
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also measure which engine and precision of this CPU is the fastest and, with --data, "
        "what each costs in mAP",
    )
    parser.add_argument(
        "--fastest",
        action="store_true",
        help="only measure, and print engine, precision and variant, joined by colons",
    )
    parser.add_argument(
        "--model",
        "--models",
        metavar="PATH",
        type=Path,
        nargs="+",
        default=[Path()],
        help="what is measured: .onnx files, or folders with ssd_bsN models (default: .)",
    )
    parser.add_argument("--variant", default="", metavar="NAME", help="in a folder: ssd_bsN_NAME")
    parser.add_argument(
        "--batchsize", metavar="N", type=positive, default=1, help="batch size (default: 1)"
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=seconds,
        default=SECONDS,
        help=f"how long each is timed (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=positive,
        default=200,
        help="images that mAP is measured on (default: 200)",
    )
