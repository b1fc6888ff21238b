"""Several cards: batches are dealt out, runs joined, failures told; and what one run gives."""

import json
from pathlib import Path

from ssd.ascend.summaries import summarize
from ssd.cli import KitError
from ssd.engines import inference, shards

import pytest

SCRIPT = """
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("plan", "device", "shard", "output", "output_dirname"):
    parser.add_argument(f"--{name}")
parser.add_argument("--in_process", action="store_true", required=True)
args = parser.parse_args()
plan = json.loads(pathlib.Path(args.plan).read_text())[args.device]
print("a fact of one card")
if plan.get("status", 0) < 0:
    os.kill(os.getpid(), -plan["status"])
if "status" in plan:
    sys.exit(plan["status"])
images = plan["images"][args.shard]
box = {"bbox": [0, 0, 1, 1], "score": 0.5}
found = [box | {"image_id": i, "category_id": n} for i in images for n in (8, 9)]
folder = pathlib.Path(args.output)
(folder / f"{args.output_dirname}_detections.json").write_text(json.dumps(found))
(folder / f"{args.output_dirname}_summary.json").write_text(json.dumps(plan["summary"]))
"""


def card(runs, images, wall, padded=0, rate=0.0, name="card"):
    """Make the summary of one card: `runs` are milliseconds."""
    return summarize(runs, 4) | {
        "throughput": rate,
        "batch_size": 4,
        "images": images,
        "padded": padded,
        "images_per_second": images / wall,
        "seconds": {"read": wall / 8, "infer": sum(runs) / 1000, "decode": 1.0, "wall": wall},
        "engine": "e",
        "provider": name,
        "model": "m.om",
    }


