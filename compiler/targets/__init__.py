"""The machines that code is generated for: one frozen `Target` each, a module per family.

In: a name from `Options.target`. Out: `find(name)`. Other packages offer more in the entry point group
`flambeau.targets`. Nothing else in the compiler asks which machine it is.
Next: `target.py`; `backend/object_code.py`, which compiles for one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from flambeau.compiler.targets import aarch64, nvptx, x86_64
from flambeau.compiler.targets.target import Target
from flambeau.dialects.entry_points import TARGETS
from flambeau.dialects.registry import Registry

__all__ = ["KNOWN", "REGISTRY", "Target", "check_runs_here", "find", "is_known"]

#: Every target of ours but "host", the machine that this process runs on.
KNOWN: dict[str, Target] = x86_64.TARGETS | aarch64.TARGETS | nvptx.TARGETS


def _no_target(name: str, found: Any) -> str | None:
    fits = isinstance(found, Target) and found.name == name
    return None if fits else f"Make it a Target with name '{name}'."


#: These and what other packages offer in the group `flambeau.targets`.
REGISTRY: Registry[Target] = Registry(TARGETS, "target", KNOWN, _no_target)


def is_known(name: str) -> bool:
    """Whether there is a target of that name. Imports no plug-in."""
    return name == "host" or name in KNOWN or REGISTRY.offer(name) is not None


@cache
def find(name: str) -> Target:
    """The target called `name`. Raises ValueError with the known names, PluginError for a plug-in's that cannot be used."""
    if name == "host":
        from flambeau.compiler.targets import host  # that module imports this one

        return host.target()
    if not is_known(name):
        raise ValueError(
            f"[target] unknown target '{name}'. Choose one of {', '.join(sorted(['host', *REGISTRY.names()]))}."
        )
    return REGISTRY.find(name)


@cache
def check_runs_here(name: str) -> None:
    """Raise ValueError where this process cannot run code for the target called `name`."""
    target = find(name)
    if name == "host":
        return
    from flambeau.compiler.targets import host  # that module imports this one

    if (obstacle := host.obstacle(target)) is not None:
        here = ", ".join(["host", *(t for t in KNOWN if host.obstacle(KNOWN[t]) is None)])
        raise ValueError(
            f"[target] code for {name} cannot run here: {obstacle}. Choose {here}; flambeau.export compiles for others."
        )
