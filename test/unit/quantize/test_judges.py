"""What a judge of INT8 models makes of a data set in which nothing is to be found."""

from pathlib import Path
from types import SimpleNamespace

from ssd.cli import KitError
from ssd.quantize import judges

import pytest


def test_no_map_is_no_verdict(monkeypatch):
    judge = object.__new__(judges.MapJudge)
    judge.data = SimpleNamespace(annotation=Path("a.json"), instances={})
    judge.images, judge.paths, judge.ids = [], [], []
    monkeypatch.setattr(judges, "run_images", lambda *_: [])
    nothing = SimpleNamespace(stats={"AP": None})
    monkeypatch.setattr(judges.coco_eval, "score", lambda *_: nothing)
    with pytest.raises(KitError, match="a.json: nothing to find in 0 images, so no mAP"):
        judge.mean_ap(None)
