"""Python's operators on tensors: `+`, `@`, `<`, `x[i]`, `bool(x)`, ... registered with the recorder by slot name.

In: functions. Out: nothing; importing this module installs them. Binary slots take functions of exactly two operands,
which the recorder calls without binding arguments. Next: `methods.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau import border
from flambeau.declarations import in_place
from flambeau.functions import arithmetic, compare, indexing, inplace, linear
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor, set_slot


def _inplace_matmul(x: Tensor, y: Tensor) -> Tensor:
    return inplace.copy_(x, linear.matmul(x, y))


def _invert(x: Tensor) -> Tensor:
    try:
        return compare.bitwise_not(x)
    except NotImplementedError as error:  # an operator that a type does not have is a TypeError
        raise TypeError(str(error)) from None


_SLOTS: dict[str, Any] = {
    "nb_add": arithmetic.plus,
    "nb_subtract": arithmetic.minus,
    "nb_multiply": arithmetic.mul,
    "nb_true_divide": arithmetic.over,
    "nb_floor_divide": arithmetic.floor_divide,
    "nb_remainder": arithmetic.remainder,
    "nb_power": arithmetic.pow,
    "nb_matrix_multiply": linear.matmul_operator,
    "nb_and": compare.bitwise_and,
    "nb_or": compare.bitwise_or,
    "nb_xor": compare.bitwise_xor,
    "nb_lshift": compare.bitwise_left_shift,
    "nb_rshift": compare.bitwise_right_shift,
    "nb_negative": arithmetic.neg,
    "nb_positive": arithmetic.positive,
    "nb_absolute": arithmetic.abs,
    "nb_invert": _invert,
    "lt": compare.lt,
    "le": compare.le,
    "eq": compare.eq,
    "ne": compare.ne,
    "gt": compare.gt,
    "ge": compare.ge,
    "nb_inplace_add": inplace.plus_,
    "nb_inplace_subtract": inplace.minus_,
    "nb_inplace_multiply": in_place("mul"),
    "nb_inplace_true_divide": inplace.over_,
    "nb_inplace_floor_divide": in_place("floor_divide"),
    "nb_inplace_remainder": in_place("remainder"),
    "nb_inplace_power": inplace.pow_,
    "nb_inplace_matrix_multiply": _inplace_matmul,
    "nb_inplace_and": in_place("bitwise_and"),
    "nb_inplace_or": in_place("bitwise_or"),
    "nb_inplace_xor": in_place("bitwise_xor"),
    "nb_inplace_lshift": in_place("bitwise_left_shift"),
    "nb_inplace_rshift": in_place("bitwise_right_shift"),
    "nb_bool": recorder.to_bool,
    "nb_int": recorder.to_int,
    "nb_float": recorder.to_float,
    "nb_index": recorder.to_index,
    "mp_subscript": indexing.getitem,
    "mp_ass_subscript": indexing.setitem,
}

recorder.set_hooks(
    window=indexing.window, copy=inplace.copy_values, fill=inplace.fill_
)  # views by index, and writing to them
border.recalled[_invert] = "operand"
for _name, _callable in _SLOTS.items():
    _known = _callable in border.recalled
    set_slot(_name, border.public(_callable, _callable.__name__.lstrip("_")) if _known else _callable)
