"""Writes the stub files of what is made at import: the methods of Tensor, and the functions and classes that modules find.

    python tools/stubs.py

In: `flambeau.declarations`, what modules hold, and the samples of functions, whose results say what a function returns. Out: the
files of `stubs()`, which lie beside the modules and are in the wheel; `tests/test_types.py` compares. What is written out in
Python has its types there. Next: `stub_types.py`.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import flambeau
import flambeau.nn.functional  # declares what is there

sys.path.insert(0, str(Path(__file__).resolve().parent))

from flambeau import return_types
from flambeau.declarations import DECLARED, Declaration
from flambeau.runtime.recorder import Tensor
from stub_types import arguments, attribute_type, forms

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = '"""Written by `python tools/stubs.py` from the declarations of public functions."""\n'
HEAD = """
from builtins import bool as _bool, complex as _complex, float as _float, int as _int, type as _type
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self, overload

import numpy as np
from flambeau import return_types
from flambeau.device import Device, device as _device
from flambeau.dialects.dtypes import DType as _DType
from flambeau.generator import Generator
from flambeau.runtime.recorder import Size, Tensor
"""
#: The modules whose names are found when they are imported.
MODULES = (
    *("", "fft", "linalg", "masked", "special", "signal.windows", "nn", "nn.functional", "optim"),
    *("optim.lr_scheduler", "distributions", "metrics", "quantization"),
)


def stubs() -> dict[Path, str]:
    """The text of every file."""
    for name in flambeau.__all__:
        getattr(flambeau, name)  # some are loaded, and so declared, when asked for
    found = {ROOT / "frontend" / "tensor_methods.pyi": methods(), ROOT / "frontend" / "return_types.pyi": tuples()}
    for name in MODULES:
        module = import_module(f"flambeau.{name}".rstrip("."))
        path = Path(*name.split("."))
        is_package = hasattr(module, "__path__")
        found[ROOT / "frontend" / (path / "__init__.pyi" if is_package else path.with_suffix(".pyi"))] = names(module)
    return found


# ---- functions --------------------------------------------------------------------------------------------------


def function(name: str, made: Declaration, method: bool = False, stores: bool = False) -> str:
    """One function, or the forms that it has."""
    found = forms(made, name, method)
    if stores:
        found = [f"({form}) -> {'Self' if method else 'Tensor'}" for form in arguments(made, method, stores)]
    mark = "@overload\n" if len(found) > 1 else ""
    return "".join(f"{mark}def {name}{builtin(form)}: ...\n" for form in found)


def builtin(form: str) -> str:
    """Python's types by names that no function or dtype of ours hides."""
    return re.sub(r"\b(bool|int|float|complex|type)\b(?![:=.])", r"_\1", form)


def methods() -> str:
    """The class that Tensor inherits its methods from, for a checker."""
    lines = []
    for made in sorted(DECLARED, key=lambda d: d.name):
        for name in made.names:
            if made.method and name not in _OPERATORS:
                lines.append(function(name, made, method=True))
            if made.in_place is not None:
                lines.append(function(name + "_", made, method=True, stores=True))
    attributes = [
        f"@property\ndef {name}(self) -> {builtin(found)}: ...\n"
        for name, value in vars(Tensor).items()
        if isinstance(value, property) and (found := attribute_type(name)) is not None
    ]
    body = OWN + "".join(sorted(attributes) + lines)
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return WRITTEN + HEAD + "\nclass TensorMethods:\n" + indented


#: Attributes that can be set.
OWN = """data: Tensor
names: tuple[str | None, ...]
real: Tensor
imag: Tensor
grad_fn: Any
layout: Any
"""
#: What the class itself says.
_OPERATORS = (
    "__repr__",
    "__reversed__",
    "__contains__",
    "__format__",
    "__rdiv__",
    "__reduce_ex__",
    "names",
)


# ---- modules ----------------------------------------------------------------------------------------------------


def names(module: types.ModuleType) -> str:
    """A module: what it declares is written out, the rest is imported from where it is defined."""
    place = module.__name__.removeprefix("flambeau").removeprefix(".") or "flambeau"
    declared = {n: d for d in DECLARED if place in d.free for n in d.names}
    stored = {n + "_": d for d in DECLARED if place == "flambeau" and d.in_place for n in d.names}
    every = {n: d for d in DECLARED if "flambeau" in d.free for n in d.names} if place == "special" else {}
    head, functions, imports, others = HEAD, "", "", ""
    for name in sorted({*module.__all__, *(["__version__"] if place == "flambeau" else [])}):
        value = getattr(module, name)
        made = declared.get(name) or next((d for d in every.values() if _same(d.call, value)), None)
        if made is not None and not is_elsewhere(made):
            functions += function(name, made)
        elif name in stored:
            functions += function(name, stored[name], stores=True)
        elif name in _OF_HEAD:
            head = re.sub(rf"\bimport (.*)\b{name}$", rf"import \1{name} as {name}", head, flags=re.M)
            head = head.replace(f"import {name},", f"import {name} as {name},")
        elif home := _home(module, value):
            imports += f"from {home[0]} import {home[1]} as {name}\n"
        elif isinstance(value, type):
            others += f"class {name}(Tensor): ...\n"
        else:
            others += f"{name}: {builtin(_constant(value))}\n"
    return WRITTEN + head * bool(functions + others) + imports + "\n" + others + functions


_OF_HEAD = ("Generator", "Size", "Tensor", "return_types")


def is_elsewhere(made: Declaration) -> bool:
    """Whether nothing is known of a Python function but what is written where it is defined."""
    call = getattr(made.call, "__wrapped__", made.call)
    home = sys.modules.get(getattr(call, "__module__", None) or "")
    known = getattr(home, getattr(call, "__name__", ""), None)
    return getattr(known, "__wrapped__", known) is call and forms(made, made.name, False)[0].endswith("-> Any")


def _same(call: Callable[..., Any], value: Any) -> bool:
    return getattr(value, "__wrapped__", value) is getattr(call, "__wrapped__", call)


def _home(module: types.ModuleType, value: Any) -> tuple[str, str] | None:
    """The module that defines a value, and its name there; None of what has none."""
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, types.ModuleType):
        parent, _, last = value.__name__.rpartition(".")
        return parent, last
    home, known = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if known in ("Tensor", "Size") and home == "flambeau":
        return "flambeau.runtime.recorder", known
    return (home, known) if callable(value) and known and home not in (None, "builtins", module.__name__) else None


def _constant(value: Any) -> str:
    kind = type(value).__name__
    return {"DType": "_DType", "float": "float", "str": "str", "Generator": "Generator"}.get(kind, "Any")


def tuples() -> str:
    """The named tuples of results."""
    text = WRITTEN + "\nfrom typing import NamedTuple\n\nfrom flambeau.runtime.recorder import Tensor\n"
    for name in dir(return_types):
        text += f"\nclass {name}(NamedTuple):\n"
        fields = getattr(return_types, name)._fields
        text += "".join(f"    {field}: {_SEVERAL.get((name, field), 'Tensor')}\n" for field in fields)
    return text


#: Fields that have several tensors.
_SEVERAL = {("histogramdd", "bin_edges"): "tuple[Tensor, ...]"}


def main() -> None:
    for path, text in stubs().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
