"""The accuracy ladder's figures, its verdict, and planted faults, each named at its rung.

Run: python -m pytest test/test_ssd_ladder.py
"""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

import ssd_infer
import ssd_ladder
import ssd_layers
import ssd_postprocess
import ssd_preprocess
import ssd_rungs
import ssd_table
from ssd_files import KitError

pytest.importorskip("onnx")
path = Path(__file__).with_name("colour_detector.py")
spec = importlib.util.spec_from_file_location("colour_detector", path)
colour_detector = importlib.util.module_from_spec(spec)
spec.loader.exec_module(colour_detector)

TINT = np.array([[0.1, 0, 0], [0, 1, 0], [0, 0, 1]])  # red is hardly seen
SHIFTED = [0, 3, 1, 2]  # label 1 becomes 2, 2 becomes 3, 3 becomes 1


def rows(*found):
    """Make result rows of (image, left, top, right, bottom, score, category)."""
    made = np.array(found, np.float64).reshape(-1, 7)
    made[:, 3:5] -= made[:, 1:3]
    return made


def test_detections_are_found_again_by_place_label_and_picture():
    above = rows(
        (1, 0, 0, 100, 100, 0.9, 3),  # is there again
        (1, 200, 0, 300, 100, 0.8, 3),  # again, but with another label
        (1, 400, 0, 500, 100, 0.7, 3),  # 89 % of it: too far
        (2, 0, 0, 10, 10, 0.6, 3),  # only in picture 1
    )
    below = rows(
        (1, 0, 0, 100, 91, 0.2, 3),
        (1, 200, 0, 300, 100, 0.8, 7),
        (1, 400, 0, 500, 89, 0.7, 3),
        (1, 0, 0, 10, 10, 0.6, 3),
        (3, 0, 0, 100, 100, 0.9, 3),
    )
    assert ssd_rungs.share_found(above, below) == 1 / 4
    assert ssd_rungs.share_found(above, below, any_label=True) == 2 / 4
    assert ssd_rungs.share_found(below, above) == 1 / 5


def test_an_iou_of_exactly_nine_tenths_is_the_same():
    assert ssd_rungs.share_found(rows((1, 0, 0, 10, 10, 1, 3)), rows((1, 0, 0, 10, 9, 1, 3))) == 1


def test_a_detection_is_found_once_and_the_best_chooses_first():
    one = (1, 0, 0, 100, 100, 0.9, 3)
    assert ssd_rungs.share_found(rows(one, one), rows(one)) == 0.5
    # the better one of those above is nearer to the second below, which leaves the first
    above = rows((1, 0, 0, 100, 96, 0.1, 3), (1, 0, 0, 100, 100, 0.9, 3))
    below = rows((1, 0, 0, 100, 89, 0.9, 3), (1, 0, 0, 100, 99, 0.1, 3))
    assert ssd_rungs.share_found(above, below) == 1


def test_without_detections_above_there_is_no_share_and_below_none_is_found():
    one = rows((1, 0, 0, 100, 100, 0.9, 3))
    assert ssd_rungs.share_found(rows(), one) is None
    assert ssd_rungs.share_found(one, rows()) == 0


def write_outputs(folder, image_id, ploc, plabel):
    folder.mkdir(exist_ok=True)
    for k, value in enumerate((ploc, plabel)):
        value.tofile(folder / f"tensor([{image_id}])_{k}.bin")


