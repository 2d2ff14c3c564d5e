"""Ops on small operands as `SmallOp`s of the runtime, which an `OpList` does in C from the first time on: nobody calls Python or
waits for a plan.

In: a node of a program without symbols. Out: what gives its result with the bits of its plan, or None where that is not known
here, or takes so long that a plan is worth more. Next: `c_bodies.py`, how bodies become steps; `op_by_op.py`, the user.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from flambeau.compiler.baseline.c_bodies import Code, coded
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.record import Monoid, OpRecord
from flambeau.dialects.tape.reduction_order import is_inner
from flambeau.runtime._binding import SmallOp

#: Elements, each as often as a step of a body does something to it, for what is to be done so.
_MOST = 1 << 15
_MOST_DIMS = 8

Walk = tuple[tuple[int, ...], tuple[int, ...]]  #: extents, and strides in elements


def small_op(graph: Graph, node: Node, is_seen: bool) -> SmallOp | None:
    """What does a node of a graph without symbols. `is_seen`: its NaNs are to be the canonical one."""
    op = node.op
    avals = [graph.avals[v] for v in (*node.operands, *node.results)]
    if op.regions or op.effect or op.fallible or not op.is_single or any(a.device != CPU for a in avals):
        return None
    return _made(op, attrs_key(node.attrs), node.attrs, tuple(avals), is_seen)


@lru_cache(maxsize=4096)
def _made(op: OpRecord, key: Any, attrs: tuple[Any, ...], avals: tuple[Aval, ...], is_seen: bool) -> SmallOp | None:
    *operands, result = avals
    if any(a.dtype.is_complex or a.dtype.is_narrow for a in avals) or max(a.size for a in avals) > _MOST:
        return None
    nan_bytes = result.dtype.numpy.itemsize if is_seen and result.dtype.is_floating_point else 0
    if op.family.is_pointwise:
        return _elementwise(op, attrs, operands, result, nan_bytes)
    if op.family.is_view and op.exact and len(operands) == 1:
        return _moved(op, attrs, operands[0], result)
    if op.family.folds:
        return _folded(op, attrs[0], operands[0], result)
    if op.family.sums_products and op.in_order is not None:
        return _product(operands, result, nan_bytes)
    if not operands and op.exact:
        return SmallOp.constant(np.ascontiguousarray(op.reference(*attrs), result.dtype.numpy).tobytes())
    return None


def _elementwise(
    op: OpRecord, attrs: tuple[Any, ...], operands: Sequence[Aval], result: Aval, nan_bytes: int
) -> SmallOp | None:
    code = _calculation(op, attrs_key(attrs), attrs, tuple([a.dtype.mlir for a in operands]), result.dtype.mlir)
    if code is None or code.n_steps * result.size > _MOST or any(a.shape != result.shape for a in operands):
        return None
    sizes = tuple([a.dtype.numpy.itemsize for a in operands])
    return SmallOp.elementwise(*code[:3], sizes, result.dtype.numpy.itemsize, result.size, nan_bytes)


@lru_cache(maxsize=1024)
def _calculation(op: OpRecord, key: Any, attrs: tuple[Any, ...], types: tuple[str, ...], result: str) -> Code | None:
    """An elementwise op on one element, as a body."""
    from flambeau.compiler.groups import bodies  # most programs do without

    return coded(bodies.elementwise(op, attrs, types, (result,), None)) if op.lower else None


def _moved(op: OpRecord, attrs: tuple[Any, ...], operand: Aval, result: Aval) -> SmallOp | None:
    """A view, by what its reference makes of an array: NumPy says where its elements are."""
    given = np.empty(operand.shape, operand.dtype.numpy)
    found = op.reference(given, *attrs)
    size = given.itemsize
    if not isinstance(found, np.ndarray) or found.dtype != given.dtype or found.shape != result.shape:
        return None
    if found.size == 0:
        return SmallOp.moved(size, given.size, ((0,), (0,)), 0)
    if not np.may_share_memory(found, given):
        return None
    offset = (found.__array_interface__["data"][0] - given.__array_interface__["data"][0]) // size
    walk = _merged(found.shape, [s // size for s in found.strides])
    return SmallOp.moved(size, given.size, walk, offset) if len(walk[0]) <= _MOST_DIMS else None


def _merged(shape: Sequence[int], strides: Sequence[int]) -> Walk:
    """Without extents of 1, and those as one that lie as one."""
    extents: list[int] = []
    steps: list[int] = []
    for n, step in zip(shape, strides):
        if n == 1:
            continue
        if extents and steps[-1] == n * step:
            extents[-1], steps[-1] = extents[-1] * n, step
        else:
            extents.append(n)
            steps.append(step)
    return tuple(extents), tuple(steps)


def _folded(op: OpRecord, axes: tuple[int, ...], operand: Aval, result: Aval) -> SmallOp | None:
    code = _combination(op, result.dtype) if type(op.lower) is Monoid and operand.dtype == result.dtype else None
    if code is None or operand.size * code.n_steps > _MOST:
        return None
    shape = operand.shape
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    kept, folded = (
        _merged([shape[axis] for axis in which], [strides[axis] for axis in which])
        for which in ([axis for axis in range(len(shape)) if axis not in axes], axes)
    )
    if max(len(kept[0]), len(folded[0])) > _MOST_DIMS:
        return None
    identity = np.array(op.lower.identity(result.dtype), result.dtype.numpy)
    nan_bytes = identity.itemsize if result.dtype.is_floating_point else 0
    return SmallOp.folded(*code[:3], identity.tobytes(), operand.size, kept, folded, is_inner(shape, axes), nan_bytes)


@lru_cache(maxsize=64)
def _combination(op: OpRecord, dtype: DType) -> Code | None:
    """One step of a fold as a body."""
    from flambeau.compiler.groups.bodies import Recorder  # most programs do without

    b = Recorder((dtype.mlir, dtype.mlir))
    total, x = b.arguments
    return coded(b.body(op.lower.combine(b, total, x)))


def _product(operands: Sequence[Aval], result: Aval, nan_bytes: int) -> SmallOp | None:
    a, b = operands
    *batch, m, k = a.shape
    n = b.shape[-1]
    if not result.dtype.is_floating_point or math.prod((*batch, m, k, n)) > _MOST:
        return None
    return SmallOp.product(math.prod(batch), m, k, n, result.dtype.numpy.itemsize, nan_bytes)
