"""Assembly: operands placed into a larger result.

In: data, for `pad` a 0-d value, for `update_slice` 0-d starts. Next: `contraction.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import SUPPORTED
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.size import Int
from flambeau.dialects.tape.common import check_axis, check_dtype, check_length, check_scalar, ops, random
from flambeau.dialects.tape.view import check_starts, check_window, clamp_starts, place, scalars, window


def _infer_pad(x: Aval, value: Aval, low: tuple[int, ...], high: tuple[int, ...]) -> Aval:
    check_dtype("pad", x, SUPPORTED)
    check_scalar("pad", value, x.dtype, "the value")
    check_length("pad", "low", low, x.rank)
    check_length("pad", "high", high, x.rank)
    if any(n < 0 for n in (*low, *high)):
        raise RuntimeError(f"[pad] low {low} and high {high} must not be negative. Slice to make an operand smaller.")
    return Aval(tuple(a + n + b for a, n, b in zip(low, x.shape, high, strict=True)), x.dtype)


def _pad(x: np.ndarray, value: np.ndarray, low: tuple[int, ...], high: tuple[int, ...]) -> np.ndarray:
    result = np.full([a + n + b for a, n, b in zip(low, x.shape, high, strict=True)], value, x.dtype)
    result[window(low, x.shape, (1,) * x.ndim)] = x
    return result


def _vjp_pad(ct, r, x, value, low, high):
    steps = (1,) * len(low)
    to_x = ops.slice(ct, starts=low, sizes=x.shape, steps=steps)
    outside = place(x.like(0), ct, low, steps)
    return to_x, ops.sum(outside, axes=tuple(range(len(low))))


def _samples_pad() -> list[Sample]:
    one = random(())
    return [
        *(
            Sample((random((5,)), one), {"low": (low,), "high": (high,)})
            for low, high in ((0, 0), (2, 0), (0, 3), (1, 1))
        ),
        Sample((random((3, 4)), one), {"low": (1, 0), "high": (2, 3)}),
        Sample((random((0, 4)), one), {"low": (1, 0), "high": (0, 0)}),
        Sample((random(()), one), {"low": (), "high": ()}),
        Sample((random((67, 3)), np.asarray(-np.inf)), {"low": (0, 5), "high": (1, 0)}, gradient=False),
        Sample(
            (random((2,)), one),
            {"low": (-1,), "high": (0,)},
            error=(RuntimeError, "[pad] low (-1,) and high (0,) must"),
        ),
        Sample(
            (random((2,)), one), {"low": (0, 0), "high": (0,)}, error=(RuntimeError, "[pad] `low` is (0, 0) for an")
        ),
        Sample(
            (random((2,)), random((1,))),
            {"low": (0,), "high": (0,)},
            error=(RuntimeError, "[pad] the value is float64 of shape (1,). Pass a 0-d float64."),
        ),
    ]


pad = OpRecord(
    name="pad",
    kind=Kind.ASSEMBLE,
    attrs=("low", "high"),
    infer=_infer_pad,
    reference=_pad,
    vjp=_vjp_pad,
    lower=None,
    dtypes=SUPPORTED,
    samples=_samples_pad,
    doc="The operand with `low` copies of a value before it and `high` after it, per dimension.",
)


def _infer_concat(*rest) -> Aval:
    *xs, dim = rest
    if not xs:
        raise RuntimeError("[concat] got no operands. Pass at least one.")
    first = xs[0]
    check_dtype("concat", first, SUPPORTED)
    check_axis("concat", dim, first.rank, "dim")
    for x in xs[1:]:
        if x.dtype is not first.dtype:
            raise RuntimeError(
                f"[concat] operands have dtypes {first.dtype.name} and {x.dtype.name}. Cast them to one first."
            )
        if x.rank != first.rank or any(
            m != n for axis, (m, n) in enumerate(zip(first.shape, x.shape, strict=True)) if axis != dim
        ):
            raise RuntimeError(
                f"[concat] shapes {first.shape} and {x.shape} differ outside of dim {dim}. Make them equal there."
            )
    total: Int = sum(x.shape[dim] for x in xs)
    return Aval((*first.shape[:dim], total, *first.shape[dim + 1 :]), first.dtype)


def _vjp_concat(ct, r, *rest):
    *xs, dim = rest
    cotangents, start = [], 0
    for x in xs:
        starts = tuple(start if axis == dim else 0 for axis in range(len(x.shape)))
        cotangents.append(ops.slice(ct, starts=starts, sizes=x.shape, steps=(1,) * len(starts)))
        start += x.shape[dim]
    return tuple(cotangents)


concat = OpRecord(
    name="concat",
    kind=Kind.ASSEMBLE,
    attrs=("dim",),
    infer=_infer_concat,
    reference=lambda *rest: np.concatenate(rest[:-1], rest[-1]),
    vjp=_vjp_concat,
    lower=None,
    dtypes=SUPPORTED,
    samples=lambda: [
        Sample((random((3,)), random((2,), seed=1)), {"dim": 0}),
        Sample((random((3, 4)), random((3, 1), seed=1), random((3, 0)), random((3, 5), seed=2)), {"dim": 1}),
        Sample((random((1, 2, 3)), random((4, 2, 3), seed=1)), {"dim": 0}),
        Sample((random((2, 2)),), {"dim": 0}),
        Sample(
            (random((3,)), random((2,)).astype(np.float32)),
            {"dim": 0},
            error=(RuntimeError, "[concat] operands have dt"),
        ),
        Sample(
            (random((3, 4)), random((3, 1))),
            {"dim": 0},
            error=(RuntimeError, "[concat] shapes (3, 4) and (3, 1) differ"),
        ),
        Sample(
            (random((3, 4)), random((3,))), {"dim": 0}, error=(RuntimeError, "[concat] shapes (3, 4) and (3,) differ")
        ),
        Sample((random((3,)),), {"dim": 1}, error=(IndexError, "[concat] dim 1 is out of range")),
        Sample((random(()), random(())), {"dim": 0}, error=(IndexError, "[concat] dim 0 is out of range")),
    ],
    doc="The operands one after the other along `dim`.",
)


def _infer_update_slice(x: Aval, update: Aval, *rest) -> Aval:
    *starts, steps = rest
    check_dtype("update_slice", x, SUPPORTED)
    if update.dtype is not x.dtype:
        raise RuntimeError(
            f"[update_slice] the update has dtype {update.dtype.name}, the operand {x.dtype.name}. "
            "Cast the update first."
        )
    if update.rank != x.rank:
        raise RuntimeError(
            f"[update_slice] the update of shape {update.shape} has another rank than the operand of shape {x.shape}. "
            "Reshape the update."
        )
    check_starts("update_slice", tuple(starts), x.rank)
    check_window("update_slice", x.shape, update.shape, steps)
    return x


def _update_slice(x: np.ndarray, update: np.ndarray, *rest) -> np.ndarray:
    *starts, steps = rest
    result = x.copy()
    result[window(clamp_starts(starts, x.shape, update.shape, steps), update.shape, steps)] = update
    return result


def _vjp_update_slice(ct, r, x, update, *rest):
    *starts, steps = rest
    to_x = ops.update_slice(ct, update.like(0), *starts, steps=steps)
    to_update = ops.dynamic_slice(ct, *starts, sizes=update.shape, steps=steps)
    return (to_x, to_update, *[None] * len(starts))


def _samples_update_slice() -> list[Sample]:
    x, small = random((7,)), random((3,), seed=1)
    return [
        *(Sample((x, small, *scalars(start)), {"steps": (1,)}) for start in (0, 2, 4, 6, -3, 2**40)),
        *(Sample((x, small, *scalars(start)), {"steps": (2,)}) for start in (0, 1, 2)),
        Sample((random((5, 6)), random((2, 3), seed=1), *scalars(1, 0)), {"steps": (2, 2)}),
        Sample((random((5, 6)), random((0, 3), seed=1), *scalars(1, 0)), {"steps": (1, 1)}),
        Sample((random((5, 6)), random((5, 6), seed=1), *scalars(0, 0)), {"steps": (1, 1)}),
        Sample((random(()), random((), seed=1)), {"steps": ()}),
        Sample(
            (x, random((9,)), *scalars(0)),
            {"steps": (1,)},
            error=(RuntimeError, "[update_slice] 9 elements 1 apart do"),
        ),
        Sample(
            (x, random((1, 3)), *scalars(0)),
            {"steps": (1,)},
            error=(RuntimeError, "[update_slice] the update of shape"),
        ),
        Sample(
            (x, small), {"steps": (1,)}, error=(RuntimeError, "[update_slice] got 0 starts for an operand of rank 1")
        ),
        Sample(
            (x, small > 0, *scalars(0)),
            {"steps": (1,)},
            error=(RuntimeError, "[update_slice] the update has dtype bool"),
        ),
    ]


update_slice = OpRecord(
    name="update_slice",
    kind=Kind.ASSEMBLE,
    attrs=("steps",),
    infer=_infer_update_slice,
    reference=_update_slice,
    vjp=_vjp_update_slice,
    lower=None,
    dtypes=SUPPORTED,
    samples=_samples_update_slice,
    doc="x with a window replaced by the update; starts that leave x are moved to where the window fits.",
)
