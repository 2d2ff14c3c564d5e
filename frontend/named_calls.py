"""Calls with named tensors: their arguments by parameter, and results with names.

In: a function and what it was given. Out: a `NamedCall`, which rules (`named_rules.py`, `named_layers.py`) run and name. Next:
`dim_names.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

from flambeau import spellings
from flambeau.dim_names import Names, resolved
from flambeau.named_tensor import names_of, plain, with_names
from flambeau.runtime.recorder import Function, Tensor

#: Parameters that are dimensions, and may be names.
_DIMS = ("dim", "dims", "dim0", "dim1", "dim2", "start_dim", "end_dim")


class NamedCall:
    """A call with its arguments by parameter, names of dimensions replaced by positions. `names` are those of the first operand."""

    def __init__(self, op: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.op, self.function, self.args = op, function, args
        other = spellings.known(signature_of(function).parameters)
        self.kwargs = {other.get(key, key): value for key, value in kwargs.items()}
        self.operands = [x for value in (*args, *kwargs.values()) for x in _tensors(value)]
        self.names = names_of(self.operands[0])

    @cached_property
    def given(self) -> dict[str, Any]:
        """The arguments by parameter. Raises what the function raises where they do not bind."""
        signature = signature_of(self.function)
        if isinstance(self.function, Function) and getattr(self.function, "variadic", False):
            last = sum(p.kind is not p.KEYWORD_ONLY for p in signature.parameters.values()) - 1
            if len(self.args) > last + 1:
                self.args = (*self.args[:last], self.args[last:])
        try:
            return dict(signature.bind(*self.args, **self.kwargs).arguments)
        except TypeError:
            self.function(*map(plain, self.args), **{k: plain(v) for k, v in self.kwargs.items()})
            raise refusal(self.op) from None

    def dim(self, name: str = "dim") -> Any:
        """The position, or positions, that a parameter names, or its default."""
        default = signature_of(self.function).parameters[name].default
        return resolved(self.op, self.given.get(name, default), self.names)

    def run(self) -> Any:
        """The function's result, of plain tensors and positions."""
        parameters = signature_of(self.function).parameters
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for key, value in self.given.items():
            value = self.dim(key) if key in _DIMS and not isinstance(value, Tensor) else plain(value)
            kind = parameters[key].kind
            is_optional = parameters[key].default is not inspect.Parameter.empty and isinstance(self.function, Function)
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args += value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif is_optional or kind is inspect.Parameter.KEYWORD_ONLY or len(args) < list(parameters).index(key):
                kwargs[key] = value  # by name: between optional ones a Function may have older parameters
            else:
                args.append(value)
        return self.function(*args, **kwargs)


def refusal(op: str) -> RuntimeError:
    return RuntimeError(f"[{op}] does not take named dimensions. Call x.rename(None) first.")


@cache
def signature_of(function: Any) -> inspect.Signature:
    return inspect.signature(function.rule if isinstance(function, Function) else function)


def _tensors(value: Any) -> list[Tensor]:
    return [x for x in (value if isinstance(value, tuple | list) else (value,)) if isinstance(x, Tensor)]


def each(result: Any, name: Callable[[Tensor], Names]) -> Any:
    """A result, or a tuple, list or named tuple of them, with names."""
    if isinstance(result, Tensor):
        return with_names(result, name(result))
    if isinstance(result, tuple | list):
        named = [each(x, name) for x in result]
        return result._make(named) if hasattr(result, "_make") else type(result)(named)  # type: ignore[attr-defined]
    return result
