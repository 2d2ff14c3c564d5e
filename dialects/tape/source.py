"""Sources: ops that make values from attributes and positions rather than from data.

In: attributes, and for `random_bits` two 0-d operands. Next: `reduce.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import NUMERIC, REAL, DType, bool_, float32, float64, int32, int64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.size import Int, Size
from flambeau.dialects.tape.common import check_axis, check_scalar, names, quiet, saturate

_NO_OPERANDS = NoGradient("it has no differentiable operands")


def check_shape(op: str, shape: tuple[Int, ...]) -> None:
    if not isinstance(shape, tuple) or not all(isinstance(n, int | Size) and n >= 0 for n in shape):
        raise RuntimeError(f"[{op}] shape {shape} is not a tuple of non-negative ints. Give one extent per dimension.")


def _check_target(op: str, dtype: DType, dtypes: Sequence[DType]) -> None:
    if dtype not in dtypes:
        raise RuntimeError(f"[{op}] dtype {dtype!r} is not one of {names(dtypes)}. Choose one of these.")


def _infer_constant(value: float | Int | bool, dtype: DType) -> Aval:
    _check_target("constant", dtype, REAL)
    if isinstance(value, Size):
        return Aval((), dtype)
    if not isinstance(value, bool | int | float):
        raise TypeError(f"[constant] {value!r} is no number. Give a bool, int or float.")
    if value == 0 and math.copysign(1.0, value) < 0:
        raise RuntimeError("[constant] -0.0 equals 0.0 and would be merged with it. Negate a constant 0.0 instead.")
    if dtype.is_integer and (not isinstance(value, int) or not dtype.least <= value <= dtype.greatest):
        raise RuntimeError(f"[constant] {value} is not a value of {dtype.name}. Use {dtype.least}..{dtype.greatest}.")
    return Aval((), dtype)


constant = OpRecord(
    name="constant",
    kind=Kind.SOURCE,
    attrs=("value", "dtype"),
    infer=_infer_constant,
    reference=quiet(lambda value, dtype: np.asarray(value, dtype.numpy)),
    vjp=_NO_OPERANDS,
    lower=lambda b, value, dtype: b.const(value, dtype.mlir),
    dtypes=REAL,
    samples=lambda: [
        *(Sample((), {"value": v, "dtype": d}) for v, d in ((0.0, float64), (1, int64), (True, bool_))),
        *(Sample((), {"value": v, "dtype": float32}) for v in (0.1, math.inf, -math.inf, math.nan, 1e-45, 3e38, 1e300)),
        *(Sample((), {"value": v, "dtype": float64}) for v in (0.1, -math.inf, math.nan, 5e-324, 1.7e308)),
        *(Sample((), {"value": v, "dtype": int64}) for v in (2**63 - 1, -(2**63))),
        Sample((), {"value": -0.0, "dtype": float32}, error=(RuntimeError, "[constant] -0.0 equals 0.0")),
        Sample(
            (), {"value": 2**31, "dtype": int32}, error=(RuntimeError, "[constant] 2147483648 is not a value of int32.")
        ),
        Sample((), {"value": 1.5, "dtype": int32}, error=(RuntimeError, "[constant] 1.5 is not a value of int32.")),
    ],
    doc="A 0-d constant, rounded to its dtype. Its value may be a size.",
)


def _infer_iota(shape: tuple[int, ...], dim: int, dtype: DType) -> Aval:
    check_shape("iota", shape)
    check_axis("iota", dim, len(shape), "dim")
    _check_target("iota", dtype, NUMERIC)
    return Aval(shape, dtype)


def _iota(shape: tuple[int, ...], dim: int, dtype: DType) -> np.ndarray:
    column = saturate(np.arange(shape[dim], dtype=np.int64), dtype)
    return np.ascontiguousarray(np.broadcast_to(column.reshape(-1, *[1] * (len(shape) - dim - 1)), shape))


iota = OpRecord(
    name="iota",
    kind=Kind.SOURCE,
    attrs=("shape", "dim", "dtype"),
    infer=_infer_iota,
    reference=_iota,
    vjp=_NO_OPERANDS,
    lower=lambda b, shape, dim, dtype: b.cast(b.index(dim), dtype.mlir),
    dtypes=NUMERIC,
    samples=lambda: [
        *(Sample((), {"shape": (7,), "dim": 0, "dtype": d}) for d in NUMERIC),
        *(Sample((), {"shape": (3, 5, 2), "dim": dim, "dtype": int64}) for dim in range(3)),
        Sample((), {"shape": (0, 4), "dim": 1, "dtype": float32}),
        Sample((), {"shape": (3,), "dim": 1, "dtype": int64}, error=(IndexError, "[iota] dim 1 is out of range")),
        Sample(
            (), {"shape": (-1,), "dim": 0, "dtype": int64}, error=(RuntimeError, "[iota] shape (-1,) is not a tuple")
        ),
        Sample(
            (), {"shape": (2,), "dim": 0, "dtype": bool_}, error=(RuntimeError, "[iota] dtype flambeau.bool is not")
        ),
    ],
    doc="0, 1, 2, ... along one dimension.",
)


def _infer_random_bits(seed: Aval, offset: Aval, shape: tuple[int, ...]) -> Aval:
    check_scalar("random_bits", seed, int64, "the seed")
    check_scalar("random_bits", offset, int64, "the offset")
    check_shape("random_bits", shape)
    return Aval(shape, int32)


@quiet
def philox(seed: int, position: np.ndarray) -> np.ndarray:
    """Word 0 of Philox4x32-10 with counter `position` (low 64 bits, high ones zero) and key `seed`, as int32.

    Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (2011).
    """
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    counter = np.asarray(position).astype(np.uint64)
    words = [counter & mask, counter >> half, np.zeros_like(counter), np.zeros_like(counter)]
    key = np.asarray(seed).astype(np.uint64)
    low, high = key & mask, key >> half
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * words[0], np.uint64(0xCD9E8D57) * words[2]
        words = [
            (second >> half) ^ words[1] ^ low,
            second & mask,
            (first >> half) ^ words[3] ^ high,
            first & mask,
        ]
        low, high = (low + np.uint64(0x9E3779B9)) & mask, (high + np.uint64(0xBB67AE85)) & mask
    return words[0].astype(np.uint32).view(np.int32)


@quiet
def _random_bits(seed: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    size = math.prod(shape)
    return philox(seed, np.arange(size, dtype=np.int64) + offset).reshape(shape)


def _lower_random_bits(b, seed, offset, shape):
    from flambeau.dialects.tape import approximations  # that module imports this one

    return approximations.philox(b, seed, offset, b.position())


def _samples_random_bits() -> list[Sample]:
    def scalar(n: int) -> np.ndarray:
        return np.asarray(n, np.int64)

    return [
        *(Sample((scalar(0), scalar(0)), {"shape": shape}) for shape in ((), (0,), (7,), (4099,), (3, 5))),
        Sample((scalar(-1), scalar(2**32 - 3)), {"shape": (67,)}),
        Sample((scalar(0x1234567887654321), scalar(-5)), {"shape": (11,)}),
        Sample((scalar(0), scalar(0)), {"shape": (-1,)}, error=(RuntimeError, "[random_bits] shape (-1,) is not")),
        Sample(
            (np.zeros(1, np.int64), scalar(0)),
            {"shape": ()},
            error=(RuntimeError, "[random_bits] the seed is int64 of"),
        ),
        Sample(
            (scalar(0), np.zeros(())), {"shape": ()}, error=(RuntimeError, "[random_bits] the offset is float64 of")
        ),
    ]


random_bits = OpRecord(
    name="random_bits",
    kind=Kind.SOURCE,
    attrs=("shape",),
    infer=_infer_random_bits,
    reference=_random_bits,
    vjp=NoGradient("its result is made of random bits"),
    lower=_lower_random_bits,
    dtypes=(int64,),
    samples=_samples_random_bits,
    doc="32 random bits per element: Philox4x32-10, keyed by the seed, counting from the offset.",
)
