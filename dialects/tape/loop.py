"""Loops of a given length, `scan`: a region that goes through slices of operands, carries values and gives results of each turn.

In: operands that are carried, then those that are gone through along their first axis, then what is the same in every turn, and a
region of these. Out: what is carried at the end, and the results of all turns, stacked along a new first axis. How many turns there
are is an extent: programs of other lengths are the same. Next: `dialects/loops.py` for the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flambeau.dialects import loops
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float64
from flambeau.dialects.graph import Region
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.region import build, check_region, typed
from flambeau.dialects.size import Int
from flambeau.dialects.tape.common import random
from flambeau.dialects.tape.control import Call, by_numpy


def turns(operands: Sequence[Aval], carried: int, sliced: int, size: Int) -> Int:
    """How many turns there are: the extent of what is gone through, else `size`."""
    return operands[carried].shape[0] if sliced else size


def _infer(*rest: Any) -> tuple[Aval, ...]:
    *operands, carried, sliced, size, _, body = rest
    through = operands[carried : carried + sliced]
    for a in through:
        if not a.shape or a.shape[0] != through[0].shape[0]:
            raise RuntimeError(
                f"[scan] what it goes through has shapes {', '.join(str(a.shape) for a in through)}. "
                "Make the first extents equal."
            )
    times = turns(operands, carried, sliced, size)
    slices = [a._replace(shape=a.shape[1:]) for a in through]
    check_region("scan", "its region 'body'", body, [*operands[:carried], *slices, *operands[carried + sliced :]])
    if len(body.outputs) < max(carried, 1) or body.outputs[:carried] != operands[:carried]:
        raise RuntimeError(
            f"[scan] the body gives {typed(body.outputs[:carried])} for carried values {typed(operands[:carried])}. "
            "Make it give each one anew, in its shape and dtype, and first."
        )
    return (*body.outputs[:carried], *[a._replace(shape=(times, *a.shape)) for a in body.outputs[carried:]])


def _run(call: Call, *rest: Any) -> tuple[Any, ...]:
    *operands, n, sliced, size, reverse, body = rest
    carried: Sequence[Any] = operands[:n]
    through, fixed = operands[n : n + sliced], operands[n + sliced :]
    times = through[0].shape[0] if through else size
    stacked = [np.empty((times, *a.shape), a.dtype.numpy) for a in body.outputs[n:]]
    for k in reversed(range(times)) if reverse else range(times):
        found = call(body, [*carried, *[x[k, ...] for x in through], *fixed])
        carried = found[:n]
        for whole, x in zip(stacked, found[n:], strict=True):
            whole[k, ...] = x
    return (*carried, *stacked)


def _vjp(cts: Sequence[Value | None], results: Sequence[Value], *rest: Any) -> tuple[Value | None, ...]:
    *operands, carried, sliced, size, reverse, body = rest
    return tuple(loops.gradient(cts, results, operands, loops.ScanParts(body, carried, sliced, size, reverse)))


def _samples() -> list[Sample]:
    def attrs(body: Region, carried: int, sliced: int, size: int = 0, reverse: bool = False) -> dict[str, Any]:
        return {"carried": carried, "sliced": sliced, "size": size, "reverse": reverse, "body": body}

    h, w, x = random((3,)), random((3,), seed=1), random((4, 3), seed=2)
    row = Aval((3,), float64)
    decayed = build([row] * 3, lambda h, x, w: [h * w + x, h * x])
    grown = build([row, row], lambda h, w: [h * w + h])
    mapped = build([row, row], lambda x, w: [x * w, x * x])
    bare = build([row] * 3, lambda h, x, w: [x])
    long = build([Aval((67,), float64)] * 2, lambda h, x: [h * x + x, h.builder.constant(1, float64, (67,)) * h])
    narrow = Aval((2,), float64)
    other = build([row] * 3, lambda h, x, w: [h.builder.constant(0, float64, (2,))])
    return [
        Sample((h, x, w), attrs(decayed, 1, 1)),
        Sample((h, x, w), attrs(decayed, 1, 1, reverse=True)),
        Sample((h, x[:1], w), attrs(decayed, 1, 1)),
        Sample((h, x[:0], w), attrs(decayed, 1, 1)),
        Sample((h, w), attrs(grown, 1, 0, size=3)),
        Sample((h, w), attrs(grown, 1, 0, size=0)),
        Sample((x, w), attrs(mapped, 0, 1)),
        Sample((h, x, w), attrs(bare, 1, 1)),
        Sample((random((67,)), random((3, 67), seed=1)), attrs(long, 1, 1), gradient=False),
        Sample((h, w), attrs(decayed, 1, 1), error=(RuntimeError, "[scan] its region 'body' takes (3xf64, 3xf64")),
        Sample(
            (h, x, w), attrs(other, 1, 1), error=(RuntimeError, "[scan] the body gives (2xf64) for carried values (")
        ),
        Sample(
            (x, x[:3], w),
            attrs(decayed, 0, 2),
            error=(RuntimeError, "[scan] what it goes through has shapes (4, 3), (3, 3)."),
        ),
        Sample(
            (h, x, w),
            attrs(build([narrow], lambda x: [x]), 1, 1),
            error=(RuntimeError, "[scan] its region 'body' takes"),
        ),
    ]


scan = OpRecord(
    name="scan",
    kind=Kind.CONTROL,
    attrs=("carried", "sliced", "size", "reverse", "body"),
    infer=_infer,
    reference=by_numpy(_run),
    vjp=_vjp,
    lower=None,
    dtypes=(float64,),  # of the samples: which types it takes says each region
    exact=False,
    keep=True,
    results=None,
    regions=("body",),
    run=_run,
    reaches=lambda given, carried, _sliced, _size, _reverse, body: loops.reached_operands(body, carried, given),
    samples=_samples,
    doc="The carried values, replaced by what `body` gives for them and one slice after the other; what else it gives, stacked.",
)