def test_raw_outputs_are_compared_over_all_images(tmp_path):
    ploc, plabel = np.zeros((4, 8732), np.float32), np.zeros((3, 8732), np.float32)
    for image_id in (5, 7):
        write_outputs(tmp_path / "a", image_id, ploc + 3, plabel + 1)
    write_outputs(tmp_path / "b", 5, ploc + 3, plabel + 2)
    ploc[0, 0] = 2  # 5 where the other has 3
    half = (ploc + 3).astype(np.float16), (plabel + 1).astype(np.float16)
    write_outputs(tmp_path / "b", 7, *half)
    write_outputs(tmp_path / "b", 99, *half)  # not asked for
    found = ssd_rungs.compare_outputs(tmp_path / "a", tmp_path / "b", [5, 7], 3)
    n, m = 2 * 4 * 8732, 2 * 3 * 8732
    assert (found["ploc"]["max_abs"], found["plabel"]["max_abs"]) == (2, 1)
    assert found["ploc"]["mean_abs"] == pytest.approx(2 / n)
    assert found["plabel"]["mean_abs"] == pytest.approx(1 / 2)
    assert found["all"]["max_abs"] == 2
    assert found["all"]["mean_abs"] == pytest.approx((2 + m / 2) / (n + m))
    assert found["plabel"]["cosine"] == pytest.approx((2 + 1) / math.sqrt(2 * (4 + 1)))
    both, one = 9 * n + 6 + 1.5 * m, 9 * n + m
    other = 9 * n - 9 + 25 + m / 2 + 4 * m / 2
    assert found["all"]["cosine"] == pytest.approx(both / math.sqrt(one * other))


def test_missing_outputs_are_told(tmp_path):
    for name in "ab":
        write_outputs(tmp_path / name, 5, *(np.zeros((n, 8732), np.float32) for n in (4, 3)))
    with pytest.raises(KitError, match=r"b: no outputs of image 7|a: no outputs of image 7"):
        ssd_rungs.compare_outputs(tmp_path / "a", tmp_path / "b", [5, 7], 3)


def judged(changes, tolerance=0.5, **first):
    names = list(ssd_rungs.RUNGS)
    made = [
        {"rung": name, "above": above, "change": change}
        for name, above, change in zip(names, [None, *names], changes, strict=False)
    ]
    made[-1] |= first
    return ssd_rungs.judge(made, tolerance)


def test_the_first_rung_that_loses_more_than_the_tolerance_is_named():
    assert judged([None, -0.5, 3.0, -0.4]) == {"lost": None}
    found = judged([None, -0.4, -0.6, -9.0])
    assert (found["lost"], found["above"]) == ("uint8", "float32")
    assert found["look"] == ssd_rungs.RUNGS["uint8"].look
    assert judged([None, -0.4, -0.6], tolerance=1) == {"lost": None}
    assert judged([-0.6])["above"] == "the goal"
    assert judged([-0.6])["look"] == ssd_rungs.LOOK_FIRST
    assert judged([None]) == {"lost": None}


def test_boxes_found_under_other_labels_are_hinted_at():
    label = {"matched": 0.1, "matched_any_label": 0.9}
    assert judged([None, -5], **label)["look"].startswith(ssd_rungs.LOOK_LABELS)
    for nothing in ({"matched": 0.5}, {"matched": None, "matched_any_label": None}):
        assert judged([None, -5], **(label | nothing))["look"] == ssd_rungs.RUNGS["float32"].look


def test_a_loss_of_exactly_the_tolerance_is_none():
    assert ssd_rungs.points(0.785, 0.790) == -0.5  # float64 would have -0.5000000000000004
    assert ssd_rungs.points(0.3, 0.1) == 20


@pytest.fixture
def data(tmp_path):
    """A data set on which the detector is perfect, and its input files."""
    root = colour_detector.write_data(tmp_path / "da ta;'é")
    for dtype in ("float32", "uint8"):
        options = ["--data", root, "--bin-output", root / dtype, "--dtype", dtype, "--workers", 1]
        ssd_preprocess.main(list(map(str, options)))
    return root


