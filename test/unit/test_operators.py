"""Every graph that is exported for atc stays inside what atc's open sources take.

The table is test/data/atc_operators.json. AIPP, float16 outputs, precisions and INT8 by atc are
options of its own over the same ONNX files.
"""

import json

import pytest

torch = pytest.importorskip("torch")
import ssd_pth2onnx  # noqa: E402
from ssd.network import deploy  # noqa: E402
from ssd.onnx_graph import copy_shared_tensors  # noqa: E402

import onnx  # noqa: E402
from models import ROOT  # noqa: E402
from onnx import helper  # noqa: E402

TABLE = json.loads((ROOT / "test" / "data" / "atc_operators.json").read_text())
EXPORTS = [(11, False), (11, True), (14, False), (17, False)]  # opset, dynamic batch


def faults(model):
    """Return what of a model atc does not take: operators, opsets, attributes, outputs."""
    oldest, newest = TABLE["opsets"]
    found = [f"domain {entry.domain}" for entry in model.opset_import if entry.domain]
    found += [
        f"opset {entry.version}"
        for entry in model.opset_import
        if not entry.domain and not oldest <= entry.version <= newest
    ]
    for node in model.graph.node:
        known = TABLE["operators"].get(node.op_type)
        if known is None:
            found.append(node.op_type)
            continue
        if len(node.output) > known.get("outputs", len(node.output)):
            found.append(f"{node.op_type}: {len(node.output)} outputs")
        for name, most in known.get("attributes", {}).items():
            for attribute in (entry for entry in node.attribute if entry.name == name):
                values = helper.get_attribute_value(attribute)
                if max(values if isinstance(values, list) else [values]) > most:
                    found.append(f"{node.op_type}: {name} {values}")
    return found


@pytest.mark.parametrize(("opset", "dynamic"), EXPORTS)
def test_every_export_stays_inside(opset, dynamic, network, tmp_path):
    path, image = tmp_path / "a.onnx", ssd_pth2onnx.random_input(1, "float32")
    ssd_pth2onnx.export(deploy(network), path, image, opset, dynamic)
    model = onnx.load(path)
    copy_shared_tensors(model.graph)
    assert faults(model) == []
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 51 and kinds.count("MaxPool") == 1


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        ("MaxPool", {"kernel_shape": [3, 256]}, "MaxPool: kernel_shape [3, 256]"),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [64, 2]}, "MaxPool: strides [64, 2]"),
        ("MaxPool", {"kernel_shape": [3, 3], "storage_order": 1}, "MaxPool: storage_order 1"),
        ("MaxPool", {"kernel_shape": [255, 255], "strides": [63, 63]}, None),
        ("Identity", {}, "Identity"),
        ("NonMaxSuppression", {}, "NonMaxSuppression"),
    ],
)
def test_what_atc_does_not_take_is_found(kind, more, told):
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], **more)], "g", [], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    assert faults(model) == ([told] if told else [])


def test_opsets_domains_and_second_outputs_are_found():
    pool = helper.make_node("MaxPool", ["x"], ["y", "places"], kernel_shape=[3, 3])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph([pool], "g", [], []), opset_imports=opsets)
    assert faults(model) == ["domain ai.onnx.ml", "opset 19", "MaxPool: 2 outputs"]
