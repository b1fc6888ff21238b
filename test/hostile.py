"""What is given to the stages in test/stages/test_hostile.py, and what each is to answer."""

import io
import json
import struct
import zlib

from PIL import Image


def png(size):
    """An image file of one color."""
    data = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(data, "png")
    return data.getvalue()


def truncated_jpeg():
    data = io.BytesIO()
    Image.effect_noise((100, 100), 50).save(data, "jpeg")
    return data.getvalue()[:900]


def bomb():
    """A PNG whose header promises a thousand million pixels."""
    data = bytearray(png((1, 1)))
    data[16:24] = struct.pack(">II", 40_000, 25_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def instances(image=None, annotation=None, category=None):
    """The text of an instances file of one image, with changed fields."""
    entry = {"id": 9, "file_name": "000000000009.png", "height": 100, "width": 100}
    box = {"id": 1, "image_id": 9, "category_id": 3, "bbox": [10, 20, 30, 40]}
    rows = [{"id": 3, "name": "red"}, {"id": 7, "name": "green"}, {"id": 11, "name": "blue"}]
    rows[0] |= category or {}
    data = {"images": [entry | (image or {})], "categories": rows}
    data["annotations"] = [box | {"area": 1200, "iscrowd": 0} | (annotation or {})]
    return json.dumps(data)


def result(**changes):
    """The text of a COCO result file of one detection, with changed fields."""
    row = {"image_id": 9, "category_id": 3, "bbox": [10, 20, 30, 40], "score": 0.5}
    return json.dumps([row | changes])


SUMMARY = {"npu_compute_time_list": [1.0], "NPU_compute_time": {"mean": 1.0}, "throughput": 1.0}
SCORE = {"stats": {"AP": 0.5, "AP50": 0.5}, "goal": 0.2, "images": 1, "detections": 1}
SCORE |= {"scored": "all 1 images", "seconds": {"decode": 1, "score": 1}, "per_class": []}
RESULT_FOLDERS = {  # a summary, a result: what is wrong with the folder
    "no-folder": (None, None),
    "summary-list": ([], None),
    "summary-text": ("[", None),
    "summary-bare": ({}, None),
    "summary-times": (SUMMARY | {"npu_compute_time_list": "x"}, None),
    "summary-speed": (SUMMARY | {"throughput": "fast"}, None),
    "result-text": (SUMMARY, "{"),
    "result-list": (SUMMARY, [1]),
    "result-bare": (SUMMARY, {"stats": {}}),
    "result-stats": (SUMMARY, SCORE | {"stats": 5}),
}


FILES = {
    "images/empty.png": b"",
    "images/text.png": "hello",
    "images/html.png": "<!DOCTYPE html><html></html>",
    "images/cut.png": png((100, 100))[:60],
    "images/cut.jpg": truncated_jpeg(),
    "images/bomb.png": bomb(),
    "images/small.png": png((99, 100)),
    "images/ladder.json": "[1]",
    "empty.onnx": b"",
    "text.onnx": "hello",
    "html.onnx": "<html>",
    "cut.onnx": b"\x08\x07\x12\x07pytorch\x3a\xff",
    "lfs.onnx": "version https://git-lfs.github.com/spec/v1\n",
    "text.om": "hello",
    "text.pt": "hello",
    "model.txt": "hello",
    "empty.json": b"",
    "null.json": "null",
    "list.json": "[]",
    "number.json": "5",
    "cut.json": instances()[:-9],
    "utf16.json": instances().encode("utf-16"),
    "surrogate.json": instances(category={"name": "\ud800"}),
    "surrogate-file.json": instances(image={"file_name": "\ud800.png"}),
    "missing-image.json": instances(image={"file_name": "none.png"}),
    "parent.json": instances(image={"file_name": "../a.png"}),
    "absolute.json": instances(image={"file_name": "/etc/passwd"}),
    "control.json": instances(image={"file_name": "a\nb.png"}),
    "long.json": instances(image={"file_name": "x" * 300 + ".png"}),
    "size.json": instances(image={"width": 101}),
    "huge.json": instances(image={"width": 10**400}),
    "infinite.json": instances().replace("1200", "Infinity"),
    "fractions.json": instances(annotation={"bbox": [0.1, 0.2, 0.3, 0.4]}),
    "corners.json": instances(annotation={"bbox": [60, 20, 90, 40]}),
    "negative.json": instances(annotation={"bbox": [60, 20, -9, 40]}),
    "area.json": instances(annotation={"area": 20000}),
    "good.json": instances(),
    "found-dict.json": "{}",
    "found-nan.json": result(score=float("nan")),
    "found-text.json": result(score="x"),
    "found-box.json": result(bbox=[1, 2, 3]),
    "found-other-image.json": result(image_id=5),
    "found-other-class.json": result(category_id=5),
    "found.json": result(),
    "names.txt": "a\n",
    "colors.txt": "red\ngreen\nblue\n",
    **{
        f"{name}-image.json": instances(image={"file_name": name})
        for name in ("empty.png", "text.png", "html.png", "cut.png", "cut.jpg", "bomb.png")
        + ("small.png", "folder.png", "dangling.png", "loop.png", "fifo.png")
    },
}
INFER = ["ssd_infer", "--loop", "1", "--model"]
SCORES = ["ssd_postprocess", "--output", "{o}/r.json", "--annotation"]
INPUTS = ["ssd_preprocess", "--bin-output", "{o}/bin", "--workers", "1", "--annotation"]
MODEL = ["--model", "{f}/good.onnx", "--labels", "{f}/colors.txt"]
DETECT = ["ssd_detect", "--output", "{o}", *MODEL, "--source"]
IMAGE = "{f}/data/val2017/000000000009.png"
LONG = "x" * 300
IMAGES = {  # a bad image, by its name: words about it
    "empty.png": "not a whole image",
    "text.png": "not a whole image",
    "html.png": "not a whole image",
    "cut.png": "not a whole image",
    "cut.jpg": "not a whole image",
    "bomb.png": "million pixels; scale it down",
    "small.png": "is 99x100, its annotation says 100x100",
    "folder.png": "no such image",
    "dangling.png": "no such image",
    "loop.png": "no such image",
    "fifo.png": "no such image",
}
NO_IMAGE = "no image or video"
SOURCES = dict(list(IMAGES.items())[:6]) | {
    "folder.png": NO_IMAGE, "dangling.png": NO_IMAGE, "loop.png": NO_IMAGE, "fifo.png": NO_IMAGE,
    "none.png": "no such file or folder", LONG: "File name too long",
}  # fmt: skip
MODELS = {
    "empty.onnx": "not an ONNX model",
    "text.onnx": "not an ONNX model",
    "html.onnx": "not an ONNX model",
    "cut.onnx": "not an ONNX model",
    "lfs.onnx": "not an ONNX model",
    "text.pt": "not a checkpoint, or damaged",
    "model.txt": "no engine for this kind of file",
    "none.onnx": "no such model",
    "loop": "no such model",
    LONG: "File name too long; check it",
    "fifo.onnx": "fifo.onnx: no such model",
}
NOT_JSON, NO_LIST = "not JSON", "no list of images; give a COCO instances file"
ANNOTATIONS = {
    "empty": NOT_JSON,
    "cut": NOT_JSON,
    "null": NO_LIST,
    "list": NO_LIST,
    "number": NO_LIST,
    "surrogate": r'categories with name "\ud800"',
    "surrogate-file": r'images with file_name "\ud800.png"',
    "huge": "images with width 1000",
    "infinite": "annotations with area Infinity",
    "fractions": "boxes are fractions of the image",
    "corners": "only as corners",
    "negative": "1 boxes with negative sides",
    "area": "1 areas below 0 or larger than the image",
    "fifo": "no such file",
    "none": "no such file",
    "folder.onnx/x": "no such file",
    LONG: "File name too long",
}
FILE_NAMES = {
    "missing-image": "none.png: no such image",
    "parent": "file_name leaves the image folder",
    "absolute": "file_name leaves the image folder",
    "control": r"'a\nb.png': file_name with control characters",
    "long": "File name too long",
    "size": "is 100x100, its annotation says 101x100",
}
NO_RESULT = "not a COCO result file"
DETECTIONS = {
    "empty": NOT_JSON,
    "cut": NOT_JSON,
    "null": NO_RESULT,
    "found-dict": NO_RESULT,
    "found-nan": "found-nan.json: ",
    "found-text": "found-text.json: ",
    "found-box": "found-box.json: ",
    "found-other-image": "none of 1 detections fits",
    "found-other-class": "none of 1 detections fits",
    "fifo": "no such file",
    "none": "no such file",
}
LABELS = {
    "names.txt": "1 names, the model has 3 labels",
    "none.txt": "cannot read",
    "empty.json": NOT_JSON,
    "list.json": NO_LIST,
    "null.json": NO_LIST,
}
RESULTS = {
    "no-folder": "no bsN_summary.json",
    "good.json": "no bsN_summary.json",
    "fifo-summary": "bs1_summary.json: is a FIFO or a device",
    "summary-list": "bs1_*.json are not of a run (AttributeError",
    "summary-text": "bs1_summary.json: not JSON",
    "summary-bare": "bs1_*.json are not of a run (KeyError",
    "summary-times": "bs1_*.json are not of a run (ValueError",
    "summary-speed": "bs1_*.json are not of a run (TypeError",
    "result-text": "bs1_result.json: not JSON",
    "result-list": "bs1_*.json are not of a run (AttributeError",
    "result-bare": "bs1_*.json are not of a run (KeyError",
    "result-stats": "bs1_*.json are not of a run (TypeError",
}
FILE_OUTPUTS = {
    "/dev/full": "/dev/full: cannot write: No space left on device",
    "/proc/x.json": "cannot write: No such file",
    "{f}/good.json/x.json": "cannot write: File exists",
    "{o}": "cannot write: Is a directory",
    "{o}/" + LONG: "File name too long",
    "{f}/loop": "{f}/loop: ",
}
FOLDER_OUTPUTS = {
    "/dev/null": "cannot write: File exists",
    "{f}/good.json": "cannot write: File exists",
    "/proc/x": "cannot write: No such file",
    "{o}/" + LONG: "cannot write: File name too long",
    "{f}/loop": "cannot write: ",
}
DATA = "{f}/data/annotations/instances_val2017.json"
RUN = "ssd_infer --loop 1 --model {f}/good.onnx "
COMMANDS = {  # command lines whose parts do not go together, or are not there
    RUN + "--input {f}/none": "none: no such folder",
    RUN + "--input {f}/data/val2017": "val2017: no .bin or .npy file",
    RUN + "--device cuda:99": "--device cuda:99: onnxruntime",
    RUN + "--device tpu": "--device tpu: not for the engine onnxruntime",
    RUN + "--batchsize 4": "good.onnx: has batch size 1, --batchsize 4 was given",
    RUN + "--precision bf16": "is OpenVINO's alone",
    RUN + "--output {f}/good.json --output_dirname x": "good.json: cannot write: File exists",
    RUN + "--engine ascend": "--engine ascend does not run such a file",
    "prepare-json /dev/zero {o}/x": "/dev/zero: is a FIFO or a device",
    "ssd_ladder table {f}/good.json": "rungs.json: cannot read: Not a directory",
    "ssd_ladder table {o}": "rungs.json: cannot read: No such file",
    f"ssd_ladder layers {{o}} --annotation {DATA}": "ladder.json: cannot read: No such file",
    f"ssd_ladder layers {{f}}/images --annotation {DATA}": "ladder.json: not the table of a ladder",
    f"ssd_ladder compare {{o}} uint8 int8 --annotation {DATA}": "uint8: no such folder",
    "ssd_ladder plan {o} --data {f}/data --pth-path {f}/fifo.pt": "fifo.pt: no such checkpoint",
    "ssd_ladder plan {o} --data {f}/data --models {f}/images": "no rung can be run",
    "ssd_quantize --output x --onnx-path x --calibration {f}/none": "none: no such folder",
    "ssd_quantize --output x --onnx-path x --calibration {f}/images": "no .bin or .npy file",
}
USAGE = {  # command lines that no stage takes: words of the last line
    "ssd_infer": "the following arguments are required: --model",
    "ssd_postprocess": "one of the arguments --bin-input --score-only --check is required",
    "ssd_preprocess --bin-output {o} --workers 0": "must be a whole number, at least 1",
    "ssd_preprocess --bin-output {o} --workers x": "must be a whole number, at least 1",
    "ssd_preprocess --bin-output {o} --dtype int4": "invalid choice: 'int4'",
    "ssd_postprocess --score-only x --goal 23": "must be from 0 to 1",
    "ssd_postprocess --score-only x --goal nan": "must be from 0 to 1",
    "ssd_postprocess --score-only x --bin-input y": "not allowed with argument",
    "ssd_pth2onnx --pth-path x --onnx-path /dev/null": "/dev/null: is read again once written",
    "ssd_quantize --onnx-path x --calibration y --output {f}/fifo": "give a plain file",
    "ssd_detect --model x --source y --score 50": "must be from 0 to 1",
    "ssd_detect --model x --source": "expected one argument",
    "ssd_report": "the following arguments are required: RESULT",
    "ssd_report x --fact y": "--fact wants KEY=VALUE",
    "ssd_report x --score 2": "--score: 2: must be from 0 to 1",
    "prepare-json a b --limit -1": "must be a whole number, at least 1",
    "prepare-json a b c": "unrecognized arguments: c",
    "prepare-json a b --limit=٣٣x": "must be a whole number, at least 1",
}


def rows_of(table, line):
    """Yield rows that end in exit 1; {} in the command line stands for each key of the table."""
    for key, words in table.items():
        yield [word.replace("{}", key) for word in line], 1, words


ROWS = [  # command line, exit status, words of the last line on stderr
    *rows_of(IMAGES, [*INPUTS, "{f}/{}-image.json", "--images", "{f}/images"]),
    *rows_of(FILE_NAMES, [*INPUTS, "{f}/{}.json", "--images", "{f}/data/val2017"]),
    *rows_of(SOURCES, [*DETECT, "{f}/images/{}"]),
    *rows_of(LABELS, [*DETECT, IMAGE, "--labels", "{f}/{}"]),
    *rows_of(MODELS, [*INFER, "{f}/{}"]),
    *rows_of(ANNOTATIONS, [*SCORES, "{f}/{}.json", "--score-only", "{f}/found.json"]),
    *rows_of(DETECTIONS, [*SCORES, "{f}/good.json", "--score-only", "{f}/{}.json"]),
    *rows_of(RESULTS, ["ssd_report", "{f}/{}"]),
    *rows_of(FILE_OUTPUTS, ["prepare-json", "{f}/good.json", "{}"]),
    *rows_of(FILE_OUTPUTS, [*SCORES, "{f}/good.json", "--score-only", "{f}/found.json"]
             + ["--output", "{}"]),
    *rows_of(FOLDER_OUTPUTS, ["ssd_preprocess", "--annotation", DATA, "--bin-output", "{}"]),
    *((line.split(" "), 1, words) for line, words in COMMANDS.items()),
    *((line.split(" "), 2, words) for line, words in USAGE.items()),
]  # fmt: skip
