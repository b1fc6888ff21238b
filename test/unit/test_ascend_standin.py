"""Tests of the stand-in's atc, npu-smi and toolkit folder: nets of one convolution, no card."""

import json
import os
import signal
import stat
import sys

import numpy as np
import onnx
import pytest
from models import STANDIN, load_standin
from onnx import numpy_helper

tiny = load_standin("tiny")
standin = load_standin("standin")
half = load_standin("standin_half")
run, atc, make_onnx = tiny.run, tiny.atc, tiny.make_onnx


def test_npu_smi_prints_the_table_of_the_documentation():
    done = run(["npu-smi", "info"], STANDIN_CARDS="310P3:OK,310P3:Warning,310:OK:busy")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert "| NPU     Name      | Health          | Power(W)     Temp(C)           " in lines[4]
    assert lines[7].startswith("| 0       310P3     | OK              | 15.8         42        ")
    assert lines[8].split("|")[2:4] == [
        " 0000:82:00.0    ",
        " 0            1074 / 21534                            ",
    ]
    assert "| 1       310P3     | Warning " in lines[10]
    assert "| 2       310       | OK " in lines[13]
    assert any("python3" in line for line in lines[16:])
    assert len({len(line) for line in lines[1:]}) == 1


def test_npu_smi_without_a_card_fails():
    done = run(["npu-smi", "info"], STANDIN_CARDS="")
    assert done.returncode == 1
    assert "No NPU device" in done.stdout


def test_the_version_is_found_as_for_an_installed_package():
    code = "import importlib.metadata as m; print('STAND-IN FOR TESTS', m.version('ais_bench'))"
    assert run([sys.executable, "-c", code]).stdout.split()[-1] == "0.0.2"


def test_the_toolkit_has_a_version_file_and_puts_the_standin_on_the_path(tmp_path):
    run([sys.executable, STANDIN / "standin.py", tmp_path / "tk", "8.0.RC1"])
    info = tmp_path / "tk/latest/x86_64-linux/ascend_toolkit_install.info"
    assert "version=8.0.RC1\n" in info.read_text()
    script = f'. "{tmp_path}/tk/set_env.sh"; echo "STAND-IN FOR TESTS $ASCEND_TOOLKIT_HOME"; '
    done = run(["bash", "-c", script + "command -v atc"], PATH=os.environ["PATH"])
    assert done.stdout.splitlines()[0].endswith("/tk/latest")
    assert done.stdout.splitlines()[1] == str(STANDIN / "atc")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--no_such=1"], "unknown command line flag 'no_such'"),
        (["stray"], "Non-option parameter: stray"),
        (["--log"], "flag '--log' is missing its argument"),
        (["--precision_mode=fp16"], "E10001"),
        (["--op_select_implmode=fast"], "E10001"),
        (["--input_format=NHWC"], "E10001"),
        (["--soc_version=310P3"], "E10001"),
        (["--soc_version="], "E10054"),
        (["--log=loud"], "E10010"),
        (["--framework=7"], "E10007"),
        (["--enable_small_channel=2"], "E10006"),
        (["--insert_op_conf=missing.cfg"], "E13000"),
        (["--precision_mode=force_fp16", "--precision_mode_v2=fp16"], "E10056"),
        (["--dynamic_batch_size=1,4", "--dynamic_dims=1;4"], "E10009"),
        (["--dynamic_batch_size=1,4", "--dynamic_image_size=8,8;9,9"], "E10009"),
        (["--dynamic_batch_size=1,4", "--input_shape_range=image:[1~4,3,8,8]"], "E10009"),
        (["--auto_tune_mode=RL,GA"], "E10060"),
        (["--compression_optimize_conf=c.cfg", "--precision_mode=force_fp32"], "E10056"),
        (["--compression_optimize_conf=c.cfg", "--precision_mode_v2=origin"], "E10056"),
        (["--compression_optimize_conf=c.cfg", "--op_select_implmode=high_precision"], "E10056"),
        (
            ["--compression_optimize_conf=c.cfg", "--precision_mode=must_keep_origin_dtype"],
            "E10056",
        ),
        (["--compression_optimize_conf=c.cfg", "--op_precision_mode=p.ini"], "E10056"),
    ],
)
def test_atc_refuses_options(tmp_path, options, code):
    (tmp_path / "net.onnx").write_bytes(b"")
    (tmp_path / "c.cfg").write_text("calibration: { }")
    (tmp_path / "p.ini").write_text("[ByOpType]\nConv=high_precision\n")
    done = atc("net.onnx", tmp_path / "net", *options)
    assert done.returncode == 255
    assert code in done.stdout + done.stderr
    assert "ATC run failed, Please check the detail log" in done.stdout
    assert not (tmp_path / "net.om").exists()


