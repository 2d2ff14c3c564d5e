"""The ops of the family: running sums and products. Next: `functions.py`, what users call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import float32, float64
from flambeau.dialects.record import OpRecord, Sample
from flambeau.dialects.tape.common import check_axis, check_dtype, random

DTYPES = (float32, float64)


def _scan(name: str, step: np.ufunc, lower: Callable[..., Any], vjp: Callable[..., Any], doc: str) -> OpRecord:
    """A record of the family: the running fold by `step`."""

    def infer(x: Aval, axis: int, reverse: bool) -> Aval:
        check_dtype(name, x, DTYPES)
        check_axis(name, axis, x.rank)
        return x

    def reference(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        found = step.accumulate(np.flip(x, axis) if reverse else x, axis)
        return np.flip(found, axis) if reverse else found

    def samples() -> list[Sample]:
        shapes = (((5,), 0), ((0, 3), 0), ((2, 3, 4), 1), ((67, 3), 0), ((3, 131), 1))
        ways = [(shape, {"axis": axis, "reverse": back}) for shape, axis in shapes for back in (False, True)]
        beyond = (IndexError, f"[{name}] axis 1 is out of range")
        return [
            *(Sample((random(shape, 0.5, 1.5),), attrs, gradient=np.prod(shape) < 30) for shape, attrs in ways),
            Sample((random((3,)),), {"axis": 1, "reverse": False}, error=beyond),
        ]

    return OpRecord(
        name=name,
        kind="toy",
        attrs=("axis", "reverse"),
        infer=infer,
        reference=reference,
        vjp=vjp,
        lower=lower,
        dtypes=DTYPES,
        exact=False,  # compiled op by op, too
        keep=True,
        samples=samples,
        doc=doc,
    )


cumsum = _scan(
    "toy_cumsum",
    np.add,
    lambda b, so_far, x: b.add(so_far, x),
    lambda ct, r, x, axis, reverse: (cumsum(ct, axis=axis, reverse=not reverse),),
    "Sums of the elements up to each place along an axis, added one after the other.",
)
cumprod = _scan(
    "toy_cumprod",
    np.multiply,
    lambda b, so_far, x: b.mul(so_far, x),
    lambda ct, r, x, axis, reverse: (cumsum(ct * r, axis=axis, reverse=not reverse) / x,),
    "Products of the elements up to each place along an axis, multiplied one after the other.",
)
