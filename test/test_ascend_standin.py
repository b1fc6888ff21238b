"""Tests of the stand-in for Huawei's toolchain: nets of one convolution, no card, no download.

Run: python -m pytest test/test_ascend_standin.py
"""

import importlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

STANDIN = Path(__file__).resolve().parent / "ascend_standin"
BANNER = "STAND-IN FOR TESTS"
SIZE = 8  # height and width of the pictures
LOC, CONF = (4, SIZE * SIZE), (4, SIZE, SIZE)  # of one picture
AIPP = """aipp_op {  # as in the documentation
    aipp_mode: static
    input_format: RGB888_U8
    src_image_size_w: 8
    src_image_size_h: 8
    csc_switch: false
    rbuv_swap_switch: %s
    min_chn_0: 123.675
    min_chn_1: 116.28
    min_chn_2: 103.53
    var_reci_chn_0: 0.017124753831664
    var_reci_chn_1: 0.017507002801120
    var_reci_chn_2: 0.017429193899782
}
"""


def make_onnx(path, opset=13, batch="N", kind="Relu", domains=()):
    """Write a net: image (N, 3, 8, 8) -> loc (N, 4, 64), conf (N, 4, 8, 8)."""
    rng = np.random.default_rng(7)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
        "shape": np.array([0, 4, SIZE * SIZE]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], "Conv_0", pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "shape"], ["loc"], "Reshape_1"),
        helper.make_node(kind, ["c"], ["conf"], "Act_2"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("loc", TensorProto.FLOAT, [batch, *LOC]),
            helper.make_tensor_value_info("conf", TensorProto.FLOAT, [batch, *CONF]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return path


def run(command, cwd=None, **env):
    """Run a program of the stand-in; returns the finished process, its stdout checked."""
    full = dict(os.environ)
    full = {name: value for name, value in full.items() if not name.startswith("STANDIN_")}
    bin_dir = str(Path(sys.executable).parent)
    full["PATH"] = os.pathsep.join([str(STANDIN), bin_dir, full.get("PATH", "")])
    full["PYTHONPATH"] = str(STANDIN)
    full |= {name: str(value) for name, value in env.items()}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=full, capture_output=True, text=True
    )
    if done.returncode >= 0:  # a process killed by a signal may die before its output is flushed
        assert done.stdout.startswith(BANNER)
    return done


def atc(model, output, *more, cwd=None, batch=1, **env):
    """Run atc as the kit does, with further options."""
    command = ["atc", "--framework=5", f"--model={model}", f"--output={output}"]
    command += ["--input_format=NCHW", f"--input_shape=image:{batch},3,8,8", "--log=error"]
    return run([*command, "--soc_version=Ascend310P3", *more], cwd or Path(output).parent, **env)


def ais_bench(model, *more, cwd="/", **env):
    return run([sys.executable, "-m", "ais_bench", "--model", model, *more], cwd, **env)


def write_images(folder, count, dtype="float32", shape=(3, SIZE, SIZE)):
    """Write `tensor([ID]).bin` files with ids 8, 9, 10...; returns the arrays in that order."""
    folder.mkdir()
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, *shape)).astype(dtype)
    if dtype == "float32":
        images = images / np.float32(100)
    for index, image in enumerate(images):
        image.tofile(folder / f"tensor([{index + 8}]).bin")
    (folder / "notes.txt").write_text("other files in the folder are ignored")
    return images


def exact(model, images):
    """Return the float32 outputs of the ONNX model itself."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})


def read_outputs(folder, count, dtype="float32"):
    ids = range(8, 8 + count)
    loc = [np.fromfile(folder / f"tensor([{i}])_0.bin", dtype).reshape(LOC) for i in ids]
    conf = [np.fromfile(folder / f"tensor([{i}])_1.bin", dtype).reshape(CONF) for i in ids]
    return np.stack(loc), np.stack(conf)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Convert the tiny net in each way once; returns the folder with net.onnx and *.om."""
    folder = tmp_path_factory.mktemp("models")
    net = make_onnx(folder / "net.onnx")
    (folder / "aipp.cfg").write_text(AIPP % "false")
    aipp = ["--insert_op_conf=aipp.cfg", "--enable_small_channel=1"]
    dynamic = {"batch": -1}
    for name, options, extra in [
        ("bs1", [], {}),
        ("bs4", [], {"batch": 4}),
        ("aipp4", aipp, {"batch": 4}),
        ("half1", ["--output_type=FP16", "--input_fp16_nodes=image"], {}),
        ("dyn", ["--dynamic_batch_size=1,4"], dynamic),
        ("fp32", ["--precision_mode_v2=origin"], {}),
    ]:
        done = atc(net, folder / name, *options, **extra)
        assert done.returncode == 0, done.stdout
        assert done.stdout.endswith("ATC run success, welcome to the next use.\n")
    return folder


@pytest.fixture
def interface(monkeypatch):
    """Import ais_bench.infer.interface in this process, and forget it afterwards."""
    for name in [name for name in os.environ if name.startswith("STANDIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(str(STANDIN))
    before = set(sys.modules)
    yield importlib.import_module("ais_bench.infer.interface")
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith(("ais_bench", "standin")):
            del sys.modules[name]


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
    ],
)
def test_atc_refuses_options(tmp_path, options, code):
    (tmp_path / "net.onnx").write_bytes(b"")
    (tmp_path / "c.cfg").write_text("calibration: { }")
    done = atc("net.onnx", tmp_path / "net", *options)
    assert done.returncode == 1
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
        ({}, {"options": ["--compression_optimize_conf=c.cfg"]}, "gone.bin is missing"),
    ],
)
def test_atc_refuses_models_and_settings(tmp_path, net, options, code):
    make_onnx(tmp_path / "net.onnx", **net)
    (tmp_path / "a.cfg").write_text(AIPP % "false")
    (tmp_path / "mean.cfg").write_text((AIPP % "false").replace("min_chn", "mean_chn"))
    (tmp_path / "size.cfg").write_text((AIPP % "false").replace("size_w: 8", "size_w: 9"))
    text = "calibration: { input_data_dir: gone.bin input_shape: image:1,3,8,8 }"
    (tmp_path / "c.cfg").write_text(text)
    more = options.pop("options", []) if "options" in options else []
    done = atc("net.onnx", tmp_path / "net", *more, **options)
    assert done.returncode == 1
    assert code in done.stdout
    assert not (tmp_path / "net.om").exists()
