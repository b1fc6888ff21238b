"""What the tests of the stand-in share: a net of one convolution, pictures for it, the commands."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

STANDIN = Path(__file__).resolve().parent
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
    full["STANDIN_PYTHON"] = sys.executable
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


def make_models(folder):
    """Convert the tiny net in each way once; returns the folder with net.onnx and *.om."""
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


def check_half(got, want, atol=2e-2):
    """The stand-in's outputs are float16 values close to the exact ones, and not the exact ones."""
    for mine, exact in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, mine.astype(np.float16))
        np.testing.assert_allclose(mine, exact, atol=atol)
        assert (mine != exact).any()
