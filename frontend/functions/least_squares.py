"""What singular values and pseudo-inverses answer: condition numbers, and least squares.

In: batches of matrices, float32, float64 or complex. Out: numbers, solutions. Next: `low_rank.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.dtypes import int64
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.choose import where
from flambeau.functions.common import ops
from flambeau.functions.distances import matrix_norm
from flambeau.functions.matrices import batched, check_alike, check_matrix, matrices, product, singular
from flambeau.functions.solve import inv_ex
from flambeau.functions.spectra import are_large, pseudo_inverse_of, values_of
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data
from flambeau.type_info import finfo

# ---- condition --------------------------------------------------------------------------------------------


@function(name="cond", fallible=True)
def _spread(input: Tensor_, smallest: Static):
    """The largest singular value over the smallest, or the other way round."""
    s = values_of("cond", input)
    axes = (len(s.shape) - 1,)
    if not math.prod(s.shape[-1:]):
        return ops.sum(s, axes=axes)
    top, bottom = ops.max(s, axes=axes), ops.min(s, axes=axes)
    return bottom / top if smallest else top / bottom


def _by_inverse(input: Tensor, p: Any) -> Tensor:
    inverse, info = inv_ex(input)
    if not input.numel():
        return matrix_norm(input, "fro")
    is_singular = info > 0
    inverse = inverse.masked_fill(is_singular[..., None, None], 0.0)
    return where(is_singular, math.inf, matrix_norm(input, p) * matrix_norm(inverse, p))


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            *(call(matrices(3, 3), p) for p in (None, 2, -2, "fro", "nuc", 1, -1, math.inf, -math.inf)),
            call(matrices(2, 3, 2)),
            call(singular(), 1, gradient=False),
            call(0 * matrices(2, 2), "nuc", gradient=False),
            call(data(0, 0), gradient=False),
            call(data(2, 0, 0), 1, gradient=False),
            call(data(2, 2), 3, error=(RuntimeError, "is unknown")),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
)
def cond(input: Tensor, p: Any = None, *, out: Tensor | None = None) -> Tensor:
    """The condition number in the norm `p` (see `matrix_norm`): the norm times that of the inverse; without `p`, and with 2 and -2,
    by singular values, of matrices that are not square, too. Infinity for a singular matrix."""
    if p in (None, 2, -2):
        found = _spread(input, p == -2)
    else:
        found = _by_inverse(input, p)
    return found if out is None else stored_in("cond", out, found)


# ---- least squares ----------------------------------------------------------------------------------------

_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


@function(name="lstsq", fallible=True)
def _lstsq(input: Tensor_, b: Tensor_, rcond: Operand):
    check_matrix("lstsq", input)
    check_alike("lstsq", input, b)
    vector = len(b.shape) == len(input.shape) - 1
    b = ops.reshape(b, shape=(*b.shape, 1)) if vector else b
    if len(b.shape) < 2 or b.shape[-2] != input.shape[-2]:
        raise RuntimeError(
            f"[lstsq] matrices of shape {input.shape} and a right side of shape {b.shape} do not meet. "
            f"Give it {input.shape[-2]} rows."
        )
    pair = batched("lstsq", pseudo_inverse_of("lstsq", input, None, rcond, False), b)
    x = product(*pair)
    rest = b.expand((*x.shape[:-2], *b.shape[-2:])) - product(*batched("lstsq", input, x))
    s = ops.stop_gradient(values_of("lstsq", input))  # as in PyTorch
    rank = ops.sum(are_large(input, s, None, rcond).cast(int64), axes=(len(s.shape) - 1,))
    squares = ops.real(rest * rest.conj()) if rest.dtype.is_complex else rest * rest
    residuals = ops.sum(squares, axes=(len(rest.shape) - 2,))
    return (ops.reshape(x, shape=x.shape[:-1]) if vector else x), residuals, rank, s


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(4, 2), data(4, 3)),
            call(matrices(2, 4, 2), data(2, 4, 1), driver="gelsd", gradient=False),
            call(matrices(2, 3), data(2, 2), driver="gels"),
            call(matrices(2, 4, 2), data(2, 4), gradient=False),
            call(singular(), data(2, 1), gradient=False),
            call(matrices(3, 2), data(2, 2), error=(RuntimeError, "Give it 3 rows")),
            call(matrices(3, 2), data(3, 2), driver="qr", error=(RuntimeError, "Use 'gels'")),
        ]
    ),
)
def lstsq(input: Tensor, b: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular_values): the X with the least norm among those that make `input @ X - b` least, by the
    pseudo-inverse: singular values of at most `rcond` (max(M, N) * eps) times the largest count as 0.

    `driver` says as in PyTorch which of the others are there and which are empty: "gelsy" (the usual one) has the rank, "gels"
    the sums of squares that remain where M > N, "gelsd" and "gelss" all. Singular values have no gradient, as in PyTorch.
    Raises RuntimeError for other drivers, and sizes that do not meet.
    """
    if driver not in (None, *_DRIVERS):
        raise RuntimeError(f"[lstsq] driver is {driver!r}. Use 'gels', 'gelsy', 'gelsd' or 'gelss'.")
    m, n = input.shape[-2:] if input.ndim > 1 else (0, 0)
    least = max(int(m), int(n)) * finfo(input.dtype).eps if rcond is None else rcond
    x, residuals, rank, s = _lstsq(input, b, least)
    nothing = input.new_empty((0,))
    by_values = driver in ("gelsd", "gelss")
    remains = m > n and (driver == "gels" or (by_values and bool((rank == n).all())))
    return return_types.linalg_lstsq(
        x,
        residuals if remains else nothing,
        rank.new_empty((0,)) if driver == "gels" else rank,
        s.detach() if by_values else nothing,
    )
