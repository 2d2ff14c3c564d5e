"""What takes complex numbers apart and puts them together: real, imag, conj, complex, polar, view_as_real, angle, adjoint, ...

In: tensors, complex or real. Out: views of parts, the same memory as numbers of the other kind, new tensors. No tensor is
conjugated or negated by a flag: `conj` computes, and real tensors are their own conjugates. Next: `diagonals.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau.declarations import attribute, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType
from flambeau.function import Tensor_, function, stored, view
from flambeau.functions.common import broadcast_shapes, check_floating, floating, ops, without_slope
from flambeau.functions.permutations import _permuted, _swapped
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points


def numbers(*shape: int, dtype: str = "complex64") -> np.ndarray:
    """Complex numbers in no order, as samples."""
    return np.asarray(data(*shape) + 1j * np.roll(data(*shape), 1), dtype)


_REAL = calls(lambda: [call(data(2, 3)), call(data())])
_ANY = calls(lambda: [call(data(2, 3)), call(data()), call(numbers(2, 3), gradient=False)])


# ---- parts ------------------------------------------------------------------------------------------------


@view(name="real", put=lambda base, new: ops.complex(new, ops.imag(base)))
def _real(input: Tensor_):
    return ops.real(input)


@view(name="imag", put=lambda base, new: ops.complex(ops.real(base), new))
def _imag(input: Tensor_):
    return ops.imag(input)


@declared(free="flambeau", samples=_ANY, recalled="operand")
def real(input: Tensor) -> Tensor:
    """The real part, a view; of real tensors the tensor itself."""
    return _real(input) if input.dtype.is_complex else input


@declared(
    free="flambeau",
    samples=calls(
        lambda: [call(numbers(2, 3), gradient=False), call(data(2), error=(RuntimeError, "no imaginary part"))]
    ),
    recalled="operand",
)
def imag(input: Tensor) -> Tensor:
    """The imaginary part, a view. Raises RuntimeError for real tensors, as PyTorch does."""
    if not input.dtype.is_complex:
        raise RuntimeError(f"[imag] a tensor of {input.dtype} has no imaginary part. Leave it out.")
    return _imag(input)


def _set_real(self: Tensor, value: Any) -> None:
    real(self)[...] = value


def _set_imag(self: Tensor, value: Any) -> None:
    imag(self)[...] = value


Tensor.real = property(real, _set_real, doc=real.__doc__)  # type: ignore[assignment]
Tensor.imag = property(imag, _set_imag, doc=imag.__doc__)  # type: ignore[assignment]


@view(
    free="flambeau",
    samples=calls(
        lambda: [
            call(numbers(2, 3), gradient=False),
            call(numbers(dtype="complex128"), gradient=False),
            call(data(2), error=(RuntimeError, "has dtype float")),
        ]
    ),
    put=lambda base, new: ops.view_as_complex(new),
)
def view_as_real(input: Tensor_):
    """The memory of complex numbers as real ones, whose last dimension has the two parts. A view."""
    return ops.view_as_real(input)


@view(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(3, 2).astype(np.float32), gradient=False),
            call(data(2), gradient=False),
            call(data(2, 3), error=(RuntimeError, "does not have 2 elements")),
        ]
    ),
    put=lambda base, new: ops.view_as_real(new),
)
def view_as_complex(input: Tensor_):
    """The memory of real numbers as complex ones, whose parts the last dimension, of size 2, has. A view."""
    return ops.view_as_complex(input)


# ---- conjugates -------------------------------------------------------------------------------------------


@function(name="conj")
def _conj(input: Tensor_):
    return input.conj()


_conj_in_place = stored(_conj)


@declared(free="flambeau", method=True, samples=_ANY, recalled="operand")
def conj(input: Tensor) -> Tensor:
    """The conjugate, computed; of a real tensor the tensor itself."""
    return _conj(input) if input.dtype.is_complex else input


@declared(free="flambeau", method=True, samples=_ANY, recalled="operand")
def conj_physical(input: Tensor) -> Tensor:
    """The conjugate, computed; of a real tensor the tensor itself."""
    return conj(input)


@declared(free="flambeau", method=True, samples=_ANY, recalled="operand")
def conj_physical_(input: Tensor) -> Tensor:
    """The tensor with its elements conjugated."""
    return _conj_in_place(input) if input.dtype.is_complex else input


@declared(free="flambeau", method=True, samples=_ANY, recalled="operand")
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: none waits to be conjugated."""
    return input


