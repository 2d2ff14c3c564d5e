"""Arithmetic, rounding, min/max, select and cast: ops whose NumPy reference is bit-identical to compiled code.

In: operands of one shape and dtype. Next: `transcendental.py`, `integer.py`, `compare.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import (
    ARITHMETIC,
    FLOATING,
    INEXACT,
    NUMERIC,
    SUPPORTED,
    DType,
    bool_,
    from_numpy,
    is_inexact,
)
from flambeau.dialects.parts import Pair
from flambeau.dialects.record import Kind, Nans, OpRecord, Sample
from flambeau.dialects.tape import complex_formulas as formulas
from flambeau.dialects.tape import complex_functions
from flambeau.dialects.tape.common import (
    SPECIALS,
    check_dtype,
    check_same,
    elementwise,
    names,
    ops,
    points,
    random,
    samples_of,
    saturate,
    shapes,
)

add = elementwise(
    "add",
    2,
    weight=1,
    rounds_once=True,
    dtypes=ARITHMETIC,
    reference=np.add,
    parts=lambda x, y: Pair(x.re + y.re, x.im + y.im),
    lower=lambda b, x, y: b.add(x, y),
    vjp=lambda ct, r, x, y: (ct, ct),
    samples=samples_of(2),
    doc="x + y; integers wrap.",
)

sub = elementwise(
    "sub",
    2,
    weight=1,
    rounds_once=True,
    dtypes=ARITHMETIC,
    reference=np.subtract,
    parts=lambda x, y: Pair(x.re - y.re, x.im - y.im),
    lower=lambda b, x, y: b.sub(x, y),
    vjp=lambda ct, r, x, y: (ct, -ct),
    samples=samples_of(2),
    doc="x - y; integers wrap.",
)

mul = elementwise(
    "mul",
    2,
    weight=1,
    rounds_once=True,
    dtypes=ARITHMETIC,
    reference=np.multiply,
    parts=formulas.product,
    lower=lambda b, x, y: b.mul(x, y),
    vjp=lambda ct, r, x, y: (ct * y.conj(), ct * x.conj()),
    samples=samples_of(2),
    doc="x * y; integers wrap.",
)

div = elementwise(
    "div",
    2,
    weight=3,
    rounds_once=True,
    dtypes=INEXACT,
    reference=np.true_divide,
    parts=formulas.quotient,
    lower=lambda b, x, y: b.div(x, y),
    vjp=lambda ct, r, x, y: (ct / y.conj(), -ct * (x / y / y).conj()),  # not r: it may be overwritten, as in PyTorch
    samples=samples_of(2, 0.5, 3.0),
    doc="x / y, of floating-point and complex numbers.",
)

neg = elementwise(
    "neg",
    1,
    weight=1,
    rounds_once=True,
    by_bits=True,
    dtypes=ARITHMETIC,
    reference=np.negative,
    parts=lambda x: Pair(-x.re, -x.im),
    lower=lambda b, x: b.neg(x),
    vjp=lambda ct, r, x: (-ct,),
    samples=samples_of(),
    doc="-x; the least integer stays itself.",
)

abs_ = elementwise(
    "abs",
    1,
    weight=1,
    rounds_once=True,
    by_bits=True,
    dtypes=ARITHMETIC,
    reference=np.abs,
    parts=lambda x: ops.hypot(x.re, x.im),
    gives_reals=True,
    lower=lambda b, x: b.abs(x),
    vjp=lambda ct, r, x: (ct.cast(x.dtype) * ops.sign(x),),
    samples=samples_of(),
    doc="|x|; the least integer stays itself. The gradient at 0 is 0.",
)


def _sign(x: np.ndarray) -> np.ndarray:
    return ((x > 0).astype(np.int8) - (x < 0)).astype(x.dtype)


def _lower_sign(b, x):
    zero, one = b.const(0, x), b.const(1, x)
    negative = b.select(b.cmp("lt", x, zero), b.const(-1, x), zero)
    return b.select(b.cmp("gt", x, zero), one, negative)


sign = elementwise(
    "sign",
    1,
    weight=1,
    rounds_once=True,
    nans=Nans.CANONICAL,
    dtypes=ARITHMETIC,
    reference=_sign,
    parts=formulas.direction,
    lower=_lower_sign,
    vjp=lambda ct, r, x: (formulas.turned(ct, r, x) if x.dtype.is_complex else x.like(0),),
    samples=samples_of(),
    doc="-1, 0 or 1; 0 for NaN and for both zeros. Of complex numbers x / |x|, 0 at 0.",
)


def _rounding(name: str, reference, lower, doc: str) -> OpRecord:
    return elementwise(
        name,
        1,
        dtypes=FLOATING,
        reference=reference,
        lower=lower,
        vjp=lambda ct, r, x: (x.like(0),),
        samples=samples_of(),
        weight=1,
        rounds_once=True,
        doc=doc,
    )


floor = _rounding("floor", np.floor, lambda b, x: b.floor(x), "The largest whole number not above x.")
ceil = _rounding("ceil", np.ceil, lambda b, x: b.ceil(x), "The least whole number not below x.")
round_ = _rounding("round", np.rint, lambda b, x: b.round_even(x), "The nearest whole number, halves to the even one.")
trunc = _rounding("trunc", np.trunc, lambda b, x: b.trunc(x), "x without its fraction.")

sqrt = elementwise(
    "sqrt",
    1,
    weight=3,
    rounds_once=True,
    nans=Nans.OF_ROOT,
    dtypes=INEXACT,
    reference=np.sqrt,
    parts=complex_functions.sqrt,
    holomorphic=True,
    lower=lambda b, x: b.sqrt(x),
    vjp=lambda ct, r, x: (ct / (r * 2.0),),
    samples=samples_of(1, 0.5, 9.0),
    doc="The square root, correctly rounded; the canonical NaN below 0. The gradient at 0 is infinite.",
)

rsqrt = elementwise(
    "rsqrt",
    1,
    weight=6,
    dtypes=INEXACT,
    reference=lambda x: np.true_divide(x.dtype.type(1), np.sqrt(x)),
    parts=complex_functions.rsqrt,
    holomorphic=True,
    lower=lambda b, x: b.div(b.const(1, x), b.sqrt(x)),
    vjp=lambda ct, r, x: (ct * -0.5 * (r * r * r),),
    samples=samples_of(1, 0.5, 9.0),
    ulp=1.5,
    doc="1 / sqrt(x), in two correctly rounded steps.",
)


def _maximum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    result = np.maximum(x, y)
    if is_inexact(result):
        result = np.where((x == y) & np.signbit(x), y, np.where(x == y, x, result))
    return result


def _minimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    result = np.minimum(x, y)
    if is_inexact(result):
        result = np.where((x == y) & np.signbit(x), x, np.where(x == y, y, result))
    return result


def _vjp_extreme(ct, x, y, x_loses, y_loses):
    """PyTorch's rule: the winner takes all, a tie is split in halves; beside a NaN both take all."""
    tie, half, zero = x.eq(y), ct * 0.5, ct.like(0)
    return tuple(ops.select(tie, half, ops.select(loses, zero, ct)) for loses in (x_loses, y_loses))


