"""The op `fma`: x * y + z with a single rounding, which no composition of other ops gives.

Found through the entry point group `flambeau.ops`. Next: `functions.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.dtypes import float32, float64
from flambeau.dialects.tape.common import elementwise, shapes


def _reference(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """In a wider type, rounded once more: at most a little off the correctly rounded result."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    return (x.astype(wide) * y.astype(wide) + z.astype(wide)).astype(x.dtype)


fma = elementwise(
    "fma",
    3,
    dtypes=(float32, float64),
    reference=_reference,
    lower=lambda b, x, y, z: b.fma(x, y, z),
    vjp=lambda ct, r, x, y, z: (ct * y, ct * x, ct),
    samples=lambda: shapes(3),
    exact=False,
    ulp={"float32": 1.0, "float64": 1.0},
    doc="x * y + z, rounded once.",
)
