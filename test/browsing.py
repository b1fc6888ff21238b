"""What the tests of the pages do in Chromium: click, choose, read."""

from ssd.report.page import lookup

import pytest

DOG = "<b>\"dog\" & 'co'"  # a class name of test/data/five that must be escaped


def script(page, words, *more):
    return page.execute_script(f"return {words}", *more)


def click(page, selector):
    script(page, "document.querySelector(arguments[0]).click()", selector)


def pick(page, selector, text):
    """Choose an option of a select by its text."""
    script(
        page,
        "(() => { const node = document.querySelector(arguments[0]);"
        " node.value = [...node.options].find((option) => option.text === arguments[1]).value;"
        " node.dispatchEvent(new Event('change')); })()",
        selector,
        text,
    )


def shown(page, selector):
    """Return the texts of those elements that can be seen."""
    return script(
        page,
        "[...document.querySelectorAll(arguments[0])]"
        ".filter((node) => node.getClientRects().length).map((node) => node.textContent)",
        selector,
    )


def slide(page, step):
    """Move the score's slider to its threshold of that index."""
    script(
        page,
        "(() => { const node = document.querySelector('#score'); node.value = arguments[0];"
        " node.dispatchEvent(new Event('input')); })()",
        step,
    )


def check_figures(page, report):
    """Compare every figure of the page with the report's; return how many there are."""
    figures = script(
        page,
        "[...document.querySelectorAll('[data-figure]')].map((node) =>"
        " [node.dataset.figure, node.hasAttribute('data-percent'), node.textContent])",
    )
    for path, percent, text in figures:
        value = lookup(report, path)
        if text == "–":
            assert value is None, path
        elif isinstance(value, str):
            assert text == value, path
        else:
            decimals = len(text.partition(".")[2])
            number = 100 * value if percent else value
            assert float(text.replace(",", "")) == pytest.approx(number, abs=0.5001 / 10**decimals)
            assert decimals or float(text.replace(",", "")) == value, path
    return len(figures)
