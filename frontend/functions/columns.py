"""Windows as columns: `nn.functional.unfold` and `fold`.

In: [(batch,) channels, height, width], or columns of it. Out: the elements of its windows, or columns summed where they came from.
Next: `normalize.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import declared
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.common import numbers, ops
from flambeau.functions.pool import Numbers
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _checked(op: str, kernel: Any, dilation: Any, padding: Any, stride: Any) -> tuple[tuple[int, ...], ...]:
    return (
        numbers(op, "kernel_size", kernel, 2, 1),
        numbers(op, "dilation", dilation, 2, 1),
        numbers(op, "padding", padding, 2, 0),
        numbers(op, "stride", stride, 2, 1),
    )


def _blocks(op: str, extents: tuple[Any, ...], numbers: tuple[tuple[int, ...], ...]) -> tuple[Any, ...]:
    kernel, dilation, padding, stride = numbers
    found = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(extents, kernel, dilation, padding, stride)
    )
    if any(n < 1 for n in found):
        raise RuntimeError(
            f"[{op}] windows of {kernel} do not fit into {extents} with margins of {padding}. Make them smaller."
        )
    return found


@function(name="unfold")
def _columns(input: Tensor_, numbers: Static):
    shape = input.shape
    if len(shape) not in (3, 4) or 0 in shape[len(shape) - 3 :]:
        raise RuntimeError(
            f"[unfold] input has shape {shape}. Pass [(batch,) channels, height, width], none but the batch empty."
        )
    kernel, dilation, padding, stride = numbers
    blocks = _blocks("unfold", shape[-2:], numbers)
    rank = len(shape)
    x = input
    if any(padding):
        margins = (*(0,) * (rank - 2), *padding)
        x = ops.pad(x, x.builder.constant(0, x.dtype), low=margins, high=margins)
    for k in range(2):
        x = ops.unfold(x, axis=rank - 2 + k, size=kernel[k], step=stride[k], dilation=dilation[k])
    lead = tuple(range(rank - 2))
    x = ops.permute(x, perm=(*lead, rank, rank + 1, rank - 2, rank - 1))
    return ops.reshape(x, shape=(*shape[: rank - 3], shape[rank - 3] * kernel[0] * kernel[1], blocks[0] * blocks[1]))


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 4, 5), 2),
            call(data(2, 1, 5, 4), (2, 3), dilation=(2, 1), padding=(1, 0), stride=2),
            call(data(4, 5), 2, error=(RuntimeError, "input has shape (4, 5)")),
            call(data(1, 2, 2), 3, error=(RuntimeError, "do not fit into (2, 2)")),
        ]
    ),
    recalled="operand",
)
def unfold(
    input: Tensor, kernel_size: Numbers, dilation: Numbers = 1, padding: Numbers = 0, stride: Numbers = 1
) -> Tensor:
    """The windows of [(batch,) channels, height, width] as columns: [(batch,) channels * kernel elements, windows]. Raises
    RuntimeError for shapes and windows that do not fit."""
    return _columns(input, _checked("unfold", kernel_size, dilation, padding, stride))


@function(name="fold")
def _folded(input: Tensor_, output_size: Sizes, numbers: Static):
    kernel, dilation, padding, stride = numbers
    shape, blocks = input.shape, _blocks("fold", output_size, numbers)
    columns = kernel[0] * kernel[1]
    if len(shape) not in (2, 3):
        raise RuntimeError(f"[fold] input has shape {shape}. Pass [(batch,) channels * kernel elements, windows].")
    if shape[-2] % columns or shape[-1] != blocks[0] * blocks[1]:
        raise RuntimeError(
            f"[fold] input has shape {shape}, for windows of {kernel}, {blocks[0]} times {blocks[1]}. "
            f"Pass [(batch,) a multiple of {columns}, {blocks[0] * blocks[1]}]."
        )
    lead = (*shape[:-2], shape[-2] // columns)
    rank = len(lead)
    x = ops.reshape(input, shape=(*lead, *kernel, *blocks))
    x = ops.permute(x, perm=(*range(rank), rank + 2, rank + 3, rank, rank + 1))
    for k in (1, 0):
        extent = output_size[k] + 2 * padding[k]
        x = ops.fold(x, axis=rank + k, extent=extent, step=stride[k], dilation=dilation[k])
    if not any(padding):
        return x
    sizes = (*lead, *output_size)
    return ops.slice(x, starts=(*(0,) * rank, *padding), sizes=sizes, steps=(1,) * (rank + 2))


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(8, 12), (4, 5), 2),
            call(data(2, 6, 6), (5, 4), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(2, 1)),
            call(data(8, 11), (4, 5), 2, error=(RuntimeError, "input has shape (8, 11)")),
        ]
    ),
    recalled="operand",
)
def fold(
    input: Tensor,
    output_size: Numbers,
    kernel_size: Numbers,
    dilation: Numbers = 1,
    padding: Numbers = 0,
    stride: Numbers = 1,
) -> Tensor:
    """Columns of `unfold`, summed where they came from: [(batch,) channels, *output_size]. Windows of one row of the kernel are
    added up first, one after the other. Raises RuntimeError for shapes that do not fit."""
    return _folded(
        input,
        numbers("fold", "output_size", output_size, 2, 0),
        _checked("fold", kernel_size, dilation, padding, stride),
    )
