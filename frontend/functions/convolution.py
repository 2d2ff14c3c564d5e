"""Convolutions and transposed convolutions along one, two or three axes.

In: maps [N, C, *size], or [C, *size] of one sample, and a kernel. Out: maps. All end in the records `convolution` and
`convolution_input`, which are each other's gradients; a bias is added by the call, which rounds once. Next: `pool.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.function import Optional_, Padding, Static, Tensor_, function
from flambeau.functions.common import numbers, ops
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

#: A number for every spatial axis.
_Numbers = tuple[int, ...]


# ---- arguments --------------------------------------------------------------------------------------------------


def _check_groups(op: str, groups: Any) -> int:
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise TypeError(f"[{op}] groups is {groups!r}. Give an int.")
    if groups < 1:
        raise RuntimeError(f"[{op}] groups is {groups}. Give at least 1.")
    return groups.__index__()


def _batched(op: str, x: Value, weight: Value, rank: int) -> tuple[Value, bool]:
    """The maps as a batch, and whether they are one."""
    if len(weight.shape) != rank + 2:
        raise RuntimeError(
            f"[{op}] weight has shape {weight.shape}. Give {rank + 2} dimensions: two of channels and {rank} spatial ones."
        )
    if len(x.shape) not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"[{op}] input has shape {x.shape}. Give [C, {_letters(rank)}], or [N, C, {_letters(rank)}] for a batch."
        )
    is_batch = len(x.shape) == rank + 2
    return x if is_batch else ops.reshape(x, shape=(1, *x.shape)), is_batch


def _letters(rank: int) -> str:
    return ", ".join("DHW"[-rank:]) if rank > 1 else "L"


def _check_dtypes(op: str, x: Value, weight: Value, bias: Value | None) -> None:
    for what, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.dtype is not x.dtype:
            raise RuntimeError(
                f"[{op}] input has dtype {x.dtype.name} and {what} {other.dtype.name}. Convert them to one dtype with .to()."
            )


def _check_extents(op: str, x: Value, weight: Value) -> None:
    if 0 in x.shape[2:] or 0 in weight.shape[2:]:
        raise RuntimeError(
            f"[{op}] input of shape {x.shape} and weight of shape {weight.shape} have an empty spatial dimension. "
            "Only batches and channels may be empty."
        )


def _check_channels(op: str, x: Value, weight: Value, expected: Any, groups: int) -> None:
    if x.shape[1] != expected:
        raise RuntimeError(
            f"[{op}] input of shape {x.shape} has {x.shape[1]} channels, and weight of shape {weight.shape} with {groups} "
            f"groups takes {expected}. Check in_channels."
        )
    if weight.shape[0] % groups != 0 or weight.shape[0] == 0:
        raise RuntimeError(
            f"[{op}] weight of shape {weight.shape} does not divide into {groups} groups. Make its first dimension a "
            "multiple of them."
        )


def _biased(op: str, y: Value, bias: Value | None) -> Value:
    if bias is None:
        return y
    if bias.shape != (y.shape[1],):
        raise RuntimeError(
            f"[{op}] bias has shape {bias.shape}, and there are {y.shape[1]} channels. Give one number each."
        )
    return y + ops.reshape(bias, shape=(1, y.shape[1], *(1,) * (len(y.shape) - 2))).expand(y.shape)


def _unbatched(y: Value, is_batch: bool) -> Value:
    return y if is_batch else ops.reshape(y, shape=y.shape[1:])


# ---- convolutions -----------------------------------------------------------------------------------------------


def margins(op: str, padding: Any, kernel: Sequence[Any], stride: _Numbers, dilation: _Numbers) -> tuple[Any, Any]:
    """Zeros before and after every spatial axis: numbers, "valid" (none), or "same" (as many places come out as go in, an odd one
    behind). Raises RuntimeError for other words, and for "same" with a stride."""
    rank = len(stride)
    if not isinstance(padding, str):
        found = numbers(op, "padding", padding, rank, 0)
        return found, found
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding != "same":
        raise RuntimeError(f"[{op}] padding is {padding!r}. Use 'same', 'valid' or numbers.")
    if any(s != 1 for s in stride):
        raise RuntimeError(f"[{op}] padding is 'same' and stride {stride}. Use stride 1, or give numbers.")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple([n // 2 for n in total]), tuple([n - n // 2 for n in total])


def convolution(
    op: str,
    rank: int,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Value:
    """A convolution along `rank` axes, as `conv1d` and its kin are, with their arguments and errors."""
    x, is_batch = _batched(op, x, weight, rank)
    stride = numbers(op, "stride", stride, rank, 1)
    dilation, groups = numbers(op, "dilation", dilation, rank, 1), _check_groups(op, groups)
    kernel = weight.shape[2:]
    low, high = margins(op, padding, kernel, stride, dilation)
    _check_dtypes(op, x, weight, bias)
    _check_extents(op, x, weight)
    _check_channels(op, x, weight, weight.shape[1] * groups, groups)
    wide = [n + a + b for n, a, b in zip(x.shape[2:], low, high, strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if any(n < k for n, k in zip(wide, reach, strict=True)):
        raise RuntimeError(
            f"[{op}] input of shape {x.shape} is {_by(wide)} with padding, and the kernel reaches over {_by(reach)}. "
            "Use more padding or a smaller kernel."
        )
    if groups == 1 and not any((*low, *high)) and kernel == x.shape[2:]:
        y = _of_whole_maps(x, weight)
    else:
        size = tuple((n - k) // s + 1 for n, k, s in zip(wide, reach, stride, strict=True))
        y = ops.convolution(x, weight, sizes=size, stride=stride, padding=low, dilation=dilation, groups=groups)
    return _unbatched(_biased(op, y, bias), is_batch)


def _of_whole_maps(x: Value, weight: Value) -> Value:
    """The convolution whose kernel is as large as its maps, [N, O, 1...]: a product of matrices, along k in the same order."""
    rows = [ops.reshape(v, shape=(v.shape[0], math.prod(v.shape[1:]))) for v in (x, weight)]
    y = ops.matmul(rows[0], ops.permute(rows[1], perm=(1, 0)))
    return ops.reshape(y, shape=(*y.shape, *(1,) * (len(x.shape) - 2)))


def _by(sizes: Sequence[Any]) -> str:
    return " x ".join(map(str, sizes))


_CALLS_1D = calls(
    lambda: [
        call(data(2, 3, 7), data(4, 3, 3), data(4)),
        call(data(4, 6), data(4, 2, 2), None, 2, 1, 2, 2),
        call(data(2, 2, 5), data(3, 2, 4), padding="same"),
        call(data(2, 3, 7), data(4, 2, 3), error=(RuntimeError, "has 3 channels, and weight of shape (4, 2, 3)")),
        call(data(2, 3, 2), data(4, 3, 3), error=(RuntimeError, "the kernel reaches over 3")),
        call(data(2, 3), data(4, 3), error=(RuntimeError, "weight has shape (4, 3). Give 3 dimensions")),
    ]
)
_CALLS_2D = calls(
    lambda: [
        call(data(2, 3, 5, 6), data(4, 3, 3, 2), data(4)),
        call(data(2, 4, 5, 5), data(6, 2, 3, 3), None, (2, 1), (1, 0), 1, 2),
        call(data(3, 4, 5), data(2, 3, 2, 2), None, padding="valid", dilation=(1, 2)),
        call(data(0, 2, 4, 4), data(3, 2, 3, 3), gradient=False),
        call(data(2, 3, 5, 5), data(4, 3, 3, 3), stride=0, error=(RuntimeError, "stride is 0. Give at least 1.")),
        call(data(2, 3, 5, 5), data(4, 3, 3, 3), padding=-1, error=(RuntimeError, "padding is -1. Give at least 0.")),
        call(data(2, 3, 5, 5), data(4, 3, 3, 3), dilation=1.5, error=(TypeError, "dilation is 1.5. Give an int")),
        call(data(2, 3, 5, 5), data(4, 3, 3, 3), stride=(1, 1, 1), error=(RuntimeError, "Give 1 or 2 ints")),
        call(
            data(2, 3, 5, 5), data(4, 3, 3, 3), padding="full", error=(RuntimeError, "Use 'same', 'valid' or numbers")
        ),
        call(data(2, 3, 5, 5), data(4, 3, 3, 3), stride=2, padding="same", error=(RuntimeError, "Use stride 1")),
        call(data(2, 3, 5, 5), data(4, 3, 3, 3), data(3), error=(RuntimeError, "bias has shape (3,)")),
        call(data(2, 3, 0, 5), data(4, 3, 3, 3), error=(RuntimeError, "have an empty spatial dimension")),
        call(data(2, 2, 5, 5), data(3, 1, 3, 3), groups=2, error=(RuntimeError, "does not divide into 2 groups")),
        call(data(2, 2, 5, 5), data(3, 1, 3, 3), groups=0, error=(RuntimeError, "groups is 0. Give at least 1.")),
        call(data(5, 5), data(3, 1, 3, 3), error=(RuntimeError, "input has shape (5, 5). Give [C, H, W]")),
    ]
)
_CALLS_3D = calls(
    lambda: [
        call(data(1, 2, 3, 4, 3), data(2, 2, 2, 3, 2), data(2), 1, 1),
        call(data(2, 3, 3), data(2, 2, 2, 2, 2), error=(RuntimeError, "Give [C, D, H, W]")),
    ]
)


@function(free="flambeau nn.functional", samples=_CALLS_1D)
def conv1d(
    input: Tensor_,
    weight: Tensor_,
    bias: Optional_ = None,
    stride: Static = 1,
    padding: Padding = 0,
    dilation: Static = 1,
    groups: Static = 1,
):
    """Convolves maps [N, C, L] or [C, L] with a kernel [O, C / groups, K]; `bias` has O numbers. Gives [N, O, L'] with
    L' = (L + 2 * padding - dilation * (K - 1) - 1) // stride + 1.

    `padding` is a number of zeros on both sides, "valid" (0) or "same" (L' = L). The dtype is the operands', which agree; narrow
    floats are added up in float32. Raises RuntimeError for shapes, dtypes and numbers that do not fit, TypeError for what is no
    int.
    """
    return convolution("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@function(free="flambeau nn.functional", samples=_CALLS_2D)
def conv2d(
    input: Tensor_,
    weight: Tensor_,
    bias: Optional_ = None,
    stride: Static = 1,
    padding: Padding = 0,
    dilation: Static = 1,
    groups: Static = 1,
):
    """Convolves maps [N, C, H, W] or [C, H, W] with a kernel [O, C / groups, KH, KW]: as `conv1d`, along two axes. Numbers are for
    both, or one for each."""
    return convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@function(free="flambeau nn.functional", samples=_CALLS_3D)
def conv3d(
    input: Tensor_,
    weight: Tensor_,
    bias: Optional_ = None,
    stride: Static = 1,
    padding: Padding = 0,
    dilation: Static = 1,
    groups: Static = 1,
):
    """Convolves maps [N, C, D, H, W] or [C, D, H, W] with a kernel [O, C / groups, KD, KH, KW]: as `conv1d`, along three axes."""
    return convolution("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


# ---- transposed convolutions ------------------------------------------------------------------------------------


def _transposed(
    op: str,
    rank: int,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Value:
    x, is_batch = _batched(op, x, weight, rank)
    stride, padding = numbers(op, "stride", stride, rank, 1), numbers(op, "padding", padding, rank, 0)
    dilation, groups = numbers(op, "dilation", dilation, rank, 1), _check_groups(op, groups)
    extra = numbers(op, "output_padding", output_padding, rank, 0)
    _check_dtypes(op, x, weight, bias)
    _check_channels(op, x, weight, weight.shape[0], groups)
    if any(n >= max(s, d) for n, s, d in zip(extra, stride, dilation, strict=True)):
        raise RuntimeError(
            f"[{op}] output_padding is {extra}, stride {stride} and dilation {dilation}. Give less than one of these."
        )
    rows = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, extra, strict=True)
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in rows)
    if x.shape[0] == 0 and 0 in x.shape[2:] and 0 not in weight.shape[2:] and min(size) >= 0:
        return _biased(op, _of_no_images(x, weight, size, stride, dilation, groups), bias)
    _check_extents(op, x, weight)
    if any(n < 1 for n in size):
        raise RuntimeError(
            f"[{op}] the result of input of shape {x.shape} would be {_by(size)}. Use less padding or a larger kernel."
        )
    if groups == 1 and not any(padding) and all(n == 1 for n in x.shape[2:]) and size == weight.shape[2:]:
        y = _of_single_places(x, weight)
    else:
        how = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        y = ops.convolution_input(x, weight, sizes=size, **how)
    return _unbatched(_biased(op, y, bias), is_batch)


def _of_no_images(
    x: Value, weight: Value, size: Sequence[Any], stride: _Numbers, dilation: _Numbers, groups: int
) -> Value:
    """The transposed convolution of no maps, as large as it would be of some: of none of one place where they have none."""
    places = [1 if n == 0 else n for n in x.shape[2:]]
    each = zip(places, weight.shape[2:], stride, dilation, strict=True)
    sizes = tuple([(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in each])
    how = dict(stride=stride, padding=(0,) * len(sizes), dilation=dilation, groups=groups)
    y = ops.convolution_input(ops.reshape(x, shape=(*x.shape[:2], *places)), weight, sizes=sizes, **how)
    return ops.reshape(y, shape=(*y.shape[:2], *size))


def _of_single_places(x: Value, weight: Value) -> Value:
    """The transposed convolution of maps of one place, each place of whose results meets one tap: a product of matrices."""
    rows = ops.reshape(x, shape=x.shape[:2])
    y = ops.matmul(rows, ops.reshape(weight, shape=(weight.shape[0], math.prod(weight.shape[1:]))))
    return ops.reshape(y, shape=(x.shape[0], *weight.shape[1:]))


_CALLS_TRANSPOSED = calls(
    lambda: [
        call(data(2, 3, 4), data(3, 2, 3), data(2)),
        call(data(4, 5), data(4, 2, 3), None, 3, 1, 1, 2, 2),
        call(data(2, 3, 4), data(4, 2, 3), error=(RuntimeError, "has 3 channels, and weight of shape (4, 2, 3)")),
        call(data(2, 3, 4), data(3, 2, 3), output_padding=1, error=(RuntimeError, "Give less than one of these")),
        call(data(2, 3, 4), data(3, 2, 3), padding=4, error=(RuntimeError, "Use less padding")),
        call(data(0, 2, 0), data(2, 3, 3), data(3), gradient=False),
        call(data(0, 2, 0), data(2, 3, 3), None, 2, 1, 1, gradient=False),
        call(data(1, 2, 0), data(2, 3, 3), error=(RuntimeError, "have an empty spatial dimension")),
        call(data(2, 3, 4), data(3, 2, 3), padding="same", error=(TypeError, "padding is 'same'. Give an int")),
    ]
)
_CALLS_TRANSPOSED_2D = calls(
    lambda: [
        call(
            data(2, 3, 3, 2),
            data(3, 2, 3, 3),
            data(4),
            (2, 1),
            1,
            (1, 0),
            1,
            error=(RuntimeError, "bias has shape (4,)"),
        ),
        call(data(2, 4, 3, 2), data(4, 1, 3, 2), data(2), (2, 1), 1, (1, 0), 2),
        call(data(0, 4, 0, 2), data(4, 1, 3, 2), data(2), (2, 1), 0, 0, 2, gradient=False),
    ]
)
_CALLS_TRANSPOSED_3D = calls(lambda: [call(data(1, 2, 2, 2, 3), data(2, 2, 2, 3, 2), None, 1, (0, 1, 0))])


@function(free="flambeau nn.functional", samples=_CALLS_TRANSPOSED)
def conv_transpose1d(
    input: Tensor_,
    weight: Tensor_,
    bias: Optional_ = None,
    stride: Static = 1,
    padding: Static = 0,
    output_padding: Static = 0,
    groups: Static = 1,
    dilation: Static = 1,
):
    """The gradient of `conv1d` by its maps: [N, C, L] or [C, L] with a kernel [C, O / groups, K] give [N, O, L'] with
    L' = (L - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1.

    `output_padding` says how many places more there are at the end: less than stride or dilation. Raises RuntimeError for shapes,
    dtypes and numbers that do not fit, TypeError for what is no int.
    """
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@function(free="flambeau nn.functional", samples=_CALLS_TRANSPOSED_2D)
def conv_transpose2d(
    input: Tensor_,
    weight: Tensor_,
    bias: Optional_ = None,
    stride: Static = 1,
    padding: Static = 0,
    output_padding: Static = 0,
    groups: Static = 1,
    dilation: Static = 1,
):
    """The gradient of `conv2d` by its maps: [N, C, H, W] with a kernel [C, O / groups, KH, KW], as `conv_transpose1d`."""
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@function(free="flambeau nn.functional", samples=_CALLS_TRANSPOSED_3D)
def conv_transpose3d(
    input: Tensor_,
    weight: Tensor_,
    bias: Optional_ = None,
    stride: Static = 1,
    padding: Static = 0,
    output_padding: Static = 0,
    groups: Static = 1,
    dilation: Static = 1,
):
    """The gradient of `conv3d` by its maps: [N, C, D, H, W] with a kernel [C, O / groups, KD, KH, KW], as `conv_transpose1d`."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


@declared(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(5, 2, 3), data(2, 3, 4), data(4)),
            call(data(5, 2, 3), data(3, 3, 2), data(2), 1),
            call(data(5, 3), data(3, 3, 2), data(2), error=(RuntimeError, "input has shape (5, 3)")),
        ]
    ),
)
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """`conv1d` of [T, N, C] with a kernel [K, C, O] and a bias [O]: [T', N, O], with `pad` zeros on both sides. Raises RuntimeError
    for shapes that do not fit."""
    if input.ndim != 3 or weight.ndim != 3:
        raise RuntimeError(
            f"[conv_tbc] input has shape {tuple(input.shape)}, weight {tuple(weight.shape)}. Pass [T, N, C] and [K, C, O]."
        )
    return conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, 1, pad).permute(2, 0, 1)
