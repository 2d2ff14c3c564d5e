"""Rotary position embeddings. Su and others, "RoFormer: Enhanced transformer with rotary position embedding" (2021).

In: queries or keys, and where in the sequence they stand. Out: the same, each pair of features turned by an angle that grows
with the position. Next: `attention.py`; `nn/rotary.py` for the module.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float32, float64, int64
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import broadcast_shapes, check_floating, ops, part
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index

_OP = "rotary_embedding"


def _check(x: Value) -> None:
    check_floating(_OP, x)
    if len(x.shape) < 2 or x.shape[-1] % 2:
        raise RuntimeError(
            f"[{_OP}] input has shape {x.shape}. Pass [..., length, features], with an even number of features."
        )


def _turned(x: Value, positions: Value, base: Value, interleaved: bool) -> Value:
    """x with pair i of its n features turned by position * base ** (-2i / n), an angle in float32 (float64 for float64)."""
    wide = float64 if x.dtype is float64 else float32
    half = x.shape[-1] // 2
    pair = ops.iota(shape=(half,), dim=0, dtype=wide, builder=x.builder)
    share = pair * 2.0 / pair.like(x.shape[-1])
    frequency = 1.0 / ops.pow(base.cast(wide).expand((half,)), share)
    angles = (*positions.shape, half)
    where = ops.reshape(positions.cast(wide), shape=(*positions.shape, 1)).expand(angles)
    angle = where * frequency.expand(angles)
    pairs = (*x.shape[:-1], half)
    cosine, sine = (f(angle).cast(x.dtype).expand(pairs) for f in (ops.cos, ops.sin))
    last = len(x.shape) - 1
    if not interleaved:
        first, second = part(x, last, 0, half), part(x, last, half, half)
        return ops.concat(first * cosine - second * sine, second * cosine + first * sine, dim=last)
    split = ops.reshape(x, shape=(*pairs, 2))
    first, second = (ops.reshape(part(split, last + 1, k, 1), shape=pairs) for k in (0, 1))
    new = [first * cosine - second * sine, second * cosine + first * sine]
    return ops.reshape(ops.concat(*[ops.reshape(v, shape=(*pairs, 1)) for v in new], dim=last + 1), shape=x.shape)


@function(name=_OP)
def _from(input: Tensor_, first: Operand, base: Operand, interleaved: Static):
    """Of consecutive elements, the first of which stands at `first`."""
    _check(input)
    places = ops.iota(shape=(input.shape[-2],), dim=0, dtype=int64, builder=input.builder)
    return _turned(input, places + first.cast(int64).expand(places.shape), base, interleaved)


@function(name=_OP)
def _at(input: Tensor_, positions: Tensor_, base: Operand, interleaved: Static):
    _check(input)
    if not positions.dtype.is_integral:
        raise RuntimeError(f"[{_OP}] positions have dtype {positions.dtype}. Pass integers.")
    if broadcast_shapes(_OP, positions.shape, input.shape[:-1]) != input.shape[:-1]:
        raise RuntimeError(
            f"[{_OP}] positions {positions.shape} are more than input {input.shape} has elements for. "
            "Pass one for each along all dimensions but the last, or fewer that broadcast."
        )
    return _turned(input, positions, base, interleaved)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 3, 5, 8)),
            call(data(5, 4), 7),
            call(data(2, 5, 4), index(9, 5)),
            call(data(2, 3, 6), index(9, 2, 3), base=100.0, interleaved=True),
            call(data(0, 4)),
            call(data(3, 5), error=(RuntimeError, "an even number of features")),
            call(data(4), error=(RuntimeError, "input has shape (4,)")),
            call(data(3, 4), data(3), error=(RuntimeError, "positions have dtype")),
            call(data(3, 4), index(9, 2, 3), error=(RuntimeError, "positions (2, 3) are more")),
        ]
    ),
    recalled="types",
)
def rotary_embedding(input: Tensor, positions: Any = 0, base: float = 10000.0, interleaved: bool = False) -> Tensor:
    """`input` [..., length, n] with pair i of its n features turned by position * base ** (-2i / n) radians. Su et al. (2021).

    `positions`: of each element, integers of a shape that broadcasts to [..., length]; or of the first of consecutive ones, an int
    (another one needs no compilation: decoding with a cache). Pairs are (i, i + n / 2), or (2i, 2i + 1) if `interleaved`.
    Angles, sines and cosines are float32 (float64 for float64 input), then rounded to the dtype of `input`. (PyTorch has no such
    function.) Raises RuntimeError for an odd n, for other dtypes than floating-point ones, and for positions that do not fit.
    """
    call = _at if isinstance(positions, Tensor) else _from
    return call(input, positions, base, interleaved)
