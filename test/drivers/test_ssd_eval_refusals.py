"""What the stages refuse before ssd_eval_acc_perf.sh begins: run for real, without a fake."""

import pytest

DRIVER = "ssd_eval_acc_perf.sh"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ([], 1, "ssd_postprocess.py: error: {folder}/none: no such folder; "),
        (["--goal=23"], 2, "ssd_postprocess.py: error: argument --goal/--threshold: 23: must be"),
        (["--threshold=2%"], 2, "ssd_postprocess.py: error: argument --goal/--threshold: 2%: "),
        (["--workers=0"], 2, "ssd_postprocess.py: error: argument --workers: 0: must be"),
        (["--data_path={data}", "--engine=npu"], 2, "ssd_infer.py: error: argument --engine: "),
        (["--data_path={data}", "--precision=f8"], 2, "ssd_infer.py: error: argument --precision"),
        (["--data_path={data}", "--loop=0"], 2, "ssd_infer.py: error: argument --loop: 0: must"),
        (["--data_path={data}", "--device=npu"], 1, "ssd_infer.py: error: --device npu: "),
        (["--data_path={data}", "--models={folder}/none"], 1, "none: no such model; "),
        (["--data_path={data}"], 1, "/ssd_bs16.onnx: no such model; make it with test/ssd_pth2om"),
        (["--data_path={data}", "--engine=ascend"], 1, "ssd_infer.py: error: --engine ascend: "),
    ],
)
def test_what_is_missing_or_wrong_is_told_before_any_work(
    options, status, message, run_driver, tiny_coco, light_onnx, tmp_path
):
    models, out = tmp_path / "models", tmp_path / "out"
    models.mkdir()
    (models / "ssd_bs1.onnx").symlink_to(light_onnx)
    words = {"folder": tmp_path, "data": tiny_coco}
    given = [f"--data_path={tmp_path}/none", f"--models={models}", f"--output={out}"]
    given += [option.format(**words) for option in options]
    done = run_driver(DRIVER, *given, env={"ASCEND_TOOLKIT_HOME": "/none"})
    assert done.returncode == status
    assert message.format(**words) in done.stderr.splitlines()[-1]
    assert not out.exists()


def test_models_of_another_data_set_are_refused_before_any_work(
    run_driver, tiny_coco, onnx_file, tmp_path
):
    given = [f"--data_path={tiny_coco}", f"--models={onnx_file}", f"--output={tmp_path}/out"]
    done = run_driver(DRIVER, *given, env={"ASCEND_TOOLKIT_HOME": "/none"})
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith(f"ssd_infer.py: error: {onnx_file}: 3 labels = background + 2; ")
    assert not (tmp_path / "out").exists()
