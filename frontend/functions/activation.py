"""Activation functions and (log-)softmax.

In: floating-point tensors. Out: the same shape and dtype. Formulas are chosen so that neither values nor gradients
overflow. Next: `shrinkage.py`; `nn/activation.py` for modules.
"""

from __future__ import annotations

import math
import warnings

from flambeau.declarations import declare, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, bool_, float64
from flambeau.function import Operand, Static, Tensor_, function, inplace
from flambeau.functions.common import canonical_dim, check_floating, floating, ops, promoted
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, points, unary


@function(free="flambeau nn.functional", method=True, in_place=True, takes_inplace=True, samples=unary())
def relu(input: Tensor_):
    """max(x, 0); its gradient at 0 is 0, NaN stays. Raises RuntimeError for bools."""
    x = input
    if x.dtype is bool_:
        raise RuntimeError("[relu] is not defined for bool tensors. Cast the input first.")
    return ops.select(x <= 0, x.like(0), x)


@function(free="flambeau nn.functional", method=True, in_place=True, samples=unary())
def sigmoid(input: Tensor_):
    """1 / (1 + exp(-x))."""
    return ops.sigmoid(floating(input))


@function(free="flambeau nn.functional", method=True, in_place=True, samples=unary())
def tanh(input: Tensor_):
    """The hyperbolic tangent."""
    return ops.tanh(floating(input))


@function(free="nn.functional", takes_inplace=True, samples=unary() + unary(negative_slope=0.2))
def leaky_relu(input: Tensor_, negative_slope: Operand = 0.01):
    """x above 0, `negative_slope * x` elsewhere."""
    check_floating("leaky_relu", input)
    x, slope = promoted("leaky_relu", input, negative_slope)
    return ops.select(x > 0, x, x * slope)


def gelu_of(op: str, x: Value, approximate: str) -> Value:
    """`gelu` within `op`."""
    check_floating(op, x)
    if approximate == "none":
        return x * 0.5 * (ops.erf(x * math.sqrt(0.5)) + 1.0)
    if approximate != "tanh":
        raise RuntimeError(f"[{op}] approximate is {approximate!r}. Use 'none' or 'tanh'.")
    inner = (x + x * x * x * 0.044715) * math.sqrt(2.0 / math.pi)
    return x * 0.5 * (ops.tanh(inner) + 1.0)


@function(free="nn.functional", samples=unary() + unary(approximate="tanh"))
def gelu(input: Tensor_, approximate: Static = "none"):
    """x times the normal distribution function: exact, or with `approximate="tanh"` the usual approximation.

    Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
    """
    return gelu_of("gelu", input, approximate)


@function(free="nn.functional", takes_inplace=True, samples=unary())
def silu(input: Tensor_):
    """x * sigmoid(x), also called swish."""
    check_floating("silu", input, complex=True)
    return input * ops.sigmoid(input)


@function(free="nn.functional", takes_inplace=True, samples=unary() + unary(alpha=0.5))
def elu(input: Tensor_, alpha: Operand = 1.0):
    """x above 0, `alpha * (exp(x) - 1)` elsewhere; NaN stays, with slope 1."""
    check_floating("elu", input)
    x, a = promoted("elu", input, alpha)
    return ops.select(x <= 0, a * _expm1_below(x), x)


def _expm1_below(x: Value) -> Value:
    """expm1(x) where x <= 0; the masked side computes expm1(0), so that nothing overflows in its gradient."""
    return ops.expm1(ops.select(x <= 0, x, x.like(0)))


@function(free="flambeau nn.functional", takes_inplace=True, samples=unary())
def selu(input: Tensor_):
    """scale * elu(x, alpha) with the constants that keep mean 0 and variance 1. Klambauer et al. (2017)."""
    check_floating("selu", input)
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    x = input
    return ops.select(x <= 0, _expm1_below(x) * (alpha * scale), x * scale)


declare(selu.inplace, "selu_", free="flambeau", samples=unary())  # type: ignore[attr-defined]


