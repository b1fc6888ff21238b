"""Tests of the stand-in's ais_bench command line and of its ais_infer.py: no card."""

import json
import re
import signal
import stat
import sys

import numpy as np
import pytest
from models import STANDIN, load_standin

tiny = load_standin("tiny")
ais_bench, write_images, read_outputs = tiny.ais_bench, tiny.write_images, tiny.read_outputs


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny.make_models(tmp_path_factory.mktemp("models"))


def ais_infer(model, *more, cwd="/", **env):
    return tiny.run([sys.executable, STANDIN / "ais_infer.py", "--model", model, *more], cwd, **env)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_outputs_names_and_summary(models, tmp_path):
    images = write_images(tmp_path / "in", 3)
    out = tmp_path / "new" / "out"
    options = ["--output", out, "--output_dirname", "bs1", "--outfmt", "BIN", "--batchsize", "1"]
    done = ais_bench(models / "bs1.om", "--input", tmp_path / "in", *options, "--loop", "2")
    assert done.returncode == 0, done.stderr
    assert names(out) == ["bs1", "bs1_summary.json"]
    assert stat.S_IMODE((out / "bs1").stat().st_mode) == 0o750
    made = [f"tensor([{i}])_{k}.bin" for i in (8, 9, 10) for k in (0, 1)]
    assert names(out / "bs1") == sorted(made)
    tiny.check_half(read_outputs(out / "bs1", 3), tiny.exact(models / "net.onnx", images))
    summary = json.loads((out / "bs1_summary.json").read_text())
    keys = ["filesinfo", "args", "NPU_compute_time", "H2D_latency", "D2H_latency", "throughput"]
    assert list(summary) == [*keys, "npu_compute_time_list", "pid"]
    assert list(summary["filesinfo"]) == ["0", "1", "2"]
    assert summary["filesinfo"]["2"] == {
        "infiles": [str(tmp_path / "in/tensor([10]).bin")],
        "outfiles": [str(out / f"bs1/tensor([10])_{k}.bin") for k in (0, 1)],
    }
    compute = summary["NPU_compute_time"]
    assert list(compute) == ["min", "max", "mean", "median", "percentile(99%)", "count"]
    assert compute["count"] == 6 == len(summary["npu_compute_time_list"])
    assert summary["throughput"] == pytest.approx(1000 / compute["mean"])
    assert "H2D_latency" not in done.stdout


