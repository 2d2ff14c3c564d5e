"""Activation functions as modules: ReLU, GELU, Tanh, Softmax, ...

In: a tensor. Out: the same shape. Next: `shrinkage.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from flambeau.device import Device
from flambeau.functions import activation, choose, slopes
from flambeau.functions.create import empty
from flambeau.nn.init import constant_
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Function, Tensor


def _forms_of(function: Function) -> tuple[Function, Function]:
    """What to call without and with `inplace`."""
    return function, function.inplace


class _InPlace(Module):
    """An activation that overwrites its argument if told to; `_forms` say how to compute it without and with `inplace`."""

    _forms: tuple[Callable[..., Tensor], Callable[..., Tensor]]

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return self._forms[1 if self.inplace else 0](input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""

    def _repr_with(self, text: str) -> str:
        return f"{text}, inplace=True" if self.inplace else text


class ReLU(_InPlace):
    """max(x, 0)."""

    _forms = _forms_of(activation.relu)


class ReLU6(_InPlace):
    """min(max(x, 0), 6)."""

    _forms = _forms_of(activation.relu6)


class GELU(Module):
    """x times the normal distribution function; `approximate="tanh"` for the usual approximation."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return activation.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        return activation.tanh(input)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Tensor) -> Tensor:
        return activation.sigmoid(input)


class LogSigmoid(Module):
    """log(sigmoid(x))."""

    def forward(self, input: Tensor) -> Tensor:
        return activation.logsigmoid(input)


class SiLU(_InPlace):
    """x * sigmoid(x)."""

    _forms = _forms_of(activation.silu)


class Mish(_InPlace):
    """x * tanh(softplus(x))."""

    _forms = _forms_of(activation.mish)


class Hardswish(_InPlace):
    """x * min(max(x + 3, 0), 6) / 6."""

    _forms = _forms_of(activation.hardswish)


class Hardsigmoid(_InPlace):
    """min(max(x + 3, 0), 6) / 6."""

    _forms = _forms_of(activation.hardsigmoid)


class SELU(_InPlace):
    """Scaled ELU, which keeps mean 0 and variance 1."""

    _forms = _forms_of(activation.selu)


class LeakyReLU(_InPlace):
    """x above 0, `negative_slope * x` elsewhere."""

    _forms = _forms_of(activation.leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        return self._forms[1 if self.inplace else 0](input, self.negative_slope)

    def extra_repr(self) -> str:
        return self._repr_with(f"negative_slope={self.negative_slope}")


class ELU(_InPlace):
    """x above 0, `alpha * (exp(x) - 1)` elsewhere."""

    _forms: tuple[Callable[..., Tensor], Callable[..., Tensor]] = _forms_of(activation.elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        return self._forms[1 if self.inplace else 0](input, self.alpha)

    def extra_repr(self) -> str:
        return self._repr_with(f"alpha={self.alpha}")


class CELU(ELU):
    """x above 0, `alpha * (exp(x / alpha) - 1)` elsewhere. Barron (2017)."""

    _forms = slopes.celu, slopes.celu_


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        return activation.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(_InPlace):
    """x limited to [min_val, max_val]."""

    _forms = activation.hardtanh, activation.hardtanh_

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__(inplace)
        for name, value in (("min_value", min_value), ("max_value", max_value)):
            if value is not None:
                warnings.warn(f"[Hardtanh] {name} is an older name. Use {name[:-2]}.", FutureWarning, stacklevel=2)
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        if not self.max_val > self.min_val:
            raise ValueError(f"[Hardtanh] max_val {self.max_val} is not above min_val {self.min_val}. Exchange them.")

    def forward(self, input: Tensor) -> Tensor:
        return self._forms[1 if self.inplace else 0](input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return self._repr_with(f"min_val={self.min_val}, max_val={self.max_val}")


class PReLU(Module):
    """x above 0, a learned multiple of x elsewhere; one slope, or one per channel (dimension 1)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Device = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(empty(num_parameters, dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every slope as it began."""
        constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        slope = self.weight.reshape(-1, *[1] * (input.ndim - 2)) if self.num_parameters > 1 else self.weight
        return choose.where(input > 0, input, input * (slope if input.ndim else slope.reshape(())))

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(_InPlace):
    """x above 0, a times x elsewhere: a is drawn from `lower` to `upper` in training, else their mean."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.lower, self.upper = lower, upper

    def forward(self, input: Tensor) -> Tensor:
        return slopes.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return self._repr_with(f"lower={self.lower}, upper={self.upper}")


class Softmax(Module):
    """exp(x) divided by its sum along `dim`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return activation.functional_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along `dim`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return activation.functional_log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
