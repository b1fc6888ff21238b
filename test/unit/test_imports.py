"""Imports point down: scripts know the package, wings know the ground, nothing goes round."""

import ast
import re
from graphlib import TopologicalSorter

import pytest
from models import ROOT

WINGS = {"ladder", "quantize", "detect", "report", "scale"}
TORCH_ALLOWED = {"ssd/checkpoint.py", "ssd/network.py", "ssd/fit.py", "ssd/engines/pytorch.py"}
TORCH_ALLOWED |= {"ssd_pth2onnx.py", "ssd_sample.py", "ssd_r34.py"}
FILES = [*ROOT.glob("*.py"), *ROOT.glob("ssd/**/*.py")]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imports(path):
    """Yield the modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            for one in node.names:
                name = f"{node.module}.{one.name}"
                yield name if name in MODULES else node.module


def room_of(module):
    """Return the wing, `engines` or `ascend` of a module, None for the ground and scripts."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / "ssd" / parts[1]).is_dir() else None


def test_no_import_goes_round_in_a_circle():
    graph = {m: {i for i in imports(path) if i in MODULES} - {m} for m, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module):
    mine = room_of(module)
    for other in imports(MODULES[module]):
        if other not in MODULES or not module.startswith("ssd."):
            continue
        assert other.startswith("ssd"), f"{module} imports the script {other}"
        assert "." in other or other == "ssd", f"{module} imports the script {other}"
        theirs = room_of(other)
        allowed = {None, mine, "ascend"} | ({"engines"} if mine in {*WINGS, "engines"} else set())
        if mine is None:
            allowed = {None}
        elif mine == "ascend":
            allowed = {None, "ascend"}
        assert theirs in allowed, f"{module} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_network_and_its_users_import_torch(path):
    if {"torch", "torchvision"} & {name.partition(".")[0] for name in imports(path)}:
        assert path.relative_to(ROOT).as_posix() in TORCH_ALLOWED


def test_torchvision_which_takes_as_long_as_torch_is_imported_late():
    for path in FILES:
        lines = path.read_text().splitlines()
        assert not [line for line in lines if re.match("(import|from) torchvision", line)], path


@pytest.mark.parametrize("path", FILES, ids=module_of)
@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_what_reports_to_its_maker_is_imported_where_that_is_switched_off(library, path):
    if path.relative_to(ROOT).as_posix() == f"ssd/engines/{library}.py":
        return
    taken = {name for name in imports(path) if name.partition(".")[0] == library}
    if taken:  # of its parts, after import_onnxruntime()
        assert f"import_{library}()" in path.read_text() and library not in taken


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_scale_wing_imports_ray(path):
    if {"ray", "pyarrow"} & {name.partition(".")[0] for name in imports(path)}:
        assert path.relative_to(ROOT).as_posix().startswith("ssd/scale/")
