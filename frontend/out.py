"""The arguments `out`, `layout`, `pin_memory` and `names`, of which no function knows: calls without them cost nothing for them.

In: a function, and calls of it that give one of these. Out: with `out`, a tensor or a tuple of them, these, with the results stored
there; `layout` and `pin_memory` mean nothing but their defaults. Which functions take them is PyTorch's to say
(`torch_keywords.txt`). The result is computed first, so it does not matter whether `out` shares memory with operands. A tensor of
another shape is resized to the result's, with a warning if it had elements, as in PyTorch. Next: `function.py` and
`declarations.py`, which extend functions.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flambeau import layout
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


@dataclass(frozen=True)
class Layout:
    """How elements are kept: `strided`, in memory that strides lead through, is the only way."""

    name: str

    def __repr__(self) -> str:
        return f"flambeau.{self.name}"

    def __reduce__(self) -> str:
        return self.name


strided = Layout("strided")
#: The ways that PyTorch has and this has not: no tensor's `layout` is one of them, and no function makes any.
others = {n: Layout(n) for n in ("sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged")}
#: Functions whose result is not converted to the dtype of `out`, and those whose `out` shares no memory with what they read.
EXACT = frozenset(("aminmax", "complex", "gather", "multinomial"))
APART = frozenset(("cat", "gather", "index_select", "kthvalue", "masked_select", "take"))

#: The keywords, and what they are where they are left out.
WORDS: dict[str, Any] = {"out": None, "layout": None, "pin_memory": False, "names": None}
_TYPES = {
    "out": "Tensor | None",
    "layout": "Layout | None",
    "pin_memory": "bool",
    "names": "Sequence[str | None] | None",
}


class Extended:
    """A function with those of the keywords that it does not know itself. `make` gives the function without, whose arguments are
    those of `signed`."""

    def __init__(
        self,
        name: str,
        words: Iterable[str],
        make: Callable[[], Callable[..., Any]],
        signed: Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.words, self.make, self.signed = name, tuple(words), make, signed

    @cached_property
    def call(self) -> Callable[..., Any]:
        return self.make()

    @cached_property
    def __signature__(self) -> inspect.Signature:
        known = inspect.signature(self.signed or self.call)
        kind = inspect.Parameter.KEYWORD_ONLY
        more = [inspect.Parameter(w, kind, default=WORDS[w], annotation=_TYPES[w]) for w in self.words]
        rest = [p for p in known.parameters.values() if p.kind is p.VAR_KEYWORD]
        own = [p for p in known.parameters.values() if p not in rest]
        return known.replace(parameters=[*own, *(p for p in more if p.name not in known.parameters), *rest])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = {word: kwargs.pop(word) for word in self.words if word in kwargs}
        if given.get("layout") not in (None, strided):
            raise NotImplementedError(f"[{self.name}] layout is {given['layout']!r}. Use flambeau.strided.")
        if given.get("pin_memory"):
            raise RuntimeError(f"[{self.name}] no memory can be pinned. Leave out pin_memory.")
        if given.get("names") is not None:
            return self(*args, **kwargs, **{**given, "names": None}).rename(*given["names"])
        out = given.get("out")
        if out is None:
            return self.call(*args, **kwargs)
        found = self.call(*args, **{**self._as(out, args, kwargs), **kwargs})
        _check_memory(self.name, out, found, (*args, *kwargs.values()))
        return stored_in(self.name, out, found)

    def _as(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Dtype and device of what is made from no tensors: those of `out`, unless others are asked for."""
        made_of = (*args, *kwargs.values())
        if not isinstance(out, Tensor) or any(isinstance(x, Tensor | list | tuple) and _holds(x) for x in made_of):
            return {}
        taken = self.__signature__.parameters
        dtype = kwargs.get("dtype")
        if dtype is not None and dtype is not out.dtype:
            raise RuntimeError(f"[{self.name}] dtype is {dtype}, out is {out.dtype}. Leave out dtype.")
        return {k: getattr(out, k) for k in ("dtype", "device") if k in taken and kwargs.get(k) is None}


