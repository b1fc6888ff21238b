"""The accuracy ladder's figures, its verdict, and planted faults, each named at its rung."""

import json
import shutil

import ssd_infer
import ssd_ladder
import ssd_postprocess
import ssd_preprocess
from ssd.cli import KitError
from ssd.files import write_json
from ssd.ladder.plan import Plan, begin
from ssd.ladder.rungs import RUNGS
from ssd.ladder.table import LOOK_LABELS

import numpy as np
import pytest
from models import save_colors, write_color_data

pytest.importorskip("onnx")

TINT = np.array([[0.1, 0, 0], [0, 1, 0], [0, 0, 1]])  # red is hardly seen
SHIFTED = [0, 3, 1, 2]  # label 1 becomes 2, 2 becomes 3, 3 becomes 1


@pytest.fixture
def data(tmp_path):
    """A data set on which the detector is perfect, and its input files."""
    root = write_color_data(tmp_path / "da ta;'é")
    for dtype in ("float32", "uint8"):
        options = ["--data", root, "--bin-output", root / dtype, "--dtype", dtype, "--workers", 1]
        ssd_preprocess.main(list(map(str, options)))
    return root


class Ladder:
    """Climbs down a ladder as the driver does."""

    def __init__(self, data, folder, annotation=None):
        self.data, self.folder, self.models = data, folder, {}
        self.options = ["--data", str(data)]
        self.options += ["--annotation", str(annotation)] if annotation else []

    def rung(self, name, model, inputs="float32"):
        out = ["--output", str(self.folder), "--output_dirname", name]
        model_and_inputs = ["--model", str(model), "--input", str(self.data / inputs)]
        ssd_infer.main([*model_and_inputs, *out, "--force"])
        made = {"--bin-input": name, "--output": f"{name}_result.json"}
        made |= {"--detections": f"{name}_detections.json"}
        files = [word for key, value in made.items() for word in (key, str(self.folder / value))]
        ssd_postprocess.main([*self.options, *files, "--workers", "1"])
        if self.models:
            above = list(self.models)[-1]
            ssd_ladder.main(["compare", str(self.folder), above, name, *self.options])
        self.models[name] = str(model)
        return self

    def table(self, goal=None):
        missing = {name: rung.make for name, rung in RUNGS.items() if name not in self.models}
        plan = Plan(self.models, missing, 0.5, goal)
        write_json(self.folder / "rungs.json", plan._asdict())
        self.status = ssd_ladder.main(["table", str(self.folder)])
        return json.loads((self.folder / "ladder.json").read_text())

    def layers(self):
        ssd_ladder.main(["layers", str(self.folder), *self.options])


@pytest.fixture
def good(tmp_path):
    return save_colors(tmp_path / "good.onnx")


def losing(found):
    return [f"{loss['rung']} {loss['above']}" for loss in found["losses"]]


def last_lines(capsys, count):
    return capsys.readouterr().out.splitlines()[-count:]


def test_rungs_that_agree_lose_nothing(data, good, tmp_path, capsys):
    bytes_model = save_colors(tmp_path / "bytes.onnx", "uint8")
    ladder = Ladder(data, tmp_path / "out").rung("float32", good)
    ladder.rung("uint8", bytes_model, "uint8")
    found = ladder.table()
    assert ladder.status == 0 and found["losses"] == []
    first, second = found["rungs"]
    assert (first["map"], first["change"], second["map"], second["change"]) == (1, None, 1, 0)
    assert second["match_rate"] == 1 and second["cosine"] > 1 - 1e-9 and second["max_abs"] < 1e-3
    assert second["raw"]["ploc"] == {"max_abs": 0, "mean_abs": 0, "cosine": 1}
    assert list(found["missing"]) == ["pytorch", "int8", "om"]
    assert last_lines(capsys, 1) == ["No rung loses more than 0.5 points of mAP"]
    page = (tmp_path / "out" / "ladder.md").read_text()
    assert "| uint8 | onnxruntime | 100.000 | 100.000 | +0.000 |" in page
    assert "- int8: not there; make it with ssd_quantize.py" in page
    ladder.layers()
    assert last_lines(capsys, 1) == ["Layers not compared: no rung lost"]


