"""The charts as SVG and PNG: texts, colors, fonts, and that nothing of the user's is used."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from ssd.report import render
from ssd.report.accuracy_charts import class_ap, pr, scores
from ssd.report.charts import fps, latency, time_split

import matplotlib
import pytest
from models import ROOT
from PIL import Image


def rows(*batches, **more):
    times = {"mean": 2.0, "p50": 2.0, "p99": 3.0, "runs": 3}
    row = {"fps": 5.0, "end_to_end": None, "latency_ms": times}
    row |= {"seconds": {}, "baseline_fps": 482.627}
    return {"rows": [row | {"batch": batch} | more for batch in batches], "published": []}


def classes(*names):
    return {"detail": {"classes": [{"name": name, "ap": 0.5} for name in names]}}


def ap_chart(*names):
    charts = {"class_ap": class_ap}
    return render.render(charts, classes(*names))["class_ap"]


def test_every_text_of_an_svg_is_text_and_its_colors_are_those_of_the_page():
    svg, _ = render.render({"fps": fps}, rows(1, 16))["fps"]
    spans = dict(re.findall(r'lang="en">([^<]*)</tspan><tspan lang="zh-CN">([^<]*)<', svg))
    batch = {"batch size (log scale)": "批大小（对数刻度）"}
    assert spans == batch | {"images/s": "张/秒", "inference alone": "纯推理"}
    assert "var(--s1)" in svg and "var(--ink)" in svg
    assert not re.search(r"#[0-9a-f]{6}|DejaVu|<style", svg)


def test_every_text_of_every_chart_that_is_no_name_has_a_chinese_form():
    files = ("charts.py", "accuracy_charts.py")
    source = "".join((ROOT / "ssd" / "report" / name).read_text() for name in files)
    labels = re.findall(r'(?:set_[xy]label\(|[xy]label=|label=)"([^"%]+)"', source)
    assert len(labels) > 8
    assert set(labels) <= render.CHINESE.keys()


def test_axes_on_a_log_scale_say_so():
    times = {"scores": scores, "fps": fps, "latency": latency}
    detail = {"histogram": {"edges": [0, 0.5, 1], "true": [1, 9], "false": [99, 0]}, "score": 0.3}
    axes = [ax for chart in times.values() for ax in chart(rows(1, 4) | {"detail": detail}).axes]
    sides = [(ax.xaxis, ax.yaxis) for ax in axes]
    labels = [
        axis.label.get_text() for pair in sides for axis in pair if axis.get_scale() != "linear"
    ]
    assert {label for label in labels if label} == {
        "batch size (log scale)",
        "detections (log scale)",
    }


def test_ids_differ_from_chart_to_chart():
    made = render.render({"a": fps, "b": fps}, rows(1, 4))
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg, _ in made.values()]
    assert ids[0] and not ids[0] & ids[1]
    for svg, _ in made.values():
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
        assert used <= set(re.findall(r' id="([^"]+)"', svg))


def test_names_of_classes_are_escaped_and_are_no_formulas():
    svg, png = ap_chart('<b>&"', "a$x^2$b", "_hidden", "猫头鹰")
    assert "&lt;b&gt;&amp;" in svg
    assert "a$x^2$b" in svg and "_hidden" in svg and "猫头鹰" in svg
    assert Image.open(io.BytesIO(png)).size[0] > 500


def test_letters_without_a_font_get_their_code_in_the_png(monkeypatch):
    monkeypatch.setattr(render, "fonts", lambda: ["DejaVu Sans"])
    render.letters.cache_clear()
    assert render.drawable("owl 猫") == "owl U+732B"
    render.letters.cache_clear()


def test_charts_without_figures_are_left_out():
    report = rows(1) | {"detail": {"pr": {"overall": None, "classes": []}}} | {}
    made = render.render({"pr": pr, "time_split": time_split}, report)
    assert made == {}
    assert "class_ap" not in render.render({"class_ap": class_ap}, classes())


def test_of_very_many_classes_both_ends_are_shown():
    svg, _ = ap_chart(*(f"class {i}" for i in range(500)))
    assert ">… 380 …<" in svg
    shown = set(re.findall(r">class (\d+)<", svg))
    assert shown == {str(i) for i in [*range(60), *range(440, 500)]}


def test_settings_of_the_user_are_neither_used_nor_changed(tmp_path):
    before = dict(matplotlib.rcParams)
    plain = ap_chart("cat")
    assert dict(matplotlib.rcParams) == before
    (tmp_path / "matplotlibrc").write_text("backend: TkAgg\nytick.major.size: 30\nfont.size: 40\n")
    words = "import sys; import test_charts as t; sys.stdout.write(t.ap_chart('cat')[0])"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "test"), str(Path(__file__).parent)])
    env = os.environ | {"MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain[0]


@pytest.mark.parametrize("batches", [(1,), (1, 2, 3), (64, 1)])
def test_any_batch_sizes_make_a_chart(batches):
    charts = {"fps": fps, "latency": latency}
    assert set(render.render(charts, rows(*batches))) == set(charts)
