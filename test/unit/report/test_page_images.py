"""Slider, links, filters, boxes and curves of report.html, in headless Chromium.

The five images of test/data/five; what becomes of their boxes is worked out in test_metrics.py.
"""

import json

import pytest
from browsing import DOG, check_figures, click, pick, script, shown, slide

THRESHOLDS = [round(i / 20, 2) for i in range(1, 20)]


def files(driver):
    return sorted(text.split(".jpg")[0] for text in shown(driver, ".gallery figcaption"))


def kinds(driver, name):
    """The kinds of the boxes drawn on an image of the gallery."""
    return script(
        driver,
        "[...document.querySelectorAll('.gallery figure')].find((figure) => figure.querySelector("
        "'figcaption').textContent.startsWith(arguments[0])).querySelectorAll('[data-kind]')"
        ".values().map((node) => node.dataset.kind).toArray()",
        name,
    )


def test_the_slider_moves_figures_boxes_captions_and_curves(page, folder):
    driver = page()
    report = json.loads((folder / "report.json").read_text())
    assert sorted(kinds(driver, "10.")) == ["class", "found", "missed"]
    assert kinds(driver, "50.") == ["background"]
    slide(driver, THRESHOLDS.index(0.75))
    assert shown(driver, "#score-value") == ["0.75"]
    assert check_figures(driver, report) > 150
    moved = script(
        driver,
        "[...document.querySelectorAll('[data-live] [data-figure]')].map((n) => n.dataset.figure)",
    )
    assert len(moved) > 20 and all(path.endswith(".14") for path in moved)
    assert kinds(driver, "20.") == ["missed"]  # .72 and .62 count no more
    assert kinds(driver, "50.") == []
    caption = next(text for text in shown(driver, ".gallery figcaption") if "20." in text)
    assert "0 found · 1 missed · 0 false" in caption
    assert shown(driver, "tr[data-class='0'] [data-main]") == ["wrong class类别错误"]
    slide(driver, THRESHOLDS.index(0.95))
    assert check_figures(driver, report) > 150
    assert shown(driver, "tr[data-class='0'] [data-main]") == ["–"]
    slide(driver, THRESHOLDS.index(0.05))
    assert sorted(kinds(driver, "50.")) == ["background", "background"]


def test_numbers_lead_to_their_images(page):
    driver = page()
    assert files(driver) == ["10", "20", "30", "40", "50"]
    cases = {
        "kind:missed": ["10", "40"],
        "kind:class": ["10", "40"],
        "kind:duplicate": ["20"],
        "kind:background": ["50"],
        "kind:location": [],
        "class:1": ["10", "30", "40"],  # a dog missed in 10, found in 30, taken for a cat in 40
        "size:1": ["20", "30"],
        "cell:1,0": ["10"],  # a dog taken for a cat
        "cell:0,1": ["40"],
    }
    for link, names in cases.items():
        click(driver, f"[data-show='{link}']")
        assert files(driver) == names, link
        none = "document.querySelector('#gallery-none').hidden"
        assert script(driver, none) == bool(names)
    slide(driver, THRESHOLDS.index(0.85))
    click(driver, "[data-show='kind:missed']")
    assert files(driver) == ["10", "20", "40"]
    click(driver, "#clear")
    assert len(files(driver)) == 5


def test_the_images_can_be_filtered_by_group_class_and_kind(page):
    driver = page()
    pick(driver, "#gallery-class", DOG)
    assert files(driver) == ["10", "30", "40"]
    assert shown(driver, "#gallery-count") == ["3"]
    pick(driver, "#gallery-kind", "missed")
    assert files(driver) == ["10"]
    click(driver, "[data-group='more']")  # five images: none was left for this group
    assert files(driver) == []
    click(driver, "#clear")
    pick(driver, "#gallery-class", "猫头鹰")
    assert files(driver) == ["50"]


def test_names_on_boxes_can_be_put_away_and_are_no_markup(page):
    driver = page()
    texts = shown(driver, ".gallery svg text")
    assert f"○ {DOG}" in texts and "✗ 猫头鹰 0.37" in texts
    click(driver, "#tags")
    assert shown(driver, ".gallery svg text") == []
    assert kinds(driver, "50.") == ["background"]


def test_each_kind_of_box_has_its_own_color_or_shape(page):
    looks = script(page(), "Object.values(LOOKS)")
    assert len({tuple(look[:2]) + (look[2] == "✗",) for look in looks}) == len(looks)
    assert len({look[2] for look in looks}) == len(looks)
    assert len({look[1] for look in looks}) == len(looks) - 1  # found and background: no dashes
    key = shown(page(), "#key li")
    assert len(key) == len(looks)