def test_disturbed_weights_are_named_at_their_rung_and_their_layer(data, good, tmp_path, capsys):
    bad = save_colors(tmp_path / "bad.onnx", "uint8", tint=TINT)
    ladder = Ladder(data, tmp_path / "out").rung("float32", good).rung("uint8", bad, "uint8")
    ladder.rung("int8", save_colors(tmp_path / "worse.onnx", tint=0 * TINT))
    found = ladder.table()
    assert ladder.status == 3 and losing(found) == ["uint8 float32", "int8 uint8"]
    assert found["rungs"][1]["change"] == pytest.approx(-100 / 3, abs=1e-5)  # red is not seen
    assert found["rungs"][1]["match_rate"] == pytest.approx(2 / 3)
    assert last_lines(capsys, 4) == [
        f"Look at {RUNGS['uint8'].look}",
        "uint8 loses 33.333 points of mAP to float32, more than 0.5",
        f"Look at {RUNGS['int8'].look}",
        "int8 loses 66.667 points of mAP to uint8, more than 0.5",
    ]
    ladder.layers()
    lines = last_lines(capsys, 20)
    heading = next(i for i, line in enumerate(lines) if line.endswith("layer"))
    assert lines[heading + 1].endswith("  /tint/Conv")
    assert lines[-1] == "The cosine first falls at /tint/Conv (Conv)"
    layers = json.loads((tmp_path / "out" / "layers.json").read_text())
    assert [layer["name"] for layer in layers][:2] == ["/stem/Conv", "/tint/Conv"]


def test_bytes_in_bgr_are_named_at_the_uint8_rung_and_not_laid_at_a_layer(
    data, good, tmp_path, capsys
):
    for file in (data / "uint8").glob("tensor*"):
        np.fromfile(file, np.uint8).reshape(-1, 3)[:, ::-1].tofile(file)
    bytes_model = save_colors(tmp_path / "bytes.onnx", "uint8")
    ladder = Ladder(data, tmp_path / "out").rung("float32", good)
    ladder.rung("uint8", bytes_model, "uint8").rung("int8", bytes_model, "uint8")
    found = ladder.table()
    assert ladder.status == 3 and losing(found) == ["uint8 float32"]
    assert found["rungs"][1]["map"] == pytest.approx(1 / 3)  # green is green in BGR too
    assert found["rungs"][2]["change"] == 0
    assert "RGB, not BGR" in found["losses"][0]["look"]
    ladder.layers()
    (line,) = last_lines(capsys, 1)
    assert "agree, so look at the input files of uint8" in line


def test_images_in_bgr_for_all_rungs_are_seen_against_a_goal(data, good, tmp_path, capsys):
    for file in (data / "float32").glob("tensor*"):
        np.fromfile(file, np.float32).reshape(3, -1)[::-1].tofile(file)
    ladder = Ladder(data, tmp_path / "out").rung("pytorch", good).rung("float32", good)
    assert (ladder.table()["losses"], ladder.status) == ([], 0)
    found = ladder.table(goal=0.99)
    assert ladder.status == 3 and losing(found) == ["pytorch the goal"]
    look = found["losses"][0]["look"]
    assert "BGR" in look and "categories" in look
    message = "pytorch loses 65.667 points of mAP to the goal, more than 0.5"
    assert last_lines(capsys, 1) == [message]
    ladder.layers()
    assert last_lines(capsys, 1) == ["Layers not compared: only the first rung lost, to the goal"]


def test_a_goal_that_is_missed_does_not_hide_the_layers_of_a_rung_below(
    data, good, tmp_path, capsys
):
    ladder = Ladder(data, tmp_path / "out").rung("pytorch", save_colors(tmp_path / "a.onnx"))
    ladder.rung("float32", save_colors(tmp_path / "b.onnx", tint=TINT))
    found = ladder.table(goal=1.0)
    assert losing(found) == ["float32 pytorch"]
    instances = json.loads((data / "annotations" / "instances_val2017.json").read_text())
    for annotation in instances["annotations"][:3]:
        annotation["bbox"][0] += 50  # nothing is there: the goal is missed too
    annotation = tmp_path / "moved.json"
    annotation.write_text(json.dumps(instances))
    ladder = Ladder(data, tmp_path / "moved", annotation).rung("pytorch", good)
    ladder.rung("float32", tmp_path / "b.onnx")
    assert losing(ladder.table(goal=1.0)) == ["pytorch the goal", "float32 pytorch"]
    ladder.layers()
    assert last_lines(capsys, 1) == ["The cosine first falls at /tint/Conv (Conv)"]


def test_a_shifted_label_map_is_named_with_what_it_is(data, good, tmp_path, capsys):
    shifted = save_colors(tmp_path / "shifted.onnx", order=SHIFTED)
    ladder = Ladder(data, tmp_path / "out").rung("pytorch", good).rung("float32", shifted)
    found = ladder.table()
    assert ladder.status == 3 and losing(found) == ["float32 pytorch"]
    row = found["rungs"][1]
    assert (row["map"], row["match_rate"], row["match_rate_any_label"]) == (0, 0, 1)
    assert found["losses"][0]["look"].startswith(LOOK_LABELS)
    ladder.layers()
    assert last_lines(capsys, 1) == ["The cosine first falls at /Gather (Gather)"]


def test_categories_in_another_order_are_seen_against_a_goal(data, good, tmp_path):
    instances = json.loads((data / "annotations" / "instances_val2017.json").read_text())
    instances["categories"] = instances["categories"][1:] + instances["categories"][:1]
    annotation = tmp_path / "shifted.json"
    annotation.write_text(json.dumps(instances))
    ladder = Ladder(data, tmp_path / "out", annotation).rung("float32", good)
    found = ladder.table(goal=1.0)
    assert ladder.status == 3 and losing(found) == ["float32 the goal"]
    assert found["rungs"][0]["map"] == 0
    assert "order of the categories" in found["losses"][0]["look"]


