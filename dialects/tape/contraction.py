"""matmul, the one contraction.

In: two operands of equal rank and equal leading (batch) dimensions. The order of its sums is fixed
(docs/architecture.md): fused multiply-adds along k in blocks of 256, or 64 lanes where M or N is 1. The NumPy reference
sums more accurately instead, so it is not `exact`; C of the runtime's follows the order. Sums run in the dtype that the operands'
accumulates in (`DType.accumulation`), and the result is rounded once. Next: `indexing.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import ARITHMETIC, from_numpy
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape import complex_formulas as formulas
from flambeau.dialects.tape.common import check_dtype, ops, quiet, random
from flambeau.runtime import _binding as runtime


def _infer(a: Aval, b: Aval) -> Aval:
    check_dtype("matmul", a, ARITHMETIC)
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"[matmul] operands have dtypes {a.dtype.name} and {b.dtype.name}. Cast them to one dtype first."
        )
    if a.rank < 2 or a.rank != b.rank or a.shape[:-2] != b.shape[:-2]:
        raise RuntimeError(
            f"[matmul] operands of shapes {a.shape} and {b.shape} are not matrices with the same batch dimensions. "
            "Reshape or broadcast them to [*batch, M, K] and [*batch, K, N]."
        )
    if a.shape[-1] != b.shape[-2]:
        raise RuntimeError(
            f"[matmul] shapes {a.shape} and {b.shape} cannot be multiplied: "
            f"{a.shape[-1]} columns meet {b.shape[-2]} rows. Transpose or reshape one of them."
        )
    return Aval((*a.shape[:-1], b.shape[-1]), a.dtype)


@quiet
def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    dtype = from_numpy(a.dtype)
    if not dtype.is_floating_point:
        return np.matmul(a, b)
    exact = np.matmul(a.astype(np.float64), b.astype(np.float64))
    return exact.astype(dtype.accumulation.numpy).astype(a.dtype)


@quiet
def _in_order(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    dtype = from_numpy(a.dtype)
    if not dtype.is_floating_point:
        return np.matmul(a, b)  # exact modulo 2**bits in any order
    wide = dtype.accumulation.numpy
    a, b = (np.ascontiguousarray(x, wide) for x in (a, b))
    *batch, m, k = a.shape
    n = b.shape[-1]
    out = np.empty((*batch, m, n), wide)
    runtime.matrix_product(a, b, out, math.prod(batch), m, k, n, out.itemsize == 8)
    return out.astype(dtype.numpy)


def _transpose(x):
    rank = len(x.shape)
    return ops.permute(x, perm=(*range(rank - 2), rank - 1, rank - 2))


def _samples() -> list[Sample]:
    shapes = (
        *((1, 1, 1), (2, 3, 4), (1, 5, 7), (7, 5, 1), (1, 70, 1), (13, 17, 11), (0, 3, 2), (2, 0, 3), (2, 3, 0)),
        *((3, 300, 5), (65, 64, 67), (1, 300, 33), (33, 300, 1), (1, 4099, 1), (64, 257, 48)),
    )
    bad = (
        ((2, 3), (2, 3), "[matmul] shapes (2, 3) and (2, 3) cannot be multiplied: 3 columns meet 2 rows."),
        ((3,), (3,), "[matmul] operands of shapes (3,) and (3,) are not matrices with the same batch dimensions."),
        ((2, 2, 3), (3, 3, 2), "[matmul] operands of shapes (2, 2, 3) and (3, 3, 2) are not matrices"),
        ((2, 3), (1, 3, 2), "[matmul] operands of shapes (2, 3) and (1, 3, 2) are not matrices"),
    )
    return [
        *(Sample((random((m, k)), random((k, n), seed=1)), gradient=m * k * n < 100) for m, k, n in shapes),
        Sample((random((2, 3, 4)), random((2, 4, 2), seed=1))),
        Sample((random((3, 2, 5, 7)), random((3, 2, 7, 3), seed=1)), gradient=False),
        Sample((random((3, 1, 70)), random((3, 70, 5), seed=1)), gradient=False),
        *(Sample((random(a), random(b)), error=(RuntimeError, text)) for a, b, text in bad),
        Sample(
            (random((2, 2)), random((2, 2)).astype(np.float32)),
            error=(RuntimeError, "[matmul] operands have dtypes float64 and float32."),
        ),
        Sample((np.zeros((1, 1), bool),) * 2, error=(RuntimeError, "[matmul] operand has dtype bool, not one of")),
    ]


matmul = OpRecord(
    name="matmul",
    kind=Kind.CONTRACTION,
    attrs=(),
    infer=_infer,
    reference=_matmul,
    vjp=lambda ct, r, a, b: (ops.matmul(ct, _transpose(b).conj()), ops.matmul(_transpose(a).conj(), ct)),
    lower=None,
    dtypes=ARITHMETIC,
    parts=formulas.matrix_product,
    exact=False,
    in_order=_in_order,
    keep=True,
    samples=_samples,
    doc="The matrix product over the last two dimensions, batched over the others.",
)
