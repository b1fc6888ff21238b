"""ssd_infer.py on cards: every route finds the same, and a lost card is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from models import ROOT, RUNTIME, STANDIN


@pytest.fixture
def om(standin, light_oms, tmp_path, monkeypatch):
    """The light model for the stand-in, of batch size two."""
    monkeypatch.setenv("STANDIN_CARDS", "310P3,310P3,310P3")
    return shutil.copytree(light_oms, tmp_path / "models") / "ssd_bs2.om"


def test_every_edition_and_route_on_cards_finds_the_same(om, infer, run_stage, tiny_coco, tmp_path):
    data, found = ["--data", tiny_coco], []
    script = [f"--ais_infer={STANDIN / 'ais_infer.py'}"]
    (tmp_path / "pkg_resources.py").touch()  # newer setuptools have none
    alone, both = {"PYTHONPATH": str(RUNTIME)}, {"PYTHONPATH": f"{STANDIN}:{tmp_path}"}
    routes = {  # options, environment
        "files": ([], {}),
        "files2": (["--device=0,1"], {}),
        "e2022-06": (script, alone | {"STANDIN_EDITION": "2022-06"}),
        "e2022-08": (script, alone),
        "e2023-06": (["--device=0,1"], {"STANDIN_EDITION": "2023-06"}),
        "e2024-02": ([], both | {"STANDIN_EDITION": "2024-02"}),
        "e2025-12": (["--device=0,1"], {"STANDIN_EDITION": "2025-12"}),
        "direct": (["--in_process"], {"STANDIN_EDITION": "2025-12"}),
        "direct2": (["--in_process", "--device=0,2"], {}),
        "direct3": (["--in_process", "--device=0,1,2"], {}),  # one of them has nothing to do
    }
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    (tmp_path / "out").mkdir(0o750)  # as newer editions want it
    for name, (options, env) in routes.items():
        done = infer(*data, *options, model=om, name=name, env=env)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "out" / name
        detections = folder.with_name(f"{name}_detections.json")
        if not name.startswith("direct"):
            where = ["--bin-input", folder, "--detections", detections, "--output"]
            done = run_stage("ssd_postprocess.py", *data, *where, tmp_path / "r.json")
            assert done.returncode == 0, done.stderr
        found.append(detections.read_bytes())
        summary = json.loads(folder.with_name(f"{name}_summary.json").read_text())
        assert (summary["images"], summary["padded"]) == (4, 0)
        assert summary["throughput"] > 0 and summary["facts"]["mode"] == "plain"
        written = {
            Path(path).name for group in summary["filesinfo"].values() for path in group["outfiles"]
        }
        assert len(written) == (0 if "direct" in name else 8)
        assert all(out.startswith("tensor([") for out in written)
    assert found == [found[0]] * len(routes) and len(json.loads(found[0])) > 4
    for name in ("files2", "e2022-06", "e2025-12", "direct2"):
        options, env = routes[name]
        done = infer(*data, *options, model=om, name=name, env=env)
        assert done.stderr.splitlines()[-1].endswith("kept, it is of the same model and inputs")


def test_what_an_edition_refuses_is_said_before_any_work(om, infer, tiny_coco, tmp_path):
    more, newer = ["--data", tiny_coco], {"STANDIN_EDITION": "2025-12"}
    om.chmod(0o664)
    done = infer(*more, model=om, env=newer)
    assert done.returncode == 1 and done.stderr == (
        f"ssd_infer.py: error: {om}: this ais_bench refuses its mode; chmod go-w {om}\n"
    )
    om.chmod(0o644)
    link = om.with_name("link.om")
    link.symlink_to(om)
    done = infer("--print_dtype", model=link, env=newer)
    assert done.returncode == 1 and "is a link, which this ais_bench refuses" in done.stderr
    (tmp_path / "pkg_resources.py").write_text("raise ImportError")
    early = {"STANDIN_EDITION": "2024-02", "PYTHONPATH": f"{STANDIN}:{tmp_path}"}
    done = infer(*more, model=om, env=early)
    assert done.returncode == 1 and done.stderr == (
        f"ssd_infer.py: error: --engine ascend: {sys.executable}: this ais_bench needs "
        f"pkg_resources, which is missing; {sys.executable} -m pip install 'setuptools<81'\n"
    )


def test_a_dynamic_model_runs_in_process_in_each_edition_and_is_freed(
    standin, infer, run_stage, light_onnx, tiny_coco, tmp_path
):
    path = tmp_path / "models" / "ssd_dynamic.om"
    where = ["--onnx-path", light_onnx, "--om-path", path, "--dynamic_batch=1,2"]
    assert run_stage("ssd_onnx2om.py", *where).returncode == 0
    for edition in ("2023-06", "2025-12"):
        more = ["--in_process", "--data", tiny_coco]
        done = infer(*more, model=path, name=f"e{edition}", env={"STANDIN_EDITION": edition})
        assert done.returncode == 0, done.stderr
    code = "from pathlib import Path; from ssd.engines import open_engine; import sys; "
    code += "open_engine(Path(sys.argv[1]), '0')"
    subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=True, capture_output=True)
    assert standin.read_text().splitlines()[-1] == '["free_resource"]'


def test_labels_and_batch_size_of_an_om_are_checked_before_anything_runs(
    om, run_stage, refused, tiny_coco, light_onnx
):
    note = json.loads(om.with_name("ssd_bs2.om.json").read_text())
    assert note["labels"] == 5
    check = ["ssd_infer.py", "--model", om, "--data", tiny_coco, "--print_dtype", "--batchsize"]
    assert run_stage(*check, 2).stdout == "float32\n"
    refused(run_stage(*check, 4), "ssd_bs2.om: has batch size 2, --batchsize 4 was given")
    path = tiny_coco / "annotations" / "instances_val2017.json"
    instances = json.loads(path.read_text())
    instances["categories"].append({"id": 99, "name": "another"})
    path.write_text(json.dumps(instances))
    words = "5 labels = background + 4; ", "has 5 categories"
    refused(run_stage(*check, 2), f"{om}: ", *words)
    words_of_precision = "--precision bf16: is OpenVINO's alone; add --engine openvino"
    refused(run_stage(*check, 2, "--precision=bf16"), words_of_precision)
    check[2] = light_onnx
    refused(run_stage(*check, 2, "--engine=onnxruntime"), f"{light_onnx}: ", *words)


@pytest.mark.parametrize("edition", ["", "2025-12"])
def test_a_model_is_timed_without_a_folder_for_results(edition, om, run_stage, inputs, tmp_path):
    env = {"STANDIN_EDITION": edition}
    done = run_stage("ssd_infer.py", "--model", om, "--loop", 3, env=env)
    assert done.returncode == 0, done.stderr
    assert "of 3 runs" in done.stdout and "summary" not in done.stdout
    done = run_stage("ssd_infer.py", "--model", om, "--input", inputs, env=env)
    assert done.returncode == 1 and "ais_bench 0.0.2 writes outputs; give --output" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == []


@pytest.mark.parametrize("options", [["--device=0"], ["--device=0,1"]])
def test_a_card_that_is_lost_in_process_is_named_and_the_run_goes_on(
    options, om, infer, tiny_coco, tmp_path
):
    more = ["--in_process", "--data", tiny_coco, "--warmup_count=0", *options]
    several = "," in options[0]
    done = infer(*more, model=om, env={"STANDIN_CARD_LOST_AFTER": "0@1" if several else "1"})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    if several:
        assert last == "ssd_infer.py: error: card 1: the run failed (see above); check npu-smi"
    else:
        assert last.startswith("ssd_infer.py: error: card 0, Ascend310P3: ")
    done = infer(*more, model=om)
    assert done.returncode == 0, done.stderr
    whole = infer(*more, model=om, name="whole")
    assert whole.returncode == 0
    pair = [(tmp_path / "out" / f"{n}_detections.json").read_bytes() for n in ("bs2", "whole")]
    assert pair[0] == pair[1]
