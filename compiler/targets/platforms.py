"""Where exported programs run: a machine, an operating system, and how its linkers call the pair.

In: a name from `flambeau.export(target=...)`. Out: `find(name)`. Next: `compiler/export/exporter.py`.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from flambeau.compiler import targets
from flambeau.compiler.targets import Target


@dataclass(frozen=True)
class Platform:
    """`target` names the machine (`targets.find`); `zig` is Zig's name of machine, system and C library; `machine` is
    what `uname -m` says there; `emulator` runs its static executables elsewhere."""

    name: str
    target: str
    zig: str
    machine: str
    emulator: str

    @property
    def is_here(self) -> bool:
        """Whether this process runs on such a system, so that the C compiler at hand makes programs for it."""
        return sys.platform == "linux" and platform.machine() == self.machine

    def machine_target(self) -> Target:
        return targets.find(self.target)


PLATFORMS = {
    p.name: p
    for p in (
        Platform("x86_64-linux", "x86-64-v3", "x86_64-linux-musl", "x86_64", "qemu-x86_64-static"),
        Platform("x86_64_v4-linux", "x86-64-v4", "x86_64-linux-musl", "x86_64", "qemu-x86_64-static"),
        Platform("aarch64-linux", "aarch64-neon", "aarch64-linux-musl", "aarch64", "qemu-aarch64-static"),
    )
}


def find(name: str) -> Platform:
    """The platform called `name`. Raises ValueError with the known names."""
    if name not in PLATFORMS:
        raise ValueError(f"[export] unknown target '{name}'. Choose one of {', '.join(sorted(PLATFORMS))}.")
    return PLATFORMS[name]
