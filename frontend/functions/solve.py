"""Systems of equations: solve, inv, solve_triangular, what solves with factors that are there, tensorsolve and tensorinv.

In: batches of matrices, float32, float64 or complex, and right sides whose batches broadcast. Out: solutions, that have
gradients of any order. A system is factored once: its gradients solve with the same factors. Next: `determinants.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.tape.linear_algebra import permutation
from flambeau.dialects.tape.matrices import LinAlgError
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import broadcast_shapes, canonical_dim, ops
from flambeau.functions.matrices import (
    batched,
    check_alike,
    check_matrix,
    check_square,
    identity,
    matrices,
    product,
    singular,
    transposed,
)
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- general matrices -------------------------------------------------------------------------------------


def _factored(op: str, a: Value, failing: str) -> tuple[Value, Value, Value]:
    check_square(op, a, "A")
    return ops.lu(a, op=failing)


def _with_batch(x: Value, batch: tuple[Any, ...], own: int) -> Value:
    return x.expand((*batch, *x.shape[len(x.shape) - own :]))


def solved(op: str, a: Value, b: Value, left: bool, failing: str) -> tuple[Value, Value]:
    """The X with a X = b, or X a = b unless `left`; and what `lu` says of a. `failing` is the op that fails where a is singular."""
    packed, pivots, info = _factored(op, a, failing)
    check_alike(op, a, b)
    n = a.shape[-1]
    vector = len(b.shape) == 1 or (len(b.shape) == len(a.shape) - 1 and b.shape == a.shape[:-1])
    if vector and not left:
        raise RuntimeError(
            f"[{op}] B of shape {b.shape} is a vector, which stands on the right only. Leave out `left`."
        )
    b = ops.reshape(b, shape=(*b.shape, 1)) if vector else b
    check_matrix(op, b, "B")
    if b.shape[-2 if left else -1] != n:
        raise RuntimeError(
            f"[{op}] A of shape {a.shape} and B of shape {b.shape} do not meet. Give B {n} {'rows' if left else 'columns'}."
        )
    b = b if left else transposed(b)
    batch = broadcast_shapes(op, a.shape[:-2], b.shape[:-2])
    wide = [_with_batch(x, batch, own) for x, own in ((a, 2), (packed, 2), (pivots, 1), (b, 2))]
    x = ops.solve_factored(*wide, transposed=not left)
    x = x if left else transposed(x)
    return (ops.reshape(x, shape=x.shape[:-1]) if vector else x), info


@function(
    free="linalg",
    fallible=True,
    out=True,
    samples=calls(
        lambda: [
            *(call(matrices(*a), data(*b)) for a, b in (((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (3, 1)))),
            call(matrices(2, 3, 3), data(2, 3)),
            call(matrices(3, 3), data(2, 3), left=False),
            call(matrices(2, 1, 2, 2), data(3, 2, 2)),
            call(data(0, 0), data(0, 2), gradient=False),
            call(matrices(2, 2), data(2, 0), gradient=False),
            call(singular(), data(2, 1), error=(LinAlgError, "[solve] the matrix is singular: element 2 of the")),
            call(data(2, 3), data(2, 1), error=(RuntimeError, "Pass square matrices")),
            call(matrices(2, 2), data(3, 1), error=(RuntimeError, "Give B 2 rows")),
            call(matrices(2, 2), data(2), left=False, error=(RuntimeError, "is a vector")),
        ]
    ),
)
def solve(A: Tensor_, B: Tensor_, *, left: Static = True):
    """The X with `A @ X == B`, or unless `left` with `X @ A == B`: A is [..., N, N], B [..., N, K] or vectors [..., N].

    Raises LinAlgError for a singular matrix, RuntimeError for shapes and dtypes that do not fit.
    """
    return solved("solve", A, B, left, "solve")[0]


@function(name="solve_ex", fallible=True)
def _solve_ex(A: Tensor_, B: Tensor_, left: Static, failing: Static):
    return solved("solve_ex", A, B, left, failing)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(2, 3, 3), data(2, 3, 2)),
            call(matrices(2, 2), data(2), check_errors=True),
            call(singular(), data(2, 1), check_errors=True, error=(LinAlgError, "is singular")),
        ]
    ),
    recalled="types",
)
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """(result, info): `solve`, and for each matrix 0, or the place of the first zero on the diagonal of U, where the result
    is of no use.
    Raises LinAlgError there with `check_errors`."""
    found = return_types.linalg_solve_ex(*_solve_ex(A, B, left, "solve_ex" if check_errors else ""))
    return found if out is None else stored_in("solve_ex", out, found)


def inverted(op: str, a: Value, failing: str) -> tuple[Value, Value]:
    check_square(op, a, "A")
    return solved(op, a, identity(a, a.shape[-1]), True, failing)


_INV = calls(
    lambda: [
        *(call(matrices(*s)) for s in ((1, 1), (3, 3), (2, 2, 2))),
        *(call(data(*s), gradient=False) for s in ((0, 0), (0, 2, 2))),
        call(singular(), error=(LinAlgError, "is singular: element 2 of the diagonal of U is zero")),
        call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
    ]
)


@function(free="linalg", fallible=True, out=True, samples=_INV)
def inv(A: Tensor_):
    """The inverses of square matrices. Raises LinAlgError for a singular one."""
    return inverted("inv", A, "inv")[0]


@function(free="flambeau", method=True, fallible=True, out=True, samples=_INV)
def inverse(input: Tensor_):
    """`linalg.inv`: the inverses of square matrices. Raises LinAlgError for a singular one."""
    return inverted("inverse", input, "inverse")[0]


@function(name="inv_ex", fallible=True)
def _inv_ex(A: Tensor_, failing: Static):
    return inverted("inv_ex", A, failing)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(2, 3, 3)),
            call(singular(), gradient=False),
            call(singular(), check_errors=True, error=(LinAlgError, "is singular")),
        ]
    ),
    recalled="operand",
)
def inv_ex(A: Tensor, *, check_errors: bool = False, out: Any = None) -> Any:
    """(inverse, info): `inv`, and for each matrix 0, or the place of the first zero on the diagonal of U, where the inverse
    is of no use.
    Raises LinAlgError there with `check_errors`."""
    found = return_types.linalg_inv_ex(*_inv_ex(A, "inv_ex" if check_errors else ""))
    return found if out is None else stored_in("inv_ex", out, found)


# ---- triangles --------------------------------------------------------------------------------------------


def solved_triangular(op: str, a: Value, b: Value, upper: bool, left: bool, turned: bool, unit: bool) -> Value:
    """The X with a X = b, or X a = b unless `left`, where a is a triangle, or with `turned` the transpose of one."""
    check_square(op, a, "A")
    check_matrix(op, b, "B")
    check_alike(op, a, b)
    if b.shape[-2 if left else -1] != a.shape[-1]:
        raise RuntimeError(
            f"[{op}] A of shape {a.shape} and B of shape {b.shape} do not meet. "
            f"Give B {a.shape[-1]} {'rows' if left else 'columns'}."
        )
    a, b = batched(op, a, b if left else transposed(b))
    x = ops.triangular_solve(a, b, upper=upper, transposed=turned == left, unit=unit)
    return x if left else transposed(x)


_TRIANGLES = calls(
    lambda: [
        call(matrices(3, 3), data(3, 2), upper=True),
        call(matrices(2, 3, 3), data(3, 2), upper=False),
        call(matrices(3, 3), data(2, 2, 3), upper=False, left=False),
        call(matrices(2, 2), data(2, 2), upper=True, unitriangular=True),
        call(data(0, 0), data(0, 2), upper=True, gradient=False),
        call(matrices(2, 2), data(2), upper=True, error=(RuntimeError, "at least 2 dimensions")),
        call(matrices(2, 2), data(3, 2), upper=True, error=(RuntimeError, "Give B 2 rows")),
    ]
)


@function(free="linalg", out=True, samples=_TRIANGLES)
def solve_triangular(input: Tensor_, B: Tensor_, *, upper: Static, left: Static = True, unitriangular: Static = False):
    """The X with `input @ X == B`, or unless `left` with `X @ input == B`, where of `input` the upper or the lower triangle
    is read,
    without its diagonal, for ones, if it is `unitriangular`. A zero on the diagonal gives infinity or NaN."""
    return solved_triangular("solve_triangular", input, B, upper, left, False, unitriangular)


@function(name="triangular_solve")
def _triangular_solve(input: Tensor_, A: Tensor_, upper: Static, transpose: Static, unit: Static):
    x = solved_triangular("triangular_solve", A, input, upper, True, transpose, unit)
    return x, A.expand((*x.shape[:-2], *A.shape[-2:]))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 2), matrices(3, 3)),
            call(data(2, 3, 2), matrices(3, 3), upper=False, transpose=True),
            call(data(3, 2), matrices(2, 2), error=(RuntimeError, "Give B 2 rows")),
        ]
    ),
    recalled="types",
)
def triangular_solve(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
    *,
    out: Any = None,
) -> Any:
    """(solution, cloned_coefficient): the X with `A @ X == input`, or `A.mT` with `transpose`, of a triangle A; and A."""
    found = return_types.triangular_solve(*_triangular_solve(input, A, upper, transpose, unitriangular))
    return found if out is None else stored_in("triangular_solve", out, found)


def _solved_by_root(op: str, b: Value, root: Value, upper: bool) -> Value:
    def by_adjoint(b: Value) -> Value:
        return solved_triangular(op, root, b.conj(), upper, True, True, False).conj()

    if upper:
        return solved_triangular(op, root, by_adjoint(b), upper, True, False, False)
    return by_adjoint(solved_triangular(op, root, b, upper, True, False, False))


@function(
    free="flambeau",
    method=True,
    out=True,
    samples=calls(
        lambda: [
            call(data(3, 2), matrices(3, 3)),
            call(data(2, 3, 1), matrices(3, 3), True),
            call(data(3, 2), matrices(2, 2), error=(RuntimeError, "Give B 2 rows")),
        ]
    ),
)
def cholesky_solve(input: Tensor_, input2: Tensor_, upper: Static = False):
    """The X with `A @ X == input`, where `input2` is the factor of A that `cholesky` gives, of which the triangle is read."""
    return _solved_by_root("cholesky_solve", input, input2, upper)


@function(
    free="flambeau",
    method=True,
    out=True,
    samples=calls(
        lambda: [
            call(matrices(3, 3)),
            call(matrices(2, 2, 2), upper=True),
            call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
        ]
    ),
)
def cholesky_inverse(input: Tensor_, upper: Static = False):
    """The inverse of the matrix whose factor `input` is, as `cholesky` gives it."""
    check_square("cholesky_inverse", input)
    return _solved_by_root("cholesky_inverse", identity(input, input.shape[-1]), input, upper)


def _solved_by_factors(op: str, packed: Value, pivots: Value, b: Value, left: bool, adjoint: bool) -> Value:
    check_square(op, packed, "LU")
    check_matrix(op, b, "B")
    b = b if left else transposed(b)
    if adjoint:  # the conjugate of what the transpose gives
        b = b.conj()
    p = permutation(pivots, packed.shape[-1], packed)
    if adjoint != left:  # A X = B
        p, b = batched(op, transposed(p), b)
        half = solved_triangular(op, packed, product(p, b), False, True, False, True)
        x = solved_triangular(op, packed, half, True, True, False, False)
    else:
        half = solved_triangular(op, packed, b, True, True, True, False)
        x = product(*batched(op, p, solved_triangular(op, packed, half, False, True, True, True)))
    x = x.conj() if adjoint else x
    return x if left else transposed(x)


_PIVOTS = np.array([2, 3, 3], np.int32)


@function(
    free="linalg",
    out=True,
    samples=calls(
        lambda: [
            call(matrices(3, 3), _PIVOTS, data(3, 2)),
            call(matrices(3, 3), _PIVOTS, data(2, 3, 2), adjoint=True),
            call(matrices(3, 3), _PIVOTS, data(2, 3), left=False),
            call(matrices(3, 3), _PIVOTS, data(2, 3), left=False, adjoint=True),
            call(data(2, 3), _PIVOTS, data(2, 3), error=(RuntimeError, "Pass square matrices")),
        ]
    ),
)
def lu_solve(LU: Tensor_, pivots: Tensor_, B: Tensor_, *, left: Static = True, adjoint: Static = False):
    """The X with `A @ X == B`, or unless `left` with `X @ A == B`, by what `lu_factor(A)` gave; with `adjoint` for the
    transpose of A, conjugated."""
    return _solved_by_factors("lu_solve", LU, pivots, B, left, adjoint)


@function(
    free="flambeau",
    method=True,
    name="lu_solve",
    out=True,
    samples=calls(
        lambda: [
            call(data(3, 2), matrices(3, 3), _PIVOTS),
            call(data(3, 2), data(2, 3), _PIVOTS, error=(RuntimeError, "Pass square matrices")),
        ]
    ),
)
def _lu_solve(input: Tensor_, LU_data: Tensor_, LU_pivots: Tensor_):
    """The X with `A @ X == input`, by what `lu` gave of A: LU_data and LU_pivots."""
    return _solved_by_factors("lu_solve", LU_data, LU_pivots, input, True, False)


# ---- tensors as matrices ----------------------------------------------------------------------------------


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(4, 4).reshape(2, 2, 4), data(2, 2)),
            call(matrices(4, 4).reshape(2, 2, 4), data(4), error=(RuntimeError, "do not fit")),
        ]
    ),
)
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None, *, out: Tensor | None = None) -> Tensor:
    """The X with `tensordot(A, X, dims=X.ndim) == B`; the dimensions `dims` of A are moved to its end first.

    Raises RuntimeError where what is left of A's shape after B's has not as many elements as B.
    """
    if dims is not None:
        last = [canonical_dim("tensorsolve", d, A.ndim) for d in dims]
        A = A.permute(*(d for d in range(A.ndim) if d not in last), *last)
    first, rest = tuple(A.shape[: B.ndim]), tuple(A.shape[B.ndim :])
    n = math.prod(rest)
    if n != math.prod(first) or n != B.numel():
        raise RuntimeError(
            f"[tensorsolve] A of shape {tuple(A.shape)} and B of shape {tuple(B.shape)} do not fit. "
            f"Give A as many elements as B has, and as many again."
        )
    found = solve(A.reshape(n, n), B.reshape(n)).reshape(rest)
    return found if out is None else stored_in("tensorsolve", out, found)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(4, 4).reshape(2, 2, 4), 2),
            call(matrices(4, 4).reshape(4, 2, 2), ind=1),
            call(data(2, 3), ind=1, error=(RuntimeError, "as many elements")),
            call(data(2, 3), ind=0, error=(RuntimeError, "Use at least 1")),
        ]
    ),
)
def tensorinv(A: Tensor, ind: int = 2, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `tensordot(A, ., ind)`, of shape A.shape[ind:] + A.shape[:ind]. Raises RuntimeError where these two parts have
    not as many elements, LinAlgError where there is no inverse."""
    if ind < 1:
        raise RuntimeError(f"[tensorinv] ind is {ind}. Use at least 1.")
    first, rest = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if math.prod(first) != math.prod(rest):
        raise RuntimeError(
            f"[tensorinv] A of shape {tuple(A.shape)} is cut at {ind} into {first} and {rest}. Give both as many elements."
        )
    found = inv(A.reshape(math.prod(first), math.prod(rest))).reshape(*rest, *first)
    return found if out is None else stored_in("tensorinv", out, found)
