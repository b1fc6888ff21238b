"""An Ascend card: runs .om files through ais_bench's Python interface."""

import atexit
from pathlib import Path

from ssd.ascend import advice, ais_bench
from ssd.ascend.om import read_sidecar
from ssd.cli import KitError
from ssd.engines.base import first_line
from ssd.files import CHECKPOINT_KEY
from ssd.tensors import INPUT_SHAPES, input_bytes

import numpy as np


class AscendEngine:
    """An Ascend card, through ais_bench's Python interface."""

    threads = None

    def __init__(self, path: Path, card: int) -> None:
        note = read_sidecar(path)
        self.checkpoint = note.get(CHECKPOINT_KEY)
        try:
            from ais_bench.infer.interface import InferSession
        except ImportError as error:
            raise KitError(f"{path}: needs ais_bench ({error}); see README, Ascend") from None
        try:
            self.session = InferSession(card, str(path))
        except Exception as error:  # the toolkit raises its own
            reason = advice.explain(str(error))
            raise KitError(f"{path}: card {card}: {first_line(error)}; {reason}") from None
        self.name = f"ais_bench {ais_bench.VERSION}"
        self.provider = f"card {card}, {note.get('soc_version', 'chip not noted')}"
        self.dtype = note["input_dtype"]
        self.shape = INPUT_SHAPES[self.dtype]
        first = self.session.get_inputs()[0]
        self.dynamic = first.shape[0] < 0
        self.batch = None if self.dynamic else first.shape[0]
        if self.batch and first.size != self.batch * input_bytes(self.dtype):
            raise KitError(
                f"{path}: takes {first.size // self.batch} bytes an image, but by its note "
                f"({note['mode']}) {self.dtype}; convert it with ssd_onnx2om.py, which notes it"
            )
        self.labels = self.session.get_outputs()[1].shape[1]
        # else the card keeps the model until the driver notices that the process has gone
        atexit.register(getattr(self.session, "free_resource", lambda: None))

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            if self.dynamic:  # editions of 2023 ignore the mode
                self.session.set_dynamic_batchsize(len(images))
            return self.session.infer([images], "dymbatch" if self.dynamic else "static")
        except Exception as error:
            reason = advice.explain(str(error))
            raise KitError(f"{self.provider}: {first_line(error)}; {reason}") from None
