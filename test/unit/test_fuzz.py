"""Whatever lies in a file, a name or a command line: it is read, or refused in one line."""

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
from ssd import coco, detections
from ssd.annotation_checks import find_warnings
from ssd.cli import KitError, printable
from ssd.files import natural_key
from ssd.tensors import tensor_id, tensor_stem

from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import ROOT

BOUNDED = settings(max_examples=50, derandomize=True, deadline=None, database=None)
TEXT = st.text(st.characters(exclude_categories=()), max_size=9)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2**53, 10**400, -1, 0.5])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RIGHT = {
    "images": [{"id": 9, "file_name": "9.jpg", "height": 40, "width": 60}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2.5, 30, 4]}],
    "categories": [{"id": 7, "name": "a"}],
}
RIGHT["annotations"][0] |= {"area": 120.0, "iscrowd": 0}
FOUND = {"image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5}
PLACES = [(part, key) for part, rows in RIGHT.items() for key in (None, *rows[0])]
STAGES = sorted(p.stem for p in ROOT.glob("*.py") if "def parse_args" in p.read_text())
WORDS = TEXT | NUMBERS.map(str) | st.sampled_from(["1,", ",", "0/0", "1/2/3", "=", "a=b"])


def written(value):
    """Return the path of a new file that holds a value as JSON."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(value, file)
    return Path(file.name)


def read(reader, value):
    """Return what a reader makes of a value in a file, None if it refuses it in one line."""
    path = written(value)
    try:
        return reader(path)
    except KitError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error)) < 400
        assert printable(str(error)).isprintable()
    finally:
        path.unlink()


def read_scorable(path):
    instances = coco.read_instances(path)
    coco.check_scorable(instances, path)
    return instances


@BOUNDED
@given(VALUES)
def test_any_json_is_no_data_set_and_no_detections(value):
    assert read(read_scorable, value) is None
    found = read(detections.from_json, value)
    assert found is None or len(found) == 0


@settings(BOUNDED, max_examples=200)
@given(st.sampled_from(PLACES), VALUES)
@example(("annotations", "bbox"), [1, 2, 10**400, 4])
@example(("annotations", "area"), float("nan"))
@example(("images", "file_name"), "\ud800")
def test_any_value_in_a_data_set_is_read_or_refused(place, value):
    part, key = place
    data = json.loads(json.dumps(RIGHT))
    if key is None:
        data[part] = value
    else:
        data[part][0][key] = value
    instances = read(read_scorable, data)
    if instances:
        assert all(isinstance(line, str) for line in find_warnings(instances, []))
        assert coco.prepare(instances, keep_keys=False)["categories"] == instances["categories"]
        assert len(coco.category_names(instances)) == len(coco.category_ids(instances))


@BOUNDED
@given(st.sampled_from(sorted(FOUND)), VALUES)
def test_any_value_in_detections_is_read_or_refused(key, value):
    found = read(detections.from_json, [FOUND, FOUND | {key: value}])
    assert found is None or len(found) == 2


@BOUNDED
@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=80))
@example("tensor([٣])_0.bin")
@example("tensor([²]).bin")
@example("tensor([-1]).bin")
def test_any_name_has_an_id_or_none(name):
    image_id = tensor_id(Path(name))
    assert image_id is None or (image_id >= 0 and name.startswith("tensor(["))
    assert sorted([Path(name), Path("tensor([9]).bin")], key=natural_key)


@BOUNDED
@given(st.integers(0, 2**53), st.sampled_from([".bin", "_0.bin", "_1.npy"]))
def test_the_id_comes_back_from_its_name(image_id, rest):
    assert tensor_id(Path("a") / (tensor_stem(image_id) + rest)) == image_id


@pytest.mark.parametrize("name", STAGES)
def test_any_command_line_is_taken_or_wrong_usage(name):
    parse = pytest.importorskip(name).parse_args
    options = sorted(set(re.findall(r"--[a-z][a-z_-]+", (ROOT / f"{name}.py").read_text())))

    @settings(BOUNDED, max_examples=30)
    @given(st.lists(st.sampled_from(options) | WORDS, max_size=7))
    def check(words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                parse(words)
            except SystemExit as end:
                assert end.code in (0, 2)
                assert end.code == 0 or ": error: " in err.getvalue()

    check()
