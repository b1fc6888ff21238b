"""Rows of results, one for each image, in Parquet files that appear whole or not at all."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssd.cli import KitError, progress
from ssd.files import atomic

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PART = 256  # images of a file at least; fewer in the last of a run
WORKER = "worker"  # column of rows on their way: host, process, when it was ready, engine; by tabs
SCHEMA = pa.schema(
    {
        "path": pa.string(),  # or URI
        "image_id": pa.int64(),  # null without a data set
        "width": pa.int32(),  # pixels; null if the image could not be read
        "height": pa.int32(),
        "boxes": pa.list_(pa.list_(pa.float32())),  # left, top, width, height in pixels
        "labels": pa.list_(pa.int32()),  # of the model, 1 is the first
        "category_ids": pa.list_(pa.int64()),
        "scores": pa.list_(pa.float32()),  # best first
        "error": pa.string(),  # null if all is well; the lists are empty otherwise
    }
)


def part_files(folder: Path) -> list[Path]:
    """Return the finished files, the oldest first; none without a folder."""
    return sorted(folder.glob("part-*.parquet"))


def read_parts(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """Return those columns of all finished rows. Raises KitError if a file is none of the kit's."""
    tables = [SCHEMA.empty_table().select(columns or SCHEMA.names)]
    for path in part_files(folder):
        try:
            tables.append(pq.ParquetFile(path).read(columns).select(tables[0].column_names))
        except (OSError, KeyError, pa.ArrowException) as error:
            raise KitError(f"{path}: not a file of rows ({error}); remove it") from None
    return pa.concat_tables(tables)


def without(images: pa.Table, done: pa.Table) -> pa.Table:
    """Return those images whose path is in no row of `done`."""
    return images.filter(pc.invert(pc.is_in(images["path"], done["path"])))


def within(images: pa.Table, done: pa.Table) -> pa.Table:
    """Return those rows of `done` that are of one of the images, and not of a former run's."""
    return done.filter(pc.is_in(done["path"], images["path"]))


class Writer:
    """Collects rows, and writes a file of at least PART as soon as they are there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.waiting, self.count = folder, [], 0
        numbers = [int(path.stem.partition("-")[2]) for path in part_files(folder)]
        self.next = max(numbers, default=-1) + 1

    def add(self, table: pa.Table) -> None:
        self.waiting.append(table.select(SCHEMA.names))
        self.count += len(table)
        if sum(map(len, self.waiting)) >= PART:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if not self.waiting:
            return
        with atomic(self.folder / f"part-{self.next:06}.parquet") as temporary:
            pq.write_table(pa.concat_tables(self.waiting), temporary)
        self.waiting.clear()
        self.next += 1


def collect(tables: Iterable[pa.Table], folder: Path, count: int) -> dict[str, Any]:
    """Write `count` rows, with WORKER, as they come; return what they say of the run.

    That is images_per_second, from when the first model was loaded, how many hosts and actors took
    part, and the engines. What came before an interruption is written.
    """
    writer, workers = Writer(folder), set()
    try:  # on a terminal Ray Data shows its own progress
        with progress(title="detection", total=count, disable=sys.stderr.isatty()) as bar:
            for table in tables:
                workers |= set(table[WORKER].unique().to_pylist())
                writer.add(table)
                bar.update(len(table))
    finally:
        writer.flush()
    hosts, _, ready, engines = zip(*(worker.split("\t") for worker in workers), strict=True)
    return {
        "images_per_second": writer.count / (time.time() - min(map(float, ready))),
        "hosts": len(set(hosts)),
        "actors": len(workers),
        "engines": sorted(set(engines)),
    }


def to_results(rows: pa.Table) -> list[dict[str, Any]]:
    """Return what was found in images with an id, in COCO's result form, in the order of `rows`."""
    return [
        {"image_id": row["image_id"], "category_id": category_id, "bbox": xywh, "score": score}
        for row in rows.to_pylist()
        for category_id, xywh, score in zip(
            row["category_ids"], row["boxes"], row["scores"], strict=True
        )
    ]
