"""The Pythons of Ascend's tools, which need not be the one that runs this.

atc loads the `python3` that is first on PATH into itself and imports CANN's operator compiler there
(TBE), which wants its own packages. ais_bench and aclruntime work in the Python that they were
installed for. The kit's own environment, .venv, has packages that CANN does not take.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ssd.ascend.toolkit import numbers, toolkit_version
from ssd.cli import KitError

VENV = Path(__file__).resolve().parents[2] / ".venv"  # of the kit, as the drivers make it
SYSTEM = Path("/usr/local")  # where guides of CANN have Python built: /usr/local/python3.7.5
MODULES = {  # what TBE imports, and how pip calls it
    **{name: name for name in ("decorator", "sympy", "cffi", "pathlib2", "psutil", "scipy")},
    **{"attr": "attrs", "Cython": "cython", "yaml": "pyyaml", "absl": "absl-py"},
    **{"google.protobuf": "protobuf==3.20", "requests": "requests", "numpy": "numpy"},
}
NEWEST = (((8, 0), "3.10"), ((8, 5), "3.11"), ((10,), "3.13"))  # Python for CANN before a version
NUMPY_2 = (9,)  # CANN before this takes numpy 1 alone
PROBE = """
import importlib.util, json, os, sys, sysconfig
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
def numpy():
    try:
        import numpy
        return numpy.__version__
    except ImportError:
        return ""
folders = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
name = sysconfig.get_config_var("INSTSONAME") or ""
shared = [f for f in folders if ".so" in name and os.path.exists(os.path.join(f, name))]
print(json.dumps({
    "version": list(sys.version_info[:3]), "numpy": numpy(), "library": (shared + [""])[0],
    "missing": [n for n in sys.argv[1:] if not has(n)],
}))
"""


def add_atc_argument(parser: argparse.ArgumentParser) -> None:
    """Add --atc_python, the Python that atc is to load."""
    parser.add_argument(
        "--atc_python",
        metavar="PATH",
        type=Path,
        help="Python that atc loads (default: the python3 on PATH outside the kit's .venv)",
    )


def outside_path() -> str:
    """Return PATH without the kit's own environment."""
    parts = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(part for part in parts if not part or Path(part) != VENV / "bin")


def candidates() -> list[Path]:
    """Return the Pythons that may have an inference tool: this one first, then where guides put it.

    After this one come .venv's, the python3 that was on PATH before it, and those of SYSTEM.
    """
    before = shutil.which("python3", path=outside_path())
    paths = [Path(sys.executable), VENV / "bin" / "python3", *map(Path, [before] if before else [])]
    paths += sorted(SYSTEM.glob("python3*/bin/python3"))
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def probe(python: Path, code: str, *words: str, env: dict[str, str] | None = None) -> Any:
    """Run code that prints JSON in another Python; None if that does not work."""
    command = [str(python), "-c", code, *words]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return json.loads(done.stdout.strip().splitlines()[-1])  # tools print lines of their own
    except (OSError, ValueError, IndexError):
        return None


def atc_environment(atc_python: Path | None) -> dict[str, str]:
    """Return atc's environment: without the kit's own, and with the Python that was named first.

    Raises KitError if that is none, or has another `python3` beside it: atc knows only that name.
    """
    env = os.environ | {"PATH": outside_path()}
    if Path(env.get("VIRTUAL_ENV", "/none")) == VENV:
        del env["VIRTUAL_ENV"]
    if not atc_python:
        return env
    beside = atc_python.absolute().parent / "python3"
    if not os.access(atc_python, os.X_OK) or not beside.exists():
        raise KitError(f"{atc_python}: no Python with python3 beside it; correct --atc_python")
    if beside.resolve() != atc_python.resolve():
        raise KitError(f"{atc_python}: {beside} is another one, which atc would take")
    found = probe(atc_python, PROBE, env=env)
    if not found:
        raise KitError(f"{atc_python}: does not run; correct --atc_python")
    env["PATH"] = os.pathsep.join([str(beside.parent), env["PATH"]])
    libraries = [found["library"], env.get("LD_LIBRARY_PATH")]
    env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    return env


def has_operator_compiler(env: dict[str, str]) -> bool:
    """Return whether CANN's TBE lies on PYTHONPATH, as set_env.sh puts it there."""
    return any((Path(p) / "tbe").is_dir() for p in env.get("PYTHONPATH", "").split(os.pathsep) if p)


def atc_faults(env: dict[str, str]) -> tuple[str, list[str], str]:
    """Return the Python that atc takes, with its version, what is wrong with it, and the remedy."""
    python = shutil.which("python3", path=env["PATH"])
    found = probe(Path(python), PROBE, *MODULES, env=env) if python else None
    if not found:
        return python or "no python3 on PATH", ["does not run"], "name one with --atc_python"
    version, cann = ".".join(map(str, found["version"])), toolkit_version()
    number = numbers(cann) or (0,)
    faults, install = [], [MODULES[name] for name in found["missing"]]
    if install:
        faults.append(f"lacks {', '.join(install)}")
    if found["numpy"] >= "2" and number < NUMPY_2:
        faults.append(f"numpy {found['numpy']} is too new for CANN {cann or 'up to 8.x'}")
        install.append("numpy")
    numpy = "'numpy>=1.19.2,<2'" if number < NUMPY_2 else "numpy"
    words = [numpy if name == "numpy" else name for name in install]
    remedy = f"{python} -m pip install {' '.join(words)}" if words else ""
    if words and Path(python).parent == Path(sys.prefix, "bin"):  # numpy 1 would break the kit
        remedy = "it is the kit's, which CANN does not take: name CANN's with --atc_python"
    newest = next((newest for before, newest in NEWEST if (0,) < number < before), version)
    if found["version"][:2] > [int(part) for part in newest.split(".")[:2]]:
        faults.append(f"CANN {cann} takes Python up to {newest}")
        remedy = "name an older one with --atc_python, with CANN's packages"
    if not found["library"]:
        faults.append("has no shared libpython, which atc loads")
        remedy = "name another one with --atc_python, with CANN's packages"
    return f"{python} ({version})", faults, remedy
