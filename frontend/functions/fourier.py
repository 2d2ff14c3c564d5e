"""Fourier transforms, as in `torch.fft`: of complex and of real numbers, along one dimension or several.

In: tensors, float32, float64 or complex; integers and bools are converted to the default dtype. Out: complex tensors, or real
ones. The sums are host calls (`dialects/tape/fourier.py`), all else is compiled. Next: `complex.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from flambeau.declarations import declared
from flambeau.device import Device
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, float32, float64
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.assemble import _rolled
from flambeau.functions.choose import where
from flambeau.functions.common import canonical_dim, floating, ops
from flambeau.functions.complex import numbers
from flambeau.functions.from_data import floating_dtype
from flambeau.functions.ramps import arange
from flambeau.runtime.recorder import Tensor
from flambeau.samples import Samples, call, calls, data

# ---- operands and lengths -------------------------------------------------------------------------------------------


def _taken(op: str, x: Value) -> Value:
    """`x` as numbers that are transformed. Raises RuntimeError for narrow floats, as PyTorch does."""
    x = floating(x)
    if x.dtype.to_real() not in (float32, float64):
        raise RuntimeError(f"[{op}] the input has dtype {x.dtype}. Cast it to float32.")
    return x


def _pairs(x: Value) -> Value:
    """Complex numbers as a last axis of 2, also where they are real."""
    if x.dtype.is_complex:
        return ops.view_as_real(x)
    real = ops.reshape(x, shape=(*x.shape, 1))
    return ops.concat(real, real.like(0.0), dim=len(x.shape))


def _conjugated(pairs: Value) -> Value:
    return ops.view_as_real(ops.conj(ops.view_as_complex(pairs)))


def _listed(given: Any) -> tuple[Any, ...] | None:
    return None if given is None else tuple(given) if isinstance(given, tuple | list) else (given,)


def _places(op: str, x: Value, s: Any, dim: Any, to_real: bool) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Lengths and dimensions; `to_real`: where nothing else is said the last one is twice as long, less 2."""
    sizes, dims, rank = _listed(s), _listed(dim), len(x.shape)
    if rank == 0:
        raise IndexError(f"[{op}] the input is 0-d. Pass one with a dimension.")
    if dims is None:
        dims = tuple(range(rank)) if sizes is None else tuple(range(rank - len(sizes), rank))
        if sizes is not None and len(sizes) > rank:
            raise RuntimeError(f"[{op}] {len(sizes)} lengths for a tensor of {rank} dimensions. Give fewer.")
    found = tuple([canonical_dim(op, d, rank) for d in dims])
    if len(set(found)) < len(found):
        raise RuntimeError(f"[{op}] dims {dims} name a dimension twice. Name each once.")
    if sizes is None:
        sizes = (-1,) * len(found)
    if len(sizes) != len(found):
        raise RuntimeError(f"[{op}] {len(sizes)} lengths for {len(found)} dims. Give one length per dimension.")
    given = [x.shape[d] if _is_default(n) else n for n, d in zip(sizes, found)]
    if to_real and found and _is_default(sizes[-1]):
        given[-1] = 2 * (given[-1] - 1)
    for n in given:
        if isinstance(n, int) and n < 1:
            raise RuntimeError(f"[{op}] the length is {n}. Pass one of at least 1.")
    return tuple(given), found


def _is_default(n: Any) -> bool:
    return n is None or (isinstance(n, int) and n == -1)


# ---- transforms -----------------------------------------------------------------------------------------------------


def _along(x: Value, rank: int, axis: int, transform: Callable[[Value], Value]) -> Value:
    """The transform of lines along `axis` of `rank`; a further axis has the parts of numbers."""
    order = [d for d in range(rank) if d != axis] + [axis]

    def turned(x: Value, order: Sequence[int]) -> Value:
        order = (*order, *range(rank, len(x.shape)))
        return x if order == tuple(range(len(x.shape))) else ops.permute(x, perm=order)

    return turned(transform(turned(x, order)), np.argsort(order).tolist())