def _check_memory(op: str, out: Any, found: Any, given: Iterable[Any]) -> None:
    """Raise RuntimeError where elements of `out` share memory, or it shares some with an operand and not all, as PyTorch does."""
    operands = [x for one in given for x in (one if isinstance(one, list | tuple) else (one,)) if isinstance(x, Tensor)]
    pairs = [(out, found)] if isinstance(found, Tensor) else zip(out, found) if isinstance(out, list | tuple) else []
    for one, result in pairs:
        if isinstance(one, Tensor):
            _check_apart(op, one, result.numel(), operands)


def _check_apart(op: str, out: Tensor, count: int, operands: list[Tensor]) -> None:
    """`count`: how many elements it will have."""
    whole: Any = out
    if any(n > 1 and not step for n, step in zip(whole.shape, whole.stride())):
        raise RuntimeError(f"[{op}] elements of out share memory. Pass a copy of it.")
    for x in operands:
        if not recorder.same_storage(out, x) or not (x.is_contiguous() and out.is_contiguous()):
            continue
        a, b = layout.offset(out), layout.offset(x)
        common = out is x or max(a, b) < min(a + count, b + x.numel())
        alike = a == b and x.numel() == count
        if common and (op in APART or not alike):
            raise RuntimeError(f"[{op}] out and an operand share some of their memory. Pass another out.")


def _holds(x: Any) -> bool:
    return isinstance(x, Tensor) or any(isinstance(one, Tensor) for one in x)


def stored_in(op: str, out: Any, found: Any) -> Any:
    """`out` with what was `found`, a tensor or a tuple of them.

    Raises TypeError where `out` is something else, RuntimeError for a dtype to which the result is not converted, and where either
    requires grad.
    """
    if isinstance(found, Tensor):
        _store(op, out, found)
        return out
    if not isinstance(out, (tuple, list)) or len(out) != len(found):
        raise TypeError(f"[{op}] out is {type(out).__name__}. Pass a tuple of {len(found)} tensors.")
    for one, result in zip(out, found, strict=True):
        _store(op, one, result)
    return type(found)(*out) if hasattr(found, "_fields") else tuple(out)


def _store(op: str, out: Any, found: Tensor) -> None:
    from flambeau.autograd.grad_mode import is_grad_enabled  # that module imports this one
    from flambeau.functions.inplace import copy_values  # that module imports this one
    from flambeau.promotion import can_cast  # that module imports this one

    if not isinstance(out, Tensor):
        raise TypeError(f"[{op}] out is {type(out).__name__}. Pass a tensor.")
    if is_grad_enabled() and (found.requires_grad or out.requires_grad):
        raise RuntimeError(
            f"[{op}] out takes no gradient, and a tensor requires grad. Leave out `out`, or use no_grad()."
        )
    if not can_cast(found.dtype, out.dtype) or (op in EXACT and found.dtype is not out.dtype):
        raise RuntimeError(f"[{op}] the result is {found.dtype}, out is {out.dtype}. Pass an out that holds it.")
    if found._place != out._place:
        raise RuntimeError(f"[{op}] the result lies on {found._place}, out on {out._place}. Pass one there.")
    if found.shape == out.shape or _resized(op, out, found):
        copy_values(out, found)
        return
    whole: Any = out
    whole.data = found.to(out.dtype)


def _resized(op: str, out: Any, found: Tensor) -> bool:
    """Whether `out` has the shape of the result within its own storage by now. Warns if it had elements."""
    if 0 not in out.shape:
        warnings.warn(
            f"[{op}] out of shape {out.shape} is resized to {found.shape}. Pass one of that shape, or without elements.",
            stacklevel=5,
        )
    fits = found.numel() <= out.numel() and out.is_contiguous() and not out.requires_grad
    if fits:
        out.resize_(found.shape)
    return fits
