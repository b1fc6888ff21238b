"""The READMEs name every option, and every help has an example."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = [path.name for path in sorted(ROOT.glob("*.py")) if path.read_text().startswith("#!")]
DRIVERS = [
    f"ssd_{name}.sh" for name in ("pth2om", "eval_acc_perf", "sample", "doctor", "accuracy_ladder")
]


def help_of(name):
    command = (
        [sys.executable, ROOT / name] if name.endswith(".py") else ["bash", ROOT / "test" / name]
    )
    done = subprocess.run([*command, "--help"], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def skip_without_torch(name):
    if name in ("ssd_pth2onnx.py", "ssd_sample.py"):
        pytest.importorskip("torch")


@pytest.mark.parametrize("name", STAGES + DRIVERS)
def test_every_option_is_in_both_readmes(name):
    skip_without_torch(name)
    text = help_of(name)
    assert "Example:" in text
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - {"--help"}
    for readme in ("README.md", "README.zh-CN.md"):
        words = (ROOT / readme).read_text()
        missing = {option for option in options if option not in words}
        assert not missing, (readme, name)
        assert name in words
