"""Nodes of ONNX models with inputs: what test_onnx.py computes here, by ONNX's own reference and by ONNX Runtime.

A case is a kind, inputs (arrays; None where one is left out), attributes, and how many results; `constant` inputs are initializers.
`by_reference` is False where ONNX's own reference lacks the variant or has it wrong: ONNX Runtime alone judges these.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


class Case(NamedTuple):
    kind: str
    inputs: list[Any]
    attributes: dict[str, Any]
    results: int = 1
    version: int = 21
    label: str = ""
    constant: tuple[int, ...] = ()
    by_reference: bool = True


def case(kind, *inputs, results=1, version=21, constant=(), by_reference=True, **attributes):
    label = f"{kind}-{version}-" + "-".join(f"{k}={v}" for k, v in attributes.items() if k != "body")
    return Case(kind, list(inputs), attributes, results, version, label, constant, by_reference)


def model(c):
    """A model of one node, its inputs by name, and the names of its results."""
    names = [f"x{k}" if x is not None else "" for k, x in enumerate(c.inputs)]
    outputs = [f"y{k}" for k in range(c.results)]
    node = helper.make_node(c.kind, names, outputs, name="it", **c.attributes)
    feeds = {n: np.asarray(x) for k, (n, x) in enumerate(zip(names, c.inputs)) if n and k not in c.constant}
    types = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in feeds.items()
    ]
    given = [numpy_helper.from_array(c.inputs[k], names[k]) for k in c.constant]
    results = [helper.make_value_info(o, onnx.TypeProto()) for o in outputs]
    graph = helper.make_graph([node], "case", types, results, given)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", c.version)], ir_version=10)
    made = onnx.shape_inference.infer_shapes(made)
    for value in made.graph.output:  # what is not inferred
        if not value.type.HasField("tensor_type"):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return made, feeds, outputs


x, y = normal(2, 3, 4), normal(2, 3, 4, seed=1)
maps, image = normal(2, 4, 7, 6), normal(1, 2, 5, 4)
whole = np.arange(-6, 6).reshape(3, 4)
bytes_ = np.random.default_rng(0).integers(-128, 128, (4, 5), np.int8)
unsigned, pixels = (np.random.default_rng(1).integers(0, 256, shape, np.uint8) for shape in ((4, 5), (1, 2, 6, 5)))
kernels = np.random.default_rng(2).integers(-128, 128, (3, 2, 3, 3), np.int8)
kernels_u = kernels.view(np.uint8)
some = np.array([7, -7, 9, -9, 5])
sequence, hidden = normal(5, 3, 4), 6


def recurrent(kind, gates, directions=1, states=1, **more):
    inputs = [
        sequence,
        normal(directions, gates * hidden, 4) / 2,
        normal(directions, gates * hidden, hidden) / 2,
        normal(directions, 2 * gates * hidden) / 2,
    ]
    lengths = more.pop("lengths", None)
    first = [normal(directions, 3, hidden, seed=k) for k in range(more.pop("given", 0))]
    peepholes = [normal(1, 3 * hidden)] if more.pop("peepholes", False) else []
    direction = {1: more.pop("direction", "forward"), 2: "bidirectional"}[directions]
    every = [*inputs, lengths, *first, *peepholes]
    return case(kind, *every, results=states + 1, hidden_size=hidden, direction=direction, constant=(1, 2, 3), **more)


CASES = [
    *(
        case(kind, x)
        for kind in [
            "Abs",
            "Atan",
            "Ceil",
            "Cos",
            "Erf",
            "Exp",
            "Floor",
            "HardSwish",
            "Mish",
            "Neg",
            "Relu",
            "Round",
            "Sigmoid",
            "Sign",
            "Sin",
        ]
    ),
    *(
        case(kind, x)
        for kind in [
            "Sinh",
            "Softplus",
            "Softsign",
            "Tan",
            "Tanh",
            "Identity",
            "Reciprocal",
            "IsNaN",
            "Elu",
            "Selu",
            "Celu",
            "HardSigmoid",
        ]
    ),
    *(case(kind, np.abs(x) / 4) for kind in ["Acos", "Asin", "Atanh", "Log", "Sqrt"]),
    *(case(kind, np.abs(x) + 1) for kind in ["Acosh", "Cosh", "Asinh"]),
    *(
        case(kind, x, y)
        for kind in [
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Max",
            "Min",
            "Sum",
            "Mean",
            "Greater",
            "Less",
            "LessOrEqual",
            "GreaterOrEqual",
            "Equal",
        ]
    ),
    *(case(kind, x > 0, y > 0) for kind in ["And", "Or", "Xor"]),
    case("Not", x > 0),
    case("LeakyRelu", x, alpha=0.3),
    case("ThresholdedRelu", x),
    case("Shrink", x, lambd=0.3, bias=0.1),
    case("PRelu", x, normal(3, 1)),
    case("Gelu", x),
    case("Gelu", x, approximate="tanh"),
    case("Div", some, ints(2, 2, -4, 4, 5)),
    case("Mod", some, ints(2, 2, -4, 4, 5)),
    case("Mod", some, ints(2, 2, -4, 4, 5), fmod=1),
    case("Pow", np.abs(x), y),
    case("Pow", x, ints(2)),
    case("Where", x > 0, x, y),
    case("Cast", x * 3, to=TensorProto.INT32),
    case("CastLike", whole, x),
    case("Clip", x, np.float32(-0.5), np.float32(0.5)),
    case("Clip", x, version=6, min=-0.5, max=0.25),
    case("IsInf", np.float32([1, np.inf, -np.inf]), detect_negative=0),
    case("BitShift", np.uint8([1, 6]), np.uint8([2, 1]), direction="LEFT"),
    case("Softmax", x),
    case("Softmax", x, axis=1, version=11, by_reference=False),
    case("LogSoftmax", x, axis=0),
    case("Hardmax", x),
    case("MatMul", x, normal(4, 2)),
    case("Gemm", normal(3, 2), normal(4, 3), normal(4), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", normal(2, 3), normal(3, 4)),
    case("Einsum", x, y, equation="bij,bkj->bik"),
    case("Det", normal(2, 3, 3)),
    case("Conv", maps, normal(6, 2, 3, 3), normal(6), group=2, strides=[2, 1], pads=[1, 0, 1, 2], dilations=[1, 2]),
    case("Conv", maps, normal(3, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", x, normal(2, 3, 2), auto_pad="SAME_LOWER"),
    case("Conv", normal(1, 2, 4, 4, 4), normal(2, 2, 2, 2, 2)),
    case(
        "ConvTranspose", image, normal(2, 3, 3, 3), normal(3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    ),
    case("ConvTranspose", image, normal(2, 2, 3, 3), strides=[2, 3], pads=[0, 1, 2, 1]),
    case("ConvTranspose", image, normal(2, 2, 3, 3), strides=[3, 2], output_shape=[14, 9], by_reference=False),
    case("MaxPool", maps, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    case("MaxPool", maps, kernel_shape=[2, 2], results=2, by_reference=False),
    case("MaxPool", maps, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case("MaxPool", x, kernel_shape=[2], auto_pad="SAME_UPPER", by_reference=False),
    case("MaxPool", maps, kernel_shape=[3, 3], dilations=[2, 2]),
    case("AveragePool", maps, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", maps, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1),
    case("AveragePool", maps, kernel_shape=[2, 2], dilations=[2, 1], strides=[1, 2], ceil_mode=1),
    case("LpPool", maps, kernel_shape=[3, 3], strides=[2, 2], p=3),
    case("GlobalAveragePool", maps),
    case("GlobalMaxPool", maps),
    case(
        "BatchNormalization", maps, normal(4), normal(4, seed=1), normal(4, seed=2), np.abs(normal(4)) + 1, epsilon=1e-3
    ),
    case(
        "BatchNormalization",
        maps,
        normal(4),
        normal(4, seed=1),
        normal(4, seed=2),
        np.abs(normal(4)) + 1,
        training_mode=1,
        results=3,
    ),
    case("InstanceNormalization", maps, normal(4), normal(4, seed=1)),
    case("LayerNormalization", x, normal(4), normal(4, seed=1)),
    case("LayerNormalization", x, normal(3, 4), axis=1, results=3),
    case("GroupNormalization", maps, normal(4), normal(4), num_groups=2),
    case("GroupNormalization", maps, normal(2), normal(2), num_groups=2, version=18),
    case("RMSNormalization", x, normal(4), version=23),
    case("LpNormalization", x, p=1, by_reference=False),
    case("MeanVarianceNormalization", maps),
    case("LRN", maps, size=3, by_reference=False),
    *(
        case(f"Reduce{kind}", x, ints(0, -1))
        for kind in ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare"]
    ),
    case("ReduceSum", x, keepdims=0),
    case("ReduceMean", x, axes=[1], version=13),
    case("ReduceLogSum", np.abs(x), ints(1), keepdims=0),
    case("ReduceSum", x, noop_with_empty_axes=1),
    case("ArgMax", x, axis=1),
    case("ArgMin", whole // 4, axis=1, keepdims=0, select_last_index=1),
    case("CumSum", x, np.array(1), exclusive=1),
    case("CumSum", x, np.array(2), reverse=1),
    case("TopK", x, ints(2), axis=1, results=2),
    case("Shape", x, start=1),
    case("Size", x),
    case("Reshape", x, ints(0, -1, 2)),
    case("Flatten", x, axis=2),
    case("Flatten", x, axis=-1),
    case("Transpose", x, perm=[2, 0, 1]),
    case("Transpose", x),
    case("Squeeze", normal(1, 3, 1), ints(2)),
    case("Squeeze", normal(1, 3, 1)),
    case("Squeeze", normal(1, 3, 1), axes=[0], version=11),
    case("Unsqueeze", x, ints(0, -1)),
    case("Unsqueeze", x, axes=[1, 3], version=11),
    case("Concat", x, y, axis=-1),
    case("Split", x, ints(1, 3), axis=2, results=2),
    case("Split", x, axis=2, num_outputs=3, results=3),
    case("Slice", x, ints(0, 1), ints(9, -1), ints(1, 2), ints(2, 1)),
    case("Slice", x, ints(-1), ints(-9), ints(2), ints(-2)),
    case("Slice", x, starts=[0, 1], ends=[1, 3], axes=[0, 2], version=9),
    case("Expand", normal(3, 1), ints(2, 1, 4)),
    case("Tile", x, ints(1, 2, 3)),
    case("Pad", x, ints(0, 1, 2, 1, 0, 1), np.float32(7)),
    case("Pad", x, ints(0, 1, 2, 0, 1, 1), mode="reflect"),
    case("Pad", x, ints(1, -1), None, ints(2), mode="edge", by_reference=False),
    case("Pad", x, pads=[0, 0, 1, 0, 0, 1], value=2.0, version=2),
    case("Trilu", whole, np.array(1)),
    case("Trilu", whole, upper=0),
    case("EyeLike", x[0], k=1),
    case("DepthToSpace", maps, blocksize=2),
    case("DepthToSpace", maps, blocksize=2, mode="CRD"),
    case("SpaceToDepth", normal(1, 2, 4, 6), blocksize=2),
    case("ConstantOfShape", ints(2, 3), value=numpy_helper.from_array(np.float32([3]))),
    case("Range", *map(np.array, (1, 9, 3))),
    case("Gather", x, ints(0, -1).reshape(1, 2), axis=1),
    case("Gather", x, np.array(-1), axis=2, constant=(1,)),
    case("GatherElements", x, ints(1, 0, -1, 0).reshape(1, 1, 4), axis=1, by_reference=False),
    case("GatherND", x, ints(0, 1, 1, -1).reshape(2, 2)),
    case("GatherND", x, ints(1, -1).reshape(2, 1), batch_dims=1),
    case("OneHot", ints(0, -1, 2), np.array(4), np.float32([2, 5]), axis=0),
    case("ScatterElements", x, ints(1, 0, -1, 0).reshape(1, 1, 4), normal(1, 1, 4), axis=1),
    case("ScatterElements", x, ints(1, 1, 1, 1).reshape(2, 1, 2), normal(2, 1, 2), axis=1, reduction="add"),
    case("ScatterND", x, ints(0, -1, 1, 0).reshape(2, 2), normal(2, 4)),
    case("ScatterND", x, ints(0, 0).reshape(2, 1), y, reduction="max"),
    case("NonZero", x > 0),
    case("Compress", x, np.array([True, False, True]), axis=1),
    case("ReverseSequence", x, ints(2, 1, 2)),
    case("Resize", image, None, np.float32([1, 1, 2, 1.5]), mode="nearest"),
    case("Resize", image, None, None, ints(1, 2, 9, 3), mode="linear", coordinate_transformation_mode="align_corners"),
    case("Resize", image, None, np.float32([1, 1, 0.6, 2]), mode="linear", antialias=1),
    case("Resize", image, None, None, ints(1, 2, 8, 7), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    case(
        "Resize",
        image,
        None,
        np.float32([1, 1, 2, 2]),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    case("Resize", image, np.float32([1, 1, 2, 2]), version=10, mode="linear", by_reference=False),
    case("Upsample", image, np.float32([1, 1, 2, 3]), version=9),
    case("GridSample", image, np.tanh(normal(1, 3, 3, 2)), mode="linear", align_corners=1),
    case("GridSample", image, normal(1, 3, 3, 2), mode="nearest", padding_mode="border"),
    case("QuantizeLinear", x * 9, np.float32(0.1), np.uint8(9)),
    case("DequantizeLinear", np.int8([[1, -2], [3, 9]]), np.float32([1, 2]), np.int8([0, 1]), axis=0),
    case("DequantizeLinear", bytes_[:, :3], np.float32([[1, 2, 3], [4, 5, 6]]), axis=0, block_size=2),
    case("QuantizeLinear", x * 9, np.float32([0.1, 0.2, 0.3]), np.int8([1, -2, 3]), axis=1),
    case("DynamicQuantizeLinear", x, results=3),
    case("DynamicQuantizeLinear", np.abs(x), results=3),
    case("MatMulInteger", unsigned, bytes_.T.copy(), np.uint8(7), np.int8(-3)),
    case("MatMulInteger", unsigned, bytes_.T.copy()),
    case("MatMulInteger", unsigned, bytes_.T.copy(), np.uint8(5), np.int8([4, 3, 2, 1]), by_reference=False),
    case("ConvInteger", pixels, kernels_u, np.uint8(3), np.uint8(9), pads=[1, 0, 1, 1], strides=[2, 1]),
    case(
        "QLinearMatMul",
        unsigned,
        np.float32(0.1),
        np.uint8(9),
        bytes_.T.copy(),
        np.float32(0.2),
        np.int8(1),
        np.float32(3),
        np.uint8(100),
    ),
    case(
        "QLinearConv",
        pixels,
        np.float32(0.1),
        np.uint8(3),
        kernels,
        np.float32([0.2, 0.1, 0.3]),
        np.int8([0, 0, 0]),
        np.float32(30),
        np.uint8(128),
        np.int32([5, -900, 70]),
        pads=[1, 1, 1, 1],
        constant=(3, 4, 5),
    ),
    recurrent("GRU", 3, given=1),
    recurrent("GRU", 3, 2, linear_before_reset=1),
    recurrent("LSTM", 4, 2, states=2, given=2),
    recurrent("LSTM", 4, states=2, direction="reverse"),
    recurrent("LSTM", 4, states=2, given=2, peepholes=True),
    recurrent("RNN", 1),
    recurrent("RNN", 1, activations=["Relu"], clip=0.4, by_reference=False),
    recurrent("GRU", 3, clip=0.5, linear_before_reset=1, direction="reverse", by_reference=False),
]

#: With sequences of several lengths, which ONNX's own reference does not have: ONNX Runtime has.
LENGTHS = [
    recurrent("LSTM", 4, 2, states=2, lengths=np.int32([5, 2, 4])),
    recurrent("GRU", 3, lengths=np.int32([1, 5, 3])),
]
