"""Passes by name: the built-in ones and those that other packages offer.

In: a pass's name, as given to `flambeau-opt`. Out: its class. Another package adds a pass with the entry point
group `flambeau.passes`: the entry's name is the pass's name, its value the `Pass` subclass.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from flambeau.compiler.passes import Pass

GROUP = "flambeau.passes"

#: Name -> "module:class". Modules are imported when asked for.
BUILT_IN = {
    "simplify": "flambeau.compiler.passes.simplify:Simplify",
    "transpose-products": "flambeau.compiler.passes.transpose_products:TransposeProducts",
    "cse": "flambeau.compiler.passes.cse:CommonSubexpressions",
    "dead-code": "flambeau.compiler.passes.dead_code:DeadCode",
    "cluster": "flambeau.compiler.passes.cluster:ClusterKernels",
}


def names() -> list[str]:
    """Every pass that `find` knows, built-in ones first."""
    return [*BUILT_IN, *sorted({e.name for e in entry_points(group=GROUP)} - BUILT_IN.keys())]


def find(name: str) -> type[Pass]:
    """The class of the pass called `name`. Raises ValueError with the known names when there is none."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    for entry in entry_points(group=GROUP, name=name):
        return _checked(entry.name, entry.load())
    raise ValueError(f"[passes] there is no pass named '{name}'. Known passes: {', '.join(names())}.")


def _checked(name: str, found: Any) -> type[Pass]:
    if not (isinstance(found, type) and issubclass(found, Pass)) or getattr(found, "name", None) != name:
        raise TypeError(f"[passes] entry point '{name}' gives {found!r}. Make it a Pass subclass with name '{name}'.")
    return found
