"""What PyTorch says of complex numbers, said of real ones: adjoint, conj, conj_physical, resolve_conj, real, imag, ...

In: tensors, all of which are real. Out: the tensors themselves, as in PyTorch; no tensor is conjugated or negated by a flag. Next:
`diagonals.py`.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from flambeau.declarations import Unsampled, attribute, declared
from flambeau.dialects.builder import Value
from flambeau.function import Tensor_, function, view
from flambeau.functions.common import floating, ops, without_slope
from flambeau.functions.shape import _permuted, _swapped
from flambeau.missing import Missing
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points

_REAL = calls(lambda: [call(data(2, 3)), call(data())])


@declared(free="flambeau", method=True, samples=_REAL)
def conj(input: Tensor) -> Tensor:
    """The conjugate: the tensor itself, which is real."""
    return input


@declared(free="flambeau", method=True, samples=_REAL)
def conj_physical(input: Tensor) -> Tensor:
    """The conjugate: the tensor itself, which is real."""
    return input


@declared(method=True, samples=_REAL)
def conj_physical_(input: Tensor) -> Tensor:
    """The tensor itself, which is real."""
    return input


@declared(free="flambeau", method=True, samples=_REAL)
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: none waits to be conjugated."""
    return input


@declared(free="flambeau", method=True, samples=_REAL)
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: none waits to be negated."""
    return input


@declared(free="flambeau", method=True, samples=_REAL)
def is_conj(input: Tensor) -> bool:
    """Whether the tensor waits to be conjugated: never."""
    return False


@declared(free="flambeau", method=True, samples=_REAL)
def is_neg(input: Tensor) -> bool:
    """Whether the tensor waits to be negated: never."""
    return False


@attribute("real")
@declared(free="flambeau", samples=_REAL)
def real(input: Tensor) -> Tensor:
    """The real part: the tensor itself."""
    return input


@declared(free="flambeau", samples=Unsampled("it raises always: see test_moments.py"))
def imag(input: Tensor) -> NoReturn:
    """The imaginary part, which no tensor has yet: raises RuntimeError, as PyTorch does for real ones."""
    raise RuntimeError(f"[imag] a tensor of {input.dtype} has no imaginary part. Leave it out.")


class _Imaginary(Missing):
    """`x.imag`, which says the same; whoever lists the attributes of a tensor takes it for one that is not there."""

    def __get__(self, obj: Any, cls: type) -> Any:
        return self if obj is None else imag(obj)


Tensor.imag = _Imaginary("Tensor", "imag")  # type: ignore[attr-defined]


@function(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(points(), gradient=False), call(data(2, 3)), call(data())]),
)
def angle(input: Tensor_):
    """The argument: pi of negative numbers, 0 of others, NaN of NaN. Its gradient is 0."""
    x = floating(input)
    found = ops.select(x < 0, x.like(math.pi), ops.select(x.eq(x), x.like(0.0), x))
    return without_slope(found, x)


# ---- transposes -------------------------------------------------------------------------------------------


def _adjoint(x: Value) -> Value:
    rank = len(x.shape)
    if rank == 1:
        raise RuntimeError("[adjoint] the tensor has 1 dimension. Pass matrices, or a batch of them.")
    return _permuted(x, _swapped("adjoint", rank, -2, -1))


def _put(base: Value, new: Value, **_: Any) -> Value:
    return _adjoint(new)


@view(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(2, 3)), call(data(2, 3, 4)), call(data(3), error=(RuntimeError, "Pass matrices"))]
    ),
    put=_put,
)
def adjoint(input: Tensor_):
    """The last two dimensions swapped, and conjugated, which changes nothing of real numbers. A view.

    Raises RuntimeError for one dimension.
    """
    return _adjoint(input)


attribute("mH")(lambda self: adjoint(self))


@attribute("H")
def _conjugate_transpose(self: Tensor) -> Tensor:
    """`x.H`: the transposed matrix, conjugated. Raises RuntimeError for other than two dimensions."""
    if self.ndim not in (0, 2):
        raise RuntimeError(f"[H] the tensor has {self.ndim} dimensions. Pass a matrix, or use mH.")
    return adjoint(self)