class Ladder:
    """Climbs down a ladder as the driver does."""

    def __init__(self, data, folder, annotation=None):
        self.data, self.folder, self.rungs = data, folder, []
        self.options = ["--data", str(data)]
        self.options += ["--annotation", str(annotation)] if annotation else []

    def rung(self, name, model, inputs="float32"):
        out = ["--output", str(self.folder), "--output_dirname", name]
        ssd_infer.main(["--model", str(model), "--input", str(self.data / inputs), *out])
        made = {"--bin-input": name, "--output": f"{name}_result.json"}
        made |= {"--detections": f"{name}_detections.json"}
        files = [word for key, value in made.items() for word in (key, str(self.folder / value))]
        ssd_postprocess.main([*self.options, *files, "--workers", "1"])
        if self.rungs:
            ssd_ladder.main(["compare", str(self.folder), self.rungs[-1], name, *self.options])
        self.rungs.append(name)
        return self

    def table(self, *more):
        args = ["table", str(self.folder), "--rungs", ",".join(self.rungs), *more]
        self.status = ssd_ladder.main(args)
        return json.loads((self.folder / "ladder.json").read_text())

    def layers(self):
        ssd_ladder.main(["layers", str(self.folder), *self.options])


@pytest.fixture
def good(tmp_path):
    return colour_detector.save(tmp_path / "good.onnx")


def last_lines(capsys, count):
    return capsys.readouterr().out.splitlines()[-count:]


def test_rungs_that_agree_lose_nothing(data, good, tmp_path, capsys):
    bytes_model = colour_detector.save(tmp_path / "bytes.onnx", "uint8")
    ladder = Ladder(data, tmp_path / "out").rung("float32", good)
    ladder.rung("uint8", bytes_model, "uint8")
    found = ladder.table()
    assert ladder.status == 0 and found["lost"] is None
    first, second = found["rungs"]
    assert (first["map"], first["change"], second["map"], second["change"]) == (1, None, 1, 0)
    assert second["matched"] == 1 and second["cosine"] > 1 - 1e-9 and second["max_abs"] < 1e-3
    assert second["raw"]["ploc"] == {"max_abs": 0, "mean_abs": 0, "cosine": 1}
    assert list(found["missing"]) == ["pytorch", "int8", "om"]
    assert last_lines(capsys, 1) == ["No rung loses more than 0.5 points of mAP"]
    page = (tmp_path / "out" / "ladder.md").read_text()
    assert "| uint8 | onnxruntime | 100.000 | 100.000 | +0.000 |" in page
    assert "- int8: not there; make it with ssd_quantize.py" in page
    ladder.layers()
    assert last_lines(capsys, 1) == ["Layers not compared: no rung lost"]


def test_disturbed_weights_are_named_at_their_rung_and_their_layer(data, good, tmp_path, capsys):
    bad = colour_detector.save(tmp_path / "bad.onnx", "uint8", tint=TINT)
    ladder = Ladder(data, tmp_path / "out").rung("float32", good).rung("uint8", bad, "uint8")
    ladder.rung("int8", colour_detector.save(tmp_path / "worse.onnx", tint=0 * TINT))
    found = ladder.table()
    assert (ladder.status, found["lost"], found["above"]) == (3, "uint8", "float32")
    assert found["rungs"][1]["change"] == pytest.approx(-100 / 3, abs=1e-5)  # red is not seen
    assert found["rungs"][1]["matched"] == pytest.approx(2 / 3)
    told = "uint8 loses 33.333 points of mAP to float32, more than 0.5"
    assert last_lines(capsys, 2) == [f"Look at {ssd_rungs.RUNGS['uint8'].look}", told]
    ladder.layers()
    lines = last_lines(capsys, 20)
    heading = next(i for i, line in enumerate(lines) if line.endswith("layer"))
    assert lines[heading + 1].endswith("  /tint/Conv")
    assert lines[-1] == "The cosine first falls at /tint/Conv (Conv)"
    layers = json.loads((tmp_path / "out" / "layers.json").read_text())
    assert [one["name"] for one in layers][:2] == ["/stem/Conv", "/tint/Conv"]


