"""What a batch of calls of an op becomes: a rule for each family, and for ops that differ from theirs.

In: a `BatchedOp`. Out: results, the batch in front. Attributes that name axes count one more; where an operand is the same
for all calls, products and convolutions fold the batch into an axis that they have. Next: `batching_regions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from flambeau.dialects.batching import BatchedOp, constant, moved
from flambeau.dialects.batching_regions import cond, scan, while_loop
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.dialects.tape.common import ops
from flambeau.dialects.tape.view import reach

Rule = Callable[[BatchedOp], Sequence[Value]]


# ---- axes one further on ------------------------------------------------------------------------------------------


def same(call: BatchedOp) -> Sequence[Value]:
    """Ops that say nothing of axes, or count them from the last one."""
    return call.emit(call.fronted(), call.attrs)


def axis_further(call: BatchedOp) -> Sequence[Value]:
    """Ops whose first attribute is an axis."""
    return call.emit(call.fronted(), (call.attrs[0] + 1, *call.attrs[1:]))


def axes_further(call: BatchedOp) -> Sequence[Value]:
    """Ops whose first attribute is several axes."""
    return call.emit(call.fronted(), (tuple([a + 1 for a in call.attrs[0]]), *call.attrs[1:]))


def _shape(call: BatchedOp) -> Sequence[Value]:
    """Views to a shape."""
    return call.emit(call.xs, ((call.n, *call.attrs[0]),))


def _permute(call: BatchedOp) -> Sequence[Value]:
    return call.emit(call.xs, ((0, *[a + 1 for a in call.attrs[0]]),))


def _slice(call: BatchedOp) -> Sequence[Value]:
    starts, sizes, steps = call.attrs
    return call.emit(call.xs, ((0, *starts), (call.n, *sizes), (1, *steps)))


# ---- windows whose starts may differ ------------------------------------------------------------------------------


def _places(call: BatchedOp, starts: int, shape: Sequence[Any], sizes: Sequence[Any], steps: Sequence[int]) -> Value:
    """Where the elements of each call's window lie in [*shape], counted row by row: [n, elements of the window]. `starts` is the
    first operand that is one."""
    total = constant(call.b, 0).expand((call.n, *sizes))
    stride: Any = 1
    for axis in reversed(range(len(sizes))):
        start = call.xs[starts + axis]
        last = start.like(shape[axis] - reach(sizes[axis], steps[axis]))
        start = ops.minimum(ops.maximum(start, start.like(0)), last)
        start = ops.reshape(start, shape=(call.n if call.many[starts + axis] else 1,) + (1,) * len(sizes))
        steps_on = ops.iota(builder=call.b, shape=tuple(sizes), dim=axis, dtype=int64) * steps[axis]
        place = start.expand(total.shape) + steps_on.expand(total.shape)
        total = total + place * stride
        stride = stride * shape[axis]
    return ops.reshape(total, shape=(call.n, prod(sizes)))


def _flat(x: Value, n: Any) -> Value:
    return ops.reshape(x, shape=(n, prod(x.shape[1:])))


def _dynamic_slice(call: BatchedOp) -> Sequence[Value]:
    sizes, steps = call.attrs
    if not any(call.many[1:]):
        return call.emit([call.xs[0], constant(call.b, 0), *call.xs[1:]], ((call.n, *sizes), (1, *steps)))
    x = call.xs[0]
    shape = x.shape[1:] if call.many[0] else x.shape
    places = _places(call, 1, shape, sizes, steps)
    if call.many[0]:
        found = ops.gather(_flat(x, call.n), places, axis=1)
    else:
        found = ops.gather(
            ops.reshape(x, shape=(prod(shape),)), ops.reshape(places, shape=(prod(places.shape),)), axis=0
        )
    return (ops.reshape(found, shape=(call.n, *sizes)),)


def _update_slice(call: BatchedOp) -> Sequence[Value]:
    (steps,) = call.attrs
    x, update = call.front(0), call.front(1)
    if not any(call.many[2:]):
        return call.emit([x, update, constant(call.b, 0), *call.xs[2:]], ((1, *steps),))
    places = _places(call, 2, x.shape[1:], update.shape[1:], steps)
    return (ops.reshape(ops.scatter(_flat(x, call.n), places, _flat(update, call.n), axis=1), shape=x.shape),)


def _pad(call: BatchedOp) -> Sequence[Value]:
    low, high = call.attrs
    x, value = call.front(0), call.xs[1]
    attrs = {"low": (0, *low), "high": (0, *high)}
    if not call.many[1]:
        return (ops.pad(x, value, **attrs),)
    zero = call.b.constant(0, x.dtype)
    padded = ops.pad(x, zero, **attrs)
    inside = ops.pad(call.b.constant(True, bool_, x.shape), call.b.constant(False, bool_), **attrs)
    outside = ops.reshape(value, shape=(call.n,) + (1,) * len(low)).expand(padded.shape)
    return (ops.select(inside, padded, outside),)


# ---- elements at an index -----------------------------------------------------------------------------------------


def looked_up(call: BatchedOp) -> Sequence[Value]:
    """`gather` and `searchsorted`: in one table for all, the calls' indices follow each other along the axis."""
    axis, *rest = call.attrs
    table, index = call.xs
    if call.many[0] or prod(table.shape) == 0:
        return axis_further(call)
    along = moved(index, 0, axis)
    count = along.shape[axis + 1]
    joined = ops.reshape(along, shape=(*along.shape[:axis], call.n * count, *along.shape[axis + 2 :]))
    (found,) = call.emit([table, joined], (axis, *rest))
    return (moved(ops.reshape(found, shape=along.shape), axis, 0),)