def _complex(pairs: Value, rank: int, sizes: Sequence[Any], dims: Sequence[int], inverse: bool) -> Value:
    for n, d in zip(sizes, dims):
        pairs = _along(pairs, rank, d, partial(ops.fourier_complex, n=n, inverse=inverse))
    return pairs


def _scaled(op: str, x: Value, norm: Any, sizes: Sequence[Any], forward: bool) -> Value:
    """Divided by how many numbers there are, or the root of that, as `norm` says."""
    if norm not in (None, "backward", "forward", "ortho"):
        raise RuntimeError(f"[{op}] norm is {norm!r}. Use 'backward', 'forward' or 'ortho'.")
    if norm != "ortho" and forward != (norm == "forward"):
        return x
    count = x.like(1.0) * math.prod(sizes)
    return x / (ops.sqrt(count) if norm == "ortho" else count)


def _to_complex(op: str, x: Value, s: Any, dim: Any, norm: Any, inverse: bool) -> Value:
    x = _taken(op, x)
    sizes, dims = _places(op, x, s, dim, to_real=False)
    found = _complex(_pairs(x), len(x.shape), sizes, dims, inverse)
    return ops.view_as_complex(_scaled(op, found, norm, sizes, not inverse))


def _from_real(op: str, x: Value, s: Any, dim: Any, norm: Any, inverse: bool = False) -> Value:
    x = _taken(op, x)
    if x.dtype.is_complex:
        raise RuntimeError(f"[{op}] the input has dtype {x.dtype}, expected a real one. Use fft, or pass input.real.")
    sizes, dims = _places(op, x, s, dim, to_real=False)
    if not dims:
        raise RuntimeError(f"[{op}] there are no dimensions to transform. Name one.")
    found = _along(x, len(x.shape), dims[-1], lambda x: ops.fourier_real(x, n=sizes[-1]))
    found = _conjugated(found) if inverse else found
    found = _complex(found, len(x.shape), sizes[:-1], dims[:-1], inverse)
    return ops.view_as_complex(_scaled(op, found, norm, sizes, not inverse))


def _to_real(op: str, x: Value, s: Any, dim: Any, norm: Any, forward: bool = False) -> Value:
    x = _taken(op, x)
    sizes, dims = _places(op, x, s, dim, to_real=True)
    if not dims:
        raise RuntimeError(f"[{op}] there are no dimensions to transform. Name one.")
    found = _complex(_pairs(x), len(x.shape), sizes[:-1], dims[:-1], not forward)
    found = _conjugated(found) if forward else found
    found = _along(found, len(x.shape), dims[-1], lambda x: ops.fourier_to_real(x, n=sizes[-1]))
    return _scaled(op, found, norm, sizes, forward)


_TRANSFORMS: dict[str, tuple[Callable[..., Value], bool, str]] = {
    "fft": (_to_complex, False, "The Fourier transform"),
    "ifft": (_to_complex, True, "The inverse Fourier transform"),
    "rfft": (_from_real, False, "The Fourier transform of real numbers, of which the first half is given"),
    "irfft": (
        _to_real,
        False,
        "The real numbers whose `rfft` is given; their count is even unless a length says otherwise",
    ),
    "hfft": (_to_real, True, "The real Fourier transform of what is half of a Hermitian signal"),
    "ihfft": (_from_real, True, "The inverse of `hfft`: the first half of a Hermitian signal"),
}
_ONE = " along `dim`, of `n` numbers: zeros are added, or the last ones left out."
_MANY = " along `dim`, of `s` numbers each: zeros are added, or the last ones left out."
_NORM = " `norm` says what is divided by their count: 'backward' the inverse, 'forward' the other one, 'ortho' both by its root."


