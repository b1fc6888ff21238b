"""Ascend's inference tools, ais_bench and the older ais_infer.py: find and run them."""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from ssd.ascend import pythons
from ssd.ascend.advice import MAX_WORDS, explain
from ssd.cli import KitError, note, working
from ssd.files import clear_folder, own_folder
from ssd.tensors import tensor_files, tensor_id, tensor_stem
from ssd.workers import run_processes

VERSION = "0.0.2"  # of the inference tool; 3.x of that name evaluates language models
RULES = ("ais_bench.infer.common.path_security_check", "ais_bench.infer.path_security_check")
LOOK = """
import importlib, json
def fault(name):
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a broken installation raises
        return type(error).__name__ + ": " + str(error)
    return ""
try:
    from importlib.metadata import version
except ImportError:  # Python 3.7
    from pkg_resources import get_distribution
    version = lambda name: get_distribution(name).version
try:
    found = version("ais_bench")
except Exception:
    found = None
rules = [name for name in {rules} if found and not fault(name)]
print(json.dumps({{
    "version": found, "tool": bool(found) and not fault("ais_bench.infer"), "rules": rules,
    "runtime": fault("aclruntime"), "resources": not fault("pkg_resources"),
}}))
"""
LOG_LINES = 5  # of a failed tool's log that are shown


class Tool(NamedTuple):
    """An inference tool. script: the path of ais_infer.py, None for the module ais_bench.

    python: that it runs in. rules: whether it looks at letters, owners and modes of paths.
    """

    script: Path | None = None
    python: Path = Path(sys.executable)
    rules: bool = False

    @property
    def name(self) -> str:
        return self.script.name if self.script else f"ais_bench {VERSION}"


def add_tool_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --ais_infer, the inference tool of hosts without ais_bench, and --tool_python."""
    parser.add_argument(
        "--ais_infer",
        metavar="PATH",
        type=Path,
        default=os.environ.get("AIS_INFER") or None,
        help="ais_infer.py of 2022 (default: $AIS_INFER), for hosts without ais_bench",
    )
    parser.add_argument(
        "--tool_python",
        metavar="PATH",
        type=Path,
        help="Python that has ais_bench and aclruntime (default: the first that has both)",
    )


def look(python: Path) -> dict[str, Any] | None:
    """Return what a Python has of the inference tool; None if it does not run.

    version: of the package ais_bench, tool: whether it is this tool. runtime: why aclruntime does
    not start. rules: modules with rules for paths. resources: whether it has pkg_resources.
    """
    return pythons.probe(python, LOOK.format(rules=RULES))


def find_tool(ais_infer: Path | None, tool_python: Path | None = None) -> Tool:
    """Return ais_bench, else ais_infer.py, in the first Python where it can run.

    tool_python: the only Python to look at. Raises KitError if neither is usable, and says what is
    missing where.
    """
    found: dict[Path, dict[str, Any]] = {}
    for path in [tool_python] if tool_python else pythons.candidates():
        has = look(path)  # starts it, and its aclruntime, which takes seconds
        if has and has["tool"] and not has["runtime"]:
            check_resources(path, has)
            return Tool(None, path, bool(has["rules"]))
        found |= {path: has} if has else {}
    if tool_python and not found:
        raise KitError(f"{tool_python}: no Python that runs; correct --tool_python")
    whole = [path for path, has in found.items() if not has["runtime"]]
    if ais_infer and not ais_infer.is_file():
        raise KitError(f"{ais_infer}: no such file; give --ais_infer the path of ais_infer.py")
    if ais_infer and whole:
        return Tool(ais_infer, whole[0])
    where = f" in {tool_python}" if tool_python else ""
    for path, has in found.items():
        if has["tool"] or ais_infer:
            raise KitError(
                f"{path}: aclruntime does not start there ({has['runtime'][:MAX_WORDS]}); source "
                "CANN's set_env.sh, install its wheel there, or name another Python with "
                "--tool_python"
            )
    for has in found.values():
        if has["version"]:
            raise KitError(
                f"ais_bench {has['version']}: another tool of that name; install {VERSION}"
            )
    raise KitError(f"ais_bench: not installed{where}; install {VERSION}, or give --ais_infer")


def check_resources(python: Path, has: dict[str, Any]) -> None:
    """Raise KitError for an edition of early 2024 without pkg_resources: it fails when it times."""
    if has["rules"] == [RULES[1]] and not has["resources"]:
        remedy = f"{python} -m pip install 'setuptools<81'"
        raise KitError(f"{python}: this ais_bench needs pkg_resources, which is missing; {remedy}")


def why_no_session(tool: Tool) -> str:
    """Return why ais_bench's Python interface does not start; empty if it does."""
    command = [str(tool.python), "-c", "import ais_bench.infer.interface"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines() or ["no output"]
    return lines[-1][:MAX_WORDS] if done.returncode else ""


def divides_inputs(tool: Tool) -> bool:
    """Return whether ais_bench must be asked to share inputs out: else every card runs all."""
    command = [str(tool.python), "-m", "ais_bench", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "divide_input" in done.stdout


def tool_command(
    tool: Tool, model: Path, batch: int, devices: str, output: Path, name: str, more: list[str]
) -> list[str]:
    """Return the tool's argv for a run into `output`/`name`; makes the folder that it wants.

    devices: such as `0,1`. more: options for inputs, outputs and loops.
    """
    command = [str(tool.python)]
    if tool.script:
        (output / name).mkdir(parents=True, exist_ok=True)  # the dated folder is made in it
        command += [str(tool.script), "--output", str(output / name)]
    else:
        command += ["-m", "ais_bench", "--output", str(output), "--output_dirname", name]
    command += ["--model", str(model), "--batchsize", str(batch)]
    return [*command, "--device", devices, *more]


def folder_of(paths: list[Path], links: Path, plain: bool = False) -> Path:
    """Return a folder with just these input files, which the tool takes as one.

    That is their own if there is nothing else in it to be run, else `links`, made with links to
    them: hard ones, as newer editions refuse others. plain: link them by image id alone, `139.bin`,
    as newer editions refuse brackets too. Raises KitError if they cannot be made.
    """
    folder = paths[0].parent
    if not plain and len(tensor_files(folder)) == len(paths):
        return folder
    clear_folder(links)
    own_folder(links)
    try:
        for path in paths:
            os.link(path, links / (f"{tensor_id(path)}{path.suffix}" if plain else path.name))
    except OSError as error:
        raise KitError(f"{links}: cannot link inputs: {error.strerror}; give --force") from None
    return links


def restore_plain(folder: Path) -> None:
    """Name the outputs of inputs that were linked by image id alone after the inputs themselves."""
    for path in folder.glob("**/*_[01].*"):
        if match := re.fullmatch(r"(\d+)(_\d\.\w+)", path.name):
            os.replace(path, path.with_name(tensor_stem(int(match[1])) + match[2]))


def run_tool(command: list[str], log: Path) -> float:
    """Run the tool, with its output in `log`, and return the seconds it took.

    Raises KitError if it fails, with the end of the log and what its error means.
    """
    note(" ".join(map(shlex.quote, command)))
    start = time.perf_counter()
    with log.open("w") as file, working("inference on the card"):
        (status,) = run_processes([command], stdout=file, stderr=subprocess.STDOUT)
    if status:
        text = log.read_text(errors="replace")
        note("\n".join(text.splitlines()[-LOG_LINES:]))
        how = f"was killed by signal {-status}" if status < 0 else "failed"
        raise KitError(f"{log}: the inference tool {how}: {explain(text)}")
    return time.perf_counter() - start
