"""`autograd.custom_vjp`: a function whose gradient is written as another function.

In: a function, one that also gives what its gradient needs, and that gradient. Out: a callable like the first. It is an
`autograd.Function` without a class. Next: `function.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from flambeau import border as _border
from flambeau import trees
from flambeau.autograd.function import Function, FunctionCtx
from flambeau.autograd.grad_mode import is_grad_enabled
from flambeau.runtime.recorder import Tensor


class custom_vjp:
    """A function of tensors with a gradient of its own.

        @custom_vjp
        def f(x, y): ...

        f.defvjp(forward, backward)

    `forward(x, y)` gives (what `f` gives, residuals), `backward(residuals, cotangents)` a gradient for each argument, None where
    there is none; cotangents are in the structure of the results. Residuals may be any nesting of tensors and other things.
    Arguments are tensors or constants. Called without gradients it is the function itself. Raises RuntimeError where a gradient is
    wanted and none was given, and where `backward` gives another number of them.
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        self._fun = fun
        self._rules: tuple[Callable[..., Any], Callable[..., Any]] | None = None
        update_wrapper(self, fun)

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Say how it is differentiated."""
        self._rules = (forward, backward)

    def __call__(self, *args: Any) -> Any:
        if not (is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in args)):
            return self._fun(*args)
        if self._rules is None:
            raise RuntimeError(
                f"[custom_vjp] {self._name} has no gradient yet. Give one with defvjp(forward, backward)."
            )
        shape: list[Any] = []
        found = _CustomCall.apply(self, shape, *args)
        return trees.filled(shape[0], found if isinstance(found, tuple) else (found,))

    @property
    def _name(self) -> str:
        return getattr(self._fun, "__name__", "the function")

    def run(self, ctx: FunctionCtx, shape: list[Any], args: tuple[Any, ...]) -> Any:
        assert self._rules is not None  # __call__ has looked
        value, residuals = self._rules[0](*args)
        shape.append(value)
        ctx.save_for_backward(*trees.leaves(residuals))
        ctx.residuals, ctx.value, ctx.rule, ctx.count = residuals, value, self, len(args)  # type: ignore[attr-defined]
        return tuple(trees.leaves(value))

    def gradients(self, ctx: Any, cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
        assert self._rules is not None
        residuals = trees.filled(ctx.residuals, ctx.saved_tensors)
        given = self._rules[1](residuals, trees.filled(ctx.value, cotangents))
        found = tuple(given) if isinstance(given, tuple | list) else (given,)
        if len(found) != ctx.count:
            raise RuntimeError(
                f"[custom_vjp] the gradient of {self._name} gives {len(found)} for {ctx.count} arguments. Give one for each."
            )
        return found


class _CustomCall(Function):
    """A call, as the engine knows it."""

    @staticmethod
    def forward(ctx: Any, rule: custom_vjp, shape: list[Any], *args: Any) -> Any:
        return rule.run(ctx, shape, args)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return (None, None, *ctx.rule.gradients(ctx, cotangents))


__all__ = ["custom_vjp"]

_border.publish(globals(), __all__)
