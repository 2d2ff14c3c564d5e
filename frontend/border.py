"""Where calls of users enter: what goes wrong with their arguments is told in their words, at their line.

In: public functions and classes. Out: `Public` callables, which cost nothing until one raises. Then `report` decides: an
argument that does not exist, is missing or one too many, or is of another type than its annotation says, is named; what Python or
NumPy raised inside of our code is told as `[name] ...`; what is no fault of the caller's is told as a bug of ours. Next:
`missing.py`.
"""

from __future__ import annotations

import inspect
import numbers
import os
import re
from collections.abc import Callable, Iterable
from functools import cache
from types import BuiltinFunctionType, FunctionType, TracebackType
from typing import Any

import numpy as np
from flambeau import dialects, runtime, spellings
from flambeau.dialects.bugs import bug, is_internal
from flambeau.dialects.dtypes import DType
from flambeau.runtime.recorder import Public, Tensor

_HOUSE = re.compile(r"\[[\w .()-]+\] ")


# ---- what went wrong --------------------------------------------------------------------------------------------


def report(function: Callable, name: str, error: Exception, args: tuple, kwargs: dict[str, Any]) -> Exception:
    """What to raise where `function(*args, **kwargs)`, which users know as `name`, raised `error`."""
    name, skipped = _known_as(name, args)
    text = _text(error)
    if text.startswith(f"[{name}] ") or not isinstance(error, _TRANSLATED) or not _is_our_frame(error.__traceback__):
        return error
    if isinstance(error, TypeError) and (found := _unbound(function, args, kwargs, skipped)):
        return TypeError(f"[{name}] {found}")
    if found := _mistyped(function, args, kwargs):
        return TypeError(f"[{name}] {found}")
    if is_internal(error):
        return bug(name, error)
    if _HOUSE.match(text):
        return error
    return _translated(name, error, args[skipped:], kwargs)


#: What is told in our words where our code raised it; anything else means what it says (files, memory, interrupts, ...).
_TRANSLATED = (
    TypeError,
    AttributeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    NameError,
    RuntimeError,
)


def _text(error: Exception) -> str:
    """The message; that of a KeyError would be quoted."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _known_as(name: str, args: tuple) -> tuple[str, int]:
    """(what users call the callable, arguments that they do not write). A constructor and `forward` have the name of
    the class, the one that is made if that is ours."""
    owner, _, method = name.rpartition(".")
    if not owner:
        return name, 0
    if method not in ("__init__", "__new__", "forward"):
        return method, 1
    made = (args[0] if isinstance(args[0], type) else type(args[0])) if args else object
    return made.__name__ if made.__module__.startswith("flambeau.") else owner, 1


@cache
def _folders() -> tuple[tuple[str, ...], str]:
    """Where our code lies, and NumPy's; and Python's own."""
    import sysconfig

    home = os.path.dirname(os.path.abspath(dialects.__file__))
    ours = (os.path.dirname(os.path.abspath(__file__)), home, os.path.join(os.path.dirname(home), "compiler"))
    others = (os.path.dirname(runtime.__file__), os.path.dirname(np.__file__))
    return tuple(folder + os.sep for folder in (*ours, *others)), sysconfig.get_path("stdlib") + os.sep


def _is_our_frame(traceback: TracebackType | None) -> bool:
    """Whether no frame below the call is of the user's own code, as that of a callback is."""
    ours, python = _folders()
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        is_pythons = file.startswith(("<frozen", "<__array_function__")) or (
            file.startswith(python) and "-packages" not in file
        )
        if not is_pythons and not file.startswith(ours):
            return False
        traceback = traceback.tb_next
    return True


def _signature(function: Callable) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _takes(parameters: list[inspect.Parameter]) -> str:
    return "It takes: " + (", ".join(str(p.replace(annotation=p.empty)) for p in parameters) or "no arguments") + "."