@function(free="nn.functional", samples=unary() + unary(beta=2, threshold=3))
def softplus(input: Tensor_, beta: Operand = 1.0, threshold: Operand = 20.0):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above `threshold`."""
    check_floating("softplus", input)
    x, b, t = promoted("softplus", input, beta, threshold)
    scaled = x * b
    linear = scaled > t
    return ops.select(linear, x, ops.log1p(ops.exp(ops.select(linear, x.like(0), scaled))) / b)


def log_sigmoid(x: Value) -> Value:
    """log(sigmoid(x)) without overflow: min(x, 0) - log1p(exp(-|x|)), whose gradient at 0 is 0.5 as it should be."""
    negative = x < 0
    return ops.select(negative, x, x.like(0)) - ops.log1p(ops.exp(ops.select(negative, x, -x)))


@function(free="nn.functional", samples=unary())
def logsigmoid(input: Tensor_):
    """log(sigmoid(x)), stable."""
    check_floating("logsigmoid", input)
    return log_sigmoid(input)


@function(free="nn.functional", takes_inplace=True, samples=unary())
def mish(input: Tensor_):
    """x * tanh(softplus(x)). Misra (2019)."""
    check_floating("mish", input)
    return input * ops.tanh(softplus.rule(input, input.like(1.0), input.like(20.0)))


def _limited(op: str, x: Value, low: Value, high: Value) -> Value:
    if x.dtype.is_integer:  # bounds are cut to its dtype
        low, high = (v.cast(x.dtype).expand(x.shape) for v in (low, high))
    else:
        check_floating(op, x, error=RuntimeError if x.dtype is bool_ else NotImplementedError)
        x, low, high = promoted(op, x, low, high)
    return ops.select(x <= low, low, ops.select(x >= high, high, x))


@function(name="hardtanh")
def _hardtanh(input: Tensor_, min_val: Operand, max_val: Operand):
    return _limited("hardtanh", input, min_val, max_val)


_hardtanh_ = inplace(name="hardtanh")(_hardtanh.rule)


@declared(
    free="nn.functional",
    samples=unary()
    + unary(min_val=-0.5, max_val=0.7)
    + calls(
        lambda: [
            call(data(3), 0.5, -0.5, error=(ValueError, "min_val 0.5 is above max_val -0.5")),
            call(index(4, 5), -2, 2),
        ]
    ),
    recalled="operand",
)
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; the gradient is 0 on the bounds. Raises ValueError for a `min_val` above `max_val`."""
    if min_val > max_val:
        raise ValueError(f"[hardtanh] min_val {min_val} is above max_val {max_val}. Exchange them.")
    if input.dtype.is_integer and not input.dtype.is_signed and min_val <= -1:
        raise RuntimeError(
            f"[hardtanh] min_val {min_val} is negative, and {input.dtype} has no sign. Pass bounds from 0."
        )
    return (_hardtanh_ if inplace else _hardtanh)(input, min_val, max_val)


@declared(free="nn.functional", samples=unary() + unary(min_val=-0.5, max_val=0.7), recalled="operand")
def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`hardtanh` in place, which looks at no bounds."""
    return _hardtanh_(input, min_val, max_val)


@function(free="nn.functional", takes_inplace=True, samples=unary())
def relu6(input: Tensor_):
    """min(max(x, 0), 6)."""
    return _limited("relu6", input, input.like(0.0), input.like(6.0))


@function(free="nn.functional", takes_inplace=True, samples=unary(-4, 4))
def hardsigmoid(input: Tensor_):
    """min(max(x + 3, 0), 6) / 6; NaN stays, with slope 0."""
    check_floating("hardsigmoid", input)
    x = input
    flat = ops.select(x >= 3.0, x.like(1.0), ops.select(x <= -3.0, x.like(0.0), ops.stop_gradient(x)))
    return ops.select(ops.and_(x > -3.0, x < 3.0), (x + 3.0) / 6.0, flat)


@function(free="nn.functional", takes_inplace=True, samples=unary(-4, 4))
def hardswish(input: Tensor_):
    """x * hardsigmoid(x). Howard et al. (2019)."""
    check_floating("hardswish", input)
    x = input
    curved = ops.and_(x > -3.0, x < 3.0)
    inner = ops.select(curved, x, x.like(0.0))  # the masked side: no infinity in its gradient
    return ops.select(curved, inner * (inner + 3.0) / 6.0, ops.select(x <= -3.0, x.like(0.0), x))


# ---- softmax ----------------------------------------------------------------------------------------------


def _prepared(op: str, x: Value, dim: int, dtype: DType | None) -> tuple[Value, int]:
    x = x.cast(dtype) if dtype is not None else x
    check_floating(op, x)
    return x, canonical_dim(op, dim, len(x.shape))


def _along(x: Value, record: str, dim: int) -> Value:
    """The reduction of x along `dim`, broadcast back to x's shape."""
    if not x.shape:
        return x
    kept = tuple(1 if d == dim else n for d, n in enumerate(x.shape))
    reduced = getattr(ops, record)(x, axes=(dim,))
    return ops.reshape(reduced, shape=kept).expand(x.shape)


