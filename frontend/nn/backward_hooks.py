"""Backward hooks of modules: what is called with the gradients of a module's outputs and inputs.

In: the tensors that go into a module, and those that come out. Out: the same, passed through an `autograd.Function` on either side,
whose backward calls the hooks. Next: `calling.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.autograd import is_grad_enabled
from flambeau.autograd.function import Function
from flambeau.functions.create import zeros
from flambeau.runtime.recorder import Tensor

Gradients = tuple[Any, ...]


class _Passed(Function):
    """Tensors as they are; their gradients go through the first argument."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[Gradients], Gradients], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.run = run
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Gradients:
        return None, *ctx.run(gradients)


class _Side:
    """The values on one side of a call: which of them have gradients that pass through `run`, and the others' zeros, as PyTorch
    gives them for tensors without history beside ones that have some."""

    def __init__(self, run: Callable[[Gradients], Gradients]) -> None:
        self.run, self.count = run, 0
        self.places: list[int] = []
        self.others: dict[int, tuple[Any, ...]] = {}

    def watched(self, values: Any) -> Any:
        """The values, watched."""
        given = values if isinstance(values, tuple) else (values,)
        self.count = len(given)
        places = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
        if not places or not is_grad_enabled():
            return values
        self.places, new = places, list(given)
        for i, x in enumerate(given):
            if isinstance(x, Tensor) and not x.requires_grad:
                self.others[i] = x.shape, x.dtype, x.device
        for i, x in zip(places, _Passed.apply(self.run, *(given[i] for i in places)), strict=True):
            new[i] = x
        if not isinstance(values, tuple):
            return new[0]
        return type(values)(*new) if hasattr(values, "_fields") else tuple(new)

    def spread(self, gradients: Gradients) -> Gradients:
        """Gradients in their places among as many as there are values."""
        found: list[Any] = [None] * self.count
        for i, (shape, dtype, device) in self.others.items():
            found[i] = zeros(shape, dtype=dtype, device=device)
        for i, g in zip(self.places, gradients, strict=True):
            found[i] = g
        return tuple(found)


class BackwardHooks:
    """One call of a module, and its hooks."""

    def __init__(self, module: Any, hooks: Sequence[Callable], pre_hooks: Sequence[Callable]) -> None:
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.inputs, self.outputs = _Side(self._of_inputs), _Side(self._of_outputs)
        self.arrived: Gradients | None = None

    def enter(self, args: tuple) -> tuple:
        """The arguments of the call, watched."""
        return self.inputs.watched(args)

    def leave(self, output: Any) -> Any:
        """The result of the call, watched."""
        if isinstance(output, Tensor | tuple):
            return self.outputs.watched(output)
        warnings.warn(
            f"[{type(self.module).__name__}] backward hooks are called for outputs that are a Tensor or a tuple of Tensors, "
            f"this is a {type(output).__name__}.",
            stacklevel=4,
        )
        return output

    def _of_outputs(self, gradients: Gradients) -> Gradients:
        arrived = self.outputs.spread(gradients)
        for hook in self.pre_hooks:
            arrived = self._replaced(arrived, hook(self.module, arrived), "grad_output")
        self.arrived = arrived
        if not self.inputs.places:
            self._without_inputs(arrived)
        return tuple(arrived[i] for i in self.outputs.places)

    def _of_inputs(self, gradients: Gradients) -> Gradients:
        found = self.inputs.spread(gradients)
        arrived = (None,) * self.outputs.count if self.arrived is None else self.arrived
        for hook in self.hooks:
            found = self._replaced(found, hook(self.module, found, arrived), "grad_input")
        return tuple(found[i] for i in self.inputs.places)

    def _replaced(self, old: Gradients, new: Any, what: str) -> Gradients:
        if new is None:
            return old
        new = new if isinstance(new, tuple) else (new,)
        if len(new) != len(old):
            raise RuntimeError(
                f"[hook] a backward hook returned {len(new)} gradients as {what}. Return {len(old)}, or None."
            )
        return new

    def _without_inputs(self, arrived: Gradients) -> None:
        for hook in self.hooks:
            new = hook(self.module, (None,) * self.inputs.count, arrived)
            if new is not None and not (isinstance(new, tuple) and all(g is None for g in new)):
                raise RuntimeError("[hook] a backward hook returned gradients of inputs that need none. Return None.")
