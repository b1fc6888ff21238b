"""The search for what stays in float: candidates made, judged, and printed as a table."""

import importlib.util
import textwrap
import time
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from ssd.cli import KitError, note
from ssd.engines import open_engine
from ssd.engines.base import Engine
from ssd.onnx_graph import NETWORK
from ssd.quantize.images import read_image, spread
from ssd.quantize.judges import MapJudge, MatchJudge, Verdict
from ssd.quantize.quantizer import Quantizer, block_of

import numpy as np

TURNS, RUNS = 6, 3  # for the speed the models run in turn, RUNS times each
WIDTH = 80  # columns of the table
MIN_INT8 = 0.5  # share of the multiply-adds; with less there is little speed to gain
SEARCHED = 4  # images that sensitive blocks are found with


def has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


class Table:
    """Makes INT8 models, prints a line of each, and keeps what the lines say.

    Models are judged in ONNX Runtime; their speed is that in OpenVINO, too, where it is installed.
    """

    def __init__(self, quantizer: Quantizer, judge: MapJudge | MatchJudge, floats: Engine) -> None:
        self.quantizer, self.judge, self.floats = quantizer, judge, floats
        self.image = read_image(judge.paths[0], quantizer.dtype)[None]
        self.candidate = quantizer.scratch / "candidate.onnx"
        self.verdicts: list[Verdict] = []
        self.engines = ["onnxruntime", "openvino"] if has_openvino() else ["onnxruntime"]

    def print_line(
        self, int8: float, speeds: list[float], verdict: Verdict, skip: list[str]
    ) -> None:
        shown = f"{speeds[0]:8.2f}" + "".join(f"{speed:10.2f}" for speed in speeds[1:])
        figures = f"{100 * int8:5.0f} %{shown}{verdict.first:9.4f}{verdict.second:9.4f}  "
        text = textwrap.wrap(", ".join(skip), WIDTH - len(figures), break_on_hyphens=False)
        print(figures + ("\n" + " " * len(figures)).join(text), flush=True)

    def begin(self) -> None:
        print(f"{self.judge.title}; speed: times float32 in ONNX Runtime, batch 1")
        head = f"{'OpenVINO':>10}" if "openvino" in self.engines else ""
        head += "".join(f"{name:>9}" for name in self.judge.heads)
        print(f"{'INT8':>7}{'speed':>8}{head}  left in float")
        speeds = [1.0, *self.speeds(self.quantizer.single, self.engines[1:])]
        self.print_line(0, speeds, self.judge.reference, ["everything"])

    def speeds(self, path: Path, engines: list[str]) -> list[float]:
        """Return how many times as fast as float32 in ONNX Runtime a model is in each engine."""
        opened = [open_engine(path, engine=engine) for engine in engines]
        return time_ratios(self.floats, opened, self.image)

    def judge_in_openvino(self, skip: list[str]) -> None:
        """Print how the model whose nodes `skip` stay in float does in OpenVINO, if it is there.

        Its arithmetic is another.
        """
        if "openvino" in self.engines:
            self.quantizer.make(skip, self.candidate)
            found = self.judge.judge(open_engine(self.candidate, engine="openvino"))
            names = zip(self.judge.heads, found, strict=False)  # the verdict has one more
            print("in OpenVINO: " + ", ".join(f"{name} {value:.4f}" for name, value in names))

    def add(self, skip: list[str], names: list[str]) -> Verdict:
        """Judge the model whose nodes `skip` stay in float; `names` stand for them in the table."""
        self.quantizer.make(skip, self.candidate)
        verdict = self.judge.judge(open_engine(self.candidate))
        speeds = self.speeds(self.candidate, self.engines)
        self.print_line(self.quantizer.int8_share(skip), speeds, verdict, names or ["nothing"])
        self.verdicts.append(verdict)
        return verdict


def float_steps(sensitivity: dict[str, float], work: dict[str, int]) -> Iterator[list[str]]:
    """Yield blocks to leave in float: so many that half of the error goes, then half again, ...

    sensitivity, work: as `Quantizer.sensitivity` and `Quantizer.block_work` return them. Those
    blocks go first that add most error for their work, so that little speed is lost. The last step
    leaves one block in INT8.
    """
    order = sorted(sensitivity, key=lambda block: sensitivity[block] / max(work[block], 1))
    chosen: list[str] = []
    left = sum(sensitivity.values())
    while len(order) > 1 and left > 0:
        goal = left / 2
        while len(order) > 1 and left > goal:
            chosen.append(order.pop())
            left -= sensitivity[chosen[-1]]
        yield list(chosen)


def time_ratios(first: Engine, others: list[Engine], image: np.ndarray) -> list[float]:
    """Return how many times faster each of `others` is, by the medians of runs in turn."""
    if not others:
        return []
    seconds: list[list[float]] = [[] for _ in (first, *others)]
    for _ in range(TURNS):
        for engine, kept in zip((first, *others), seconds, strict=True):
            engine.run(image)  # not counted: the other's threads still look for work
            for _ in range(RUNS):
                start = time.perf_counter()
                engine.run(image)
                kept.append(time.perf_counter() - start)
    return [float(np.median(seconds[0]) / np.median(kept)) for kept in seconds[1:]]


def named_nodes(text: str, names: list[str]) -> list[str]:
    """Return the nodes that comma-joined names, blocks or globs of either mean.

    Raises KitError for one that means none.
    """
    found: set[str] = set()
    known = {name: (name, name.removeprefix(NETWORK), block_of(name)) for name in names}
    for pattern in filter(None, (part.strip() for part in text.split(","))):
        hits = {
            name
            for name, aliases in known.items()
            if any(fnmatchcase(alias, pattern) for alias in aliases)
        }
        if not hits:
            aliases = {alias for group in known.values() for alias in group}
            near = get_close_matches(pattern, aliases, 3)
            hint = f"did you mean {', '.join(near)}?" if near else f"such as {names[0]}"
            raise KitError(f"--skip {pattern}: no such node; {hint}")
        found |= hits
    return [name for name in names if name in found]


def choose(
    quantizer: Quantizer, table: Table, skip: str, named: list[str] | None, paths: list[Path]
) -> list[str]:
    """Judge candidates, print the table, return the nodes to leave in float.

    skip: what --skip says. named: the nodes that it names; None to search for them.
    """
    table.begin()
    nothing = table.add([], [])
    if named is None:
        return [] if nothing.good else search(quantizer, table, paths)
    if named:
        table.add(named, [part.strip() for part in skip.split(",")])
    return named


def search(quantizer: Quantizer, table: Table, paths: list[Path]) -> list[str]:
    """Leave more and more of the sensitive blocks in float, until a model is good.

    Then once fewer: half of what the last step added. If none is good, the best is taken.
    """
    tried: list[list[str]] = [[]]  # blocks; as long as table.verdicts
    sensitivity = quantizer.sensitivity(spread(paths, SEARCHED))
    for blocks in float_steps(sensitivity, quantizer.block_work()):
        nodes = quantizer.nodes_of(blocks)
        if quantizer.int8_share(nodes) < MIN_INT8:
            break
        if table.add(nodes, blocks).good:
            fewer = blocks[: (len(tried[-1]) + len(blocks)) // 2]
            if len(fewer) > len(tried[-1]) and table.add(quantizer.nodes_of(fewer), fewer).good:
                return quantizer.nodes_of(fewer)
            return nodes
        tried.append(blocks)
    note("note: none of them is good enough; the best is written; --skip takes more nodes")
    best = int(np.argmax([verdict.first for verdict in table.verdicts]))
    return quantizer.nodes_of(tried[best])
