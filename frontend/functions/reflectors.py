"""Products of Householder reflectors: householder_product, orgqr, ormqr.

In: reflectors as LAPACK stores them, the columns below a diagonal, and their factors tau. Out: products of the orthogonal
(unitary) matrix that they are. It is I - V T V', with T = D (I + S D)^-1, D the diagonal of tau and S what is above that of V' V:
Schreiber and Van Loan, "A storage-efficient WY representation for products of Householder transformations", 1989. Next:
`low_rank.py`.
"""

from __future__ import annotations

from flambeau.dialects.builder import Value
from flambeau.dialects.tape.linear_algebra import solved_by_adjoint
from flambeau.dialects.tape.matrices import as_columns, as_rows
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.matrices import (
    adjoint,
    batched,
    check_alike,
    check_matrix,
    lower,
    matrices,
    on_diagonal,
    product,
)
from flambeau.samples import call, calls, data


class _Reflectors:
    """The reflectors V of [*batch, M, K] and what makes the product of them."""

    def __init__(self, op: str, packed: Value, tau: Value) -> None:
        check_matrix(op, packed)
        check_alike(op, packed, tau)
        m, n = packed.shape[-2:]
        if tau.shape[:-1] != packed.shape[:-2] or tau.shape[-1] > min(m, n):
            raise RuntimeError(
                f"[{op}] reflectors of shape {packed.shape} and tau of shape {tau.shape} do not fit. "
                f"Pass [*batch, M, N] and [*batch, K], K at most M and N."
            )
        k = tau.shape[-1]
        sizes = (*packed.shape[:-1], k)
        below = lower(ops.slice(packed, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes)), -1)
        self.v = ops.select(on_diagonal(below), below.like(1), below)
        self.tau = tau
        self.unit = product(adjoint(self.v), self.v) * as_rows(tau, k)

    def applied(self, x: Value, turned: bool) -> Value:
        """Q x, or with `turned` Q' x."""
        if not self.tau.shape[-1]:
            return x
        v, x = batched("ormqr", self.v, x)
        unit, inner = batched("ormqr", self.unit, product(adjoint(v), x))
        factor = as_columns(self.tau, x.shape[-1]).expand(inner.shape)
        if turned:
            return x - product(v, solved_by_adjoint(unit, inner * factor.conj(), upper=True, unit=True))
        inner = ops.triangular_solve(unit, inner, upper=True, transposed=False, unit=True)
        return x - product(v, inner * factor)


def _columns_of_identity(x: Value) -> Value:
    return on_diagonal(x).cast(x.dtype)


_PRODUCTS = calls(
    lambda: [
        call(matrices(3, 2), data(2, low=0.5)),
        call(matrices(2, 3, 3), data(2, 2, low=0.5)),
        call(data(3, 0), data(0), gradient=False),
        call(data(3, 2), data(3), error=(RuntimeError, "K at most M and N")),
        call(data(2, 3), data(2), error=(RuntimeError, "Pass at least as many rows as columns")),
    ]
)


def _product_of(op: str, packed: Value, tau: Value) -> Value:
    check_matrix(op, packed)
    if packed.shape[-2] < packed.shape[-1]:
        raise RuntimeError(f"[{op}] reflectors have shape {packed.shape}. Pass at least as many rows as columns.")
    return _Reflectors(op, packed, tau).applied(_columns_of_identity(packed), False)


@function(free="linalg", out=True, samples=_PRODUCTS)
def householder_product(input: Tensor_, tau: Tensor_):
    """The first N columns of the product of the reflectors I - tau[i] v[i] v[i]^H, where v[i] is column i of `input` [..., M,
    N] below the
    diagonal, with 1 on it. Raises RuntimeError for sizes that do not fit."""
    return _product_of("householder_product", input, tau)


@function(free="flambeau", method=True, out=True, samples=_PRODUCTS)
def orgqr(input: Tensor_, input2: Tensor_):
    """`linalg.householder_product`; `input2` is tau."""
    return _product_of("orgqr", input, input2)


@function(
    free="flambeau",
    method=True,
    out=True,
    samples=calls(
        lambda: [
            call(matrices(3, 2), data(2, low=0.5), data(3, 2)),
            call(matrices(2, 3, 2), data(2, 2, low=0.5), data(2, 3, 1), transpose=True),
            call(matrices(3, 2), data(2, low=0.5), data(2, 3), left=False),
            call(matrices(3, 2), data(2, low=0.5), data(2, 3), left=False, transpose=True),
            call(matrices(3, 2), data(2, low=0.5), data(2, 2), error=(RuntimeError, "do not meet")),
        ]
    ),
)
def ormqr(input: Tensor_, input2: Tensor_, input3: Tensor_, left: Static = True, transpose: Static = False):
    """The product of the orthogonal matrix Q of M x M that the reflectors in `input` [..., M, K] and tau, `input2`, are, or
    with `transpose`
    of its adjoint, and `input3`: `Q @ input3`, or unless `left` `input3 @ Q`. Raises RuntimeError for sizes that do not fit."""
    made = _Reflectors("ormqr", input, input2)
    check_matrix("ormqr", input3, "input3")
    check_alike("ormqr", input, input3)
    if input3.shape[-2 if left else -1] != input.shape[-2]:
        raise RuntimeError(
            f"[ormqr] reflectors of shape {input.shape} and input3 of shape {input3.shape} do not meet. "
            f"Give it {input.shape[-2]} {'rows' if left else 'columns'}."
        )
    if left:
        return made.applied(input3, transpose)
    return adjoint(made.applied(adjoint(input3), not transpose))
