"""Several cards: batches are dealt out, runs joined, failures told; and what one run gives.

Run: python -m pytest test/test_ssd_shares.py
"""

import json
from pathlib import Path

import pytest

import ssd_shares
import ssd_stream
from ssd_files import KitError

SCRIPT = """
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("plan", "device", "share", "output", "output_dirname", "detections"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
plan = json.loads(pathlib.Path(args.plan).read_text())[args.device]
print("a fact of one card")
if plan.get("status", 0) < 0:
    os.kill(os.getpid(), -plan["status"])
if "status" in plan:
    sys.exit(plan["status"])
images = plan["images"][args.share]
found = [{"image_id": i, "nth": n} for i in images for n in range(2)]
pathlib.Path(args.detections).write_text(json.dumps(found))
folder = pathlib.Path(args.output)
(folder / f"{args.output_dirname}_summary.json").write_text(json.dumps(plan["summary"]))
"""


def card(runs, images, wall, padded=0, rate=0.0, name="card"):
    """Make the summary of one card: `runs` are milliseconds."""
    return ssd_stream.summarise(runs, 4) | {
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

    def go(plan, target=None):
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        argv = ["--plan", str(tmp_path / "plan.json"), "--device", ",".join(plan)]
        target = target or tmp_path / "d.json"
        return ssd_shares.run_shares(tmp_path / "script.py", argv, list(plan), target, [5, 1, 9, 3])

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
        dealt = ssd_shares.share_of(paths, size, (index, len(shares)))
        assert dealt == [paths[i] for i in own]


def test_only_the_last_batch_of_all_is_short():
    paths = [Path(str(i)) for i in range(4952)]  # val2017 with a box
    for cards in range(1, 9):
        dealt = [ssd_shares.share_of(paths, 64, (i, cards)) for i in range(cards)]
        assert sorted(int(str(p)) for share in dealt for p in share) == list(range(4952))
        assert sorted(len(share) % 64 for share in dealt)[:-1] == [0] * (cards - 1)
        assert sum(-len(share) % 64 for share in dealt) == 40


@pytest.mark.parametrize("share", ["", "1", "2/2", "-1/2", "0/0", "a/b", "0/1/2"])
def test_a_share_that_is_none_is_wrong_usage(share, run_stage):
    done = run_stage("ssd_infer.py", "--model", "m.om", f"--share={share}")
    assert done.returncode == 2
    assert "argument --share" in done.stderr and "Traceback" not in done.stderr


def test_detections_are_joined_in_the_order_of_the_images(run, tmp_path, capfd):
    summaries = [card([10.0], 4, 1.0), card([30.0], 0, 1.0)]
    shares = [{"0/2": [9, 5]}, {"1/2": [3, 1]}]
    plan = {
        "4": {"images": shares[0], "summary": summaries[0]},
        "7": {"images": shares[1], "summary": summaries[1]},
    }
    target = tmp_path / "new folder" / "d.json"
    joined = run(plan, target)
    found = [(one["image_id"], one["nth"]) for one in json.loads(target.read_text())]
    assert found == [(5, 0), (5, 1), (1, 0), (1, 1), (9, 0), (9, 1), (3, 0), (3, 1)]
    assert joined["npu_compute_time_list"] == [10.0, 30.0]
    assert [path.name for path in target.parent.iterdir()] == ["d.json"]  # no scratch stays
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.count("a fact of one card") == 2  # side by side, so lines may share a line


@pytest.mark.parametrize(
    ("statuses", "named"),
    [({"4": 3}, "4"), ({"7": -9}, "7 (killed by signal 9)"), ({"4": 1, "7": 1}, "4, 7")],
)
def test_a_failing_card_is_named_and_nothing_is_written(statuses, named, run, tmp_path):
    plan = {d: {"images": {"0/2": [5], "1/2": [1]}, "summary": card([1.0], 1, 1)} for d in "47"}
    for device, status in statuses.items():
        plan[device]["status"] = status
    (tmp_path / "d.json").write_text("a former run's")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KitError) as caught:
        run(plan)
    assert str(caught.value) == f"card {named}: the run failed (see above); check npu-smi"
    assert (tmp_path / "d.json").read_text() == "a former run's"
    assert sorted(tmp_path.iterdir()) == sorted({*before, tmp_path / "plan.json"})


