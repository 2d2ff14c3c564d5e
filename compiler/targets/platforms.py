"""Where exported programs run: a machine, an operating system, and how its linkers call the pair. Of ours some have names of their
own; any CPU on Linux, those of other packages (`flambeau.targets`) among them, is called as its target is, and `-linux`.

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


_SYSTEM = "-linux"


def _of_target(name: str, target: str, machine: str) -> Platform:
    return Platform(name, target, f"{machine}-linux-musl", machine, f"qemu-{machine}-static")


PLATFORMS = {
    p.name: p
    for p in (
        _of_target("x86_64-linux", "x86-64-v3", "x86_64"),
        _of_target("x86_64_v4-linux", "x86-64-v4", "x86_64"),
        _of_target("aarch64-linux", "aarch64-neon", "aarch64"),
    )
}


def find(name: str) -> Platform:
    """The platform called `name`. Raises ValueError with the known names, and for a target that is no CPU on Linux; PluginError
    for a plug-in's that cannot be used."""
    if name in PLATFORMS:
        return PLATFORMS[name]
    target = name.removesuffix(_SYSTEM)
    if target in (name, "host") or not targets.is_known(target):
        offered = [f"{t}{_SYSTEM}" for t in targets.REGISTRY.names() if t not in targets.KNOWN]
        raise ValueError(
            f"[export] unknown target '{name}'. Choose one of {', '.join(sorted([*PLATFORMS, *offered]))}."
        )
    machine = targets.find(target)
    architecture, *_, system = [*machine.triple.split("-"), "", ""][:3]
    if machine.family != "cpu" or system != "linux":
        raise ValueError(
            f"[export] target '{target}' is a {machine.family} of triple {machine.triple}. Choose a CPU on Linux."
        )
    return _of_target(name, target, architecture)
