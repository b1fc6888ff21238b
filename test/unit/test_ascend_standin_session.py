"""Tests of the Python interface of the stand-in's ais_bench: InferSession, MultiDeviceSession."""

import importlib
import importlib.util
import os
import sys

import numpy as np
import pytest
from models import STANDIN, load_standin

tiny = load_standin("tiny")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny.make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def interface(monkeypatch):
    """Import ais_bench.infer.interface in this process, and forget it afterwards."""
    for name in [name for name in os.environ if name.startswith("STANDIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(str(STANDIN))
    before = set(sys.modules)
    yield importlib.import_module("ais_bench.infer.interface")
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith(("ais_bench", "standin")):
            del sys.modules[name]


def test_infer_session(models, interface, capsys):
    session = interface.InferSession(0, str(models / "bs4.om"))
    assert capsys.readouterr().out.startswith(tiny.BANNER)
    (image,), outputs = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", [4, 3, 8, 8])
    assert (image.size, image.realsize) == (3072, 3072)
    assert (str(image.datatype), int(image.datatype), image.format) == ("dtype.float32", 0, 0)
    assert [one.name for one in outputs] == ["Reshape_1:0:loc", "Act_2:0:conf"]
    images = np.random.default_rng(5).random((4, 3, 8, 8), np.float32)
    got = session.infer([images], mode="static")
    tiny.check_half(got, tiny.exact(models / "net.onnx", images))
    piped = session.infer_pipeline([[images], [images]])
    np.testing.assert_array_equal(piped[1][0], got[0])
    assert len(session.summary().exec_time_list) == len(session.sumary().exec_time_list) == 3
    session.reset_summaryinfo()
    assert session.summary().exec_time_list == []
    session.free_resource()
    interface.InferSession.finalize()


def test_infer_session_refuses_what_is_not_the_models(models, interface, monkeypatch):
    session = interface.InferSession(0, str(models / "aipp4.om"))
    assert session.get_inputs()[0].shape == [4, 8, 8, 3]
    pictures = np.zeros((4, 8, 8, 3), np.uint8)
    session.infer([pictures])
    for wrong in (
        pictures[:1],
        pictures.transpose(0, 3, 1, 2).copy(),
        pictures.astype(np.int8),
        np.zeros((4, 3, 8, 8), np.float32),
    ):
        with pytest.raises(RuntimeError):
            session.infer([wrong])
    with pytest.raises(RuntimeError, match="nums not matched"):
        session.infer([pictures, pictures])
    with pytest.raises(RuntimeError, match="not a dymbatch model"):
        session.infer([pictures], mode="dymbatch")
    monkeypatch.setenv("STANDIN_CARD_LOST_AFTER", "1")
    with pytest.raises(RuntimeError, match="ACL"):
        session.infer([pictures])


def test_infer_session_on_a_dynamic_batch(models, interface):
    session = interface.InferSession(0, str(models / "dyn.om"))
    assert [one.name for one in session.get_inputs()] == ["image"]
    images = np.random.default_rng(5).random((4, 3, 8, 8), np.float32)
    with pytest.raises(RuntimeError):
        session.infer([images], mode="static")
    for batch in (4, 1):
        loc, _ = session.infer([images[:batch]], mode="dymbatch")
        assert loc.shape == (batch, *tiny.LOC)
    with pytest.raises(RuntimeError):
        session.infer([images[:3]], mode="dymbatch")


def test_several_devices_from_python(models, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, numpy as np\n"
        "from ais_bench.infer.interface import MultiDeviceSession\n"
        "if __name__ == '__main__':\n"
        "    session = MultiDeviceSession(sys.argv[1])\n"
        "    one = [np.ones((1, 3, 8, 8), np.float32)]\n"
        "    outputs = session.infer({0: [one], 1: [one]})\n"
        "    print('RESULT', sorted(outputs), outputs[1][0][0].shape, sorted(session.summary))\n"
    )
    command = [sys.executable, script, models / "bs1.om"]
    done = tiny.run(command, STANDIN_CARDS="310P3,310P3")
    assert done.stdout.splitlines()[-1] == "RESULT [0, 1] (1, 4, 64) [0, 1]", done.stderr