@declared(free="flambeau", method=True, samples=_ANY, recalled="operand")
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: none waits to be negated."""
    return input


@declared(free="flambeau", method=True, samples=_ANY)
def is_conj(input: Tensor) -> bool:
    """Whether the tensor waits to be conjugated: never."""
    return False


@declared(free="flambeau", method=True, samples=_ANY)
def is_neg(input: Tensor) -> bool:
    """Whether the tensor waits to be negated: never."""
    return False


# ---- numbers of parts -------------------------------------------------------------------------------------


def _two_parts(op: str, x: Value, y: Value) -> list[Value]:
    """Real operands of one dtype, broadcast."""
    for v in (x, y):
        check_floating(op, v)
    if x.dtype is not y.dtype:
        raise RuntimeError(f"[{op}] operands have dtypes {x.dtype} and {y.dtype}. Make them equal.")
    _complex_of(op, x.dtype)
    shape = broadcast_shapes(op, x.shape, y.shape)
    return [v.expand(shape) for v in (x, y)]


def _complex_of(op: str, dtype: DType) -> DType:
    if dtype.is_narrow:
        raise RuntimeError(f"[{op}] there are no complex numbers with parts of {dtype}. Use float32 or float64.")
    return dtype.to_complex()


_PARTS = calls(
    lambda: [
        call(data(2, 3).astype(np.float32), data(3).astype(np.float32), gradient=False),
        call(data().astype(np.float64), data().astype(np.float64), gradient=False),
        call(np.zeros(2, np.float32), np.zeros(2, np.float16), error=(RuntimeError, "operands have dtypes")),
        call(np.zeros(2, np.int64), np.zeros(2, np.int64), error=(RuntimeError, "expected a floating-point one")),
    ]
)


@function(free="flambeau", samples=_PARTS, out=True)
def complex(real: Tensor_, imag: Tensor_):
    """`real + imag * 1j`, of float32 or float64 parts, which broadcast. Raises RuntimeError for other dtypes, and for two."""
    return ops.complex(*_two_parts("complex", real, imag))


@function(free="flambeau", samples=_PARTS, out=True)
def polar(abs: Tensor_, angle: Tensor_):
    """The complex numbers of these absolute values and angles (radians), of float32 or float64, which broadcast."""
    size, turn = _two_parts("polar", abs, angle)
    return ops.complex(size * ops.cos(turn), size * ops.sin(turn))


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(points(), gradient=False),
            call(data(2, 3)),
            call(data()),
            call(numbers(2, 3), gradient=False),
        ]
    ),
)
def angle(input: Tensor_):
    """The argument of complex numbers. Of real ones: pi of negative numbers, 0 of others, NaN of NaN, with the gradient 0."""
    if input.dtype.is_complex:
        return ops.atan2(ops.imag(input), ops.real(input))
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


@view(name="adjoint", put=_put)
def _adjoint_view(input: Tensor_):
    return _adjoint(input)


@function(name="adjoint")
def _adjoint_copy(input: Tensor_):
    return _adjoint(input).conj()


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3)),
            call(data(2, 3, 4)),
            call(numbers(2, 3), gradient=False),
            call(data(3), error=(RuntimeError, "Pass matrices")),
        ]
    ),
    recalled="operand",
)
def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions swapped, and conjugated: of real tensors a view, of complex ones a copy.

    Raises RuntimeError for one dimension.
    """
    return _adjoint_copy(input) if input.dtype.is_complex else _adjoint_view(input)


attribute("mH")(adjoint)


@attribute("H", recalled="operand")
def _conjugate_transpose(self: Tensor) -> Tensor:
    """`x.H`: the transposed matrix, conjugated. Raises RuntimeError for other than two dimensions."""
    if self.ndim not in (0, 2):
        raise RuntimeError(f"[H] the tensor has {self.ndim} dimensions. Pass a matrix, or use mH.")
    return adjoint(self)
