"""Elementwise ops as ONNX nodes. What ONNX lacks is made of what it has, so its rounding is not ours there."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flambeau.dialects.dtypes import bool_, int32
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, same
from flambeau.onnx.builder import OnnxBuilder, Unwritten, writes

#: Of numbers; of bools and whole numbers there may be others, below.
_SAME = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "add": "Add", "asin": "Asin", "asinh": "Asinh", "atan": "Atan",
    "atanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "div": "Div", "eq": "Equal", "erf": "Erf", "exp": "Exp",
    "floor": "Floor", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "log": "Log", "lt": "Less", "maximum": "Max",
    "minimum": "Min", "mul": "Mul", "neg": "Neg", "pow": "Pow", "round": "Round", "select": "Where", "sigmoid": "Sigmoid",
    "sign": "Sign", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip
_OF_BOOLS = {
    "add": "Or",
    "maximum": "Or",
    "minimum": "And",
    "mul": "And",
    "and_": "And",
    "or_": "Or",
    "xor": "Xor",
    "not_": "Not",
}
_OF_BITS = {"and_": "BitwiseAnd", "or_": "BitwiseOr", "xor": "BitwiseXor", "not_": "BitwiseNot"}
_COMPARISONS = ("ge", "gt", "le", "lt", "eq")


def operands(b: OnnxBuilder, node: Node) -> list[str]:
    """The operands' names, unstretched where ONNX stretches them to the shape of the result."""
    short = [b.unstretched.get(v, v) if v not in b.names else v for v in node.operands]
    (result,) = node.results
    if _stretched([b.shape(v) for v in short]) != b.shape(result):
        short[0] = node.operands[0]
        if _stretched([b.shape(v) for v in short]) != b.shape(result):
            short = list(node.operands)
    return [b.name(v) for v in short]


def _stretched(shapes: Sequence[tuple[Int, ...]]) -> tuple[Int, ...]:
    """The shape that these are stretched to, which can be: of every dimension the size that is not 1."""
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((n for n in sizes if not same(n, 1)), 1) for sizes in zip(*aligned))


@writes(*_SAME, *_OF_BITS)
def _same(b: OnnxBuilder, node: Node) -> str:
    given, dtype = operands(b, node), b.aval(node.operands[-1]).dtype
    name = node.op.name
    if dtype is bool_ and name in _COMPARISONS[:4]:
        given = [b.cast(x, int32) for x in given]
    elif dtype is bool_ and name in _OF_BOOLS:
        return b.node(_OF_BOOLS[name], *given)
    elif name in _OF_BITS:
        return b.node(_OF_BITS[name], *given)
    return b.node(_SAME[name], *given)


@writes("ne")
def _ne(b: OnnxBuilder, node: Node) -> str:
    return b.node("Not", b.node("Equal", *operands(b, node)))


@writes("cast")
def _cast(b: OnnxBuilder, node: Node) -> str:
    return b.cast(b.name(node.operands[0]), node.attrs[0])


@writes("canonical_nan", "canonical_nan_of_root", "check_index", "check_range", "to_device")
def _as_it_is(b: OnnxBuilder, node: Node) -> str:
    """Checks are not written: ONNX's programs do not say why they fail."""
    return b.name(node.operands[0])


@writes("rsqrt")
def _rsqrt(b: OnnxBuilder, node: Node) -> str:
    return b.node("Reciprocal", b.node("Sqrt", *operands(b, node)))


@writes("trunc")
def _trunc(b: OnnxBuilder, node: Node) -> str:
    (x,) = operands(b, node)
    return b.node("Mul", b.node("Sign", x), b.node("Floor", b.node("Abs", x)))


@writes("erfc", "expm1", "log1p", "exp2", "log2", "log10", "logit")
def _of_one(b: OnnxBuilder, node: Node) -> str:
    (x,), name, v = operands(b, node), node.op.name, node.operands[0]
    one = b.like(v, 1)
    if name == "erfc":
        return b.node("Sub", one, b.node("Erf", x))
    if name == "expm1":
        return b.node("Sub", b.node("Exp", x), one)
    if name == "log1p":
        return b.node("Log", b.node("Add", x, one))
    if name == "exp2":
        return b.node("Exp", b.node("Mul", x, b.like(v, math.log(2))))
    if name == "logit":
        return b.node("Log", b.node("Div", x, b.node("Sub", one, x)))
    return b.node("Div", b.node("Log", x), b.like(v, math.log(2 if name == "log2" else 10)))


@writes("logaddexp")
def _logaddexp(b: OnnxBuilder, node: Node) -> str:
    x, y = operands(b, node)
    away = b.node("Exp", b.node("Neg", b.node("Abs", b.node("Sub", x, y))))
    return b.node("Add", b.node("Max", x, y), b.node("Log", b.node("Add", away, b.like(node.operands[0], 1))))


@writes("hypot")
def _hypot(b: OnnxBuilder, node: Node) -> str:
    x, y = operands(b, node)
    return b.node("Sqrt", b.node("Add", b.node("Mul", x, x), b.node("Mul", y, y)))


@writes("fmod", "int_rem", "remainder", "floor_div", "int_div")
def _remainders(b: OnnxBuilder, node: Node) -> str:
    x, y = operands(b, node)
    name, is_real = node.op.name, b.aval(node.operands[0]).dtype.is_floating_point
    if name == "fmod" or not is_real:
        rest = b.node("Mod", x, y, fmod=1 if name == "fmod" else 0)
        return b.node("Div", b.node("Sub", x, rest), y) if name in ("int_div", "floor_div") else rest
    down = b.node("Floor", b.node("Div", x, y))
    return down if name == "floor_div" else b.node("Sub", x, b.node("Mul", down, y))


@writes("copysign")
def _copysign(b: OnnxBuilder, node: Node) -> str:
    """Of -0 ONNX cannot tell the sign; it counts as positive."""
    x, y = operands(b, node)
    size = b.node("Abs", x)
    return b.node("Where", b.node("Less", y, b.like(node.operands[1], 0)), b.node("Neg", size), size)


@writes("atan2")
def _atan2(b: OnnxBuilder, node: Node) -> str:
    """The angle of the half plane on the right, turned by half a turn on the left; a quarter where x is 0."""
    y, x = operands(b, node)
    dtype = b.aval(node.operands[0]).dtype
    if not dtype.is_floating_point:
        raise Unwritten(f"of {dtype.name}")
    zero, half, quarter = (b.like(node.operands[0], v) for v in (0, math.pi, math.pi / 2))
    is_left, is_below = b.node("Less", x, zero), b.node("Less", y, zero)
    turned = b.node("Where", is_below, b.node("Neg", half), half)
    angle = b.node("Add", b.node("Atan", b.node("Div", y, x)), b.node("Where", is_left, turned, zero))
    upright = b.node("Mul", b.node("Sign", y), quarter)
    return b.node("Where", b.node("Equal", x, zero), upright, angle)
