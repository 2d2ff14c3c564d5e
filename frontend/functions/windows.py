"""Windows as a view: `Tensor.unfold`.

In: a tensor and what its windows are. Out: their elements, where they lie. Next: `columns.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Static, Tensor_, view
from flambeau.functions.common import canonical_dim, integer, ops
from flambeau.samples import call, calls, data


def _windows(x: Value, dimension: Any, size: Any, step: Any) -> tuple[Value, int]:
    """The tensor, which has a dimension, and which one is cut. Raises for windows that do not fit."""
    axis = canonical_dim("unfold", dimension, len(x.shape))
    line = ops.reshape(x, shape=(1,)) if not x.shape else x
    if step < 1 or not 0 <= size <= line.shape[axis]:
        raise RuntimeError(
            f"[unfold] windows of {size} elements every {step} do not fit dimension {axis} of shape {x.shape}. "
            "Use a size from 0 to that dimension's, and a step of at least 1."
        )
    return line, axis


def _put_windows(base: Value, new: Value, dimension: Any, size: Any, step: Any) -> Value:
    """The tensor with windows that do not overlap replaced, place after place."""
    line, axis = _windows(base, dimension, size, step)
    if step < size:
        raise RuntimeError(
            f"[unfold] windows of {size} elements every {step} overlap, and cannot be written to. Write to a clone()."
        )
    if not base.shape:
        return ops.reshape(new, shape=())
    rank = len(line.shape)
    for k in range(int(size)):
        part = ops.slice(new, starts=(*(0,) * rank, k), sizes=(*new.shape[:-1], 1), steps=(1,) * (rank + 1))
        offsets = [base.builder.constant(k if a == axis else 0, int64) for a in range(rank)]
        steps = tuple(step if a == axis else 1 for a in range(rank))
        line = ops.update_slice(line, ops.reshape(part, shape=new.shape[:-1]), *offsets, steps=steps)
    return line


@view(
    method=True,
    samples=calls(
        lambda: [
            call(data(7), 0, 3, 1),
            call(data(2, 7), -1, 3, 2),
            call(data(6, 2), 0, 2, 3),
            call(data(), 0, 1, 1),
            call(data(4), 0, 5, 1, error=(RuntimeError, "do not fit dimension 0")),
            call(data(4), 1, 2, 1, error=(IndexError, "dim 1 is out of range")),
        ]
    ),
    put=_put_windows,
)
def unfold(input: Tensor_, dimension: Static, size: Static, step: Static):
    """The windows of `size` elements that begin every `step` along `dimension`, which then counts them; their elements are a new
    last dimension. A view: windows that overlap share elements, and cannot be written to. Raises RuntimeError for windows
    that do not fit."""
    size, step = integer("unfold", "size", size), integer("unfold", "step", step)
    line, axis = _windows(input, dimension, size, step)
    if not input.shape:
        return ops.reshape(line, shape=(size,)) if size else ops.slice(line, starts=(0,), sizes=(0,), steps=(1,))
    return ops.unfold(line, axis=axis, size=size, step=step, dilation=1)
