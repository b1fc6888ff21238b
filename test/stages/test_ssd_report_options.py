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
        ["a", "b", "--output"],
        ["a", "--ladder"],
    ],
)
def test_wrong_usage_exits_2(result, options):
    with pytest.raises(SystemExit) as ended:
        ssd_report.main([str(result), *options])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "--output x",
            "--output is for a comparison of two or a history of more, not for a single RESULT",
        ),
        (
            "b --latency_limit=5",
            "is for a single RESULT or --print-best, not for a comparison of two",
        ),
        ("b --print-best", "--print-best is for a single RESULT, not for a comparison of two"),
        ("b --fact a=b", "--fact is for a single RESULT, not for a comparison of two"),
        ("b --matches", "--matches is for a single RESULT, not for a comparison of two"),
        (
            "b c --data d",
            "--data is for a single RESULT or a comparison of two, not for a history of more",
        ),
        (
            "b c --score=0.5",
            "--score is for a single RESULT or a comparison of two, not for a history",
        ),
        ("b c --print-best", "not for a history of more"),
        ("--ladder --batch_sizes=1", "not for --ladder"),
        ("--ladder --annotation a", "not for --ladder"),
        ("--ladder --all-images", "not for --ladder"),
        ("--ladder --print-best", "not for --ladder"),
        ("--ladder --fact a=b", "not for --ladder"),
        ("--print-best --matches", "--matches is for a single RESULT, not for --print-best"),
        ("--print-best --data d", "not for --print-best"),
        ("--images d", "--images needs the data set: --data or --annotation"),
        ("b --all-images", "--all-images needs the data set: --data or --annotation"),
        ("--score=0.5", "--score needs the data set: --data or --annotation"),
    ],
)
def test_an_option_that_would_be_passed_over_is_refused(options, words, capsys):
    with pytest.raises(SystemExit) as ended:
        ssd_report.parse_args(["a", *options.split()])
    assert ended.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "options",
    ["--ladder", "b --score=0.3 --output x", "--print-best --batch_sizes=1 --latency_limit=5"]
    + ["b --data d --score=0.5 --images i --all-images --batch_sizes=1"]
    + ["--annotation a --fact a=b --fact c=d --matches --latency_limit=5"],
)
def test_options_that_have_an_effect_are_taken(options):
    ssd_report.parse_args(["a", *options.split()])
