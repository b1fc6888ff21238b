"""What workers do: read images, and find what is in them.

Between the two go bytes of 300x300 images, a quarter of the network's float32 input. Outputs are
decoded where they arise: those of an image are 3 MB, and what is found in it is a few kilobytes.
"""

import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssd import coco
from ssd.boxes import ltrb_to_xywh
from ssd.cli import KitError
from ssd.detections import decode_image
from ssd.engines import open_engine
from ssd.engines.base import Engine
from ssd.images import read_annotated, read_rgb, shrink, to_input
from ssd.scale import rows, sources
from ssd.tensors import INPUT_SHAPES, pad_batch

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:  # `cluster` says why
    from ray import ObjectRef

PIXELS = pa.binary(int(np.prod(INPUT_SHAPES["uint8"])))
FAILURE = "failure"  # in place of a worker: its row's error ends the run
NOT_FINITE = "NaN or infinite outputs; check the model's precision"


class Plan(NamedTuple):
    """What each actor does.

    files: of the model, by name, the model first. batch: its size. category_ids: of label 1, 2,
    ...; None: COCO's, where the number of labels fits, else the labels. score: least.
    """

    files: dict[str, bytes]
    engine: str
    precision: str
    device: str
    batch: int
    score: float
    category_ids: np.ndarray | None
    apply_exif: bool


def read_images(table: pa.Table, apply_exif: bool) -> pa.Table:
    """Read images at the network's size.

    table: as sources.SOURCE says. Adds `pixels`, (300, 300, 3) uint8 each, and `error`, null if all
    is well; where width and height were known they must be the image's.
    """
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong goes into the rows
    pixels = np.zeros((len(table), *INPUT_SHAPES["uint8"]), np.uint8)
    sizes, errors = [], []
    for i, row in enumerate(table.to_pylist()):
        size, error = (None, None), None
        try:
            file = sources.read_location(row["path"])
            path = row["path"] if file else Path(row["path"])
            if row["width"] is None:
                rgb = read_rgb(path, apply_exif, file)
            else:
                rgb = read_annotated(path, (row["width"], row["height"]), apply_exif, file)
            size, pixels[i] = rgb.size, shrink(rgb)
        except KitError as failure:
            error = str(failure)
        sizes.append(size)
        errors.append(error)
    data = pa.FixedSizeBinaryArray.from_buffers(PIXELS, len(table), [None, pa.py_buffer(pixels)])
    columns = {name: table[name] for name in ("path", "image_id")}
    for name, values in zip(("width", "height"), zip(*sizes, strict=True), strict=True):
        columns[name] = pa.array(values, pa.int32())
    return pa.table(columns | {"pixels": data, "error": pa.array(errors, pa.string())})


def pixels_of(table: pa.Table) -> np.ndarray:
    """Return the images of `read_images`: (N, 300, 300, 3) uint8, not copied."""
    array = table["pixels"].combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    values = np.frombuffer(array.buffers()[1], np.uint8)
    first = array.offset * PIXELS.byte_width
    return values[first : first + len(array) * PIXELS.byte_width].reshape(
        len(array), *INPUT_SHAPES["uint8"]
    )


class Detect:
    """An actor: the model, loaded once, and what it finds in each block of images.

    reference: to the Plan in the object store. threads: of the engine, on a CPU. A KitError is
    handed on as a row with the worker FAILURE, as Ray keeps of an actor's errors only the text.
    """

    def __init__(self, reference: "ObjectRef", threads: int | None) -> None:
        import ray

        self.plan = ray.get(reference)
        self.failure: KitError | None = None
        try:
            self.engine = self.load(threads)
            self.labels, self.ids = self.categories()
        except KitError as error:
            self.failure = error
            return
        node = ray.get_runtime_context().get_node_id()
        name = f"{self.engine.name}, {self.engine.provider}"
        self.worker = f"{node}\t{os.getpid()}\t{time.time()}\t{name}"

    def load(self, threads: int | None) -> Engine:
        """Return the engine with the model of the plan. Raises KitError if it cannot have it."""
        plan = self.plan
        with tempfile.TemporaryDirectory(prefix="ssd_model_") as folder:
            for name, data in plan.files.items():
                (Path(folder) / name).write_bytes(data)
            model = Path(folder) / next(iter(plan.files))
            # npu: card 0, as Ray shows an actor only its own
            return open_engine(model, plan.device, plan.engine, plan.precision, threads)

    def categories(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the model's labels 1, 2, ... and the category id of each: (labels - 1,) int64."""
        labels, ids = np.arange(1, self.engine.labels), self.plan.category_ids
        if ids is None:
            known = coco.category_ids({"categories": coco.COCO_CATEGORIES})
            ids = known if len(known) == len(labels) else labels
        if len(ids) != len(labels):
            raise KitError(
                f"{next(iter(self.plan.files))}: {self.engine.labels} labels, the data set has "
                f"{len(ids)} categories; give the annotation file of its training"
            )
        return labels, ids

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the rows of a block of `read_images`, and rows.WORKER."""
        try:
            if self.failure:
                raise self.failure
            made, worker = self.detect(table), self.worker
        except KitError as error:
            made, worker = [{"error": str(error)}], FAILURE
        result = pa.Table.from_pylist(made, rows.SCHEMA)
        return result.append_column(rows.WORKER, pa.array([worker] * len(result)))

    def detect(self, table: pa.Table) -> list[dict[str, Any]]:
        """Return the rows of a block. Raises KitError if the model cannot be run."""
        images, pixels = table.drop_columns(["pixels"]).to_pylist(), pixels_of(table)
        fine = [i for i, image in enumerate(images) if image["error"] is None]
        nothing: dict[str, Any] = {"boxes": [], "labels": [], "category_ids": [], "scores": []}
        made = [image | nothing for image in images]
        for start in range(0, len(fine), self.plan.batch):
            group = fine[start : start + self.plan.batch]
            inputs = [to_input(pixels[i], self.engine.dtype) for i in group]
            outputs = self.engine.run(pad_batch(inputs, self.plan.batch))
            for k, i in enumerate(group):
                made[i] |= self.find(images[i], [output[k] for output in outputs])
        return made

    def find(self, image: dict[str, Any], outputs: list[np.ndarray]) -> dict[str, Any]:
        """Return what was found in an image, as the columns of rows.SCHEMA."""
        found = decode_image(image | {"id": 0}, *outputs, self.labels)
        if found is None:
            return {"error": f"{image['path']}: {NOT_FINITE}"}
        found = found[found.score >= self.plan.score]
        return {
            "boxes": list(ltrb_to_xywh(found.ltrb)),
            "labels": found.category_id,
            "category_ids": self.ids[found.category_id - 1],
            "scores": found.score,
        }