@pytest.fixture
def run(tmp_path):
    """Run the script above on cards, each as `plan` tells it, with the image order 5, 1, 9, 3."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def go(plan):
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        argv = ["--plan", str(tmp_path / "plan.json"), "--device", ",".join(plan)]
        (tmp_path / "out").mkdir(exist_ok=True)
        script = tmp_path / "script.py"
        return shards.run_shards(script, argv, list(plan), tmp_path / "out", [5, 1, 9, 3])

    return go


@pytest.mark.parametrize(
    ("count", "size", "shares"),
    [
        (10, 4, [[0, 1, 2, 3, 8, 9], [4, 5, 6, 7]]),
        (10, 4, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (10, 4, [list(range(10))]),
        (5, 1, [[0, 2, 4], [1, 3]]),
        (3, 4, [[0, 1, 2], [], []]),
        (0, 4, [[], []]),
    ],
)
def test_whole_batches_are_dealt_out_in_turn(count, size, shares):
    paths = [Path(str(i)) for i in range(count)]
    for index, own in enumerate(shares):
        dealt = inference.shard_of(paths, size, (index, len(shares)))
        assert dealt == [paths[i] for i in own]


def test_only_the_last_batch_of_all_is_short():
    paths = [Path(str(i)) for i in range(4952)]  # val2017 with a box
    for cards in range(1, 9):
        dealt = [inference.shard_of(paths, 64, (i, cards)) for i in range(cards)]
        assert sorted(int(str(p)) for share in dealt for p in share) == list(range(4952))
        assert sorted(len(share) % 64 for share in dealt)[:-1] == [0] * (cards - 1)
        assert sum(-len(share) % 64 for share in dealt) == 40


@pytest.mark.parametrize("share", ["", "1", "2/2", "-1/2", "0/0", "a/b", "0/1/2"])
def test_a_share_that_is_none_is_wrong_usage(share, run_stage):
    done = run_stage("ssd_infer.py", "--model", "m.om", f"--shard={share}")
    assert done.returncode == 2
    assert "argument --shard" in done.stderr and "Traceback" not in done.stderr


def test_detections_are_joined_in_the_order_of_the_images(run, capfd):
    summaries = [card([10.0], 4, 1.0), card([30.0], 0, 1.0)]
    shares = [{"0/2": [9, 5]}, {"1/2": [3, 1]}]
    plan = {
        "4": {"images": shares[0], "summary": summaries[0]},
        "7": {"images": shares[1], "summary": summaries[1]},
    }
    joined, found = run(plan)
    assert found.image_id.tolist() == [5, 5, 1, 1, 9, 9, 3, 3]
    assert found.category_id.tolist() == [8, 9] * 4
    assert joined["npu_compute_time_list"] == [10.0, 30.0]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("a fact of one card") == 2  # side by side, so they may share a line


@pytest.mark.parametrize(
    ("statuses", "named"), [({"4": 3}, "4"), ({"7": -9}, "7 (killed by signal 9)")]
)
def test_a_failing_card_is_named_and_ends_the_others(statuses, named, run):
    plan = {d: {"images": {"0/2": [5], "1/2": [1]}, "summary": card([1.0], 1, 1)} for d in "47"}
    for device, status in statuses.items():
        plan[device]["status"] = status
    with pytest.raises(KitError) as caught:
        run(plan)
    assert str(caught.value) == f"card {named}: the run failed (see above); check npu-smi"


def test_summaries_are_added_and_joined():
    one = card([10.0, 20.0], 8, 2.0, rate=200.0, name="card 0")
    two = card([30.0], 3, 4.0, padded=1, rate=100.0, name="card 1")
    joined = shards.join_summaries([one, two])
    assert joined["throughput"] == 300.0
    assert (joined["images"], joined["padded"], joined["batch_size"]) == (11, 1, 4)
    assert joined["images_per_second"] == 11 / 4.0  # they ran side by side: the longer one counts
    assert joined["seconds"] == {"read": 0.5, "infer": 0.03, "decode": 1.0, "wall": 4.0}
    times = joined["NPU_compute_time"]
    assert (times["min"], times["max"], times["mean"], times["median"]) == (10, 30, 20, 20)
    assert joined["quartiles"] == [15, 25] and times["percentile(99%)"] is None  # too few runs
    assert times["count"] == joined["H2D_latency"]["count"] == 3
    assert joined["npu_compute_time_list"] == [10.0, 20.0, 30.0]
    assert (joined["engine"], joined["provider"]) == ("e", "card 0; card 1")
    assert one["npu_compute_time_list"] == [10.0, 20.0]  # the arguments stay as they were


def test_a_card_without_a_batch_adds_nothing():
    one, none = card([10.0], 4, 2.0, rate=400.0), card([], 0, 0.5)
    for order in ([one, none], [none, one]):
        joined = shards.join_summaries(order)
        assert (joined["throughput"], joined["images"]) == (400.0, 4)
        assert joined["images_per_second"] == 2.0
        assert joined["NPU_compute_time"]["mean"] == joined["NPU_compute_time"]["min"] == 10.0


@pytest.fixture
def infer(light_onnx, tiny_coco, tmp_path, run_stage, standin, monkeypatch):
    """Run the light model over the four images that are scored, in batches of two, on cards."""
    monkeypatch.setenv("STANDIN_CARDS", ",".join(["310P3:OK"] * 4))
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    model = ["--onnx-path", light_onnx, "--om-path", tmp_path / "m.om", "--bs", 2]
    assert run_stage("ssd_onnx2om.py", *model).returncode == 0

    def go(name, *options):
        base = ["--model", tmp_path / "m.om", "--input", tmp_path / "bin", "--in_process"]
        base += ["--data", tiny_coco, "--output", tmp_path / "r", "--output_dirname", name]
        return run_stage("ssd_infer.py", *base, *options)

    return go


@pytest.mark.parametrize("devices", ["0,1", "3,1,2"])  # one batch each; the third has none
def test_several_cards_give_the_bytes_of_one(devices, infer, tmp_path):
    assert infer("one").returncode == 0
    done = infer("more", "--device", devices)
    assert done.returncode == 0, done.stderr
    one, more = (tmp_path / "r" / f"{name}_detections.json" for name in ("one", "more"))
    assert more.read_bytes() == one.read_bytes()
    assert len(json.loads(one.read_text())) > 4
    one, more = (
        json.loads((tmp_path / "r" / f"{name}_summary.json").read_text())
        for name in ("one", "more")
    )
    for key in ("images", "padded", "batch_size", "model_sha256", "engine"):
        assert more[key] == one[key]
    assert len(more["npu_compute_time_list"]) == more["NPU_compute_time"]["count"] == 2
    assert more["seconds"].keys() == one["seconds"].keys()
    parts = [
        json.loads((tmp_path / "r" / "more" / f"shard{i}_summary.json").read_text())
        for i in range(len(devices.split(",")))
    ]
    wall = max(part["seconds"]["wall"] for part in parts)  # without start-up, as for one card
    assert more["seconds"]["wall"] == wall
    assert more["images_per_second"] == more["images"] / wall


def test_several_cards_that_fail_end_in_one_line_of_their_own(infer, tmp_path):
    (tmp_path / "bin" / "tensor([9]).bin").write_bytes(b"cut")
    done = infer("more", "--device", "0,1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "tensor([9]).bin: 3 bytes" in done.stderr
    assert not (tmp_path / "r" / "more_detections.json").exists()