# ---- products -----------------------------------------------------------------------------------------------------


def _transposed(x: Value) -> Value:
    rank = len(x.shape)
    return ops.permute(x, perm=(*range(rank - 2), rank - 1, rank - 2))


def _rows(a: Value, b: Value, n: Any) -> Value:
    """The products of n matrices [n, *batch, M, K] with one [*batch, K, N]: their rows are those of one matrix."""
    rank = len(b.shape)
    rows = moved(a, 0, rank - 2)
    *batch, _, m, k = rows.shape
    found = ops.matmul(ops.reshape(rows, shape=(*batch, n * m, k)), b)
    return moved(ops.reshape(found, shape=(*batch, n, m, b.shape[-1])), rank - 2, 0)


def product(call: BatchedOp) -> Sequence[Value]:
    a, b = call.xs
    if all(call.many):
        return call.emit([a, b], ())
    if call.many[0]:
        return (_rows(a, b, call.n),)
    return (_transposed(_rows(_transposed(b), _transposed(a), call.n)),)


# ---- convolutions -------------------------------------------------------------------------------------------------


def _joined(x: Value, axis: int) -> Value:
    """The first axis and the one at `axis`, counted without the first, as one axis there."""
    x = moved(x, 0, axis)
    return ops.reshape(x, shape=(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :]))


def _parted(x: Value, axis: int, n: Any, extent: Any) -> Value:
    """What `_joined` has joined: n and this extent."""
    return moved(ops.reshape(x, shape=(*x.shape[:axis], n, extent, *x.shape[axis + 1 :])), axis, 0)


#: Of each op the axes of operands and result along which calls may stand beside each other as groups.
_CHANNELS = {"convolution": (1, 0, 1), "convolution_input": (1, 0, 1), "convolution_weight": (1, 1, 0)}


def convolution(call: BatchedOp) -> Sequence[Value]:
    """Maps of several calls meet one kernel as more maps; else the calls are groups."""
    if not call.many[1] and call.op.name != "convolution_weight":
        (found,) = call.emit([_joined(call.xs[0], 0), call.xs[1]], call.attrs)
        return (_parted(found, 0, call.n, call.xs[0].shape[1]),)
    *how, groups = call.attrs
    first, second, result = _CHANNELS[call.op.name]
    a, b = call.fronted()
    extent = b.shape[2] * groups if call.op.name == "convolution_input" else b.shape[1 + second]
    (found,) = call.emit([_joined(a, first), _joined(b, second)], (*how, groups * call.n))
    return (_parted(found, result, call.n, extent),)


# ---- the table ----------------------------------------------------------------------------------------------------


def host_call(call: BatchedOp) -> Sequence[Value]:
    raise NotImplementedError("[vmap] a call of the host cannot be made for a whole batch. Make it outside of vmap.")


#: Of ops whose attributes are their own; all others are batched as their family says (`families.py`).
OF_OPS: dict[str, Rule] = {
    "reshape": _shape,
    "broadcast": _shape,
    "permute": _permute,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "flip": axes_further,
    "unfold": axis_further,
    "fold": axis_further,
    "stop_gradient": same,
    "graft": same,
    "real": same,
    "imag": same,
    "complex": same,
    "view_as_real": same,
    "view_as_complex": same,
    "overwrite": same,
    "pad": _pad,
    "concat": axis_further,
    "update_slice": _update_slice,
    "searchsorted": looked_up,
    "cond": cond,
    "while_loop": while_loop,
    "scan": scan,
}
