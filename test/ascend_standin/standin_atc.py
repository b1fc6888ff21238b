"""The command line of the stand-in `atc`: which options there are and which ones it refuses.

Codes and conditions follow the public error tables of CANN's graph engine and the ATC pages;
what they leave open is marked here with "assumed".
"""

import re
from pathlib import Path

import standin

BOOL_FLAGS = {"help", "h", "enable_single_stream", "enable_compress_weight"}
BOOL_FLAGS |= {"save_original_model", "enable_attr_compression"}
CHOICES = {
    "mode": "0 1 3 5 6 30",
    "framework": "0 1 3 5",
    "log": "debug info warning error null",
    "core_type": "AiCore VectorCore",
    "op_debug_level": "0 1 2 3 4",
    "op_compiler_cache_mode": "enable disable force",
    "buffer_optimize": "l1_optimize l2_optimize off_optimize",
    "shape_generalized_build_mode": "shape_generalized shape_precise",
    "op_select_implmode": "high_precision high_performance high_precision_for_all "
    "high_performance_for_all",
    "precision_mode": "force_fp16 force_fp32 cube_fp16in_fp32out allow_mix_precision "
    "allow_fp32_to_fp16 must_keep_origin_dtype allow_mix_precision_fp16 "
    "allow_mix_precision_bf16 allow_fp32_to_bf16",
    "precision_mode_v2": "fp16 origin cube_fp16in_fp32out mixed_float16 mixed_bfloat16 "
    "cube_hif8 mixed_hif8",
    "deterministic_level": "0 1 2",
    "jit_compile": "0 1 2",
    "input_format": "NCHW ND NCDHW",  # for ONNX, whatever the layout of an AIPP input
}
SWITCHES = {"status_check", "deterministic", "external_weight", "display_model_info"}
SWITCHES |= {"atomic_clean_policy", "dump_mode", "disable_reuse_memory", "sparsity"}
SWITCHES |= {"enable_small_channel", "virtual_type", "export_compile_stat", "is_weight_clip"}
FILES = {"model", "om", "insert_op_conf", "fusion_switch_file", "op_precision_mode"}
FILES |= {"modify_mixlist", "keep_dtype", "compression_optimize_conf"}
_FREE_TEXT = """
    weight json output output_type soc_version input_shape input_hint_shape input_shape_range
    dynamic_batch_size dynamic_image_size dynamic_dims singleop check_report host_env_os
    host_env_cpu aicore_num out_nodes input_fp16_nodes op_name_map is_input_adjust_hw_layout
    is_output_adjust_hw_layout enable_scope_fusion_passes ac_parallel_enable debug_dir
    tiling_schedule_optimize quant_dumpable cluster_config compress_weight_conf mdl_bank_path
    oo_level allow_hf32 customize_dtypes op_bank_path optimization_switch op_debug_config
    optypelist_for_implmode op_compiler_cache_dir auto_tune_mode job_id
"""
KNOWN = BOOL_FLAGS | set(CHOICES) | SWITCHES | FILES | set(_FREE_TEXT.split())
KERNELS = {"Ascend310", "Ascend310P1", "Ascend310P3"}  # targets whose operators are installed
OTHER_CHIPS = re.compile(r"Ascend(310B[1-4]|310P[57]|910(A|B|ProA|ProB|PremiumA|B[1-4]))$")
FP32_MODES = {"force_fp32", "must_keep_origin_dtype", "origin"}
SOLUTIONS = {
    "E10001": "Try again with a valid argument.",
    "E10034": "1. To enable AIPP, remove the nodes connected to AIPP from the "
    "--input_fp16_nodes argument. 2. If AIPP is not required, remove the --insert_op_conf "
    "option from your ATC command line.",
    "E16005": "Invalid ONNX model. If no domain is specified on the operator node, only one "
    "domain can be specified on the model.",
    "E19010": "Check the version of the installation package and reinstall the package. For "
    "details, see the operator specifications.",
    "EZ3003": "1. Check that the OPP component is installed properly. 2. Submit an issue to "
    "request for the support of this operator type.",
    "EZ9010": "Submit an issue to request for support at https://gitee.com/ascend.",
}
TITLES = {"E10001": "Invalid_Argument", "E40020": "Environment_Error_Import_Python_Module_Failed"}
MESSAGES = {  # what STANDIN_ATC_ERROR prints where no real cause gives the words
    "E10001": "Value [-1] for parameter [image] is invalid. Reason: maybe you should set "
    "input_shape to specify its shape.",
    "E10034": "Nodes (for example, [image]) connected to AIPP must not be of type fp16.",
    "E10060": "Parameter is invalid. Reason: Option ge.autoTuneMode has been discarded. "
    "Use the AOE tool.",
    "E16005": "The model has [2] [--domain_version] fields, but only one is allowed.",
    "E19010": "No parser is registered for Op [Nms_0, optype [ai.onnx::11::BatchNms]].",
    "EZ9010": "No parser is registered for Op [Nms_0, optype [ai.onnx::11::BatchNms]].",
    "E40010": "Value [x] for parameter [--auto_tune_mode] is invalid.",
    "EZ3003": "No supported Ops kernel and engine are found for [Conv_0], optype [Conv2D].",
}


