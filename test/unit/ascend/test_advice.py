"""What is said of atc's error codes, in each form that atc prints them, and of other messages."""

import re

from ssd.ascend import advice
from ssd.ascend.advice import Error, explain, place_of_logs, read_errors

import pytest
from models import ROOT

STAMP = "[PID: 77] 2026-05-06-10:11:12.776.801 "
FORMS = {  # how each CANN puts a code and its words
    "7.0": "E10001: Value [a] is invalid.",
    "8.0": f"E10001: {STAMP}Value [a] is invalid.",
    "8.5": f"{STAMP}Invalid_Argument(E10001): Value [a] is invalid.",
    "8.5, title with blanks": f"{STAMP}Invalid Argument(E10001): Value [a] is invalid.",
}
REST = """
        Possible Cause: {}
        Solution: {}
        TraceBack (most recent call last):
        Solution: of another layer
        E19999: inner words
"""


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_an_error_is_quoted_with_its_solution(form):
    log = "ATC run failed\n" + FORMS[form] + REST.format("a typo", "Try b.")
    assert read_errors(log)["E10001"] == Error("Value [a] is invalid.", "Try b.")
    known = advice.ADVICE["E10001"]
    said = "Value [a] is invalid.; Solution: Try b."
    assert explain(log) == f"E10001: {known} ({said}); {place_of_logs()}"
    unknown = log.replace("E10001", "E10077")
    assert explain(unknown) == f"E10077: {said}; {place_of_logs()}"
    bare = "ATC run failed\n" + FORMS[form] + REST.format("N/A", "N/A")
    assert read_errors(bare)["E10001"] == Error("Value [a] is invalid.")


def test_every_text_is_explained_and_stands_in_both_documents():
    pages = [(ROOT / "docs" / f"ascend{end}").read_text() for end in (".md", ".zh-CN.md")]
    for text, words in advice.ADVICE.items():
        line = f" ret={text}, words"
        found = f"{text}: {words} ({line.strip()}); {place_of_logs()}"
        assert explain(f"words\n{line}\nwords") == found
        assert all(text in page for page in pages), text


def test_a_number_that_only_holds_a_code_is_none():
    unknown = "no known error code; read the log; Ascend's logs: "
    assert explain("took 1507033 us, 507033.5 in all, E100011").startswith(unknown)
    assert explain("ret=507033.").startswith("507033: ")


def test_logs_are_where_the_environment_puts_them(monkeypatch):
    monkeypatch.delenv("ASCEND_PROCESS_LOG_PATH", raising=False)
    assert place_of_logs().startswith("Ascend's logs: ~/ascend/log/debug/plog; ")
    monkeypatch.setenv("ASCEND_PROCESS_LOG_PATH", "/logs")
    assert "/logs/debug/plog" in explain("nothing")


def test_a_genuine_message_of_a_missing_module_names_it():
    log = (
        "E40020: Failed to import Python module [ModuleNotFoundError: No module named 'sympy'.].\n"
    )
    assert re.match("No module named: atc's Python lacks .*'sympy'", explain(log))
