"""Tensors whose dimensions have names: a class of its own, whose calls are checked, and made without the names.

In: tensors and names. Out: `NamedTensor`s. Names are gone before anything is recorded: a call of a public function with such a
tensor reaches `_call` in its place, which asks the function's rule (`named_rules.py`) what the results' names are and calls it
with plain handles of the same values. The recorder sends calls here from the first named tensor on; before that, and for
who has none, there is nothing to check. Next: `named_rules.py`, `functions/named.py`.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from flambeau import border, declarations
from flambeau.dim_names import Names, unified
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Function, Public, Tensor


def names_of(x: Tensor) -> Names:
    """A name, or None, for each dimension."""
    return x._names if isinstance(x, NamedTensor) else (None,) * x.ndim


def plain(x: Any) -> Any:
    """`x` without names: another handle of a named tensor's value, with its history; in lists too; else what is given."""
    if isinstance(x, NamedTensor):
        return recorder.alias(x, Tensor)
    if isinstance(x, tuple | list) and any(isinstance(each, NamedTensor) for each in x):
        return type(x)(plain(each) for each in x)
    return x


def with_names(x: Tensor, names: Names) -> Tensor:
    """Another handle of the value of `x`, with these names; a plain one where all are None."""
    if not any(names):
        return recorder.alias(x, Tensor) if isinstance(x, NamedTensor) else x
    _start()
    made = recorder.alias(x, NamedTensor)
    made._names = names
    return made


def set_names(x: Tensor, names: Names) -> None:
    """Name the dimensions of the tensor itself."""
    _start()
    x.__class__ = NamedTensor if any(names) else Tensor  # type: ignore[assignment]
    if any(names):
        x._names = names  # type: ignore[attr-defined]


def _call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What a public function that is given a named tensor does."""
    from flambeau import named_rules  # that module imports this one

    return named_rules.apply(function, _known_as(function), args, kwargs)


@cache
def _declared() -> dict[Any, str]:
    """Python function -> the first name that it is declared with."""
    found: dict[Any, str] = {}
    for d in declarations.DECLARED:
        found.setdefault(d.call, d.name)
        found.setdefault(d.in_place, f"{d.name}_")
    return found


def _known_as(function: Any) -> str:
    if isinstance(function, Function):
        return function.name
    return _declared().get(function) or _declared().get(function.__wrapped__) or function.__name__


@cache
def _start() -> None:
    """Have the recorder send calls with named tensors to `_call`: of what there is now, and of what will be made."""
    made = [each for d in declarations.DECLARED for each in (d.call, d.in_place)]
    getters = [value.fget for value in vars(Tensor).values() if isinstance(value, property)]
    found = (*made, *getters, *vars(Tensor).values(), *border._made.values())
    recorder.intercept(NamedTensor, _call, tuple(each for each in found if isinstance(each, Function | Public)))


class NamedTensor(Tensor):
    """A tensor whose dimensions have names: `x.names`. Made by `refine_names`, `rename` and `names=`."""

    __slots__ = ()
    _text_name = "tensor"
    _names: Names

    def __getitem__(self, index: Any) -> Tensor:
        from flambeau import named_rules  # that module imports this one

        return with_names(plain(self)[plain(index)], named_rules.indexed(index, self._names))

    def __setitem__(self, index: Any, value: Any) -> None:
        plain(self)[plain(index)] = plain(value)

    def __iter__(self) -> Iterator[Tensor]:
        return (with_names(x, self._names[1:]) for x in plain(self))

    __hash__ = Tensor.__hash__

    def __repr__(self) -> str:
        return f"{repr(plain(self)).removesuffix(')')}, names={self._names!r})"

    __str__ = __repr__

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made = memo[id(self)] = with_names(copy.deepcopy(plain(self)), self._names)
        return made

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return with_names, (plain(self), self._names)


def _binary(name: str, compute: Callable[[Any, Any], Any], is_reflected: bool) -> Callable[[Any, Any], Any]:
    def method(x: Tensor, y: Any) -> Any:
        from flambeau import named_rules  # that module imports this one

        x, y = (y, x) if is_reflected else (x, y)
        unify = named_rules.product_names if name == "matmul" else unified
        pair = [names_of(each) if isinstance(each, Tensor) else () for each in (x, y)]
        names = unify(name, *pair) if isinstance(x, Tensor) and isinstance(y, Tensor) else pair[is_reflected]
        return with_names(compute(plain(x), plain(y)), names)

    return method


def _stored(name: str, compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(x: Tensor, y: Any) -> Any:
        names = unified(name, names_of(x), names_of(y)) if isinstance(y, Tensor) else names_of(x)
        compute(plain(x), plain(y))
        set_names(x, names)
        return x

    return method


def _unary(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: with_names(compute(plain(x)), names_of(x))


def _install() -> None:
    """Python's operators, each of which drops the names, computes, and names the result."""
    for name in (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and_",
        "or_",
        "xor",
        "lshift",
        "rshift",
    ):
        word, compute = name.rstrip("_"), getattr(operator, name)
        setattr(NamedTensor, f"__{word}__", _binary(word, compute, False))
        setattr(NamedTensor, f"__r{word}__", _binary(word, compute, True))
        if name != "matmul":
            setattr(NamedTensor, f"__i{word}__", _stored(word, getattr(operator, f"i{word}")))
    for name in ("lt", "le", "eq", "ne", "gt", "ge"):
        setattr(NamedTensor, f"__{name}__", _binary(name, getattr(operator, name), False))
    for name in ("neg", "pos", "abs", "invert"):
        setattr(NamedTensor, f"__{name}__", _unary(getattr(operator, name)))


_install()
