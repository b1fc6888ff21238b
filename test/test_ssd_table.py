"""Tables: cells by their columns, padded for a terminal, escaped for Markdown."""

import ssd_table

COLUMNS = {"name": ("model", -6, str), "map": ("mAP", 5, lambda value: f"{100 * value:.1f}")}
ROWS = [{"name": "a|b", "map": 0.5}, {"name": "seven77", "map": None}, {}]


def test_cells_show_values_as_their_column_says():
    lines = ssd_table.cells(COLUMNS, ROWS)
    assert lines == [["model", "mAP"], ["a|b", "50.0"], ["seven77", "-"], ["-", "-"]]


def test_a_terminals_table_is_padded_and_has_no_blank_at_its_ends():
    text = ssd_table.as_text(COLUMNS, ssd_table.cells(COLUMNS, ROWS))
    assert text.splitlines() == [
        "model     mAP",
        "a|b      50.0",
        "seven77      -",  # too long a name moves its row, and is not cut
        "-           -",
    ]
    assert ssd_table.as_text({"a": ("a", -9, str)}, [["x"]]) == "x"
    assert ssd_table.as_text(COLUMNS, [["a", "b"]], "") == "a         b"


def test_markdown_keeps_bars_and_lines_within_their_cell():
    assert ssd_table.as_markdown([["a", "b"], ["x|y", "1\n2"]]) == [
        "| a | b |",
        "|---|---|",
        "| x\\|y | 1 2 |",
    ]
    assert ssd_table.as_markdown([["a"]]) == ["| a |", "|---|"]
