"""What all losses share: how losses of elements become one, and the arguments that say so.

In: rules of losses. Out: public functions with PyTorch's arguments at their places, `size_average` and `reduce` among them, which
`reduction` has replaced: calls with these take another way. Next: `loss.py`.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

from flambeau.border import public
from flambeau.declarations import FUNCTIONAL, declare
from flambeau.dialects.builder import Value
from flambeau.function import function
from flambeau.functions.common import ops
from flambeau.runtime.recorder import Function

_OLD = ("size_average", "reduce")


def reduction_of(op: str, size_average: bool | None, reduce: bool | None) -> str:
    """What `size_average` and `reduce`, both of them True by default, mean; says so in a warning."""
    if reduce is not None and not reduce:
        found = "none"
    else:
        found = "mean" if size_average is None or size_average else "sum"
    warnings.warn(
        f"[{op}] size_average and reduce are arguments of old. Write reduction={found!r}.", UserWarning, stacklevel=3
    )
    return found


def _signature(rule: Callable, before: str) -> inspect.Signature:
    """The rule's arguments with those of old: `size_average` before the argument named, `reduce` before "reduction"."""
    made: list[inspect.Parameter] = []
    for parameter in inspect.signature(rule).parameters.values():
        for old, place in zip(_OLD, (before, "reduction")):
            if parameter.name == place:
                made.append(inspect.Parameter(old, parameter.kind, default=None, annotation="bool | None"))
        made.append(parameter)
    return inspect.Signature(made)


def loss(*, samples: Any, fallible: bool = False, old_before: str = "reduction") -> Callable[[Callable], Function]:
    """A loss of `nn.functional`: `function`, with the arguments of old."""

    def define(rule: Callable) -> Function:
        name, signature = rule.__name__, _signature(rule, old_before)
        plain = function(fallible=fallible)(rule)

        def choose(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            old = [bound.arguments.pop(each, None) for each in _OLD]
            if any(each is not None for each in old):
                bound.arguments["reduction"] = reduction_of(name, *old)
            return plain(**bound.arguments)

        choose.__signature__ = signature  # type: ignore[attr-defined]
        known = {p[0]: p for p in plain.params}
        params = tuple(known.get(p, (p, "default", None, False, ())) for p in signature.parameters)
        made = Function(name, params, "pure", rule, doc=rule.__doc__, otherwise=public(choose, name), fallible=fallible)
        declare(made, name, free=FUNCTIONAL, samples=samples)
        return made

    return define


def check_reduction(op: str, reduction: str, *more: str) -> None:
    """Raise ValueError for a reduction that there is not."""
    allowed = ("none", "mean", "sum", *more)
    if reduction not in allowed:
        raise ValueError(f"[{op}] reduction is {reduction!r}. Use one of {', '.join(map(repr, allowed))}.")


def total(x: Value) -> Value:
    """The sum of all elements."""
    return ops.sum(x, axes=tuple(range(len(x.shape)))) if x.shape else x


def reduce_loss(op: str, loss: Value, reduction: str, weight: Value | None = None) -> Value:
    """`loss` as it is, summed, or averaged over its elements; `weight` has multiplied them, and the average is over it."""
    check_reduction(op, reduction)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return total(loss)
    return total(loss) / (math.prod(loss.shape) if weight is None else total(weight))
