"""The charts as SVG and PNG: texts, colours, fonts, and that nothing of the user's is used."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

import ssd_charts
import ssd_plots

ROOT = Path(__file__).parents[1]


def rows(*batches, **more):
    times = {"mean": 2.0, "p50": 2.0, "p99": 3.0, "runs": 3}
    row = {"fps": 5.0, "end_to_end": None, "latency_ms": times, "latency_per_image_ms": times}
    row |= {"seconds": {}, "baseline_fps": 482.627}
    return {"rows": [row | {"batch": batch} | more for batch in batches], "published": []}


def classes(*names):
    return {"detail": {"classes": [{"name": name, "ap": 0.5} for name in names]}}


def ap_chart(*names):
    charts = {"class_ap": ssd_charts.class_ap}
    return ssd_plots.render(charts, classes(*names))["class_ap"]


def test_every_text_of_an_svg_is_text_and_its_colours_are_the_page_s():
    svg, _ = ssd_plots.render({"fps": ssd_charts.fps}, rows(1, 16))["fps"]
    spans = dict(re.findall(r'lang="en">([^<]*)</tspan><tspan lang="zh-CN">([^<]*)<', svg))
    assert spans == {"batch size": "批大小", "images/s": "张/秒", "inference alone": "纯推理"}
    assert "var(--s1)" in svg and "var(--ink)" in svg
    assert not re.search(r"#[0-9a-f]{6}|DejaVu|<style", svg)


def test_every_text_of_every_chart_that_is_no_name_has_a_chinese_form():
    source = (ROOT / "ssd_charts.py").read_text()
    labels = re.findall(r'(?:set_[xy]label\(|[xy]label=|label=)"([^"%]+)"', source)
    assert len(labels) > 8
    assert set(labels) <= ssd_plots.CHINESE.keys()


def test_ids_differ_from_chart_to_chart():
    made = ssd_plots.render({"a": ssd_charts.fps, "b": ssd_charts.fps}, rows(1, 4))
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
    monkeypatch.setattr(ssd_plots, "fonts", lambda: ["DejaVu Sans"])
    ssd_plots.letters.cache_clear()
    assert ssd_plots.drawable("owl 猫") == "owl U+732B"
    ssd_plots.letters.cache_clear()


def test_the_png_shows_the_curves_of_all_classes_alone():
    half = {"0.50": [1.0] * 101, "0.75": [0.5] * 101, "mean": [0.75] * 101}
    none = {name: [0.0] * 101 for name in half}
    pictures = []
    for one in (half, none):
        pr = {"overall": half, "classes": [one, None]}
        _, png = ssd_plots.render({"pr": ssd_charts.pr}, {"detail": {"pr": pr}})["pr"]
        pictures.append(np.asarray(Image.open(io.BytesIO(png))))
    assert (pictures[0] == pictures[1]).all()


def test_level_stretches_lose_their_inner_points_alone():
    x, y = ssd_charts.corners(np.arange(6), np.array([1, 1, 1, 0.5, 0, 0]))
    assert x.tolist() == [0, 2, 3, 4, 5]
    assert y.tolist() == [1, 1, 0.5, 0, 0]


def test_charts_without_figures_are_left_out():
    report = rows(1) | {"detail": {"pr": {"overall": None, "classes": []}}} | {}
    made = ssd_plots.render({"pr": ssd_charts.pr, "time_split": ssd_charts.time_split}, report)
    assert made == {}
    assert "class_ap" not in ssd_plots.render({"class_ap": ssd_charts.class_ap}, classes())


def test_of_very_many_classes_both_ends_are_shown():
    svg, _ = ap_chart(*(f"class {i}" for i in range(500)))
    shown = set(re.findall(r">class (\d+)<", svg))
    assert shown == {str(i) for i in [*range(60), *range(440, 500)]}


def test_settings_of_the_user_are_neither_used_nor_changed(tmp_path):
    before = dict(matplotlib.rcParams)
    plain = ap_chart("cat")
    assert dict(matplotlib.rcParams) == before
    (tmp_path / "matplotlibrc").write_text("backend: TkAgg\nytick.major.size: 30\nfont.size: 40\n")
    words = "import sys; import test_ssd_plots as t; sys.stdout.write(t.ap_chart('cat')[0])"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "test")])
    env = os.environ | {"MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain[0]


@pytest.mark.parametrize("batches", [(1,), (1, 2, 3), (64, 1)])
def test_any_batch_sizes_make_a_chart(batches):
    charts = {"fps": ssd_charts.fps, "latency": ssd_charts.latency}
    assert set(ssd_plots.render(charts, rows(*batches))) == set(charts)
