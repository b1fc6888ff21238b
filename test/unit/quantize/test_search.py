"""What the search for INT8 models leaves in float, in which order."""

import pytest

pytest.importorskip("onnx")
from ssd.quantize import search
from ssd.quantize.judges import Verdict


def test_steps_halve_the_error_and_take_much_for_little_work_first():
    sensitivity = {"a": 8.0, "b": 4.0, "c": 2.0, "d": 2.0}
    work = {"a": 80, "b": 10, "c": 1, "d": 100}
    steps = list(search.float_steps(sensitivity, work))  # order c b a d; from 16 to 8: c b a
    assert steps == [["c", "b", "a"]]
    work = dict.fromkeys("abcd", 1)
    assert list(search.float_steps(sensitivity, work)) == [["a"], ["a", "b"], ["a", "b", "d"]]
    sensitivity = {"a": 98.0, "b": 1.0, "c": 1.0}
    assert list(search.float_steps(sensitivity, work)) == [["a"], ["a", "c"]]
    assert list(search.float_steps({"a": 1.0}, {"a": 1})) == []
    assert list(search.float_steps({"a": 0.0, "b": 0.0}, work)) == []


def test_nothing_runs_where_there_is_nothing_to_time():
    assert search.time_ratios(None, [], None) == []  # which None cannot run


def test_auto_tries_once_fewer_blocks_than_the_first_good_model():
    class Quantizer:
        names = list("abcde")

        def sensitivity(self, paths):
            return {"a": 60.0, "b": 12.0, "c": 11.0, "d": 10.0, "e": 1.0}

        def block_work(self):
            return {"a": 1, "b": 20, "c": 20, "d": 20, "e": 1}

        def nodes_of(self, blocks):
            return list(blocks)

        def int8_share(self, nodes):
            return 0.9

    class Table(search.Table):
        def __init__(self, needed):
            self.needed, self.asked, self.verdicts = needed, [], []

        def begin(self):
            pass

        def add(self, skip, names):
            self.asked.append("".join(names))
            self.verdicts.append(Verdict(len(names), 0, self.needed <= set(names)))
            return self.verdicts[-1]

    for needed, asked, chosen in [  # error left: a 34, then e b c 10
        ("a", ["", "a"], "a"),  # half of a block is none
        ("ae", ["", "a", "aebc", "ae"], "ae"),
        ("aeb", ["", "a", "aebc", "ae"], "aebc"),
        ("xyz", ["", "a", "aebc"], "aebc"),  # never good: the best by mAP
    ]:
        table = Table(set(needed))
        assert "".join(search.choose(Quantizer(), table, "auto", None, [])) == chosen
        assert table.asked == asked