def test_an_image_can_be_enlarged_turned_and_put_away(page):
    driver = page()
    click(driver, "[data-show='kind:missed']")
    click(driver, ".gallery figure:not([hidden]) button")
    large = "document.querySelector('#large')"
    names = []
    for key in ("", "ArrowRight", "ArrowRight", "ArrowLeft"):
        if key:
            script(
                driver,
                f"{large}.dispatchEvent(new KeyboardEvent('keydown', {{key: arguments[0]}}))",
                key,
            )
        names.append(shown(driver, "#caption b")[0])
    assert sorted(names[:2]) == ["10.jpg", "40.jpg"]
    assert names[2:] == names[:2]  # round and round
    assert script(driver, f"{large}.querySelector('img').naturalWidth") == 100
    assert script(driver, f"{large}.querySelectorAll('rect').length") > 0
    assert "found ·" in shown(driver, "#caption")[0]
    click(driver, "#close")
    assert not script(driver, f"{large}.open")


def test_the_curves_of_a_chosen_class_are_shown(page):
    driver = page()
    curves = "[...document.querySelectorAll('#chart-pr .class-curve')].map((c) => c.points.length)"
    assert script(driver, curves) == []
    pick(driver, "#curve-class", "cat")
    assert script(driver, curves) == [101] * 3
    readout = shown(driver, "#curve-readout")[0]
    assert "53.8" in readout  # AP 0.53812, worked out in test_metrics.py
    assert script(driver, "document.querySelectorAll('#chart-f1 .class-curve').length") == 3
    pick(driver, "#curve-class", DOG)
    half = (
        "(() => { const frame = frameOf('pr'), line = document.querySelector('#chart-pr .c1');"
        " return [50, 51].map((i) => (frame.bottom - line.points[i].y) /"
        " (frame.bottom - frame.top) * 1.02); })()"
    )
    assert script(driver, half) == pytest.approx([1, 0], abs=0.01)  # one of two dogs is found
    assert script(driver, "document.querySelectorAll('b b').length") == 0  # a name is no markup
    pick(driver, "#curve-class", "all classes")
    assert script(driver, curves) == []
    assert script(driver, "document.querySelector('#curve-class').options.length") == 3  # no owl


@pytest.mark.parametrize(
    ("name", "score", "recall", "precision"),
    [
        ("cat", 0.3, 2 / 3, 1 / 2),  # of three cats two are found, of four detections two are true
        ("cat", 0.95, 0, None),
        ("all classes", 0.3, (2 / 3 + 1 / 2) / 2, 1 / 2),
    ],
)
def test_the_chosen_score_lies_on_the_curve(page, name, score, recall, precision):
    driver = page()
    slide(driver, THRESHOLDS.index(score))
    pick(driver, "#curve-class", name)
    frame = script(
        driver,
        "(() => { const b = document.querySelector('#pr-pr-frame').getBBox();"
        " return [b.x, b.y, b.width, b.height]; })()",
    )
    point = script(
        driver,
        "[...document.querySelectorAll('#chart-pr .point')].map((node) =>"
        " [node.cx.baseVal.value, node.cy.baseVal.value])[0]",
    )
    if precision is None:
        assert point is None
        return
    x, y, width, height = frame
    expected = [x + recall * width, y + height * (1 - precision / 1.02)]
    assert point == pytest.approx(expected, abs=0.1)


def test_a_cell_of_the_matrix_can_be_read(page):
    driver = page()
    point = (
        "(() => { const image = document.querySelector('#confusion-cells');"
        " image.scrollIntoView({block: 'center'}); const place = image.getBoundingClientRect();"
        " image.closest('svg').dispatchEvent(new MouseEvent('click', {bubbles: true, clientX:"
        " place.left + (arguments[1] + .5) * place.width / 4, clientY: place.top + (arguments[0] +"
        " .5) * place.height / 4})); })()"
    )
    texts = {
        (0, 0): "cat, detected as cat: 2",
        (1, 0): f"{DOG}, detected as cat: 1",
        (0, 3): "cat, missed: 0",
        (3, 2): "background, detected as 猫头鹰: 1",
    }
    for cell, text in texts.items():
        script(driver, point, *cell)
        assert shown(driver, "#cell-readout span") == [text]
    assert files(driver) == ["50"]  # a click leads to the images of a cell
    assert "background → 猫头鹰 ×" in shown(driver, "#gallery-cell span")


def test_two_runs_show_the_images_that_changed_side_by_side(page):
    driver = page("compare.html")
    captions = shown(driver, ".gallery figcaption")
    assert [text.split(".jpg")[0] for text in captions] == ["A 30", "B 30", "A 50", "B 50"]
    widths = script(
        driver, "[...document.querySelectorAll('.gallery img')].map((node) => node.naturalWidth)"
    )
    assert widths == [100] * 4  # B's is A's image
    drawn = "[...document.querySelectorAll('.gallery figure')].map((figure) => [...figure"
    drawn += ".querySelectorAll('[data-kind]')].map((node) => node.dataset.kind))"
    assert script(driver, drawn) == [["crowd", "crowd", "found"], ["crowd", "crowd", "missed"]] + [
        ["background"],
        [],
    ]
    click(driver, "[data-group='worse']")
    assert len(shown(driver, ".gallery figcaption")) == 2
    assert shown(driver, "#gallery-count") == ["1"]