class AtcError(Exception):
    """A refusal, with its code (`E10001`; empty where the real one prints none) and words."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


def invalid(flag: str, value: str, reason: str) -> AtcError:
    """Return E10001, the refusal of the value of an option."""
    text = f"Value [{value}] for parameter [--{flag}] is invalid. Reason: {reason}"
    return AtcError("E10001", text)


def exclusive(first: str, second: str) -> AtcError:
    """Return E10056, two options that exclude each other."""
    text = f"Cannot configure both parameters [--{first}] and [--{second}] simultaneously."
    return AtcError("E10056", text)


def parse(argv: list[str]) -> dict[str, str]:
    """Return option -> value as getopt_long of the real atc reads them; the last one wins.

    `-name` is `--name`, a dash inside a name is an underscore, a value may be the next argument.
    """
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = re.sub("^--?", "", name).replace("-", "_") if re.match("--?[a-z]", name) else ""
        if not name:
            raise AtcError("", f"ERROR: Non-option parameter: {word}")
        if name not in KNOWN:
            raise AtcError("", f"ERROR: unknown command line flag '{name}'")
        if not equals and name not in BOOL_FLAGS:
            if not rest:
                raise AtcError("", f"ERROR: flag '--{name}' is missing its argument")
            value = rest.pop(0)
        check_value(name, value)
        flags[name] = value
    return flags


def check_value(name: str, value: str) -> None:
    """Refuse a value outside the list of its option. Raises AtcError."""
    quoted = f"Value [{value}] for parameter [--{name}] is invalid."
    if name in SWITCHES and value not in ("0", "1"):
        raise AtcError("E10006", f"{quoted} The value must be either 1 or 0.")
    if name not in CHOICES or value in CHOICES[name].split():
        return
    if name == "log":
        raise AtcError("E10010", quoted)
    if name == "framework":
        text = "The value must be 0(Caffe) or 1(MindSpore) or 3(TensorFlow) or 5(Onnx)."
        raise AtcError("E10007", f"[--framework] is required. {text}")
    known = " ".join(f"[{choice}]" for choice in CHOICES[name].split())
    raise invalid(name, value, f"The valid range is {known}.")


def check_flags(flags: dict[str, str]) -> None:
    """Refuse what the options of a conversion alone make impossible. Raises AtcError."""
    if "auto_tune_mode" in flags:
        raise AtcError("E10060", MESSAGES["E10060"])
    for name in ("soc_version", "output", "model"):
        if not flags.get(name):
            raise AtcError("E10054", f"The required parameter [--{name}] for ATC is empty.")
    if "framework" not in flags:
        check_value("framework", "")
    if flags["framework"] != "5":
        raise AtcError("E10055", "The stand-in converts only ONNX, --framework=5.")
    for name in FILES & set(flags):
        if not Path(flags[name]).is_file():
            raise AtcError("E13000", f"Path [{flags[name]}] is empty. Reason: --{name}: no file")
    if flags["output"].endswith("/"):
        raise AtcError("E10022", f"Path [{flags['output']}] does not include the file name.")
    check_exclusive(flags)
    soc = flags["soc_version"]
    gone = soc == "Ascend310" and standin.cann_at_least(8, 5)
    if gone or not (soc in KERNELS or OTHER_CHIPS.match(soc)):
        raise invalid("soc_version", soc, "the soc version is not supported")


def check_exclusive(flags: dict[str, str]) -> None:
    """Refuse options that exclude each other. Raises AtcError."""
    dynamic = ["dynamic_batch_size", "dynamic_image_size", "dynamic_dims", "input_shape_range"]
    given = [name for name in dynamic if name in flags]
    if len(given) > 1:
        names = ", ".join(f"--{name}" for name in dynamic)
        raise AtcError("E10009", f"{names} are mutually exclusive.")
    if "precision_mode" in flags and "precision_mode_v2" in flags:
        raise exclusive("precision_mode", "precision_mode_v2")
    if "insert_op_conf" in flags and "dynamic_dims" in flags:
        reason = "The dynamic dims function does not support AIPP."
        raise invalid("insert_op_conf", flags["insert_op_conf"], reason)
    if "is_input_adjust_hw_layout" in flags and "input_fp16_nodes" not in flags:
        reason = "used with --input_fp16_nodes only"
        raise invalid("is_input_adjust_hw_layout", flags["is_input_adjust_hw_layout"], reason)
    if "optypelist_for_implmode" in flags and "op_select_implmode" not in flags:
        reason = "used with --op_select_implmode only"
        raise invalid("optypelist_for_implmode", flags["optypelist_for_implmode"], reason)
    if "compression_optimize_conf" in flags:
        for name in ("precision_mode", "precision_mode_v2", "op_select_implmode"):
            value = flags.get(name, "")
            exact = value in ("force_fp32", "must_keep_origin_dtype", "origin")
            if exact or value.startswith("high_precision"):
                raise exclusive("compression_optimize_conf", f"{name}={value}")  # code assumed
        if "high_precision" in Path(flags.get("op_precision_mode", "/dev/null")).read_text():
            raise exclusive("compression_optimize_conf", "op_precision_mode")
    not_played = ["dynamic_image_size", "dynamic_dims", "input_shape_range", "singleop"]
    not_played += ["is_input_adjust_hw_layout", "is_output_adjust_hw_layout"]
    for name in not_played:
        if name in flags:
            raise AtcError("E10055", f"The stand-in does not play --{name}.")


def parse_profiles(text: str) -> list[int]:
    """Return the profiles of --dynamic_batch_size. Raises AtcError unless 2..100 sizes 1..2048."""
    flag = "--dynamic_batch_size, --dynamic_image_size, or --dynamic_dims"
    if not re.fullmatch(r"-?\d+(,-?\d+)*", text):
        raise invalid("dynamic_batch_size", text, "sizes joined by commas are needed")
    sizes = [int(size) for size in text.split(",")]
    if len(sizes) < 2:
        raise AtcError("E10035", f"{flag} has [{len(sizes)}] profiles, less than the minimum [2].")
    if len(sizes) > 100:
        raise AtcError("E10036", f"{flag} has [{len(sizes)}] profiles, the maximum is [100].")
    for size in sizes:
        if not 1 <= size <= 2048:
            text = f"Dimension size [{size}] is invalid. The value must be in 1..2048."
            raise AtcError("E10038", text)
    if len(set(sizes)) < len(sizes):
        raise AtcError("E10039", f"The {flag} argument have duplicate profiles.")
    return sizes
