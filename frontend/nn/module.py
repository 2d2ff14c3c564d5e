"""`Module`: a tree of parameters, buffers and submodules with a `forward`.

In: attributes assigned in `__init__`. Out: calls (`calling.py`), names (`tree.py`), state dicts (`state.py`), conversions
(`conversion.py`); modes are here. Next: `tree.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flambeau.nn.calling import Calls
from flambeau.nn.conversion import Conversion
from flambeau.nn.state import State

Self = TypeVar("Self", bound="Module")


class Module(Calls, State, Conversion):
    """Base class of all networks and layers.

    Parameters, buffers and submodules assigned as attributes are found by `parameters()`, `state_dict()`, `to()` and
    so on, in the order of assignment. Example:

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 2)
            def forward(self, x):
                return self.fc(x).relu()
    """

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every submodule, then on this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode (dropout active, ...) on the whole tree."""
        if not isinstance(mode, bool):
            raise ValueError(f"[train] mode is {mode!r}. Pass True or False.")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Say for all parameters whether gradients are computed."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, or fill them with zeros."""
        for parameter in self.parameters():
            if parameter.grad is None:
                continue
            if set_to_none:
                parameter.grad = None
            else:
                parameter.grad.detach().zero_()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: everything is compiled."""
