"""What the ops of groups that are no generics take and give: one function per op, named by it.

In: a `Call` of a group. Out: `GroupError`, without the op's name, where its operands, attributes or types do not fit. What each
is called and takes is said at `form.Call`. Next: `verify.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from flambeau.compiler.groups.form import Body, Call, Group, GroupError
from flambeau.compiler.groups.slices import reach
from flambeau.compiler.groups.verify_bodies import check_block
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int64
from flambeau.dialects.orders import OrderError, check_order
from flambeau.dialects.size import Int, Size, at_most, same

_Check = Callable[[Call, Sequence[Aval], Aval], None]


def check_call(group: Group, op: Call, scalar: set[int]) -> None:
    """Raise GroupError unless the op is one of a group's, and fits its operands and results."""
    if op.name not in _OPS:
        raise GroupError(f"it is no op of a group. There are {', '.join(_OPS)}, and linalg.generic.")
    names, scalars, check = _OPS[op.name]
    if tuple(name for name, _ in op.attributes) != names:
        given = ", ".join(name for name, _ in op.attributes) or "none"
        raise GroupError(f"its attributes are {given}. Give {', '.join(names) or 'none'}.")
    if len(op.results) != 1:
        raise GroupError(f"it has {len(op.results)} results. Give one.")
    if wrong := [v for k, v in enumerate(op.operands) if v in scalar and k not in scalars(op)]:
        raise GroupError(f"value {wrong[0]} is a scalar. Give a tensor.")
    check(op, [group.avals[v] for v in op.operands], group.avals[op.results[0]])


def _no_scalars(op: Call) -> range:
    return range(0)


def _count(given: Sequence[Aval], count: int) -> None:
    if len(given) != count:
        raise GroupError(f"it takes {len(given)} operands. Give {count}.")


def _like(found: Aval, shape: Sequence[Int], like: Aval) -> None:
    """The result has this shape, and the element type of an operand."""
    expected = Aval(tuple(shape), like.dtype)
    fits = found.dtype is like.dtype and len(found.shape) == len(shape)
    if not fits or not all(map(same, found.shape, shape)):
        raise GroupError(f"it gives {found.mlir}, and its operands {expected.mlir}. Make them agree.")


# ---- numbers ----------------------------------------------------------------------------------------------------


def _constant(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 0)
    literal = str(op.attribute["value"])
    count = literal.count(",") + 1 if literal.startswith("dense<[") else None
    if result.shape != (() if count is None else (count,)):
        raise GroupError(
            f"it gives {result.mlir}, and says {literal[:40]}. Constants are scalars, and tables of rank 1."
        )


def _size(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 0)
    if result != Aval((), int64) or not isinstance(op.attribute["size"], Size):
        raise GroupError(f"it gives {result.mlir}. Sizes known at run time only are scalars of i64.")


def _extract(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 1)
    if given[0].rank:
        raise GroupError(f"it reads {given[0].mlir}. Only tensors of rank 0 are read outside of nests.")
    _like(result, (), given[0])


def _empty(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 0)


# ---- regrouped axes -----------------------------------------------------------------------------------------------


def _collapse(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 1)
    _regrouped(op.attribute["reassociation"], given[0], result)


def _expand(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 1)
    _regrouped(op.attribute["reassociation"], result, given[0])


def _regrouped(runs: Any, fine: Aval, coarse: Aval) -> None:
    """Every axis of `coarse` is a run of axes of `fine`."""
    if [k for run in runs for k in run] != (list(range(fine.rank)) if runs else []):
        raise GroupError(f"it groups axes {runs} of {fine.mlir}. Name each once, in order.")
    if not runs and not all(same(n, 1) for n in fine.shape):
        raise GroupError(
            f"it groups no axes of {fine.mlir}, which has more than one element. Name each once, in order."
        )
    _like(coarse, [prod(fine.shape[k] for k in run) for run in runs], fine)


# ---- windows ----------------------------------------------------------------------------------------------------


def _slice(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 1 + _clamped(op))
    _like(result, result.shape, given[0])
    _window(op, given[0], result, given[1:])


def _insert(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 2 + _clamped(op))
    _like(result, given[1].shape, given[0])
    _window(op, given[1], given[0], given[2:])


def _clamped(op: Call) -> int:
    return list(op.attribute["starts"]).count("clamped")


