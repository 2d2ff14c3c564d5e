"""Passes by name: the built-in ones and those that other packages offer.

In: a pass's name, as given to `flambeau-opt`. Out: its class. Another package adds a pass with the entry point
group `flambeau.passes`: the entry's name is the pass's name, its value the `Pass` subclass.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flambeau.compiler.passes import Pass
from flambeau.dialects import plugins
from flambeau.dialects.plugins import Offer, PluginError

#: Name -> "module:class". Modules are imported when asked for.
BUILT_IN = {
    "simplify": "flambeau.compiler.passes.simplify:Simplify",
    "transpose-products": "flambeau.compiler.passes.transpose_products:TransposeProducts",
    "push-broadcasts": "flambeau.compiler.passes.push_broadcasts:PushBroadcasts",
    "cse": "flambeau.compiler.passes.cse:CommonSubexpressions",
    "dead-code": "flambeau.compiler.passes.dead_code:DeadCode",
    "canonical-nans": "flambeau.compiler.passes.canonical_nans:CanonicalNans",
    "cluster": "flambeau.compiler.passes.cluster:ClusterKernels",
}


def names() -> list[str]:
    """Every pass that `find` knows, built-in ones first."""
    return [*BUILT_IN, *sorted({o.name for o in plugins.offers(plugins.PASSES)} - BUILT_IN.keys())]


def origins() -> dict[str, str]:
    """Where each pass comes from: "flambeau", or the package that offers it."""
    found = {o.name: o.package for o in reversed(plugins.offers(plugins.PASSES))}
    return {name: "flambeau" if name in BUILT_IN else found[name] for name in names()}


def offer(name: str) -> Offer | None:
    """The offer of the pass called `name`, None for a built-in one."""
    if name in BUILT_IN:
        return None
    return next((o for o in plugins.offers(plugins.PASSES) if o.name == name), None)


def find(name: str) -> type[Pass]:
    """The class of the pass called `name`. Raises ValueError with the known names when there is none."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    found = offer(name)
    if found is not None:
        return load(found)
    raise ValueError(f"[passes] there is no pass named '{name}'. Known passes: {', '.join(names())}.")


def load(offer: Offer) -> type[Pass]:
    """The class that a plug-in offers. Raises PluginError when it cannot be imported or is none."""
    found: Any = offer.load()
    if not (isinstance(found, type) and issubclass(found, Pass)) or getattr(found, "name", None) != offer.name:
        raise PluginError(
            f"[plug-in] pass '{offer.name}' of {offer.package} is {found!r}. "
            f"Make it a Pass subclass with name '{offer.name}'."
        )
    return found
