"""The driver ssd_accuracy_ladder.sh from end to end, on models that take seconds."""

import json
import shutil

import numpy as np
import pytest
from models import ODD, ROOT, save_colors, write_color_data

DRIVER = "ssd_accuracy_ladder.sh"
MODELS = {
    "float32": "ssd_bs1.onnx",
    "uint8": "ssd_bs1_uint8.onnx",
    "int8": "ssd_bs1_int8.onnx",
    "om": "ssd_bs1.om",
}


@pytest.mark.parametrize("names", [["int8"], ["float32", "int8"]])
def test_a_folder_of_the_users_is_refused_by_name_and_stays(names, run_driver, tmp_path):
    data, models = write_color_data(tmp_path / "coco"), tmp_path / ODD
    models.mkdir()
    for name in ("float32", "int8"):
        save_colors(models / MODELS[name])
    for name in names:
        (models / name).mkdir()
        (models / name / "mine.txt").write_text("mine")
    before = sorted(models.rglob("*"))
    args = [f"--data_path={data}", f"--models={models}", f"--output={models}", "--pth_path="]
    done = run_driver(DRIVER, *args)
    assert done.returncode == 1
    assert f"ssd_ladder.py: error: {models / names[0]}: holds files that are not" in done.stderr
    assert sorted(models.rglob("*")) == before


def test_a_real_ladder_names_the_rung_and_the_layer_and_leaves_no_outputs(run_driver, tmp_path):
    data = write_color_data(tmp_path / ODD / "coco")
    models = tmp_path / ODD
    save_colors(models / MODELS["float32"])
    save_colors(models / MODELS["uint8"], "uint8")
    save_colors(models / MODELS["int8"], tint=np.diag([1, 0.1, 1]))  # green is hardly seen
    out = tmp_path / ODD / "out"
    args = [f"--data_path={data}", f"--models={models}", f"--output={out}", "--limit=5"]
    done = run_driver(DRIVER, *args, "--pth_path=", "--layers")
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    assert "Scored: all 5 images" in lines
    assert "int8 loses 33.333 points of mAP to uint8, more than 0.5" in lines
    assert lines[-1] == "The cosine first falls at /tint/Conv (Conv)"
    heading = next(i for i, line in enumerate(lines) if line.startswith("rung "))
    assert [line.split()[0] for line in lines[heading + 1 : heading + 4]] == [
        "float32",
        "uint8",
        "int8",
    ]
    assert max(map(len, lines[heading : heading + 7])) <= 80
    assert not list(out.glob("*/tensor*_0.bin"))
    assert sum(1 for _ in (out / "ssd_bin_float32").glob("tensor*")) == 5
    found = json.loads((out / "ladder.json").read_text())
    assert [row["map"] for row in found["rungs"]] == [1, 1, pytest.approx(2 / 3)]
    page = (out / "ladder.html").read_text()
    assert "/tint/Conv" in page and 'class="worse"' in page and "chart-ladder_layers" in page


@pytest.mark.parametrize("tool", ["ais_bench", "ais_infer.py"])
def test_a_real_om_rung_runs_with_either_tool(tool, run_driver, run_stage, tmp_path, standin):
    data = write_color_data(tmp_path / ODD, count=1)
    onnx = save_colors(tmp_path / ODD / MODELS["float32"])
    om = ["--onnx-path", onnx, "--om-path", tmp_path / ODD / MODELS["om"], "--bs", "1", "--aipp"]
    made = run_stage("ssd_onnx2om.py", *om, "--soc_version", "Ascend310P3")
    assert made.returncode == 0, made.stderr
    args = [f"--data_path={data}", f"--models={tmp_path / ODD}", f"--output={tmp_path / 'out'}"]
    env = {"ASCEND_TOOLKIT_HOME": "/none"}
    if tool != "ais_bench":
        args.append(f"--ais_infer={ROOT / 'test' / 'ascend_standin' / tool}")
        env["PYTHONPATH"] = str(ROOT / "test" / "ascend_standin" / "runtime")
    done = run_driver(DRIVER, *args, "--pth_path=", env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "ladder.json").read_text())
    row = found["rungs"][-1]
    assert (row["rung"], row["match_rate"]) == ("om", 1) and row["map"] == pytest.approx(1)
    assert row["engine"].split()[0] == tool and row["precision"] == "atc: aipp"
    assert 0 < row["max_abs"] < 0.1 and 0.999 < row["cosine"] < 1  # half precision
    assert not list((tmp_path / "out").glob("om/**/tensor*"))


@pytest.mark.slow
def test_from_a_checkpoint_down_a_disturbed_layer_is_found(run_driver, run_stage, sample, tmp_path):
    onnx = pytest.importorskip("onnx")
    shutil.copy(sample / "models" / MODELS["float32"], tmp_path)
    export = ["--pth-path", sample / "models" / "sample.pt", "--input", "uint8"]
    made = run_stage("ssd_pth2onnx.py", *export, "--onnx-path", tmp_path / MODELS["uint8"])
    assert made.returncode == 0, made.stderr
    model = onnx.load(tmp_path / MODELS["uint8"])
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    tensor = weights["network.model.5.2.conv1.weight"]
    values = -onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / MODELS["uint8"])
    args = [f"--data_path={sample}", f"--models={tmp_path}", f"--output={tmp_path / 'out'}"]
    done = run_driver(
        DRIVER, *args, f"--pth_path={sample / 'models' / 'sample.pt'}", "--limit=4", "--layers"
    )
    assert done.returncode == 3, done.stderr
    found = json.loads((tmp_path / "out" / "ladder.json").read_text())
    first, second, third = found["rungs"]
    assert first["map"] > 0.9 and abs(second["change"]) < 0.01 and second["match_rate"] == 1
    assert [loss["rung"] for loss in found["losses"]] == [third["rung"]] == ["uint8"]
    message = "The cosine first falls at /model/model.5/model.5.2/conv1/Conv (Conv)"
    assert done.stdout.splitlines()[-1] == message