def _samples(name: str, dims: int) -> Samples:
    """Of real numbers in every dtype, and of complex ones where they are taken."""
    real, length = name in ("rfft", "ihfft"), 5 if dims == 1 else (5,) * dims

    def make() -> list[Any]:
        found = [
            call(data(3, 6), gradient=False),
            call(data(2, 4, 5), length, norm="ortho", gradient=False),
            call(data(3, 4), None, 0 if dims == 1 else (1, 0), "forward", gradient=False),
            call(data(2, 3), norm="none", error=(RuntimeError, "norm is 'none'")),
            call(data(2, 3), 0 if dims == 1 else (0,) * dims, error=(RuntimeError, "the length is 0")),
        ]
        if real:
            return [*found, call(numbers(2, 3), error=(RuntimeError, "expected a real one"))]
        return [
            *found,
            call(numbers(3, 6), gradient=False),
            call(numbers(2, 3, dtype="complex128"), length, gradient=False),
        ]

    return calls(make)


def _declare(name: str) -> None:
    transform, flag, doc = _TRANSFORMS[name]

    def one(input: Tensor_, n: Sizes = None, dim: Static = -1, norm: Static = None):
        return transform(name, input, n, dim, norm, flag)

    def two(input: Tensor_, s: Sizes = None, dim: Static = (-2, -1), norm: Static = None):
        return transform(f"{name}2", input, s, dim, norm, flag)

    def many(input: Tensor_, s: Sizes = None, dim: Static = None, norm: Static = None):
        return transform(f"{name}n", input, s, dim, norm, flag)

    for suffix, rule, words, dims in (("", one, _ONE, 1), ("2", two, _MANY, 2), ("n", many, _MANY, 2)):
        rule.__name__ = rule.__qualname__ = f"{name}{suffix}"
        rule.__doc__ = doc + words + _NORM
        globals()[rule.__name__] = function(free="fft", name=rule.__name__, out=True, samples=_samples(name, dims))(
            rule
        )


for _name in _TRANSFORMS:
    _declare(_name)

# ---- frequencies and shifts -----------------------------------------------------------------------------------------

_FREQUENCIES = calls(
    lambda: [call(6), call(5, 0.5), call(4, dtype=float64), call(0, error=(RuntimeError, "Pass at least 1"))]
)


def _frequencies(op: str, n: int, d: float, dtype: DType | None, device: Device, count: int) -> tuple[Tensor, DType]:
    if n < 1:
        raise RuntimeError(f"[{op}] n is {n}. Pass at least 1.")
    dtype = floating_dtype(op, dtype)
    return arange(count, device=device), dtype


@declared(free="fft", samples=_FREQUENCIES)
def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    out: Any = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of the `n` results of `fft`, for numbers that lie `d` apart: 0, 1, ..., -2, -1, over n * d."""
    at, dtype = _frequencies("fftfreq", n, d, dtype, device, n)
    return _given(where(at < (n + 1) // 2, at, at - n).to(dtype) * (1.0 / (n * d)), out, requires_grad)


@declared(free="fft", samples=_FREQUENCIES)
def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    out: Any = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of the n // 2 + 1 results of `rfft`, for numbers that lie `d` apart: 0, 1, ..., over n * d."""
    at, dtype = _frequencies("rfftfreq", n, d, dtype, device, n // 2 + 1)
    return _given(at.to(dtype) * (1.0 / (n * d)), out, requires_grad)


def _given(made: Tensor, out: Any, requires_grad: bool) -> Tensor:
    return made.requires_grad_(requires_grad) if out is None else out.copy_(made)


_SHIFTS = calls(lambda: [call(data(5)), call(data(3, 4)), call(data(3, 4), 1), call(data(3, 4), (0, -1))])


def _shifted(op: str, x: Value, dim: Any, backward: bool) -> Value:
    dims = range(len(x.shape)) if dim is None else _listed(dim) or ()
    for d in dims:
        axis = canonical_dim(op, d, len(x.shape))
        half = x.shape[axis] // 2
        x = _rolled(x, x.shape[axis] - half if backward else half, axis)
    return x


@function(free="fft", samples=_SHIFTS)
def fftshift(input: Tensor_, dim: Static = None):
    """Frequency 0 in the middle: elements shifted by half of their count along `dim`, along all without it."""
    return _shifted("fftshift", input, dim, False)


@function(free="fft", samples=_SHIFTS)
def ifftshift(input: Tensor_, dim: Static = None):
    """The inverse of `fftshift`."""
    return _shifted("ifftshift", input, dim, True)
