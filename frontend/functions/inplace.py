"""In-place functions that are no forms of pure ones, and forms that operators call: zero_, fill_, copy_, pow_, clamp_.

In: tensors. Out: the first of them, whose elements are replaced. The forms of all others are made where these are declared
(`function.function(in_place=True)`). Next: `operators.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import declared
from flambeau.function import Operand, Tensor_, function, inplace, stored
from flambeau.functions import arithmetic, choose
from flambeau.functions.common import fitted
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points

# Forms of two operands, which operators call without binding keywords.
plus_, minus_, over_ = (stored(f) for f in (arithmetic.plus, arithmetic.minus, arithmetic.over))
_pow_tensor_, _pow_number_ = stored(arithmetic.pow_tensor), stored(arithmetic.pow_number)
_clamp_both_, _clamp_min_, _clamp_max_ = (
    stored(f, fallible=True) for f in (choose.clamp_both, choose.clamp_min, choose.clamp_max)
)


@declared(
    method=True,
    samples=calls(lambda: [call(data(2, 3, low=0.5, high=3), 2), call(data(2, 3, low=0.5, high=3), data(3))]),
    recalled="types",
)
def pow_(input: Tensor, exponent: Any) -> Tensor:
    """`input **= exponent`."""
    return _pow_tensor_(input, exponent) if isinstance(exponent, Tensor) else _pow_number_(input, exponent)


@declared(
    free="flambeau",
    method=True,
    aliases="clip_",
    samples=calls(
        lambda: [
            call(data(2, 3), -1, 1),
            call(data(2, 3), min=-1),
            call(data(2, 3), max=data(3)),
            call(data(2), error=(RuntimeError, "both bounds are None")),
        ]
    ),
    recalled="types",
)
def clamp_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit `input` to [min, max] in place. See `clamp`."""
    if min is None and max is None:
        raise RuntimeError("[clamp_] both bounds are None. Give min, max or both.")
    if max is None:
        return _clamp_min_(input, min)
    return _clamp_max_(input, max) if min is None else _clamp_both_(input, min, max)


@inplace(free="flambeau", method=True, samples=calls(lambda: [call(data(2, 3)), call(data(0, 2), gradient=False)]))
def zero_(input: Tensor_):
    """Set all elements to 0."""
    return input.like(0)


_FILLED = calls(
    lambda: [
        call(data(2, 3), 2),
        call(data(2, 3), data()),
        call(data(2), data(2), error=(RuntimeError, "Pass a number or a 0-d tensor")),
    ]
)


@function(free="flambeau", samples=_FILLED, fallible=True)
def fill(input: Tensor_, value: Operand):
    """`value`, a number or a 0-d tensor, in the shape and dtype of `input`. Raises RuntimeError for a number that an integer dtype
    does not hold (when a value is read)."""
    if value.shape:
        raise RuntimeError(f"[fill] value has shape {value.shape}. Pass a number or a 0-d tensor.")
    return fitted("fill", "value", value, input.dtype).cast(input.dtype).expand(input.shape)


@inplace(free="flambeau", method=True, samples=_FILLED, fallible=True)
def fill_(input: Tensor_, value: Operand):
    """Set all elements to `value`, a number or a 0-d tensor, converted to the dtype of `input`. Raises RuntimeError for a number
    that an integer dtype does not hold (when a value is read)."""
    if value.shape:
        raise RuntimeError(f"[fill_] value has shape {value.shape}. Pass a number or a 0-d tensor, or use copy_.")
    return fitted("fill_", "value", value, input.dtype).cast(input.dtype).expand(input.shape)


@inplace(name="copy_", moves=True)
def copy_values(input: Tensor_, src: Tensor_):
    """Replace the elements by those of `src`, which is converted and broadcast."""
    if len(src.shape) > len(input.shape):
        raise RuntimeError(
            f"[copy_] source of shape {src.shape} does not broadcast to shape {input.shape}. Reshape it."
        )
    for have, want in zip(reversed(src.shape), reversed(input.shape)):
        if have not in (1, want):
            raise RuntimeError(
                f"[copy_] source of shape {src.shape} does not broadcast to shape {input.shape}. Reshape it."
            )
    return src.cast(input.dtype).expand(input.shape)


@declared(
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), data(3)),
            call(points(), points(), gradient=False),
            call(data(2), data(3), error=(RuntimeError, "does not broadcast")),
        ]
    ),
    recalled="types",
)
def copy_(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Replace the elements of `input` by those of `src`, which is converted to its dtype, broadcast to its shape
    and moved to its device."""
    return copy_values(input, src)
