"""prepare-json.py: what it keeps, what it refuses, and that it writes whole files or none."""

import json

from ssd import coco

import pytest
from models import as_coco2017


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ('{"images": [', "not JSON"),
        ("[]", "no list of images"),
        ('{"images": []}', "no list of annotations"),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            "images without file_name",
        ),
        ('{"images": [], "annotations": [], "categories": []}', "no images"),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 1, "width": 1}],'
            ' "categories": [{"id": 1, "name": "a"}],'
            ' "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}]}',
            "images that are not listed (7)",
        ),
    ],
)
def test_what_is_no_instances_file_is_refused(text, told, tmp_path, run_stage):
    path = tmp_path / "a b.json"
    path.write_text(text)
    done = run_stage("prepare-json.py", path, tmp_path / "out.json")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert told in done.stderr and "a b.json" in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_prepare_json_keeps_what_is_asked_for(five_coco, tmp_path, run_stage):
    source, out = five_coco / coco.INSTANCES, tmp_path / "out.json"
    done = run_stage("prepare-json.py", source, out)
    assert done.stdout == f"{out}: 5 images (1 without a box), 4 boxes\n"
    bare = json.loads(out.read_text())
    assert set(bare) == {"images", "annotations", "categories"}
    assert set(bare["annotations"][0]) == {"image_id", "bbox", "category_id", "id"}
    run_stage("prepare-json.py", "--keep-keys", "--pretty-print", source, out)
    assert out.read_text().count("\n") > 50
    truth = json.loads(source.read_text())["annotations"]
    kept = json.loads(out.read_text())["annotations"]
    assert kept == [one | {"segmentation": []} for one in truth]
    assert kept[0]["area"] == 60 * 40 / 4.5


@pytest.mark.parametrize("keep_keys", [[], ["--keep-keys"]])
def test_val2017_is_reduced_to_what_is_read(keep_keys, coco_tiny, tmp_path, run_stage):
    source, out = coco_tiny / coco.INSTANCES, tmp_path / "deep" / "out.json"
    done = run_stage("prepare-json.py", *keep_keys, source, out)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == f"{out}: 80 images (0 without a box), 815 boxes\n"
    before, after = json.loads(source.read_text()), json.loads(out.read_text())
    image_keys = {"id", "file_name", "height", "width"}
    assert [set(image) for image in after["images"]] == [image_keys] * 80
    assert after["categories"] == before["categories"]
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        assert new.items() <= (old | {"segmentation": []}).items()


def test_keep_keys_refuses_annotations_that_have_none(tiny_coco, tmp_path, run_stage, refused):
    bare = tmp_path / "bare.json"
    assert run_stage("prepare-json.py", tiny_coco / coco.INSTANCES, bare).returncode == 0
    done = run_stage("prepare-json.py", "--keep-keys", bare, tmp_path / "out.json")
    refused(done, bare, "prepare-json.py --keep-keys")


def test_a_missing_file_is_told(tmp_path, run_stage, refused):
    path = tmp_path / "没有 'it'; \"x\".json"
    refused(run_stage("prepare-json.py", path, tmp_path / "out.json"), path, "check the path")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_no_half_file(tiny_coco, tmp_path, run_stage, refused):
    out = tmp_path / "new" / "out.json"
    done = run_stage("prepare-json.py", tiny_coco / coco.INSTANCES, out, room=100)
    refused(done, out, "cannot write", "free space")
    assert list(out.parent.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_old_file(tiny_coco, tmp_path, run_stage, refused):
    out = tmp_path / "out.json"
    out.write_text("old")
    refused(run_stage("prepare-json.py", tiny_coco / coco.INSTANCES, out, room=100), out)
    assert out.read_text() == "old"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", [".", "file/out.json"])
def test_an_output_that_cannot_be_is_told(name, tiny_coco, tmp_path, run_stage, refused):
    (tmp_path / "file").touch()
    done = run_stage("prepare-json.py", tiny_coco / coco.INSTANCES, tmp_path / name)
    refused(done, "cannot write", "choose another")


def test_an_argument_too_few_is_wrong_usage(run_stage):
    done = run_stage("prepare-json.py", "one")
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize("cocos", [True, False])
def test_the_first_images_are_a_data_set_of_their_own(cocos, five_coco, tmp_path, run_stage):
    source, out = five_coco / coco.INSTANCES, tmp_path / "out.json"
    if cocos:
        as_coco2017(five_coco)
    whole = json.loads(source.read_text())
    ids = [image["id"] for image in whole["images"]]  # the fourth has no annotation
    for options, kept in [
        (["--limit", "1"], ids[:1]),
        (["--limit", "4"], [*ids[:3], ids[4]] if cocos else ids[:4]),
        (["--limit", "4", "--all-images"], ids[:4]),
        (["--limit", "99"], [*ids[:3], ids[4]] if cocos else ids),
        (["--limit", "99", "--all-images"], ids),
    ]:
        assert run_stage("prepare-json.py", "--keep-keys", *options, source, out).returncode == 0
        made = json.loads(out.read_text())
        assert [image["id"] for image in made["images"]] == kept
        assert made["categories"] == whole["categories"]  # their order is the labels'
        truth = [one for one in whole["annotations"] if one["image_id"] in kept]
        assert made["annotations"] == [one | {"segmentation": []} for one in truth]


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_a_wrong_number_of_images_is_wrong_usage(count, tmp_path, run_stage):
    out = tmp_path / "out.json"
    done = run_stage("prepare-json.py", f"--images={count}", tmp_path / "in.json", out)
    assert done.returncode == 2 and "--limit" in done.stderr


def test_the_input_is_never_written_over(tiny_coco, run_stage, refused):
    path = tiny_coco / "annotations" / "instances_val2017.json"
    before = path.read_bytes()
    (tiny_coco / "link.json").symlink_to(path)
    for target in (path, tiny_coco / "link.json"):
        refused(run_stage("prepare-json.py", path, target), target, "is the input itself")
    assert path.read_bytes() == before


def test_a_missing_area_and_iscrowd_can_be_filled_and_then_scored(tiny_coco, tmp_path, run_stage):
    path = tiny_coco / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    for annotation in data["annotations"][1:]:
        del annotation["area"], annotation["iscrowd"]
    path.write_text(json.dumps(data))
    out = tmp_path / "o.json"
    done = run_stage("prepare-json.py", "--keep-keys", path, out)
    assert done.returncode == 1 and "--fill-area" in done.stderr
    done = run_stage("prepare-json.py", "--keep-keys", "--fill-area", tiny_coco, out)
    assert done.returncode == 0, done.stderr
    first, *others = json.loads(out.read_text())["annotations"]
    assert (first["area"], first["iscrowd"]) == (60 * 40 / 4.5, 0)
    for annotation in others:
        _, _, width, height = annotation["bbox"]
        assert (annotation["area"], annotation["iscrowd"]) == (width * height, 0)
