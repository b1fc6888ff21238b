"""The Python that atc loads: what it lacks is named before atc runs, and another can be named."""

import os
import sys

import pytest

STUBS = ("decorator", "sympy", "cffi", "attr", "yaml", "psutil", "scipy", "requests", "pathlib2")


@pytest.fixture
def cann(standin, tmp_path, monkeypatch):
    """A host with CANN sourced; return a function that makes a Python with the modules for it."""
    (tmp_path / "site" / "tbe").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("STANDIN_TBE", "1")

    def make(name, without=""):
        stubs, python = tmp_path / f"{name} stubs", tmp_path / name / "python3"
        for module in {*STUBS, "Cython", "absl", "numpy", "google/protobuf"} - {without}:
            (stubs / module).mkdir(parents=True)
            (stubs / module / "__init__.py").write_text("__version__ = '1.24.0'\n")
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{stubs}" exec {sys.executable} -S "$@"\n')
        python.chmod(0o755)
        return python

    return make


def test_what_atcs_python_lacks_is_named_before_and_explained_after(
    cann, convert, monkeypatch, tmp_path
):
    python = cann("broken", without="sympy")
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    chip = "--soc_version=Ascend310P3"
    done = convert(chip)
    assert done.returncode == 255
    note, error = done.stderr.splitlines()
    assert note.startswith(f"atc's Python, {python} (") and ": lacks sympy; " in note
    assert "No module named: atc's Python lacks what CANN needs; see " in error
    assert "(E40020: Failed to import Python module [ModuleNotFoundError: " in error
    assert not (tmp_path / "out" / "m.om").exists()
    done = convert(chip, f"--atc_python={cann('whole')}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lacks sympy" not in done.stderr and (tmp_path / "out" / "m.om").is_file()
    done = convert(chip, "--atc_python=/none/python3")
    assert done.returncode == 1 and "no Python with python3 beside it" in done.stderr
