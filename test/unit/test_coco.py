"""Annotation files and labels: what is read, and what is refused."""

import json

from ssd import coco
from ssd.cli import SOURCES, KitError
from ssd.images import find_images, read_rgb

import pytest
from models import ROOT

NAN = float("nan")


def instances(**changes):
    """A right instances file as a dict; PART_KEY=VALUE changes the first row of a part."""
    data = {
        "images": [{"id": 9, "file_name": "9.jpg", "height": 40, "width": 60}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2.5, 3, 4]}],
        "categories": [{"id": 7, "name": "a"}, {"id": 3, "name": "b"}],
    }
    data["annotations"][0] |= {"area": 12.0, "iscrowd": 0}
    for name, value in changes.items():
        part, key = name.split("_", 1)
        data[part][0][key] = value
    return data


def test_labels_follow_the_order_of_the_categories():
    assert len(coco.COCO_CATEGORIES) == 80
    by_id = {c["id"]: c["name"] for c in coco.COCO_CATEGORIES}
    assert (by_id[1], by_id[13], by_id[90]) == ("person", "stop sign", "toothbrush")
    assert set(range(1, 91)) - set(by_id) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    ids = coco.category_ids({"categories": [{"id": 7}, {"id": 3}]})
    assert ids.tolist() == [7, 3]


@pytest.mark.parametrize("stage", ["prepare-json.py", "ssd_preprocess.py", "ssd_postprocess.py"])
def test_each_stage_tells_of_a_broken_annotation_file(stage, tmp_path, run_stage, refused):
    path = tmp_path / "a b.json"
    path.write_text('{"images": [')
    args = {
        "prepare-json.py": [path, tmp_path / "out"],
        "ssd_preprocess.py": ["--annotation", path, "--bin-output", tmp_path / "out"],
        "ssd_postprocess.py": ["--annotation", path, "--bin-input", tmp_path]
        + ["--output", tmp_path / "out"],
    }
    refused(run_stage(stage, *args[stage]), path, "not JSON", "fetch or make it again")
    assert not (tmp_path / "out").exists()


def test_a_right_file_is_read_as_it_is(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(instances()))
    assert coco.read_instances(path) == instances()
    coco.check_scorable(instances(), path)


