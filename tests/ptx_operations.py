"""What PTX instructions compute, on NumPy arrays with one element per thread, as NVIDIA's PTX ISA says.

In: an opcode such as "mul.wide.u32". Out: its `Operation`. Loads, stores, branches and what concerns several threads:
`ptx_interpreter.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from fused import fma

PRED = "pred"
_FLOATING = r"(?P<type>f32|f64)"
_INTEGER = r"(?P<type>[su](?:16|32|64))"
_BITS = r"(?P<type>b(?:16|32|64))"
_LOGIC = r"(?P<type>pred|b(?:16|32|64))"
_ANY = r"(?P<type>[bsuf](?:16|32|64))"


class Operation(NamedTuple):
    """`function` of arrays of the types `operands` gives an array of the type `result`."""

    function: Callable[..., np.ndarray]
    operands: tuple[str, ...]
    result: str


def dtype(type: str) -> np.dtype:
    """b32 and u32 are uint32, s16 int16, f64 float64, pred bool."""
    if type == PRED:
        return np.dtype(bool)
    return np.dtype({"b": "u", "u": "u", "s": "i", "f": "f"}[type[0]] + str(int(type[1:]) // 8))


def bits(type: str) -> int:
    return int(type[1:])


@cache
def find(opcode: str) -> Operation:
    """The operation of an opcode, all of whose modifiers are understood. Raises NotImplementedError for others."""
    for pattern, make in _RULES:
        if found := re.fullmatch(pattern, opcode):
            return make(**found.groupdict())
    raise NotImplementedError(f"the interpreter does not know {opcode}")


# ---- what NumPy does otherwise ----------------------------------------------------------------------------


def _least(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The number beside a NaN; -0.0 is less than 0.0."""
    return np.where((x == 0) & (y == 0), np.where(np.signbit(x), x, y), np.fmin(x, y))


def _greatest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -_least(-x, -y)


def _or_nan(function):
    def either(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(x) | np.isnan(y), np.nan, function(x, y)).astype(x.dtype)

    return either