def test_a_short_last_batch_is_filled_up_and_the_copies_are_not_saved(models, tmp_path):
    images = write_images(tmp_path / "in", 6)
    done = ais_bench(
        models / "bs4.om", "--input", tmp_path / "in", "--output", tmp_path / "out",
        "--display_all_summary", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder, summary = sorted((tmp_path / "out").iterdir())
    assert re.fullmatch(r"\d{4}(_\d\d){2}-(\d\d_){2}\d\d", folder.name)
    assert summary.name == f"{folder.name}_summary.json"
    assert len(names(folder)) == 12
    tiny.check_half(read_outputs(folder, 6), tiny.exact(models / "net.onnx", images))
    info = json.loads(summary.read_text())
    assert len(info["filesinfo"]) == 6
    assert info["NPU_compute_time"]["count"] == 2
    assert info["throughput"] == pytest.approx(4000 / info["NPU_compute_time"]["mean"])
    assert "filesperbatch:4 runcount:2" in done.stdout
    assert "H2D_latency" in done.stdout


def test_a_name_is_cut_at_its_first_dot(models, tmp_path):
    (tmp_path / "in").mkdir()
    zeros = np.zeros((3, 8, 8), np.float32)
    for name in ("a.x.bin", "a.y.bin"):
        zeros.tofile(tmp_path / "in" / name)
    np.save(tmp_path / "in" / "b.npy", zeros)
    options = ["--output", tmp_path, "--output_dirname", "o", "--outfmt", "NPY"]
    assert ais_bench(models / "bs1.om", "--input", tmp_path / "in", *options).returncode == 0
    assert names(tmp_path / "o") == ["a_0.npy", "a_1.npy", "b_0.npy", "b_1.npy"]
    array = np.load(tmp_path / "o/b_0.npy")
    assert (array.shape, array.dtype) == ((1, *tiny.LOC), np.float32)


def test_uint8_pictures_through_aipp_equal_the_float_input(models, tmp_path):
    images = write_images(tmp_path / "in", 5, "uint8", (8, 8, 3))
    options = ["--output", tmp_path, "--output_dirname", "o"]
    done = ais_bench(models / "aipp4.om", "--input", tmp_path / "in", *options)
    assert done.returncode == 0, done.stderr
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = ((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    tiny.check_half(read_outputs(tmp_path / "o", 5), tiny.exact(models / "net.onnx", normal))


def test_float16_in_and_out(models, tmp_path):
    images = write_images(tmp_path / "in", 2, "float16")
    options = ["--output", tmp_path, "--output_dirname", "o"]
    assert ais_bench(models / "half1.om", "-i", tmp_path / "in", *options).returncode == 0
    assert (tmp_path / "o/tensor([8])_0.bin").stat().st_size == 2 * np.prod(tiny.LOC)
    want = tiny.exact(models / "net.onnx", images.astype(np.float32))
    found = read_outputs(tmp_path / "o", 2, "float16")[0]
    np.testing.assert_allclose(found, want[0], rtol=4e-3, atol=2)


@pytest.mark.parametrize(
    ("model", "options", "status", "text"),
    [
        ("bs4", ["--input", "big"], 1, "arg0 tensorsize: 3072 filesize: 800 not match"),
        ("aipp4", ["--input", "in"], 1, "ensorsize: 768 filesize: 3072 not match"),
        ("bs4", ["--pipeline", "1", "--input", "in"], 0, ""),
        ("bs4", ["--pipeline", "1", "--input", "small"], 1, "filesize not match"),
        ("bs1", ["--dymBatch", "4"], 1, "[1][ACL: invalid parameter]"),
        ("dyn", ["--dymBatch", "3"], 1, "is not in [1, 4]"),
        ("dyn", [], 1, "dynamic batch is not set"),
        ("fp32", [], 1, "no float32 convolution"),
        ("bs1", ["--output_dirname", "o"], 1, "--output_dirname cann't be used alone"),
        ("bs1", ["--output", "o", "--output_dirname", "/o"], 1, "relative"),
        ("bs1", ["--profiler", "1", "--dump", "1", "--output", "o"], 1, "--profiler and --dump"),
        ("bs1", ["--aipp_batchsize", "1"], 2, "unrecognized arguments"),
        ("bs1", ["--outfmt", "PNG"], 2, "invalid choice"),
        ("bs1", ["--device", "1"], 1, "acl open device 1 failed"),
        ("gone", [], 2, "is illegal. Please check."),
        ("bs1", ["--input", "gone"], 2, "is illegal. Please check."),
        ("bs1", ["--input", "empty"], 1, "not find valid file"),
    ],
)
def test_what_ais_bench_refuses(models, tmp_path, model, options, status, text):
    for folder, size in (("big", 800), ("in", 3072), ("small", 768), ("empty", None)):
        (tmp_path / folder).mkdir()
        if size:
            (tmp_path / folder / "a.bin").write_bytes(bytes(size))
    done = ais_bench(models / f"{model}.om", *options, cwd=tmp_path)
    assert done.returncode == status, done.stdout + done.stderr
    assert text in done.stdout + done.stderr


def test_a_model_for_another_chip_and_a_writable_one_are_refused(models, tmp_path):
    done = ais_bench(models / "bs1.om", STANDIN_CARDS="310:OK")
    assert done.returncode == 1
    assert "[ERROR] load model from file failed" in done.stdout
    model = tmp_path / "bs1.om"
    model.write_bytes((models / "bs1.om").read_bytes())
    model.chmod(0o664)
    assert ais_bench(model).returncode == 2
    assert ais_bench(model, STANDIN_EDITION="2023-06").returncode == 0


def test_the_tool_of_2024_looks_at_letters_links_and_modes(models, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    np.zeros((3, 8, 8), np.float32).tofile(plain / "tensor_8.bin")
    om = tmp_path / "bs1.om"
    om.write_bytes((models / "bs1.om").read_bytes())
    om.chmod(0o644)
    out = tmp_path / "out"
    out.mkdir(0o750)
    new = {"STANDIN_EDITION": "2025-12"}
    base = ["--input", plain, "--output", out, "--output_dirname", "o"]
    done = ais_bench(om, *base, **new)
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(out / "o") == ["tensor_8_0.bin", "tensor_8_1.bin"]

    out.chmod(0o755)
    done = ais_bench(om, *base, **new)
    assert done.returncode == 2 and "should not be over 0o750" in done.stdout
    out.chmod(0o750)
    om.chmod(0o664)
    done = ais_bench(om, *base, **new)
    assert done.returncode == 2 and "should not be over 0o755" in done.stdout
    om.chmod(0o644)
    (tmp_path / "link.om").symlink_to(om)
    done = ais_bench(tmp_path / "link.om", *base, **new)
    assert done.returncode == 2 and "is a soft link" in done.stdout
    odd = tmp_path / "a b.om"
    odd.write_bytes(om.read_bytes())
    done = ais_bench(odd, *base, **new)
    assert done.returncode == 2 and "om path string is illegal" in done.stderr
    write_images(tmp_path / "in", 2)
    done = ais_bench(om, "--input", tmp_path / "in", *base[2:], **new)
    assert done.returncode == 1 and "tensor([" in done.stdout and "illegal char" in done.stdout


def test_pure_inference_and_a_dynamic_batch(models, tmp_path):
    options = ["--dymBatch", "4", "--loop", "3", "--output", tmp_path, "--output_dirname", "o"]
    done = ais_bench(models / "dyn.om", *options, "--debug", "1", "--pure_data_type", "random")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "o") == ["pure_infer_data_0.bin", "pure_infer_data_1.bin"]
    assert (tmp_path / "o/pure_infer_data_0.bin").stat().st_size == 4 * 4 * np.prod(tiny.LOC)
    info = json.loads((tmp_path / "o_summary.json").read_text())
    assert info["NPU_compute_time"]["count"] == 3
    assert info["throughput"] == pytest.approx(4000 / info["NPU_compute_time"]["mean"])
    assert "image  (-1, 3, 8, 8)  float32" in done.stdout


@pytest.mark.parametrize(
    ("edition", "options", "counts"),
    [
        ("", [], {"device0_0": 10, "device1_1": 10}),
        ("", ["--divide_input", "1"], {"device0_0": 6, "device1_1": 4}),
        ("2023-06", [], {"device0": 6, "device1": 4}),
    ],
)
def test_several_devices(models, tmp_path, edition, options, counts):
    write_images(tmp_path / "in", 5)
    options = [*options, "--device", "0,1", "--output", tmp_path, "--output_dirname", "o"]
    env = {"STANDIN_CARDS": "310P3:OK,310P3:OK", "STANDIN_EDITION": edition}
    done = ais_bench(models / "bs4.om", "--input", tmp_path / "in", *options, **env)
    assert done.returncode == 0, done.stdout
    folders = [path for path in (tmp_path / "o").iterdir() if path.is_dir()]
    assert {path.name: len(names(path)) for path in folders} == counts
    summaries = {path.name for path in (tmp_path / "o").glob("*.json")}
    assert summaries == {f"{name}_summary.json" for name in counts}
    assert "[INFO] summary throughput:" in done.stdout
    key = json.loads((tmp_path / "o" / min(summaries)).read_text())["NPU_compute_time"]
    assert ("percentile(99%)" in key) == (edition == "")


def test_divide_input_is_unknown_to_the_tool_of_2023(models):
    options = ["--divide_input", "1", "--device", "0,0"]
    assert ais_bench(models / "bs1.om", *options, STANDIN_EDITION="2023-06").returncode == 2


def test_killed_in_the_middle_some_outputs_are_there_and_no_summary(models, tmp_path):
    write_images(tmp_path / "in", 5)
    options = ["--input", tmp_path / "in", "--output", tmp_path, "--output_dirname", "o"]
    done = ais_bench(models / "bs1.om", *options, STANDIN_KILL_AFTER=2)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path / "o")) == 4
    assert not (tmp_path / "o_summary.json").exists()


def test_a_lost_card_fails_one_device_only(models, tmp_path):
    write_images(tmp_path / "in", 3)
    options = ["--input", tmp_path / "in", "--output", tmp_path, "--output_dirname", "o"]
    env = {"STANDIN_CARDS": "310P3,310P3", "STANDIN_CARD_LOST_AFTER": "2@1"}
    done = ais_bench(models / "bs1.om", *options, "--device", "0,1", **env)
    assert done.returncode == 1
    assert "acl execute failed:507033" in done.stdout
    assert len(names(tmp_path / "o" / "device0_0")) == 6
    assert len(names(tmp_path / "o" / "device1_1")) == 4
    gone = ais_bench(models / "bs1.om", *options, STANDIN_CARD_LOST_AFTER=0)
    assert gone.returncode == 1
    assert "acl open device 0 failed\nSetDevice failed.ret=507033" in gone.stdout


def test_the_tool_of_2022(models, tmp_path):
    images = write_images(tmp_path / "in", 5)
    options = ["--input", tmp_path / "in", "--output", tmp_path / "out"]
    missing = ais_infer(models / "bs4.om", *options)
    assert missing.returncode == 1
    assert "FileNotFoundError" in missing.stderr
    (tmp_path / "out").mkdir()
    done = ais_infer(models / "bs4.om", *options, "--outfmt", "BIN")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    assert re.fullmatch(r"\d{4}(_\d\d){2}-(\d\d_){2}\d\d", folder.name)
    assert len(names(folder)) == 11
    tiny.check_half(read_outputs(folder, 5), tiny.exact(models / "net.onnx", images))
    info = json.loads((folder / "sumary.json").read_text())
    assert list(info)[-1] == "throughput"
    assert "count" not in info["NPU_compute_time"]
    assert info["throughput"] == pytest.approx(1000 / info["NPU_compute_time"]["mean"])
    assert ais_infer(models / "bs4.om", "--warmup_count", "1").returncode == 2
    assert ais_infer(models / "bs4.om", "--device", "0,1").returncode == 2
