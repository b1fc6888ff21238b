"""Where images lie: folders, patterns, lists and stores, and reading from them."""

import io
import json

import ssd_scale
from ssd.cli import KitError
from ssd.images import read_rgb

import numpy as np
import pytest
from models import as_coco2017
from PIL import Image

pa = pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")
from ssd import coco  # noqa: E402
from ssd.scale import sources  # noqa: E402
from ssd.scale.tasks import pixels_of, read_images  # noqa: E402


def png(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "ph otos;'é"
    (made / "below").mkdir(parents=True)
    for name in ("10.png", "9.PNG", "below/1.jpg", ".hidden.png", "notes.md"):
        (made / name).write_bytes(png(7, 5))
    return made


@pytest.fixture
def memory():
    """An in-memory store with a folder of two images and another file."""
    store = fsspec.filesystem("memory")
    for name in ("a.png", "b.png", "c.txt"):
        store.pipe(f"/bucket/{name}", png(8, 6, seed=ord(name[0])))
    yield "fsspec+memory:///bucket"
    store.rm("/bucket", recursive=True)


def test_folder_pattern_file_and_list(folder, tmp_path, monkeypatch):
    inside = [str(folder / "9.PNG"), str(folder / "10.png")]
    assert sources.list_images(str(folder)) == inside
    assert sources.list_images(f"{folder}/*") == inside
    assert sources.list_images(f"{folder}/**/*.jpg") == [str(folder / "below" / "1.jpg")]
    assert sources.list_images(str(folder / "notes.md")) == [str(folder / "notes.md")]
    monkeypatch.chdir(folder)
    (tmp_path / "list.txt").write_text("10.png\n\n 9.PNG \ns3://bucket/x.jpg\n10.png\n")
    listed = sources.list_images(str(tmp_path / "list.txt"))
    assert listed == [inside[1], inside[0], "s3://bucket/x.jpg"]


def test_a_file_uri_is_a_store(folder):
    uri = folder.as_uri()
    assert sources.list_images(uri) == [f"{uri}/9.PNG", f"{uri}/10.png"]
    assert sources.list_images(f"{uri}/10.png") == [f"{uri}/10.png"]
    assert sources.read_location(f"{uri}/10.png").read() == (folder / "10.png").read_bytes()
    assert sources.read_location(str(folder / "10.png")) is None


def test_an_in_memory_store_is_listed_and_read(memory):
    listed = sources.list_images(memory)
    assert [uri.rpartition("/")[2] for uri in listed] == ["a.png", "b.png"]
    table = read_images(sources.source_table([*listed, f"{memory}/gone.png"]), apply_exif=False)
    assert table["width"].to_pylist() == [8, 8, None]
    assert table["height"].to_pylist() == [6, 6, None]
    good, other, error = table["error"].to_pylist()
    assert good is other is None and "gone.png: cannot be read" in error
    expected = read_rgb("b.png", file=io.BytesIO(png(8, 6, seed=ord("b"))))
    expected = expected.resize((300, 300), Image.Resampling.BILINEAR)
    assert (pixels_of(table)[1] == np.asarray(expected)).all()
    assert (pixels_of(table.slice(1, 1))[0] == np.asarray(expected)).all()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nowhere", "nowhere: no image there"),
        ("file:///nowhere-at-all", "cannot be listed"),
        ("nope://bucket/x", "cannot be opened"),
        ("empty.txt", "names no image"),
        ("bytes.txt", "not UTF-8"),
    ],
)
def test_what_names_no_image_is_refused(tmp_path, monkeypatch, what, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(KitError, match=words):
        sources.list_images(what)


def test_a_data_set_gives_ids_and_sizes_that_images_must_have(tiny_coco):
    entries = json.loads((tiny_coco / "annotations" / "instances_val2017.json").read_text())
    data = coco.DataSet(tiny_coco, tiny_coco / "val2017", entries, entries["images"])
    table = sources.data_table(data, str(data.image_folder))
    assert table["image_id"].to_pylist() == [image["id"] for image in entries["images"]]
    wrong = table.set_column(
        2, "width", pa.array([61, *table["width"].to_pylist()[1:]], pa.int32())
    )
    errors = read_images(wrong, apply_exif=False)["error"].to_pylist()
    assert "its annotation says 61x40" in errors[0] and errors[1:] == [None] * 3
    apart = sources.data_table(data, "s3://bucket/val2017/")
    assert apart["path"][0].as_py() == "s3://bucket/val2017/000000000009.jpg"


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(KitError, match="not UTF-8; rename it"):
        sources.source_table([str(tmp_path / "a.png"), "/\udcff.png"])


def test_a_data_set_may_be_named_as_images_or_as_data(five_coco):
    def found(*options):
        given = ["--model", "m.onnx", "--output", "out", *map(str, options)]
        table, data = ssd_scale.find_images(ssd_scale.parse_args(given))
        return table["image_id"].to_pylist(), table["path"][0].as_py(), data is not None

    ids, first = [9, 139, 269, 399, 529], f"{five_coco}/val2017/000000000009.jpg"
    assert found("--images", five_coco) == (ids, first, True)
    assert found("--images", five_coco.parent) == (ids, first, True)
    assert found("--data", five_coco) == (ids, first, True)
    apart = found("--data", five_coco, "--images", "s3://bucket/here")
    assert apart == (ids, "s3://bucket/here/000000000009.jpg", True)
    assert found("--images", f"{five_coco}/val2017") == ([None] * 5, first, False)
    as_coco2017(five_coco)
    assert found("--data", five_coco) == ([9, 139, 269, 529], first, True)
    assert found("--data", five_coco, "--all-images") == (ids, first, True)
