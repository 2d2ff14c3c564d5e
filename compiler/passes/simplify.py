"""Local simplification: identities that hold to the bit, constants, and views of views.

In: any graph. Out: one that computes the same bits with fewer or cheaper ops. A rule looks at one node and at the
nodes that made its operands. What no longer has a reader is left for `dead_code.py`. Next: `cse.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.simplify_rewrite import (
    Answer,
    Match,
    Nested,
    Rewrite,
    Rule,
    Splat,
    SplatCall,
    negative_zero,
    same,
)
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import OpRecord, find
from flambeau.dialects.size import Size, minimum
from flambeau.dialects.tape.view import reach


@dataclass(frozen=True)
class Simplify(Pass):
    """Apply the rules below to every node, operands first.

    In: any graph. Out: the same outputs to the bit. No rule reassociates, distributes, or trusts that a number is finite;
    -0.0 is not 0.0, and what only moved before is made a canonical NaN where an op that computes goes. Idempotent.
    """

    name = "simplify"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        work = Rewrite(graph, RULES, POINTWISE)
        for node in graph.nodes:
            if len(node.results) != 1 or node.op.fallible:
                work.keep(node)
            else:
                work.bind(node, (work.once(node),))
        return work.finish()


# ---- constants ------------------------------------------------------------------------------------------------


def constant(work: Rewrite, call: Match) -> Answer:
    value, dtype = call.attrs
    if isinstance(value, Size):
        return None
    with np.errstate(all="ignore"):
        rounded = np.asarray(value, dtype.numpy).item()
    return None if negative_zero(rounded) else Splat(_one_nan(rounded), Aval((), dtype))


def _one_nan(value: Any) -> Any:
    """All NaNs become one, so that equal programs have equal text."""
    return value if value == value else math.nan


def fold(work: Rewrite, call: Match) -> Answer:
    """An exact elementwise op on constants is a constant, unless that is -0.0, which has no constant."""
    values = [work.splats[v] for v in call.operands if v in work.splats]
    if not values or len(values) < len(call.operands) or not call.op.exact:
        return None
    avals = [work.aval(v) for v in call.operands]
    arrays = [np.asarray(v, a.dtype.numpy) for v, a in zip(values, avals)]
    (aval,) = call.op.infer_results(avals, call.attrs)
    result = np.asarray(call.op.reference(*arrays, *call.attrs)).astype(aval.dtype.numpy).item()
    return None if negative_zero(result) else Splat(_one_nan(result), aval)


def repeat(work: Rewrite, call: Match) -> Answer:
    """An elementwise op on numbers that are stretched is done once. It would also be one value that all readers of its size share,
    which joins what has nothing else in common into one kernel: the first updates of all parameters, by their zeros."""
    ones = [work.repeated[v] for v in call.operands if v in work.repeated]
    if not ones or len(ones) < len(call.operands):
        return None
    return SplatCall(Match(call.op, tuple(ones), call.attrs), work.aval(call.operands[0]).shape)


def view_of_constant(work: Rewrite, call: Match) -> Answer:
    value = work.splats.get(call.operands[0])
    if value is None or negative_zero(value):
        return None
    (aval,) = call.op.infer_results([work.aval(v) for v in call.operands], call.attrs)
    return Splat(value, aval)


# ---- identities -----------------------------------------------------------------------------------------------


def neutral(*positions: int, integer: int | None, floating: float | None) -> Rule:
    """`op(x, c) = x` where operand `position` is the number given for its category."""

    def rule(work: Rewrite, call: Match) -> Answer:
        for p in positions:
            value, dtype = work.splats.get(call.operands[p]), work.aval(call.operands[p]).dtype
            wanted = floating if dtype.is_floating_point else integer
            if value is not None and wanted is not None and same(value, wanted):
                return call.operands[1 - p]
        return None

    return rule


def involution(work: Rewrite, call: Match) -> Answer:
    """op(op(x)) = x."""
    inner = work.made.get(call.operands[0])
    return inner.operands[0] if inner and inner.op is call.op else None


def idempotent(work: Rewrite, call: Match) -> Answer:
    """op(x, x) = x."""
    return call.operands[0] if call.operands[0] == call.operands[1] else None


def absorbs_sign(work: Rewrite, call: Match) -> Answer:
    """|-x| = ||x|| = |x|."""
    inner = work.made.get(call.operands[0])
    return Match(call.op, inner.operands, ()) if inner and inner.op.name in ("neg", "abs") else None


def select(work: Rewrite, call: Match) -> Answer:
    condition, x, y = call.operands
    chosen = work.splats.get(condition)
    if chosen is not None:
        return x if chosen else y
    if x == y:
        return x
    inner = work.made.get(condition)
    return Match(call.op, (inner.operands[0], y, x), ()) if inner and inner.op.name == "not_" else None


def canonical(work: Rewrite, call: Match) -> Answer:
    """What is computed is canonical already (see `canonical_nans.py`)."""
    return None if work.is_moved(call.operands[0]) else call.operands[0]


def is_lossless(source: DType, between: DType, target: DType) -> bool:
    """Whether a cast to `between` leaves a second one as it were from `source`. An integer must not meet the saturation of floats
    on its way to one that it wraps into."""
    rounds = source.is_integer and between.is_floating_point and target.is_integer
    return between.holds(source) and (not rounds or target.holds(source))


def cast(work: Rewrite, call: Match) -> Answer:
    (x,), (dtype,) = call.operands, call.attrs
    if work.aval(x).dtype is dtype:
        return x
    inner = work.made.get(x)
    if inner is None or inner.op is not call.op:
        return None
    source = work.aval(inner.operands[0]).dtype
    return Match(call.op, inner.operands, call.attrs) if is_lossless(source, inner.attrs[0], dtype) else None


# ---- views ----------------------------------------------------------------------------------------------------


def same_shape(work: Rewrite, call: Match) -> Answer:
    x = call.operands[0]
    return x if work.aval(x).shape == call.attrs[0] else None


def outer_wins(work: Rewrite, call: Match) -> Answer:
    """A reshape of a reshape, or a broadcast of a broadcast, is the outer one."""
    inner = work.made.get(call.operands[0])
    return Match(call.op, inner.operands, call.attrs) if inner and inner.op is call.op else None


def permute(work: Rewrite, call: Match) -> Answer:
    (x,), (perm,) = call.operands, call.attrs
    if perm == tuple(range(len(perm))):
        return x
    inner = work.made.get(x)
    if inner and inner.op is call.op:
        return Match(call.op, inner.operands, (tuple([inner.attrs[0][axis] for axis in perm]),))
    shape = work.aval(x).shape
    moved = [axis for axis in perm if shape[axis] != 1]
    if moved == sorted(moved):  # only unit axes move
        return Match(find("reshape"), (x,), (tuple([shape[axis] for axis in perm]),))
    return None


def window(work: Rewrite, call: Match) -> Answer:
    (x,), (starts, sizes, steps) = call.operands, call.attrs
    if sizes == work.aval(x).shape:
        return x
    unit = tuple([step if size > 1 else 1 for size, step in zip(sizes, steps)])
    if unit != steps:
        return Match(call.op, (x,), (starts, sizes, unit))
    inner = work.made.get(x)
    if not inner or inner.op is not call.op or 0 in sizes:
        return None
    first, _, stride = inner.attrs
    starts = tuple([a + b * s for a, b, s in zip(first, starts, stride)])
    return Match(call.op, inner.operands, (starts, sizes, tuple([a * b for a, b in zip(stride, steps)])))


def dynamic_window(work: Rewrite, call: Match) -> Answer:
    """Starts that are constants, or that cannot be anything but 0, make a static window."""
    (x, *starts), (sizes, steps) = call.operands, call.attrs
    shape = work.aval(x).shape
    if sizes == shape:
        return x
    values = [work.splats[v] for v in starts if v in work.splats]
    if len(values) < len(starts):
        return None
    last = [n - reach(size, step) for n, size, step in zip(shape, sizes, steps)]
    clamped = tuple([0 if v <= 0 else minimum(v, most) for v, most in zip(values, last)])
    return Match(find("slice"), (x,), (clamped, sizes, steps))


def transfer(work: Rewrite, call: Match) -> Answer:
    """Nothing to move, or a second move: from where the element was first."""
    (x,), (device,) = call.operands, call.attrs
    if work.aval(x).device == device:
        return x
    inner = work.made.get(x)
    return Match(call.op, inner.operands, call.attrs) if inner and inner.op is call.op else None


def flip(work: Rewrite, call: Match) -> Answer:
    (x,), (axes,) = call.operands, call.attrs
    shape = work.aval(x).shape
    inner = work.made.get(x)
    if inner and inner.op is call.op:
        return Match(call.op, inner.operands, (tuple(sorted(set(axes) ^ set(inner.attrs[0]))),))
    long = tuple([axis for axis in axes if shape[axis] > 1])
    if not long:
        return x
    return Match(call.op, (x,), (long,)) if long != axes else None


def one_operand(work: Rewrite, call: Match) -> Answer:
    return call.operands[0] if len(call.operands) == 1 else None


def no_padding(work: Rewrite, call: Match) -> Answer:
    attrs = dict(zip(call.op.attrs, call.attrs))
    return call.operands[0] if not any(attrs["low"]) and not any(attrs["high"]) else None


def overwritten(work: Rewrite, call: Match) -> Answer:
    """An update of the whole operand is the update."""
    x, update = call.operands[:2]
    return update if work.aval(x).shape == work.aval(update).shape else None


#: Operands of a concat that a rule makes longer, at most: making it is linear in them.
_SIDES = 16


def side_by_side(work: Rewrite, call: Match) -> Answer:
    """The sum of what lies side by side among zeros, as gradients of slices do, is a concat. Each element has one 0.0 added."""
    first, second = (work.made.get(v) for v in call.operands)
    if not all(x and x.op.name == "pad" and work.splats.get(x.operands[1]) == 0 for x in (first, second)):
        return None
    assert first is not None and second is not None
    (low, high), (later_low, later_high) = first.attrs, second.attrs
    axes = [d for d, numbers in enumerate(zip(low, high, later_low, later_high, strict=True)) if any(numbers)]
    aval = work.aval(call.operands[0])
    if len(axes) != 1 or not (aval.dtype.is_floating_point or aval.dtype.is_integer):
        return None
    (axis,) = axes
    if low[axis] > later_low[axis]:
        first, second, low, later_high = second, first, later_low, high
    if work.aval(first.operands[0]).shape[axis] + first.attrs[0][axis] != second.attrs[0][axis]:
        return None
    sides = [x for found in (first, second) for x in _sides(work, found.operands[0], axis)]
    if len(sides) > _SIDES:
        sides = [x.operands[0] for x in (first, second)]
    joined = Nested(find("concat"), tuple(_plus_zero(work, call.op, x) for x in sides), (axis,))
    return Nested(first.op, (joined, Splat(work.splats[first.operands[1]], Aval((), aval.dtype))), (low, later_high))


def _sides(work: Rewrite, value: int, axis: int) -> tuple[int, ...]:
    made = work.made.get(value)
    return made.operands if made and made.op.name == "concat" and made.attrs == (axis,) else (value,)


def _plus_zero(work: Rewrite, add: OpRecord, x: int) -> int | Nested:
    """A value with 0.0 added, which changes -0.0 only, and so not twice."""
    made = work.made.get(x)
    if made and made.op is add and any(_is_zero(work.splats.get(v)) for v in made.operands):
        return x
    return Nested(add, (x, Splat(0 if work.aval(x).dtype.is_integer else 0.0, work.aval(x))), ())


def _is_zero(value: Any) -> bool:
    return value is not None and value == 0 and not negative_zero(value)


#: Of elementwise ops that have no rules of their own.
POINTWISE: tuple[Rule, ...] = (fold, repeat)
RULES: dict[str, tuple[Rule, ...]] = {
    "constant": (constant,),
    "add": (fold, neutral(0, 1, integer=0, floating=-0.0), side_by_side, repeat),
    "sub": (fold, neutral(1, integer=0, floating=0.0), repeat),
    "mul": (fold, neutral(0, 1, integer=1, floating=1.0), repeat),
    "div": (fold, neutral(1, integer=None, floating=1.0), repeat),
    "neg": (fold, involution, repeat),
    "not_": (fold, involution, repeat),
    "abs": (fold, absorbs_sign, repeat),
    "maximum": (fold, idempotent, repeat),
    "minimum": (fold, idempotent, repeat),
    "and_": (fold, idempotent, repeat),
    "or_": (fold, idempotent, repeat),
    "select": (fold, select, repeat),
    "cast": (fold, cast, repeat),
    "canonical_nan": (fold, canonical, repeat),
    "reshape": (view_of_constant, same_shape, outer_wins),
    "broadcast": (view_of_constant, same_shape, outer_wins),
    "permute": (view_of_constant, permute),
    "slice": (view_of_constant, window),
    "dynamic_slice": (view_of_constant, dynamic_window),
    "flip": (view_of_constant, flip),
    "to_device": (view_of_constant, transfer),
    "concat": (one_operand,),
    "pad": (no_padding,),
    "update_slice": (overwritten,),
}
