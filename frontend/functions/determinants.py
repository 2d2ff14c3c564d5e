"""Determinants: det, slogdet, logdet.

In: batches of square matrices, float32, float64 or complex. Out: their determinants, by the factors that `lu` gives.
Next: `spectra.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import return_types
from flambeau.declarations import declare
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int32, int64
from flambeau.function import Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.matrices import check_square, diagonal, eps, matrices, singular
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _parts(op: str, a: Value) -> tuple[Value, Value]:
    """The diagonals of U, and 1 or -1 for an even or odd number of exchanges of rows."""
    check_square(op, a, "A")
    packed, pivots, _ = ops.lu(a, op="")
    axis = len(pivots.shape) - 1
    with a.builder.on(a.aval.device):
        own = ops.iota(shape=pivots.shape, dim=axis, dtype=int64, builder=a.builder).cast(int32) + 1
    odd = ops.sum(pivots.ne(own).cast(int64), axes=(axis,))
    odd = ops.and_(odd, odd.like(1)).cast(a.dtype)
    return diagonal(packed), odd * -2.0 + 1.0


def _det(a: Value) -> Value:
    """The product of U's diagonal. Where that has zeros, its gradient is that of a matrix that is nearly this one."""
    found, parity = _parts("det", a)
    axes = (len(found.shape) - 1,)
    none = found.eq(0)
    made = ops.prod(found + ops.select(none, found.like(eps(found)), found.like(0)), axes=axes) * parity
    return made - ops.stop_gradient(ops.select(ops.any(none, axes=axes), made, made.like(0)))


_DET = calls(
    lambda: [
        *(call(matrices(*s)) for s in ((1, 1), (3, 3), (2, 2, 2))),
        *(call(data(*s), gradient=False) for s in ((0, 0), (2, 0, 0), (0, 2, 2))),
        call(singular(3), gradient=False),
        call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
        call(data(3), error=(RuntimeError, "at least 2 dimensions")),
    ]
)


@function(free="flambeau", method=True, fallible=True, samples=_DET)
def det(input: Tensor_):
    """The determinants of square matrices. The gradient is right where these are 0, too."""
    return _det(input)


@function(free="linalg", name="det", fallible=True, out=True, samples=_DET)
def _linalg_det(A: Tensor_):
    """The determinants of square matrices. The gradient is right where these are 0, too."""
    return _det(A)


def _sign_and_log(op: str, a: Value) -> tuple[Value, Value]:
    found, parity = _parts(op, a)
    axes = (len(found.shape) - 1,)
    return ops.prod(ops.sign(found), axes=axes) * parity, ops.sum(ops.log(ops.abs(found)), axes=axes)


@function(name="slogdet", fallible=True)
def _slogdet(A: Tensor_):
    return _sign_and_log("slogdet", A)


_SLOGDET = calls(
    lambda: [
        *(call(matrices(*s)) for s in ((1, 1), (3, 3), (2, 2, 2))),
        call(data(0, 0), gradient=False),
        call(singular(), gradient=False),
        call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
    ]
)


def slogdet(input: Tensor, *, out: Any = None) -> Any:
    """(sign, logabsdet): `sign * exp(logabsdet)` is the determinant; 0 and -infinity of a singular matrix."""
    found = return_types.slogdet(*_slogdet(input))
    return found if out is None else stored_in("slogdet", out, found)


def _linalg_slogdet(A: Tensor, *, out: Any = None) -> Any:
    return return_types.linalg_slogdet(*slogdet(A, out=out))


_linalg_slogdet.__doc__ = slogdet.__doc__
declare(slogdet, "slogdet", free="flambeau", method=True, samples=_SLOGDET)
declare(_linalg_slogdet, "slogdet", free="linalg", samples=_SLOGDET)


@function(
    free="flambeau",
    method=True,
    fallible=True,
    samples=calls(
        lambda: [
            call(matrices(3, 3)),
            call(matrices(2, 2, 2)),
            call(singular(), gradient=False),
            call(-matrices(1, 1), gradient=False),
            call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
        ]
    ),
)
def logdet(input: Tensor_):
    """The logarithms of determinants: -infinity where these are 0, NaN where they are negative."""
    sign, logarithm = _sign_and_log("logdet", input)
    if sign.dtype.is_complex:
        return ops.log(sign) + logarithm.cast(sign.dtype)
    return ops.select(sign < 0, logarithm.like(math.nan), logarithm)
