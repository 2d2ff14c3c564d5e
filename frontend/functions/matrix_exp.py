"""The exponential of matrices: compiled products alone, so that exported programs have it.

In: batches of square matrices, float32, float64 or complex. Out: their exponentials, with gradients of any order.
Next: `reflectors.py`.
"""

from __future__ import annotations

import math

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.matrices import check_square, identity, product
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

#: The largest 1-norm for which the Taylor polynomial of degree 18 is as good as the dtype, of float64.
_THETA = 1.090863719290036
#: Bader, Blanes, Casas, "Computing the matrix exponential with an optimized Taylor polynomial approximation", 2019, (17): the
#: coefficients of I, A, A^2, A^3 and A^6 in B1 to B5.
_B = (
    (0.0, -1.00365581030144618291e-01, -8.02924648241156932449e-03, -8.92138498045729985177e-04, 0.0),
    (
        0.0,
        3.97849749499645077844e-01,
        1.36783778460411720168e00,
        4.98289622525382669416e-01,
        -6.37898194594723280150e-04,
    ),
    (
        -1.09676396052962061844e01,
        1.68015813878906206114e00,
        5.71779846478865511061e-02,
        -6.98210122488052056106e-03,
        3.34975017086070470649e-05,
    ),
    (
        -9.04316832390810593223e-02,
        -6.76404519071381882256e-02,
        6.75961301770459654925e-02,
        2.95552570429315521194e-02,
        -1.39180257516060693404e-05,
    ),
    (0.0, 0.0, -9.23364619367118555360e-02, -1.69364939002081722752e-02, -1.40086798182036094347e-05),
)


def _polynomial(a: Value) -> Value:
    """Five products, degree 18."""
    square = product(a, a)
    cube = product(square, a)
    sixth = product(cube, cube)
    powers = (identity(a, a.shape[-1]), a, square, cube, sixth)

    def sum_of(row: int) -> Value:
        terms = [p * c for p, c in zip(powers, _B[row], strict=True) if c]
        made = terms[0]
        for term in terms[1:]:
            made = made + term
        return made

    ninth = product(sum_of(0), sum_of(4)) + sum_of(3)
    return sum_of(1) + product(sum_of(2) + ninth, ninth)


def _halvings(a: Value) -> Value:
    """How often each matrix is halved so that the polynomial is good enough, int64; 0 of what is not finite."""
    axis = len(a.shape) - 2
    norm = ops.max(ops.sum(ops.abs(ops.stop_gradient(a)), axes=(axis,)), axes=(axis,))
    wanted = ops.ceil(ops.log2(ops.maximum(norm / _THETA, norm.like(1.0))))
    return ops.select(ops.abs(wanted) < wanted.like(math.inf), wanted, wanted.like(0)).cast(int64)


@function(name="matrix_exp")
def _most_halvings(input: Tensor_):
    check_square("matrix_exp", input)
    counts = _halvings(input)
    return ops.max(counts, axes=tuple(range(len(counts.shape)))) if counts.shape else counts


@function(name="matrix_exp")
def _exp(input: Tensor_, most: Static):
    check_square("matrix_exp", input)
    if not most:
        return _polynomial(input)
    counts = _halvings(input)

    def wide(x: Value) -> Value:
        return ops.reshape(x, shape=(*x.shape, 1, 1)).expand(input.shape)

    made = _polynomial(input * wide(ops.exp2(-counts.cast(input.dtype.to_real())).cast(input.dtype)))
    for k in range(most):
        made = ops.select(wide(counts > k), product(made, made), made)
    return made


@declared(
    free="flambeau linalg",
    method=True,
    samples=calls(
        lambda: [
            *(call(data(*s)) for s in ((1, 1), (3, 3), (2, 2, 2))),
            call(data(2, 2, low=-20, high=3)),
            *(call(data(*s), gradient=False) for s in ((0, 0), (0, 2, 2), (2, 0, 0))),
            call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
        ]
    ),
)
def matrix_exp(input: Tensor) -> Tensor:
    """The exponentials of square matrices, by a polynomial of degree 18 of the matrix halved until its 1-norm is at most
    1.09, which
    is then squared as often. Runs what was recorded, to know how often that is."""
    return _exp(input, _most_halvings(input).item() if input.numel() else 0)