def test_summaries_are_added_and_joined():
    one = card([10.0, 20.0], 8, 2.0, rate=200.0, name="card 0")
    two = card([30.0], 3, 4.0, padded=1, rate=100.0, name="card 1")
    joined = ssd_shares.join_summaries([one, two])
    assert joined["throughput"] == 300.0
    assert (joined["images"], joined["padded"], joined["batch_size"]) == (11, 1, 4)
    assert joined["images_per_second"] == 11 / 4.0  # they ran side by side: the longer one counts
    assert joined["seconds"] == {"read": 0.5, "infer": 0.03, "decode": 1.0, "wall": 4.0}
    times = joined["NPU_compute_time"]
    assert (times["min"], times["max"], times["mean"], times["median"]) == (10, 30, 20, 20)
    assert times["percentile(99%)"] == pytest.approx(29.8)  # 0.98 of the way from 20 to 30
    assert times["count"] == joined["H2D_latency"]["count"] == 3
    assert joined["npu_compute_time_list"] == [10.0, 20.0, 30.0]
    assert (joined["engine"], joined["provider"]) == ("e", "card 0; card 1")
    assert one["npu_compute_time_list"] == [10.0, 20.0]  # the arguments stay as they were


def test_a_card_without_a_batch_adds_nothing():
    one, none = card([10.0], 4, 2.0, rate=400.0), card([], 0, 0.5)
    for order in ([one, none], [none, one]):
        joined = ssd_shares.join_summaries(order)
        assert (joined["throughput"], joined["images"]) == (400.0, 4)
        assert joined["images_per_second"] == 2.0
        assert joined["NPU_compute_time"]["mean"] == joined["NPU_compute_time"]["min"] == 10.0


@pytest.fixture
def infer(light_onnx, tiny_coco, tmp_path, run_stage):
    """Run the light model over the four pictures that are scored, in batches of two."""
    done = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "bin")
    assert done.returncode == 0, done.stderr

    def go(name, *options):
        base = ["--model", light_onnx, "--input", tmp_path / "bin", "--batchsize", 2]
        base += ["--data", tiny_coco, "--output", tmp_path, "--output_dirname", name]
        target = tmp_path / f"{name}.json"
        return run_stage("ssd_infer.py", *base, "--detections", target, *options)

    return go


@pytest.mark.parametrize("devices", ["0,1", "3,1,2"])  # one batch each; the third has none
def test_several_cards_give_the_bytes_of_one(devices, infer, tmp_path):
    assert infer("one").returncode == 0
    done = infer("more", "--device", devices)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "more.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert len(json.loads((tmp_path / "one.json").read_text())) > 4
    one, more = (
        json.loads((tmp_path / f"{name}_summary.json").read_text()) for name in ("one", "more")
    )
    for key in ("images", "padded", "batch_size", "model_sha256", "engine"):
        assert more[key] == one[key]
    assert len(more["npu_compute_time_list"]) == more["NPU_compute_time"]["count"] == 2
    assert more["seconds"].keys() == one["seconds"].keys()
    assert done.stdout.splitlines()[0] == f"summary {tmp_path}/more_summary.json"


def test_several_cards_that_fail_end_in_one_line_of_their_own(infer, tmp_path):
    done = infer("more", "--device", "0,1", "--annotation", tmp_path / "none.json")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    (tmp_path / "bin" / "tensor([9]).bin").write_bytes(b"cut")
    done = infer("more", "--device", "0,1")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert lines[-1] == "ssd_infer.py: error: card 0, 1: the run failed (see above); check npu-smi"
    assert sum("tensor([9]).bin" in line for line in lines) == 2
    assert not (tmp_path / "more.json").exists()
    assert not list(tmp_path.glob(".shares-*"))
