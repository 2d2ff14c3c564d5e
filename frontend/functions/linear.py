"""Products of matrices and vectors: matmul, mm, bmm, mv, dot, addmm, linear, outer.

In: tensors of one dtype. Out: products; batches broadcast. All end in the record `matmul` on matrices, with batches
that only the left operand has folded into its rows. Next: `contract.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.builder import Value
from flambeau.function import Operand, Optional_, Tensor_, function
from flambeau.functions.arithmetic import mul
from flambeau.functions.common import broadcast_shapes, ops
from flambeau.samples import call, calls, data


def _same_dtype(op: str, *values: Value) -> None:
    if len({v.dtype for v in values}) > 1:
        found = " and ".join(v.dtype.name for v in values)
        raise RuntimeError(f"[{op}] operands have dtypes {found}. Convert them to one dtype with .to().")


def _check_rank(op: str, x: Value, rank: int, what: str) -> None:
    if len(x.shape) != rank:
        raise RuntimeError(f"[{op}] {what} has shape {x.shape}, expected {rank} dimensions. Reshape it, or use matmul.")


def _check_inner(op: str, x: Value, y: Value) -> None:
    """The last size of x meets the last but one of y (its only one for a vector)."""
    rows = y.shape[-2] if len(y.shape) > 1 else y.shape[0]
    if x.shape[-1] != rows:
        raise RuntimeError(
            f"[{op}] shapes {x.shape} and {y.shape} cannot be multiplied: {x.shape[-1]} columns meet {rows} rows. "
            "Transpose or reshape one of them."
        )


def _check_batches(op: str, x: Value, y: Value, *names: str) -> None:
    """Two batches of matrices, as many, whose sizes meet."""
    for v, what in zip((x, y), names, strict=True):
        _check_rank(op, v, 3, what)
    if x.shape[0] != y.shape[0]:
        raise RuntimeError(f"[{op}] batches have sizes {x.shape[0]} and {y.shape[0]}. Make them equal, or use matmul.")
    _check_inner(op, x, y)


def product(x: Value, y: Value) -> Value:
    """The matrix product of x [..., M, K] and y [..., K, N]; leading dimensions broadcast."""
    if len(y.shape) == 2 and len(x.shape) > 2:
        rows = ops.reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))
        return ops.reshape(ops.matmul(rows, y), shape=(*x.shape[:-1], y.shape[1]))
    batch = broadcast_shapes("matmul", x.shape[:-2], y.shape[:-2])
    return ops.matmul(x.expand((*batch, *x.shape[-2:])), y.expand((*batch, *y.shape[-2:])))


def _matmul(x: Value, y: Value) -> Value:
    if not x.shape or not y.shape:
        raise RuntimeError(
            f"[matmul] shapes {x.shape} and {y.shape}: both operands need a dimension. Use * for 0-d tensors."
        )
    _same_dtype("matmul", x, y)
    _check_inner("matmul", x, y)
    row, column = len(x.shape) == 1, len(y.shape) == 1
    x = ops.reshape(x, shape=(1, *x.shape)) if row else x
    y = ops.reshape(y, shape=(*y.shape, 1)) if column else y
    result = product(x, y)
    shape = list(result.shape)
    if column:
        del shape[-1]
    if row:
        del shape[-1 if column else -2]
    return ops.reshape(result, shape=tuple(shape)) if row or column else result


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 4), data(4, 5)),
            call(data(2, 3, 4), data(4, 2)),
            call(data(2, 1, 3, 4), data(3, 4, 2)),
            call(data(4), data(4)),
            call(data(3, 4), data(4)),
            call(data(4), data(2, 4, 3)),
            call(data(2, 0), data(0, 3), gradient=False),
            call(data(2, 3), data(2, 3), error=(RuntimeError, "cannot be multiplied")),
        ]
    ),
)
def matmul(input: Tensor_, other: Tensor_):
    """`input @ other`: vectors, matrices, or batches of matrices whose leading dimensions broadcast.

    Raises RuntimeError for dtypes that differ, 0-d operands, and sizes that do not meet.
    """
    return _matmul(input, other)


@function(name="matmul")
def matmul_operator(input: Operand, other: Operand):
    """What `@` calls: `matmul`, refusing numbers."""
    if input.weak or other.weak:
        raise RuntimeError("[matmul] an operand is a number. Use * instead of @.")
    return _matmul(input, other)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 4), data(4, 5)),
            call(data(2, 3), data(2, 3), error=(RuntimeError, "cannot be multiplied")),
            call(data(3), data(3, 2), error=(RuntimeError, "Reshape it, or use matmul")),
        ]
    ),
)
def mm(input: Tensor_, mat2: Tensor_):
    """The product of two matrices, [M, K] and [K, N]. Raises RuntimeError for other shapes."""
    _check_rank("mm", input, 2, "input")
    _check_rank("mm", mat2, 2, "mat2")
    _same_dtype("mm", input, mat2)
    _check_inner("mm", input, mat2)
    return ops.matmul(input, mat2)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3, 4), data(2, 4, 5)),
            call(data(2, 3, 4), data(3, 4, 5), error=(RuntimeError, "batches have sizes 2 and 3")),
        ]
    ),
)
def bmm(input: Tensor_, mat2: Tensor_):
    """The products of two batches of matrices, [B, M, K] and [B, K, N]. Raises RuntimeError for other shapes."""
    _check_batches("bmm", input, mat2, "input", "mat2")
    _same_dtype("bmm", input, mat2)
    return ops.matmul(input, mat2)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(3, 4), data(4)), call(data(3), data(3), error=(RuntimeError, "Reshape it, or use matmul"))]
    ),
)
def mv(input: Tensor_, vec: Tensor_):
    """The product of a matrix and a vector."""
    _check_rank("mv", input, 2, "input")
    _check_rank("mv", vec, 1, "vec")
    return _matmul(input, vec)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(70), data(70)), call(data(2, 3), data(3), error=(RuntimeError, "Reshape it, or use matmul"))]
    ),
)
def dot(input: Tensor_, tensor: Tensor_):
    """The inner product of two vectors of one length."""
    _check_rank("dot", input, 1, "input")
    _check_rank("dot", tensor, 1, "tensor")
    return _matmul(input, tensor)


@function(
    free="flambeau",
    method=True,
    aliases="ger",
    samples=calls(
        lambda: [call(data(3), data(4)), call(data(2, 3), data(3), error=(RuntimeError, "Reshape it, or use matmul"))]
    ),
)
def outer(input: Tensor_, vec2: Tensor_):
    """The outer product of two vectors, in their common dtype: [M] and [N] give [M, N]."""
    _check_rank("outer", input, 1, "input")
    _check_rank("outer", vec2, 1, "vec2")
    shape = (input.shape[0], vec2.shape[0])
    return mul.rule(ops.reshape(input, shape=(shape[0], 1)).expand(shape), vec2.expand(shape))


def _scaled(x: Value, factor: Value) -> Value:
    """`factor * x`, but 0 for a factor of 0, also where x is NaN or infinite: it may be memory that nothing has been written to."""
    number = factor.cast(x.dtype).expand(x.shape)
    return ops.select(number.eq(0), x.like(0), x * number)


def _plus(op: str, input: Value, made: Value, beta: Value, alpha: Value) -> Value:
    """`beta * input + alpha * made` for a product that was made, to whose shape `input` broadcasts."""
    if broadcast_shapes(op, input.shape, made.shape) != made.shape:
        raise RuntimeError(
            f"[{op}] input of shape {input.shape} does not broadcast to the product's shape {made.shape}."
        )
    return _scaled(input.expand(made.shape), beta) + _scaled(made, alpha)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(3, 5), data(3, 4), data(4, 5)),
            call(data(5), data(3, 4), data(4, 5), beta=0.5, alpha=2),
            call(data(5) * math.nan, data(3, 4), data(4, 5), beta=0, gradient=False),
            call(data(3), data(2, 3), data(2, 3), error=(RuntimeError, "cannot be multiplied")),
        ]
    ),
)
def addmm(input: Tensor_, mat1: Tensor_, mat2: Tensor_, *, beta: Operand = 1, alpha: Operand = 1):
    """`beta * input + alpha * (mat1 @ mat2)`; `input` broadcasts to the product's shape."""
    _check_rank("addmm", mat1, 2, "mat1")
    _check_rank("addmm", mat2, 2, "mat2")
    _same_dtype("addmm", input, mat1, mat2)
    _check_inner("addmm", mat1, mat2)
    return _plus("addmm", input, ops.matmul(mat1, mat2), beta, alpha)


@function(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4), data(5, 4), data(5)),
            call(data(2, 3, 4), data(5, 4)),
            call(data(4), data(4)),
            call(data(3, 4), data(5, 3), error=(RuntimeError, "do not fit")),
        ]
    ),
)
def linear(input: Tensor_, weight: Tensor_, bias: Optional_ = None):
    """`input @ weight.T + bias`: [..., in] with weight [out, in] and bias [out] gives [..., out].

    Raises RuntimeError for sizes or dtypes that do not fit.
    """
    if len(weight.shape) not in (1, 2) or not input.shape or input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"[linear] input of shape {input.shape} and weight of shape {weight.shape} do not fit: the last sizes must be "
            "equal. Check in_features."
        )
    _same_dtype("linear", input, weight, *([bias] if bias is not None else []))
    if len(weight.shape) == 1:
        result = _matmul(input, weight)
    else:
        result = _matmul(input, ops.permute(weight, perm=(1, 0)))
    if bias is None:
        return result
    if broadcast_shapes("linear", bias.shape, result.shape) != result.shape:
        raise RuntimeError(f"[linear] bias of shape {bias.shape} does not fit the result of shape {result.shape}.")
    return result + bias.expand(result.shape)