@pytest.mark.parametrize(
    ("net", "options", "code"),
    [
        ({"opset": 10}, {}, "E19010: No parser is registered for Op [Conv_0, optype [ai.onnx::10"),
        ({"opset": 18}, {}, "E19010: No parser is registered"),
        ({"kind": "Mish", "opset": 18}, {"STANDIN_CANN": "8.x"}, "EZ9010: [PID: "),
        ({"kind": "HardMax"}, {}, "E10041"),
        ({"kind": "Hardmax"}, {}, "[Act_2, optype [ai.onnx::13::Hardmax]]"),
        ({"domains": ["ai.onnx.ml"]}, {}, "E16005: The model has [2]"),
        ({"batch": 2}, {}, "E10001"),
        ({}, {"options": ["--soc_version=Ascend310B4"]}, "EZ3003: No supported Ops kernel"),
        ({}, {"options": ["--input_shape=images:1,3,8,8"]}, "E10016"),
        ({}, {"options": ["--input_shape="]}, "E10001: Value [-1] for parameter [image]"),
        ({}, {"batch": -1}, "E10011"),
        ({}, {"batch": -1, "options": ["--dynamic_batch_size=4"]}, "E10035"),
        ({}, {"batch": -1, "options": ["--dynamic_batch_size=4,4096"]}, "E10038"),
        ({}, {"options": ["--dynamic_batch_size=1,4"]}, "E10031"),
        ({}, {"options": ["--insert_op_conf=a.cfg", "--input_fp16_nodes=image"]}, "E10034"),
        ({}, {"options": ["--insert_op_conf=mean.cfg"]}, "E10052"),
        ({}, {"options": ["--insert_op_conf=size.cfg"]}, "E10052"),
    ],
)
def test_atc_refuses_models_and_settings(tmp_path, net, options, code):
    make_onnx(tmp_path / "net.onnx", **net)
    (tmp_path / "a.cfg").write_text(tiny.AIPP % "false")
    (tmp_path / "mean.cfg").write_text((tiny.AIPP % "false").replace("min_chn", "mean_chn"))
    (tmp_path / "size.cfg").write_text((tiny.AIPP % "false").replace("size_w: 8", "size_w: 9"))
    env = {name: value for name, value in options.items() if name != "options"}
    done = atc("net.onnx", tmp_path / "net", *options.get("options", []), **env)
    assert done.returncode == 255
    assert code in done.stdout
    assert not (tmp_path / "net.om").exists()


CALIBRATION = "input_data_dir: a.bin input_shape: image:2,3,8,8 infer_soc: Ascend310P3"


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (f"calibration: {{ {CALIBRATION} }}", [], None),
        (f"calibration:\n{{\n {CALIBRATION}\n infer_device_id: 0 log: info\n}}\n", [], None),
        (
            f"enable_first_layer_quantization: true calibration: {{ {CALIBRATION} }}",
            ["--enable_small_channel=1"],
            None,
        ),
        (f"enable_first_layer_quantization: true calibration: {{ {CALIBRATION} }}", [], "310P and"),
        (CALIBRATION, [], "must hold calibration:{"),
        ("enable_first_layer_quantization: true", [], "must hold calibration:{"),
        (f"calibration: {{ {CALIBRATION} words }}", [], "not understood: words"),
        (f"calibration: {{ {CALIBRATION} input: x }}", [], "no field named input"),
        ("calibration: { input_data_dir: a.bin input_shape: image:2,3,8,8 }", [], "infer_soc"),
        (f"calibration: {{ {CALIBRATION} }}".replace("a.bin", "b.bin"), [], "b.bin is missing"),
        (
            f"calibration: {{ {CALIBRATION} }}".replace("image:2", "image:1"),
            [],
            "1536 bytes, image:1,3,8,8 float32 takes 768",
        ),
        (f"calibration: {{ {CALIBRATION} }}".replace("image:", "x:"), [], "inputs are image"),
        (f"calibration: {{ {CALIBRATION} }}".replace("3,8,8", "8,8,3"), [], "the model's is [1, 3"),
        (f"calibration: {{ {CALIBRATION} }}".replace("310P3", "310"), [], "the card is 310P3"),
        (f"calibration: {{ {CALIBRATION} infer_device_id: 1 }}", [], "acl open device 1 failed"),
        (f"calibration: {{ {CALIBRATION} config_file: q.cfg }}", [], "q.cfg is missing"),
        (f"calibration: {{ {CALIBRATION},a.bin }}", [], "infer_soc Ascend310P3,a.bin"),
    ],
)
def test_a_calibration_is_held_against_its_data_and_the_model(tmp_path, text, options, reason):
    make_onnx(tmp_path / "net.onnx")
    (tmp_path / "a.bin").write_bytes(bytes(2 * 3 * 8 * 8 * 4))
    (tmp_path / "c.cfg").write_text(text)
    conf = "--compression_optimize_conf=c.cfg"
    done = atc("net.onnx", tmp_path / "net", conf, *options)
    if reason:
        assert done.returncode == 255
        assert reason in done.stdout
        assert not (tmp_path / "net.om").exists()
    else:
        assert done.returncode == 0, done.stdout
        assert "nothing is quantised, the model runs in float16" in done.stdout


