#!/usr/bin/env python3
"""Time ssd_scale.py's pipeline: two hosts against one, one host against the bare engine, memory.

Hosts are Ray nodes on this machine, each tied to a core of its own. Two bare engines side by side
show what the machine itself gains by its second core. Rounds alternate and medians
are compared, as machines are shared and noisy; CPU seconds of all processes are compared too, which
others on the machine change less. Start-up counts nowhere. With --memory the images are run as
links, and memory (proportional set size of all processes) is printed as the run goes on.

Example:
  python3 bench/bench_scale.py --model ssd_bs16.onnx --images ../shared/coco_tiny/val2017
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[1]))

from ssd.engines import open_engine
from ssd.scale import cluster, janitor, rows, sources

import numpy as np

TICK = os.sysconf("SC_CLK_TCK")
PARTS = 10  # lines of --memory
HOST = {"num_cpus": 1, "object_store_memory": 256 << 20}


@contextmanager
def tied(core: int | None) -> Iterator[None]:
    """Let this process, and what it starts meanwhile, run on one core; None: as it is."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processes(folder: str) -> list[int]:
    return [os.getpid(), *janitor.processes(folder)]


def cpu_seconds(folder: str) -> float:
    """Return what all processes of the cluster, and this one, have had of the CPU."""
    total = 0
    for pid in processes(folder):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def megabytes(pids: list[int]) -> float:
    """Return the memory of processes; what several share is counted once."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def make_plan(args: argparse.Namespace) -> Any:
    from ssd.scale import tasks

    files = {args.model.name: args.model.read_bytes()}
    return tasks.Plan(files, "onnxruntime", "f32", "cpu", args.batch, 0.05, None, False)


def time_bare(args: argparse.Namespace, core: int = 0) -> tuple[float, float]:
    """Return images/s and CPU seconds an image of the engine alone on one core."""
    with tied(core):
        engine = open_engine(args.model, threads=1)
        batch = np.zeros((args.batch, *engine.shape), engine.dtype)
        engine.run(batch)
        start, busy = time.perf_counter(), time.process_time()
        loops = max(3, args.count // 4 // args.batch)
        for _ in range(loops):
            engine.run(batch)
        done = loops * args.batch
        return done / (time.perf_counter() - start), (time.process_time() - busy) / done


def time_two_bare(args: argparse.Namespace) -> tuple[float, float]:
    """Return images/s of two bare engines together, each in a process on a core of its own."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = list(pool.map(time_bare, [args, args], [0, 1]))
    return sum(speed for speed, _ in found), statistics.mean(busy for _, busy in found)


def time_hosts(args: argparse.Namespace, hosts: int, folder: str) -> tuple[float, float]:
    """Return images/s and CPU seconds an image, from when all actors have given something."""
    from ssd.scale import pipeline

    found = sources.list_images(args.images)
    names = [found[i % len(found)] for i in range(args.count * hosts)]
    share = cluster.Share(hosts, 1, {"num_cpus": 0.75}, {"num_cpus": 0.25})
    seen: set[str] = set()
    start = busy = done = 0
    for table in pipeline.run(sources.source_table(names), make_plan(args), share):
        done += len(table) if len(seen) == hosts else 0
        if len(seen) < hosts:
            seen |= set(table[rows.WORKER].unique().to_pylist())
            start, busy = time.perf_counter(), cpu_seconds(folder)
    return done / (time.perf_counter() - start), (cpu_seconds(folder) - busy) / done


def bench_speed(args: argparse.Namespace) -> None:
    os.environ |= {"RAY_worker_niceness": "0"}  # as the bare engine has it
    os.environ |= cluster.SETTINGS | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    with tempfile.TemporaryDirectory(prefix="ssd_ray_", dir="/tmp") as folder:
        os.environ |= {janitor.VARIABLE: folder, "RAY_TMPDIR": folder}
        Path(folder, "ray").mkdir()
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        import ray
        from ray.cluster_utils import Cluster

        with tied(0):
            first = HOST | {"include_dashboard": False}
            made = Cluster(initialize_head=True, head_node_args=first)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        found: dict[str, list[tuple[float, float]]] = {
            name: [] for name in ("bare", "two bare", "one", "two")
        }
        for _ in range(args.rounds):
            found["bare"].append(time_bare(args))
            found["two bare"].append(time_two_bare(args))
            found["one"].append(time_hosts(args, 1, folder))
            with tied(1):
                second = made.add_node(**HOST)
            found["two"].append(time_hosts(args, 2, folder))
            made.remove_node(second)
            for name, values in found.items():
                print(f"  {name}: {values[-1][0]:.2f} images/s", flush=True)
        ray.shutdown()
        made.shutdown()
        for pid in janitor.processes(folder):
            with suppress(OSError):
                os.kill(pid, 9)
    wall = {name: statistics.median(v for v, _ in values) for name, values in found.items()}
    busy = {name: statistics.median(v for _, v in values) for name, values in found.items()}
    ratio = statistics.median(
        two[0] / one[0] for two, one in zip(found["two"], found["one"], strict=True)
    )
    print(f"images/s: bare {wall['bare']:.2f}, one host {wall['one']:.2f}, two {wall['two']:.2f}")
    print(f"two hosts against one: {ratio:.2f} times the images/s (goal: 1.8)")
    print(f"two bare engines against one: {wall['two bare'] / wall['bare']:.2f} times")
    print(
        f"one host against the bare engine: {100 * (wall['bare'] / wall['one'] - 1):.1f} % longer"
    )
    print(f"CPU seconds an image: {100 * (busy['one'] / busy['bare'] - 1):.1f} % more (goal: 10)")


def watched(tables: Iterable[Any], count: int, out: TextIO) -> Iterator[Any]:
    """Hand tables on, and print the memory now and then."""
    folder, done, due, start = os.environ[janitor.VARIABLE], 0, 0.0, time.perf_counter()
    print("  images   all MB  this MB  images/s", file=out, flush=True)
    for table in tables:
        yield table
        done += len(table)
        if done >= due:
            due += count / PARTS
            whole, mine = megabytes(processes(folder)), megabytes([os.getpid()])
            speed = done / (time.perf_counter() - start)
            print(f"{done:8} {whole:8.0f} {mine:8.0f} {speed:9.1f}", file=out, flush=True)


def bench_memory(args: argparse.Namespace) -> None:
    found, out = sources.list_images(args.images), sys.stdout  # Ray's goes elsewhere
    with tempfile.TemporaryDirectory(prefix="ssd_links_") as links:
        for i in range(args.memory):
            (Path(links) / f"{i}.jpg").symlink_to(found[i % len(found)])
        table = sources.source_table(sources.list_images(links))
        with cluster.connected(cluster.LOCAL), tempfile.TemporaryDirectory() as made:
            from ssd.scale import pipeline

            share = cluster.shares("onnxruntime", "cpu", None)
            tables = watched(pipeline.run(table, make_plan(args), share), len(table), out)
            rows.collect(tables, Path(made), len(table))
            done = rows.read_parts(Path(made), ["path"])["path"]
            print(f"{len(done)} rows, {len(done.unique())} images of {len(table)}", file=out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="FILE", type=Path, required=True, help="an .onnx")
    parser.add_argument("--images", metavar="WHAT", required=True, help="as ssd_scale.py's")
    parser.add_argument("--batch", type=int, default=16, help="default: 16")
    parser.add_argument("--count", type=int, default=160, help="images of a host (default: 160)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--memory", metavar="N", type=int, help="run N links instead")
    args = parser.parse_args()
    bench_memory(args) if args.memory else bench_speed(args)


if __name__ == "__main__":
    main()
