"""The pages in a browser: headless Chromium opens them from a file and uses them as a reader does.

Skipped where chromium, chromedriver or selenium is missing.
"""

import json
import re
import shutil
from pathlib import Path

import ssd_report
from ssd.report.ladder import read_ladder

import pytest
from browsing import DOG, check_figures, click, script, shown
from models import FIVE

PAGES = ["report.html", "compare.html", "history.html", "ladder.html"]
LANGUAGES = {"en": "zh-CN", "zh-CN": "en"}


@pytest.mark.parametrize("name", PAGES)
def test_it_opens_without_an_error_and_asks_for_nothing(page, name):
    driver = page(name)
    assert driver.get_log("browser") == []
    messages = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert urls, "the log holds the page itself, so others would be in it, too"
    assert {url for url in urls if not url.startswith("data:")} == {driver.current_url}
    assert script(driver, "document.querySelectorAll('h2').length") >= 3


@pytest.mark.parametrize(
    ("name", "least"),
    [("report.html", 150), ("compare.html", 100), ("history.html", 40), ("ladder.html", 40)],
)
def test_every_figure_is_that_of_the_json(page, folder, name, least):
    report = json.loads((folder / name).with_suffix(".json").read_text())
    report = read_ladder(folder) if name == "ladder.html" else report
    assert check_figures(page(name), report) > least


def test_every_number_in_a_table_is_a_figure(page):
    loose = script(
        page(),
        "[...document.querySelectorAll('td')].map((node) => { const rest = node.cloneNode(true);"
        " for (const figure of rest.querySelectorAll('[data-figure]')) figure.remove();"
        " return rest.textContent.trim(); }).filter((text) => /[0-9]/.test(text))",
    )
    chinese = {text for text in loose if "张图片" in text}  # the selection's words, translated
    assert chinese == {"全部 5 张图片"}
    protocol = {"0.50:0.95", "0.50", "0.75", "1", "10", "100"}  # of COCO's protocol, not results
    assert set(loose) - chinese == protocol


@pytest.mark.parametrize("name", PAGES)
def test_where_there_is_no_figure_stands_a_dash(page, name):
    cells = script(page(name), "[...document.querySelectorAll('td')].map((td) => td.textContent)")
    assert "–" in cells
    assert not {"None", "null", "nan", ""} & set(cells)


@pytest.mark.parametrize("name", PAGES)
def test_the_language_switch_changes_every_text(page, name):
    driver = page(name)
    seen = {}
    for language in ("en", "zh-CN"):
        assert script(driver, "document.documentElement.lang") == language
        assert shown(driver, f"[lang='{LANGUAGES[language]}']:not(html)") == []
        seen[language] = driver.find_element("tag name", "body").text
        attributes = script(
            driver,
            "[...document.querySelectorAll('[alt],[aria-label]')].map((node) =>"
            " node.getAttribute('alt') || node.getAttribute('aria-label') || '')",
        )
        # what a reader sees or hears in Chinese holds Chinese wherever it is a sentence
        assert any(re.search("[一-鿿]", text) for text in attributes) == (language == "zh-CN")
        click(driver, "#language")
    words = set(re.findall(r"[a-z]{4,}", seen["zh-CN"].lower()))
    known = re.findall(r"[a-z]{4,}", script(driver, "document.documentElement.innerHTML").lower())
    assert any(word in seen["zh-CN"] for word in ("没有", "不同"))
    assert {"latency", "milliseconds", "images", "missed", "recall", "batch"} & words == set()
    assert words <= set(known)
    assert script(driver, "document.documentElement.lang") == "en"


def test_chart_texts_have_both_languages(page):
    driver = page()
    assert "images/s" in shown(driver, "#chart-fps tspan")
    click(driver, "#language")
    assert "张/秒" in shown(driver, "#chart-fps tspan")
    assert "images/s" not in shown(driver, "#chart-fps tspan")
    assert script(driver, "document.querySelector('#curve-class').options[0].text") == "全部类别"
    assert script(driver, "document.title") == "SSD-ResNet34 评测报告"


def test_the_light_switch_changes_the_colors_and_is_remembered(page):
    driver = page()

    def ground():
        return script(driver, "getComputedStyle(document.body).backgroundColor")

    before = ground()
    axis = "getComputedStyle(document.querySelector('#chart-fps text')).fill"
    ink = script(driver, axis)
    click(driver, "#theme")
    assert ground() != before
    assert script(driver, axis) != ink
    driver.refresh()
    assert ground() != before
    click(driver, "#theme")
    assert ground() == before


@pytest.mark.parametrize("dark", [False, True])
def test_letters_stand_out_from_their_ground(page, dark):
    driver = page()
    if dark:
        click(driver, "#theme")

    def color(name):
        text = script(
            driver,
            "getComputedStyle(document.documentElement).getPropertyValue(arguments[0])",
            name,
        ).strip()
        text = "".join(2 * c for c in text[1:]) if len(text) == 4 else text[1:]
        parts = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(c * share for c, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    for ground in ("--ground", "--raised"):
        for name in ("--ink", "--muted", "--link", "--good", "--bad"):
            low, high = sorted((color(ground), color(name)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, name)  # WCAG AA


def test_a_heading_sorts_the_classes(page):
    driver = page()
    names = "[...document.querySelectorAll('#class-table tbody th')].map((th) => th.textContent)"
    assert script(driver, names) == [DOG, "cat", "猫头鹰"]  # worst AP first, the owl has none
    click(driver, "#class-table th:nth-child(2) button")
    assert script(driver, names) == ["cat", DOG, "猫头鹰"]
    click(driver, "#class-table th:nth-child(8) button")  # false detections: 2, 1, 1
    assert script(driver, names)[0] == "cat"
    click(driver, "#class-table th:nth-child(8) button")
    assert script(driver, names)[-1] == "cat"
    click(driver, "#class-table th:first-child button")
    assert script(driver, names) == [DOG, "cat", "猫头鹰"]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 360, 1280])
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_page_is_never_wider_than_the_screen(page, name, width, language):
    driver = page(name, width)
    if language == "zh-CN":
        click(driver, "#language")
    assert script(driver, "document.documentElement.scrollWidth") <= width


def test_what_is_missing_is_said_in_both_languages(page, tmp_path):
    browser = page()  # in English again
    path = Path(shutil.copytree(FIVE / "result", tmp_path / "result"))
    ssd_report.main([str(path)])
    browser.get((path / "report.html").as_uri())
    assert "No data set was named" in browser.find_element("css selector", ".missing").text
    assert shown(browser, "#gallery") == []
    click(browser, "#language")
    assert "未指定数据集" in browser.find_element("css selector", ".missing").text
    click(browser, "#language")
