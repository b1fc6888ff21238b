"""The compiler of the stand-in `atc`: checks an ONNX model and turns it into a stand-in .om."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import onnx
import standin
from onnx import TensorProto, numpy_helper, shape_inference
from standin_atc import FP32_MODES, KERNELS, AtcError, invalid, parse_profiles
from standin_calibration import check_calibration
from standin_half import parse_aipp, to_half

OPSETS = range(11, 18)
_PARSERS = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant
    ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace Div Dropout Elu Equal Erf Exp
    Expand Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool
    Greater GreaterOrEqual HardSigmoid HardSwish Identity If InstanceNormalization LSTM
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop MatMul Max MaxPool Mean Min
    Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow RandomNormalLike Range
    Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize
    RoiAlign Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax
    Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Where Xor
"""
PARSERS = set(_PARSERS.split())
DTYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
HIDDEN_INPUT = {"name": "ascend_mbatch_shape_data", "shape": [1], "dtype": "int32", "hidden": True}


def node_name(graph: onnx.GraphProto, index: int) -> str:
    """Return the name of a node, or one made of its type and place as the real parser does."""
    return graph.node[index].name or f"{graph.node[index].op_type}_{index}"


def check_operators(model: onnx.ModelProto, soc_version: str) -> None:
    """Refuse opset domains, opset versions, operators and chips without a kernel."""
    domains = len(model.opset_import)
    if domains != 1:
        text = f"The model has [{domains}] [--domain_version] fields, but only one is allowed."
        raise AtcError("E16005", text)
    opset = model.opset_import[0].version
    for index, node in enumerate(model.graph.node):
        name = node_name(model.graph, index)
        if node.domain or opset not in OPSETS or node.op_type not in PARSERS:
            code = "EZ9010" if standin.cann_at_least(8) else "E19010"
            kind = f"{node.domain or 'ai.onnx'}::{opset}::{node.op_type}"
            raise AtcError(code, f"No parser is registered for Op [{name}, optype [{kind}]].")
        if node.op_type == "NonMaxSuppression" and len([n for n in node.input if n]) < 5:
            os.kill(os.getpid(), signal.SIGSEGV)  # the real one: no message, no score_threshold
        if soc_version not in KERNELS:
            kind = {"Conv": "Conv2D"}.get(node.op_type, node.op_type)
            text = f"No supported Ops kernel and engine are found for [{name}], optype [{kind}]."
            raise AtcError("EZ3003", text)


def model_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller feeds: those that are no weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def asked_shapes(text: str, names: list[str]) -> dict[str, list[int]]:
    """Return the shapes of --input_shape; -1 stays -1. Raises AtcError for one it cannot read."""
    shapes = {}
    for part in filter(None, text.split(";")):
        name, _, dims = part.rpartition(":")
        if not name or not re.fullmatch(r"\s*-?\d+(\s*,\s*-?\d+)*\s*", dims):
            raise AtcError("E10002", f"Value [{text}] for parameter [--input_shape] is invalid.")
        if name not in names:
            text = f"Opname [{name}] specified in [--input_shape] is not found in the model."
            raise AtcError("E10016", text)
        shapes[name] = [int(dim) for dim in dims.split(",")]
    return shapes


def fix_shape(value: onnx.ValueInfoProto, asked: list[int] | None, dynamic: bool) -> list[int]:
    """Return the shape that an input gets (-1: dynamic batch). Raises AtcError."""
    dims = value.type.tensor_type.shape.dim
    own = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
    shape = asked or own
    if not asked and min(own) < 1:
        raise AtcError(
            "E10001",
            f"Value [-1] for parameter [{value.name}] is invalid. Reason: maybe you should set "
            "input_shape to specify its shape.",
        )
    if len(shape) != len(own):
        text = f"Dimension count [{len(shape)}] configured in --input_shape does not match"
        raise AtcError("E10049", f"{text} dimension count [{len(own)}] of the node.")
    if dynamic and -1 in shape[1:]:
        raise AtcError("E10018", f"Value [-1] for shape {shape} is invalid: only the batch can be.")
    if min(shape) < 1 and not (dynamic and shape[0] == -1):
        text = "Shape values must be positive integers."
        raise AtcError("E10011", f"Value [{shape}] for parameter [--input_shape]: {text}")
    if any(fixed > 0 and fixed != new for fixed, new in zip(own, shape, strict=True)):
        reason = f"the model fixes [{value.name}] to {own}"
        raise invalid("input_shape", str(shape), reason)
    return shape


def round_weights(graph: onnx.GraphProto) -> None:
    """Round every float32 weight of the graph, initializers and constants, to float16 values."""
    tensors = list(graph.initializer)
    for node in graph.node:
        tensors += [attribute.t for attribute in node.attribute if attribute.name == "value"]
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT:
            half = to_half(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))