def _window(op: Call, whole: Aval, part: Aval, starts: Sequence[Aval]) -> None:
    """A window has as many axes as what it lies in, fits into it, and starts there."""
    places, steps = op.attribute["starts"], op.attribute["steps"]
    if not len(places) == len(steps) == whole.rank == part.rank:
        raise GroupError(f"it starts at {places} in steps of {steps}, {part.mlir} in {whole.mlir}. Give one per axis.")
    if wrong := [aval for aval in starts if aval != Aval((), int64)]:
        raise GroupError(f"a start is {wrong[0].mlir}. Starts are i64, scalars or tensors of rank 0.")
    for place, step, n, m in zip(places, steps, whole.shape, part.shape):
        begin = 0 if place == "clamped" else place
        if step < 1 or at_most(begin + 1, 0) or at_most(n + 1, begin + reach(m, step)):
            raise GroupError(f"{part.mlir} in steps of {steps} does not fit into {whole.mlir} there. Stay inside.")


# ---- assembly ---------------------------------------------------------------------------------------------------


def _concat(op: Call, given: Sequence[Aval], result: Aval) -> None:
    dim = op.attribute["dim"]
    if not given or not isinstance(dim, int) or not 0 <= dim < given[0].rank:
        raise GroupError(f"it joins {len(given)} operands along axis {dim}. Give operands, and one of their axes.")
    for part in given:
        shape = list(given[0].shape)
        shape[dim] = part.shape[dim]
        _like(part, shape, given[0])
    whole = list(given[0].shape)
    whole[dim] = sum((part.shape[dim] for part in given[1:]), given[0].shape[dim])
    _like(result, whole, given[0])


def _pad(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 2)
    low, high = op.attribute["low"], op.attribute["high"]
    if not len(low) == len(high) == given[0].rank or given[1] != Aval((), given[0].dtype):
        around = f"{given[1].mlir} around {given[0].mlir}, {low} before and {high} after"
        raise GroupError(f"it puts {around}. Give a scalar of its type, and a number per axis.")
    _like(result, [a + n + b for a, n, b in zip(low, given[0].shape, high)], given[0])


def _around(op: Call) -> range:
    return range(1, 2)


def _starts_of(first: int) -> Callable[[Call], range]:
    return lambda op: range(first, len(op.operands))


def _scatter(op: Call, given: Sequence[Aval], result: Aval) -> None:
    _count(given, 3)
    tensor, index, updates = given
    axis, code = op.attribute["axis"], op.attribute["code"]
    if not isinstance(axis, int) or not 0 <= axis < tensor.rank or not isinstance(code, int) or code < 0:
        raise GroupError(f"its axis is {axis} of {tensor.mlir}, its failure {code}. Name an axis, and a number from 0.")
    outside = [n for k, n in enumerate(tensor.shape) if k != axis]
    inner = [n for k, n in enumerate(index.shape) if k != axis]
    if index.dtype is not int64 or len(outside) != len(inner) or not all(map(same, outside, inner)):
        raise GroupError(f"its index is {index.mlir} for {tensor.mlir}. Give i64 that agrees outside of axis {axis}.")
    _like(updates, index.shape, tensor)
    _like(result, tensor.shape, tensor)
    try:
        check_order(str(op.attribute["order"]))
    except OrderError as error:
        raise GroupError(str(error)) from None
    _combiner(op.regions, tensor.dtype.mlir)


def _combiner(regions: Sequence[Body], element: str) -> None:
    """One region that makes one element of two."""
    if len(regions) != 1 or regions[0].types != (element, element):
        raise GroupError(
            f"it has {len(regions)} regions. Give one that takes the old element and an update, {element}."
        )
    types = check_block(regions[0], 0)
    if [types[k] for k in regions[0].results] != [element]:
        raise GroupError(f"its region yields {[types[k] for k in regions[0].results]}. Yield one {element}.")


#: name -> (names of attributes, sorted; positions of operands that may be scalars; what else has to hold)
_OPS: Mapping[str, tuple[tuple[str, ...], Callable[[Call], range], _Check]] = {
    "arith.constant": (("value",), _no_scalars, _constant),
    "flambeau.size": (("size",), _no_scalars, _size),
    "tensor.extract": ((), _no_scalars, _extract),
    "tensor.empty": ((), _no_scalars, _empty),
    "tensor.collapse_shape": (("reassociation",), _no_scalars, _collapse),
    "tensor.expand_shape": (("reassociation",), _no_scalars, _expand),
    "tensor.extract_slice": (("starts", "steps"), _starts_of(1), _slice),
    "tensor.insert_slice": (("starts", "steps"), _starts_of(2), _insert),
    "tensor.concat": (("dim",), _no_scalars, _concat),
    "tensor.pad": (("high", "low"), _around, _pad),
    "flambeau.scatter": (("axis", "code", "order"), _no_scalars, _scatter),
}
