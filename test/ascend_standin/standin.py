#!/usr/bin/env python3
"""What every part of the stand-in for Huawei's toolchain shares: for tests, never for a card.

`atc`, `npu-smi`, `ais_infer.py` and the package `ais_bench` in this folder behave as the public
documentation of the real ones says, and compute with ONNX Runtime. Weights, float inputs (those
after AIPP too) and float outputs are rounded to float16, activations in between are float32. Put
this folder first on PATH and on PYTHONPATH, with a `python3` on PATH that has numpy, onnx and
onnxruntime. They are steered by environment variables:

STANDIN_CARDS     the chips of npu-smi, `NAME:HEALTH[:busy]` joined by commas, such as
                  `310P3:OK,310P3:Warning,310:OK:busy`; default `310P3:OK`; empty: no card at all.
STANDIN_CANN      version of CANN, default 7.0.0. From 8 on, errors carry a process id and a time
                  and a missing parser is EZ9010; from 8.5 on their code stands behind a title,
                  and Ascend310 is no longer a target.
STANDIN_TBE       if set, atc imports what the operator compiler needs in the python3 of PATH.
STANDIN_PYTHON    the Python that computes for atc, default the python3 of PATH.
STANDIN_EDITION   of ais_bench and ais_infer.py, whose version is always 0.0.2; default 2023-12:
                  2022-06 ais_infer.py names outputs `sample_id_N_output_K`;
                  2022-08 it names them after the inputs (its default);
                  2023-06 splits the input over devices always, names the folders `device0`, does
                          not know --divide_input, accepts writable models, does not know the
                          mode dymbatch, and has a run of blanks in a key of its summary;
                  2024-02 looks at every path: no letters but A-Z a-z 0-9 _ - / . (so no
                          `tensor([139]).bin`), no links, no other owner and group, nothing that
                          others may write, no output folder that others may read; needs
                          pkg_resources; writes times as (start, end);
                  2025-12 has these rules in another module, and needs no pkg_resources.
STANDIN_LOG       file to which every call of a program appends its argv as one line of JSON.
STANDIN_ATC_ERROR `CODE[@TEXT]`: atc fails with this code (E10001, EZ3003, ..., or SIGSEGV), with
                  `@TEXT` only if TEXT is in one of its arguments.
STANDIN_KILL_AFTER      N: ais_bench or ais_infer.py kills itself with SIGKILL once the outputs of
                  N batches are written; a process using InferSession, after N calls of infer.
STANDIN_CARD_LOST_AFTER N[@DEVICE]: the card vanishes after N batches; 0: it does not open.

`python3 standin.py FOLDER [VERSION]` makes FOLDER look like an installed ascend-toolkit.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

BANNER = "STAND-IN FOR TESTS: this is no Ascend tool and there is no card"
MAGIC = b"STANDIN om 1: for tests, not a model that a card could run\n"
HERE = Path(__file__).resolve().parent
_banner_shown = False


class Card(NamedTuple):
    """One chip of the machine: its name as npu-smi has it (`310P3`), health, and whether in use."""

    name: str
    health: str
    busy: bool


def show_banner() -> None:
    """Print, once in a process and before anything else, that this is a stand-in."""
    global _banner_shown
    if not _banner_shown:
        print(BANNER, flush=True)
        _banner_shown = True


def start(program: str, argv: list[str]) -> None:
    """Begin a program: its banner, and a line in STANDIN_LOG: `["atc", "--model=...", ...]`."""
    show_banner()
    log_call(program, *argv)


def cards() -> list[Card]:
    """Return the chips that STANDIN_CARDS names; the index is the device id."""
    found = []
    for entry in filter(None, os.environ.get("STANDIN_CARDS", "310P3:OK").split(",")):
        name, health, use = [*entry.split(":"), "", ""][:3]
        found.append(Card(name, health or "OK", use == "busy"))
    return found


def cann_version() -> str:
    """Return the CANN version that is played."""
    return os.environ.get("STANDIN_CANN") or "7.0.0"


def cann_at_least(major: int, minor: int = 0) -> bool:
    """Tell whether the CANN played is at least this one; `8.x` counts as 8.0."""
    numbers = [int(part) if part.isdigit() else 0 for part in cann_version().split(".")]
    return (*numbers, 0)[:2] >= (major, minor)


def edition() -> str:
    """Return the edition of the inference tool that is played; they compare as text."""
    return os.environ.get("STANDIN_EDITION") or "2023-12"


def is_2023() -> bool:
    """Tell whether the ais_bench of the middle of 2023 is played."""
    return edition() == "2023-06"


def has_rules() -> bool:
    """Tell whether the ais_bench is played that looks at letters, owners and modes of all paths."""
    return edition() >= "2024-02"


def log_call(*words: str) -> None:
    """Append a line to STANDIN_LOG: `["atc", "--model=...", ...]`."""
    log = os.environ.get("STANDIN_LOG")
    if log:
        with open(log, "a") as file:
            file.write(json.dumps(words) + "\n")


def kill_after() -> int | None:
    """Return after how many batches the process is to be killed, None for never."""
    value = os.environ.get("STANDIN_KILL_AFTER")
    return int(value) if value else None


def card_lost_after(device: int) -> int | None:
    """Return after how many batches this device vanishes, None for never."""
    count, _, which = os.environ.get("STANDIN_CARD_LOST_AFTER", "").partition("@")
    return int(count) if count and which in ("", str(device)) else None


def write_om(path: Path, header: dict[str, Any], onnx_bytes: bytes) -> None:
    """Write a stand-in .om: the magic line, the header as a line of JSON, the ONNX model.

    The header has `soc_version`, `cann`, `flags` (as given to atc), `batches` (the profiles of
    --dynamic_batch_size or None), `fp32` (whether the card would have to compute in float32),
    `aipp` (None or its settings) and `inputs` and `outputs`: name, shape, dtype, layout of each.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(MAGIC + json.dumps(header).encode() + b"\n" + onnx_bytes)


