"""Options of ssd_report.py that choose, and those that are refused."""

import sys

import ssd_report

import pytest


def test_the_best_batch_is_printed_without_loading_what_the_page_needs(result, monkeypatch, capsys):
    for name in ("matplotlib", "jinja2", "cv2", "hotcoco", "ssd.report.page"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    ssd_report.main([str(result), "--print-best"])
    assert capsys.readouterr().out == "4\n"


def test_the_best_is_that_within_the_latency_limit(result, capsys):
    for limit, batch in ((1000, 4), (999, 1), (1, 1)):  # the slowest batch of four took 1000 ms
        ssd_report.main([str(result), "--print-best", f"--latency_limit={limit}"])
        assert capsys.readouterr().out == f"{batch}\n"
    ssd_report.main([str(result), "--latency_limit=999"])
    printed = capsys.readouterr().out
    assert "\nMax                     1 " in printed
    assert "\nbest fps within 999 ms: batch 1, 4.000 images/s\n" in printed
    ssd_report.main([str(result), "--latency_limit=1"])
    words = "no batch size answers within 1 ms; the quickest is batch 1 with 400.00 ms"
    assert words in capsys.readouterr().out.replace("\n", " ")
    assert words in (result / "report.html").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--fact", "x"],
        ["--score", "2"],
        ["--latency_limit=0"],
        ["--output", "x"],
        ["a", "b", "--output"],
    ],
)
def test_wrong_usage_exits_2(result, options):
    with pytest.raises(SystemExit) as ended:
        ssd_report.main([str(result), *options])
    assert ended.value.code == 2
