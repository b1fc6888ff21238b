"""Ascend's inference tools: which is taken in which Python, and how it is called."""

import os
import shlex
import sys
from pathlib import Path

from ssd.ascend import ais_bench, pythons
from ssd.ascend.ais_bench import Tool, find_tool, tool_command
from ssd.ascend.summaries import join_summaries, read_summaries
from ssd.cli import KitError

import numpy as np
import pytest
from models import ODD, STANDIN

MODEL = Path("/m o/ssd_bs4.om")
NEW = [sys.executable, "-m", "ais_bench"]


WHOLE = {"version": "0.0.2", "tool": True, "runtime": "", "rules": [], "resources": True}
NOTHING = WHOLE | {"version": None, "tool": False, "runtime": "ModuleNotFoundError: aclruntime"}
OTHER = NOTHING | {"version": "3.0.1"}
HERE = Path(sys.executable)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets up what each Python has, by its path."""

    def make(**found):
        monkeypatch.setattr(pythons, "candidates", lambda: list(map(Path, found)))
        monkeypatch.setattr(ais_bench, "look", lambda python: found.get(str(python)))

    return make


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "a folder" / "ais_infer.py"
    path.parent.mkdir()
    path.write_text("")
    return path


def test_the_first_python_with_all_of_it_is_taken(machine, script):
    bare = WHOLE | {"runtime": "ImportError: libascendcl.so"}
    machine(a=NOTHING, b=bare, c=WHOLE | {"rules": [ais_bench.RULES[0]]}, d=WHOLE)
    assert find_tool(script) == find_tool(None) == Tool(None, Path("c"), True)
    assert find_tool(None, Path("d")) == Tool(None, Path("d"), False)
    with pytest.raises(KitError, match="e: no Python that runs; correct --tool_python"):
        find_tool(None, Path("e"))
    machine(a=NOTHING, b=bare)
    reason = r"b: aclruntime does not start there \(ImportError: libascendcl.so\); source CANN's"
    with pytest.raises(KitError, match=reason):
        find_tool(None)
    assert Tool().name == "ais_bench 0.0.2" and Tool().python == HERE


def test_no_python_is_started_after_the_first_that_has_all(machine, monkeypatch):
    machine(a=NOTHING, b=WHOLE, c=WHOLE)
    seen, has = [], ais_bench.look
    monkeypatch.setattr(ais_bench, "look", lambda python: seen.append(str(python)) or has(python))
    assert find_tool(None).python == Path("b") and seen == ["a", "b"]


@pytest.mark.parametrize("found", [NOTHING, OTHER])
def test_the_script_is_taken_where_ais_bench_is_missing_or_another_tool(found, machine, script):
    machine(a=found, b=found | {"runtime": ""})
    assert find_tool(script) == Tool(script, Path("b"))
    assert Tool(script).name == "ais_infer.py"
    with pytest.raises(KitError, match="none.py: no such file; give --ais_infer the path"):
        find_tool(script.with_name("none.py"))
    machine(a=found)
    with pytest.raises(KitError, match="a: aclruntime does not start there"):
        find_tool(script)


def test_a_missing_tool_is_told_with_its_remedy(machine):
    machine(a=NOTHING, b=None)
    with pytest.raises(KitError, match="ais_bench: not installed; install 0.0.2, or give --ais_"):
        find_tool(None)
    with pytest.raises(KitError, match="ais_bench: not installed in a; install"):
        find_tool(None, Path("a"))
    machine(a=OTHER)
    with pytest.raises(KitError, match="ais_bench 3.0.1: another tool of that name; install 0.0.2"):
        find_tool(None)


def test_an_edition_that_needs_pkg_resources_is_refused_without(machine):
    early, late = ({"rules": [name], "resources": False} for name in ais_bench.RULES[::-1])
    machine(a=WHOLE | early)
    with pytest.raises(KitError, match="a: this ais_bench needs pkg_resources.*'setuptools<81'"):
        find_tool(None)
    machine(a=WHOLE | late)  # which does without
    assert find_tool(None).rules


@pytest.mark.parametrize(
    ("edition", "rules", "divides"),
    [
        ("2023-06", [], False),
        ("", [], True),
        ("2024-02", [ais_bench.RULES[1]], True),
        ("2025-12", [ais_bench.RULES[0]], True),
    ],
)
def test_editions_are_told_apart_by_what_they_have(edition, rules, divides, standin, monkeypatch):
    monkeypatch.setenv("STANDIN_EDITION", edition)
    found = ais_bench.look(HERE)
    assert (found["version"], found["tool"], found["runtime"]) == ("0.0.2", True, "")
    assert found["rules"] == rules
    assert ais_bench.divides_inputs(Tool()) == divides


def test_ais_bench_is_called_with_a_folder_that_it_makes(tmp_path):
    command = tool_command(Tool(), MODEL, 4, "0,1", tmp_path, "bs4", ["--input", "in"])
    assert command == [
        *(*NEW, "--output", str(tmp_path), "--output_dirname", "bs4", "--model", str(MODEL)),
        *("--batchsize", "4", "--device", "0,1", "--input", "in"),
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_script_of_2022_is_given_a_folder_that_exists(script, tmp_path):
    command = tool_command(Tool(script), MODEL, 4, "0", tmp_path, "bs4", ["--loop", "9"])
    assert command == [
        *(sys.executable, str(script), "--output", str(tmp_path / "bs4"), "--model", str(MODEL)),
        *("--batchsize", "4", "--device", "0", "--loop", "9"),
    ]
    assert (tmp_path / "bs4").is_dir()


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    made = [folder / f"tensor([{n}]).bin" for n in (9, 10, 139)]
    for path in made:
        path.write_text(path.name)
    return made


def test_a_folder_with_nothing_else_is_taken_as_it_is(inputs, tmp_path):
    (inputs[0].parent / "source.json").write_text("{}")  # no input
    assert ais_bench.folder_of(inputs, tmp_path / "links") == inputs[0].parent
    assert not (tmp_path / "links").exists()


def test_of_a_folder_with_more_the_wanted_files_are_linked(inputs, tmp_path):
    links = tmp_path / "links"
    for wanted in (inputs[:2], inputs[1:]):  # the second time, links of a killed run lie there
        assert ais_bench.folder_of(wanted, links) == links
        linked = sorted(links.glob("tensor*"))
        assert [path.name for path in linked] == sorted(path.name for path in wanted)
        assert all(path.samefile(inputs[0].parent / path.name) for path in linked)
        assert not any(path.is_symlink() for path in linked)  # newer editions refuse those


def test_inputs_are_linked_by_their_ids_for_a_tool_that_refuses_brackets(inputs, tmp_path):
    links, out = tmp_path / "links", tmp_path / "out"
    assert ais_bench.folder_of(inputs, links, plain=True) == links
    linked = sorted(path.name for path in links.glob("*.bin"))
    assert linked == ["10.bin", "139.bin", "9.bin"]
    out.mkdir()
    for name in ("9_0.bin", "9_1.npy", "notes_0.bin", "7.bin"):
        (out / name).touch()
    ais_bench.restore_plain(out)  # what a killed run left
    names = sorted(path.name for path in out.iterdir())
    assert names == ["7.bin", "notes_0.bin", "tensor([9])_0.bin", "tensor([9])_1.npy"]


def test_links_take_no_folder_of_the_users(inputs, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / "mine").write_text("")
    with pytest.raises(KitError, match="links: holds files that are not this kit's"):
        ais_bench.folder_of(inputs[:1], links)
    assert [path.name for path in links.iterdir()] == ["mine"]


def python(code):
    return [sys.executable, "-c", code]


def test_the_tools_output_goes_to_the_log_and_its_call_is_shown(tmp_path, capfd):
    log = tmp_path / "bs1.log"
    command = python("import sys; print('a fact'); print('a trap', file=sys.stderr)")
    assert ais_bench.run_tool(command, log) > 0
    assert sorted(log.read_text().splitlines()) == ["a fact", "a trap"]
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"{shlex.join(command)}\n")


@pytest.mark.parametrize(
    ("end", "how"), [("exit(3)", "failed"), ("os.kill(os.getpid(), 9)", "was killed by signal 9")]
)
def test_a_tool_that_fails_is_explained(end, how, tmp_path, capfd):
    log = tmp_path / "bs1.log"
    code = f"import os; print(*range(9), 'error 507033', sep='\\n', flush=True); {end}"
    with pytest.raises(KitError, match=f"bs1.log: the inference tool {how}: 507033: the card did"):
        ais_bench.run_tool(python(code), log)
    assert capfd.readouterr().err.splitlines()[-5:] == ["5", "6", "7", "8", "error 507033"]
    assert len(log.read_text().splitlines()) == 10


def test_both_tools_run_as_called(standin, light_onnx, run_stage, tmp_path, monkeypatch):
    """The stand-in takes the calls, and what it leaves is read."""
    om, data = tmp_path / "ssd_bs2.om", tmp_path / "in"
    options = [
        "--onnx-path",
        light_onnx,
        "--om-path",
        om,
        "--bs",
        2,
        "--soc_version",
        "Ascend310P3",
    ]
    assert run_stage("ssd_onnx2om.py", *options).returncode == 0
    data.mkdir()
    for n in range(3):
        np.full((3, 300, 300), n, np.float32).tofile(data / f"tensor([{n}]).bin")
    tools = {"new": Tool(), "old": Tool(STANDIN / "ais_infer.py")}
    monkeypatch.setenv("STANDIN_CARDS", "310P3,310P3")
    for name, tool in tools.items():
        more = ["--input", str(data), "--outfmt", "BIN"]
        command = tool_command(tool, om, 2, "0", tmp_path, name, more)
        ais_bench.run_tool(command, tmp_path / f"{name}.log")
        joined = join_summaries(read_summaries(tmp_path, name), 2)
        assert joined["padded"] == 1 and joined["throughput"] > 0
    two = tool_command(Tool(), om, 2, "0,1", tmp_path, "two", [*more, "--divide_input", "1"])
    ais_bench.run_tool(two, tmp_path / "two.log")
    parts = read_summaries(tmp_path, "two")
    assert len(parts) == 2
    assert join_summaries(parts, 2)["padded"] == 1  # two files and one
    assert os.listdir(data) and len(list((tmp_path / "two").glob("device*/tensor*"))) == 6
