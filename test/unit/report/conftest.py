"""Chromium, and the pages of the five images that its tests open."""

import json
import shutil

import ssd_report

import pytest
from models import FIVE

LADDER = {  # as ssd_ladder.py writes it
    "rungs": [
        {"rung": "float32", "above": None, "map": 0.5, "ap50": 0.75, "change": 1.0}
        | {"model": "m.onnx", "model_sha256": "ab", "engine": "e 1", "provider": "p"}
        | {"precision": "float32", "scored": "4 of 5 images (1 without annotation left out)"},
        {"rung": "int8", "above": "float32", "map": 0.25, "ap50": 0.5, "change": -25.0}
        | {"model": "m8.onnx", "model_sha256": "cd", "engine": "e 1", "provider": "p"}
        | {"precision": "INT8 in 3 of 4 convolutions", "scored": "all 5 images"}
        | {"max_abs": 2.0, "mean_abs": 0.5, "cosine": 0.875}
        | {"match_rate": 0.25, "match_rate_any_label": 0.75},
    ],
    "missing": {"om": "make it with test/ssd_pth2om.sh where atc is"},
    "goal": 0.49,
    "tolerance": 0.5,
    "losses": [
        {"rung": "float32", "above": "the goal", "points": 2.0, "look": "the checkpoint"},
        {"rung": "int8", "above": "float32", "points": 25.0, "look": "the checkpoint"},
    ],
}
LAYERS = [  # name, cosine, that of its inputs, whether it falls; in the order of the network
    {"name": name, "op": "Conv", "cosine": cosine, "before": before, "falls": falls}
    | {"max_abs": 1.0, "mean_abs": 0.25}
    for name, cosine, before, falls in (
        ("/a", 1.0, 1.0, False),
        ("/b", 0.96875, 1.0, True),
        ("/c", 0.9375, 0.96875, True),
        ("/d", 0.5, 0.9375, True),
        ("/e", float("nan"), 0.5, True),
    )
]


def write_ladder(folder):
    (folder / "ladder.json").write_text(json.dumps(LADDER))
    (folder / "layers.json").write_text(json.dumps(LAYERS))
    return folder


@pytest.fixture
def ladder(tmp_path):
    """A folder with the files of a ladder: a rung above its goal, and one that loses to it."""
    return write_ladder(tmp_path)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
    write_ladder(path)
    ssd_report.main([str(path), "--ladder"])
    return path


@pytest.fixture
def page(browser, folder):
    """The report's page, freshly opened at desktop width, in English and light."""
    from selenium.webdriver.support.wait import WebDriverWait

    is_there = "return location.href === arguments[0] && document.readyState === 'complete'"

    def show(name="report.html", width=1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((folder / name).as_uri())
        browser.execute_script("localStorage.clear()")
        browser.get("about:blank")  # from a page's fragment to the page itself is no new page
        browser.get_log("browser"), browser.get_log("performance")
        address = (folder / name).as_uri()
        browser.get(address)  # which may return early on a busy machine
        WebDriverWait(browser, 60).until(lambda _: browser.execute_script(is_there, address))
        return browser

    return show