def _unbound(function: Callable, args: tuple, kwargs: dict[str, Any], skipped: int) -> str | None:
    """Why the arguments do not bind, None if they do."""
    signature = _signature(function)
    if signature is None:
        return None
    if more := (extended_methods if skipped else extended).get(function):
        signature = inspect.signature(more)
    try:
        signature.bind(*args, **kwargs)
        return None
    except TypeError as error:
        left = str(error)
    all_, kinds = list(signature.parameters.values())[skipped:], inspect.Parameter
    named = [p for p in all_ if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    placed = [p for p in all_ if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    given = len(args) - skipped
    unknown = [k for k in kwargs if k not in {p.name for p in named}]
    if unknown and not any(p.kind is kinds.VAR_KEYWORD for p in all_):
        import difflib

        near = difflib.get_close_matches(unknown[0], [p.name for p in named], 1)
        meant = f" Did you mean '{near[0]}'?" if near else ""
        return f"there is no argument '{unknown[0]}'.{meant} {_takes(all_)}"
    if given > len(placed) and not any(p.kind is kinds.VAR_POSITIONAL for p in all_):
        return f"takes at most {len(placed)} positional arguments, got {given}. {_takes(all_)}"
    if twice := [p.name for p in placed[:given] if p.name in kwargs]:
        return f"argument '{twice[0]}' was given twice."
    missing = [p.name for p in placed[given:] + [p for p in named if p.kind is kinds.KEYWORD_ONLY]]
    missing = [n for n in missing if n not in kwargs and signature.parameters[n].default is kinds.empty]
    return f"argument '{missing[0]}' is missing. {_takes(all_)}" if missing else f"{left}. {_takes(all_)}"


# ---- types ------------------------------------------------------------------------------------------------------


def _is_integer(x: Any) -> bool:
    return hasattr(x, "__index__")


def _is_real(x: Any) -> bool:
    return isinstance(x, numbers.Real | np.number | Tensor) or hasattr(x, "__float__")


#: What an annotation admits; parts that are not listed admit anything.
_ADMITS: dict[str, Callable[[Any], bool]] = {
    "int": _is_integer,
    "float": _is_real,
    "bool": lambda x: isinstance(x, bool | int | np.bool_),
    "str": lambda x: isinstance(x, str),
    "Tensor": lambda x: isinstance(x, Tensor),
    "Parameter": lambda x: isinstance(x, Tensor),
    "DType": lambda x: isinstance(x, DType),
    "Device": lambda x: x is None or isinstance(x, str) or type(x) is int or hasattr(x, "type"),
    "None": lambda x: x is None,
}
#: What the parts are called.
_WORDS = {"DType": "dtype", "Device": "device or None"}


def _mistyped(function: Callable, args: tuple, kwargs: dict[str, Any]) -> str | None:
    """The first argument whose annotation, made of simple types, does not admit what was given."""
    signature = _signature(function)
    try:
        bound = signature.bind(*args, **kwargs) if signature else None
    except TypeError:
        bound = None
    for key, value in bound.arguments.items() if bound else ():
        parameter = bound.signature.parameters[key]  # type: ignore[union-attr]
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        parts = [part.strip() for part in str(parameter.annotation).split("|")]
        if all(part in _ADMITS and not _ADMITS[part](value) for part in parts):
            wanted = " or ".join(_WORDS.get(part, part) for part in parts)
            return f"argument '{key}' must be {wanted}, got {shown(value)}."
    return None


def shown(value: Any) -> str:
    """A type and, where it is short, the value: `str 'a'`, `Tensor`, `list`."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int | float | str | bytes) and len(repr(value)) <= 40:
        return f"{kind} {value!r}"
    return kind


def _translated(name: str, error: Exception, args: tuple, kwargs: dict[str, Any]) -> Exception:
    """What Python or NumPy said inside of our code, with what the function was called with."""
    words = [*map(shown, args), *(f"{k}={shown(v)}" for k, v in kwargs.items())]
    given = ", ".join(words[:8] + ["..."] * (len(words) > 8))
    text = f"[{name}] {_text(error).rstrip('.')}. The arguments were ({given}). Check them against the documentation."
    if isinstance(error, AttributeError | AssertionError | NameError):
        return TypeError(text)
    kind = next(k for k in (KeyError, IndexError, *_TRANSLATED) if isinstance(error, k))
    return kind(text)


def told(name: str, hook: Callable) -> Callable:
    """A hook of the recorder's whose failures are told like those of public callables: as the op's, whose user error passes
    through; anything else is a bug of ours. `name` is what they are told of where the hook is not about one function."""

    def call(*args: Any) -> Any:
        try:
            return hook(*args)
        except _TRANSLATED as error:
            if not is_internal(error) and (_HOUSE.match(_text(error)) or not _is_our_frame(error.__traceback__)):
                raise
            op = getattr(args[0], "name", None) if args else None
            if op is None or is_internal(error) or isinstance(error, AssertionError | NameError | KeyError):
                raise bug(op or name, error) from error
            raise _translated(op, error, (), args[2]) from error  # a rule was given what it cannot take

    return call


# ---- what is public ---------------------------------------------------------------------------------------------

_made: dict[Any, Public] = {}
#: Function -> what its calls with `out=` and such go to: see `out.py`. And those of methods.
extended: dict[Callable, Callable] = {}
extended_methods: dict[Callable, Callable] = {}
#: Function -> what the outcome of its calls follows from: see `declarations.declare`.
recalled: dict[Callable, str] = {}
_published: set[type] = set()


def public(function: Callable, name: str, module: str = "") -> Public:
    """`function` as users call it; one and the same for one function. It is pickled as a name of `module`."""
    if isinstance(function, Public):
        return function
    if function not in _made:
        made = _made[function] = _with_spellings(function, name, extended.get(function))
        if module:
            vars(made)["__module__"] = module
    return _made[function]


def _with_spellings(function: Callable, name: str, more: Callable | None = None) -> Public:
    """A function whose arguments may be given under their other names. Calls with `out=` and such go to `more`, if it is there."""
    code = getattr(function, "__code__", None)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
    return Public(function, name, report, spellings.known(names), more, recalled.get(function, ""))


def publish(namespace: dict[str, Any], names: Iterable[str]) -> None:
    """Make the functions and classes of ours among `names` of a module's namespace public."""
    for name in names:
        value = namespace.get(name)
        if isinstance(value, type):
            if value.__module__.startswith("flambeau.") and not issubclass(value, BaseException):
                publish_class(value)
        elif isinstance(value, FunctionType | BuiltinFunctionType):
            namespace[name] = public(value, name, namespace["__name__"])


def publish_class(cls: type) -> None:
    """Make the constructors and the methods of a class, and of those that it inherits from, public."""
    for owner in cls.__mro__:
        if owner in _published or not owner.__module__.startswith("flambeau.") or owner is Tensor:
            continue
        _published.add(owner)
        for name, value in list(vars(owner).items()):
            if not name.startswith("_") or name in ("__init__", "__new__"):
                _publish_method(owner, name, value)


def _publish_method(cls: type, name: str, value: Any) -> None:
    is_wrapped = isinstance(value, classmethod | staticmethod)
    function = value.__func__ if is_wrapped else value
    if isinstance(function, FunctionType):
        is_free = isinstance(value, staticmethod) and name != "__new__"
        made = Public(function, name if is_free else f"{cls.__name__}.{name}", report)
        setattr(cls, name, type(value)(made) if is_wrapped else made)


def publish_methods(cls: type) -> None:
    """Make the methods that were installed on a class of C's public, each under the name that users call."""
    for name, value in list(vars(cls).items()):
        if isinstance(value, FunctionType) and not name.startswith("__"):
            setattr(cls, name, _with_spellings(value, f"{cls.__name__}.{name}", extended_methods.get(value)))
