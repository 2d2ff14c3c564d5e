"""Turning rules into recorded functions: `@function`, `@view` and `@inplace`.

In: a rule, plain Python on `builder.Value`s that says what a function computes. Out: a recorder `Function`,
callable free or as a Tensor method, whose rule runs only when the trie has not seen the call before.
The annotations of a rule's parameters say how arguments enter a trace. Next: `engine.py`.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, TypeAlias

from flambeau import spellings
from flambeau.border import public
from flambeau.declarations import FUNCTIONAL, Unsampled, declare, takes
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.record import find
from flambeau.out import Extended
from flambeau.runtime.recorder import REQUIRED, Function

Tensor_ = Annotated[Value, "tensor"]  #: a tensor
Operand = Annotated[Any, "operand"]  #: a tensor or a number; the rule gets a Value, 0-d with `weak` set for a number
Tensors = Annotated[list, "tensors"]  #: a sequence of tensors
Optional_ = Annotated[Any, "optional"]  #: a tensor or None
Number = Annotated[Any, "number"]  #: a number, specialised by value; a weak 0-d Value once many values were seen
Stream_ = Annotated[Any, "stream"]  #: a generator; the rule gets (seed, offset) and adds to `builder().draws`
Static = Annotated[Any, "static"]  #: part of the key: None, bool, int, float, str, dtype, nested tuples of these
Padding = Annotated[Any, "static", "int | Sequence[int] | str"]  #: static; stubs give it this type
Default = Annotated[Any, "default"]  #: given any other value than the default, the call goes to `otherwise`
Sizes = Annotated[Any, "size"]  #: static, and its ints are sizes: ones that keep changing become symbols
Starts = Annotated[Any, "starts"]  #: (views only) a tuple of ints that enter the trace as 0-d int64 Values


@cache
def _kind(annotation: Any) -> str:
    """How an argument enters a trace, from its annotation (or the annotation's name)."""
    marker: Any = globals().get(annotation) if isinstance(annotation, str) else annotation
    if not hasattr(marker, "__metadata__"):
        raise TypeError(
            f"[function] annotation {annotation!r} is none of Tensor_, Operand, Tensors, Optional_, Number, Stream_, Static, "
            "Padding, Sizes, Default, Starts."
        )
    return marker.__metadata__[0]


def stub_type(annotation: Any) -> str | None:
    """The type that stubs give a parameter so annotated, where its kind does not say it."""
    marker: Any = globals().get(annotation) if isinstance(annotation, str) else annotation
    return next(iter(getattr(marker, "__metadata__", ())[1:]), None)


class RuleBuilder(GraphBuilder):
    """The builder of a rule. `draws` counts the random numbers that the rule takes from its stream."""

    draws = 0


class _Rules(threading.local):
    """The builders of the rules that this thread is expanding, innermost last."""

    def __init__(self) -> None:
        self.builders: list[RuleBuilder] = []


_rules = _Rules()


def builder() -> RuleBuilder:
    """The builder of the rule being expanded: for rules without tensor operands (`zeros`, `rand`)."""
    return _rules.builders[-1]


@contextmanager
def building(b: RuleBuilder) -> Iterator[None]:
    """Make `b` what `builder()` returns while a rule runs."""
    _rules.builders.append(b)
    try:
        yield
    finally:
        _rules.builders.pop()


def _params(rule: Callable) -> tuple[tuple[str, str, Any, bool, tuple[str, ...]], ...]:
    """(name, kind, default, keyword only, other names) of each parameter, read from the rule's signature and annotations."""
    code = rule.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    defaults = dict(zip(reversed(names[: code.co_argcount]), reversed(rule.__defaults__ or ())))
    defaults.update(rule.__kwdefaults__ or {})
    return tuple(
        (
            name,
            _kind(rule.__annotations__.get(name)),
            defaults.get(name, REQUIRED),
            i >= code.co_argcount,
            spellings.of(name, names),
        )
        for i, name in enumerate(names)
    )


def _define(rule: Callable, kind: str, name: str | None, given: Callable | None = None, **flags: Any) -> Function:
    """A function with the parameters of a rule; `given` is what is called in its place."""
    name = name or rule.__name__.rstrip("_") + ("_" if kind == "inplace" else "")
    return Function(name, _params(rule), kind, given or rule, doc=rule.__doc__, **flags)


_Samples: TypeAlias = Callable[[], list[Any]] | Unsampled | None


def function(
    *,
    free: str = "",
    method: bool = False,
    in_place: bool = False,
    aliases: str = "",
    samples: _Samples = None,
    name: str | None = None,
    variadic: bool = False,
    fallible: bool = False,
    otherwise: Callable | None = None,
    takes_inplace: bool = False,
    out: bool = False,
) -> Callable[[Callable], Function]:
    """A pure function: its results are new tensors. `variadic`: the last static may be given as several arguments.
    `otherwise` is called with the arguments of every call that raises TypeError: it serves rare forms, or raises.
    `out`: it takes `out=`, tensors to store the results in, also where PyTorch's of its name does not.
    `takes_inplace`: in `nn.functional` it takes `inplace=`, to store the result in the first operand; `f.inplace` does so.

    `free`, `method`, `in_place` and `aliases` make it public (see `declarations.Declaration`): it is found in the namespaces
    `free`, as a method, with a form that stores the result in the first operand. None of them: it is ours alone.
    """
    flags: dict[str, Any] = {}

    def define(rule: Callable) -> Function:
        if otherwise:
            flags["otherwise"] = public(otherwise, rule.__name__)
        if takes_inplace:
            flags["inplace"] = _define(rule, "inplace", None, writes=1, fallible=fallible)
        places = free.split()
        more = takes(places, (name or rule.__name__.rstrip("_"), *aliases.split())) or (("out",) if out else ())
        if more:
            flags.update(otherwise=_extended(rule, more, name, variadic, fallible, dict(flags)), more=more)
        made = _define(rule, "pure", name, variadic=variadic, fallible=fallible, **flags)
        if takes_inplace:
            places.remove(FUNCTIONAL)
            declare(_choice(made), made.name, free=FUNCTIONAL, samples=samples)
            declare(made.inplace, made.inplace.name, free=FUNCTIONAL, samples=samples)
        if places or method:
            form = (made.inplace if takes_inplace else stored(made, fallible)) if in_place else None
            declare(
                made, made.name, free=" ".join(places), method=method, in_place=form, aliases=aliases, samples=samples
            )
        return made

    return define


def _choice(pure: Function) -> Function:
    """A function that has one more argument, by which its in-place form is chosen: the usual call is a pure one with an argument
    left at its default; any other call goes to `choose`."""
    name, signature = pure.name, inspect.signature(pure.rule)
    at = len(signature.parameters)

    def choose(*args: Any, **kwargs: Any) -> Any:
        chosen = args[at] if len(args) == at + 1 else kwargs.pop("inplace", False)
        return (pure.inplace if chosen else pure)(*(args[:at] if len(args) == at + 1 else args), **kwargs)

    last = inspect.Parameter("inplace", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation="bool")
    choose.__signature__ = signature.replace(parameters=[*signature.parameters.values(), last])  # type: ignore[attr-defined]
    params = (*pure.params, ("inplace", "default", False, False, ()))
    return Function(
        name, params, "pure", pure.rule, doc=pure.__doc__, otherwise=public(choose, name), fallible=pure.fallible
    )


def _extended(
    rule: Callable, words: tuple[str, ...], name: str | None, variadic: bool, fallible: bool, flags: dict[str, Any]
) -> Any:
    """What a function calls that is given `out` and such, of which it knows nothing itself: so other calls pay nothing for them."""

    def pure() -> Function:
        return _define(rule, "pure", name, variadic=variadic, fallible=fallible, **flags)

    called = name or rule.__name__.rstrip("_")
    return public(Extended(called, words, pure, rule), called)


def stored(pure: Function, fallible: bool = False) -> Function:
    """The in-place form of a function, such as `x.add_(y)`: computes what `add` does and stores it in x. The result
    is converted to the dtype of x, which must be of no lower category, and must have its shape."""
    return _define(pure.rule, "inplace", pure.name + "_", writes=1, fallible=fallible)


def view(
    *,
    free: str = "",
    method: bool = False,
    aliases: str = "",
    samples: _Samples = None,
    put: Callable | None = None,
    name: str | None = None,
    variadic: bool = False,
    detach: bool = False,
    aside: bool = False,
    of_storage: bool = False,
) -> Callable[[Callable], Function]:
    """A view: the result shares the first operand's storage. `put(base, new, ...)` gives the base with the viewed
    elements replaced by `new`; without it, writing through the view is an error. `detach` cuts gradient history; `aside`: what is
    written through it is no business of gradients that were recorded before. `of_storage`: the rule gets the whole storage of the
    operand, whatever the operand shows of it.
    `free`, `method`, `aliases`, `samples`: as for `function`."""

    def define(rule: Callable) -> Function:
        made = _define(
            rule, "view", name, variadic=variadic, put=put, detach=detach, aside=aside, of_storage=of_storage
        )
        if free or method:
            declare(made, made.name, free=free, method=method, aliases=aliases, samples=samples)
        return made

    return define


def inplace(
    *,
    free: str = "",
    method: bool = False,
    samples: _Samples = None,
    name: str | None = None,
    writes: int | str = 1,
    fallible: bool = False,
    moves: bool = False,
    on_parts: bool = False,
) -> Callable[[Callable], Function]:
    """An in-place function: leading results replace the values of the first `writes` operands, or of every
    tensor in the parameters named by a comma-separated string. The call returns the first operand, or None. `moves`: operands
    may lie on other devices than the first, and are moved to it. `on_parts`: the rule is given complex tensors as real ones, whose
    last axis has the parts."""

    def define(rule: Callable) -> Function:
        given = _on_parts(rule, str(writes)) if on_parts else rule
        made = _define(rule, "inplace", name, given, writes=writes, fallible=fallible, moves=moves)
        if free or method:
            declare(made, made.name, free=free, method=method, samples=samples)
        return made

    return define


def _on_parts(rule: Callable, writes: str) -> Callable:
    """A rule that writes lists of tensors, given complex ones as real ones."""

    def as_real(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(as_real, value))
        return find("view_as_real")(value) if isinstance(value, Value) and value.dtype.is_complex else value

    def run(**arguments: Any) -> Any:
        found = rule(**{name: as_real(value) for name, value in arguments.items()})
        written = [v.dtype for name in writes.split(",") for v in arguments[name]]
        return [find("view_as_complex")(v) if d.is_complex else v for v, d in zip(found, written, strict=True)]

    return run
