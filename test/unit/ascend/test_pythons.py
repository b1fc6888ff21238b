"""The Pythons of Ascend's tools: which one atc gets, and what is missing in it."""

import json
import os
import sys
from pathlib import Path

from ssd.ascend import checks, pythons
from ssd.ascend.pythons import MODULES, VENV, atc_environment, atc_faults
from ssd.cli import KitError

import pytest

GOOD = {"version": [3, 9, 9], "numpy": "1.24.0", "library": "/opt/lib", "missing": []}


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Make a python3 that answers the probe, and put it first on PATH, behind the kit's .venv."""

    def make(folder="bin", **more):
        path = tmp_path / folder / "python3"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho a line of a tool\necho '{json.dumps(GOOD | more)}'\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{VENV / 'bin'}:{path.parent}:/usr/bin:/bin")
        return path

    monkeypatch.setattr(pythons, "toolkit_version", lambda: "7.0.0")
    return make


def test_atc_gets_the_python_before_the_kits_own(python, monkeypatch):
    path = python()
    monkeypatch.setenv("VIRTUAL_ENV", str(VENV))
    env = atc_environment(None)
    assert env["PATH"] == f"{path.parent}:/usr/bin:/bin" and "VIRTUAL_ENV" not in env
    assert atc_faults(env) == (f"{path} (3.9.9)", [], "")
    monkeypatch.setenv("VIRTUAL_ENV", "/mine")  # an environment of the user's stays
    assert atc_environment(None)["VIRTUAL_ENV"] == "/mine"


@pytest.mark.parametrize(
    ("cann", "found", "faults", "remedy"),
    [
        (
            *("7.0.0", {"missing": ["attr", "google.protobuf"]}),
            *(["lacks attrs, protobuf==3.20"], "{} -m pip install attrs protobuf==3.20"),
        ),
        (
            *("8.0.0", {"numpy": "2.1.0", "missing": ["cffi"]}),
            ["lacks cffi", "numpy 2.1.0 is too new for CANN 8.0.0"],
            "{} -m pip install cffi 'numpy>=1.19.2,<2'",
        ),
        (
            *("7.0.0", {"numpy": "", "missing": ["numpy"]}),
            *(["lacks numpy"], "{} -m pip install 'numpy>=1.19.2,<2'"),
        ),
        ("9.0.0", {"numpy": "2.1.0", "version": [3, 13, 1]}, [], ""),
        ("8.5.0", {"version": [3, 13, 1]}, [], ""),
        ("8.3.RC1", {"version": [3, 11, 4]}, [], ""),
        (
            *("8.3.RC1", {"version": [3, 12, 0]}, ["CANN 8.3.RC1 takes Python up to 3.11"]),
            "name an older one with --atc_python, with CANN's packages",
        ),
        (
            *("7.0.0", {"version": [3, 11, 0]}, ["CANN 7.0.0 takes Python up to 3.10"]),
            "name an older one with --atc_python, with CANN's packages",
        ),
        (None, {"version": [3, 14, 0]}, [], ""),
        (
            *("7.0.0", {"library": ""}, ["has no shared libpython, which atc loads"]),
            "name another one with --atc_python, with CANN's packages",
        ),
    ],
)
def test_what_a_python_lacks_is_named_with_one_command(
    cann, found, faults, remedy, python, monkeypatch
):
    path = python(**found)
    monkeypatch.setattr(pythons, "toolkit_version", lambda: cann)
    assert atc_faults(atc_environment(None))[1:] == (faults, remedy.format(path))


def test_the_kits_environment_is_never_filled_with_cann_packages(python, monkeypatch):
    path = python(numpy="2.4.6")
    monkeypatch.setattr(sys, "prefix", str(path.parents[1]))
    _, faults, remedy = atc_faults(atc_environment(None))
    assert faults and remedy.endswith("name CANN's with --atc_python") and "pip" not in remedy


def test_a_python_that_is_named_comes_first_with_its_library(python, monkeypatch):
    named, other = python("named"), python("other")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/cann")
    env = atc_environment(named)
    assert env["PATH"].split(":")[:2] == [str(named.parent), str(other.parent)]
    assert env["LD_LIBRARY_PATH"] == "/opt/lib:/cann"
    (named.parent / "python3.9").write_text("#!/bin/sh\n")
    (named.parent / "python3.9").chmod(0o755)
    with pytest.raises(KitError, match="python3.9: .*python3 is another one, which atc would take"):
        atc_environment(named.parent / "python3.9")
    with pytest.raises(KitError, match="none: no Python with python3 beside it"):
        atc_environment(named.parent / "none")
    named.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(KitError, match="does not run; correct --atc_python"):
        atc_environment(named)


def test_the_probe_says_the_truth_of_this_python():
    words = [*MODULES, "os", "no.such.module"]
    found = pythons.probe(Path(sys.executable), pythons.PROBE, *words)
    assert found["version"] == list(sys.version_info[:3])
    assert "no.such.module" in found["missing"] and "os" not in found["missing"]
    import numpy

    assert found["numpy"] == numpy.__version__ and "numpy" not in found["missing"]
    assert pythons.probe(Path("/none"), pythons.PROBE) is None


def test_the_doctor_checks_atcs_python_once_cann_is_sourced(python, tmp_path, monkeypatch):
    path = python(missing=["sympy"])
    (path.parent / "atc").write_text("#!/bin/sh\n")
    (path.parent / "atc").chmod(0o755)
    monkeypatch.setattr(checks.toolkit, "toolkit_version", lambda: "7.0.0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    _, fact = checks.check_toolkit(None)
    assert (fact.state, fact.remedy) == ("warning", "source its set_env.sh") and "tbe" in fact.text
    (tmp_path / "site" / "tbe").mkdir(parents=True)
    _, fact = checks.check_toolkit(None)
    assert fact.state == "warning" and fact.text == f"atc's Python, {path} (3.9.9): lacks sympy"
    assert fact.remedy == f"{path} -m pip install sympy"
    path.write_text(path.read_text().replace('["sympy"]', "[]"))
    assert list(checks.check_toolkit(None))[1].state == "ok"
    monkeypatch.setenv("PATH", str(path.parent))
    os.unlink(path)
    fact = list(checks.check_toolkit(None))[1]
    assert fact.text == "atc's Python, no python3 on PATH: does not run"
    assert (fact.state, fact.remedy) == ("warning", "name one with --atc_python")
