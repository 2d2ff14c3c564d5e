"""Further products: vdot, vecdot, cross, addbmm, baddbmm, addmv, addr, chain_matmul, multi_dot, matrix_power, bilinear.

In: tensors of one dtype. Out: products. All end in the record `matmul`. Next: `distances.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.tape.matrices import LinAlgError
from flambeau.function import Operand, Optional_, Static, Tensor_, Tensors, function
from flambeau.functions.common import broadcast_shapes, canonical_dim, moved, ops, part
from flambeau.functions.expansion import _tensors
from flambeau.functions.linear import _check_batches, _check_rank, _matmul, _plus, _same_dtype
from flambeau.functions.matrices import matrices
from flambeau.functions.solve import inverted
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- vectors ----------------------------------------------------------------------------------------------


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(5), data(5)), call(data(2, 3), data(3), error=(RuntimeError, "Reshape it, or use matmul"))]
    ),
)
def vdot(input: Tensor_, other: Tensor_):
    """The inner product of two vectors of one length, of which the first one is conjugated."""
    _check_rank("vdot", input, 1, "input")
    _check_rank("vdot", other, 1, "other")
    return _matmul(input.conj(), other)


@function(
    free="linalg",
    samples=calls(
        lambda: [
            call(data(2, 3), data(3)),
            call(data(2, 3), data(2, 3), dim=0),
            call(data(2, 3), data(2), error=(RuntimeError, "do not broadcast")),
        ]
    ),
)
def vecdot(x: Tensor_, y: Tensor_, *, dim: Static = -1):
    """The inner products of the vectors along `dim`, the first ones conjugated; all other sizes broadcast.

    Raises RuntimeError for dtypes that differ.
    """
    _same_dtype("vecdot", x, y)
    shape = broadcast_shapes("vecdot", x.shape, y.shape)
    axis = canonical_dim("vecdot", dim, len(shape))
    order = moved(len(shape), axis, len(shape) - 1)
    left, right = (ops.permute(v.expand(shape), perm=order) for v in (x.conj(), y))
    rest, n = left.shape[:-1], left.shape[-1]
    made = ops.matmul(ops.reshape(left, shape=(*rest, 1, n)), ops.reshape(right, shape=(*rest, n, 1)))
    return ops.reshape(made, shape=rest)


def _cross(op: str, x: Value, y: Value, dim: int | None) -> Value:
    _same_dtype(op, x, y)
    shape = broadcast_shapes(op, x.shape, y.shape)
    if dim is None:
        found = [d for d, n in enumerate(shape) if n == 3]
        if not found:
            raise RuntimeError(f"[{op}] no dimension of shape {shape} has size 3. Pass vectors of three elements.")
        dim = found[0]
    axis = canonical_dim(op, dim, len(shape))
    if not shape or shape[axis] != 3:
        raise RuntimeError(f"[{op}] dimension {dim} of shape {shape} has not size 3. Pass vectors of three elements.")
    u, v = ([part(w.expand(shape), axis, k, 1) for k in range(3)] for w in (x, y))
    return ops.concat(*(u[i] * v[j] - u[j] * v[i] for i, j in ((1, 2), (2, 0), (0, 1))), dim=axis)


_CROSS = calls(
    lambda: [
        call(data(2, 3), data(2, 3)),
        call(data(3, 2), data(3, 1), dim=0),
        call(data(2), data(2), error=(RuntimeError, "size 3")),
    ]
)


@function(free="flambeau", method=True, samples=_CROSS)
def cross(input: Tensor_, other: Tensor_, dim: Static = None):
    """The cross products of the vectors of three elements along `dim`, the first dimension of size 3 if None; all other sizes
    broadcast. Raises RuntimeError for another size and for dtypes that differ."""
    return _cross("cross", input, other, dim)


@function(free="linalg", name="cross", samples=_CROSS)
def linalg_cross(input: Tensor_, other: Tensor_, *, dim: Static = -1):
    """The cross products of the vectors of three elements along `dim`; all other sizes broadcast. Raises RuntimeError for another
    size and for dtypes that differ."""
    if len(input.shape) != len(other.shape):
        raise RuntimeError(f"[cross] shapes {input.shape} and {other.shape} differ in dimensions. Make them as many.")
    axis = canonical_dim("cross", dim, len(input.shape))
    if input.shape and not input.shape[axis] == other.shape[axis] == 3:
        raise RuntimeError(f"[cross] of shapes {input.shape} and {other.shape} one has not size 3 at {dim}. Make it 3.")
    return _cross("cross", input, other, dim)


# ---- a product and a sum ----------------------------------------------------------------------------------


_BATCHES = calls(
    lambda: [
        call(data(3, 5), data(2, 3, 4), data(2, 4, 5)),
        call(data(5), data(2, 3, 4), data(2, 4, 5), beta=0.5, alpha=2),
        call(data(5), data(2, 3, 4), data(3, 4, 5), error=(RuntimeError, "batches have sizes 2 and 3")),
    ]
)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=_BATCHES + calls(lambda: [call(data(2, 3, 5), data(2, 3, 4), data(2, 4, 5))]),
)
def baddbmm(input: Tensor_, batch1: Tensor_, batch2: Tensor_, *, beta: Operand = 1, alpha: Operand = 1):
    """`beta * input + alpha * (batch1 @ batch2)`, for each matrix of a batch; `input` broadcasts to [B, M, N]."""
    _check_batches("baddbmm", batch1, batch2, "batch1", "batch2")
    _same_dtype("baddbmm", input, batch1, batch2)
    return _plus("baddbmm", input, ops.matmul(batch1, batch2), beta, alpha)


@function(free="flambeau", method=True, in_place=True, samples=_BATCHES)
def addbmm(input: Tensor_, batch1: Tensor_, batch2: Tensor_, *, beta: Operand = 1, alpha: Operand = 1):
    """`beta * input + alpha * (batch1 @ batch2).sum(0)`, as one product of matrices; `input` broadcasts to [M, N]."""
    _check_batches("addbmm", batch1, batch2, "batch1", "batch2")
    _same_dtype("addbmm", input, batch1, batch2)
    b, m, k = batch1.shape
    rows = ops.reshape(ops.permute(batch1, perm=(1, 0, 2)), shape=(m, b * k))
    made = ops.matmul(rows, ops.reshape(batch2, shape=(b * k, batch2.shape[2])))
    return _plus("addbmm", input, made, beta, alpha)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(3), data(3, 4), data(4), alpha=0.5),
            call(data(2), data(3, 4), data(4), error=(RuntimeError, "do not broadcast")),
        ]
    ),
)
def addmv(input: Tensor_, mat: Tensor_, vec: Tensor_, *, beta: Operand = 1, alpha: Operand = 1):
    """`beta * input + alpha * (mat @ vec)`; `input` broadcasts to the product's shape."""
    _check_rank("addmv", mat, 2, "mat")
    _check_rank("addmv", vec, 1, "vec")
    _same_dtype("addmv", input, mat, vec)
    return _plus("addmv", input, _matmul(mat, vec), beta, alpha)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(3, 4), data(3), data(4), beta=2),
            call(data(3, 3), data(3), data(4), error=(RuntimeError, "do not broadcast")),
        ]
    ),
)
def addr(input: Tensor_, vec1: Tensor_, vec2: Tensor_, *, beta: Operand = 1, alpha: Operand = 1):
    """`beta * input + alpha * outer(vec1, vec2)`; `input` broadcasts to [M, N]."""
    _check_rank("addr", vec1, 1, "vec1")
    _check_rank("addr", vec2, 1, "vec2")
    _same_dtype("addr", input, vec1, vec2)
    shape = (vec1.shape[0], vec2.shape[0])
    made = ops.reshape(vec1, shape=(shape[0], 1)).expand(shape) * vec2.expand(shape)
    return _plus("addr", input, made, beta, alpha)