def test_bytes_in_bgr_are_named_at_the_uint8_rung_and_not_laid_at_a_layer(
    data, good, tmp_path, capsys
):
    for file in (data / "uint8").glob("tensor*"):
        np.fromfile(file, np.uint8).reshape(-1, 3)[:, ::-1].tofile(file)
    bytes_model = colour_detector.save(tmp_path / "bytes.onnx", "uint8")
    ladder = Ladder(data, tmp_path / "out").rung("float32", good)
    ladder.rung("uint8", bytes_model, "uint8").rung("int8", bytes_model, "uint8")
    found = ladder.table()
    assert (ladder.status, found["lost"]) == (3, "uint8")
    assert found["rungs"][1]["map"] == pytest.approx(1 / 3)  # green is green in BGR too
    assert found["rungs"][2]["change"] == 0
    assert "RGB, not BGR" in found["look"]
    ladder.layers()
    (line,) = last_lines(capsys, 1)
    assert "agree, so look at the input files of uint8" in line


def test_pictures_in_bgr_for_all_rungs_are_seen_against_a_goal(data, good, tmp_path, capsys):
    for file in (data / "float32").glob("tensor*"):
        np.fromfile(file, np.float32).reshape(3, -1)[::-1].tofile(file)
    ladder = Ladder(data, tmp_path / "out").rung("pytorch", good).rung("float32", good)
    assert (ladder.table()["lost"], ladder.status) == (None, 0)
    found = ladder.table("--goal", "0.99")
    assert (ladder.status, found["lost"], found["above"]) == (3, "pytorch", "the goal")
    assert "BGR" in found["look"] and "categories" in found["look"]
    told = "pytorch loses 65.667 points of mAP to the goal, more than 0.5"
    assert last_lines(capsys, 1) == [told]
    ladder.layers()
    assert last_lines(capsys, 1) == ["Layers not compared: pytorch has no rung above it"]


def test_a_shifted_label_map_is_named_with_what_it_is(data, good, tmp_path, capsys):
    shifted = colour_detector.save(tmp_path / "shifted.onnx", order=SHIFTED)
    ladder = Ladder(data, tmp_path / "out").rung("pytorch", good).rung("float32", shifted)
    found = ladder.table()
    assert (ladder.status, found["lost"]) == (3, "float32")
    row = found["rungs"][1]
    assert (row["map"], row["matched"], row["matched_any_label"]) == (0, 0, 1)
    assert found["look"].startswith(ssd_rungs.LOOK_LABELS)
    ladder.layers()
    assert last_lines(capsys, 1) == ["The cosine first falls at /Gather (Gather)"]


def test_categories_in_another_order_are_seen_against_a_goal(data, good, tmp_path):
    instances = json.loads((data / "annotations" / "instances_val2017.json").read_text())
    instances["categories"] = instances["categories"][1:] + instances["categories"][:1]
    annotation = tmp_path / "shifted.json"
    annotation.write_text(json.dumps(instances))
    ladder = Ladder(data, tmp_path / "out", annotation).rung("float32", good)
    found = ladder.table("--goal", "1")
    assert (ladder.status, found["lost"], found["rungs"][0]["map"]) == (3, "float32", 0)
    assert "order of the categories" in found["look"]


def test_one_rung_alone_is_said_to_be_alone(data, good, tmp_path, capsys):
    ladder = Ladder(data, tmp_path / "out").rung("float32", good)
    found = ladder.table("--missing", "om=npu-smi: not on PATH")
    assert ladder.status == 0 and found["missing"]["om"] == "npu-smi: not on PATH"
    lines = last_lines(capsys, 6)
    assert lines[-1] == "Only one rung, float32: there is none to compare it with"
    assert "om: not there; npu-smi: not on PATH" in lines
    assert "pytorch: not there; give the checkpoint with --pth_path" in lines


