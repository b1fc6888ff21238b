"""A stand-in .om on the stand-in's card: what ais_bench and ais_infer.py load and run.

Which numbers are float16 here: every float weight (rounded by atc), every float input after AIPP
and every float output are rounded to the nearest float16, saturating at 65504. Between them
ONNX Runtime computes in float32 on the CPU, where the real card works in float16 throughout: so
the stand-in is a little more exact than a card. Outputs are float32 arrays unless the model was
converted with --output_type=FP16.
"""

import enum
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import standin
from standin_half import apply_aipp, to_half

INVALID = "[1][ACL: invalid parameter]"
FAILURE = "[-1][ACL: general failure]"
LAYOUTS = {"NCHW": 0, "NHWC": 1, "ND": 2, "NCDHW": 30}  # the values of aclFormat


class DataType(enum.IntEnum):
    """Element types, with the numbers of aclDataType."""

    float32 = 0
    float16 = 1
    int8 = 2
    int32 = 3
    uint8 = 4
    int64 = 9
    bool = 12

    def __str__(self) -> str:
        return f"dtype.{self.name}"


@dataclass
class TensorDesc:
    """One input or output: shape with -1 for a dynamic batch, size in bytes of the largest batch,
    realsize in bytes of the batch that is set."""

    name: str
    datatype: DataType
    format: int
    shape: list[int]
    size: int
    realsize: int


@dataclass
class Times:
    """Milliseconds of every execution, and of the copies to and from the card."""

    exec_time_list: list[float] = field(default_factory=list)
    h2d: list[float] = field(default_factory=list)
    d2h: list[float] = field(default_factory=list)


def say(level: str, text: str) -> None:
    """Print a line as the tools' logger does, on stdout."""
    print(f"[{level}] {text}", flush=True)


def fail(text: str, error: str) -> RuntimeError:
    """Print the line of the runtime's log and return the exception that Python sees."""
    say("ERROR", text)
    return RuntimeError(error)


def open_device(device: int) -> standin.Card:
    """Return the card with this number. Raises RuntimeError if it is not there."""
    say("INFO", "acl init success")
    cards = standin.cards()
    if device >= len(cards) or standin.card_lost_after(device) == 0:
        print("EL0003: The argument is invalid.")
        print(f"        open device {device} failed, runtime result = 507033.", flush=True)
        text = f"acl open device {device} failed\nSetDevice failed.ret=507033"
        raise fail(text, "[507033][ACL: runtime set device failed]")
    say("INFO", f"open device {device} success")
    return cards[device]


