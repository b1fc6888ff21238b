"""From output files to scores: files, bad input, COCO's protocol against pycocotools itself."""

import contextlib
import io
import json

import numpy as np
import pytest

import ssd_coco
import ssd_files
import ssd_score
from ssd_boxes import default_boxes, encode_boxes
from ssd_files import KitError

LABELS = 5  # of the tiny data set, with background


def perfect_outputs(data):
    """Outputs that find every annotation of a data set, as {image id: (ploc, plabel)}."""
    instances = ssd_coco.read_instances(data / ssd_coco.INSTANCES)
    ids = ssd_coco.category_ids(instances).tolist()
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
    assert lines[-2] == "Scored: 4 of 5 images (1 without annotation left out); 4 detections"
    assert lines[-1] == "Current AP: 1.00000 AP goal: 0.50000"
    assert " class 3              1.00000" in lines
    assert sum(line.startswith(" Average ") for line in lines) == 12
    keys = [json.loads(line[len(":::MLLOG ") :])["key"] for line in lines if "MLLOG" in line]
    assert keys[0] == "submission_benchmark" and keys[-1] == "eval_stop"
    assert {"eval_start", "eval_samples", "eval_accuracy"} <= set(keys)
    assert json.loads((tmp_path / "r.json").read_text())["stats"]["AP"] == pytest.approx(1)


def test_all_images_are_scored_when_asked_for(outputs, postprocess, tmp_path):
    write_outputs(tmp_path / "o", outputs)
    done = postprocess("--bin-input", tmp_path / "o", "--all-images")
    assert "Scored: all 5 images" in done.stdout


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
    for scorer in ssd_score.SCORERS:
        done = postprocess("--bin-input", tmp_path / "o", "--scorer", scorer)
        assert done.stdout.splitlines()[-1] == "Current AP: 0.00000 AP goal: 0.23000"


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
    source, bare = tiny_coco / ssd_coco.INSTANCES, tmp_path / "bare.json"
    assert run_stage("prepare-json.py", source, bare).returncode == 0
    done = postprocess("--bin-input", tmp_path / "o", "--annotation", bare)
    assert done.returncode == 1
    assert "prepare-json.py --keep-keys" in done.stderr and done.stderr.count("\n") == 1


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


def test_prepare_json_keeps_what_is_asked_for(tiny_coco, tmp_path, run_stage):
    source, out = tiny_coco / ssd_coco.INSTANCES, tmp_path / "out.json"
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


def jittered(coco):
    """Result rows near the annotations of a real data set, some of them wrong."""
    instances = ssd_coco.read_instances(coco / ssd_coco.INSTANCES)
    rng = np.random.default_rng(0)
    rows = []
    for one in instances["annotations"] * 2:
        box = np.array(one["bbox"]) + rng.normal(0, 0.1, 4) * np.tile(one["bbox"][2:], 2)
        category = rng.choice([one["category_id"], 1])
        rows.append([one["image_id"], *box[:2], *box[2:].clip(1), rng.random(), category])
    return instances, np.array(rows)


def test_both_scorers_agree_with_pycocotools_on_real_annotations(coco_tiny, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    instances, rows = jittered(coco_tiny)
    ids = [image["id"] for image in instances["images"]]
    (tmp_path / "d.json").write_text(json.dumps(ssd_coco.results_to_json(rows)))
    text = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_tiny / ssd_coco.INSTANCES))
        own = COCOeval(truth, truth.loadRes(str(tmp_path / "d.json")), "bbox")
        own.evaluate()
        own.accumulate()
        with contextlib.redirect_stdout(text):
            own.summarize()
    per_class = own.eval["precision"][:, :, :, 0, -1]
    for scorer in ssd_score.SCORERS:
        scores = ssd_score.score(instances, rows, ids, scorer)
        assert list(scores.stats.values()) == pytest.approx(own.stats.tolist(), abs=1e-12)
        assert ssd_score.format_stats(scores.stats) + "\n" == text.getvalue()
        expected = [p[p > -1].mean() for p in np.moveaxis(per_class, 2, 0)]
        assert list(scores.per_class.values()) == pytest.approx(expected, abs=1e-12)
    assert 0.1 < own.stats[0] < 0.9


def test_a_result_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "d.json").write_text('[{"image_id": 1}]')
    with pytest.raises(KitError, match="not a COCO result file"):
        ssd_coco.results_from_json(tmp_path / "d.json")


def test_sizes_of_files_are_those_of_the_contract():
    bytes_of = {
        d: int(np.prod(s)) * np.dtype(d).itemsize for d, s in ssd_files.INPUT_SHAPES.items()
    }
    assert bytes_of == {"float32": 1_080_000, "uint8": 270_000}
    assert 4 * ssd_files.OUTPUT_BYTES_PER_LABEL == 139_712
    assert 81 * ssd_files.OUTPUT_BYTES_PER_LABEL == 2_829_168


def test_files_come_in_natural_order(tmp_path):
    for image_id in (10, 9, 100):
        (tmp_path / f"tensor([{image_id}]).bin").touch()
    (tmp_path / "source.json").touch()
    order = [ssd_files.tensor_id(path) for path in ssd_files.tensor_files(tmp_path)]
    assert order == [9, 10, 100]


def test_atomic_leaves_nothing_when_the_writer_fails(tmp_path):
    path = tmp_path / "a" / "x.bin"
    with pytest.raises(ZeroDivisionError), ssd_files.atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []


def test_labels_follow_the_order_of_the_categories():
    assert len(ssd_coco.COCO_CATEGORIES) == 80
    by_id = {c["id"]: c["name"] for c in ssd_coco.COCO_CATEGORIES}
    assert (by_id[1], by_id[13], by_id[90]) == ("person", "stop sign", "toothbrush")
    assert set(range(1, 91)) - set(by_id) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    ids = ssd_coco.category_ids({"categories": [{"id": 7}, {"id": 3}]})
    assert ids.tolist() == [7, 3]
