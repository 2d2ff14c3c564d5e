"""check_index and check_range: operands handed through, failing at run time where they are out of range.

In: an int64 index. Out: the same index, known to lie in 0..size-1, so that comparing it with
an iota finds exactly one place, or in -size..size-1, where negative ones count from the end.
Or numbers that must lie between two bounds. Next: `indexing.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.domain import Domain, failing
from flambeau.dialects.dtypes import NUMERIC, int64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.tape.common import check_dtype, random


def _infer(index: Aval, size: int, op: str, what: str, negative: bool) -> Aval:
    check_dtype("check_index", index, (int64,), "the index")
    return index


def _domain(index: Aval, size: int, op: str, what: str, negative: bool) -> Domain:
    low = -size if negative else 0
    allowed = f"Indices must lie in {low}..{size - 1}." if size else "There is nothing to index."
    after = f" is out of range for size {size}. {allowed}"
    return Domain(0, IndexError, f"[{op}] {what}", after, low, size - 1)


_failure = failing(_domain, 1)


def _reference(index: np.ndarray, size: int, op: str, what: str, negative: bool) -> np.ndarray:
    wrong = np.flatnonzero((index < (-size if negative else 0)) | (index >= size))
    if wrong.size:
        raise _failure(int(wrong[0]), Aval(np.shape(index), int64), size, op, what, negative)
    return index


def _samples() -> list[Sample]:
    attrs = {"size": 5, "op": "pick", "what": "target", "negative": False}
    from_end = attrs | {"negative": True}
    good = (np.array([0, 4, 2]), np.array(3), np.zeros((0, 2), np.int64), np.arange(67) % 5, np.arange(4099) % 5)
    return [
        *(Sample((index,), attrs) for index in good),
        Sample((np.array([-5, 4, -1, 0]),), from_end),
        Sample((np.array([0, -6]),), from_end, error=(IndexError, "for size 5. Indices must lie in -5..4.")),
        Sample(
            (np.array([[0, 1], [5, 2]]),), attrs, error=(IndexError, "[pick] target[1, 0] is out of range for size 5.")
        ),
        Sample(
            (np.array([0, -1]),), attrs, error=(IndexError, "[pick] target[1] is out of range for size 5. Indices must")
        ),
        Sample(
            (np.array(7),), attrs, error=(IndexError, "[pick] target is out of range for size 5. Indices must lie in")
        ),
        Sample(
            (np.zeros(2),), attrs, error=(RuntimeError, "[check_index] the index has dtype float64, not one of int64")
        ),
    ]


check_index = OpRecord(
    name="check_index",
    kind=Kind.ELEMENTWISE,
    attrs=("size", "op", "what", "negative"),
    infer=_infer,
    reference=_reference,
    vjp=NoGradient("its operand is an index"),
    lower=lambda b, index, size, op, what, negative: index,
    dtypes=(int64,),
    fallible=True,
    fails=lambda b, index, size, op, what, negative: b.or_(
        b.cmp("lt", index, b.const(-size if negative else 0, index)), b.cmp("ge", index, b.const(size, index))
    ),
    failure=_failure,
    domain=_domain,
    samples=_samples,
    doc="The index itself; fails outside of 0..size-1, or with `negative` of -size..size-1. `op` and `what` name it in the error.",
)


# ---- numbers between bounds -------------------------------------------------------------------------------


#: What may be raised, by name.
_ERRORS = {"RuntimeError": RuntimeError, "ValueError": ValueError}


def _infer_range(x: Aval, low: float, high: float, op: str, what: str, text: str, error: str) -> Aval:
    check_dtype("check_range", x, NUMERIC)
    return x


def _domain_of_range(x: Aval, low: float, high: float, op: str, what: str, text: str, error: str) -> Domain:
    return Domain(0, _ERRORS[error], f"[{op}] {what}", f" {text}", low, high)


_out_of_range = failing(_domain_of_range, 1)


def _checked_range(x: np.ndarray, low: float, high: float, op: str, what: str, text: str, error: str) -> np.ndarray:
    wrong = np.flatnonzero(~((x >= low) & (x <= high)))
    if wrong.size:
        raise _out_of_range(int(wrong[0]), Aval(np.shape(x), int64), low, high, op, what, text, error)
    return x


def _outside(b, x, low: float, high: float, op: str, what: str, text: str, error: str):
    """Comparisons with NaN are false: it is outside."""
    if not x.is_float:  # a bound beyond the dtype's values is none
        low, high = max(low, x.dtype.least), min(high, x.dtype.greatest)
    return b.not_(b.and_(b.cmp("ge", x, b.const(low, x)), b.cmp("le", x, b.const(high, x))))


def _samples_of_range() -> list[Sample]:
    attrs = {"low": -4, "high": 4, "op": "draw", "what": "input", "text": "is too far from 0. Draw again."}
    attrs["error"] = "RuntimeError"
    good = (random((3, 5)), np.array([4.0, -4.0, 0.0, -0.0]), np.array(2.0), np.zeros((0, 2)), random((4099,)))
    text = attrs["text"]
    return [
        *(Sample((x,), attrs, gradient=x.size < 64 and np.abs(x).max(initial=0) < 4) for x in good),
        Sample((np.array([[0.0, 1.0], [4.5, 5.0]]),), attrs, error=(RuntimeError, f"[draw] input[1, 0] {text}")),
        Sample((np.array([0.0, np.nan]),), attrs, error=(RuntimeError, f"[draw] input[1] {text}")),
        Sample((np.array(-5.0),), attrs, error=(RuntimeError, f"[draw] input {text}")),
        Sample((np.array([7]),), attrs, error=(RuntimeError, f"[draw] input[0] {text}")),
        Sample((np.array([7]),), {**attrs, "error": "ValueError"}, error=(ValueError, f"[draw] input[0] {text}")),
        Sample((np.zeros(2, bool),), attrs, error=(RuntimeError, "[check_range] operand has dtype bool, not one of")),
    ]


check_range = OpRecord(
    name="check_range",
    kind=Kind.ELEMENTWISE,
    attrs=("low", "high", "op", "what", "text", "error"),
    infer=_infer_range,
    reference=_checked_range,
    vjp=lambda ct, r, x, low, high, op, what, text, error: (ct,),
    lower=lambda b, x, low, high, op, what, text, error: x,
    dtypes=NUMERIC,
    fallible=True,
    fails=_outside,
    failure=_out_of_range,
    domain=_domain_of_range,
    samples=_samples_of_range,
    doc="x itself; fails where it does not lie in low..high, as no NaN does. `op`, `what`, `text` and `error` make the error.",
)