@pytest.mark.parametrize(
    "change",
    [
        *({"images_id": value} for value in ("x", None, [1], 1.5, True, -1, 2**60)),
        *({"images_file_name": value} for value in (5, None)),
        *({"images_width": value} for value in ("x", None, 0, -1, NAN)),
        {"images_height": 0},
        *({"annotations_bbox": v} for v in ("x", None, [1, 2], [1, 2, 3, "a"], [NAN] * 4, {})),
        {"annotations_bbox": [10**400, 2, 3, 4]},
        *({"annotations_category_id": value} for value in ("x", None, 99)),
        {"annotations_image_id": 10},
        *({"categories_id": value} for value in ("x", None, 3, 8)),
        {"categories_name": None},
    ],
    ids=str,
)
def test_a_field_that_cannot_be_is_refused(change, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(instances(**change)))
    with pytest.raises(KitError) as error:
        coco.read_instances(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "; fetch or make it again" in str(error.value)


@pytest.mark.parametrize(
    "change", [{"area": None}, {"area": NAN}, {"iscrowd": 2}, {"iscrowd": "x"}]
)
def test_what_scoring_reads_is_checked(change, tmp_path):
    data = instances(**{f"annotations_{key}": value for key, value in change.items()})
    with pytest.raises(KitError, match=f"annotations with {next(iter(change))} .*; fetch"):
        coco.check_scorable(data, tmp_path / "a.json")


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_two_of_an_id_are_refused(part, tmp_path):
    data = instances()
    data[part] *= 2
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(KitError, match=f"{part} that share an id"):
        coco.read_instances(tmp_path / "a.json")


@pytest.mark.parametrize("part", ["images", "categories"])
def test_a_file_without_images_or_categories_is_refused(part, tmp_path):
    data = instances() | {part: [], "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(KitError, match=f"no {part}; give a COCO instances file"):
        coco.read_instances(tmp_path / "a.json")


@pytest.mark.parametrize("text", [b"[" * 200_000, b"\xff\xfe\x00", b"\x80"])
def test_what_no_parser_takes_is_not_json(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(KitError, match="not JSON"):
        coco.read_instances(tmp_path / "a.json")


def cocos(**changes):
    """The same as images of COCO 2017."""
    made = instances(**changes) | {"categories": coco.COCO_CATEGORIES}
    made["images"] = [image | {"file_name": f"{image['id']:012}.jpg"} for image in made["images"]]
    return made


def test_cocos_images_without_any_annotation_need_all_images(tmp_path, run_stage, refused):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(cocos() | {"annotations": []}))
    command = ["ssd_postprocess.py", "--annotation", path, "--bin-input", tmp_path]
    refused(run_stage(*command), path, "no image has an annotation; give --all-images")


def test_a_crowd_counts_as_an_annotation():
    data = cocos(annotations_iscrowd=1)
    data["images"].append(data["images"][0] | {"id": 10, "file_name": "000000000010.jpg"})
    assert [image["id"] for image in coco.select_images(data, False)] == [9]
    assert [image["id"] for image in coco.select_images(data, True)] == [9, 10]


def test_the_truth_has_another_digest_if_a_box_moves_and_not_if_more_is_written():
    def of(data):
        return coco.truth_digest(coco.DataSet(None, None, data, data["images"]))

    plain = of(instances())
    assert plain == of(instances() | {"info": {"year": 2017}})
    assert plain == of(instances(annotations_segmentation=[[1, 2]], images_license=3))
    for other in ({"annotations_bbox": [1, 2, 3, 5]}, {"annotations_iscrowd": 1}):
        assert of(instances(**other)) != plain
    assert of(instances(categories_name="cow")) != plain


def test_what_is_missing_says_where_it_is_fetched_from(tmp_path):
    data = coco.DataSet(None, tmp_path / "none", instances(), instances()["images"])
    with pytest.raises(KitError, match="check the path, or fetch it .COCO's: .*annotations.*zip"):
        coco.annotation_path(tmp_path)
    assert SOURCES["images"] in str(coco.no_image_folder(data))
    assert [SOURCES["images"] in line for line in find_images(data)[1]] == [True]
    with pytest.raises(KitError) as error:
        read_rgb(tmp_path / "a.jpg")
    assert SOURCES["images"] in str(error.value)
    for source in SOURCES.values():
        for page in ("README.md", "README.zh-CN.md"):
            assert source.split()[-1] in (ROOT / page).read_text()


def test_own_data_sets_are_scored_whole():
    data = cocos()
    data["images"].append(data["images"][0] | {"id": 10, "file_name": "000000000010.jpg"})
    whole = data["images"]
    assert coco.is_coco2017(data) and len(coco.select_images(data, False)) == 1
    names = data["categories"][1:]  # without person
    photos = [image | {"file_name": f"IMG_{image['id']}.jpg"} for image in whole]
    for own in (data | {"categories": names}, data | {"images": photos}):
        assert not coco.is_coco2017(own)
        assert coco.select_images(own, False) == own["images"]


def test_prepared_annotations_are_taken_before_cocos_own(tiny_coco):
    assert coco.annotation_path(tiny_coco) == tiny_coco / coco.INSTANCES
    (tiny_coco / coco.BBOX_ONLY).touch()
    assert coco.annotation_path(tiny_coco) == tiny_coco / coco.BBOX_ONLY


def test_a_file_name_may_lie_in_a_sub_folder(tmp_path):
    assert coco.image_path(tmp_path, "a/图 'b'.jpg") == tmp_path / "a" / "图 'b'.jpg"


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\0b.jpg", "\x1b[31m.jpg"])
def test_a_file_name_with_control_characters_is_refused(name, tmp_path):
    with pytest.raises(KitError, match="control characters") as error:
        coco.image_path(tmp_path, name)
    assert str(error.value).isprintable()


def test_a_data_set_is_read_from_its_folder_one_above_or_its_annotations(tiny_coco, tmp_path):
    whole = coco.read_data(tiny_coco)
    assert whole.annotation == tiny_coco / "annotations" / "instances_val2017.json"
    assert whole.image_folder == tiny_coco / "val2017"
    assert coco.read_data(None, whole.annotation) == whole
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "coco").symlink_to(tiny_coco)
    assert coco.read_data(tmp_path / "above").selected == whole.selected
    assert coco.read_data(tiny_coco, images=tmp_path) == whole._replace(image_folder=tmp_path)
