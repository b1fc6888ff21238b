"""Cards, as npu-smi's many tables list them, and where npu-smi does not help."""

from ssd.ascend import npu_smi
from ssd.ascend.checks import check_cards
from ssd.ascend.npu_smi import Card
from ssd.cli import KitError

import pytest

TABLES = {  # as the tools of these chips print them
    "310P3": (
        "| 0       310P3 | OK | 15.8      42      0    / 0 |\n"
        "| 0       0 | 0000:82:00.0 | 0      1074 / 21534 |",
        [Card(0, "310P3", "OK", 0, (1074, 21534))],
    ),
    "310, without a bus": (
        "| 0       310       | OK              | 12.8              58                   |\n"
        "| 0       0         | NA              | 0                 5324 / 8192          |",
        [Card(0, "310", "OK", 0, (5324, 8192))],
    ),
    "310, four on a board": (
        "| 1       310 | OK | 12.8      54      0    / 970 |\n"
        "| 2       6 | 0000:05:00.0 | 17      2621 / 8192 |\n"
        "+-------------------+-----------------+-+\n"
        "| 1       310 | Alarm | 12.8      52      0    / 970 |\n"
        "| 3       7 | 0000:06:00.0 | 0      621  / 8192 |",
        [Card(6, "310", "OK", 17, (2621, 8192)), Card(7, "310", "Alarm", 0, (621, 8192))],
    ),
    "310B": (
        "| 0       310B | OK | 8.9      53      15    / 15 |\n"
        "| 0       0 | NA | NA      2467 / 15609 |",
        [Card(0, "310B", "OK", None, (2467, 15609))],
    ),
    "910B, one number under Chip": (
        "| 5     910B4 | OK | 89.9      39      0    / 0 |\n"
        "| 0 | 0000:41:00.0 | 7      0    / 0      2922 / 32768 |",
        [Card(0, "910B4", "OK", 7, (2922, 32768))],
    ),
    "A3": (
        "| 0     Ascend910 | OK | 178.5       36      0    / 0 |\n"
        "| 0     0 | 0000:9D:00.0 | 0      0    / 0      3416/ 65536 |\n"
        "+-+\n"
        "| 0     Ascend910 | OK | -      36      0    / 0 |\n"
        "| 1     1 | 0000:9F:00.0 | 0      0    / 0      3195 / 65536 |",
        [Card(i, "Ascend910", "OK", 0, (used, 65536)) for i, used in enumerate((3416, 3195))],
    ),
    "a part of a card, much of it NA": (
        "| 0       310P3-vir04 | OK | NA      NA      NA    / NA |\n"
        "| 0       0 | NA | NA      NA   / NA |",
        [Card(0, "310P3-vir04", "OK", None, None)],
    ),
}
HEAD = """\
+-------------------+-----------------+------------------------------------------------------+
| npu-smi 22.0.0    Version: 22.0.2                                                          |
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
"""
PROCESSES = """
+===================+=================+======================================================+
| NPU     Chip      | Process id      | Process name             Process memory(MB)          |
| 0       0         | 4242            | python3                  8142                        |
| No running processes found in NPU 1                                                        |
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Set up what npu-smi prints (None: it is missing), its status, and the files in /dev."""

    def make(table, status=0, files=()):
        for folder in ("bin", "dev"):
            (tmp_path / folder).mkdir()
        if table is not None:
            tool = tmp_path / "bin" / "npu-smi"
            tool.write_text(f"#!/bin/sh\ncat <<'END'\n{table}\nEND\nexit {status}\n")
            tool.chmod(0o755)
        for name in files:
            (tmp_path / "dev" / name).touch()
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
        monkeypatch.setattr(npu_smi, "DEVICES", tmp_path / "dev")

    return make


@pytest.mark.parametrize("table", TABLES)
def test_every_chips_table_is_read(table):
    text, found = TABLES[table]
    assert npu_smi.parse_cards(HEAD + text + PROCESSES) == found
    assert npu_smi.parse_cards(HEAD + PROCESSES) == npu_smi.parse_cards("no table") == []


def test_a_card_that_is_listed_counts_whatever_else_npu_smi_says(machine):
    machine(HEAD + "| 3       310P9     | OK    | 1 2 |\n| broken |\n", status=1)
    assert npu_smi.cards() == [Card(0, "310P9", "OK")]


@pytest.mark.parametrize(
    ("table", "soc"),
    [
        ("a part of a card, much of it NA", "Ascend310P3"),
        ("910B, one number under Chip", "Ascend910B4"),
        ("310B", "give --soc_version=Ascend310B1 or Ascend310B4"),
        ("A3", "give --soc_version=Ascend910_ and the number"),
        (None, "npu-smi: not on PATH; give --soc_version, such as Ascend310P3"),
    ],
)
def test_the_chip_for_atc_is_never_guessed(table, soc, machine):
    machine(table and HEAD + TABLES[table][0], files=["davinci0"])
    if " " not in soc:
        assert npu_smi.soc_version() == soc
        return
    with pytest.raises(KitError, match=soc):
        npu_smi.soc_version()


@pytest.mark.parametrize(("table", "status"), [(None, 0), ("dcmi module initialize failed", 1)])
def test_a_container_without_a_working_npu_smi_has_its_cards(table, status, machine):
    machine(table, status, ["davinci0", "davinci7", "davinci_manager", "null"])
    assert npu_smi.cards() == [Card(0), Card(7)]
    (line,) = npu_smi.card_notes([0], must=True)
    reason = "npu-smi: not on PATH" if table is None else "npu-smi info: finds no card (dcmi module"
    assert line.startswith(reason) and "health and load of the cards are not known" in line
    (fact,) = check_cards()
    assert fact.state == "warning" and "has davinci0, davinci7, but npu-smi" in fact.text
    assert fact.remedy == "in a container, mount npu-smi of the host; give atc --soc_version"


def test_where_nothing_is_there_is_no_card(machine):
    machine(None)
    assert npu_smi.cards() == []
    with pytest.raises(KitError, match="not on PATH, and .*/dev has no davinci0: no card; check"):
        npu_smi.card_notes([0], must=True)
    assert len(npu_smi.card_notes([0])) == 1  # whoever asks for a card may know better
    (fact,) = check_cards()
    assert fact.state == "ok"


def test_a_machine_whose_npu_smi_finds_none_has_none(machine):
    machine("No NPU device was found", 1)
    with pytest.raises(KitError, match=r"finds no card \(No NPU device was found\), and "):
        npu_smi.card_notes([0])
