"""Comparisons: two operands of one type in, booleans out. Comparisons with NaN are false, except `ne`."""

from __future__ import annotations

import numpy as np
from flambeau.dialects.dtypes import ORDERED, SUPPORTED, DTypes, bool_
from flambeau.dialects.record import NoGradient, OpRecord
from flambeau.dialects.tape import complex_formulas as formulas
from flambeau.dialects.tape.common import elementwise, samples_of


def _comparison(name: str, reference, doc: str, dtypes: DTypes = ORDERED, **fields) -> OpRecord:
    return elementwise(
        name,
        2,
        weight=1,
        dtypes=dtypes,
        reference=reference,
        lower=lambda b, x, y: b.cmp(name, x, y),
        vjp=NoGradient("its result is a truth value"),
        samples=samples_of(2),
        result=bool_,
        rounds_once=True,
        doc=doc,
        **fields,
    )


eq = _comparison("eq", np.equal, "x == y; -0 equals +0, NaN equals nothing.", SUPPORTED, parts=formulas.equal)
ne = _comparison("ne", np.not_equal, "x != y; true beside a NaN.", SUPPORTED, parts=formulas.unequal)
lt = _comparison("lt", np.less, "x < y; false before true.")
le = _comparison("le", np.less_equal, "x <= y.")
gt = _comparison("gt", np.greater, "x > y.")
ge = _comparison("ge", np.greater_equal, "x >= y.")
