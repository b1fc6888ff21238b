"""Images, videos and models for the tests of ssd_detect.py."""

from fractions import Fraction

from ssd.files import MARKER, RECORD

import av
import cv2
import numpy as np
from PIL import Image

NAMES = ["kite", "red fox", "猫", "tv"]  # for the light model's five labels


def noise(width, height, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_video(path, frames, fourcc="MJPG", fps=12.5):
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, size)
    for frame in frames:
        writer.write(frame)
    writer.release()


def write_frames(path, frames, times=None, codec="ffv1", pix_fmt="bgr0", options=None):
    """Write a video, lossless unless another codec is given; times: seconds, else 25 a second."""
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, frame in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(frame, format="bgr24")
            if times:
                frame.pts, frame.time_base = round(times[i] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def frame_times(path):
    """The codec of a video, and the seconds of its frames."""
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
        return container.streams.video[0].codec.name, times


def read_video(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = capture.read()
        if not there:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def fixed(path, target, batch):
    """Write a model of one batch size."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(model, target)
    return target


def with_bytes(path, target):
    """Write a model that takes uint8 (N, 300, 300, 3) instead, and normalizes as the definition."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)[:, None, None]
    tensors = {"mean": mean.reshape(1, 3, 1, 1), "std": std.reshape(1, 3, 1, 1)}
    tensors["top"] = np.float32(255)
    nodes = [
        helper.make_node("Cast", ["bytes"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["t", "top"], ["d"]),
        helper.make_node("Sub", ["d", "mean"], ["s"]),
        helper.make_node("Div", ["s", "std"], ["image"]),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    given = helper.make_tensor_value_info("bytes", TensorProto.UINT8, ["N", 300, 300, 3])
    model.graph.input[0].CopyFrom(given)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in tensors.items())
    onnx.save(model, target)
    return target


def rows_of(found, image=None):
    """The annotations of an image (or all) as rows: box, score, category."""
    chosen = [a for a in found["annotations"] if image in (None, a["image_id"])]
    return [[*a["bbox"], a["score"], a["category_id"]] for a in chosen]


def names(folder):
    """The names of the results in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.name not in (MARKER, RECORD))
