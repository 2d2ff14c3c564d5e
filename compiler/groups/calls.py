"""What the ops of groups that are no generics take and give: one function per op, named by it.

In: a `Call` of a group. Out: `GroupError`, without the op's name, where its operands, attributes or types do not fit. What each
is called and takes is said at `form.Call`; families say it of ops of their own (`GroupOp`). Next: `verify.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from flambeau.compiler import families
from flambeau.compiler.families.rules import no_scalars
from flambeau.compiler.groups.checks import check_count, check_like
from flambeau.compiler.groups.form import Call, Group, GroupError
from flambeau.compiler.groups.slices import reach
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int64
from flambeau.dialects.size import Size, at_most, same

_Rule = tuple[tuple[str, ...], Callable[[Call], Sequence[int]], Callable[[Call, Sequence[Aval], Aval], None]]


def check_call(group: Group, op: Call, scalar: set[int]) -> None:
    """Raise GroupError unless the op is one of a group's, and fits its operands and results."""
    names, scalars, check = _OPS[op.name] if op.name in _OPS else _of_family(op.name)
    if tuple(name for name, _ in op.attributes) != names:
        given = ", ".join(name for name, _ in op.attributes) or "none"
        raise GroupError(f"its attributes are {given}. Give {', '.join(names) or 'none'}.")
    if len(op.results) != 1:
        raise GroupError(f"it has {len(op.results)} results. Give one.")
    if wrong := [v for k, v in enumerate(op.operands) if v in scalar and k not in scalars(op)]:
        raise GroupError(f"value {wrong[0]} is a scalar. Give a tensor.")
    check(op, [group.avals[v] for v in op.operands], group.avals[op.results[0]])


def _of_family(name: str) -> _Rule:
    """What holds of an op that is a family's own."""
    found = families.group_op(name)
    if found is None:
        raise GroupError(f"it is no op of a group. There are {', '.join(_OPS)}, those of families, and linalg.generic.")
    return found.attributes, found.scalars, found.check


# ---- numbers ----------------------------------------------------------------------------------------------------


def _constant(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 0)
    literal = str(op.attribute["value"])
    count = literal.count(",") + 1 if literal.startswith("dense<[") else None
    if result.shape != (() if count is None else (count,)):
        raise GroupError(
            f"it gives {result.mlir}, and says {literal[:40]}. Constants are scalars, and tables of rank 1."
        )


def _size(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 0)
    if result != Aval((), int64) or not isinstance(op.attribute["size"], Size):
        raise GroupError(f"it gives {result.mlir}. Sizes known at run time only are scalars of i64.")


def _extract(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    if given[0].rank:
        raise GroupError(f"it reads {given[0].mlir}. Only tensors of rank 0 are read outside of nests.")
    check_like(result, (), given[0])


def _empty(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 0)


# ---- regrouped axes -----------------------------------------------------------------------------------------------


def _collapse(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    _regrouped(op.attribute["reassociation"], given[0], result)


def _expand(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    _regrouped(op.attribute["reassociation"], result, given[0])


def _regrouped(runs: Any, fine: Aval, coarse: Aval) -> None:
    """Every axis of `coarse` is a run of axes of `fine`."""
    if [k for run in runs for k in run] != (list(range(fine.rank)) if runs else []):
        raise GroupError(f"it groups axes {runs} of {fine.mlir}. Name each once, in order.")
    if not runs and not all(same(n, 1) for n in fine.shape):
        raise GroupError(
            f"it groups no axes of {fine.mlir}, which has more than one element. Name each once, in order."
        )
    check_like(coarse, [prod(fine.shape[k] for k in run) for run in runs], fine)


# ---- windows ----------------------------------------------------------------------------------------------------


def _slice(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1 + _clamped(op))
    check_like(result, result.shape, given[0])
    _window(op, given[0], result, given[1:])


def _insert(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 2 + _clamped(op))
    check_like(result, given[1].shape, given[0])
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
        check_like(part, shape, given[0])
    whole = list(given[0].shape)
    whole[dim] = sum((part.shape[dim] for part in given[1:]), given[0].shape[dim])
    check_like(result, whole, given[0])


def _pad(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 2)
    low, high = op.attribute["low"], op.attribute["high"]
    if not len(low) == len(high) == given[0].rank or given[1] != Aval((), given[0].dtype):
        around = f"{given[1].mlir} around {given[0].mlir}, {low} before and {high} after"
        raise GroupError(f"it puts {around}. Give a scalar of its type, and a number per axis.")
    check_like(result, [a + n + b for a, n, b in zip(low, given[0].shape, high)], given[0])


def _around(op: Call) -> range:
    return range(1, 2)


def _starts_of(first: int) -> Callable[[Call], range]:
    return lambda op: range(first, len(op.operands))


#: name -> (names of attributes, sorted; positions of operands that may be scalars; what else has to hold)
_OPS: Mapping[str, _Rule] = {
    "arith.constant": (("value",), no_scalars, _constant),
    "flambeau.size": (("size",), no_scalars, _size),
    "tensor.extract": ((), no_scalars, _extract),
    "tensor.empty": ((), no_scalars, _empty),
    "tensor.collapse_shape": (("reassociation",), no_scalars, _collapse),
    "tensor.expand_shape": (("reassociation",), no_scalars, _expand),
    "tensor.extract_slice": (("starts", "steps"), _starts_of(1), _slice),
    "tensor.insert_slice": (("starts", "steps"), _starts_of(2), _insert),
    "tensor.concat": (("dim",), no_scalars, _concat),
    "tensor.pad": (("high", "low"), _around, _pad),
}
