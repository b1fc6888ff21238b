"""What the page lists and translates, without a browser."""

from types import SimpleNamespace

from ssd import coco
from ssd.annotation_checks import find_warnings
from ssd.engines import choice
from ssd.report.accuracy_charts import drawn_labels
from ssd.report.collect import differing_rows
from ssd.report.matching import ERRORS
from ssd.report.page import lists, main_error
from ssd.report.texts import fact_name, in_chinese

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("total", "kept", "words"),
    [
        (5000, 5000, "全部 5000 张图片"),
        (5000, 4952, "5000 张图片中的 4952 张（48 张无标注，未计入）"),
    ],
)
def test_the_words_for_what_was_scored_are_put_into_chinese(total, kept, words):
    english = coco.describe_selection({"images": [0] * total}, [0] * kept)
    assert in_chinese(english) == words


def test_facts_have_names_in_both_languages():
    assert fact_name("engine") == ("engine", "推理引擎")
    assert fact_name("model, batch 4") == ("model, batch 4", "模型，批大小 4")
    assert fact_name("packages: numpy") == ("numpy", "numpy")
    assert fact_name("a fact of the user's") == ("a fact of the user's",) * 2


def test_every_warning_has_its_chinese_form(monkeypatch):
    image = {"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}
    beyond = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 99, 9]}
    turned = {"images": [image], "annotations": [beyond], "categories": coco.COCO_CATEGORIES[::-1]}
    warnings = find_warnings(turned, coco.COCO_CATEGORIES)
    row = {"model": "m.onnx"}
    rows = [row | {"batch": i, "checkpoint_sha256": i * "a", "engine": i * "e"} for i in (1, 2)]
    scores = {i: {"made_from": {"images": i}, "scored": f"all {i} images"} for i in (1, 2)}
    warnings += differing_rows(rows, scores)
    monkeypatch.setattr(choice, "cards", lambda: [SimpleNamespace(name="310P3")] * 2)
    warnings.append(choice._unused_cards("no ais_bench"))
    starts = ["1 个框中有 1 个超出图片边界", "80 个类别中有 80 个的顺序", "各模型来自不同的权重"]
    starts += ["各行由不同的推理引擎运行", "各行计分的标注或图片不同", "实际运行的是 CPU"]
    for warning, start in zip(warnings, starts, strict=True):
        assert in_chinese(warning).startswith(start)
    assert in_chinese(warnings[-1]).endswith("本机有 2 块卡（310P3），但 no ais_bench")


def detail_of(*aps):
    classes = [{"name": f"class {i}", "ap": ap, "true_boxes": 1} for i, ap in enumerate(aps)]
    none = {kind: [0, 0] for kind in ("found", *ERRORS)}
    by_score = {"thresholds": [0.3, 0.5], "all": none, "classes": [none] * len(aps)}
    gains = dict.fromkeys((*ERRORS, "missed"), 0.0) | {"class": 0.02, "missed": 0.1}
    confusion = np.eye(len(aps) + 1, dtype=int).tolist()
    detail = {"confusion": confusion, "classes": classes, "gallery": [], "by_score": by_score}
    detail |= {"score": 0.3, "errors": {"delta_ap": gains}, "pr": {"classes": [None] * len(aps)}}
    return {"detail": detail}


def test_the_worst_classes_come_first_and_those_without_a_true_box_last():
    made = lists(detail_of(0.9, None, 0.2, 0.5, 0.1), {})
    assert made["class_order"] == [4, 2, 3, 0, 1]
    assert made["worst"] == [4, 2, 3]
    # of three classes all would be the worst
    assert lists(detail_of(0.9, None, 0.2, 0.1), {})["worst"] == []


def test_classes_that_the_charts_leave_out_are_counted():
    few, many = lists(detail_of(*[0.5] * 100), {}), lists(detail_of(*[0.5] * 365, None), {})
    assert (few["left_out"], many["left_out"]) == (0, 245)
    assert (few["matrix_classes"], many["matrix_classes"]) == (None, (100, 366))


def test_the_matrix_draws_the_classes_with_the_most_confusions():
    counts = np.diag(np.full(131, 9))
    counts[130, :] = 0
    counts[7, 120] = counts[129, 3] = 2  # two pairs
    drawn = drawn_labels(counts)
    assert len(drawn) == 100
    assert {3, 7, 120, 129} <= set(drawn)
    assert drawn == sorted(drawn)


def test_the_costliest_error_comes_first():
    made = lists(detail_of(0.5), {})
    assert made["error_order"][:2] == ["missed", "class"]
    assert made["costliest"] == "missed"


def test_the_main_error_of_a_class_is_the_most_frequent():
    row = {kind: [0, 0] for kind in ERRORS} | {"class": [2, 1], "both": [1, 1]}
    assert main_error(row, 0) == "class"
    assert main_error({kind: [0] for kind in ERRORS}, 0) is None
