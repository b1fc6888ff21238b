"""The pages in a browser: headless Chromium opens them from a file and uses them as a reader does.

Skipped where chromium, chromedriver or selenium is missing.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

import ssd_coco
import ssd_page
import ssd_report

FIVE = Path(__file__).parent / "data" / "five"
DOG = "<b>\"dog\" & 'co'"  # a class whose name is no easy one
LANGUAGES = {"en": "zh-CN", "zh-CN": "en"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium that keeps the console's lines and every request that a page makes."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(paths):
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    profile = tmp_path_factory.mktemp("profile")
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{word}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--lang=en")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A result folder with its report, and with its comparison with a copy of itself."""
    path = tmp_path_factory.mktemp("re sult;'é")
    shutil.copytree(FIVE / "result", path, dirs_exist_ok=True)
    facts = ["--fact", "data=<i>&amp;", "--fact", "x.y=dotted", "--fact", "command=a  -b=c -d"]
    ssd_report.main([str(path), "--data", str(FIVE / "coco"), "--all-images", *facts])
    ssd_report.main([str(path), str(FIVE / "result"), "--output", str(path)])
    return path


@pytest.fixture
def page(browser, folder):
    """The report's page, freshly opened at desktop width, in English and light."""

    def show(name="report.html", width=1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((folder / name).as_uri())
        browser.execute_script("localStorage.clear()")
        browser.get_log("browser"), browser.get_log("performance")
        browser.get((folder / name).as_uri())
        return browser

    return show


def script(page, words, *more):
    return page.execute_script(f"return {words}", *more)


def click(page, selector):
    script(page, "document.querySelector(arguments[0]).click()", selector)


def pick(page, selector, text):
    """Choose an option of a select by its text."""
    script(
        page,
        "(() => { const one = document.querySelector(arguments[0]);"
        " one.value = [...one.options].find((option) => option.text === arguments[1]).value;"
        " one.dispatchEvent(new Event('change')); })()",
        selector,
        text,
    )


def shown(page, selector):
    """Return the texts of those elements that can be seen."""
    return script(
        page,
        "[...document.querySelectorAll(arguments[0])]"
        ".filter((one) => one.getClientRects().length).map((one) => one.textContent)",
        selector,
    )


@pytest.mark.parametrize("name", ["report.html", "compare.html"])
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
    assert script(driver, "document.querySelectorAll('h2').length") >= 4


@pytest.mark.parametrize(
    ("name", "source", "least"),
    [("report.html", "report.json", 150), ("compare.html", "compare.json", 100)],
)
def test_every_figure_is_that_of_the_json(page, folder, name, source, least):
    driver = page(name)
    report = json.loads((folder / source).read_text())
    figures = script(
        driver,
        "[...document.querySelectorAll('[data-figure]')].map((one) =>"
        " [one.dataset.figure, one.hasAttribute('data-percent'), one.textContent])",
    )
    assert len(figures) > least
    for path, percent, text in figures:
        value = ssd_page.lookup(report, path)
        if text == "–":
            assert value is None or value == -1, path
        elif isinstance(value, str):
            assert text == value, path
        else:
            decimals = len(text.partition(".")[2])
            number = 100 * value if percent else value
            assert float(text.replace(",", "")) == pytest.approx(number, abs=0.5001 / 10**decimals)
            assert decimals or float(text.replace(",", "")) == value, path


def test_every_number_in_a_table_is_a_figure(page):
    loose = script(
        page(),
        "[...document.querySelectorAll('td')].map((one) => { const rest = one.cloneNode(true);"
        " for (const figure of rest.querySelectorAll('[data-figure]')) figure.remove();"
        " return rest.textContent.trim(); }).filter((text) => /[0-9]/.test(text))",
    )
    chinese = {text for text in loose if "张图片" in text}  # the selection's words, translated
    assert chinese == {"全部 5 张图片"}
    protocol = {"0.50:0.95", "0.50", "0.75", "1", "10", "100"}  # of COCO's own, no result
    assert set(loose) - chinese == protocol


@pytest.mark.parametrize("name", ["report.html", "compare.html"])
def test_the_language_switch_changes_every_text(page, name):
    driver = page(name)
    seen = {}
    for language in ("en", "zh-CN"):
        assert script(driver, "document.documentElement.lang") == language
        assert shown(driver, f"[lang='{LANGUAGES[language]}']:not(html)") == []
        seen[language] = driver.find_element("tag name", "body").text
        attributes = script(
            driver,
            "[...document.querySelectorAll('[alt],[aria-label]')].map((one) =>"
            " one.getAttribute('alt') || one.getAttribute('aria-label') || '')",
        )
        # what a reader sees or hears in Chinese holds Chinese wherever it is a sentence
        assert any(re.search("[一-鿿]", text) for text in attributes) == (language == "zh-CN")
        click(driver, "#language")
    words = set(re.findall(r"[a-z]{4,}", seen["zh-CN"].lower()))
    known = re.findall(r"[a-z]{4,}", script(driver, "document.documentElement.innerHTML").lower())
    assert "没有" in seen["zh-CN"] or "不同" in seen["zh-CN"]
    assert {"latency", "milliseconds", "images", "missed", "recall", "batch"} & words == set()
    assert words <= set(known)
    assert script(driver, "document.documentElement.lang") == "en"


def test_chart_texts_have_both_languages(page):
    driver = page()
    assert "images/s" in shown(driver, "#chart-fps tspan")
    click(driver, "#language")
    assert "张/秒" in shown(driver, "#chart-fps tspan")
    assert "images/s" not in shown(driver, "#chart-fps tspan")
    assert script(driver, "document.querySelector('#pr-class').options[0].text") == "全部类别"
    assert script(driver, "document.title") == "SSD-ResNet34 评测报告"


def test_the_light_switch_changes_the_colours_and_is_remembered(page, folder):
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

    def colour(name):
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
            low, high = sorted((colour(ground), colour(name)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, name)  # WCAG AA


def test_the_pictures_can_be_filtered_by_group_and_class(page):
    driver = page()

    def files():
        return [text.split(".jpg")[0] for text in shown(driver, ".gallery figcaption")]

    assert len(files()) == 5
    assert shown(driver, "#gallery-count") == ["5"]
    pick(driver, "#gallery-class", DOG)
    # a dog is in 10 and 30, and was found in 30 and 40
    assert sorted(files()) == ["10", "30", "40"]
    assert shown(driver, "#gallery-count") == ["3"]
    pick(driver, "#gallery-class", "猫头鹰")
    assert files() == ["50"]
    click(driver, "[data-group='more']")  # five pictures: none was left for this group
    assert files() == []
    pick(driver, "#gallery-class", "all classes")
    click(driver, "[data-group='best']")
    assert files()[0] == "30"  # F1 1: its dog found, nothing else counts


def test_a_picture_can_be_enlarged_and_put_away(page):
    driver = page()
    click(driver, ".gallery button")
    assert script(driver, "document.querySelector('#large').open")
    assert script(driver, "document.querySelector('#large img').naturalWidth") == 100
    click(driver, "#large img")
    assert not script(driver, "document.querySelector('#large').open")


def test_the_curves_of_a_chosen_class_are_shown(page):
    driver = page()
    curves = "[...document.querySelectorAll('[id^=\"pr-pr-class\"]')]"
    visible = f"{curves}.filter((one) => getComputedStyle(one).display !== 'none').map((o) => o.id)"
    assert script(driver, visible) == []
    pick(driver, "#pr-class", "cat")
    expected = [f"pr-pr-class0-{name}" for name in ("0.50", "0.75", "mean")]
    assert sorted(script(driver, visible)) == expected
    readout = shown(driver, "#pr-readout")[0]
    assert "cat" in readout and "53.8" in readout  # AP 0.53812, worked out in test_ssd_curves.py
    pick(driver, "#pr-class", DOG)
    assert all("class1" in one for one in script(driver, visible))
    assert script(driver, "document.querySelectorAll('b b').length") == 0  # a name is no markup
    pick(driver, "#pr-class", "all classes")
    assert script(driver, visible) == []
    assert script(driver, "document.querySelector('#pr-class').options.length") == 3  # no owl


def test_a_heading_sorts_the_classes(page):
    driver = page()
    names = "[...document.querySelectorAll('#class-table tbody th')].map((one) => one.textContent)"
    assert script(driver, names) == ["cat", DOG, "猫头鹰"]  # by AP, the owl has none
    click(driver, "#class-table th:nth-child(8) button")  # false detections: 2, 1, 1
    assert script(driver, names)[0] == "cat"
    click(driver, "#class-table th:nth-child(8) button")
    assert script(driver, names)[-1] == "cat"
    click(driver, "#class-table th:first-child button")
    assert script(driver, names) == [DOG, "cat", "猫头鹰"]


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


@pytest.mark.parametrize("name", ["report.html", "compare.html"])
@pytest.mark.parametrize("width", [320, 360, 1280])
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_page_is_never_wider_than_the_screen(page, name, width, language):
    driver = page(name, width)
    if language == "zh-CN":
        click(driver, "#language")
    assert script(driver, "document.documentElement.scrollWidth") <= width


def test_what_the_report_lacks_is_said_in_both_languages(page, tmp_path):
    browser = page()  # in English again
    path = Path(shutil.copytree(FIVE / "result", tmp_path / "result"))
    ssd_report.main([str(path)])
    browser.get((path / "report.html").as_uri())
    assert "No data set was named" in browser.find_element("css selector", ".lacks").text
    assert shown(browser, "#gallery") == []
    click(browser, "#language")
    assert "未指定数据集" in browser.find_element("css selector", ".lacks").text
    click(browser, "#language")


@pytest.mark.parametrize(
    ("total", "kept", "words"),
    [
        (5000, 5000, "全部 5000 张图片"),
        (5000, 4952, "5000 张图片中的 4952 张（48 张无标注，未计入）"),
    ],
)
def test_the_words_for_what_was_scored_are_put_into_chinese(total, kept, words):
    told = ssd_coco.describe_selection({"images": [0] * total}, [0] * kept)
    assert ssd_page.selection_chinese(told) == words
