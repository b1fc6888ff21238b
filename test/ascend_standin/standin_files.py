"""Files of ais_bench and ais_infer.py: which go into a batch, what is written, the summary."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import standin
from standin_model import Model, Times, fail, say

PURE_INFER = "pure_infer_data"
PADDING = "padding_infer_fake_file"
SUFFIXES = (".npy", ".NPY", ".bin", ".BIN")


def natural_key(path: str) -> list[Any]:
    """Return the sort key that puts `a2` before `a10`."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", path)]


def check_names(folder: str) -> None:
    """Refuse a folder in which any file has a name or mode that the tool of 2024 does not take.

    Raises OpenException or RuntimeError.
    """
    from standin_paths import FileStat

    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not FileStat(path).is_basically_legal("read"):
            raise RuntimeError(f"input data:{path} is illegal")


def list_folder(folder: str) -> list[str]:
    """Return the .npy and .bin files of a folder in natural order. Raises RuntimeError if none."""
    if standin.has_rules():
        check_names(folder)
    names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIXES))
    if not names:
        kinds = "[*.npy *.NPY *.bin *.BIN]"
        raise fail(f"{folder} of input args not find valid file,valid file format:{kinds}", "")
    return sorted((os.path.join(folder, name) for name in names), key=natural_key)


def list_inputs(text: str, count: int) -> list[list[str]]:
    """Return the files of each of `count` model inputs from --input. Raises RuntimeError."""
    entries = text.split(",")
    if os.path.isdir(entries[0]):
        if len(entries) != count:
            numbers = f"{len(entries)} not equal to model inputs num:{count}"
            raise fail(f"Invalid args. args input dir num:{numbers}", "")
        return [list_folder(folder) for folder in entries]
    for name in entries:
        if not os.path.isfile(name):
            raise fail(f"Invalid args. {name}  of --input is invalid", "")
    each = len(entries) // count
    return [entries[first : first + each] for first in range(0, len(entries), each)]


def read_file(path: str) -> bytes:
    """Return the bytes of the tensor in a .npy or .bin file."""
    if path.endswith((".npy", ".NPY")):
        return np.load(path).tobytes()
    return Path(path).read_bytes()


def group_files(model: Model, files: list[list[str]], join: bool = True) -> list[list[list[str]]]:
    """Return batches: for each, for each input, its files, PADDING where they ran out.

    Files per batch = bytes of the first tensor / bytes of the FIRST file; with join=False (the
    pipeline) a file is a batch. Raises RuntimeError if the sizes do not divide.
    """
    inputs = model.inputs
    if len(files) != len(inputs):
        raise fail(f"fileslist:{len(files)} intensor:{len(inputs)} not match", "")
    size, needed = len(read_file(files[0][0])), inputs[0].realsize
    if not join:
        for path in files[0]:
            if len(read_file(path)) != needed:
                raise fail(f"{path}: tensorsize {needed}, filesize not match", "")
    if size == 0 or needed % size:
        raise fail(f"arg0 tensorsize: {needed} filesize: {size} not match", "")
    each = needed // size
    runs = math.ceil(len(files[0]) / each)
    counts = f"filesperbatch:{each} runcount:{runs}"
    say("INFO", f"get filesperbatch files0 size:{size} tensor0size:{needed} {counts}")
    padded = [names + [PADDING] * (runs * each - len(names)) for names in files]
    return [[names[run * each :][:each] for names in padded] for run in range(runs)]


def pure_batch(model: Model) -> list[list[str]]:
    """Return the one made-up batch of a run without --input."""
    return [[PURE_INFER] for _ in model.inputs]


def read_batch(model: Model, batch: list[list[str]], pure_data_type: str) -> list[bytes]:
    """Return the bytes of each input of a batch; padding repeats the batch's first file."""
    feeds = []
    for names, one in zip(batch, model.inputs, strict=True):
        if names == [PURE_INFER]:
            zero = pure_data_type == "zero"
            feeds.append(bytes(one.realsize) if zero else os.urandom(one.realsize))
            continue
        parts = [read_file(names[0] if name == PADDING else name) for name in names]
        size = sum(map(len, parts))
        if len(parts) > 1 and size != one.realsize:
            raise fail(f"ndata size:{size} not match {one.realsize}", "")
        feeds.append(b"".join(parts))
    return feeds


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an output: headerless (.bin), with dtype and shape (.npy), or as text (.txt)."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".txt":
        rows = array.reshape(-1, array.shape[-1])
        np.savetxt(path, rows, fmt="%f" if array.dtype.kind == "f" else "%d")
    else:
        array.tofile(path)