def test_a_conversion_leaves_a_model_and_the_litter_of_the_real_one(tmp_path):
    net = make_onnx(tmp_path / "net.onnx")
    cwd = tmp_path / "scratch"
    cwd.mkdir()
    cache = ["--op_compiler_cache_mode=enable", f"--op_compiler_cache_dir={tmp_path}/cache"]
    done = atc(net, tmp_path / "out.d" / "net", *cache, "--precision_mode_v2", "fp16", cwd=cwd)
    assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in cwd.iterdir()) == ["fusion_result.json", "kernel_meta"]
    assert list((tmp_path / "cache/kernel_cache/Ascend310P3").glob("te_conv_*.o"))
    om = tmp_path / "out.d" / "net.om"
    assert stat.S_IMODE(om.stat().st_mode) == 0o600
    header, model = standin.read_om(om)
    assert om.read_bytes().startswith(b"STANDIN")
    assert header["soc_version"] == "Ascend310P3"
    assert [one["name"] for one in header["outputs"]] == ["Reshape_1:0:loc", "Act_2:0:conf"]
    assert [one["shape"] for one in header["outputs"]] == [[1, 4, 64], [1, 4, 8, 8]]
    weights = [
        numpy_helper.to_array(t) for t in onnx.load_model_from_string(model).graph.initializer
    ]
    floats = [array for array in weights if array.dtype == np.float32]
    assert floats
    assert all((array == array.astype(np.float16)).all() for array in floats)


def test_a_model_is_shown_as_json(tmp_path):
    net = make_onnx(tmp_path / "net.onnx")
    assert atc(net, tmp_path / "net", "--dynamic_batch_size=1,4", batch=-1).returncode == 0
    done = run(["atc", "--mode=1", "--om=net.om", "--json=net.json"], tmp_path)
    assert done.returncode == 0
    shown = json.loads((tmp_path / "net.json").read_text())
    assert [one["name"] for one in shown["inputs"]] == ["image", "ascend_mbatch_shape_data"]
    assert shown["inputs"][0]["shape"] == [-1, 3, 8, 8]


def test_every_program_logs_its_argv(tmp_path):
    log = tmp_path / "log"
    run(["npu-smi", "info"], STANDIN_LOG=log)
    run(["atc", "--a b"], STANDIN_LOG=log)
    run([sys.executable, "-m", "ais_bench", "--nonsense"], STANDIN_LOG=log)
    run([sys.executable, STANDIN / "ais_infer.py", "--nonsense"], STANDIN_LOG=log)
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        ["npu-smi", "info"],
        ["atc", "--a b"],
        ["ais_bench", "--nonsense"],
        ["ais_infer.py", "--nonsense"],
    ]


@pytest.mark.parametrize("code", ["E10001", "E10034", "E10060", "E16005", "E19010", "EZ3003"])
def test_atc_fails_as_it_is_told_to(tmp_path, code):
    (tmp_path / "net.onnx").write_bytes(b"")
    done = atc("net.onnx", tmp_path / "net_bs4", STANDIN_ATC_ERROR=f"{code}@bs4")
    assert done.returncode == 255
    assert f"\n{code}: " in done.stdout
    assert (tmp_path / "kernel_meta").is_dir()


def test_atc_fails_only_where_it_is_told_to_and_can_crash(tmp_path):
    net = make_onnx(tmp_path / "net.onnx")
    assert atc(net, tmp_path / "net_bs1", STANDIN_ATC_ERROR="E10001@bs4").returncode == 0
    crashed = atc(net, tmp_path / "net_bs4", STANDIN_ATC_ERROR="SIGSEGV")
    assert crashed.returncode == -signal.SIGSEGV


def test_ascend310_is_no_target_of_the_newest_toolkit(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"")
    chip = "--soc_version=Ascend310"
    assert "E10001" in atc("net.onnx", tmp_path / "net", chip, STANDIN_CANN="8.5.0").stdout
    assert "E10041" in atc("net.onnx", tmp_path / "net", chip, STANDIN_CANN="8.3.RC1").stdout


@pytest.mark.parametrize("swap", ["false", "true"])
def test_aipp_is_the_normalisation_of_the_float_input_to_float16_accuracy(swap):
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    got = half.apply_aipp(images, half.parse_aipp(tiny.AIPP % swap, 8, 8))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = images[..., ::-1] if swap == "true" else images
    want = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert got.shape == (2, 3, 8, 8)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, got.astype(np.float16))
    np.testing.assert_allclose(got, want, atol=2.5e-3)


def test_float16_rounds_to_nearest_and_saturates():
    values = np.array([1 + 2**-12, 1 + 2**-10, 1e6, -np.inf, 0.1], np.float32)
    want = np.array([1, 1 + 2**-10, 65504, -65504, 0.0999755859375], np.float32)
    np.testing.assert_array_equal(half.to_half(values), want)
