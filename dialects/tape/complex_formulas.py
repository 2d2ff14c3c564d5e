"""What ops on complex numbers are in real arithmetic: the formulas of `OpRecord.parts`, and of their gradients.

In: `Pair`s of real values, attributes. Out: a `Pair`, or a real value. Each real op rounds; nothing is fused. Special values are
PyTorch's. Next: `complex.py`, the ops that take numbers apart and put them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau.dialects.dtypes import DType
from flambeau.dialects.parts import Pair
from flambeau.dialects.record import find


class _LateOps:
    """As `common.ops`, which imports what imports this."""

    def __getattr__(self, name: str) -> Any:
        return find(name)


ops = _LateOps()


def product(x: Pair, y: Pair) -> Pair:
    """(a + bi)(c + di) = (ac - bd) + (ad + bc)i: of infinite numbers NaN, as in PyTorch."""
    return Pair(x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re)


def quotient(x: Pair, y: Pair) -> Pair:
    """Smith's quotient (Algorithm 116, CACM 1962), as PyTorch's: the larger part of the divisor is divided by. By 0: both parts
    are divided by it."""
    a, b, c, d = x.re, x.im, y.re, y.im
    wide = ops.abs(c) >= ops.abs(d)
    large, small = ops.select(wide, c, d), ops.select(wide, d, c)
    ratio = small / large
    scale = c.like(1.0) / (large + small * ratio)
    p, q = ops.select(wide, a, b), ops.select(wide, b, a)
    re = (p + q * ratio) * scale
    im = (q - p * ratio) * scale
    im = ops.select(wide, im, -im)
    is_zero = ops.and_(c.eq(0.0), d.eq(0.0))
    return Pair(ops.select(is_zero, a / ops.abs(c), re), ops.select(is_zero, b / ops.abs(d), im))


def equal(x: Pair, y: Pair) -> Any:
    """Whether both parts are equal."""
    return ops.and_(x.re.eq(y.re), x.im.eq(y.im))


def unequal(x: Pair, y: Pair) -> Any:
    """Whether a part differs."""
    return ops.or_(x.re.ne(y.re), x.im.ne(y.im))


def direction(x: Pair) -> Pair:
    """x / |x|, 0 at 0."""
    size = ops.hypot(x.re, x.im)
    nothing = size.eq(0.0)
    return Pair(*(ops.select(nothing, part.like(0.0), part / size) for part in x))


def turned(ct: Any, r: Any, x: Any) -> Any:
    """The gradient of `direction`, with result r, on complex values: what of `ct` turns x, over |x|; 0 at 0."""
    along = ops.real(ct * r.conj()).cast(x.dtype) * r
    size = ops.abs(x)
    return ops.select(size.eq(0.0), x.like(0), (ct - along) / size.cast(x.dtype))


def converted(x: Any, dtype: DType) -> Any:
    """A cast from or to complex numbers: real ones get no imaginary part, and lose theirs; a number is true unless both parts
    are 0."""
    if not isinstance(x, Pair):
        part = x.cast(dtype.to_real())
        return Pair(part, part.like(0.0))
    if dtype.is_bool:
        return ops.or_(x.re.ne(0.0), x.im.ne(0.0))
    if not dtype.is_complex:
        return x.re.cast(dtype)
    return Pair(x.re.cast(dtype.to_real()), x.im.cast(dtype.to_real()))


# ---- folds and contractions ------------------------------------------------------------------------------------


def bilinear(product: Callable[[Any, Any], Any], a: Pair, b: Pair) -> Pair:
    """Four real products, each in its own order, of which two are subtracted and two are added."""
    return Pair(product(a.re, b.re) - product(a.im, b.im), product(a.re, b.im) + product(a.im, b.re))


def matrix_product(a: Pair, b: Pair) -> Pair:
    """Four products of real matrices."""
    return bilinear(ops.matmul, a, b)


def _halves(x: Any) -> tuple[Any, Any, Any]:
    """The first half along the last axis, the second one, and what is left over: nothing, or an element."""
    n = x.shape[-1]
    lead = (0,) * (len(x.shape) - 1)

    def part(start: Any, count: Any) -> Any:
        return ops.slice(x, starts=(*lead, start), sizes=(*x.shape[:-1], count), steps=(1,) * len(x.shape))

    half = n // 2
    return part(0, half), part(half, half), part(2 * half, n - 2 * half)


def product_along(x: Pair, axes: tuple[int, ...]) -> Pair:
    """The product over axes: element k of the first half times element k of the second one, and again, while there are two; an
    odd last one is carried over. It depends on the number of elements: one that is not known is taken to be that at hand."""
    shape = x.re.shape
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    count = int(math.prod(shape[axis] for axis in axes))
    result = tuple(shape[axis] for axis in kept)
    if count == 0:
        one = x.re.builder.constant(1.0, x.re.dtype, result)
        return Pair(one, one.like(0.0))
    lines = Pair(*(ops.reshape(ops.permute(p, perm=kept + axes), shape=(*result, count)) for p in x))
    while lines.re.shape[-1] > 1:
        parts = [_halves(p) for p in lines]
        first, second, rest = (Pair(parts[0][k], parts[1][k]) for k in range(3))
        lines = product(first, second)
        if rest.re.shape[-1]:
            lines = Pair(*(ops.concat(p, q, dim=len(result)) for p, q in zip(lines, rest)))
    return Pair(*(ops.reshape(p, shape=result) for p in lines))
