"""The note beside an .om, and the settings of AIPP."""

from dataclasses import replace

from ssd.ascend.om import aipp_config, read_sidecar, sidecar_path
from ssd.boxes import SSD300
from ssd.cli import KitError

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
    om = tmp_path / "m.om"
    om.write_bytes(b"one")
    assert read_sidecar(om)["input_dtype"] == "float32"
    for note in ('{"om_sha256": "of another"}', "[]", "{"):
        sidecar_path(om).write_text(note)
        with pytest.raises(KitError, match="convert again"):
            read_sidecar(om)
