"""The machines that code is generated for: one frozen `Target` each, a module per family.

In: a name from `Options.target`. Out: `find(name)`. Nothing else in the compiler asks which machine it is.
Next: `backend.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Target:
    """A machine.

    `triple`, `cpu` and `features` are LLVM's names; `vector_bytes` and `registers` describe the vector
    register file; `l1`, `l2`, `l3` are data cache sizes in bytes as one core sees them. `family` names the set of code
    generators.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 8 << 20
    family: str = "cpu"  # | "gpu"

    def lanes(self, itemsize: int) -> int:
        """Elements of `itemsize` bytes in one vector register."""
        return self.vector_bytes // itemsize


@cache
def find(name: str) -> Target:
    """The target called `name`. Raises ValueError with the known names."""
    from flambeau.compiler.targets import aarch64, host, nvptx, x86_64

    if name == "host":
        return host.target()
    known = {t.name: t for t in (x86_64.V3, x86_64.V4, aarch64.NEON)} | nvptx.TARGETS
    if name not in known:
        raise ValueError(f"[target] unknown target '{name}'. Choose one of {', '.join(sorted(['host', *known]))}.")
    return known[name]