class Summary:
    """What is told and written at the end of a run."""

    def __init__(self, args: list[str]):
        self.info: dict[str, Any] = {"filesinfo": {}, "args": args}

    def save_outputs(
        self, outputs: list[np.ndarray], batch: list[list[str]], run: int, **where: Any
    ) -> None:
        """Write the outputs of a batch, one file for each input file and output.

        where: folder (Path), outfmt (`BIN`) and axis, along which an output is split. The name is
        that of the first input's file up to its FIRST dot, then `_k` for output k. The copies that
        filled the batch are not written. Raises RuntimeError if an output cannot be split.
        """
        count = len(batch[0])
        for k, output in enumerate(outputs):
            axis = where["axis"]
            if axis >= output.ndim or (count > 1 and output.shape[axis] % count):
                shown = f"array shape:{output.shape} filesinfo:{batch}"
                raise fail(f"save out files error {shown} files_count_perbatch:{count}", "")
            for j, part in enumerate(np.array_split(output, count, axis)):
                names = [files[j] for files in batch]
                if names[0] == PADDING:
                    continue
                stem = os.path.basename(names[0]).split(".")[0]
                if standin.edition() < "2022-08":
                    stem = f"sample_id_{run * count + j}_output"
                path = where["folder"] / f"{stem}_{k}.{where['outfmt'].lower()}"
                save_array(path, part)
                entry = self.info["filesinfo"].setdefault(
                    str(run * count + j), {"infiles": names, "outfiles": []}
                )
                entry["outfiles"].append(str(path))

    def report(self, times: Times, batchsize: int, old: bool, all_lines: bool) -> float:
        """Fill in and print the times; returns the throughput, images a second of compute alone.

        old: as the tool of 2022 does it, without count, list of times and process id.
        """
        copies = {"H2D_latency": times.h2d, "D2H_latency": times.d2h}
        lists = {"NPU_compute_time": times.exec_time_list, **copies}
        self.info |= {name: spread(values, old) for name, values in lists.items()}
        if standin.is_2023() and not old:  # its source breaks the string of this key in two
            compute = self.info["NPU_compute_time"]
            compute["percentile(99%" + " " * 36 + ")"] = compute.pop("percentile(99%)")
        mean = self.info["NPU_compute_time"]["mean"]
        throughput = 1000 * batchsize / mean if mean else 0
        self.info["throughput"] = throughput
        if not old:
            runs: list[Any] = times.exec_time_list
            if standin.edition() >= "2024-02":
                ends = np.cumsum(runs).tolist()
                runs = [[end - took, end] for took, end in zip(runs, ends, strict=True)]
            self.info |= {"npu_compute_time_list": runs, "pid": os.getpid()}
        say("INFO", "-----------------Performance Summary------------------")
        for name, values in lists.items():
            if all_lines or name == "NPU_compute_time":
                shown = ", ".join(f"{key} = {value}" for key, value in spread(values, True).items())
                say("INFO", f"{name} (ms): {shown}")
        size = f"batchsize({batchsize})" if old else f"batchsize.mean({batchsize})"
        formula = f"1000*{size}/NPU_compute_time.mean({mean})"
        say("INFO", f"throughput {formula}: {throughput}")
        say("INFO", "------------------------------------------------------")
        return throughput

    def write(self, path: Path) -> None:
        """Write the summary as JSON."""
        path.write_text(json.dumps(self.info))


def spread(values: list[float], old: bool) -> dict[str, float]:
    """Return min, max, mean, median and 99th percentile, and the count unless `old`."""
    count = {} if old else {"count": len(values)}
    values = values or [0.0]
    result = {
        "min": float(np.min(values)),
        "max": float(np.max(values)),
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "percentile(99%)": float(np.percentile(values, 99)),
    }
    return result | count
