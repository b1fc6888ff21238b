"""The note beside an .om, and the settings of AIPP."""

import hashlib
from dataclasses import replace

from ssd.ascend import om
from ssd.ascend.om import aipp_config, om_sha256, read_sidecar, sidecar_path
from ssd.boxes import SSD300
from ssd.cli import KitError
from ssd.engines import model_sha256
from ssd.files import sha256, write_json

import numpy as np
import pytest


def test_aipp_numbers_come_from_the_one_mean_and_std(monkeypatch):
    def parse():
        pairs = (line.split(": ") for line in aipp_config().splitlines() if ":" in line)
        return {key.strip(): value for key, value in pairs}

    config = parse()
    rgb = np.arange(256)
    for i, (mean, std) in enumerate(zip(SSD300.mean, SSD300.std, strict=True)):
        aipp = (rgb - float(config[f"min_chn_{i}"])) * float(config[f"var_reci_chn_{i}"])
        np.testing.assert_allclose(aipp, (rgb / 255 - mean) / std, atol=1e-6)
    monkeypatch.setattr("ssd.ascend.om.SSD300", replace(SSD300, mean=(0.5, 0.5, 0.5)))
    assert parse()["min_chn_0"] == "127.5"


def test_a_note_of_another_om_is_refused(tmp_path):
    model = tmp_path / "m.om"
    model.write_bytes(b"one")
    assert read_sidecar(model)["input_dtype"] == "float32"
    for note in ('{"om_sha256": "of another"}', "[]", "{"):
        sidecar_path(model).write_text(note)
        with pytest.raises(KitError, match="convert again"):
            read_sidecar(model)


def test_an_om_is_hashed_again_only_once_it_is_another(tmp_path, monkeypatch):
    model, hashed = tmp_path / "m.om", []
    monkeypatch.setattr(om, "sha256", lambda path: hashed.append(path) or sha256(path))
    for count, data in enumerate((b"one", b"three", b"seven"), start=1):
        (tmp_path / "new").write_bytes(data)
        (tmp_path / "new").replace(model)  # as atc's file takes its name
        write_json(sidecar_path(model), {"om_sha256": hashlib.sha256(data).hexdigest()})
        assert om_sha256(model) == model_sha256(model) == read_sidecar(model)["om_sha256"]
        assert len(hashed) == count
