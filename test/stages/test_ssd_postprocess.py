"""From output files to printed scores, and what ssd_postprocess.py refuses."""

import json
import shutil
from pathlib import Path

import ssd_postprocess
from ssd import coco, coco_eval
from ssd.boxes import default_boxes, encode_boxes
from ssd.cli import KitError

import numpy as np
import pytest
from models import as_coco2017

LABELS = 5  # of the tiny data set, with background


def perfect_outputs(data):
    """Outputs that find every annotation of a data set, as {image id: (ploc, plabel)}."""
    instances = coco.read_instances(data / coco.INSTANCES)
    ids = coco.category_ids(instances).tolist()
    found = {}
    for image in instances["images"]:
        ploc = np.zeros((4, 8732), np.float32)
        plabel = np.zeros((LABELS, 8732), np.float32)
        plabel[0] = 10
        own = [a for a in instances["annotations"] if a["image_id"] == image["id"]]
        for i, one in enumerate(own):
            x, y, w, h = one["bbox"]
            size = np.array([image["width"], image["height"]] * 2)
            cxcywh = np.array([[x + w / 2, y + h / 2, w, h]]) / size
            ploc[:, i] = encode_boxes(cxcywh.astype(np.float32), default_boxes()[i : i + 1])[0]
            plabel[[0, ids.index(one["category_id"]) + 1], i] = 0, 10
        found[image["id"]] = (ploc, plabel)
    return found


def write_outputs(folder, outputs, dtype=np.float32, order=(0, 1), npy=False):
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, pair in outputs.items():
        for k, which in enumerate(order):
            path = folder / f"tensor([{image_id}])_{k}.bin"
            array = pair[which].astype(dtype)
            np.save(path.with_suffix(".npy"), array[None]) if npy else array.tofile(path)


@pytest.fixture
def outputs(tiny_coco):
    return perfect_outputs(tiny_coco)