def test_the_table_fits_80_columns_with_the_longest_values():
    row = {"rung": "pytorch", "engine": "ais_infer.py_and_more 1.2.3", "map": 1.0, "ap50": 1.0}
    row |= {"change": -100.0, "max_abs": 1.234e10, "mean_abs": 1e-10, "cosine": -0.1234567}
    cells = ssd_table.cells(ssd_ladder.COLUMNS, [row | {"matched": 1.0}])
    lines = ssd_table.as_text(ssd_ladder.COLUMNS, cells, ssd_ladder.GAP).splitlines()
    assert {len(line) for line in lines} <= set(range(81))
    told = "pytorch  ais_infer.py 100.000 100.000 -100.000 1.2e+10 1.0e-10 -0.123457 100.0"
    assert lines[1] == told
    assert max(map(len, ssd_ladder.LEGEND.splitlines())) <= 80


def differences(*cosines):
    return [
        ssd_layers.LayerDifference(f"n{i}", "Conv", one, 1.0, 0.5, before)
        for i, (before, one) in enumerate(cosines)
    ]


def test_the_first_layer_that_falls_comes_first_then_those_that_fall_most():
    found = differences((1, 0.999995), (1, 0.99), (0.99, 0.985), (0.985, 0.8), (0.8, 0.99))
    assert [one.name for one in ssd_ladder.falls(found)] == ["n1", "n3", "n2"]
    assert ssd_ladder.falls(found[:1]) == []
    nan = differences((1, 1), (1, math.nan), (math.nan, math.nan))
    assert [one.name for one in ssd_ladder.falls(nan)] == ["n1", "n2"]


def test_long_lists_of_layers_are_cut_and_counted():
    lines = ssd_ladder.told_layers(differences(*[(1, 0.9)] * 11), "int8")
    assert len(lines) == 1 + 8 + 2
    assert lines[-2:] == [
        "and 3 more that fall by 1e-05 or more",
        "The cosine first falls at n0 (Conv)",
    ]


def test_the_layers_of_an_om_are_said_to_be_unreadable(tmp_path, capsys):
    rungs = [{"rung": "int8", "model": "a.onnx"}, {"rung": "om", "model": "x/a.om"}]
    ladder = {"rungs": rungs, "lost": "om", "above": "int8"}
    (tmp_path / "ladder.json").write_text(json.dumps(ladder))
    ssd_ladder.main(["layers", str(tmp_path), "--data", "/nowhere"])
    told = "Layers not compared: those of x/a.om cannot be read (an .om is compiled)"
    assert last_lines(capsys, 1) == [told]


def test_files_of_different_runs_are_not_put_in_one_table(data, good, tmp_path):
    ladder = Ladder(data, tmp_path / "out")
    ladder.rung("pytorch", good).rung("float32", good).rung("uint8", good)
    ladder.rungs = ["pytorch", "uint8"]  # which were not compared with each other
    with pytest.raises(KitError, match="uint8 is of another run; run the ladder again"):
        ladder.table()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["table", "x", "--rungs", "fp32"], "--rungs"),
        (["table", "x", "--rungs", "float32", "--missing", "om"], "--missing"),
        (["table", "x", "--rungs", "float32", "--missing", "x=y"], "--missing"),
        (["compare", "x", "float32", "nosuch"], "invalid choice"),
        (["table", "x"], "--rungs"),
        ([], "COMMAND"),
    ],
)
def test_wrong_usage_is_status_2(args, told, run_stage):
    done = run_stage("ssd_ladder.py", *args)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["table", "--rungs", "float32"], ["layers", "--data", "x"]])
def test_an_empty_folder_is_told_in_one_line(command, tmp_path, run_stage, refused):
    refused(run_stage("ssd_ladder.py", command[0], tmp_path, *command[1:]), "cannot read")


def test_what_a_model_computes_in_is_told(good, tmp_path, standin):
    assert ssd_rungs.precision(good, "CPUExecutionProvider") == "float32"
    assert ssd_rungs.precision(Path("a.pt"), "cpu") == "float32"
    assert ssd_rungs.precision(Path("a.pt"), "NVIDIA H100") == "float16"
    assert ssd_rungs.precision(tmp_path / "gone.onnx", "cpu") == "not known"
    om = tmp_path / "a.om"
    om.write_text("")
    assert ssd_rungs.precision(om, "card 0") == "atc: no note beside the .om"
