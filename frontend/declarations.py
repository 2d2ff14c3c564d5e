"""What users can call, declared where it is defined: its names, its methods, its in-place form, its samples.

In: `declare`, which `function.function`, `function.view` and `@declared` call for each public function. Out: the names of every
namespace (`names`), the methods of Tensor, which are set at once, and `DECLARED`, from which tests and
`docs/functions.md` are generated. So a function is added in one place. Next: `samples.py`; `public.py`, which loads all.
"""

from __future__ import annotations

import copyreg
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import FunctionType
from typing import Any

from flambeau import border, missing, out
from flambeau.runtime.imports import settled
from flambeau.runtime.recorder import Function, Tensor

#: The namespaces that functions can name in `free`: modules below `flambeau`, "" being that itself.
TOP, FUNCTIONAL = "flambeau", "nn.functional"


@dataclass(frozen=True)
class Unsampled:
    """Stands where samples would, with the reason why the generated tests cannot call the function."""

    reason: str


@dataclass(frozen=True)
class Declaration:
    """One public function.

    name      what users call it.
    call      the function.
    free      the namespaces in which it is a function, such as "flambeau" and "nn.functional".
    method    whether it is a method of Tensor.
    in_place  the function that stores the result in the first operand, which is the method `name_`, and a function where PyTorch
              has one of that name; or None.
    aliases   further names, in all of these places.
    samples   calls for the generated tests (`dialects.record.Sample`, with everything that is an array passed as a tensor), or
              `Unsampled`; None where they have been forgotten, which a test refuses.
    """

    name: str
    call: Callable[..., Any]
    free: tuple[str, ...]
    method: bool
    in_place: Callable[..., Any] | None
    aliases: tuple[str, ...]
    samples: Callable[[], list[Any]] | Unsampled | None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def takes_out(self) -> bool:
        """Whether `out=` may say where results are stored."""
        more: Any = border.extended.get(self.call) or getattr(self.call, "more", None) or ()
        return "out" in (more.words if isinstance(more, out.Extended) else more)


DECLARED: list[Declaration] = []
_names: dict[str, dict[str, Callable[..., Any]]] = {TOP: {}, FUNCTIONAL: {}}
_methods: dict[str, Declaration] = {}


def declare(
    call: Callable[..., Any],
    name: str,
    *,
    free: str = "",
    method: bool = False,
    in_place: Callable[..., Any] | None = None,
    aliases: str = "",
    samples: Callable[[], list[Any]] | Unsampled | None = None,
    recalled: str = "",
) -> None:
    """Make `call` public: see `Declaration`. `free` and `aliases` are names with spaces between. `recalled` is for Python
    functions whose call comes to views of their first operand, to that itself, or to one recorded call. It says what this follows
    from besides arguments that are no tensors: the shape, dtype and view of the first "operand", also the "types" of other
    tensors, or also the "place" in its storage where the operand begins. Nothing else may matter, no value of a tensor and no
    setting. Equal calls are made without Python then.

    Raises ValueError where one of its names is taken in one of its places.
    """
    if recalled:
        border.recalled[call] = recalled
    made = Declaration(name, call, tuple(free.split()), method, in_place, tuple(aliases.split()), samples)
    if isinstance(call, FunctionType):
        _extend(border.extended, call, name, takes(made.free, made.names))
        _extend(border.extended_methods, call, name, takes(("Tensor",) if method else (), made.names))
    for known in made.names:
        for place in made.free:
            _take(_names.setdefault(place, {}), known, call, place)
        if method:
            _take(_methods, known, made, "Tensor")
            setattr(Tensor, known, call)
        if in_place is not None:
            _take(_methods, known + "_", made, "Tensor")
            setattr(Tensor, known + "_", in_place)
            if TOP in made.free and missing.has(TOP, known + "_"):
                _take(_names[TOP], known + "_", in_place, TOP)
    DECLARED.append(made)


def takes(places: Iterable[str], called: Iterable[str]) -> tuple[str, ...]:
    """Which of `out`, `layout` and `pin_memory` PyTorch's function of one of these names takes, in one of these places; functions
    that make tensors of sizes and values, which could lie in pinned memory, take `names`."""
    facts = _facts()
    keys = [(place, known) for known in called for place in places]
    found = {word for key in keys for word in facts.get(key, ())}
    if "pin_memory" in found and TOP in places and not any(known.endswith("_like") for known in called):
        found.add("names")
    return tuple(word for word in out.WORDS if word in found) if found else ()