def _shifted(function, fill):
    """A shift by any amount, which 32 bits hold: beyond the width only `fill(x)` is left."""

    def shift(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
        inside = amount < x.itemsize * 8
        return np.where(inside, function(x, np.where(inside, amount, 0).astype(x.dtype)), fill(x)).astype(x.dtype)

    return shift


def _wide(x: np.ndarray) -> np.ndarray:
    """Integers of twice the width."""
    return x.astype(x.dtype.kind + str(2 * x.itemsize))


def _divided(function):
    """Of whole numbers, without a sign; what the quotient by zero is nobody says."""

    def divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        assert np.all(y != 0), "a division by zero"
        return function(x, y)

    return divide


def _high(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((_wide(x) * _wide(y)) >> (x.itemsize * 8)).astype(x.dtype)


def _to_integer(to: str, x: np.ndarray) -> np.ndarray:
    """Towards zero, clamped to the range. NaN: 0 from f32 to at most 32 bits, else only the highest bit is set."""
    info = np.iinfo(dtype(to))
    whole, top = np.trunc(x), float(2 ** (bits(to) - (to[0] == "s")))
    inside = (whole >= info.min) & (whole < top)
    result = np.where(inside, whole, 0).astype(dtype(to))
    result = np.where(whole >= top, info.max, result)
    result = np.where(whole < info.min, info.min, result)
    short = x.dtype == np.float32 and bits(to) < 64
    highest = np.array(1 << (bits(to) - 1), f"u{bits(to) // 8}").view(dtype(to))
    return np.where(np.isnan(x), 0 if short else highest, result).astype(dtype(to))


_ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_ORDERED = {
    "eq": np.equal, "ne": lambda x, y: (x < y) | (x > y), "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "num": lambda x, y: ~(np.isnan(x) | np.isnan(y)),
}  # fmt: skip
_INVERSE = {"equ": "ne", "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt", "nan": "num"}
_INTEGERS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal} | {
    "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def _compare(predicate: str, type: str) -> Operation:
    if type[0] != "f":
        function = _INTEGERS[predicate]
    elif predicate in _INVERSE:  # the unordered forms: true beside a NaN
        ordered = _ORDERED[_INVERSE[predicate]]
        function = lambda x, y: ~ordered(x, y)  # noqa: E731
    else:
        function = _ORDERED[predicate]
    return Operation(function, (type, type), PRED)


def _same(functions: dict[str, Callable], arity: int):
    """Operations whose operands and result have one type."""
    return lambda name, type: Operation(functions[name], (type,) * arity, type)


def _extreme(name: str, nan: str | None, type: str) -> Operation:
    if type[0] != "f":
        return Operation({"min": np.minimum, "max": np.maximum}[name], (type, type), type)
    function = {"min": _least, "max": _greatest}[name]
    return Operation(_or_nan(function) if nan else function, (type, type), type)


def _widening(type: str) -> Operation:
    return Operation(lambda x, y: _wide(x) * _wide(y), (type, type), type[0] + str(2 * bits(type)))


def _select(type: str) -> Operation:
    return Operation(lambda x, y, c: np.where(c, x, y), (type, type, PRED), type)


def _convert(to: str, type: str) -> Operation:
    return Operation(lambda x: x.astype(dtype(to)), (type,), to)


def _shift_right(type: str) -> Operation:
    fill = (lambda x: x >> (bits(type) - 1)) if type[0] == "s" else np.zeros_like
    return Operation(_shifted(np.right_shift, fill), (type, "u32"), type)


def _field(type: str) -> Operation:
    """`count` bits from bit `start` on, as numbers of Python: no shift is too far. With a sign it is the field's last bit, or
    the operand's where the field goes further."""
    width = int(type[1:])

    def bits_of(x: int, start: int, count: int) -> int:
        if type[0] == "u":
            return (x >> start) & ((1 << count) - 1)
        last = min(start + count, width) - 1
        sign = (x >> last) & 1 if count else 0
        held = max(min(count, width - start), 0)
        return ((x >> start) & ((1 << held) - 1)) - (sign << held)

    def taken(x: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
        return np.array([bits_of(*map(int, each)) for each in zip(x, start & 255, count & 255)], dtype(type))

    return Operation(taken, (type, "u32", "u32"), type)


def _leading_zeros(type: str) -> Operation:
    """How many bits are 0 from the highest one on."""
    width = int(type[1:])

    def counted(x: np.ndarray) -> np.ndarray:
        return np.array([width - int(each).bit_length() for each in x.ravel()], np.uint32).reshape(x.shape)

    return Operation(counted, (type,), "u32")


_RULES: list[tuple[str, Callable[..., Operation]]] = [
    (rf"(?P<name>add|sub)\.{_INTEGER}", _same({"add": np.add, "sub": np.subtract}, 2)),
    (rf"(?P<name>add|sub|mul|div)\.rn\.{_FLOATING}",
     _same({"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}, 2)),
    (r"(?P<name>div|rem)\.(?P<type>u(?:16|32|64))", _same({"div": _divided(np.floor_divide), "rem": _divided(np.remainder)}, 2)),
    (r"bfe\.(?P<type>[us](?:32|64))", _field),
    (r"clz\.(?P<type>b(?:32|64))", _leading_zeros),
    (rf"(?P<name>rcp|sqrt)\.rn\.{_FLOATING}", _same({"rcp": lambda x: x.dtype.type(1) / x, "sqrt": np.sqrt}, 1)),
    (rf"(?P<name>fma)\.rn\.{_FLOATING}", _same({"fma": fma}, 3)),
    (rf"(?P<name>mul)\.lo\.{_INTEGER}", _same({"mul": np.multiply}, 2)),
    (r"(?P<name>mul)\.hi\.(?P<type>[su](?:16|32))", _same({"mul": _high}, 2)),
    (r"mul\.wide\.(?P<type>[su](?:16|32))", _widening),
    (rf"(?P<name>mad)\.lo\.{_INTEGER}", _same({"mad": lambda x, y, z: x * y + z}, 3)),
    (r"(?P<name>abs|neg)\.(?P<type>f32|f64|s32|s64)", _same({"abs": np.abs, "neg": np.negative}, 1)),
    (rf"(?P<name>copysign)\.{_FLOATING}", _same({"copysign": lambda sign, x: np.copysign(x, sign)}, 2)),
    (rf"(?P<name>and|or|xor)\.{_LOGIC}",
     _same({"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}, 2)),
    (rf"(?P<name>not)\.{_LOGIC}", _same({"not": np.invert}, 1)),
    (rf"shl\.{_BITS}", lambda type: Operation(_shifted(np.left_shift, np.zeros_like), (type, "u32"), type)),
    (r"shr\.(?P<type>[bsu](?:16|32|64))", _shift_right),
    (rf"(?P<name>min|max)(?P<nan>\.NaN)?\.{_FLOATING}", _extreme),
    (rf"(?P<name>min|max)(?P<nan>)\.{_INTEGER}", _extreme),
    (rf"setp\.(?P<predicate>eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|nan|num)\.{_FLOATING}", _compare),
    (r"setp\.(?P<predicate>eq|ne|lt|le|gt|ge)\.(?P<type>[bsu](?:16|32|64))", _compare),
    (rf"selp\.{_ANY}", _select),
    (r"cvt\.(?P<name>rni|rzi|rmi|rpi)\.(?P<type>f32|f64)\.(?P=type)", _same(_ROUND, 1)),
    (r"cvt\.rzi\.(?P<to>[su](?:32|64))\.(?P<type>f32|f64)",
     lambda to, type: Operation(lambda x: _to_integer(to, x), (type,), to)),
    (r"cvt\.rn\.(?P<to>f32|f64)\.(?P<type>[su](?:16|32|64))", _convert),
    (r"cvt\.(?P<to>f64)\.(?P<type>f32)|cvt\.rn\.(?P<to2>f32)\.(?P<type2>f64)",
     lambda to, type, to2, type2: _convert(to or to2, type or type2)),
    (r"cvt\.(?P<to>[su](?:16|32|64))\.(?P<type>[su](?:16|32|64))", _convert),
]  # fmt: skip
