"""Weights as direction and length, in the form that keeps them as `weight_g` and `weight_v`: a hook computes `weight` before every
forward. `parametrizations.weight_norm` is the newer form.

In: a module. Out: the same one, with other parameters. Salimans and Kingma (2016). Next: `parametrizations.py`.
"""

from __future__ import annotations

import warnings
from typing import Any

from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The 2-norms over all dimensions but `dim`, which are kept with size 1; over all, 0-d, for -1."""
    if dim == -1:
        return v.square().sum().sqrt()
    axes = [d for d in range(v.ndim) if d != dim % v.ndim]
    return v.square().sum(axes, keepdim=True).sqrt() if axes else v.abs()


def composed(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """`v` with the lengths `g`."""
    return v * (g / norm_except_dim(v, dim))


class WeightNorm:
    """The hook that computes the weight."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Any) -> Tensor:
        """The weight of a module, from its two parts."""
        return composed(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), self.dim)

    def remove(self, module: Any) -> None:
        """Make the weight a parameter again."""
        weight = self.compute_weight(module).detach()
        delattr(module, self.name)
        del module._parameters[self.name + "_g"], module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight))

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Split the parameter `name` into lengths along `dim` (of all of it for None), `name_g`, and direction, `name_v`.

    Raises RuntimeError where that has been done already.
    """
    warnings.warn("nn.utils.weight_norm is now nn.utils.parametrizations.weight_norm.", FutureWarning, stacklevel=2)
    if any(isinstance(hook, WeightNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
        raise RuntimeError(f"[weight_norm] '{name}' of {type(module).__name__} is split already. Do it once.")
    made = WeightNorm(name, dim)
    weight = getattr(module, name)
    del module._parameters[name]
    module.register_parameter(name + "_g", Parameter(norm_except_dim(weight, made.dim).detach()))
    module.register_parameter(name + "_v", Parameter(weight.detach()))
    setattr(module, name, made.compute_weight(module))
    module.register_forward_pre_hook(made)
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight one parameter again. Raises ValueError where it is."""
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook, WeightNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[number]
            return module
    raise ValueError(f"[remove_weight_norm] '{name}' of {type(module).__name__} is not split. Call weight_norm first.")
