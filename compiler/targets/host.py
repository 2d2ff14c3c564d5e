"""The machine this process runs on, as LLVM and sysfs describe it.

Next: `__init__.py` for the fields.
"""

from __future__ import annotations

import marshal
import sys
from pathlib import Path

from flambeau.compiler.caches.identity import digest, installed
from flambeau.compiler.caches.object_store import ObjectStore
from flambeau.compiler.targets.target import Target
from flambeau.runtime import _binding

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def target() -> Target:
    """The host with all its features; cache sizes fall back to those of a small desktop core."""
    triple, cpu, features = _described()
    vector_bytes, registers = _vectors(features)
    text = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items()))
    if vector_bytes == 64:
        text += ",-prefer-256-bit"
    sizes, ways = cache_sizes(_CACHES), cache_ways(_CACHES)
    return Target(
        name="host",
        triple=triple,
        cpu=cpu,
        features=text,
        vector_bytes=vector_bytes,
        registers=registers,
        l1=sizes.get(1, 32 << 10),
        l2=sizes.get(2, 1 << 20),
        l3=sizes.get(3, 8 << 20),
        l1_ways=ways.get(1, 8),
        l2_ways=ways.get(2, 8),
    )


def _described() -> tuple[str, str, dict[str, bool]]:
    """LLVM's triple, CPU and features. What it said of this CPU is in the user's cache: a start from there loads no LLVM."""
    store, seen, version = ObjectStore.of_user("host"), _binding.cpu_identity(), installed("llvmlite")
    if store is None or seen is None or not version:
        return _asked()
    name = digest(seen, version, sys.platform)
    match _loaded(store.read(name) or b""):
        case str(triple), str(cpu), dict(features):
            return triple, cpu, features
    found = _asked()
    store.write(name, marshal.dumps(found))
    return found


def _loaded(content: bytes) -> object:
    try:
        return marshal.loads(content)
    except (EOFError, ValueError, TypeError):
        return None


def _asked() -> tuple[str, str, dict[str, bool]]:
    import llvmlite.binding as llvm

    return llvm.get_process_triple(), llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features())


def obstacle(target: Target) -> str | None:
    """Why this process cannot run code for `target`; None where it can."""
    import llvmlite.binding as llvm

    if target.family != "cpu":
        return f"it is for a {target.family.upper()}"
    wanted, found = _system(target.triple), _system(llvm.get_process_triple())
    if wanted != found:
        return f"it is for {wanted}, and this is {found}"
    features = llvm.get_host_cpu_features()
    lacking = [name for name in target.requires if not features.get(name)]
    return f"this CPU has no {', '.join(lacking)}" if lacking else None


def _system(triple: str) -> str:
    """Architecture and operating system of a triple."""
    architecture, *_, system = triple.split("-")[:3]
    return f"{architecture} {system}"


def _vectors(features: dict[str, bool]) -> tuple[int, int]:
    """Vector width in bytes and number of vector registers."""
    if all(features.get(name) for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        return 64, 32
    if features.get("avx2"):
        return 32, 16
    return 16, 32 if features.get("neon") else 16


def cache_sizes(folder: Path) -> dict[int, int]:
    """Bytes of data (or unified) cache per level, from sysfs; levels it does not tell are absent."""
    sizes = _of_caches(folder, "size")
    return {level: int(size.rstrip("KM")) << {"K": 10, "M": 20}.get(size[-1], 0) for level, size in sizes.items()}


def cache_ways(folder: Path) -> dict[int, int]:
    """Lines of one set per level, likewise."""
    ways = {level: int(text) for level, text in _of_caches(folder, "ways_of_associativity").items()}
    return {level: count for level, count in ways.items() if count > 0}


def _of_caches(folder: Path, what: str) -> dict[int, str]:
    """What sysfs says of the caches for data, per level: a number with or without K or M."""
    found: dict[int, str] = {}
    for index in folder.glob("index*"):
        try:
            kind, level, text = ((index / name).read_text().strip() for name in ("type", "level", what))
        except OSError:
            continue
        if kind != "Instruction" and level.isdigit() and text.rstrip("KM").isdigit():
            found[int(level)] = text
    return found
