"""Tables: cells by their columns, padded for a terminal, escaped for Markdown."""

from ssd import tables

COLUMNS = {"name": ("model", -6, str), "map": ("mAP", 5, lambda value: f"{100 * value:.1f}")}
ROWS = [{"name": "a|b", "map": 0.5}, {"name": "seven77", "map": None}, {}]


def test_cells_show_values_as_their_column_says():
    lines = tables.cells(COLUMNS, ROWS)
    assert lines == [["model", "mAP"], ["a|b", "50.0"], ["seven77", "-"], ["-", "-"]]


def test_a_terminals_table_is_padded_and_has_no_blank_at_its_ends():
    text = tables.as_text(COLUMNS, tables.cells(COLUMNS, ROWS))
    assert text.splitlines() == [
        "model     mAP",
        "a|b      50.0",
        "seven77      -",  # too long a name moves its row, and is not cut
        "-           -",
    ]
    assert tables.as_text({"a": ("a", -9, str)}, [["x"]]) == "x"
    assert tables.as_text(COLUMNS, [["a", "b"]], "") == "a         b"


def test_markdown_keeps_bars_and_lines_within_their_cell():
    assert tables.as_markdown([["a", "b"], ["x|y", "1\n2"]]) == [
        "| a | b |",
        "|---|---|",
        "| x\\|y | 1 2 |",
    ]
    assert tables.as_markdown([["a"]]) == ["| a |", "|---|"]
