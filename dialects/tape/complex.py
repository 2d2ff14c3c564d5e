"""What takes complex numbers apart and puts them together: their parts, the conjugate, the same memory as real numbers.

In: complex numbers, or real ones. Next: `elementwise.py`; `complex_formulas.py` says what arithmetic does to the parts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import COMPLEX, float32, float64, from_numpy
from flambeau.dialects.parts import Pair, joined
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import check_dtype, check_same, elementwise, names, ops, random, samples_of

_PARTS = (float32, float64)  #: What parts of complex numbers are.
_SHAPES = ((), (7,), (0, 3), (3, 5), (2, 1, 4))


def _samples() -> list[Sample]:
    return [
        *(Sample((random(shape),)) for shape in _SHAPES),
        Sample((np.zeros(2),), error=(RuntimeError, f"has dtype float64, not one of {names(COMPLEX)}. Cast it first.")),
    ]


def _part(name: str, reference: Callable, vjp: Callable, parts: Callable, doc: str) -> OpRecord:
    """A view of one part of each number."""

    def infer(x: Aval) -> Aval:
        check_dtype(name, x, COMPLEX)
        return x._replace(dtype=x.dtype.to_real())

    return OpRecord(
        name=name,
        kind=Kind.VIEW,
        attrs=(),
        infer=infer,
        reference=reference,
        vjp=vjp,
        lower=None,
        dtypes=COMPLEX,
        samples=_samples,
        doc=doc,
        parts=parts,
    )


real = _part(
    "real",
    np.real,
    lambda ct, r, x: (ops.complex(ct, ct.like(0.0)),),
    lambda x: x.re,
    "The real part.",
)

imag = _part(
    "imag",
    np.imag,
    lambda ct, r, x: (ops.complex(ct.like(0.0), ct),),
    lambda x: x.im,
    "The imaginary part.",
)


def _infer_complex(re: Aval, im: Aval) -> Aval:
    check_same("complex", (re, im))
    check_dtype("complex", re, _PARTS)
    return re._replace(dtype=re.dtype.to_complex())


complex_ = OpRecord(
    name="complex",
    kind=Kind.ASSEMBLE,
    attrs=(),
    infer=_infer_complex,
    reference=joined,
    vjp=lambda ct, r, re, im: (ops.real(ct), ops.imag(ct)),
    lower=None,
    dtypes=_PARTS,
    samples=lambda: [
        *(Sample((random(shape), random(shape, seed=1))) for shape in _SHAPES),
        Sample((np.zeros(2), np.zeros(3)), error=(RuntimeError, "[complex] operands have shapes (2,) and (3,)")),
        Sample((np.zeros(2, bool),) * 2, error=(RuntimeError, "[complex] operand has dtype bool, not one of")),
    ],
    doc="The complex numbers of these parts, which keep their bits.",
)

conj = elementwise(
    "conj",
    1,
    dtypes=COMPLEX,
    reference=np.conj,
    lower=lambda b, x: x,  # never asked for: see `parts`
    vjp=lambda ct, r, x: (ops.conj(ct),),
    parts=lambda x: Pair(x.re, -x.im),
    samples=samples_of(),
    rounds_once=True,
    doc="The conjugate.",
)


def _infer_as_real(x: Aval) -> Aval:
    check_dtype("view_as_real", x, COMPLEX)
    return x._replace(shape=(*x.shape, 2), dtype=x.dtype.to_real())


view_as_real = OpRecord(
    name="view_as_real",
    kind=Kind.VIEW,
    attrs=(),
    infer=_infer_as_real,
    reference=lambda x: _shown(x, from_numpy(x.dtype).to_real().numpy, (*x.shape, 2)),
    vjp=lambda ct, r, x: (ops.view_as_complex(ct),),
    lower=None,
    dtypes=COMPLEX,
    samples=_samples,
    doc="The same memory as real numbers, whose last axis has the two parts.",
)


def _infer_as_complex(x: Aval) -> Aval:
    check_dtype("view_as_complex", x, _PARTS)
    if not x.shape or x.shape[-1] != 2:
        raise RuntimeError(
            f"[view_as_complex] the last axis of shape {x.shape} does not have 2 elements. Put both parts of a number there."
        )
    return x._replace(shape=x.shape[:-1], dtype=x.dtype.to_complex())


view_as_complex = OpRecord(
    name="view_as_complex",
    kind=Kind.VIEW,
    attrs=(),
    infer=_infer_as_complex,
    reference=lambda x: _shown(x, from_numpy(x.dtype).to_complex().numpy, x.shape[:-1]),
    vjp=lambda ct, r, x: (ops.view_as_real(ct),),
    lower=None,
    dtypes=_PARTS,
    samples=lambda: [
        *(Sample((random((*shape, 2)),)) for shape in _SHAPES),
        Sample(
            (np.zeros((2, 3)),), error=(RuntimeError, "[view_as_complex] the last axis of shape (2, 3) does not have 2")
        ),
    ],
    doc="The same memory as complex numbers, whose parts the last axis has.",
)


def _shown(x: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The memory of an array as numbers of another dtype: itself where strides can say it, else that of a copy."""
    if x.size == 0:
        return np.empty(shape, dtype)
    if dtype.kind == "f":  # any strides of complex numbers are strides of their parts
        parts = np.lib.stride_tricks.as_strided
        return parts(x.real, shape, (*x.strides, dtype.itemsize))
    if x.strides[-1] != x.itemsize or any(s % dtype.itemsize for s in x.strides[:-1]):
        x = np.ascontiguousarray(x)
    return x.view(dtype).reshape(shape)
