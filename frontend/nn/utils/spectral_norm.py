"""Weights of spectral norm 1, in the form that keeps them as `weight_orig`: a hook computes `weight` before every forward.
`parametrizations.spectral_norm` is the newer form.

In: a module. Out: the same one, with other parameters. Miyato et al. (2018). Next: `parametrizations.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.autograd import no_grad
from flambeau.functions.linear import mv
from flambeau.functions.normalize import normalize
from flambeau.functions.random import randn
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """The weight as a matrix whose rows go along `dim`."""
    moved = weight.movedim(dim, 0) if dim else weight
    return moved.reshape(moved.shape[0], -1)


def usual_dim(module: Any) -> int:
    """Along which dimension the outputs of a layer lie in its weight: the second of transposed convolutions, else the first."""
    return 1 if getattr(module, "transposed", False) else 0


def iterate(matrix: Tensor, u: Tensor, v: Tensor, count: int, eps: float) -> None:
    """Steps of the power method on the singular vectors, in place: the right one first."""
    with no_grad():
        left, right = u, v
        for _ in range(count):
            right = normalize(mv(matrix.T, left), dim=0, eps=eps)
            left = normalize(mv(matrix, right), dim=0, eps=eps)
        if count:
            u.copy_(left)
            v.copy_(right)


class SpectralNorm:
    """The hook that computes the weight."""

    _version = 1

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations <= 0:
            raise ValueError(f"[spectral_norm] n_power_iterations is {n_power_iterations}. Use at least 1.")
        self.name, self.dim, self.n_power_iterations, self.eps = name, dim, n_power_iterations, eps

    def compute_weight(self, module: Any, do_power_iteration: bool) -> Tensor:
        """The weight over its spectral norm, as far as that is known."""
        weight = getattr(module, self.name + "_orig")
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            iterate(matrix, u, v, self.n_power_iterations, self.eps)
            u, v = u.clone(), v.clone()
        return weight / (u * mv(matrix, v)).sum()

    def remove(self, module: Any) -> None:
        """Make the weight a parameter again."""
        with no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        delattr(module, self.name)
        for part in ("_u", "_v", "_orig"):
            delattr(module, self.name + part)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """Divide the parameter `name` by its spectral norm, which the power method follows, some steps in every forward in training.

    `dim` is the one of the outputs. Raises RuntimeError where that is done already, ValueError for no steps.
    """
    if any(isinstance(hook, SpectralNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
        raise RuntimeError(f"[spectral_norm] '{name}' of {type(module).__name__} is divided already. Do it once.")
    made = SpectralNorm(name, n_power_iterations, usual_dim(module) if dim is None else dim, eps)
    weight = module._parameters[name]
    if weight is None:
        raise ValueError(f"[spectral_norm] '{name}' of {type(module).__name__} is None. Choose another parameter.")
    rows, columns = as_matrix(weight, made.dim).shape
    u, v = (normalize(randn(n, dtype=weight.dtype, device=weight.device), dim=0, eps=eps) for n in (rows, columns))
    del module._parameters[name]
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, weight.detach())
    module.register_buffer(name + "_u", u)
    module.register_buffer(name + "_v", v)
    module.register_forward_pre_hook(made)
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight, as it is, a parameter again. Raises ValueError where it is one."""
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook, SpectralNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[number]
            return module
    raise ValueError(
        f"[remove_spectral_norm] '{name}' of {type(module).__name__} is not divided. Call spectral_norm first."
    )
