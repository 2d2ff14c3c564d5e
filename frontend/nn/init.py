"""Initial values of parameters, in place: uniform_, normal_, kaiming_uniform_, orthogonal_, ...

In: a tensor. Out: the same tensor, filled; equal seeds give equal values. No gradients are recorded. The names without `_` are
PyTorch's old ones: they warn, and do the same. Next: `linear.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau import border as _border
from flambeau import host
from flambeau import missing as _missing
from flambeau.autograd import no_grad
from flambeau.declarations import here as _here
from flambeau.dialects.dtypes import float32, float64
from flambeau.functions import inplace, random, special
from flambeau.functions.choose import where
from flambeau.functions.create import eye as _eye
from flambeau.functions.sort import argsort
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
        return inplace.copy_(tensor, _eye(*tensor.shape, dtype=tensor.dtype))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a kernel [out, in, size...] of 1 to 3 sizes such that its convolution gives back its input, as far as there are channels
    for that; with `groups` each group does. Raises ValueError for other ranks, and where `groups` does not divide `out`."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"[dirac_] the tensor has {tensor.ndim} dimensions. Pass a kernel of 3, 4 or 5.")
    if tensor.shape[0] % groups:
        raise ValueError(f"[dirac_] {tensor.shape[0]} output channels are no multiple of {groups} groups.")
    found = np.zeros(tensor.shape)
    per_group = tensor.shape[0] // groups
    middle = tuple(size // 2 for size in tensor.shape[2:])
    for channel in range(min(per_group, tensor.shape[1])):
        place: Any = (slice(channel, None, per_group), channel, *middle)
        found[place] = 1
    return _filled(tensor, found)


def _filled(tensor: Tensor, values: np.ndarray) -> Tensor:
    with no_grad():
        return inplace.copy_(tensor, host.copied(values, tensor.dtype, there=tensor._place))


def _below(x: float) -> float:
    """The probability of a normally distributed number below x."""
    return math.erfc(-x / math.sqrt(2.0)) / 2.0


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normally distributed numbers of those between a and b: the inverse of their distribution at uniform ones."""
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            f"[trunc_normal_] mean {mean} is more than 2 deviations from [{a}, {b}]. The values may be distributed otherwise.",
            stacklevel=2,
        )
    sign = -1.0 if (a + b) / 2 > mean else 1.0  # digits are in the lower tail
    ends = sorted(sign * (end - mean) / std for end in (a, b))
    low, high = _below(ends[0]), _below(ends[1])
    with no_grad():
        u = random.rand(tensor.shape, generator=generator, dtype=float64, device=tensor.device)
        found = special.ndtri(u * (high - low) + low) * (sign * std) + mean
        return inplace.copy_(tensor, found.clamp(a, b))


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Fill with `gain` times a matrix of orthonormal rows or columns, whichever are fewer; dimensions after the first are taken
    for one. Saxe et al. (2013). The factorization is NumPy's. Raises ValueError below two dimensions."""
    if tensor.ndim < 2:
        raise ValueError(f"[orthogonal_] the tensor has {tensor.ndim} dimensions. Pass at least 2.")
    if not tensor.numel():
        return tensor
    rows = tensor.shape[0]
    dtype = float64 if tensor.dtype is float64 else float32
    drawn = random.randn((rows, tensor.numel() // rows), generator=generator, dtype=dtype)
    flat = host.array_of(drawn)
    q, r = np.linalg.qr(flat.T if rows < flat.shape[1] else flat)
    q = q * np.sign(np.diagonal(r))  # uniform among all: Mezzadri (2007), arXiv:math-ph/0609050
    return _filled(tensor, gain * (q.T if rows < flat.shape[1] else q).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Fill a matrix with normally distributed numbers, and the share `sparsity` of each column, rounded up, with zeros. Martens
    (2010). Raises ValueError for other ranks."""
    if tensor.ndim != 2:
        raise ValueError(f"[sparse_] the tensor has {tensor.ndim} dimensions. Pass a matrix.")
    n_zeros = math.ceil(sparsity * tensor.shape[0])
    with no_grad():
        order = argsort(argsort(random.rand(tensor.shape, generator=generator, device=tensor.device), 0), 0)
        random.normal_(tensor, 0.0, std, generator=generator)
        return inplace.copy_(tensor, where(order < n_zeros, 0.0, tensor))


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


# ---- old names --------------------------------------------------------------------------------------------


def _old(new: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function under its name without `_`."""
    name = new.__name__[:-1]

    def call(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(f"nn.init.{name} is now nn.init.{name}_.", FutureWarning, stacklevel=2)
        return new(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"The old name of `{name}_`."
    return call


uniform, normal, constant, eye = _old(uniform_), _old(normal_), _old(constant_), _old(eye_)
dirac, orthogonal, sparse = _old(dirac_), _old(orthogonal_), _old(sparse_)
xavier_uniform, xavier_normal = _old(xavier_uniform_), _old(xavier_normal_)
kaiming_uniform, kaiming_normal = _old(kaiming_uniform_), _old(kaiming_normal_)

__all__ = _here(globals())

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.nn.init")
