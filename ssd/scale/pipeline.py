"""The pipeline: locations -> images (tasks) -> rows (actors, each with the model loaded once)."""

from collections.abc import Iterator

from ssd.cli import KitError
from ssd.engines.base import first_line
from ssd.scale.cluster import Share
from ssd.scale.rows import WORKER
from ssd.scale.tasks import FAILURE, PIXELS, Detect, Plan, read_images

import pyarrow as pa
import ray

BATCHES = 4  # of a block at most: what goes from task to task
BLOCKS = 4  # on their way to each actor, which bounds the memory


def block_size(images: int, batch: int, actors: int) -> int:
    """Return how many images go from task to task: whole batches, and work for every actor."""
    return batch * max(1, min(BATCHES, images // (2 * actors * batch)))


def run(table: pa.Table, plan: Plan, share: Share) -> Iterator[pa.Table]:
    """Run the pipeline over images (sources.SOURCE); yield rows as they come, with rows.WORKER.

    Hosts that are lost are made up for by the others. Raises KitError if an actor cannot run the
    model, or Ray cannot go on.
    """
    size = block_size(len(table), plan.batch, share.actors)
    context = ray.data.DataContext.get_current()
    context.execution_options.resource_limits = ray.data.ExecutionResources(
        object_store_memory=share.actors * BLOCKS * size * PIXELS.byte_width
    )
    arrow = {"batch_format": "pyarrow", "batch_size": None, "zero_copy_batch": True}
    blocks = [table.slice(start, size) for start in range(0, len(table), size)]
    images = ray.data.from_arrow(blocks).map_batches(
        read_images, fn_kwargs={"apply_exif": plan.apply_exif}, **arrow, **share.reader
    )
    found = images.map_batches(
        Detect,
        fn_constructor_args=(ray.put(plan), share.threads),
        compute=ray.data.ActorPoolStrategy(size=share.actors),
        **arrow,
        **share.model,
    )
    try:
        tables = found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for made in tables:
            if made[WORKER][0].as_py() == FAILURE:
                raise KitError(made["error"][0].as_py())
            yield made
    except ray.exceptions.RayTaskError:
        raise  # a mistake in what the tasks do
    except ray.exceptions.RayError as error:
        raise KitError(f"Ray: {first_line(error)}; what was done is kept, add --resume") from None
