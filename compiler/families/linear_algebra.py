"""Linear algebra: steps of the plan that call LAPACK for every matrix of a batch, without Python.

In: the cluster of one op. Out: a call of one of the runtime's kernels (`runtime/binding/lapack_kernels.h`, which says what the
numbers mean). Next: `compiler/host_calls/lapack.py`, for where the kernels are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from flambeau.compiler.families.control import stored
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.compiler.plans.control import Compile
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int32
from flambeau.dialects.graph import Node
from flambeau.dialects.parts import IN_MEMORY, from_memory
from flambeau.dialects.record import find
from flambeau.dialects.size import Int, maximum, minimum

#: Columns that LAPACK takes at a time, for which it gets room to work.
_BLOCK = 64
#: Operations that are worth a thread's while.
_GRAIN = 1 << 20


@dataclass(frozen=True)
class _Work:
    """The numbers that a kernel gets, and the elements, real parts and ints that it works in."""

    dims: tuple[Int, ...]
    elements: Int = 0
    parts: Int = 0
    ints: Int = 0


def _cholesky(node: Node, a: Aval, *_: Aval) -> _Work:
    return _Work((a.shape[-1], int(bool(node.attrs[0]))))


def _lu(node: Node, a: Aval, *_: Aval) -> _Work:
    m, n = a.shape[-2:]
    return _Work((m, n, int(bool(node.attrs[0]))), m * n)


def _ldl(node: Node, a: Aval, *_: Aval) -> _Work:
    n, (hermitian, op) = a.shape[-1], node.attrs[:2]
    return _Work((n, int(hermitian), int(bool(op)), _BLOCK * n), _BLOCK * n)


def _ldl_solve(node: Node, a: Aval, pivots: Aval, b: Aval, x: Aval) -> _Work:
    n, k = b.shape[-2:]
    return _Work((n, k, int(node.attrs[0])), n * n + n * k)


def _row_order(node: Node, pivots: Aval, order: Aval) -> _Work:
    return _Work((pivots.shape[-1], order.shape[-1]))


def _factored(node: Node, a: Aval, *others: Aval) -> _Work:
    flags = [int(x) for x in node.attrs[: 1 if len(others) == 4 else 3]]
    return _Work((*others[-1].shape[-2:], *flags))


def _qr(node: Node, a: Aval, q: Aval, r: Aval) -> _Work:
    (m, n), columns = a.shape[-2:], q.shape[-1]
    widest = maximum(n, columns)
    room = _BLOCK * widest
    return _Work((m, n, columns, room), m * widest + minimum(m, n) + room)


def _geqrf(node: Node, a: Aval, *_: Aval) -> _Work:
    m, n = a.shape[-2:]
    return _Work((m, n, _BLOCK * n), m * n + _BLOCK * n)


def _eigh(node: Node, a: Aval, *_: Aval) -> _Work:
    n = a.shape[-1]
    room, parts, ints = 1 + (6 + _BLOCK) * n + 2 * n * n, 0, 3 + 5 * n
    if a.dtype.is_complex:
        room, parts = (2 + _BLOCK) * n + n * n, 1 + 5 * n + 2 * n * n
    return _Work((n, room, parts, ints), room, parts, ints)


def _eig(node: Node, a: Aval, *_: Aval) -> _Work:
    n = a.shape[-1]
    room = (4 + _BLOCK) * n
    return _Work((n, room), 2 * n * n + room, 2 * n)


def _svd(node: Node, a: Aval, u: Aval, s: Aval, vh: Aval) -> _Work:
    m, n = a.shape[-2:]
    k = s.shape[-1]
    room, left, right = 4 * k * k + 7 * k + (m + n) * (_BLOCK + 1), u.shape[-1], vh.shape[-2]
    parts = maximum(5 * k * k + 5 * k, 2 * maximum(m, n) * k + 2 * k * k + k) if a.dtype.is_complex else 0
    return _Work((m, n, left, right, room, parts), m * n + m * left + right * n + room, parts, 8 * k)


def _pseudo_inverse(node: Node, a: Aval, *_: Aval) -> _Work:
    return _Work((a.shape[-2] * a.shape[-1],))


_WORK: dict[str, Callable[..., _Work]] = {
    "cholesky": _cholesky,
    "lu": _lu,
    "ldl": _ldl,
    "ldl_solve": _ldl_solve,
    "row_order": _row_order,
    "solve_factored": _factored,
    "triangular_solve": _factored,
    "qr": _qr,
    "geqrf": _geqrf,
    "eigh": _eigh,
    "eig": _eig,
    "svd": _svd,
    "pseudo_inverse": _pseudo_inverse,
}


def steps(cluster: Cluster, compile_region: Compile) -> Lowered:
    (node,) = cluster.graph.nodes
    values = (*node.operands, *node.results)
    name = node.op.name.removesuffix(IN_MEMORY)
    avals = [cluster.graph.avals[v] for v in values]
    if name != node.op.name:
        given = avals[: len(node.operands)]
        given = [from_memory(a) if node.attrs[-1] and a.dtype.is_floating_point else a for a in given]
        avals = [*given, *find(name).infer_results(given, node.attrs[:-1])]
    work, a = _WORK[name](node, *avals), avals[0]
    dtype = a.dtype.name if a.dtype.is_inexact else "float32"  # pivots have one kernel
    description = {"host kernel": 1, "lapack": name, "dtype": dtype}  # as `kernel.HOST_KERNEL` says
    matrix = 1 if a.dtype is int32 else 2  # pivots are vectors
    operations = prod(a.shape[-matrix:]) * a.shape[-1]
    call = KernelCall(
        KernelSource(json.dumps(description), node.op.name),
        (*(Operand("value", v) for v in values), *([Operand("status")] if node.op.fallible else [])),
        work.dims,
        n=prod(a.shape[:-matrix]),
        grain=maximum(1, _GRAIN // maximum(1, operations * 8)),
        writes=tuple(range(len(node.operands), len(values))),
        scratch=work.elements * a.dtype.itemsize + work.parts * a.dtype.to_real().itemsize + work.ints * int32.itemsize,
        fallible=node.op.fallible,
    )
    return Lowered([call])


RULES = Rules("linear_algebra", steps=steps, stored=stored)
