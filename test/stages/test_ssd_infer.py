"""The command line of ssd_infer.py: what it writes, keeps and refuses, by both routes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from models import save_colors, write_color_data


def listed(folder):
    return sorted(path.name for path in folder.glob("tensor*"))


def test_outputs_are_those_of_the_model_in_files_named_as_the_inputs(
    infer, inputs, light_onnx, tmp_path
):
    done = infer()
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "out" / "bs2"
    session = onnxruntime.InferenceSession(str(light_onnx), providers=["CPUExecutionProvider"])
    paths = [path for path in inputs.iterdir() if path.suffix == ".bin"]
    assert len(paths) == 4 and len(listed(folder)) == 8
    for path in paths:
        image = np.fromfile(path, np.float32).reshape(1, 3, 300, 300)
        for k, expected in enumerate(session.run(None, {"image": image})):
            assert (folder / f"{path.stem}_{k}.bin").read_bytes() == expected.tobytes()
    summary = json.loads((tmp_path / "out" / "bs2_summary.json").read_text())
    assert len(summary["npu_compute_time_list"]) == 2
    times = summary["NPU_compute_time"]
    assert summary["throughput"] == pytest.approx(2000 / times["mean"])
    assert len(summary["filesinfo"]) == 4  # an entry for each input, as ais_bench has it
    files = summary["filesinfo"]["2"]
    assert [Path(name).name for name in files["infiles"]] == ["tensor([269]).bin"]
    names = ["tensor([269])_0.bin", "tensor([269])_1.bin"]
    assert [Path(name).name for name in files["outfiles"]] == names
    assert all(Path(name).is_file() for name in files["infiles"] + files["outfiles"])
    lines = done.stdout.splitlines()
    assert lines[0].startswith("engine onnxruntime ")
    assert lines[1] == f"summary {tmp_path}/out/bs2_summary.json"
    assert lines[2].endswith(" of 2 runs") and "4 images" in lines[4]


def test_npy_files_hold_the_same(infer, tmp_path):
    assert infer().returncode == 0
    assert infer("--outfmt", "NPY", name="npy").returncode == 0
    for path in (tmp_path / "out" / "npy").glob("tensor*"):
        array = np.load(path)
        assert array.shape[::2] == (1, 8732) and array.dtype == np.float32
        assert array.tobytes() == (tmp_path / "out" / "bs2" / f"{path.stem}.bin").read_bytes()


def test_options_are_read_with_a_dash_or_an_underscore(run_stage, inputs, light_onnx, tmp_path):
    given = [f"--models={light_onnx}", f"--input={inputs}", f"--output={tmp_path}/out"]
    done = run_stage("ssd_infer.py", *given, "--output-dirname=x", "--warmup-count=0")
    assert done.returncode == 0, done.stderr
    assert len(listed(tmp_path / "out" / "x")) == 8


def test_the_same_command_goes_on_with_what_is_missing(infer, tmp_path):
    assert infer().returncode == 0
    folder = tmp_path / "out" / "bs2"
    before = {path: path.read_bytes() for path in folder.glob("tensor*")}
    (folder / "tensor([9])_1.bin").unlink()
    done = infer()
    assert done.returncode == 0 and "1 images" in done.stdout.splitlines()[-1]
    assert before == {path: path.read_bytes() for path in folder.glob("tensor*")}
    done = infer()
    assert done.stderr == f"{folder}: kept, it is of the same model and inputs\n"


def test_another_run_in_the_folder_is_refused_and_forced(infer, refused, tmp_path):
    assert infer().returncode == 0
    colors = save_colors(tmp_path / "colors.onnx")
    more = ["--batchsize", 1]
    refused(infer(*more, model=colors), "bs2: holds a run that differs in model; give another")
    assert infer(*more, "--force", model=colors).returncode == 0


def test_a_run_is_held_against_a_second_one(infer, refused, tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    refused(infer(), f"{tmp_path}/out: another run is using it; wait for that")
    driver = {"SSD_LOCK": str((tmp_path / "out").resolve())}  # which holds it for its stages
    assert infer(env=driver).returncode == 0
    os.close(handle)


@pytest.mark.parametrize("workers", [1, 2])
def test_in_process_gives_the_detections_of_files_byte_for_byte(
    workers, infer, tiny_coco, run_stage, tmp_path
):
    assert infer().returncode == 0
    given = ["--data", tiny_coco, "--bin-input", tmp_path / "out" / "bs2"]
    where = ["--output", tmp_path / "r.json", "--detections", tmp_path / "d.json"]
    assert run_stage("ssd_postprocess.py", *given, *where, "--workers", workers).returncode == 0
    more = ["--in_process", "--data", tiny_coco, "--workers", workers]
    done = infer(*more, name="direct")
    assert (done.returncode, done.stderr) == (0, "")
    found = (tmp_path / "out" / "direct_detections.json").read_bytes()
    assert found == (tmp_path / "d.json").read_bytes() and len(json.loads(found)) > 4
    assert listed(tmp_path / "out" / "direct") == []
    given[-1] = tmp_path / "out" / "direct"
    where = ["--output", tmp_path / "s.json", "--detections", tmp_path / "e.json"]
    assert run_stage("ssd_postprocess.py", *given, *where).returncode == 0
    stats = [json.loads((tmp_path / name).read_text())["stats"] for name in ("r.json", "s.json")]
    assert stats[0] == stats[1]
    assert (tmp_path / "e.json").read_bytes() == found
    path = tmp_path / "out" / "direct_detections.json"
    path.write_bytes(found.replace(b'"score":0', b'"score":1', 1))  # not what the model found
    done = run_stage("ssd_postprocess.py", *given, "--output", tmp_path / "t.json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{path}: not the detections that the inference left" in done.stderr
    assert infer(*more, name="direct").returncode == 0  # made again
    assert path.read_bytes() == found


def test_in_process_without_its_needs_is_refused(infer, refused, run_stage, light_onnx, five_coco):
    refused(
        infer("--in_process"), "--in_process: needs the data set of the inputs; give --data DIR"
    )
    more = ["--in_process", "--data", five_coco]
    refused(infer(*more), "no input for 1 of 5 images (tensor([399])); make them with")
    done = run_stage("ssd_infer.py", "--model", light_onnx, "--in_process")
    assert done.returncode == 2 and "--in_process needs --output" in done.stderr


@pytest.mark.parametrize("route", [[], ["--in_process"]])
def test_a_model_of_other_labels_is_refused_before_any_work(
    route, infer, refused, tiny_coco, tmp_path
):
    annotation = tiny_coco / "annotations" / "instances_val2017.json"
    instances = json.loads(annotation.read_text())
    instances["categories"].append({"id": 91, "name": "another"})
    annotation.write_text(json.dumps(instances))
    done = infer(*route, "--data", tiny_coco)
    told = f"5 labels = background + 4; {annotation} has 5 categories; give the annotation file"
    assert done.stderr.count("\n") == 1
    refused(done, told)
    assert not list((tmp_path / "out").glob("*"))


# Checks before a run.


@pytest.fixture
def models(light_onnx, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("ssd_bs1.onnx", "ssd_bs4.onnx", "ssd_dynamic_x.onnx"):
        shutil.copy(light_onnx, folder / name)
    save_colors(folder / "ssd_bs1_uint8.onnx", "uint8")
    return folder


@pytest.fixture
def check(run_stage, models):
    def run(sizes, *more, env=None):
        given = ["--models", models, "--batchsize", sizes, "--print_dtype", *more]
        return run_stage("ssd_infer.py", *given, "--engine=onnxruntime", env=env)

    return run


def test_the_dtype_of_several_models_is_printed(check, tiny_coco):
    done = check("1,4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "float32\n", "")
    assert check("1,4,7", "--variant=x", "--data", tiny_coco).stdout == "float32\n"
    assert check("1", "--variant=uint8").stdout == "uint8\n"


def test_models_that_cannot_be_run_alike_are_refused(check, refused, models, tiny_coco):
    refused(check("1,16"), f"{models}/ssd_bs16.onnx: no such model; make it with")
    save_colors(models / "ssd_bs4.onnx", "uint8")  # for a batch of one, what is more
    refused(check("1,4"), "ssd_bs4.onnx: has batch size 1, --batchsize 4 was given")
    save_colors(models / "ssd_bs1.onnx")
    refused(check("1", "--data", tiny_coco), "4 labels = background + 3; ", "has 4 categories")
    (models / "ssd_bs1.onnx").write_bytes(b"no model")
    refused(check("1"), "ssd_bs1.onnx: ")


def test_models_of_unlike_inputs_are_refused(run_stage, refused, models):
    save_colors(models / "ssd_bs1_y.onnx", "uint8")
    shutil.copy(models / "ssd_bs4.onnx", models / "ssd_bs4_y.onnx")
    given = ["--models", models, "--batchsize=1,4", "--print-dtype", "--variant=y"]
    done = run_stage("ssd_infer.py", *given, "--engine=onnxruntime")
    refused(
        done, f"{models}/ssd_bs4_y.onnx takes float32, the models before it uint8; convert them"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batchsize=1,4"], "--batchsize: one size only, unless --print_dtype is given"),
        (["--batchsize=0"], "argument --batchsize: 0: must be sizes such as 1,16"),
        (["--seconds=1"], "--seconds is for timing, without --input"),
        (["--seconds=1", "--loop=2"], "--loop is a number of runs, --seconds a time; give one"),
        (["--seconds=0"], "argument --seconds: 0: must be seconds, more than 0"),
        (["--loop=0"], "argument --loop: 0: must be a whole number, at least 1"),
        (["--warmup_count=-1"], "argument --warmup_count: must be at least 0"),
        (["--output_dirname=x"], "--output_dirname needs --output and must be relative"),
        (["--output=/tmp", "--output_dirname=/x"], "--output_dirname needs --output and must be"),
        (["--shard=2/2"], "argument --shard: invalid read_shard value: '2/2'"),
        (["--engine=npu"], "argument --engine: invalid choice: 'npu'"),
    ],
)
def test_wrong_usage_ends_with_status_2(options, message, run_stage, tmp_path):
    done = run_stage("ssd_infer.py", "--model=m.onnx", f"--input={tmp_path}", *options)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


# Timing.


def test_pure_inference_is_timed_by_time(run_stage, light_onnx, tmp_path):
    given = ["--model", light_onnx, "--output", tmp_path, "--output_dirname=p", "--batchsize=4"]
    done = run_stage("ssd_infer.py", *given, "--loop=auto", "--seconds=0.05")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "p_summary.json").read_text())
    runs = summary["NPU_compute_time"]["count"]
    assert runs >= 3 and summary["images"] == 4 * runs
    assert summary["filesinfo"] == {} and not (tmp_path / "p").exists()
    assert f" of {runs} runs" in done.stdout and " median, " in done.stdout
    low, high = summary["quartiles"]
    assert low <= summary["NPU_compute_time"]["median"] <= high


def test_perfect_detections_come_out_of_the_whole_chain(run_stage, tmp_path):
    """The color detector is perfect on its data: each detection is of the right image."""
    data = write_color_data(tmp_path / "coco")
    model = save_colors(tmp_path / "c.onnx", "uint8")
    bins = ["--bin-output", tmp_path / "in", "--dtype=uint8"]
    assert run_stage("ssd_preprocess.py", "--data", data, *bins).returncode == 0
    given = ["--model", model, "--input", tmp_path / "in", "--output", tmp_path]
    more = ["--in_process", "--data", data, "--output_dirname=x"]
    assert run_stage("ssd_infer.py", *given, *more).returncode == 0
    given = ["--data", data, "--bin-input", tmp_path / "x", "--output", tmp_path / "r.json"]
    assert run_stage("ssd_postprocess.py", *given).returncode == 0
    assert json.loads((tmp_path / "r.json").read_text())["stats"]["AP"] == 1.0


def test_pure_inference_counts_its_runs_and_names_its_engine(checkpoint, tmp_path, run_stage):
    done = run_stage("ssd_infer.py", "--model", checkpoint, "--loop", 3, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*_summary.json")
    summary = json.loads(path.read_text())
    assert summary["NPU_compute_time"]["count"] == 3
    assert summary["engine"].startswith("torch ") and summary["provider"] == "cpu"
    assert "throughput" in done.stdout


def test_bad_input_is_reported_in_one_line(light_onnx, tmp_path, run_stage, refused):
    (tmp_path / "empty").mkdir()
    for name, size in (("cut", 5), ("bytes", 270_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tensor([1]).bin").write_bytes(bytes(size))
    for args, message in (
        (["--input", tmp_path / "none"], "no such folder"),
        (["--input", tmp_path / "empty"], "no .bin or .npy file"),
        (["--input", tmp_path / "cut"], "5 bytes, expected float32"),
        (["--input", tmp_path / "bytes"], "--dtype float32"),
    ):
        refused(run_stage("ssd_infer.py", "--model", light_onnx, *args), message)


def test_cards_of_ascend_are_not_for_another_engine(light_onnx, run_stage, refused):
    done = run_stage("ssd_infer.py", "--model", light_onnx, "--device", "0,1")
    refused(done, "--device 0,1: not for the engine onnxruntime; give cpu, cuda:0 or npu:0")
