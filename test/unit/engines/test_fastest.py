"""Which way to run a model is the fastest: with engines whose times are chosen here."""

from pathlib import Path

import ssd_doctor
from ssd.cli import KitError
from ssd.engines import fastest, in_process
from ssd.engines.fastest import Way

import pytest
from models import save_light

PLAIN, INT8 = Path("ssd_bs1.onnx"), Path("ssd_bs1_int8.onnx")


class Fake:
    batch, labels = None, 5

    def __init__(self, milliseconds):
        self.milliseconds = milliseconds


@pytest.fixture
def engines(monkeypatch):
    """Let ways open as engines of these milliseconds a run; None does not open."""

    def set_times(times):
        def open_engine(path, device, engine, precision):
            if times[engine, precision, path] is None:
                raise KitError("no such precision here")
            return Fake(times[engine, precision, path])

        monkeypatch.setattr(fastest, "open_engine", open_engine)
        monkeypatch.setattr(fastest, "ways_of", lambda models: [Way(*key) for key in times])
        monkeypatch.setattr(fastest, "is_int8", lambda model: model == INT8)
        monkeypatch.setattr(fastest, "settle", lambda *_: None)
        timed = lambda engine, *_: [engine.milliseconds] * 3  # noqa: E731
        monkeypatch.setattr(fastest, "time_pure", timed)

    return set_times


def test_ways_are_held_against_the_first_with_what_each_costs(engines, monkeypatch):
    times = {("onnxruntime", "f32", PLAIN): 100.0, ("openvino", "bf16", PLAIN): 50.0}
    engines(times | {("openvino", "f32", PLAIN): None, ("openvino", "int8", INT8): 20.0})
    aps = {100.0: 0.5, 50.0: 0.4875, 20.0: None}
    monkeypatch.setattr(fastest, "mean_ap", lambda engine, *_: aps[engine.milliseconds])
    monkeypatch.setattr(in_process, "check_labels", lambda *_: None)
    rows = fastest.measure([PLAIN, INT8], 4, 1, object(), 1)
    shown = [[row[key] for key in fastest.COLUMNS] for row in rows]
    assert shown == [
        ["onnxruntime", "f32", PLAIN.name, 40.0, 1.0, 0.5, None],
        ["openvino", "bf16", PLAIN.name, 80.0, 2.0, 0.4875, pytest.approx(-0.0125)],
        ["openvino", "int8", INT8.name, 200.0, 5.0, None, None],
    ]
    assert fastest.choose_fastest(rows)["way"] == Way("openvino", "int8", INT8)


@pytest.mark.parametrize(
    ("fps", "best"), [([100, 104, 90], 0), ([100, 106, 90], 1), ([94, 100, 101], 1), ([1], 0)]
)
def test_of_those_as_fast_but_for_the_noise_the_first_is_taken(fps, best):
    rows = [{"fps": value, "i": i} for i, value in enumerate(fps)]
    assert fastest.choose_fastest(rows)["i"] == best


def test_where_no_engine_opens_that_is_a_mistake(engines):
    engines({("openvino", "bf16", PLAIN): None})
    with pytest.raises(KitError, match="no engine runs any of the models"):
        fastest.measure([PLAIN], 1, 1, None, 1)


def test_a_folder_gives_the_model_of_a_batch_size_and_its_int8_one(tmp_path, capsys):
    for name in ("ssd_bs1.onnx", "ssd_bs4.onnx", "ssd_bs4_int8.onnx", "ssd_bs4_x.onnx", "m.onnx"):
        save_light(tmp_path / name)

    def names(place, batch, variant=""):
        return [path.name for path in fastest.models_of([place], batch, variant)]

    assert names(tmp_path, 4) == ["ssd_bs4.onnx", "ssd_bs4_int8.onnx"]
    assert names(tmp_path, 4, "x") == ["ssd_bs4_x.onnx"]
    assert names(tmp_path / "m.onnx", 4) == ["m.onnx"]
    assert capsys.readouterr().err == ""
    assert names(tmp_path, 1) == ["ssd_bs1.onnx"]
    assert "no INT8 model is measured" in capsys.readouterr().err
    with pytest.raises(KitError, match="ssd_bs8.onnx: no such model"):
        names(tmp_path, 8)


def test_quantized_files_run_in_int8_alone_in_openvino(tmp_path, monkeypatch):
    monkeypatch.setattr(fastest.importlib.util, "find_spec", lambda name: name == "openvino")
    plain, int8 = save_light(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    int8.write_bytes(b"..QuantizeLinear..")
    kinds = [(way.engine, way.precision, way.model) for way in fastest.ways_of([plain, int8])]
    assert kinds == [
        *(("onnxruntime", "f32", plain), ("openvino", "f32", plain), ("openvino", "bf16", plain)),
        *(("onnxruntime", "f32", int8), ("openvino", "int8", int8)),
    ]
    monkeypatch.setattr(fastest.importlib.util, "find_spec", lambda name: None)
    assert [way.engine for way in fastest.ways_of([plain, int8])] == ["onnxruntime"] * 2


def test_the_doctor_measures_and_prints_what_to_take(tiny_coco, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fastest.importlib.util, "find_spec", lambda name: None)
    model = save_light(tmp_path / "ssd_bs1.onnx")
    given = ["--model", str(model), "--seconds=0.01", f"--data={tiny_coco}", "--limit=2"]
    args = ssd_doctor.parse_args(["--measure", *given])
    ssd_doctor.measure(args)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "batch size 1; times: as fast as the first; mAP in % of 2 images"
    assert lines[2].split() == [
        "engine",
        "precision",
        "model",
        "images/s",
        "times",
        "mAP",
        "change",
    ]
    assert lines[3].split()[:3] == ["onnxruntime", "f32", "ssd_bs1.onnx"]
    assert lines[4] == f"fastest: --engine=onnxruntime --model={model}"
    assert ssd_doctor.main(["--fastest", *given]) == 0
    assert capsys.readouterr().out == "onnxruntime:f32:\n"
