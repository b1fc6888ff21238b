"""Tables for a terminal and for Markdown, from rows and a description of their columns."""

from collections.abc import Callable, Iterable
from typing import Any

Columns = dict[str, tuple[str, int, Callable[[Any], str]]]  # key: title, width, format of a value


def percent(value: float) -> str:
    """Return a share from 0 to 1, such as an mAP, in % with three places."""
    return f"{100 * value:.3f}"


def points(value: float) -> str:
    """Return a difference of shares in points, that is of %, with its sign and three places."""
    return f"{100 * value:+.3f}"


def shown(value: Any, show: Callable[[Any], str]) -> str:
    """Return a value as `show` has it; `-` if there is none."""
    return "-" if value is None else show(value)


def cells(columns: Columns, rows: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Return a table's cells, headings first; `-` where a row has no value."""
    lines = [[title for title, _, _ in columns.values()]]
    for row in rows:
        lines.append([shown(row.get(key), show) for key, (_, _, show) in columns.items()])
    return lines


def as_text(columns: Columns, lines: list[list[str]], gap: str = "  ") -> str:
    """Return a table's cells for a terminal; a column of negative width stands at the left."""
    widths = [width for _, width, _ in columns.values()]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join(
        gap.join(c.ljust(-w) if w < 0 else c.rjust(w) for c, w in line).rstrip() for line in padded
    )


def as_markdown(lines: list[list[str]]) -> list[str]:
    """Return Markdown's lines of a table, the first row being its headings."""
    safe = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    head, *body = [f"| {' | '.join(line)} |" for line in safe]
    return [head, "|" + "---|" * len(lines[0]), *body]
