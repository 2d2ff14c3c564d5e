"""check_index: an index handed through, failing at run time where it is out of range.

In: an int64 index. Out: the same index, known to lie in 0..size-1, so that comparing it with
an iota finds exactly one place. Next: `indexing.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.tape.common import check_dtype, coordinates


def _infer(index: Aval, size: int, op: str, what: str) -> Aval:
    check_dtype("check_index", index, (int64,), "the index")
    return index


def _failure(position: int, index: Aval, size: int, op: str, what: str) -> Exception:
    place = coordinates(position, index.shape) if index.shape else ""
    allowed = f"Indices must lie in 0..{size - 1}." if size else "There is nothing to index."
    return IndexError(f"[{op}] {what}{place} is out of range for size {size}. {allowed}")


def _reference(index: np.ndarray, size: int, op: str, what: str) -> np.ndarray:
    wrong = np.flatnonzero((index < 0) | (index >= size))
    if wrong.size:
        raise _failure(int(wrong[0]), Aval(np.shape(index), int64), size, op, what)
    return index


def _samples() -> list[Sample]:
    attrs = {"size": 5, "op": "pick", "what": "target"}
    good = (np.array([0, 4, 2]), np.array(3), np.zeros((0, 2), np.int64), np.arange(67) % 5, np.arange(4099) % 5)
    return [
        *(Sample((index,), attrs) for index in good),
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
    attrs=("size", "op", "what"),
    infer=_infer,
    reference=_reference,
    vjp=NoGradient("its operand is an index"),
    lower=lambda b, index, size, op, what: index,
    dtypes=(int64,),
    fallible=True,
    fails=lambda b, index, size, op, what: b.or_(
        b.cmp("lt", index, b.const(0, index)), b.cmp("ge", index, b.const(size, index))
    ),
    failure=_failure,
    samples=_samples,
    doc="The index itself; fails where it does not lie in 0..size-1. `op` and `what` name it in the error.",
)
