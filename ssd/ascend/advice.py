"""What the error codes of Ascend's tools mean, and what to do."""

import os
import re
from typing import NamedTuple

MAX_WORDS = 160  # letters of a tool's own message that are shown
MODULES = "atc's Python lacks what CANN needs; see test/ssd_doctor.sh and --atc_python"
ADVICE = {  # text in a log, and what to do; the first that is found counts
    "No module named": MODULES,
    "numpy.dtype size changed": "CANN up to 8.x needs numpy 1: see --atc_python",
    "aclruntime_version": "the tool's Python has no pkg_resources: pip install 'setuptools<81' "
    "there",
    "AMCT is not installed": "--int8 needs AMCT(acl) for this CANN beside the toolkit, and a card",
    "E10001": "an option has a value that this atc refuses; check --soc_version and --atc_args",
    "E10009": "options for dynamic shapes exclude each other; leave one out",
    "E10016": "the ONNX file has no input of that name; export it again with ssd_pth2onnx.py",
    "E10034": "AIPP and --input_fp16_nodes exclude each other; leave one out",
    "E10052": "this atc refuses the AIPP config beside the .om; see the log for why",
    "E10056": "two options exclude each other; see the log for which, and leave one out",
    "E10060": "an option was discarded in this CANN (auto_tune_mode: use AOE); remove it",
    "E16005": "the ONNX file has more than one opset domain; export it again with ssd_pth2onnx.py",
    "E19010": "atc has no parser for a node; export again with ssd_pth2onnx.py --opset 11",
    "EZ9010": "atc has no parser for a node; export again with ssd_pth2onnx.py --opset 11",
    "EZ3003": "the operators for this chip are not installed; install Ascend-cann-kernels-310p "
    "(CANN up to 8.3) or Ascend-cann-310p-ops (from 8.5)",
    "E40001": MODULES,
    "E40002": "atc could not use its Python: its version does not fit this CANN: see --atc_python",
    "E40020": MODULES,
    "E40021": "a kernel was not compiled; mostly atc's Python lacks a module: see "
    "test/ssd_doctor.sh",
    "E40024": "a function of CANN's Python failed; mostly numpy or a module does not fit: see "
    "test/ssd_doctor.sh",
    "EL0004": "the card's memory is full; take a smaller batch size, or a card that is free",
    "E40010": "bad auto-tune mode; newer CANN has none, remove the option",
    "E13000": "a file that an option names is missing; check the paths in --atc_args",
    "507033": "the card did not open or was lost; check npu-smi info, free or restart the card",
    "507011": "the card stopped while computing; check npu-smi info and the model's chip; in "
    "calibration the batch was too big: take 8",
    "507899": "driver, firmware and CANN do not fit; update the driver or take the CANN for it",
    "500002": "driver or CANN are older than what the .om was made with; convert on this CANN",
    "145000": "the .om was made by a newer CANN than runs here; convert on this CANN",
    "107002": "the card has no context; another card was lost, or the program ended: see the log",
    "contains illegal char": "this ais_bench takes only A-Z a-z 0-9 _ - / . in paths; move models "
    "and results to such a folder, and add --in_process for file names such as tensor([139]).bin",
    "is a soft link": "this ais_bench takes no links; give the file or folder itself",
    "should not be over": "this ais_bench takes nothing that others may write, and no result "
    "folder that others may read; chmod go-w the model, chmod 750 the folder",
    "is illegal. Please check": "this ais_bench refuses the model or folder: others may write to "
    "it, or it has another owner; chmod go-w it, or copy it",
    "needsize": "an input is not of the size that the model takes; see ssd_preprocess.py --dtype",
    "filesize": "an input is not of the size that the model takes; see ssd_preprocess.py --dtype",
    "unknown command line flag": "this atc does not know an option; check --atc_args",
    "unrecognized arguments": "this version of the tool does not know an option; update the tool",
    "error while loading shared libraries": "the environment is not set; source set_env.sh",
    "cannot open shared object file": "the environment is not set; source set_env.sh",
    "ACL: invalid parameter": "the runtime refuses the model or its batch; convert it for this "
    "chip and this batch size",
    "ACL: general failure": "the card failed; read the lines before, check npu-smi info",
}
# `E10001: words` up to CANN 8.3, with `[PID: n] time` before the words; from 8.5 on
# `[PID: n] time Title(E10001): words`
ERROR = re.compile(
    r"\s*(?:\[PID: \d+\] \S+ [\w ]*\()?(E[A-Z0-9]\d{4})\)?: (?:\[PID: \d+\] \S+ )?(.+)"
)
SOLUTION = re.compile(r"\s*Solution: (?!N/A)(.+)")


class Error(NamedTuple):
    """What a tool says of an error: its words, and what it advises (empty if nothing)."""

    words: str
    solution: str = ""


def read_errors(log: str) -> dict[str, Error]:
    """Return what atc or the runtime says in a log, by code."""
    found, code = {}, None
    for line in log.splitlines():
        if match := ERROR.match(line):
            code = match[1]
            found[code] = Error(match[2])
        elif "TraceBack" in line:  # what follows is of the layers below
            code = None
        elif code and (match := SOLUTION.match(line)):
            found[code] = found[code]._replace(solution=match[1])
    return found


def place_of_logs() -> str:
    """Return where Ascend's runtime and atc keep their logs."""
    folder = os.environ.get("ASCEND_PROCESS_LOG_PATH") or "~/ascend/log"
    return f"Ascend's logs: {folder}/debug/plog; ASCEND_SLOG_PRINT_TO_STDOUT=1 prints them"


def explain(log: str) -> str:
    """Return in one line which error a log has, what to do, its words, and where logs lie."""
    said = read_errors(log)
    for text, advice in ADVICE.items():
        if match := re.search(rf"^.*(?<![\w.]){re.escape(text)}(?!\w|\.\d).*$", log, re.M):
            error = said.get(text) or Error(match[0].strip())
            return f"{text}: {advice} ({quote(error)}); {place_of_logs()}"
    if said:
        code, error = next(iter(said.items()))
        return f"{code}: {quote(error)}; {place_of_logs()}"
    return f"no known error code; read the log; {place_of_logs()}"


def quote(error: Error) -> str:
    """Return the words of an error, cut where they get long."""
    solution = f"; Solution: {error.solution[:MAX_WORDS]}" if error.solution else ""
    return error.words[:MAX_WORDS] + solution
