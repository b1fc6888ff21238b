"""The benchmarks run; what they measure is no test's matter."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
from models import ROOT


@pytest.mark.slow
def test_the_stages_benchmark_prints_its_table(tiny_coco):
    pytest.importorskip("torchvision")
    command = [sys.executable, ROOT / "bench" / "bench_stages.py", "--data", tiny_coco]
    done = subprocess.run([*command, "--rounds", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["baseline", "s", "ours", "s", "ratio", "goal"]
    assert [line.split(",")[0] for line in lines] == ["preprocess", "decode", "decode"]


def test_kills_locks_and_full_disks_lose_nothing():
    """The short form of the command in docs/results.md."""
    command = [sys.executable, ROOT / "bench" / "chaos.py", "--moments", "1"]
    command += ["--only", "ssd_preprocess", "--ways", "main, TERM;child"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("ssd_preprocess")]
    assert len(rows) == 2 and all(" 1       0       0       0" in row for row in rows)
    assert done.stdout.count(": as it must") == 4


def test_the_memory_of_a_command_is_its_own(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    usage_of = importlib.import_module("child_usage").usage_of
    ballast = np.ones(200 << 20, np.uint8)  # of the process that asks
    small = usage_of([sys.executable, "-S", "-c", "print()"])
    large = usage_of([sys.executable, "-S", "-c", "bytearray(b'1') * (100 << 20)"])
    assert 0 < small["peak"] < 100e6 < large["peak"] < len(ballast)
    assert small["busy"] > 0 and small["wall"] > 0
    with pytest.raises(SystemExit, match="failed"):
        usage_of([sys.executable, "-S", "-c", "1 / 0"])


def test_what_surrounds_a_card_is_measured(coco_tiny):
    command = [sys.executable, ROOT / "bench" / "no_time.py", "--source", coco_tiny, "--count=32"]
    for options in (["--cores=1"], ["--images", "--input=uint8", "--output=float16"]):
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["found"] == 141 and found["wall"] > 0
