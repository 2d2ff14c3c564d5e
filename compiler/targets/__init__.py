"""The machines that code is generated for: one frozen `Target` each, a module per family.

In: a name from `Options.target`. Out: `find(name)`. Nothing else in the compiler asks which machine it is.
Next: `target.py`; `backend.py`, which compiles for one.
"""

from __future__ import annotations

from functools import cache

from flambeau.compiler.targets import aarch64, nvptx, x86_64
from flambeau.compiler.targets.target import Target

__all__ = ["KNOWN", "Target", "check_runs_here", "find"]

#: Every target but "host", the machine that this process runs on.
KNOWN: dict[str, Target] = {t.name: t for t in (x86_64.V3, x86_64.V4, aarch64.NEON)} | nvptx.TARGETS


@cache
def find(name: str) -> Target:
    """The target called `name`. Raises ValueError with the known names."""
    if name == "host":
        from flambeau.compiler.targets import host

        return host.target()
    if name not in KNOWN:
        raise ValueError(f"[target] unknown target '{name}'. Choose one of {', '.join(sorted(['host', *KNOWN]))}.")
    return KNOWN[name]


@cache
def check_runs_here(name: str) -> None:
    """Raise ValueError where this process cannot run code for the target called `name`."""
    target = find(name)
    if name == "host":
        return
    from flambeau.compiler.targets import host

    if (obstacle := host.obstacle(target)) is not None:
        here = ", ".join(["host", *(t for t in KNOWN if host.obstacle(KNOWN[t]) is None)])
        raise ValueError(
            f"[target] code for {name} cannot run here: {obstacle}. Choose {here}; flambeau.export compiles for others."
        )
