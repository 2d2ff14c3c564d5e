"""In-place forms: `x.add_(y)` computes what `add` does and stores it in x.

In: the rules of pure functions. Out: `FORMS`, functions that are also Tensor methods with a trailing underscore. The result
is converted to the dtype of x, which must be of no lower category, and must have its shape. Next: `operators.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.function import Operand, Tensor_, inplace
from flambeau.functions import activation, arithmetic, assemble, compare, gathering, math
from flambeau.runtime.recorder import Function, Tensor

_NAMES = {
    arithmetic: "add sub rsub mul div floor_divide remainder fmod neg abs sign square reciprocal clamp_min clamp_max "
    "masked_fill lerp addcmul addcdiv",
    math: "exp expm1 log log1p log2 log10 exp2 sqrt rsqrt sin cos tan erf floor ceil trunc frac round",
    activation: "relu sigmoid tanh",
    compare: "eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift "
    "logical_and logical_or logical_xor logical_not",
    gathering: "scatter_add index_add",
    assemble: "tril triu",
}
_FALLIBLE = {"div", "floor_divide", "remainder", "fmod", "scatter_add", "index_add"}


def _form(pure: Function) -> Function:
    return inplace(method=True, name=pure.name + "_", fallible=pure.name in _FALLIBLE)(pure.rule)


#: In-place functions by name, such as "add_".
FORMS: dict[str, Function] = {
    name + "_": _form(getattr(module, name)) for module, names in _NAMES.items() for name in names.split()
}

# Forms of two operands, which operators call without binding keywords.
plus_ = inplace(name="add_")(arithmetic.plus.rule)
minus_ = inplace(name="sub_")(arithmetic.minus.rule)
over_ = inplace(name="div_")(arithmetic.over.rule)
_pow_tensor_ = inplace(name="pow_")(arithmetic.pow_tensor.rule)
_pow_number_ = inplace(name="pow_")(arithmetic.pow_number.rule)
_clamp_both_ = inplace(name="clamp_")(arithmetic.clamp_both.rule)


def pow_(input: Tensor, exponent: Any) -> Tensor:
    """`input **= exponent`."""
    return _pow_tensor_(input, exponent) if isinstance(exponent, Tensor) else _pow_number_(input, exponent)


def clamp_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit `input` to [min, max] in place. See `clamp`."""
    if min is None and max is None:
        raise RuntimeError("[clamp_] both bounds are None. Give min, max or both.")
    if max is None:
        return FORMS["clamp_min_"](input, min)
    return FORMS["clamp_max_"](input, max) if min is None else _clamp_both_(input, min, max)


@inplace(method=True, name="zero_")
def zero_(input: Tensor_):
    """Set all elements to 0."""
    return input.like(0)


@inplace(method=True, name="fill_")
def fill_(input: Tensor_, value: Operand):
    """Set all elements to `value`, a number or a 0-d tensor, converted to the dtype of `input`."""
    if value.shape:
        raise RuntimeError(f"[fill_] value has shape {value.shape}. Pass a number or a 0-d tensor, or use copy_.")
    return value.cast(input.dtype).expand(input.shape)


@inplace(name="copy_")
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


def copy_(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Replace the elements of `input` by those of `src`, which is converted to its dtype and broadcast to its shape."""
    return copy_values(input, src)
