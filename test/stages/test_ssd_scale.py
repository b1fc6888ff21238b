"""A cluster of two hosts on this machine, runs that are killed, and the answers of one machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import ssd_infer
import ssd_preprocess
import ssd_scale
from ssd.cli import KitError
from ssd.scale import janitor
from ssd.scale.cluster import connected

import numpy as np
import pytest
from models import COLORS, ROOT, gone, save_colors
from PIL import Image

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
BATCH = 4
SHORT = Path("/tmp")  # for temporary files of Ray, whose sockets' paths must be short
HURRY = ("RAY_worker_niceness", "0")  # by default workers stand back behind all other tests
SOON = {  # of Ray: a host that is lost is noticed at once
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_failure_threshold": 3,
}


class Hosts:
    """Two hosts of a core each; the second can be killed."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        size = {"num_cpus": 1, "object_store_memory": 100 << 20}
        first = size | {"include_dashboard": False, "_system_config": SOON}
        self.cluster = Cluster(initialize_head=True, head_node_args=first)
        self.second = self.cluster.add_node(**size)
        self.address = self.cluster.address

    def kill_second(self):
        if self.second:
            self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def hosts():
    folder = tempfile.mkdtemp(prefix="ray_", dir=SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv(*HURRY)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv(janitor.VARIABLE, folder)
        Path(folder, "ray").mkdir()
        made = Hosts()
        yield made
        made.cluster.shutdown()
        for pid in janitor.processes(folder):  # of the host that was killed
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set of 40 small images, in whose noise the light model finds much."""
    root = tmp_path_factory.mktemp("da ta") / "coco"
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    rng = np.random.default_rng(5)
    images, annotations = [], []
    for number in range(40):
        width, height = (int(side) for side in rng.integers(20, 90, 2))
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image_id, name = 1000 - 7 * number, f"{number}.png"
        Image.fromarray(pixels).save(root / "val2017" / name)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        box = {"bbox": [1, 2, 10, 9], "area": 90, "iscrowd": 0, "category_id": 3, "id": number + 1}
        annotations.append(box | {"image_id": image_id})
    categories = [{"id": i, "name": f"class {i}"} for i in (3, 7, 11, 90)]
    made = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(made))
    return root


@pytest.fixture(scope="module")
def one_machine(data, light_onnx, tmp_path_factory):
    """The detections of the route with files: images -> inputs -> detections."""
    folder = tmp_path_factory.mktemp("files")
    given = ["--data", str(data), "--workers", "1"]
    ssd_preprocess.main([*given, "--bin-output", str(folder / "in")])
    run = ["--model", str(light_onnx), "--input", str(folder / "in"), "--batchsize", str(BATCH)]
    ssd_infer.main([*given, *run, "--in_process", "--detections", str(folder / "found.json")])
    return json.loads((folder / "found.json").read_text())


def rows_of(folder):
    from ssd.scale.rows import read_parts

    return read_parts(folder / "rows").to_pylist()


@needs_ray
def test_a_lost_host_changes_nothing(
    hosts, data, light_onnx, one_machine, tmp_path, monkeypatch, capsys
):
    from ssd.scale import rows

    add = rows.Writer.add

    def add_and_kill(self, table):
        hosts.kill_second()
        add(self, table)

    monkeypatch.setattr(rows.Writer, "add", add_and_kill)
    assert hosts.second
    options = ["--model", light_onnx, "--data", data, "--output", tmp_path / "out"]
    options += ["--batch", BATCH, "--address", hosts.address]
    assert ssd_scale.main(list(map(str, options))) == 0
    assert not hosts.second
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == one_machine
    assert len(one_machine) > 40 and len({row["path"] for row in rows_of(tmp_path / "out")}) == 40
    out = capsys.readouterr().out.splitlines()
    assert out[2].startswith("40 images, 0 errors, ") and " images/s, " in out[2]
    assert out[-2].startswith("Scored: all 40 images; ")
    assert out[-1].startswith("Current AP: ")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"] == 40 and summary["hosts"] in (1, 2)  # the second may be late


@pytest.fixture
def alone():
    """Return a short temporary folder, and an environment in which the stage's Ray lies there."""
    folder = tempfile.mkdtemp(prefix="t", dir=SHORT)
    mine = (janitor.VARIABLE, *(key for key in os.environ if key.startswith("RAY_")))
    env = {key: value for key, value in os.environ.items() if key not in mine}
    yield Path(folder), env | {"TMPDIR": folder} | dict([HURRY])
    shutil.rmtree(folder)


def kill_when(process, file):
    """Kill a process once a file is there."""
    try:
        while process.poll() is None and not file.exists():
            time.sleep(0.02)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@needs_ray
def test_a_killed_run_leaves_nothing_and_goes_on(tmp_path, alone):
    images, names, output = tmp_path / "links", tmp_path / "list.txt", tmp_path / "out"
    images.mkdir()
    for label, color in enumerate(COLORS.values()):
        Image.new("RGB", (50 + label, 40), color).save(tmp_path / f"{label}.png")
    good = [images / f"{number}.png" for number in range(900)]
    for number, path in enumerate(good):
        path.symlink_to(tmp_path / f"{number % len(COLORS)}.png")
    bad = [tmp_path / "text.jpg", tmp_path / "missing.jpg"]
    bad[0].write_text("no image")
    names.write_text("\n".join(map(str, [*good, *bad, good[0]])))
    model = save_colors(tmp_path / "colors.onnx", batch="N")
    temporary, env = alone
    options = ["--model", model, "--images", names, "--output", output, "--batch", BATCH]
    options = list(map(str, [*options, "--score", "0.6"]))
    command = [sys.executable, ROOT / "ssd_scale.py", *options]
    process = subprocess.Popen(command, env=env)
    kill_when(process, output / "rows" / "part-000000.parquet")
    for folder in temporary.iterdir():
        assert all(map(gone, janitor.processes(str(folder))))
    assert 256 <= len(rows_of(output)) < 902

    done = subprocess.run([*command, "--resume"], env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1].startswith("902 images, 2 errors, ")
    assert [str(path) in done.stderr for path in bad] == [True, True]
    assert list(temporary.iterdir()) == []  # of both runs
    rows = {row["path"]: row for row in rows_of(output)}
    assert len(rows_of(output)) == len(rows) == 902
    assert set(rows) == {*map(str, good), *map(str, bad)}
    for path in bad:
        row = rows[str(path)]
        assert str(path) in row["error"] and row["width"] is None and row["boxes"] == []
    for number, path in enumerate(good):
        row, label = rows[str(path)], number % len(COLORS)
        assert (row["width"], row["height"]) == (50 + label, 40)
        assert row["labels"] == row["category_ids"] == [label + 1] and len(row["boxes"]) == 1
        assert row["scores"][0] > 0.6 and row["error"] is None and row["image_id"] is None

    # what has a row is not run again, and needs no cluster
    assert ssd_scale.main([*options, "--resume", "--address", "127.0.0.1:1"]) == 1
    with pytest.raises(KitError, match="holds rows; give --resume"):
        ssd_scale.main(options)
    with pytest.raises(KitError, match="a run that differs in score"):
        ssd_scale.main([*options, "--resume", "--score", "0.7"])


@needs_ray
def test_rows_of_other_images_are_neither_counted_nor_scored(
    data, light_onnx, tmp_path, monkeypatch, capsys
):
    from ssd.scale import rows

    import pyarrow

    def one_box_each(args, todo, data, batch, folder):
        found = {"boxes": [[1, 2, 10, 9]], "labels": [1], "category_ids": [3], "scores": [0.9]}
        made = [{"path": row["path"], "image_id": row["image_id"]} for row in todo.to_pylist()]
        writer = rows.Writer(folder)
        writer.add(pyarrow.Table.from_pylist([row | found for row in made], rows.SCHEMA))
        writer.flush()
        return {}

    monkeypatch.setattr(ssd_scale, "detect", one_box_each)
    moved = shutil.copytree(data / "val2017", tmp_path / "moved")
    options = ["--model", light_onnx, "--data", data, "--output", tmp_path / "out"]
    for more in ([], ["--images", moved, "--resume"]):
        assert ssd_scale.main([*map(str, options), *map(str, more)]) == 0
        printed = capsys.readouterr().out
        assert "\n40 images, 0 errors\n" in printed
        assert printed.splitlines()[-1] == "Current AP: 1.00000 AP goal: none"
    assert len(rows_of(tmp_path / "out")) == 80
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 40


def test_without_ray_the_requirements_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(ssd_scale, "find_spec", lambda name: None)
    with pytest.raises(KitError, match=r"ray; install requirements-scale\.txt"):
        ssd_scale.main(["--model", "m.onnx", "--images", "x", "--output", str(tmp_path)])


@needs_ray
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images", "nowhere"], "nowhere: no image there"),
        (["--images", "nowhere", "--batch", "0"], "at least 1"),
        ([], "give --images or --data"),
    ],
)
def test_what_cannot_be_is_one_line(light_onnx, tmp_path, monkeypatch, options, words, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((KitError, SystemExit)) as caught:
        ssd_scale.main(["--model", str(light_onnx), "--output", "out", *options])
    assert words in str(caught.value) + capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_named_at_once():
    with pytest.raises(KitError, match="--address 127.0.0.1:1: no Ray cluster"):  # noqa: SIM117
        with connected("127.0.0.1:1"):
            pass
