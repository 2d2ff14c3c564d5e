"""Eigenvalues of general matrices: eig, eigvals.

In: batches of square matrices, float32, float64 or complex. Out: complex values and vectors. Next: `packed.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.tape.matrices import LinAlgError
from flambeau.function import Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.matrices import check_square, matrices
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


@function(name="eig", fallible=True)
def _eig(input: Tensor_):
    check_square("eig", input)
    return ops.eig(input)


_EIG = calls(
    lambda: [
        *(call(matrices(*s), gradient=False) for s in ((1, 1), (3, 3), (2, 2, 2))),
        *(call(data(*s), gradient=False) for s in ((0, 0), (0, 2, 2))),
        call(np.array([[0.0, -1.0], [1.0, 0.0]]), gradient=False),
        call(np.array([[1.0, math.nan], [0.0, 1.0]]), error=(LinAlgError, "has an element that is not finite")),
        call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
    ]
)


@declared(free="linalg", samples=_EIG, recalled="operand")
def eig(input: Tensor, *, out: Any = None) -> Any:
    """(eigenvalues, eigenvectors) of square matrices, complex and in no order; the vectors are columns of norm 1.

    Raises LinAlgError for elements that are not finite. The vectors of equal values have no gradient; that of a loss which depends
    on the phase of vectors is a RuntimeError, for that is left to chance."""
    found = return_types.linalg_eig(*_eig(input))
    return found if out is None else stored_in("eig", out, found)


@function(free="linalg", fallible=True, out=True, samples=_EIG)
def eigvals(input: Tensor_):
    """The eigenvalues of square matrices, complex and in no order; see `eig`."""
    check_square("eigvals", input)
    return ops.eig(input)[0]
