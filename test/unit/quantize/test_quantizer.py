"""The quantizer: its blocks, what they add to the error, and the memory of its calibration."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from ssd.engines import open_engine  # noqa: E402
from ssd.quantize.quantizer import METHODS, Quantizer, block_of, load_float  # noqa: E402

from small_ssd import CELLS, NODES, STEM, in_int8, save, write_images  # noqa: E402


def open_quantizer(model):
    return Quantizer(model, load_float(model), model.parent)


def test_calibration_holds_one_image_at_a_time(tmp_path, monkeypatch):
    import onnxruntime.quantization as tool

    seen, made = [], tool.create_calibrator

    def create(*args, **kwargs):
        calibrator = made(*args, **kwargs)
        collect = calibrator.collect_data

        def watched(reader):
            feeds = reader.feeds
            assert [image.shape for image in feeds.values()] == [(1, 3, 300, 300)]
            collect(reader)
            assert reader.get_next() is None
            seen.append(len(calibrator.intermediate_outputs))

        calibrator.collect_data = watched
        return calibrator

    monkeypatch.setattr(tool, "create_calibrator", create)
    files = sorted(write_images(tmp_path / "in").iterdir())
    for method in METHODS:
        quantizer = open_quantizer(save(tmp_path / "a.onnx", batch=16))
        quantizer.calibrate(files, method)
    assert seen == [0] * (len(files) * len(METHODS))  # nothing is kept between images


def test_the_sensitivity_of_a_block_is_that_of_a_model_with_it_alone_in_int8(tmp_path):
    files = sorted(write_images(tmp_path / "in", 2, "float32").iterdir())
    quantizer = open_quantizer(save(tmp_path / "a.onnx", wild=[1]))
    quantizer.calibrate(files, "minmax")
    sensitivity = quantizer.sensitivity(files)
    assert list(sensitivity) == ["model.0", "model.5.0", "model.5.1", "model.5.2", "mbox.0"]
    assert max(sensitivity, key=sensitivity.get) == "model.5.1"
    others = [
        name for block, names in quantizer.blocks.items() if block != "mbox.0" for name in names
    ]
    quantizer.make(others, tmp_path / "alone.onnx")
    assert in_int8(onnx.load(tmp_path / "alone.onnx")) == set(NODES[-2:])
    x = np.stack([np.fromfile(path, np.float32).reshape(3, 300, 300) for path in files])
    pairs = [open_engine(tmp_path / "a.onnx").run(x)]
    pairs += [
        [
            np.concatenate(
                [open_engine(tmp_path / "alone.onnx").run(image[None])[k] for image in x]
            )
            for k in (0, 1)
        ]
    ]
    expected = 0
    for a, b in zip(*pairs, strict=True):
        within = np.mean([image.var() for image in a])
        expected += np.square(a - b).mean() / within
    assert sensitivity["mbox.0"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("/network/model/model.3/model.3.0/conv1/Conv", "model.3.0"),
        ("/model/model.4/model.4.0/downsample/downsample.0/Conv", "model.4.0"),
        ("/model/model.0/Conv", "model.0"),
        ("/additional_blocks.0/additional_blocks.0.2/Conv", "additional_blocks.0.2"),
        ("/mbox.5/convs.1/Conv", "mbox.5"),
        ("Conv_12", "Conv_12"),
    ],
)
def test_blocks_are_the_networks_own_parts(name, block):
    assert block_of(name) == block


def test_the_share_in_int8_counts_multiply_adds(tmp_path):
    quantizer = open_quantizer(save(tmp_path / "a.onnx"))
    cells = CELLS[0] * CELLS[1]
    assert quantizer.work[STEM] == 8 * 3 * 120 * cells
    assert quantizer.work[NODES[1]] == 8 * 8 * 9 * cells
    total = 2880 + 6 * 576 + 2 * 16 * 8  # of one cell
    assert quantizer.int8_share([]) == 1
    assert quantizer.int8_share([STEM]) == pytest.approx((total - 2880) / total)
    assert quantizer.int8_share(["/model/model.2/Relu"]) == 1