maximum = elementwise(
    "maximum",
    2,
    weight=1,
    rounds_once=True,
    hands_on=True,
    dtypes=NUMERIC,
    reference=_maximum,
    lower=lambda b, x, y: b.maximum(x, y),
    vjp=lambda ct, r, x, y: _vjp_extreme(ct, x, y, x < y, x > y),
    samples=samples_of(2),
    doc="The larger of x and y; NaN if either is NaN; +0 is larger than -0. A tie splits the gradient in halves.",
)

minimum = elementwise(
    "minimum",
    2,
    weight=1,
    rounds_once=True,
    hands_on=True,
    dtypes=NUMERIC,
    reference=_minimum,
    lower=lambda b, x, y: b.minimum(x, y),
    vjp=lambda ct, r, x, y: _vjp_extreme(ct, x, y, x > y, x < y),
    samples=samples_of(2),
    doc="The smaller of x and y; NaN if either is NaN; -0 is smaller than +0. A tie splits the gradient in halves.",
)


def _infer_select(condition: Aval, x: Aval, y: Aval) -> Aval:
    check_dtype("select", condition, (bool_,), "the condition")
    check_same("select", (x, y))
    check_dtype("select", x, SUPPORTED)
    if condition.shape != x.shape:
        raise RuntimeError(
            f"[select] the condition has shape {condition.shape}, the operands {x.shape}. "
            "Broadcast them to one shape first."
        )
    return x