# ---- many matrices ----------------------------------------------------------------------------------------


def _cheapest(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to cut the product of matrices i..j, of sizes[i] x sizes[i + 1] and so on, for the
    fewest multiplications."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    cut: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            costs = [(cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)]
            cost[i, j], cut[i, j] = min(costs)
    return cut


@function(name="multi_dot")
def _chain(tensors: Tensors, cut: Static):
    places = dict(cut)

    def product(i: int, j: int) -> Value:
        if i == j:
            return tensors[i]
        left, right = product(i, places[i, j]), product(places[i, j] + 1, j)
        return ops.matmul(left, right)

    return product(0, len(tensors) - 1)


def _multiplied(op: str, tensors: list[Tensor]) -> Tensor:
    for x in tensors:
        if x.dtype is not tensors[0].dtype:
            raise RuntimeError(f"[{op}] dtypes are {tensors[0].dtype.name} and {x.dtype.name}. Convert them to one.")
        if x.ndim != 2:
            raise RuntimeError(f"[{op}] a tensor has shape {x.shape}. Pass matrices.")
    for x, y in itertools.pairwise(tensors):
        if x.shape[1] != y.shape[0]:
            raise RuntimeError(f"[{op}] shapes {x.shape} and {y.shape} cannot be multiplied. Transpose or reshape one.")
    sizes = [*(int(x.shape[0]) for x in tensors), int(tensors[-1].shape[1])]
    return _chain(tensors, tuple(_cheapest(sizes).items()))


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call([data(2, 3), data(3, 4), data(4, 2)]),
            call([data(3), data(3, 4), data(4)]),
            call([data(2, 3)], error=(RuntimeError, "at least 2")),
            call([data(2, 3), data(2, 3)], error=(RuntimeError, "cannot be multiplied")),
        ]
    ),
)
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices in the order that takes the fewest multiplications; the first and the last may be
    vectors. Raises RuntimeError for sizes and dtypes that do not fit."""
    given = _tensors("multi_dot", (tensors,))
    if len(given) < 2:
        raise RuntimeError(f"[multi_dot] there are {len(given)} tensors. Pass at least 2.")
    row, column = given[0].ndim == 1, given[-1].ndim == 1
    given[0] = given[0].unsqueeze(0) if row else given[0]
    given[-1] = given[-1].unsqueeze(-1) if column else given[-1]
    made = _multiplied("multi_dot", given)
    made = made.squeeze(-1) if column else made
    return made.squeeze(0) if row else made


@declared(free="flambeau", samples=calls(lambda: [call(data(2, 3), data(3, 4)), call(data(2, 3))]))
def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of matrices in the order that takes the fewest multiplications; one is returned as it is."""
    given = _tensors("chain_matmul", matrices)
    if not given:
        raise RuntimeError("[chain_matmul] there are no matrices. Pass at least one.")
    return given[0] if len(given) == 1 else _multiplied("chain_matmul", given)


