"""The doctor tells what is there and what is not, and its status says whether a run can work."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import ssd_doctor

import pytest
from models import ROOT, RUNTIME, STANDIN


@pytest.fixture
def bare(tmp_path):
    """An environment without any toolchain, in which the driver leaves PATH as it is."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(tmp_path), "VIRTUAL_ENV": str(tmp_path), "AIS_INFER": ""}


@pytest.fixture
def run_doctor_driver(run_driver, bare, tmp_path):
    """Run the driver, with more environment."""

    def run(*args, **env):
        output = f"--output={tmp_path / 'not yet' / 'there'}"
        return run_driver("ssd_doctor.sh", output, *args, env=bare | env)

    return run


@pytest.fixture
def doctor(run_stage, bare, tmp_path):
    """Run the stage, with more environment."""

    def run(*args, **env):
        return run_stage("ssd_doctor.py", "--output", tmp_path, *args, env=bare | env)

    return run


@pytest.fixture
def ascend():
    """The environment with the stand-in in it."""
    path = f"{STANDIN}:{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"PATH": path, "PYTHONPATH": str(STANDIN)}


def lines(done, state):
    return [line for line in done.stdout.splitlines() if line.startswith(state)]


def test_a_machine_without_a_card_is_ready(run_doctor_driver, tiny_coco):
    done = run_doctor_driver(f"--data_path={tiny_coco.parent}")
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert told[-1] == "ready"
    assert not lines(done, "problem")
    version = ".".join(map(str, sys.version_info[:3]))
    assert f"ok       Python {version}" in told
    assert any("ONNX Runtime" in one and "CPUExecutionProvider" in one for one in told)
    assert "ok       no card (no npu-smi): ONNX Runtime runs the models" in told
    assert f"ok       {tiny_coco / 'val2017'}: all 4 images are there" in told
    assert all(line.split()[0] in ("ok", "warning", "problem") for line in told[:-1])


@pytest.mark.parametrize(
    ("cards", "state", "words"),
    [
        ("310P3:OK", "ok", "310P3, OK"),
        ("310:Alarm", "warning", "take another card"),
        ("310P3:OK:busy", "warning", "busy"),
        ("", "warning", "finds no card"),
    ],
)
def test_cards_are_told_with_their_state(cards, state, words, doctor, ascend):
    done = doctor(**ascend, STANDIN_CARDS=cards)
    assert any(words in line for line in lines(done, state)), done.stdout
    assert done.returncode == 0


def test_the_toolchain_is_told(doctor, ascend, tmp_path):
    home = tmp_path / "toolkit"
    home.mkdir()
    (home / "version.cfg").write_text("runtime_running_version=[8.0.0:8.0.RC1]\n")
    done = doctor(**ascend, ASCEND_TOOLKIT_HOME=str(home))
    assert f"ok       atc {STANDIN / 'atc'}; CANN 8.0.0" in done.stdout
    assert "ok       ais_bench 0.0.2" in done.stdout
    done = doctor(ASCEND_TOOLKIT_HOME=str(home))
    assert lines(done, "warning")[-2].endswith("source its set_env.sh")


def test_a_card_without_its_tool_is_a_warning(doctor, ascend):
    done = doctor(PATH=ascend["PATH"])
    assert any("ais_bench: not installed" in line for line in lines(done, "warning"))
    script = STANDIN / "ais_infer.py"
    env = {"PATH": ascend["PATH"], "PYTHONPATH": str(RUNTIME)}
    assert f"ok       {script}" in doctor("--ais_infer", script, **env).stdout


def test_a_tool_that_does_not_start_is_a_warning(doctor, ascend, tmp_path):
    (tmp_path / "aclruntime.py").write_text("raise ImportError('libascendcl.so: cannot open')")
    package = tmp_path / "ais_bench" / "infer"
    package.mkdir(parents=True)
    (package / "interface.py").write_text("import aclruntime\n")
    info = tmp_path / "ais_bench-0.0.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ais_bench\nVersion: 0.0.2\n")
    done = doctor(**ascend | {"PYTHONPATH": str(tmp_path)})
    (warning,) = [line for line in lines(done, "warning") if "aclruntime" in line]
    assert warning == (
        f"warning  {sys.executable}: aclruntime does not start there (ImportError: "
        "libascendcl.so: cannot open); source CANN's set_env.sh, install its wheel there, or name "
        "another Python with --tool_python"
    )
    assert done.returncode == 0


def test_a_tool_with_rules_and_another_python_are_told(doctor, ascend, tmp_path):
    told = "ais_bench 0.0.2; refuses letters, links, owners and modes of some paths"
    assert f"ok       {told}" in doctor(**ascend, STANDIN_EDITION="2025-12").stdout.splitlines()
    python = tmp_path / "python3"
    python.symlink_to(sys.executable)
    done = doctor("--tool_python", python, **ascend)
    assert f"ok       ais_bench 0.0.2, in {python}" in done.stdout.splitlines()


