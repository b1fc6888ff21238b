"""The documents name every option, lead to files that exist, and are the same in both languages."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from urllib.parse import unquote

import pytest
import stage_process
from models import ROOT

STAGES = [path.name for path in sorted(ROOT.glob("*.py")) if path.read_text().startswith("#!")]
BENCHES = [f"bench/{path.name}" for path in sorted((ROOT / "bench").glob("bench_*.py"))]
BENCHES.append("bench/chaos.py")
DRIVERS = [path.name for path in sorted((ROOT / "test").glob("ssd_*.sh"))]
LADDER = ("plan", "compare", "table", "layers")  # commands of ssd_ladder.py, with a help each
OTHERS_OPTIONS = {
    "--enable-shared",
    "--framework",
    "--input-format",
    "--input-shape",
    "--log",
    "--input-fp16-nodes",
    "--job-type",
    "--save-path",
    "--data-dir",
    "--data-types",
    "--batch-num",
}
OTHERS_OPTIONS |= {"--full", "--install", "--install-for-all"}  # of CANN's packages
OTHERS_OPTIONS |= {"--generate", "--head", "--include-dashboard", "--num-cpus", "--port"}  # Ray's
OTHERS_OPTIONS |= {"--object-store-memory", "--shm-size"}  # Ray's, Docker's

CHINESE = ".zh-CN.md"
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
MAX_LINES = {README: 150, README.with_suffix(CHINESE): 150, CONTRIBUTING: 60}
ENGLISH = [README, *sorted(set(ROOT.glob("docs/*.md")) - set(ROOT.glob(f"docs/*{CHINESE}")))]
PAGES = [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/*.md"))]
LANGUAGES = {"English": ENGLISH, "Chinese": [page.with_suffix(CHINESE) for page in ENGLISH]}


@cache
def help_of(name, *command):
    args = [*command, "--help"]
    if name.endswith(".py"):
        done = stage_process.run(str(ROOT / name), args, os.environ)
    else:
        driver = ["bash", ROOT / "test" / name, *args]
        done = subprocess.run(driver, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def options_of(name):
    commands = LADDER if name == "ssd_ladder.py" else ()
    texts = [help_of(name), *(help_of(name, command) for command in commands)]
    return set().union(*map(options_in, texts))


def options_in(text):
    """Return the long options in a text, all with - in their names."""
    names = re.findall(r"(?<![\w-])--[a-z][\w-]+", text, re.ASCII)
    return {name.replace("_", "-") for name in names}


def words_of(language):
    return "\n".join(page.read_text() for page in LANGUAGES[language])


def headings(page):
    """Return a page's headings, with their signs."""
    outside = re.sub(r"^ *```.*?```", "", page.read_text(), flags=re.S | re.M)
    return re.findall(r"^#+ .+$", outside, re.M)


def anchors(page):
    """Return the anchors that GitHub gives a page's headings."""
    texts = [re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()) for heading in headings(page)]
    return {text.replace(" ", "-") for text in texts}


def skip_without_torch(name):
    if name in ("ssd_pth2onnx.py", "ssd_sample.py"):
        pytest.importorskip("torch")


@pytest.mark.parametrize("name", STAGES + DRIVERS)
def test_every_option_is_in_the_documents_of_both_languages(name):
    skip_without_torch(name)
    assert "Example:" in help_of(name)
    for language in LANGUAGES:
        words = words_of(language)
        missing = options_of(name) - options_in(words)
        assert not missing, language
        assert name in words


def test_every_option_in_the_documents_is_taken_by_something():
    pytest.importorskip("torch")
    taken = set().union(*map(options_of, STAGES + DRIVERS + BENCHES)) | OTHERS_OPTIONS
    for language in LANGUAGES:
        gone = options_in(words_of(language)) - taken
        assert not gone, language


@pytest.mark.parametrize("page", MAX_LINES, ids=lambda page: page.name)
def test_a_page_for_newcomers_is_short(page):
    assert len(page.read_text().splitlines()) <= MAX_LINES[page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = unquote(link).partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_both_languages_have_the_same_pages_and_chapters():
    assert {*ROOT.glob(f"docs/*{CHINESE}")} == {*LANGUAGES["Chinese"][1:]}
    for page in ENGLISH:
        translated = page.with_suffix(CHINESE)
        depths = [[heading.index(" ") for heading in headings(p)] for p in (page, translated)]
        assert depths[0] == depths[1], page.name


def test_a_copied_script_says_what_else_to_copy(tmp_path):
    for name in STAGES:
        shutil.copy(ROOT / name, tmp_path)
        done = subprocess.run([sys.executable, tmp_path / name], capture_output=True, text=True)
        assert done.returncode == 1
        assert "a copied script needs ssd/ beside it" in done.stderr
        assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'ssd'"


@pytest.mark.parametrize("name", STAGES)
def test_a_missing_package_is_one_line_with_the_remedy(name, tmp_path):
    code = (
        "import runpy, sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('numpy', 'tqdm'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"sys.argv = [{name!r}]; sys.path.insert(0, {str(ROOT)!r})\n"
        f"runpy.run_path({str(ROOT / name)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: error: the package ")
    assert "requirements.txt" in line and ".venv/bin/activate" in line