def _samples_select() -> list[Sample]:
    def condition(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.arange(x.size).reshape(x.shape) % 3 != 0)

    good = points(2) + shapes(2)
    one, two = np.zeros(1), np.zeros(2)
    return [
        *(Sample((condition(s.operands[0]), *s.operands), gradient=s.gradient) for s in good),
        Sample((two, two, two), error=(RuntimeError, "[select] the condition has dtype float64, not one of bool.")),
        Sample((two > 0, one, one), error=(RuntimeError, "[select] the condition has shape (2,), the operands (1,).")),
        Sample((two > 0, two, two > 0), error=(RuntimeError, "[select] operands have dtypes float64 and bool.")),
        Sample((two > 0, one, two), error=(RuntimeError, "[select] operands have shapes (1,) and (2,).")),
    ]


select = OpRecord(
    name="select",
    kind=Kind.ELEMENTWISE,
    weight=1,
    attrs=(),
    infer=_infer_select,
    reference=np.where,
    lower=lambda b, condition, x, y: b.select(condition, x, y),
    vjp=lambda ct, r, c, x, y: (None, ops.select(c, ct, ct.like(0)), ops.select(c, ct.like(0), ct)),
    dtypes=SUPPORTED,
    rounds_once=True,
    hands_on=True,
    samples=_samples_select,
    doc="x where the condition holds, else y. The operand not chosen gets gradient 0, whatever its value.",
)


def _infer_cast(x: Aval, dtype: DType) -> Aval:
    check_dtype("cast", x, SUPPORTED)
    if dtype not in SUPPORTED:
        raise RuntimeError(f"[cast] cannot cast to {dtype!r}. Choose one of {names(SUPPORTED)}.")
    return Aval(x.shape, dtype)


def _vjp_cast(ct, r, x, dtype):
    differentiable = x.dtype.is_inexact and dtype.is_inexact
    return (ct.cast(x.dtype) if differentiable else None,)


def _samples_cast() -> list[Sample]:
    integers = np.array([0, 1, -1, 2**24 + 1, 2**31 - 1, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63)], np.int64)
    return [
        *(Sample((SPECIALS,), {"dtype": d}, gradient=False) for d in SUPPORTED),
        *(Sample((random((5, 7)),), {"dtype": d}) for d in SUPPORTED),
        *(Sample((integers,), {"dtype": d}, gradient=False) for d in SUPPORTED),
        Sample((np.zeros((0, 2)),), {"dtype": from_numpy(np.dtype("float32"))}),
        Sample(
            (np.zeros(2),), {"dtype": "int"}, error=(RuntimeError, "[cast] cannot cast to 'int'. Choose one of bool,")
        ),
    ]


cast = OpRecord(
    name="cast",
    kind=Kind.ELEMENTWISE,
    weight=3,
    attrs=("dtype",),
    infer=_infer_cast,
    reference=saturate,
    lower=lambda b, x, dtype: b.cast(x, dtype.mlir),
    vjp=_vjp_cast,
    parts=formulas.converted,
    dtypes=SUPPORTED,
    samples=_samples_cast,
    doc="x in another dtype; float to int truncates and saturates, NaN becomes 0; integers wrap.",
)