class Model:
    """An .om loaded on a device; counts its executions, so that the card can be lost."""

    def __init__(self, path: str, device: int = 0):
        """Load the file. Raises RuntimeError as the runtime does, for want of card or model."""
        import onnxruntime

        self.device = device
        card = open_device(device)
        try:
            header, onnx_bytes = standin.read_om(path)
        except (OSError, ValueError):
            raise fail(f"load model from file failed, model file is {path}", INVALID) from None
        if header["soc_version"] != f"Ascend{card.name}":
            print("E19999: Inner Error!\n        Task index:0 init failed, ret:-1.", flush=True)
            raise fail(f"load model from file failed, model file is {path}", INVALID)
        say("INFO", f"load model {path} success")
        say("INFO", "create model description success")
        self.header: dict[str, Any] = header
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            onnx_bytes, options, providers=["CPUExecutionProvider"]
        )
        self.batches: list[int] | None = header["batches"]
        self.batch = 0  # of a dynamic model, once set
        self.times = Times()
        self.runs = 0

    @property
    def inputs(self) -> list[TensorDesc]:
        """The inputs that a caller feeds; the one that carries the dynamic batch is hidden."""
        return [self._describe(one) for one in self.header["inputs"] if not one.get("hidden")]

    @property
    def outputs(self) -> list[TensorDesc]:
        """The outputs, in the order of the model."""
        return [self._describe(one) for one in self.header["outputs"]]

    def _describe(self, one: dict[str, Any]) -> TensorDesc:
        largest = max(self.batches) if self.batches else 1
        each = abs(math.prod(one["shape"])) * np.dtype(one["dtype"]).itemsize
        dynamic = -1 in one["shape"]
        size = each * largest if dynamic else each
        return TensorDesc(
            name=one["name"],
            datatype=DataType[one["dtype"]],
            format=LAYOUTS[one.get("layout", "ND")],
            shape=list(one["shape"]),
            size=size,
            realsize=each * self.batch if dynamic and self.batch else size,
        )

    def real_shape(self, one: TensorDesc) -> list[int]:
        """Return the shape for the batch that is set."""
        return [self.batch if size == -1 else size for size in one.shape]

    def set_batch(self, size: int) -> None:
        """Choose a profile of --dynamic_batch_size. Raises RuntimeError if there is none."""
        if not self.batches:
            raise fail("get dynamic batch failed, the model has no dynamic batch", INVALID)
        if size not in self.batches:
            raise fail(f"dynamic batch size {size} is not in {self.batches}", INVALID)
        self.batch = size

    def run_bytes(self, feeds: list[bytes], loop: int = 1) -> list[np.ndarray]:
        """Run on raw bytes, as the files hold them. Raises RuntimeError for a wrong size."""
        needed = self.inputs
        if len(feeds) != len(needed):
            raise fail(f"intensors in:{len(feeds)} need:{len(needed)} not match", FAILURE)
        arrays = []
        for index, (data, one) in enumerate(zip(feeds, needed, strict=True)):
            if len(data) != one.realsize:
                text = f"in size:{len(data)} needsize:{one.realsize} not match"
                raise fail(f"Check i:{index} name:{one.name} {text}", FAILURE)
            array = np.frombuffer(data, one.datatype.name)
            arrays.append(array.reshape(self.real_shape(one) if self.batch_is_set else -1))
        return self.run(arrays, loop)

    @property
    def batch_is_set(self) -> bool:
        """Whether the shapes are known: always, but for a dynamic model before set_batch."""
        return not self.batches or self.batch > 0

    def run(self, arrays: list[np.ndarray], loop: int = 1) -> list[np.ndarray]:
        """Run on arrays of the model's own dtypes and shapes; returns the outputs.

        Raises RuntimeError if the card is lost, if the batch of a dynamic model was not set and
        if the model would have to compute a convolution in float32, which 310 and 310P cannot.
        """
        lost_after = standin.card_lost_after(self.device)
        if lost_after is not None and self.runs >= lost_after:
            raise fail("acl execute failed:507033\nExecute Infer failed ret:-1", FAILURE)
        if not self.batch_is_set:
            raise fail("acl execute failed:500002, the dynamic batch is not set", FAILURE)
        if self.header["fp32"]:
            raise fail("acl execute failed:507011, no float32 convolution", FAILURE)
        self.runs += 1
        start = time.perf_counter()
        feeds = self._to_card(arrays)
        self.times.h2d += [1000 * (time.perf_counter() - start)] * len(arrays)
        for _ in range(loop):
            start = time.perf_counter()
            results = self.session.run(None, feeds)
            self.times.exec_time_list.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        outputs = [
            to_half(result).astype(one["dtype"]) if result.dtype.kind == "f" else result
            for result, one in zip(results, self.header["outputs"], strict=True)
        ]
        self.times.d2h.append(1000 * (time.perf_counter() - start))
        return outputs

    def _to_card(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return what ONNX Runtime is fed: AIPP applied, floats rounded to float16 values."""
        feeds = {}
        for index, (array, node) in enumerate(zip(arrays, self.session.get_inputs(), strict=True)):
            if index == 0 and self.header["aipp"]:
                array = apply_aipp(array, self.header["aipp"])
            elif array.dtype.kind == "f":
                array = to_half(array)
            if node.type == "tensor(float16)":
                array = array.astype(np.float16)
            feeds[node.name] = array
        return feeds