def _shifted(x: Value, dim: int) -> Value:
    """x minus its largest element along `dim`, which is treated as a constant: it cancels in the gradient."""
    return x - ops.stop_gradient(_along(x, "max", dim)) if 0 not in x.shape else x


def log_softmax_of(x: Value, dim: int) -> Value:
    shifted = _shifted(x, dim)
    return shifted - ops.log(_along(ops.exp(shifted), "sum", dim))


#: Calls of functions along one dimension.
_ALONG_DIM = calls(
    lambda: [
        call(points(), 0, gradient=False),
        call(data(3, 4), dim=1),
        call(data(2, 3, 4), dim=0),
        call(data(), 0),
        call(data(0, 3), -1, gradient=False),
        call(data(3), -1, dtype=float64),
        call(data(2, 3), 2, error=(IndexError, "dim 2 is out of range")),
    ]
)


@function(free="flambeau", method=True, samples=_ALONG_DIM, out=True)
def softmax(input: Tensor_, dim: Static, dtype: Static = None):
    """exp(x) divided by its sum along `dim`; stable for large x. `dtype` converts the input first."""
    x, dim = _prepared("softmax", input, dim, dtype)
    grown = ops.exp(_shifted(x, dim))
    return grown / _along(grown, "sum", dim)


@function(free="flambeau", method=True, samples=_ALONG_DIM, out=True)
def log_softmax(input: Tensor_, dim: Static, dtype: Static = None):
    """log(softmax(x)) along `dim`, computed without the quotient; stable for large x."""
    x, dim = _prepared("log_softmax", input, dim, dtype)
    return log_softmax_of(x, dim)


def usual_dim(op: str, rank: int) -> int:
    """The dimension that is meant where it is left out: 0 of up to one dimension or of three, 1 otherwise. Warns."""
    warnings.warn(f"[{op}] dim is left out; 0 or 1 is taken by the number of dimensions. Say which.", stacklevel=2)
    return 0 if rank in (0, 1, 3) else 1


#: Calls of the functions that `nn.functional` has, whose dim may be left out.
_USUAL_DIM = _ALONG_DIM + calls(lambda: [call(data(3, 4)), call(data(2, 3, 2), dtype=float64)])


@function(free="nn.functional", name="softmax", samples=_USUAL_DIM)
def functional_softmax(input: Tensor_, dim: Static = None, _stacklevel: Static = 3, dtype: Static = None):
    """`flambeau.softmax`; without `dim` along 0 of up to one dimension or of three, along 1 otherwise, with a warning."""
    return softmax.rule(input, usual_dim("softmax", len(input.shape)) if dim is None else dim, dtype)


@function(free="nn.functional", name="log_softmax", samples=_USUAL_DIM)
def functional_log_softmax(input: Tensor_, dim: Static = None, _stacklevel: Static = 3, dtype: Static = None):
    """`flambeau.log_softmax`; without `dim` along 0 of up to one dimension or of three, along 1 otherwise, with a warning."""
    return log_softmax.rule(input, usual_dim("log_softmax", len(input.shape)) if dim is None else dim, dtype)