def test_the_layers_of_an_om_are_said_to_be_unreadable(tmp_path, capsys):
    rungs = [{"rung": "int8", "model": "a.onnx"}, {"rung": "om", "model": "x/a.om"}]
    ladder = {"rungs": rungs, "losses": [{"rung": "om", "above": "int8"}]}
    (tmp_path / "ladder.json").write_text(json.dumps(ladder))
    ssd_ladder.main(["layers", str(tmp_path), "--data", "/nowhere"])
    message = "Layers not compared: those of x/a.om cannot be read (an .om is compiled)"
    assert last_lines(capsys, 1) == [message]


def test_files_of_different_runs_are_not_put_in_one_table(data, good, tmp_path):
    ladder = Ladder(data, tmp_path / "out")
    ladder.rung("pytorch", good).rung("float32", good).rung("uint8", good)
    del ladder.models["float32"]  # uint8 was not compared with pytorch
    with pytest.raises(KitError, match="uint8 is of another run; run the ladder again"):
        ladder.table()


def test_outputs_go_once_they_are_compared(data, good, tmp_path):
    out = tmp_path / "out"
    begin(out, Plan({"float32": str(good), "uint8": str(good)}, {}, 0.5, None))
    ladder = Ladder(data, out).rung("float32", good)
    assert list((out / "float32").glob("tensor*"))
    ladder.rung("uint8", good)
    assert not (out / "float32").exists() and list((out / "uint8").glob("tensor*"))
    ladder.table()
    assert not (out / "uint8").exists()


def changed_since(folder, before):
    """Return the names of the JSON files whose times differ from those in `before`, now updated."""
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*_*.json")}
    changed = {name for name, time in times.items() if before.get(name) != time}
    before.update(times)
    return changed


def test_a_ladder_goes_on_where_it_was_and_runs_again_only_what_it_must(data, tmp_path):
    out, times = tmp_path / "out", {}
    names = {"pytorch": "a.onnx", "float32": "b.onnx", "int8": "c.onnx"}
    models = {rung: str(save_colors(tmp_path / name)) for rung, name in names.items()}

    def climb(*rungs):
        begin(out, Plan(models, {}, 0.5, None))
        ladder = Ladder(data, out)
        for rung in rungs:
            ladder.rung(rung, models[rung])
        return ladder, {
            name.partition("_")[0]
            for name in changed_since(out, times)
            if (not name.endswith("_result.json"))
        }  # which is written anew with another goal

    assert climb("pytorch", "float32")[1] == {"pytorch", "float32"}  # then it was interrupted
    ladder, changed = climb(*models)
    assert changed == {"int8"}
    found = ladder.table()
    assert found["losses"] == [] and not list(out.glob("*/tensor*"))
    ladder, changed = climb(*models)
    assert changed == set() and ladder.table() == found
    save_colors(tmp_path / "c.onnx", tint=TINT)
    ladder, changed = climb(*models)  # the outputs of float32 are gone, but needed
    assert changed == {"float32", "int8"}
    assert losing(ladder.table()) == ["int8 float32"]


@pytest.mark.parametrize("name", ["result", "detections", "summary", "against"])
def test_a_rung_whose_files_are_of_different_runs_is_in_no_table(name, data, good, tmp_path):
    ladders = []
    for folder, model in (("a", good), ("b", save_colors(tmp_path / "bad.onnx", tint=TINT))):
        ladder = Ladder(data, tmp_path / folder).rung("pytorch", good).rung("float32", model)
        ladders.append(ladder)
    shutil.copy(tmp_path / "b" / f"float32_{name}.json", tmp_path / "a")
    with pytest.raises(KitError, match="float32 (is of another|are of different) run"):
        ladders[0].table()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["plan", "x", "--goal", "23"], "--goal"),
        (["plan", "x", "--tolerance", "-1"], "--tolerance"),
        (["plan", "x", "--limit", "0"], "--limit"),
        (["plan", "x", "--limit", "images"], "--limit"),
        (["plan", "x", "--device", "0,1"], "--device"),
        (["layers", "x", "--limit", "0"], "--limit"),
        (["compare", "x", "float32", "nosuch"], "invalid choice"),
        (["table"], "RESULT"),
        ([], "COMMAND"),
    ],
)
def test_wrong_usage_is_status_2(args, message, run_stage):
    done = run_stage("ssd_ladder.py", *args)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["table"], ["layers", "--data", "x"]])
def test_an_empty_folder_is_refused_in_one_line(command, tmp_path, run_stage, refused):
    refused(run_stage("ssd_ladder.py", command[0], tmp_path, *command[1:]), "cannot read")