@pytest.fixture
def postprocess(run_stage, tiny_coco, tmp_path):
    def run(*args):
        done = run_stage(
            "ssd_postprocess.py", "--data", tiny_coco, "--output", tmp_path / "r.json", *args
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.parametrize(
    "how",
    [{}, {"dtype": np.float16}, {"order": (1, 0)}, {"npy": True}, {"npy": True, "order": (1, 0)}],
)
def test_outputs_of_every_form_score_1(how, outputs, postprocess, tmp_path):
    write_outputs(tmp_path / "o", outputs, **how)
    done = postprocess("--bin-input", tmp_path / "o", "--threshold", "0.5", "--per-class")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[-2] == "Scored: all 4 images; 4 detections"
    assert lines[-1] == "Current AP: 1.00000 AP goal: 0.50000"
    assert " class 3              1.00000" in lines
    assert sum(line.startswith(" Average ") for line in lines) == 12
    assert "MLLOG" not in done.stdout + done.stderr
    log = (tmp_path / "r.log").read_text().splitlines()
    keys = [json.loads(line[len(":::MLLOG ") :])["key"] for line in log]
    assert keys[0] == "submission_benchmark" and keys[-1] == "eval_stop"
    assert {"eval_start", "eval_samples", "eval_accuracy"} <= set(keys)
    assert json.loads((tmp_path / "r.json").read_text())["stats"]["AP"] == pytest.approx(1)


def test_own_data_are_scored_whole_and_of_cocos_what_is_annotated(five_coco, postprocess, tmp_path):
    write_outputs(tmp_path / "o", perfect_outputs(five_coco))
    found = ["--bin-input", tmp_path / "o", "--detections", tmp_path / "d.json"]
    assert "Scored: all 5 images" in postprocess(*found).stdout
    as_coco2017(five_coco)
    found = ["--score-only", tmp_path / "d.json"]
    part = "Scored: 4 of 5 images (1 without annotation left out)"
    assert part in postprocess(*found).stdout
    assert "Scored: all 5 images" in postprocess(*found, "--all-images").stdout


def test_outputs_of_several_cards_are_found(outputs, postprocess, tmp_path):
    first, second = dict(list(outputs.items())[:2]), dict(list(outputs.items())[2:])
    write_outputs(tmp_path / "o" / "device0_0", first)
    write_outputs(tmp_path / "o" / "device1_1", second)
    assert "Current AP: 1.00000" in postprocess("--bin-input", tmp_path / "o").stdout
    write_outputs(tmp_path / "o" / "device1_1", outputs)  # each card ran all
    assert "Current AP: 1.00000" in postprocess("--bin-input", tmp_path / "o").stdout


def test_detections_are_cocos_result_form_and_can_be_scored(outputs, postprocess, tmp_path):
    write_outputs(tmp_path / "o", outputs)
    first = postprocess("--bin-input", tmp_path / "o", "--detections", tmp_path / "d.json")
    found = json.loads((tmp_path / "d.json").read_text())
    assert found[0]["image_id"] == 9 and found[0]["category_id"] == 3
    assert found[0]["bbox"] == pytest.approx([1, 2, 30, 20], abs=1e-3)
    again = postprocess("--score-only", tmp_path / "d.json", "--scorer", "pycocotools")
    assert again.stdout.splitlines()[-14:] == first.stdout.splitlines()[-14:]


def test_no_detection_at_all_scores_0(outputs, postprocess, tmp_path):
    write_outputs(tmp_path / "o", {key: (p, q * 0 - 5) for key, (p, q) in outputs.items()})
    done = postprocess("--bin-input", tmp_path / "o", "--detections", tmp_path / "d.json")
    # five equal labels score 0.2 each, everywhere: far too many, all wrong
    assert done.returncode == 0, done.stderr
    background = np.zeros((LABELS, 8732), np.float32)
    background[0] = 20
    write_outputs(tmp_path / "o", {key: (p, background) for key, (p, _) in outputs.items()})
    for scorer in coco_eval.SCORERS:
        done = postprocess("--bin-input", tmp_path / "o", "--scorer", scorer)
        assert done.stdout.splitlines()[-1] == "Current AP: 0.00000 AP goal: none"


@pytest.mark.parametrize(("least", "status"), [("0.99", 0), ("0", 0), ("0.5", 4)])
def test_a_map_that_is_too_low_is_reported_by_the_status(
    least, status, tiny_coco, tmp_path, monkeypatch, capsys
):
    # without a detection it scores 0, with the true boxes 1
    monkeypatch.chdir(tmp_path)
    data = json.loads((tiny_coco / "annotations" / "instances_val2017.json").read_text())
    keys = ("image_id", "bbox", "category_id")
    found = [{key: a[key] for key in keys} | {"score": 0.9} for a in data["annotations"]]
    Path("d.json").write_text(json.dumps(found if least == "0.99" else []))
    command = ["--data", str(tiny_coco), "--score-only", "d.json", "--fail-below", least]
    assert (ssd_postprocess.main(command) or 0) == status
    printed = capsys.readouterr()
    assert ("result.json: mAP 0.00000 is below 0.5" in printed.err) == (status == 4)
    assert Path("result.json").exists()


def test_missing_outputs_are_counted_and_named(outputs, postprocess, tmp_path):
    write_outputs(tmp_path / "o", {9: outputs[9]})
    done = postprocess("--bin-input", tmp_path / "o")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert (
        "no outputs for 3 of 4 images (tensor([139]), tensor([269]), tensor([529]))" in done.stderr
    )
    assert not (tmp_path / "r.json").exists()


def test_outputs_that_are_not_finite_are_counted(outputs, postprocess, tmp_path):
    outputs[9][1][3, 8000] = np.nan
    outputs[269][0][0, 5] = -np.inf
    write_outputs(tmp_path / "o", outputs)
    done = postprocess("--bin-input", tmp_path / "o")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "NaN or infinite outputs for 2 of 4 images (tensor([9]), tensor([269]))" in done.stderr


def test_outputs_of_a_wrong_size_are_refused(outputs, postprocess, tmp_path):
    write_outputs(tmp_path / "o", outputs)
    path = tmp_path / "o" / "tensor([139])_1.bin"
    path.write_bytes(path.read_bytes()[:-4])
    done = postprocess("--bin-input", tmp_path / "o")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "tensor([139])_1.bin of 174636 bytes" in done.stderr


def test_annotations_without_their_keys_cannot_be_scored(
    outputs, postprocess, tiny_coco, tmp_path, run_stage
):
    write_outputs(tmp_path / "o", outputs)
    source, bare = tiny_coco / coco.INSTANCES, tmp_path / "bare.json"
    assert run_stage("prepare-json.py", source, bare).returncode == 0
    done = postprocess("--bin-input", tmp_path / "o", "--annotation", bare)
    assert done.returncode == 1
    assert "prepare-json.py --keep-keys" in done.stderr and done.stderr.count("\n") == 1


def test_a_wild_offset_counts_as_not_finite(outputs, postprocess, tmp_path, refused):
    outputs[9][0][2, 0] = 500  # e to the 100: no float32
    write_outputs(tmp_path / "o", outputs)
    done = postprocess("--bin-input", tmp_path / "o", "--detections", tmp_path / "d.json")
    refused(done, "NaN or infinite outputs for 1 of 4 images (tensor([9]))")
    assert not (tmp_path / "d.json").exists()


@pytest.mark.parametrize("make", [None, Path.touch, Path.mkdir])
def test_a_folder_without_outputs_is_told(make, postprocess, tmp_path, refused):
    path = tmp_path / "没有 'it';"
    if make:
        make(path)
    done = postprocess("--bin-input", path)
    refused(done, path, "run the inference again" if make == Path.mkdir else "ssd_infer.py")
    assert not (tmp_path / "r.json").exists()


def test_a_disk_without_room_for_the_detections_is_refused_before_decoding(
    outputs, tiny_coco, tmp_path, monkeypatch
):
    write_outputs(tmp_path / "o", outputs)
    usage = shutil.disk_usage("/")._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(ssd_postprocess, "decode_folder", None)
    command = ["--data", tiny_coco, "--bin-input", tmp_path / "o", "--output", tmp_path / "r.json"]
    with pytest.raises(KitError, match="the detections in d.json need .* GB are free"):
        ssd_postprocess.main([*map(str, command), "--detections", str(tmp_path / "d.json")])


def test_scoring_again_changes_no_speed(outputs, tiny_coco, tmp_path):
    write_outputs(tmp_path / "o", outputs)
    command = ["--data", tiny_coco, "--bin-input", tmp_path / "o", "--output", tmp_path / "r.json"]
    command = [*map(str, command), "--workers=1"]

    def seconds(*more):
        ssd_postprocess.main([*command, *more])
        return json.loads((tmp_path / "r.json").read_text())["seconds"]

    first = seconds()
    assert min(first.values()) > 0
    assert seconds("--scorer=pycocotools") == first
    next((tmp_path / "o").iterdir()).touch()  # other outputs
    assert seconds() != first


@pytest.mark.parametrize("option", ["--output", "--detections"])
def test_a_disk_that_fills_up_leaves_no_half_file(
    option, outputs, tiny_coco, tmp_path, run_stage, refused
):
    write_outputs(tmp_path / "o", outputs)
    command = ["ssd_postprocess.py", "--data", tiny_coco, "--bin-input", tmp_path / "o"]
    command += ["--output", tmp_path / "r.json", option, tmp_path / "full" / "x.json"]
    refused(run_stage(*command, room=100), tmp_path / "full" / "x.json", "cannot write")
    assert list((tmp_path / "full").iterdir()) == []
    assert not (tmp_path / "r.json").exists()


def test_odd_paths_are_paths_like_any_other(outputs, tiny_coco, tmp_path, run_stage):
    odd = tmp_path / "一 \"b\" 'c'; $(d) [e]"
    write_outputs(odd / "out*", outputs)
    command = ["ssd_postprocess.py", "--data", tiny_coco, "--bin-input", odd / "out*"]
    done = run_stage(*command, "--output", odd / "r.json", "--detections", odd / "d.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sorted(p.name for p in odd.iterdir()) == ["d.json", "out*", "r.json", "r.log"]


@pytest.mark.parametrize("option", [["--threshold", "x"], ["--scorer", "x"], ["--workers", "x"]])
def test_an_option_that_cannot_be_is_wrong_usage(option, postprocess, tmp_path):
    done = postprocess("--bin-input", tmp_path, *option)
    assert done.returncode == 2
    shown = option[0].replace("--threshold", "--goal/--threshold")
    assert done.stderr.splitlines()[-1].startswith(f"ssd_postprocess.py: error: argument {shown}")


def test_decoding_in_one_process_or_more_is_the_same(outputs, postprocess, tmp_path):
    write_outputs(tmp_path / "o", outputs)
    found = []
    for workers in (1, 3):
        path = tmp_path / f"{workers}.json"
        postprocess("--bin-input", tmp_path / "o", "--workers", workers, "--detections", path)
        found.append(path.read_bytes())
    assert found[0] == found[1]


def test_detections_of_other_images_or_categories_are_counted_and_left_out(
    outputs, postprocess, tmp_path
):
    write_outputs(tmp_path / "o", outputs)
    postprocess("--bin-input", tmp_path / "o", "--detections", tmp_path / "d.json")
    found = json.loads((tmp_path / "d.json").read_text())
    more = [found[0] | {"image_id": 77}, found[1] | {"category_id": 77}]
    (tmp_path / "more.json").write_text(json.dumps(found + more))
    done = postprocess("--score-only", tmp_path / "more.json")
    assert "Current AP: 1.00000" in done.stdout
    assert done.stderr == (
        f"{tmp_path / 'more.json'}: 2 detections left out (1 of images, 1 of categories that are "
        "not scored)\n"
    )


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_detections_of_which_none_fits_are_refused(key, outputs, postprocess, tmp_path, refused):
    write_outputs(tmp_path / "o", outputs)
    postprocess("--bin-input", tmp_path / "o", "--detections", tmp_path / "d.json")
    found = json.loads((tmp_path / "d.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps([one | {key: 1000} for one in found]))
    done = postprocess("--score-only", tmp_path / "other.json")
    refused(done, tmp_path / "other.json", "none of", "annotation file that they belong to")