def output_shapes(model: onnx.ModelProto, shapes: dict[str, list[int]], batch: int) -> list:
    """Return the shape of every output where -1 of the inputs is `batch`. Raises AtcError."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in model_inputs(fixed):
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = batch if size == -1 else size
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    try:
        inferred = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        raise AtcError("E19999", f"Infer shape failed: {error}") from None
    dims = [value.type.tensor_type.shape.dim for value in inferred.graph.output]
    return [[dim.dim_value for dim in each] for each in dims]


def describe_outputs(model: onnx.ModelProto, flags: dict[str, str], shapes: dict) -> list[dict]:
    """Return name, shape and dtype of the outputs; names are `node:index:output` as in an .om."""
    batches = parse_profiles(flags["dynamic_batch_size"]) if "dynamic_batch_size" in flags else []
    wanted = flags.get("output_type", "")
    if wanted and not re.fullmatch(r"FP32|FP16|\S+:\d+:FP(32|16)(;\S+:\d+:FP(32|16))*", wanted):
        raise invalid("output_type", wanted, "the stand-in plays FP32 and FP16")
    made_by = {
        name: (node_name(model.graph, index), k)
        for index, node in enumerate(model.graph.node)
        for k, name in enumerate(node.output)
    }
    outputs = []
    for value, shape in zip(
        model.graph.output, output_shapes(model, shapes, max(batches, default=1)), strict=True
    ):
        node, k = made_by[value.name]
        dtype = DTYPES[value.type.tensor_type.elem_type]
        chosen = dict(part.rsplit(":", 1) for part in wanted.split(";") if ":" in part)
        chosen = chosen.get(f"{node}:{k}", wanted if ":" not in wanted else "")
        if chosen and dtype in ("float32", "float16"):
            dtype = {"FP32": "float32", "FP16": "float16"}[chosen]
        shape = [-1, *shape[1:]] if batches else shape
        outputs.append({"name": f"{node}:{k}:{value.name}", "shape": shape, "dtype": dtype})
    return outputs


def describe_inputs(model: onnx.ModelProto, flags: dict[str, str], shapes: dict) -> list[dict]:
    """Return name, shape, dtype and layout of the inputs, AIPP's and float16's included."""
    names = [value.name for value in model_inputs(model)]
    halves = list(filter(None, flags.get("input_fp16_nodes", "").split(";")))
    for name in halves:
        if name not in names:
            text = f"Opname [{name}] specified in [--input_fp16_nodes] is not found in the model."
            raise AtcError("E10016", text)
    if "insert_op_conf" in flags and names[0] in halves:
        text = f"Nodes (for example, [{names[0]}]) connected to AIPP must not be of type fp16."
        raise AtcError("E10034", text)
    layout = flags.get("input_format", "NCHW")
    inputs = []
    for value in model_inputs(model):
        dtype = DTYPES[value.type.tensor_type.elem_type]
        dtype = "float16" if value.name in halves else dtype
        shape = shapes[value.name]
        inputs.append({"name": value.name, "shape": shape, "dtype": dtype, "layout": layout})
    if "insert_op_conf" in flags:  # uint8 NHWC, whatever --input_format says
        batch, channels, height, width = inputs[0]["shape"]
        inputs[0] |= {"shape": [batch, height, width, channels], "dtype": "uint8", "layout": "NHWC"}
    return inputs + ([HIDDEN_INPUT] if "dynamic_batch_size" in flags else [])


def read_aipp(flags: dict[str, str], shape: list[int]) -> dict | None:
    """Return the settings of --insert_op_conf for an input (N, 3, H, W). Raises AtcError."""
    if "insert_op_conf" not in flags:
        return None
    if len(shape) != 4 or shape[1] != 3:
        raise AtcError("E10052", f"AIPP configuration is invalid. Reason: an input of {shape}.")
    try:
        return parse_aipp(Path(flags["insert_op_conf"]).read_text(), *shape[2:])
    except ValueError as error:
        raise AtcError("E10052", f"AIPP configuration is invalid. Reason: {error}.") from None


def compile_model(flags: dict[str, str]) -> tuple[dict[str, Any], bytes, list[str]]:
    """Return header and ONNX bytes of the .om, and the kinds of operator it uses."""
    try:
        model = onnx.load(flags["model"])
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and onnx have no common base class for their errors
        raise AtcError("E10041", f"Failed to load the model from [--model]. {error}") from None
    check_operators(model, flags["soc_version"])
    dynamic = "dynamic_batch_size" in flags
    batches = parse_profiles(flags["dynamic_batch_size"]) if dynamic else None
    inputs = model_inputs(model)
    asked = asked_shapes(flags.get("input_shape", ""), [value.name for value in inputs])
    if dynamic and not any(shape[0] == -1 for shape in asked.values()):
        text = "none of the nodes specified in --input_shape has a batch size equaling -1."
        raise AtcError("E10031", f"--dynamic_batch_size is included, but {text}")
    shapes = {value.name: fix_shape(value, asked.get(value.name), dynamic) for value in inputs}
    described = describe_inputs(model, flags, shapes)
    aipp = read_aipp(flags, shapes[inputs[0].name])
    own = {one.name: (DTYPES[one.type.tensor_type.elem_type], shapes[one.name]) for one in inputs}
    calibrated = check_calibration(flags, own)
    if calibrated:
        print(calibrated)
    modes = {flags.get("precision_mode"), flags.get("precision_mode_v2")}
    header = {
        "soc_version": flags["soc_version"],
        "cann": standin.cann_version(),
        "flags": flags,
        "batches": batches,
        "fp32": bool(modes & FP32_MODES),
        "aipp": aipp,
        "inputs": described,
        "outputs": describe_outputs(model, flags, shapes),
    }
    round_weights(model.graph)
    return header, model.SerializeToString(), sorted({node.op_type for node in model.graph.node})
