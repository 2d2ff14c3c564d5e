"""Bessel functions that wave or vanish, Airy's, and orthogonal polynomials, as in `torch.special`.

In: tensors; integers and bools are converted to the default dtype. Out: tensors. Next: `special.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.function import Operand, Tensor_, function
from flambeau.functions.common import floating, ops, promoted
from flambeau.functions.trigonometry import unary_special
from flambeau.samples import Samples, call, calls, data


@function(free="special", out=True, samples=unary_special(-2, 2))
def bessel_j0(input: Tensor_):
    """The Bessel function of the first kind of order 0."""
    return ops.bessel_j0(floating(input))


@function(free="special", out=True, samples=unary_special(-3, 3))
def bessel_j1(input: Tensor_):
    """The Bessel function of the first kind of order 1."""
    return ops.bessel_j1(floating(input))


@function(free="special", out=True, samples=unary_special(1.2, 3.6))
def bessel_y0(input: Tensor_):
    """The Bessel function of the second kind of order 0: -inf at 0, NaN below."""
    return ops.bessel_y0(floating(input))


@function(free="special", out=True, samples=unary_special(2.6, 5))
def bessel_y1(input: Tensor_):
    """The Bessel function of the second kind of order 1: -inf at 0, NaN below."""
    return ops.bessel_y1(floating(input))


@function(free="special", out=True, samples=unary_special(-9, 9))
def modified_bessel_i0(input: Tensor_):
    """`i0`: the modified Bessel function of the first kind of order 0."""
    return ops.i0(floating(input))


@function(free="special", out=True, samples=unary_special(-9, 9))
def modified_bessel_i1(input: Tensor_):
    """`i1`: the modified Bessel function of the first kind of order 1."""
    return ops.i1(floating(input))


@function(free="special", out=True, samples=unary_special(0.2, 9))
def modified_bessel_k0(input: Tensor_):
    """The modified Bessel function of the second kind of order 0: inf at 0, NaN below."""
    return ops.modified_bessel_k0(floating(input))


@function(free="special", out=True, samples=unary_special(0.2, 9))
def modified_bessel_k1(input: Tensor_):
    """The modified Bessel function of the second kind of order 1: inf at 0, NaN below."""
    return ops.modified_bessel_k1(floating(input))


@function(free="special", out=True, samples=unary_special(0.2, 9))
def scaled_modified_bessel_k0(x: Tensor_):
    """`modified_bessel_k0(x) * exp(x)`, which does not vanish."""
    return ops.scaled_modified_bessel_k0(floating(x))


@function(free="special", out=True, samples=unary_special(0.2, 9))
def scaled_modified_bessel_k1(x: Tensor_):
    """`modified_bessel_k1(x) * exp(x)`, which does not vanish."""
    return ops.scaled_modified_bessel_k1(floating(x))


@function(free="special", out=True, samples=unary_special(0.3, 4))
def spherical_bessel_j0(x: Tensor_):
    """sin(x) / x: 1 at 0."""
    x = floating(x)
    nothing = x.eq(0.0)
    inner = ops.select(ops.or_(nothing, ops.abs(x).eq(float("inf"))), x.like(1.0), x)
    found = ops.select(ops.abs(x).eq(float("inf")), x.like(0.0), ops.sin(inner) / inner)
    return ops.select(nothing, x.like(1.0), found)


@function(
    free="special",
    out=True,
    samples=calls(lambda: [call(data(2, 3), gradient=False), call(np.arange(3), gradient=False)]),
)
def airy_ai(x: Tensor_):
    """Airy's function Ai. It has no gradient, as in PyTorch."""
    return ops.airy_ai(floating(x))


def _degrees() -> Samples:
    return calls(
        lambda: [
            call(data(2, 3), np.array([[0, 1, 2], [3, 5, -1]]), gradient=False),
            call(data(4), 3, gradient=False),
            call(0.5, np.array([0, 4]), gradient=False),
        ]
    )


def _declare(kind: str, doc: str, shifted: bool = False) -> None:
    family, _, letter = kind.partition("_")
    name = f"{'shifted_' if shifted else ''}{family}_polynomial{'_' + letter if letter else ''}"

    def rule(input: Operand, n: Operand):
        x, degree = promoted(name, input, n, float_only=True)
        return ops.orthogonal_polynomial(x + x - 1.0 if shifted else x, degree, kind=kind)

    rule.__name__ = rule.__qualname__ = name
    rule.__doc__ = doc + " It has no gradient, as in PyTorch."
    globals()[name] = function(free="special", name=name, out=True, samples=_degrees())(rule)


for _letter in "tuvw":
    _declare(f"chebyshev_{_letter}", f"Chebyshev's polynomial {_letter.upper()} of degree `n`.")
    _declare(
        f"chebyshev_{_letter}",
        f"Chebyshev's polynomial {_letter.upper()} of degree `n` at 2 * input - 1.",
        shifted=True,
    )
_declare("hermite_h", "Hermite's polynomial H of degree `n`, the physicists' one.")
_declare("hermite_he", "Hermite's polynomial He of degree `n`, the probabilists' one.")
_declare("laguerre_l", "Laguerre's polynomial of degree `n`.")
_declare("legendre_p", "Legendre's polynomial of degree `n`.")
