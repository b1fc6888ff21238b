"""Inference from Python: InferSession on one device, MultiDeviceSession on several.

Stricter than the real interface in one point: that one compares only numbers of bytes, this one
also refuses an array whose dtype or shape is not the model's (a flat array of the right dtype and
size is let through).
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import standin
from standin_model import FAILURE, Model, TensorDesc, Times, fail
from standin_run import count_batch

MODES = ("static", "dymbatch", "dymhw", "dymdims", "dymshape")


class InferSession:
    """A model on a device of this process."""

    def __init__(
        self,
        device_id: int,
        model_path: str,
        acl_json_path: str | None = None,
        debug: bool = False,
        loop: int = 1,
    ):
        standin.show_banner()
        if not os.path.isfile(model_path) or not str(model_path).endswith(".om"):
            raise RuntimeError(f"model_path:{model_path} is illegal. Please check.")
        if standin.has_rules():
            _check_model(str(model_path))
        self.device_id = device_id
        self.model_path = model_path
        self.loop = loop
        self.session = Model(str(model_path), device_id)

    def get_inputs(self) -> list[TensorDesc]:
        """Return name, datatype, format, shape, size, realsize of each input."""
        return self.session.inputs

    def get_outputs(self) -> list[TensorDesc]:
        """Return the same of each output, in the order of the model."""
        return self.session.outputs

    def set_dynamic_batchsize(self, dym_batch: int) -> None:
        """Choose a profile of --dynamic_batch_size. Raises RuntimeError if there is none."""
        self.session.set_batch(int(dym_batch))

    def infer(
        self,
        feeds: list[np.ndarray],
        mode: str = "static",
        custom_sizes: int = 100000,
        out_array: bool = True,
    ) -> list[np.ndarray]:
        """Run once on one array for each input; returns one array for each output.

        mode `dymbatch` takes the batch of a dynamic model from the shape. Raises RuntimeError.
        """
        self._prepare(feeds, mode)
        outputs = self._run(feeds)
        count_batch()
        return outputs

    def infer_pipeline(
        self, feeds_list: list[list[np.ndarray]], mode: str = "static", custom_sizes: int = 100000
    ) -> list[list[np.ndarray]]:
        """Run on many lists of inputs, copies overlapping in the real one; returns many outputs.

        The batch of a dynamic model is set ONCE, by the LAST feeds, as in the real one.
        """
        if feeds_list:
            self._prepare(feeds_list[-1], mode)
        results = []
        for feeds in feeds_list:
            results.append(self._run(feeds))
            count_batch()
        return results

    def _prepare(self, feeds: list[np.ndarray], mode: str) -> None:
        if mode not in MODES:
            raise RuntimeError(f"wrong infer_mode:{mode}, only support {MODES}")
        if mode not in ("static", "dymbatch"):
            raise fail(f"not a {mode} model!", f"not a {mode} model!")
        if standin.is_2023() and mode == "dymbatch":  # a mode that it ignores
            if not self.session.batch_is_set:
                raise fail("check failed dym gearcount", FAILURE)
        elif mode == "dymbatch":
            if not self.session.batches:
                raise RuntimeError("not a dymbatch model!")
            self.set_dynamic_batchsize(feeds[0].shape[0])

    def _run(self, feeds: list[np.ndarray]) -> list[np.ndarray]:
        needed = self.get_inputs()
        if len(feeds) != len(needed):
            raise RuntimeError("input datas and intensors nums not matched!")
        arrays = []
        for index, (feed, one) in enumerate(zip(feeds, needed, strict=True)):
            if not isinstance(feed, np.ndarray):
                raise RuntimeError(f"type:{type(feed)} invalid")
            if feed.nbytes != one.realsize:
                sizes = f"in size:{feed.nbytes} needsize:{one.realsize} not match"
                raise fail(f"Check i:{index} name:{one.name} {sizes}", FAILURE)
            shape = self.session.real_shape(one)
            known = self.session.batch_is_set
            if feed.dtype.name != one.datatype.name or (
                known and feed.ndim > 1 and list(feed.shape) != shape
            ):
                given = f"{feed.dtype.name} {list(feed.shape)}"
                text = f"{one.name} is {one.datatype.name} {shape}, not {given}"
                raise fail(f"(stand-in only) {text}", FAILURE)
            arrays.append(feed.reshape(shape) if known else feed)
        return self.session.run(arrays, self.loop)

    def summary(self) -> Times:
        """Return an object whose exec_time_list has the milliseconds of every execution."""
        return self.session.times

    sumary = summary  # the name of 2022

    def reset_summaryinfo(self) -> None:
        """Forget the times."""
        self.session.times = Times()

    reset_sumaryinfo = reset_summaryinfo

    def free_resource(self) -> None:
        """Give the memory of the model back."""
        standin.log_call("free_resource")

    @staticmethod
    def finalize() -> None:
        """Close the devices of this process."""


def _check_model(path: str) -> None:
    """Refuse a model whose path the tool of 2024 does not take. Raises RuntimeError."""
    from standin_paths import FileStat, OpenException

    try:
        legal = FileStat(path).is_basically_legal("read")
    except OpenException:
        legal = False
    if not legal:
        raise RuntimeError(f"om path:{path} is illegal. Please check.")


def _in_process(work: tuple[str, int, int, list[Any], str, bool]) -> tuple[Any, float]:
    """Run one feeds (or list of feeds) in a process of its own; returns outputs and ms."""
    path, loop, device, feeds, mode, pipeline = work
    session = InferSession(device, path, loop=loop)
    outputs = (session.infer_pipeline if pipeline else session.infer)(feeds, mode)
    return outputs, sum(session.summary().exec_time_list)


class MultiDeviceSession:
    """A model on several devices, one process for each list of inputs."""

    def __init__(
        self,
        model_path: str,
        acl_json_path: str | None = None,
        debug: bool = False,
        loop: int = 1,
    ):
        self.model_path = model_path
        self.loop = loop
        self.summary: dict[int, list[float]] = {}  # hides the method, as in the real one

    def infer(
        self,
        device_feeds: dict[int, list[list[np.ndarray]]],
        mode: str = "static",
        custom_sizes: int = 100000,
    ) -> dict[int, list[list[np.ndarray]]]:
        """Run device -> list of feeds; returns device -> list of outputs, failed ones left out."""
        return self._spread(device_feeds, mode, False)

    def infer_pipeline(
        self,
        device_feeds_list: dict[int, list[list[list[np.ndarray]]]],
        mode: str = "static",
        custom_sizes: int = 100000,
    ) -> dict[int, list[list[list[np.ndarray]]]]:
        """Run device -> list of lists of feeds, each list through infer_pipeline."""
        return self._spread(device_feeds_list, mode, True)

    def _spread(self, device_feeds: dict[int, list], mode: str, pipeline: bool) -> dict[int, list]:
        standin.show_banner()
        outputs: dict[int, list] = {}
        self.summary.clear()
        workers = max(1, sum(map(len, device_feeds.values())))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            pending = [
                (device, (str(self.model_path), self.loop, device, feeds, mode, pipeline))
                for device, many in device_feeds.items()
                for feeds in many
            ]
            results = [(device, pool.submit(_in_process, work)) for device, work in pending]
            for device, result in results:
                try:
                    arrays, milliseconds = result.result()
                except RuntimeError as error:  # a killed process raises one too
                    print(f"[ERROR] subprocess run failed error_callback:{error}", flush=True)
                    continue
                outputs.setdefault(device, []).append(arrays)
                self.summary.setdefault(device, []).append(milliseconds)
        return outputs


class MemorySummary:
    """Times of the copies of this process; the stand-in keeps them in its sessions instead."""

    @staticmethod
    def get_h2d_time_list() -> list[float]:
        """Return the milliseconds of the copies to the device."""
        return []

    @staticmethod
    def get_d2h_time_list() -> list[float]:
        """Return the milliseconds of the copies from the device."""
        return []

    @staticmethod
    def reset() -> None:
        """Forget the times."""
