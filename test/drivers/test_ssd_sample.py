"""Tests of the driver ssd_sample.sh with a fake python3, in a copy of the kit's own folder."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from models import FAKE, ODD, ROOT, Kit


class SampleKit(Kit):
    """A copy of the drivers, whose .venv may be made; the fake python3 makes what stages leave."""

    def __init__(self, run_driver, folder):
        self.root, self.out = folder / "the ki;t", folder / ODD
        super().__init__(self.root / "test" / "ssd_sample.sh", run_driver, folder)
        (self.root / "test").mkdir(parents=True)
        for pattern, target in (
            ("test/*.sh", "test"),
            ("*requirements*.txt", ""),
            ("con*.txt", ""),
        ):
            for path in ROOT.glob(pattern):
                shutil.copy(path, self.root / target)
        self.annotation = f"{self.out}/result/bbox_only_instances_val2017.json"

    def run(self, *args, rules=(), **env):
        models = [f"{self.out}/models/ssd_bs{n}.onnx" for n in (1, 4, 16)]
        sample = [f"{self.out}/models/sample.pt", f"{self.out}/coco/x"]
        known = [
            *rules,
            {"if": ["--print_dtype"], "print": "float32\n"},
            {"if": ["ssd_sample.py"], "write": dict.fromkeys(sample, "x")},
            {"if": ["ssd_pth2onnx.py"], "write": dict.fromkeys(models, "")},
            {"if": ["prepare-json.py"], "write": {self.annotation: "{}"}},
        ]
        env = {"VIRTUAL_ENV": "", "CONDA_PREFIX": ""} | env
        return super().run(f"--output={self.out}", *args, rules=known, **env)

    def stages(self):
        """Return what ran after the set-up, without folders."""
        return [Path(call[0]).name for call in self.calls() if call[0] != "-m"]

    def install(self):
        requirements, constraints = self.root / "requirements.txt", self.root / "constraints.txt"
        quiet = ["--quiet", "--disable-pip-version-check"]
        command = ["-m", "pip", "install", *quiet, "-r", str(requirements)]
        return [*command, "-c", str(constraints)]


@pytest.fixture
def kit(run_driver, tmp_path):
    return SampleKit(run_driver, tmp_path)


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
    assert [call[1] for call in exports] == [f"--pth_path={kit.out}/models/sample.pt"] * 2
    assert [call[-1] for call in exports] == [f"{kit.out}/models/ssd_bs{n}.onnx" for n in (1, 4)]
    (check,) = (call for call in calls if "--print_dtype" in call)
    assert check[1:4] == [
        f"--models={kit.out}/models",
        "--engine=onnxruntime",
        f"--data_path={kit.out}",
    ]
    report = calls[-1]
    assert report[1] == f"{kit.out}/result"
    assert report[2:5] == [f"--data_path={kit.out}", "--annotation", kit.annotation]
    numbers = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert [line.split()[0] for line in numbers] == [f"[{n}/13]" for n in range(1, 14)]


def test_an_environment_that_was_left_half_made_is_made_again(kit):
    venv = kit.root / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "left").write_text("")
    shutil.copy(FAKE / "fake.py", venv / "bin" / "fake.py")
    shutil.copy(FAKE / "python3", venv / "bin" / "python3")
    no_pip = {"if": ["pip", "--version"], "status": 1}
    made = {"if": ["venv", str(venv)], "write": {str(venv / "bin" / "note"): ""}}
    done = kit.run("--batch_sizes=1", rules=[no_pip, made])
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"ssd_sample.sh: making {venv}"
    assert kit.calls()[:3] == [
        ["-m", "pip", "--version"],
        ["-m", "venv", str(venv)],
        kit.install(),
    ]
    assert not (venv / "left").exists()


def test_packages_are_set_up_by_one_run_at_a_time(kit, active):
    handle = os.open(kit.root, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    done = kit.run("--batch_sizes=1", **active)
    os.close(handle)
    line = f"{kit.root}: another run is setting up its packages; wait for that"
    assert (done.returncode, done.stderr) == (1, f"ssd_sample.sh: error: {line}\n")
    assert not any("venv" in call or "install" in call for call in kit.calls())
    assert kit.run("--batch_sizes=1", **active).returncode == 0


@pytest.mark.parametrize("words", [["venv"], ["pip", "install"]])
def test_a_signal_ends_the_set_up_at_once(kit, words, tmp_path):
    rule = {"if": words, "pid": str(tmp_path / "pid"), "seconds": 600}
    process = kit.start(rules=[rule], VIRTUAL_ENV="", CONDA_PREFIX="")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


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
    done = kit.run("--batch_sizes=1", **{name: str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert kit.calls()[0] == kit.install()
    assert not (kit.root / ".venv").exists()


@pytest.mark.parametrize("module", ["tbe", "aclruntime.cpython-39-x86_64-linux-gnu.so"])
def test_an_active_environment_of_canns_is_left_alone(kit, tmp_path, module):
    (tmp_path / "lib" / "python3.9" / "site-packages" / module).mkdir(parents=True)
    venv = kit.root / ".venv"
    made = {"if": ["venv", str(venv)], "write": {str(venv / "bin" / "note"): ""}}
    done = kit.run("--batch_sizes=1", rules=[made], VIRTUAL_ENV=str(tmp_path))
    assert done.returncode == 0, done.stderr
    reason = f"{tmp_path} holds CANN's modules, which the kit's packages would break: using {venv}"
    assert reason in done.stderr.splitlines()[0]
    assert kit.calls()[0] == ["-m", "venv", str(venv)]


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt", "requirements-infer.txt"])
def test_changed_requirements_are_installed_anew(kit, active, name):
    kit.run("--batch_sizes=1", **active)
    with (kit.root / name).open("a") as file:
        file.write("\nnew\n")
    kit.run("--batch_sizes=1", **active)
    assert kit.calls()[0] == kit.install()


def test_a_sample_that_is_there_is_kept(kit, active):
    kit.run("--batch_sizes=1", **active)
    done = kit.run("--batch_sizes=1", **active)
    assert kit.stages()[0] == "ssd_pth2onnx.py"
    assert done.stderr.splitlines()[0] == "[1/9] sample (there already)"


def test_an_empty_file_is_no_sample(kit, active):
    kit.run("--batch_sizes=1", **active)
    for path in kit.out.rglob("sample.pt"):
        path.write_bytes(b"")
    done = kit.run("--batch_sizes=1", **active)
    assert kit.stages()[0] == "ssd_sample.py"
    assert done.stderr.splitlines()[0] == "[1/9] sample"


def test_without_options_batch_1_and_16_are_run(kit, active):
    done = kit.run(**active)
    assert done.returncode == 0, done.stderr
    assert "--batch_sizes=1,16" in kit.calls()[-1]


@pytest.mark.parametrize(
    ("words", "stages", "message"),
    [
        (["pip"], 0, "cannot install {root}/requirements.txt (see above)"),
        (["ssd_sample.py"], 1, "stage 'sample' failed"),
        (["ssd_pth2onnx.py"], 2, "stage 'export, batch 1' failed"),
        (["ssd_postprocess.py", "bs1"], 8, "stage 'scoring, batch 1' failed"),
    ],
)
def test_a_failure_stops_the_run_with_its_status(kit, active, words, stages, message):
    done = kit.run("--batch_sizes=1", rules=[{"if": words, "status": 3}], **active)
    assert done.returncode == 3
    assert message.format(root=kit.root) in done.stderr.splitlines()[-1]
    assert len(kit.stages()) == stages
    assert "success" not in done.stdout


def test_a_failed_installation_is_tried_again(kit, active):
    kit.run(rules=[{"if": ["pip"], "status": 1}], **active)
    kit.run(**active)
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
