"""Tests of the driver ssd_sample.sh with a fake python3, in a copy of the kit's own folder.

Run: python -m pytest test/test_ssd_sample_sh.py
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "test" / "fake_python"
ODD = "wei rd;'\"$HOME é"  # a folder name that wants quoting


class Kit:
    """A copy of the drivers, whose .venv may be made, and a python3 that only logs."""

    def __init__(self, tmp_path):
        self.root = tmp_path / "the ki;t"
        self.log = tmp_path / "calls.json"
        self.out = tmp_path / ODD
        (self.root / "test").mkdir(parents=True)
        for pattern, folder in (
            ("test/*.sh", "test"),
            ("*requirements*.txt", ""),
            ("con*.txt", ""),
        ):
            for path in ROOT.glob(pattern):
                shutil.copy(path, self.root / folder)
        self.made = {"if": ["prepare-json.py"], "write": {self.annotation: "{}"}}
        self.models = {
            "if": ["ssd_pth2onnx.py"],
            "write": {f"{self.out}/models/ssd_bs{n}.onnx": "" for n in (1, 4, 16)},
        }

    @property
    def annotation(self):
        return f"{self.out}/result/bbox_only_instances_val2017.json"

    def run(self, *args, rules=(), env=None):
        dtype = {"if": ["--print_dtype"], "print": "float32\n"}
        sample = {"if": ["ssd_sample.py"], "write": {f"{self.out}/models/sample.pt": ""}}
        sample["write"][f"{self.out}/coco/x"] = ""
        known = [*rules, dtype, sample, self.models, self.made]
        base = {key: value for key, value in os.environ.items() if key != "CONDA_PREFIX"}
        base |= {"FAKE_LOG": str(self.log), "FAKE_REAL": sys.executable, "VIRTUAL_ENV": ""}
        base |= {"FAKE_RULES": json.dumps(known), "PATH": f"{FAKE}:/usr/bin:/bin"} | (env or {})
        script = self.root / "test" / "ssd_sample.sh"
        command = ["bash", str(script), f"--output={self.out}", *args]
        self.log.unlink(missing_ok=True)
        return subprocess.run(command, cwd="/", env=base, capture_output=True, text=True)

    def calls(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    def stages(self):
        """Return what ran after the set-up, without folders."""
        return [Path(call[0]).name for call in self.calls() if call[0] != "-m"]

    def install(self):
        requirements, constraints = self.root / "requirements.txt", self.root / "constraints.txt"
        quiet = ["--quiet", "--disable-pip-version-check"]
        command = ["-m", "pip", "install", *quiet, "-r", str(requirements)]
        return [*command, "-c", str(constraints)]


@pytest.fixture
def kit(tmp_path):
    return Kit(tmp_path)


@pytest.fixture
def active(tmp_path):
    folder = tmp_path / "an env"
    folder.mkdir()
    return {"VIRTUAL_ENV": str(folder)}


def test_a_newcomer_gets_an_environment_a_sample_models_and_a_table(kit):
    venv = kit.root / ".venv"
    made = {"if": ["venv", str(venv)], "write": {str(venv / "bin" / "note"): ""}}
    done = kit.run("--batch_sizes=1,4", rules=[made])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "success"
    calls = kit.calls()
    assert calls[:3] == [
        ["-m", "venv", str(venv)],
        kit.install(),
        [str(kit.root / "ssd_sample.py"), "--output", str(kit.out)],
    ]
    exports = [call for call in calls if "ssd_pth2onnx.py" in call[0]]
    checkpoint = ["--pth-path", f"{kit.out}/models/sample.pt"]
    assert [call[1:3] for call in exports] == [checkpoint] * 2
    assert [call[-1] for call in exports] == [f"{kit.out}/models/ssd_bs{n}.onnx" for n in (1, 4)]
    assert [call[2] for call in calls if "--print_dtype" in call] == [
        f"{kit.out}/models/ssd_bs{n}.onnx" for n in (1, 4)
    ]
    report = calls[-1]
    assert report[1] == f"{kit.out}/result"
    assert report[2:6] == ["--data", f"{kit.out}/coco", "--annotation", kit.annotation]
    assert "stage" not in done.stderr


def test_an_environment_that_is_there_is_not_made_or_filled_again(kit):
    venv = kit.root / ".venv"
    (venv / "bin").mkdir(parents=True)
    shutil.copy(FAKE / "python3", venv / "bin" / "python3")
    shutil.copy(FAKE / "fake.py", venv / "bin" / "fake.py")
    for count in (1, 0):
        assert kit.run("--batch_sizes=1").returncode == 0
        assert kit.calls().count(kit.install()) == count
        assert not any("venv" in call for call in kit.calls())


@pytest.mark.parametrize("name", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_active_environment_is_used(kit, tmp_path, name):
    done = kit.run("--batch_sizes=1", env={name: str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert kit.calls()[0] == kit.install()
    assert not (kit.root / ".venv").exists()


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt", "requirements-infer.txt"])
def test_changed_requirements_are_installed_anew(kit, active, name):
    kit.run("--batch_sizes=1", env=active)
    with (kit.root / name).open("a") as file:
        file.write("\nnew\n")
    kit.run("--batch_sizes=1", env=active)
    assert kit.calls()[0] == kit.install()


def test_a_sample_that_is_there_is_kept(kit, active):
    kit.run("--batch_sizes=1", env=active)
    kit.run("--batch_sizes=1", env=active)
    assert kit.stages()[0] == "ssd_pth2onnx.py"


def test_without_options_batch_1_and_16_are_run(kit, active):
    done = kit.run(env=active)
    assert done.returncode == 0, done.stderr
    assert kit.calls()[-1][-2:] == ["--batch_sizes", "1,16"]


@pytest.mark.parametrize(
    ("words", "stages", "message"),
    [
        (["pip"], 0, "stage 'install' failed"),
        (["ssd_sample.py"], 1, "stage 'sample' failed"),
        (["ssd_pth2onnx.py"], 2, "stage 'models' failed"),
        (["ssd_postprocess.py"], 7, "stage 'scoring, batch 1' failed"),
    ],
)
def test_a_failure_stops_the_run_with_its_status(kit, active, words, stages, message):
    done = kit.run("--batch_sizes=1", rules=[{"if": words, "status": 3}], env=active)
    assert done.returncode == 3
    assert message in done.stderr.splitlines()[-1]
    assert len(kit.stages()) == stages
    assert done.stdout.count("success") < 2  # the first is of the models


def test_a_failed_installation_is_tried_again(kit, active):
    kit.run(rules=[{"if": ["pip"], "status": 1}], env=active)
    kit.run(env=active)
    assert kit.calls()[0] == kit.install()


def test_an_environment_that_cannot_be_made_is_one_clear_line(kit):
    done = kit.run(rules=[{"if": ["venv"], "status": 1}])
    venv = kit.root / ".venv"
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last == f"ssd_sample.sh: error: cannot make {venv}; install python3-venv"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--nosuch", "unknown option --nosuch; see --help"),
        ("--batch_sizes=none", "--batch_sizes=none: give sizes such as 1,16"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2_before_any_work(kit, option, message):
    done = kit.run(option)
    assert (done.returncode, done.stderr) == (2, f"ssd_sample.sh: error: {message}\n")
    assert kit.calls() == []


def test_help_has_an_example_and_does_nothing(kit):
    done = kit.run("--help")
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("Example: bash test/ssd_sample.sh")
    assert kit.calls() == []