@cache
def _facts() -> dict[tuple[str, str], tuple[str, ...]]:
    """Namespace and name -> keywords that PyTorch's function takes: facts, written by `tools/torch_names.py`."""
    facts: dict[tuple[str, str], tuple[str, ...]] = {}
    with open(os.path.join(os.path.dirname(__file__), "torch_keywords.txt"), encoding="ascii") as file:
        for line in file:
            where, _, names = line.partition(":")
            place, word = where.split()
            for known in names.split():
                facts[place, known] = (*facts.get((place, known), ()), word)
    return facts


def _extend(table: dict[Callable, Callable], call: FunctionType, name: str, words: Iterable[str]) -> None:
    """Have a Python function take those of the keywords that it does not know itself."""
    code = call.__code__
    lacking = [w for w in words if w not in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    if lacking:
        table[call] = out.Extended(name, lacking, lambda: call)


def _take(table: dict[str, Any], name: str, value: Any, place: str) -> None:
    if name in table:
        raise ValueError(f"[declare] '{name}' of {place} is declared twice. Choose another name.")
    table[name] = value


def declared(
    *,
    free: str = "",
    method: bool | str = False,
    in_place: Callable[..., Any] | None = None,
    aliases: str = "",
    samples: Callable[[], list[Any]] | Unsampled | None = None,
    recalled: str = "",
) -> Callable[[Callable], Callable]:
    """`declare` as a decorator of a Python function; `method` may be the method's name where that is another."""

    def define(call: Callable) -> Callable:
        name = method if isinstance(method, str) else call.__name__
        declare(
            call,
            name,
            free=free,
            method=bool(method),
            in_place=in_place,
            aliases=aliases,
            samples=samples,
            recalled=recalled,
        )
        return call

    return define


def attribute(name: str, recalled: str = "") -> Callable[[Callable], Callable]:
    """A decorator that makes a function of a tensor an attribute of it; `recalled` as in `declare`."""

    def define(getter: Callable) -> Callable:
        if recalled:
            border.recalled[getter] = recalled
        found = border.public(getter, name) if getter in border.recalled else getter
        setattr(Tensor, name, property(found, doc=getter.__doc__))
        return getter

    return define


def names(namespace: str) -> dict[str, Callable[..., Any]]:
    """The functions of a namespace by name, aliases among them, in the order of their declaration."""
    return _names.get(namespace, {})


def _found(namespace: str, name: str) -> Callable[..., Any]:
    """The function of a namespace; of Tensor where that is "Tensor"."""
    return getattr(Tensor, name) if namespace == "Tensor" else _names[namespace][name]


def _reduced(function: Function) -> str | tuple[Any, ...]:
    """How `copy` and `pickle` see a function: the one of its name. One that users cannot name can be copied, not pickled."""
    for namespace, table in _names.items():
        if table.get(function.name) is function:
            return _found, (namespace, function.name)
    if getattr(Tensor, function.name, None) is function:
        return _found, ("Tensor", function.name)
    return function.name


copyreg.pickle(Function, _reduced)  # type: ignore[arg-type]


def is_public(name: str) -> bool:
    """Whether users call something by this name, free or as a method."""
    return name in _methods or any(name in table for table in _names.values())


def in_place(name: str) -> Callable[..., Any]:
    """What `name_` calls: `in_place("add")`."""
    form = _methods[name + "_"].in_place
    assert form is not None, name
    return form


def method(name: str) -> Declaration | None:
    """The declaration that made the method `name` of Tensor."""
    return _methods.get(name)


def here(namespace: dict[str, Any]) -> list[str]:
    """What a module that declares names by defining them makes public: its functions and classes without an underscore."""
    home = namespace["__name__"]
    return [
        name
        for name, value in namespace.items()
        if not name.startswith("_") and getattr(value, "__module__", None) == home and callable(value)
    ]


def classes(package: str, path: Iterable[str], *bases: type) -> dict[str, type]:
    """The public classes that the modules of a package define, of those that are one of `bases`, by name."""
    return settled(_classes, package, path, bases)


def _classes(package: str, path: Iterable[str], bases: tuple[type, ...]) -> dict[str, type]:
    found = {}
    for each in iter_modules(list(path), package + "."):
        module = vars(import_module(each.name))
        found.update(
            {n: module[n] for n in here(module) if isinstance(module[n], type) and issubclass(module[n], bases)}
        )
    return dict(sorted(found.items()))
