"""Checkpoint files: every form that is read, and the cause that is named where one is not."""

import argparse
import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from ssd import checkpoint  # noqa: E402
from ssd.boxes import SSD300  # noqa: E402
from ssd.checkpoint import read_state_dict  # noqa: E402
from ssd.cli import KitError  # noqa: E402
from ssd.network import SSDR34, load_checkpoint  # noqa: E402

LABELS = 3
WEIGHTS = {"a.weight": torch.arange(3.0), "b": torch.ones(2, 2)}
EVIL = Path("/tmp/ssd-evil-was-here")


@pytest.fixture(scope="module")
def state():
    """A state dict of the right names and shapes that takes no room: each weight is one number."""
    with torch.device("meta"):
        shapes = SSDR34(LABELS).state_dict()
    zero = {True: torch.tensor(0.5), False: torch.tensor(1)}
    return {k: zero[v.is_floating_point()].expand(v.shape) for k, v in shapes.items()}


def refusal(path, load=read_state_dict):
    """Return the message that a checkpoint is refused with."""
    with pytest.raises(KitError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable()
    return message.removeprefix(f"{path}: ")


def reference_names(state):
    """The same weights under the MLPerf reference's names."""
    new = {}
    swap = {"model.0.": "0.", "model.1.": "1.", "model.3.": "4.", "model.4.": "5."}
    for key, value in state.items():
        if key.startswith("mbox."):
            boxes = SSD300.boxes_per_cell[int(key.split(".")[1])]
            new[key.replace("mbox", "conf")] = value[: boxes * LABELS]
            new[key.replace("mbox", "loc")] = value[boxes * LABELS :]
        elif key.startswith("model.5."):
            new["model.layer2.0." + key[len("model.5.") :]] = value
        elif key.startswith("model."):
            new["model.layer1." + swap[key[:8]] + key[8:]] = value
        else:
            new[key] = value
    return new


def prefixed(prefix):
    return {prefix + key: value for key, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    "saved",
    [
        WEIGHTS,
        *({key: WEIGHTS, "epoch": 1} for key in checkpoint.STATE_KEYS),
        {"epoch": 1, "ema": prefixed("module.") | {"n_averaged": torch.tensor(7)}},
        {"model": {"state_dict": WEIGHTS}},
        {"model": WEIGHTS, "ema": {"a.weight": torch.zeros(3)}},
        prefixed("module."),
        prefixed("_orig_mod."),
        {"model": prefixed("module._orig_mod.")},
        {"model": prefixed("_orig_mod.module.module.")},
        {k: torch.nn.Parameter(v) for k, v in WEIGHTS.items()},
    ],
    ids=lambda saved: "-".join(saved)[:40],
)
def test_every_form_gives_the_weights(saved, tmp_path):
    torch.save(saved, tmp_path / "c.pt")
    read = read_state_dict(tmp_path / "c.pt")
    assert list(read) == list(WEIGHTS)
    assert all(torch.equal(read[key], WEIGHTS[key]) for key in WEIGHTS)


def test_the_legacy_file_is_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    assert list(read_state_dict(tmp_path / "c.pt")) == list(WEIGHTS)


def test_safetensors_are_read(tmp_path):
    pytest.importorskip("safetensors.torch").save_file(
        prefixed("module."), tmp_path / "c.safetensors"
    )
    read = read_state_dict(tmp_path / "c.safetensors")
    assert all(torch.equal(read[key], WEIGHTS[key]) for key in WEIGHTS)
    data = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "cut").write_bytes(data[:-4])
    assert "not a checkpoint, or damaged (SafetensorError" in refusal(tmp_path / "cut")


def test_safetensors_ask_for_their_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "c").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert refusal(tmp_path / "c") == "safetensors; pip install safetensors to read it"


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(EVIL),)


def saved(value):
    data = io.BytesIO()
    torch.save(value, data)
    return data.getvalue()


def scripted():
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), data)
    return data.getvalue()


