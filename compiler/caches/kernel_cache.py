"""Machine code by kernel text: in memory, else on disk, else compiled.

In: `KernelSource`s and `Options`. Out: addresses. Each kernel is one entry of its own (`object_store.py`),
so equal layers, other programs and other processes share it. A lookup imports neither MLIR nor a code
generator. `get` compiles what is missing; `find` only looks; worker processes call `compile_and_store`
and the parent finds the entry on disk, or is handed the object for `insert` or `adopt`. Next: `backend/loader.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from flambeau.compiler import targets
from flambeau.compiler.backend import loader
from flambeau.compiler.caches.identity import installed
from flambeau.compiler.caches.object_store import ObjectStore
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.dialects.aval import CPU
from flambeau.dialects.locks import process_lock
from flambeau.runtime import devices

#: The version of `fb_kernel` in `flambeau/runtime.h` that kernels are compiled for.
ABI_VERSION = 1

#: What turns kernel text into bytes, and into entries; a change in any of them makes old entries unreachable.
_CODE = (
    "backend/object_code.py",
    "backend/literals.py",
    "backend/mlir.py",
    "caches/object_store.py",
    "export/elf.py",
    "targets/__init__.py",
    "targets/aarch64.py",
    "targets/x86_64.py",
    "targets/host.py",
    "targets/target.py",
)


@dataclass
class Statistics:
    """Where requests were answered from, and how many entries on disk did not load."""

    memory: int = 0
    disk: int = 0
    compiled: int = 0
    unloadable: int = 0


class KernelCache:
    """Addresses by key, backed by an `ObjectStore` or, without one, by memory alone."""

    def __init__(self, store: ObjectStore | None) -> None:
        self.store = store
        self.statistics = Statistics()
        self._addresses: dict[str, int] = {}
        self._lock = process_lock()

    def get(self, sources: Sequence[KernelSource], options: Options) -> list[int]:
        """The address of each kernel, compiled now if it is nowhere. Raises CompileError."""
        return [self.find(source, options) or self._compile(source, options) for source in sources]

    def find(self, source: KernelSource, options: Options) -> int | None:
        """The address if the kernel is in memory or on disk. Dumping asks for the stages, so it ignores the disk."""
        _check_runs(source, options)
        if source.is_host:
            from flambeau.compiler.host_calls import addresses  # few programs have one

            return addresses.address(source)
        name = key(source, options)
        with self._lock:
            known = self._addresses.get(name)
            if known is not None:
                self.statistics.memory += 1
                return known
            code = self._stored(name, options)
            return None if code is None else self._load_stored(source, name, code)

    def holds(self, source: KernelSource, options: Options) -> bool:
        """Whether the kernel is in memory, or seems to be on disk: `find` has the last word."""
        if source.is_host:
            return True
        name = key(source, options)
        return name in self._addresses or bool(self.store and not options.dump and self.store.holds(name))

    def adopt(self, source: KernelSource, options: Options, code: bytes) -> int:
        """Load and store an object that a worker compiled on behalf of this process."""
        self.statistics.compiled += 1
        if self.store:
            self.store.write(key(source, options), code)
        return self.insert(source, options, code)

    def insert(self, source: KernelSource, options: Options, code: bytes) -> int:
        """Load an object that was compiled elsewhere. Raises ValueError if it is for another machine."""
        name = key(source, options)
        _check_runs(source, options)
        with self._lock:
            if name not in self._addresses:
                self._addresses[name] = _load(source, code)
            return self._addresses[name]

    def compile_and_store(self, source: KernelSource, options: Options) -> bytes:
        """Compile without loading: what a worker does. Returns the object, also written to disk. Raises CompileError."""
        from flambeau.compiler.backend import object_code  # a start from the caches does without

        name = key(source, options)
        code = self._stored(name, options)
        if code is None:
            code = object_code.compile_code(source, options)
            self.statistics.compiled += 1
            if self.store:
                self.store.write(name, code)
        return code

    def _compile(self, source: KernelSource, options: Options) -> int:
        return self.insert(source, options, self.compile_and_store(source, options))

    def _stored(self, name: str, options: Options) -> bytes | None:
        return None if self.store is None or options.dump else self.store.read(name)

    def _load_stored(self, source: KernelSource, name: str, code: bytes) -> int | None:
        """An entry whose checksum holds may still not link: then it is compiled anew."""
        try:
            address = _load(source, code)
        except loader.LoadError:
            self.statistics.unloadable += 1
            if self.store:
                self.store.discard(name)
            return None
        self.statistics.disk += 1
        self._addresses[name] = address
        return address


def _check_runs(source: KernelSource, options: Options) -> None:
    if source.device == CPU:
        targets.check_runs_here(options.target)


def _load(source: KernelSource, code: bytes) -> int:
    """The address of a kernel's code, once it is where it runs."""
    if source.device == CPU:
        return loader.load(code)
    return devices.find(source.device).handle.load(code)


@lru_cache(maxsize=4096)
def key(source: KernelSource, options: Options) -> str:
    """A kernel's name on disk. The label and the dump folder have no part in it."""
    target = targets.find(options.target_of(source.device))
    place = "" if source.device == CPU else f"{source.device}\0"
    digest = hashlib.sha256(f"{toolchain()}\0{target!r}\0{place}".encode())
    digest.update(source.text.encode())
    return digest.hexdigest()


@cache
def toolchain() -> str:
    """A digest of the compiler's sources, the versions of what it is built on, and the kernel ABI."""
    folder = Path(__file__).parent.parent
    mlir = installed("torch_mlir") or installed("mlir")
    digest = hashlib.sha256(f"{ABI_VERSION} {_llvm_version()} {mlir}".encode())
    for name in _CODE:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _llvm_version() -> str:
    if found := installed("llvmlite"):
        return found
    import llvmlite

    return llvmlite.__version__


@cache
def shared() -> KernelCache:
    """The process's cache, in `FLAMBEAU_CACHE` or the user's cache folder."""
    return KernelCache(ObjectStore.of_user("kernel"))


def get(sources: Sequence[KernelSource], options: Options) -> list[int]:
    """`shared().get`: the address of each kernel."""
    return shared().get(sources, options)