def test_a_broken_engine_is_a_problem_and_the_rest_is_told(run_doctor_driver, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise OSError('libfoo.so: cannot open')")
    done = run_doctor_driver(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    (problem,) = lines(done, "problem")
    assert problem.startswith("problem  ONNX Runtime: OSError: libfoo.so: cannot open; pip install")
    assert any("checkpoint" in line for line in lines(done, "warning"))
    assert done.stdout.splitlines()[-1] == "not ready: 1 to put right before a run"
    assert done.stderr == ""


def test_a_provider_that_is_only_listed_is_a_warning(monkeypatch):
    import onnxruntime

    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if listed[0] in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has that provider")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    states = [fact.state for fact in ssd_doctor.check_onnxruntime()]
    assert states == ["warning", "ok"]


def test_openvino_is_started_where_it_is(monkeypatch):
    openvino = pytest.importorskip("openvino")
    (fact,) = ssd_doctor.check_openvino()
    assert fact.state == "ok" and openvino.__version__.partition("-")[0] in fact.text
    assert "FP32" in fact.text

    def broken(*_):
        raise RuntimeError("no plugin\nmore")

    monkeypatch.setattr(openvino, "Core", broken)
    (fact,) = ssd_doctor.check_openvino()
    assert (fact.state, fact.text) == ("warning", "OpenVINO does not start: no plugin")


def test_openvino_is_not_missed(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    (fact,) = ssd_doctor.check_openvino()
    assert fact.state == "ok" and "optional" in fact.text


def test_old_and_missing_packages_are_problems(tmp_path, monkeypatch):
    (tmp_path / "r.txt").write_text("# why\nnumpy>=999.1\nno-such-package>=1.0\nnumpy>=1.2\n")
    monkeypatch.setattr(ssd_doctor, "REQUIREMENTS", tmp_path / "r.txt")
    facts = list(ssd_doctor.check_packages())
    assert [fact.state for fact in facts] == ["problem", "problem"]
    assert "older than 999.1" in facts[0].text
    assert facts[1].text == "no-such-package: not installed"


def test_it_starts_without_the_packages_that_it_looks_for():
    packages = ["cv2", "hotcoco", "matplotlib", "onnxruntime", "orjson", "PIL", "simplejpeg"]
    block = f"import sys; sys.modules.update(dict.fromkeys({packages}))"
    command = [sys.executable, "-c", f"{block}; import ssd_doctor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_onnxruntime_of_another_maker_counts(monkeypatch):
    def version(name):
        if name == "onnxruntime-cann":
            return "1.22.1"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(ssd_doctor.importlib.metadata, "version", version)
    assert ssd_doctor.installed_version("onnxruntime") == "1.22.1"
    assert ssd_doctor.installed_version("numpy") == ""


def test_versions_compare_by_number():
    assert ssd_doctor.numbers("1.9.2") < ssd_doctor.numbers("1.18")
    assert ssd_doctor.numbers("") < ssd_doctor.numbers("0.1")


def test_missing_images_and_files_are_problems(doctor, tiny_coco):
    next((tiny_coco / "val2017").glob("*9.jpg")).unlink()
    done = doctor("--data", tiny_coco)
    assert done.returncode == 1
    (problem,) = lines(done, "problem")
    assert "1 of 4 images missing" in problem
    (tiny_coco / "annotations" / "instances_val2017.json").write_text("{")
    done = doctor("--data", tiny_coco, "--pth-path", "/none.pt")
    assert "not JSON" in lines(done, "problem")[0]
    assert done.returncode == 1


def test_the_checkpoint_is_loaded(doctor, checkpoint, tmp_path):
    done = doctor("--pth-path", checkpoint)
    assert f"ok       {checkpoint}: SSD300-ResNet34, 3 labels" in done.stdout
    (tmp_path / "bad.pt").write_bytes(b"none")
    done = doctor("--pth-path", tmp_path / "bad.pt")
    assert "not a checkpoint" in lines(done, "problem")[0]


@pytest.mark.parametrize(
    ("free", "state", "words"),
    [
        (21_000_000_000, "ok", "files 20.1, files, uint8 16.0, in process 5.3"),
        (17_000_000_000, "problem", "room for: files, uint8; in process; in process, uint8"),
        (2_000_000_000, "problem", "room for: in process, uint8"),
        (1_000_000, "problem", "another --output"),
    ],
)
def test_the_disk_is_held_against_each_route(free, state, words, monkeypatch, tmp_path):
    # 4952 pictures: 1.08 MB or 0.27 MB in, 2.97 MB out
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    (fact,) = ssd_doctor.check_disk(tmp_path / "not" / "there", 4952, 81)
    assert fact.state == state
    assert words in fact.text + fact.remedy


def test_usage(run_doctor_driver):
    assert run_doctor_driver("--nonsense").returncode == 2
    assert "Example:" in run_doctor_driver("--help").stdout