@function(
    free="flambeau linalg",
    method=True,
    fallible=True,
    samples=calls(
        lambda: [
            *(call(data(2, 2), n) for n in (0, 1, 5)),
            call(data(2, 3, 3), 2),
            call(data(2, 3), 2, error=(RuntimeError, "Pass square matrices")),
            *(call(matrices(2, 2, 2), n) for n in (-1, -3)),
            call(np.ones((2, 2)), -1, error=(LinAlgError, "is singular")),
        ]
    ),
)
def matrix_power(input: Tensor_, n: Static):
    """The product of `n` times the same square matrix, or each of a batch; for negative `n` of its inverse. Raises
    LinAlgError where
    there is none."""
    shape = input.shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise RuntimeError(f"[matrix_power] the tensor has shape {shape}. Pass square matrices.")
    if n < 0:
        return _power(inverted("matrix_power", input, "matrix_power")[0], -n)
    if n == 0:
        row, column = (ops.iota(shape=shape, dim=len(shape) - d, dtype=int64, builder=input.builder) for d in (2, 1))
        return row.eq(column).cast(input.dtype)
    return _power(input, n)


def _power(power: Value, n: int) -> Value:
    made: Value | None = None
    while n:
        if n & 1:
            made = power if made is None else ops.matmul(made, power)
        n >>= 1
        power = ops.matmul(power, power) if n else power
    assert made is not None  # n is at least 1
    return made


# ---- bilinear ---------------------------------------------------------------------------------------------


@function(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(5, 2), data(5, 3), data(4, 2, 3), data(4)),
            call(data(2, 2, 2), data(2, 2, 3), data(4, 2, 3)),
            call(data(5, 2), data(5, 2), data(4, 2, 3), error=(RuntimeError, "do not fit")),
        ]
    ),
)
def bilinear(input1: Tensor_, input2: Tensor_, weight: Tensor_, bias: Optional_ = None):
    """`input1 @ weight[o] @ input2` for each output o: [..., in1] and [..., in2] with weight [out, in1, in2] and bias [out] give
    [..., out]. Raises RuntimeError for sizes and dtypes that do not fit."""
    _same_dtype("bilinear", input1, input2, weight, *([] if bias is None else [bias]))
    _check_rank("bilinear", weight, 3, "weight")
    shapes = f"inputs of shapes {input1.shape} and {input2.shape}, weight of shape {weight.shape}"
    if input1.shape[:-1] != input2.shape[:-1] or (input1.shape[-1:], input2.shape[-1:]) != (
        weight.shape[1:2],
        weight.shape[2:],
    ):
        raise RuntimeError(f"[bilinear] {shapes} do not fit. Pass [..., in1], [..., in2] and [out, in1, in2].")
    out, in1, in2 = weight.shape
    rest = input1.shape[:-1]
    count = math.prod(rest)
    left = ops.reshape(input1, shape=(count, in1))
    made = ops.matmul(left, ops.reshape(ops.permute(weight, perm=(1, 0, 2)), shape=(in1, out * in2)))
    made = ops.matmul(ops.reshape(made, shape=(count, out, in2)), ops.reshape(input2, shape=(count, in2, 1)))
    made = ops.reshape(made, shape=(*rest, out))
    if bias is None:
        return made
    if bias.shape != (out,):
        raise RuntimeError(f"[bilinear] bias of shape {bias.shape} does not fit {out} outputs. Pass [out].")
    return made + bias.expand(made.shape)


@function(
    free="linalg",
    name="matmul",
    samples=calls(lambda: [call(data(2, 3), data(3, 2)), call(data(2), data(3), error=(RuntimeError, "multiplied"))]),
)
def linalg_matmul(input: Tensor_, other: Tensor_):
    """`flambeau.matmul`."""
    return _matmul(input, other)
