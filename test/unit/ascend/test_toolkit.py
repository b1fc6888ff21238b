"""What the kit knows of Ascend's tools, held against their stand-in."""

from ssd.ascend import npu_smi, toolkit
from ssd.cli import KitError

import pytest


@pytest.mark.parametrize(
    ("cards", "soc"),
    [
        ("310P3:OK", "Ascend310P3"),
        ("310:OK,310:OK", "Ascend310"),
        ("310P3:Warning,310:OK:busy", "Ascend310"),
        ("310P3:OK,310:OK", "several kinds of chip"),
        ("310P3:Alarm", "no healthy card"),
        ("", "finds no card"),
    ],
)
def test_the_chip_is_that_of_the_healthy_cards(cards, soc, standin, monkeypatch):
    monkeypatch.setenv("STANDIN_CARDS", cards)
    if soc.startswith("Ascend"):
        assert npu_smi.soc_version() == soc
    else:
        with pytest.raises(KitError, match=soc):
            npu_smi.soc_version()


def test_what_speaks_against_a_card_is_said_and_no_error(standin, monkeypatch):
    monkeypatch.setenv("STANDIN_CARDS", "310P3:OK,310P3:Alarm,310P3:OK:busy")
    assert npu_smi.card_notes([0, 1, 2, 9]) == [
        "card 1: its health is Alarm; see npu-smi info",
        "card 2: busy (87 % of AI Core), so timings mean little",
        "card 9: not in the table of npu-smi info; see --device",
    ]


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({}, None),
        ({"version.cfg": "# version: 1.0\nruntime_running_version=[7.2.0:7.0.0]\n"}, "7.2.0"),
        ({"compiler/version.info": "Version=8.0.RC2\n"}, "8.0.RC2"),
        (
            {
                "version.cfg": "runtime_running_version=[7.2.0:7.0.0]\n",
                "x86_64-linux/ascend_toolkit_install.info": "package_name=a\nversion=7.0.0\n",
            },
            "7.0.0",
        ),
    ],
)
def test_the_version_is_the_one_that_the_package_was_installed_as(
    files, version, tmp_path, monkeypatch
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    assert toolkit.toolkit_version() == version


@pytest.mark.parametrize(
    ("soc", "cann", "kernels", "told"),
    [
        ("Ascend310P3", "8.5.0", ["ascend310p"], None),
        ("Ascend310P3", "8.5.0", ["ascend910b"], "install Ascend-cann-310p-ops"),
        ("Ascend310P3", "8.0.0", ["ascend910b"], "install Ascend-cann-kernels-310p"),
        ("Ascend310B4", "8.5.0", ["ascend310p"], "install Ascend-cann-310b-ops"),
        ("Ascend310P3", "8.5.0", [], None),  # of another layout: nothing is known
        ("Ascend310", "8.5.0", ["ascend310"], "take CANN 8.0 or older"),
        ("Ascend310", "8.0.0", ["ascend310"], None),
    ],
)
def test_packages_that_a_chip_lacks_are_named(soc, cann, kernels, told, tmp_path, monkeypatch):
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    (tmp_path / "version.cfg").write_text(f"runtime_running_version=[{cann}:{cann}]\n")
    for name in kernels:
        (tmp_path / toolkit.KERNELS / name).mkdir(parents=True)
    remedies = [remedy for _, remedy in toolkit.package_faults(soc)]
    assert [remedy[: len(told or "")] for remedy in remedies] == ([told] if told else [])


@pytest.mark.parametrize(
    ("made", "here", "told"),
    [
        ("8.5.0", "8.0.0", True),
        ("8.0.RC3", "8.0.0", False),
        ("7.0.0", "8.5.0", False),
        (None, "8.0.0", False),
        ("8.5.0", None, False),
    ],
)
def test_a_model_of_a_newer_cann_is_noted(made, here, told, tmp_path, monkeypatch):
    monkeypatch.setattr(toolkit, "toolkit_version", lambda: here)
    monkeypatch.setattr(toolkit, "read_sidecar", lambda model: {"cann": made})
    line = toolkit.newer_note(tmp_path / "m.om")
    assert line.endswith("which may not run it; convert here") if told else line == ""


def test_an_inference_host_has_a_version_too(tmp_path, monkeypatch):
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    (tmp_path / "x86_64-linux").mkdir()
    (tmp_path / "x86_64-linux" / "ascend_nnrt_install.info").write_text("version=7.0.0\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert toolkit.toolkit_version() == "7.0.0"
