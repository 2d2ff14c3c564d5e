"""Initial values of parameters, in place: uniform_, normal_, kaiming_uniform_, xavier_uniform_, ...

In: a tensor. Out: the same tensor, filled; equal seeds give equal values. No gradients are recorded. Next: `linear.py`.
"""

from __future__ import annotations

import math

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.autograd import no_grad
from flambeau.declarations import here as _here
from flambeau.functions import inplace, random
from flambeau.functions.create import eye
from flambeau.generator import Generator
from flambeau.runtime.recorder import Tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with uniform numbers in [a, b)."""
    with no_grad():
        return random.uniform_(tensor, a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normally distributed numbers."""
    with no_grad():
        return random.normal_(tensor, mean, std, generator=generator)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one number."""
    with no_grad():
        return inplace.fill_(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity. Raises ValueError for other ranks."""
    if tensor.ndim != 2:
        raise ValueError(f"[eye_] the tensor has {tensor.ndim} dimensions. Pass a matrix.")
    with no_grad():
        return inplace.copy_(tensor, eye(*tensor.shape, dtype=tensor.dtype))


def _fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs feed an output, and how many outputs an input feeds. Raises ValueError below two dimensions."""
    if tensor.ndim < 2:
        raise ValueError(
            f"[init] a tensor of shape {tensor.shape} has no fan-in and fan-out. Pass at least 2 dimensions."
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"[init] mode is {mode!r}. Use 'fan_in' or 'fan_out'.")
    return _fans(tensor)[mode == "fan_out"]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before a nonlinearity are scaled. Raises ValueError for unknown names."""
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity in ("linear", "sigmoid", "conv1d", "conv2d", "conv3d"):
        return 1.0
    if nonlinearity not in gains:
        raise ValueError(
            f"[calculate_gain] nonlinearity {nonlinearity!r} is unknown. Use linear, relu, leaky_relu, tanh, ..."
        )
    return gains[nonlinearity]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)). Glorot and Bengio (2010)."""
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with deviation gain * sqrt(2 / (fan_in + fan_out)). Glorot and Bengio (2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in [-b, b) with b = gain * sqrt(3 / fan). He et al. (2015)."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with deviation gain / sqrt(fan). He et al. (2015)."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


__all__ = _here(globals())

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.nn.init")
