"""Whole programs on disk: a plan and its kernels' texts under the structural hash of the graph they came from.

In: graphs and `Options`. Out: `Program`s. What is stored is plain data (marshal); object code lies in the kernel cache.
A program that is found needs no pass, no code generator and no MLIR. A graph with symbols may have several programs, each
with guards of its own: entries of the same name and a number. Next: `driver.py`.
"""

from __future__ import annotations

import marshal
import os
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import flambeau.dialects
from flambeau.compiler import targets
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.caches.identity import digest
from flambeau.compiler.caches.object_store import ObjectStore
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.plans.program import Program
from flambeau.compiler.plugins import foreign
from flambeau.dialects.graph import Graph
from flambeau.dialects.identity import graph_bytes
from flambeau.dialects.size_programs import fits
from flambeau.runtime import plan_spec
from flambeau.runtime.plan_spec import PlanSpec

_LIMIT = 128 << 20  # bytes of all entries
MOST_VARIANTS = 8  #: programs of one graph with symbols


class PlanCache:
    """Programs by key, in an `ObjectStore`; without one, nothing is kept."""

    def __init__(self, store: ObjectStore | None) -> None:
        self.store = store
        self.hits = self.misses = 0

    def find(self, name: str, sizes: Sequence[int] = ()) -> Program | None:
        """The program stored as `name`; of a graph with symbols, one that serves these sizes."""
        if sizes:
            return next((p for p in self.variants(name) if fits(p.spec, sizes)), None)
        return self._read(name)

    def _read(self, name: str) -> Program | None:
        """An entry. One that cannot be read is discarded."""
        program = None
        if self.store is not None and (data := self.store.read(name)) is not None:
            program = _decode(data)
            if program is None:
                self.store.discard(name)
        self.hits += program is not None
        self.misses += program is None
        return program

    def variants(self, name: str) -> list[Program]:
        """The programs of a graph with symbols, in the order in which they were stored."""
        found = []
        for number in range(MOST_VARIANTS):
            program = self._read(_numbered(name, number))
            if program is None:
                break
            found.append(program)
        return found

    def insert(self, name: str, program: Program, sizes: Sequence[int] = ()) -> None:
        """Store a program; that of a graph with symbols beside its others, unless there is one for these sizes."""
        if self.store is None:
            return
        if sizes:
            known = self.variants(name)
            if len(known) == MOST_VARIANTS or any(fits(p.spec, sizes) for p in known):
                return
            name = _numbered(name, len(known))
        self.store.write(name, _encode(program))


def key(graph: Graph, options: Options) -> str:
    """A program's name: structure, options that shape it, target, compiler, plug-ins and wheels. Locations have no part in it."""
    strict = options.strict_sizes and bool(graph.sizes)
    chosen = options.fuse, options.max_cluster_ops, strict, options.through_mlir, options.on_host
    shape = f"{chosen} {targets.find(options.target)!r}"
    if options.schedules:
        shape += f" {options.schedules!r}"
    if options.devices:
        shape += f" {[(row, targets.find(row.partition('=')[2])) for row in options.devices]!r}"
    return digest(graph_bytes(graph), shape, toolchain(), *foreign.sources(graph, options))


@cache
def toolchain() -> str:
    """A digest of everything that turns a graph into a program: our sources, and what `kernel_cache` depends on. What it is for
    files of these names, sizes and times is in the user's cache: a start from there reads none of them."""
    compiler = kernel_cache.toolchain()
    files = sorted(_files(str(Path(__file__).parent.parent), *flambeau.dialects.__path__))
    files.append(_seen(os.stat(plan_spec.__file__), plan_spec.__file__))
    store, name = ObjectStore.of_user("toolchain", 1 << 20), digest(compiler, repr(files))
    if store is not None and (known := store.read(name)) is not None:
        return known.decode()
    found = digest(compiler, *(Path(path).read_bytes() for path, *_ in files))
    settled = time.time_ns() - _SETTLED_NS
    if store is not None and all(changed < settled for *_, changed in files):
        store.write(name, found.encode())
    return found


_SETTLED_NS = 2_000_000_000  # what was changed later may change again without showing it
_File = tuple[str, int, int, int]


def _files(*folders: str) -> Iterator[_File]:
    """The Python files below some folders, as `_seen`."""
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from _files(entry.path)
                elif entry.name.endswith(".py"):
                    yield _seen(entry.stat(), entry.path)


def _seen(status: os.stat_result, path: str) -> _File:
    """All that changes with a file's content: its size, the time given to it, and when it was changed at all."""
    return path, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@cache
def shared() -> PlanCache:
    """The process's cache, in `FLAMBEAU_CACHE` or the user's cache folder."""
    return PlanCache(ObjectStore.of_user("plan", _LIMIT))


def _numbered(name: str, number: int) -> str:
    return f"{name}{number:02x}"


def _encode(program: Program) -> bytes:
    kernels = tuple((k.text, k.label, k.device, k.schedule) for k in program.kernels)
    return marshal.dumps((tuple(program.spec), kernels, program.errors, program.pinned, program.unread), 2)


def _decode(data: bytes) -> Program | None:
    try:
        spec, kernels, errors, pinned, unread = marshal.loads(data)
        return Program(PlanSpec(*spec), tuple(KernelSource(*k) for k in kernels), tuple(errors), pinned, unread)
    except (ValueError, EOFError, TypeError):
        return None