def quantized():
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def zipped(pickled):
    """Wrap a pickle as torch.save does."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/version", "3\n")
        file.writestr("a/data/0", bytes(12))
    return data.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 80000000\n"
GIVEN = {  # what is given: what makes the bytes, words of the message
    "git-LFS pointer": (lambda: LFS, "a git-LFS pointer, not the file itself; run git lfs pull"),
    "web page": (lambda: b"\n <!DOCTYPE html><html>", "a web page (HTML"),
    "error of a server": (lambda: b'{"message": "Not Found"}', "JSON text"),
    "ONNX model": (lambda: b"\x08\x07\x12\x07pytorch", "an ONNX model"),
    "gzip": (lambda: b"\x1f\x8b\x08\x00", "packed by gzip"),
    "empty": (lambda: b"", "an empty file; fetch it again"),
    "text": (lambda: b"hello", "not a checkpoint, or damaged"),
    "other zip": (lambda: zipped(b"")[:-1], "not a checkpoint, or damaged"),
    "cut short": (lambda: saved(WEIGHTS)[:-200], "not a checkpoint, or damaged (RuntimeError"),
    "TorchScript": (scripted, "a TorchScript archive, which holds code; save the weights"),
    "code": (lambda: saved({"model": Evil()}), "holds posix.mkdir, not only weights"),
    "network": (lambda: saved(torch.nn.Linear(1, 1)), "holds torch.nn.modules.linear.Linear"),
    "Namespace": (
        lambda: saved({"model": WEIGHTS, "args": argparse.Namespace(lr=1)}),
        "holds argparse.Namespace, not only weights",
    ),
    "numpy scalar": (
        lambda: saved({"model": WEIGHTS, "best": np.float64(0.2)}),
        "multiarray.scalar, not only weights",
    ),
    "list": (lambda: saved([1, 2]), "holds no state dict"),
    "tensor": (lambda: saved(torch.ones(1)), "holds no state dict"),
    "empty dict": (lambda: saved({}), "holds no state dict"),
    "numbers": (lambda: saved({"model": {"a": 1.0}}), "holds no state dict"),
    "whole numbers as names": (lambda: saved({1: torch.ones(1)}), "holds no state dict"),
    "sparse": (lambda: saved({"a": torch.eye(2).to_sparse()}), "a is a sparse tensor"),
    "sparse rows": (lambda: saved({"a": torch.eye(2).to_sparse_csr()}), "a is a sparse tensor"),
    "quantized": (lambda: saved({"a": quantized()}), "a is a quantized tensor"),
    "meta": (lambda: saved({"a": torch.empty(2, device="meta")}), "a is a meta (empty) tensor"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GIVEN)
def test_the_cause_is_named(name, tmp_path):
    make, words = GIVEN[name]
    (tmp_path / "c.pt").write_bytes(make())
    assert words in refusal(tmp_path / "c.pt")
    assert not EVIL.exists()


MALFORMED = [  # pickles, and what torch.load raises for them: bare or in a zip archive
    (b"", "EOFError"),
    (b"]K\x01a", "EOFError"),
    (b"X\xff\xff\xff\xffabc.", "EOFError"),
    (b".", "IndexError"),
    (b"\x85.", "IndexError"),
    (b"\x80", "IndexError"),
    (b"K\x01K\x02s.", "IndexError"),
    (b"h\x05.", "KeyError: 5"),
    (b"X\x05\x00", "unpack requires a buffer of 4 bytes"),
    (b"G\x00", "unpack requires a buffer of 8 bytes"),
    (b"X\x01\x00\x00\x00\xd7.", "UnicodeDecodeError"),
    (b"}]K\x01s.", "TypeError: unhashable"),
    (b"ccollections\nOrderedDict\nK\x01\x85R.", "TypeError"),
    (b"ccollections\nOrderedDict\nK\x01R.", "TypeError"),
    (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "TypeError"),
    (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00K\x01K\x01\x89NtR.", "AttributeError"),
    (b"K\x01K\x02a.", "UnpicklingError"),
    (b"K\x01\x85Q.", "UnpicklingError"),
    (b"\x8c\xffabc", "UnpicklingError"),
    (b"\xff", "UnpicklingError"),
    (b"cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.", "holds posix.system"),
    (b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "holds eval"),
]


@pytest.mark.parametrize("wrap", [bytes, zipped], ids=["bare", "zip"])
@pytest.mark.parametrize(("pickled", "words"), MALFORMED, ids=str)
def test_a_malformed_pickle_is_one_line(wrap, pickled, words, tmp_path):
    (tmp_path / "c.pt").write_bytes(wrap(b"\x80\x02" + pickled))
    assert words in refusal(tmp_path / "c.pt")


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep\nerror"), AssertionError()])
def test_whatever_torch_raises_is_one_line(error, tmp_path, monkeypatch):
    def load(*_, **settings):
        assert settings["weights_only"] is True
        raise error

    monkeypatch.setattr(torch, "load", load)
    (tmp_path / "c.pt").write_bytes(b"x")
    assert f"damaged ({type(error).__name__}" in refusal(tmp_path / "c.pt")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/null"), Path("/dev/zero")):
        assert "a folder or device, not a file" in refusal(path)
    assert "or fetch it (iter_183250.pt: https://" in refusal(tmp_path / "none.pt")
    assert "cannot read" in refusal(tmp_path / ("x" * 300))
    (tmp_path / "dangling").symlink_to("none")
    assert "no such checkpoint" in refusal(tmp_path / "dangling")


def load(value, folder, resnet34=None):
    """Save a state dict, load it as the network, and remove it: it is large."""
    path = folder / "c.pt"
    torch.save(value, path)
    try:
        return load_checkpoint(path, resnet34)
    finally:
        path.unlink()


@pytest.mark.parametrize("form", ["wrapped", "reference", "no counts"])
def test_the_network_gets_its_weights(form, network, tmp_path):
    weights = network.state_dict()
    given = {
        "wrapped": {"model": weights},
        "reference": {"model": reference_names(weights)},
        "no counts": {k: v for k, v in weights.items() if "num_batches" not in k},
    }[form]
    loaded = load(given, tmp_path)
    assert loaded.labels == LABELS and not loaded.training
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_a_missing_trunk_is_read_from_torchvisions_checkpoint(state, tmp_path):
    heads = {key: value for key, value in state.items() if not key.startswith("model.")}
    resnet = pytest.importorskip("torchvision").models.resnet34()
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    loaded = load(heads, tmp_path, tmp_path / "resnet.pth")
    assert torch.equal(loaded.model[5][5].conv2.weight, resnet.layer3[5].conv2.weight)
    with pytest.raises(KitError, match="no trunk weights"):
        load(heads, tmp_path, tmp_path / "none.pth")


HEAD = "mbox.0.bias"
WRONG = {  # weights in place of the right ones: what is said of them
    "of a wrong shape (model.0.weight)": {"model.0.weight": torch.zeros(1)},
    "12 weights of a wrong shape (mbox.0.weight, mbox.0.bias,": {HEAD: torch.tensor(1.0)},
    "11 weights of a wrong shape (mbox.0.weight": {HEAD: torch.tensor(0.0).expand(10**9)},
    "1 weights missing (mbox.3.bias)": {"mbox.3.bias": None},
    "1 weights unknown (extra.weight)": {"extra.weight": torch.zeros(1)},
    "of a wrong type (mbox.1.bias)": {"mbox.1.bias": torch.zeros(42, dtype=torch.int64)},
    "of a wrong type (mbox.2.bias)": {"mbox.2.bias": torch.zeros(42, dtype=torch.complex64)},
}


@pytest.mark.parametrize("words", WRONG)
def test_weights_that_do_not_fit_are_named(words, state, tmp_path):
    changed = {k: v for k, v in (state | WRONG[words]).items() if v is not None}
    torch.save(changed, tmp_path / "c.pt")
    message = refusal(tmp_path / "c.pt", load_checkpoint)
    assert message.startswith("not SSD300-ResNet34: ") and words in message


def test_heads_of_no_dimension_are_refused_under_the_references_names(state, tmp_path):
    single = {"loc.0.bias": torch.tensor(0.0)}
    for given in (single, single | {"conf.0.bias": torch.tensor(0.0)}):
        torch.save(reference_names(state) | given, tmp_path / "c.pt")
        assert "missing (mbox.0.bias)" in refusal(tmp_path / "c.pt", load_checkpoint)
