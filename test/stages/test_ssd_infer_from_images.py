"""ssd_infer.py --in_process without --input: from the images to the detections."""

import json


def test_in_process_makes_inputs_from_the_images_themselves(
    run_stage, refused, light_onnx, tiny_coco, tmp_path
):
    def infer(name, *more):
        base = ["--model", light_onnx, "--batchsize", 2, "--data", tiny_coco, "--in_process"]
        return run_stage(
            "ssd_infer.py", *base, "--output", tmp_path, "--output_dirname", name, *more
        )

    made = run_stage("ssd_preprocess.py", "--data", tiny_coco, "--bin-output", tmp_path / "bin")
    assert made.returncode == 0
    assert infer("files", "--input", tmp_path / "bin").returncode == 0
    assert infer("images").returncode == 0
    found = (tmp_path / "images_detections.json").read_bytes()
    assert found == (tmp_path / "files_detections.json").read_bytes()
    assert len({row["image_id"] for row in json.loads(found)}) > 1
    summaries = [
        json.loads((tmp_path / f"{name}_summary.json").read_text()) for name in ("files", "images")
    ]
    made = [summary["preprocess"] for summary in summaries]  # what it takes alone
    assert made[0] == json.loads((tmp_path / "bin" / "source.json").read_text())["preprocess"]
    assert made[1]["inside"] and made[1]["images"] == 4
    assert made[1]["seconds"] > 0
    assert {"preprocess", "infer", "decode", "wall", "start"} == summaries[1]["seconds"].keys()
    assert infer("images").stderr.endswith("kept, it is of the same model and inputs\n")
    first, second, *_ = sorted((tiny_coco / "val2017").glob("*.jpg"))
    second.write_bytes(first.read_bytes()[:-20])
    refused(infer("broken"), second.name, "not a whole image", "fetch it again")
    second.unlink()
    refused(infer("missing"), f"{second}: no such image; fetch it")
