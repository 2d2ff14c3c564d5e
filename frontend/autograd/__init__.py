"""Differentiation as users see it, by PyTorch's names, and what of it are methods of tensors.

In: the modules here. Out: the namespace `flambeau.autograd`. Next: `grad_mode.py`.
"""

from __future__ import annotations

from importlib import import_module as _import_module

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau import tensor_hooks
from flambeau.anomaly import detect_anomaly, set_detect_anomaly
from flambeau.autograd import anomaly_mode, grad_mode, graph
from flambeau.autograd.function import Function
from flambeau.autograd.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from flambeau.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from flambeau.autograd.gradients import backward, backward_of, grad
from flambeau.autograd.leaves import detach_, requires_grad_
from flambeau.declarations import Unsampled, attribute, declare

_GRADIENTS = Unsampled("changes the gradient history of tensors that are there: see the tests of gradients")
declare(requires_grad_, "requires_grad_", method=True, samples=_GRADIENTS)
declare(detach_, "detach_", free="flambeau", method=True, samples=_GRADIENTS)
declare(backward_of, "backward", method=True, samples=_GRADIENTS)
declare(tensor_hooks.register_hook, "register_hook", method=True, samples=_GRADIENTS)
declare(tensor_hooks.retain_grad, "retain_grad", method=True, samples=_GRADIENTS)
attribute("retains_grad")(lambda self: "_retained" in self.__dict__)
declare(
    tensor_hooks.register_post_accumulate_grad_hook,
    "register_post_accumulate_grad_hook",
    method=True,
    samples=_GRADIENTS,
)

__all__ = [
    "Function",
    "GradcheckError",
    "anomaly_mode",
    "backward",
    "custom_vjp",
    "detect_anomaly",
    "enable_grad",
    "forward_ad",
    "functional",
    "grad",
    "grad_mode",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "profiler",
    "set_detect_anomaly",
    "set_grad_enabled",
]

_border.publish(globals(), ["backward", "grad", "gradcheck", "gradgradcheck", "is_grad_enabled"])
#: Imported when first used: submodules, and names of submodules.
_SUBMODULES = ("forward_ad", "functional", "profiler", "variable")
_LAZY = {"custom_vjp": "custom", "Variable": "variable"}
_missing_name = _missing.module_getattr("flambeau.autograd")


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return _import_module(f"flambeau.autograd.{name}")
    if name in _LAZY:
        return getattr(_import_module(f"flambeau.autograd.{_LAZY[name]}"), name)
    return _missing_name(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
