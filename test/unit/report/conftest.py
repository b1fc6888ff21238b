"""Chromium, and the pages of the five images that its tests open."""

import json
import shutil

import ssd_report

import pytest
from models import FIVE


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
    """A result folder with its report, its comparison with another run, and a history of three.

    The other run misses the dog of image 30 and takes nothing for the owl of image 50; the third
    was not scored.
    """
    path = tmp_path_factory.mktemp("re sult;'é")
    shutil.copytree(FIVE / "result", path, dirs_exist_ok=True)
    facts = ["--fact", "data=<i>&amp;", "--fact", "x.y=dotted", "--fact", "command=a  -b=c -d"]
    ssd_report.main([str(path), "--data", str(FIVE / "coco"), "--all-images", *facts])
    other = tmp_path_factory.mktemp("b")
    shutil.copytree(FIVE / "result", other, dirs_exist_ok=True)
    found = json.loads((FIVE / "result" / "bs1_detections.json").read_text())
    kept = [row for row in found if row["score"] not in (0.91, 0.37)]
    (other / "bs1_detections.json").write_text(json.dumps(kept))
    data = ["--data", str(FIVE / "coco"), "--all-images"]
    ssd_report.main([str(path), str(other), "--output", str(path), *data])
    third = tmp_path_factory.mktemp("c")
    shutil.copy(FIVE / "result" / "bs1_perf_summary.json", third)
    ssd_report.main([str(third), str(other), str(path), "--output", str(path)])
    return path


@pytest.fixture
def page(browser, folder):
    """The report's page, freshly opened at desktop width, in English and light."""

    def show(name="report.html", width=1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((folder / name).as_uri())
        browser.execute_script("localStorage.clear()")
        browser.get("about:blank")  # from a page's fragment to the page itself is no new page
        browser.get_log("browser"), browser.get_log("performance")
        browser.get((folder / name).as_uri())
        return browser

    return show
