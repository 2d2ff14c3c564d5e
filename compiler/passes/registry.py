"""Passes by name: the built-in ones and those that other packages offer.

In: a pass's name, as given to `flambeau-opt`. Out: its class. Another package adds a pass with the entry point
group `flambeau.passes`: the entry's name is the pass's name, its value the `Pass` subclass.
"""

from __future__ import annotations

from typing import Any

from flambeau.compiler.passes import Pass
from flambeau.dialects.entry_points import PASSES
from flambeau.dialects.registry import Registry

#: Name -> "module:class". Modules are imported when asked for.
BUILT_IN = {
    "simplify": "flambeau.compiler.passes.simplify:Simplify",
    "transpose-products": "flambeau.compiler.passes.transpose_products:TransposeProducts",
    "push-broadcasts": "flambeau.compiler.passes.push_broadcasts:PushBroadcasts",
    "cse": "flambeau.compiler.passes.cse:CommonSubexpressions",
    "dead-code": "flambeau.compiler.passes.dead_code:DeadCode",
    "legalise-complex": "flambeau.compiler.passes.legalise_complex:LegaliseComplex",
    "legalise-dtypes": "flambeau.compiler.passes.legalise_dtypes:LegaliseDtypes",
    "legalise-devices": "flambeau.compiler.passes.legalise_devices:LegaliseDevices",
    "canonical-nans": "flambeau.compiler.passes.canonical_nans:CanonicalNans",
    "reference-calls": "flambeau.compiler.passes.reference_calls:ReferenceCalls",
    "assign-orders": "flambeau.compiler.passes.assign_orders:AssignOrders",
    "cluster": "flambeau.compiler.passes.cluster:ClusterKernels",
}


def _no_pass(name: str, found: Any) -> str | None:
    fits = isinstance(found, type) and issubclass(found, Pass) and getattr(found, "name", None) == name
    return None if fits else f"Make it a Pass subclass with name '{name}'."


PASS_REGISTRY: Registry[type[Pass]] = Registry(PASSES, "pass", BUILT_IN, _no_pass)
names, origins, offer = PASS_REGISTRY.names, PASS_REGISTRY.origins, PASS_REGISTRY.offer
find, load = PASS_REGISTRY.find, PASS_REGISTRY.load
