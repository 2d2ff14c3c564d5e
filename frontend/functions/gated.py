"""Gated linear units: glu, swiglu, geglu.

In: floating-point tensors. Out: half of one dimension, times a function of the other half. Next: `slopes.py`.
"""

from __future__ import annotations

from flambeau.dialects.builder import Value
from flambeau.function import Static, Tensor_, function
from flambeau.functions.activation import gelu_of
from flambeau.functions.common import canonical_dim, check_floating, ops, part
from flambeau.samples import call, calls, data

_SAMPLES = calls(
    lambda: [
        call(data(3, 4)),
        call(data(4, 3), 0),
        call(data(2, 3), error=(RuntimeError, "has 3 elements")),
        call(data(), error=(RuntimeError, "no dimension")),
    ]
)


def _halves(op: str, x: Value, dim: int) -> tuple[Value, Value]:
    check_floating(op, x)
    if not x.shape:
        raise RuntimeError(f"[{op}] the tensor has no dimension to halve. Pass one of at least 1 dimension.")
    axis = canonical_dim(op, dim, len(x.shape))
    if x.shape[axis] % 2:
        raise RuntimeError(f"[{op}] dimension {axis} has {x.shape[axis]} elements. Pass an even number of them.")
    half = x.shape[axis] // 2
    return part(x, axis, 0, half), part(x, axis, half, half)


@function(free="nn.functional", samples=_SAMPLES)
def glu(input: Tensor_, dim: Static = -1):
    """The first half along `dim` times the sigmoid of the second one. Dauphin et al. (2017). Raises RuntimeError for odd sizes."""
    value, gate = _halves("glu", input, dim)
    return value * ops.sigmoid(gate)


@function(free="nn.functional", samples=_SAMPLES)
def swiglu(input: Tensor_, dim: Static = -1):
    """The first half along `dim` times silu of the second one. Shazeer, "GLU variants improve transformer" (2020).

    (PyTorch has no such function; where others gate by the first half, exchange the halves.) Raises RuntimeError for odd sizes.
    """
    value, gate = _halves("swiglu", input, dim)
    return value * (gate * ops.sigmoid(gate))


@function(free="nn.functional", samples=_SAMPLES + calls(lambda: [call(data(3, 4), approximate="tanh")]))
def geglu(input: Tensor_, dim: Static = -1, approximate: Static = "none"):
    """The first half along `dim` times gelu of the second one. Shazeer, "GLU variants improve transformer" (2020).

    (PyTorch has no such function.) Raises RuntimeError for odd sizes.
    """
    value, gate = _halves("geglu", input, dim)
    return value * gelu_of("geglu", gate, approximate)
