"""The ops, families and dialects that other packages offer: entry-point groups `flambeau.ops`, `flambeau.families` and
`flambeau.dialects`.

In: names. Out: op records, registered beside the built-in ones; MLIR dialects, loaded into every context that reads programs. A
plug-in is imported when something of it is used. Next: `registry.py`; `compiler/plugins/foreign.py`, what the compiler makes of
plug-ins.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects import entry_points
from flambeau.dialects.entry_points import DIALECTS, FAMILIES, OPS, PASSES, Offer, PluginError, is_interrupt, place
from flambeau.dialects.families import FAMILY_REGISTRY as families
from flambeau.dialects.record import REGISTRY, OpRecord
from flambeau.dialects.registry import Registry

__all__ = [
    "DIALECTS",
    "FAMILIES",
    "OPS",
    "PASSES",
    "Offer",
    "PluginError",
    "dialects",
    "families",
    "is_interrupt",
    "load_dialects",
    "load_op",
    "load_ops",
    "offers",
    "op_offer",
    "ops",
    "place",
]

offers = entry_points.offers


def _no_op(name: str, found: Any) -> str | None:
    fits = isinstance(found, OpRecord) and found.name == name
    return None if fits else f"Make it an OpRecord with name '{name}'."


def _no_dialect(name: str, found: Any) -> str | None:
    fits = callable(getattr(found, "load", None))
    return None if fits else "Make it a class of the MLIR bindings' `dialects.ext.Dialect`, which has `load()`."


#: Ops of plug-ins. Built-in ones register themselves, by being made, in `record.REGISTRY`.
ops: Registry[OpRecord] = Registry(OPS, "op", {}, _no_op)
dialects: Registry[Any] = Registry(
    DIALECTS, "dialect", dict.fromkeys(("tape", "plan"), "flambeau.dialects"), _no_dialect
)


def op_offer(name: str) -> Offer | None:
    """The offer of the op called `name`, if a plug-in has it."""
    return ops.offer(name)


def load_op(name: str) -> None:
    """Register the record of the op called `name` if a plug-in offers it. Raises PluginError."""
    offer = op_offer(name)
    if offer is not None:
        ops.load(offer)


def load_ops() -> list[PluginError]:
    """Register the records of all plug-ins; returns what went wrong."""
    errors = []
    for offer in ops.usable():
        if offer.name in REGISTRY:
            continue
        try:
            ops.load(offer)
        except PluginError as e:
            errors.append(e)
    return errors


def load_dialects() -> list[PluginError]:
    """Load the dialects of all plug-ins into the current MLIR context; returns what went wrong."""
    errors = []
    for offer in dialects.usable():
        try:
            dialects.load(offer).load()
        except PluginError as e:
            errors.append(e)
        except Exception as e:
            errors.append(PluginError(f"[plug-in] dialect '{offer.name}' of {offer.package}: {place(e, offer)}."))
    return errors