def read_om(path: str | Path) -> tuple[dict[str, Any], bytes]:
    """Read a stand-in .om: its header and the ONNX model. Raises ValueError if it is none."""
    with open(path, "rb") as file:
        if file.readline() != MAGIC:
            raise ValueError(f"{path} is no stand-in .om")
        return json.loads(file.readline()), file.read()


def make_toolkit(root: Path, version: str | None = None) -> Path:
    """Make `root` look like an installed ascend-toolkit; returns its set_env.sh.

    The script exports what the real one does and puts this folder on PATH and PYTHONPATH.
    """
    version = version or cann_version()
    latest = root / "latest"
    for arch in ("x86_64-linux", "aarch64-linux"):
        (latest / arch).mkdir(parents=True, exist_ok=True)
    info = f"package_name=Ascend-cann-toolkit\nversion={version}\narch=x86_64\nos=linux\n"
    (latest / "x86_64-linux" / "ascend_toolkit_install.info").write_text(info)
    (latest / "version.cfg").write_text(f"toolkit_running_version=[{version}:{version}]\n")
    script = root / "set_env.sh"
    script.write_text(
        f'export ASCEND_TOOLKIT_HOME="{latest}"\n'
        f'export ASCEND_HOME_PATH="{latest}"\n'
        f'export ASCEND_OPP_PATH="{latest}/opp"\n'
        f'export ASCEND_AICPU_PATH="{latest}"\n'
        f'export PATH="{HERE}:$PATH"\n'
        f'export PYTHONPATH="{HERE}:$PYTHONPATH"\n'
    )
    return script


if __name__ == "__main__":
    show_banner()
    print(make_toolkit(Path(sys.argv[1]).absolute(), *sys.argv[2:3]))
