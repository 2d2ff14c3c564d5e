"""Whole programs on disk: a plan and its kernels' texts under the structural hash of the graph they came from.

In: graphs and `Options`. Out: `Program`s. What is stored is plain data (marshal); object code lies in the kernel cache.
A program that is found needs no pass, no code generator and no MLIR. Next: `driver.py`.
"""

from __future__ import annotations

import marshal
from functools import cache
from pathlib import Path

from flambeau.compiler import foreign, kernel_cache, targets
from flambeau.compiler import options as options_module
from flambeau.compiler.identity import digest, graph_bytes
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.object_store import ObjectStore
from flambeau.compiler.options import Options
from flambeau.compiler.plan import Program
from flambeau.dialects.graph import Graph
from flambeau.runtime.plan_spec import PlanSpec

_LIMIT = 128 << 20  # bytes of all entries


class PlanCache:
    """Programs by key, in an `ObjectStore`; without one, nothing is kept."""

    def __init__(self, store: ObjectStore | None) -> None:
        self.store = store
        self.hits = self.misses = 0

    def find(self, name: str) -> Program | None:
        """The program stored as `name`. An entry that cannot be read is discarded."""
        program = None
        if self.store is not None and (data := self.store.read(name)) is not None:
            program = _decode(data)
            if program is None:
                self.store.discard(name)
        self.hits += program is not None
        self.misses += program is None
        return program

    def insert(self, name: str, program: Program) -> None:
        if self.store:
            self.store.write(name, _encode(program))


def key(graph: Graph, options: Options) -> str:
    """A program's name: structure, options that shape it, target, compiler, plug-ins and wheels. Locations have no part in it."""
    shape = f"{options.fuse} {options.max_cluster_ops} {targets.find(options.target)!r}"
    return digest(graph_bytes(graph), shape, toolchain(), *foreign.sources(graph, options))


@cache
def toolchain() -> str:
    """A digest of everything that turns a graph into a program: our sources, and what `kernel_cache` depends on."""
    import flambeau.dialects
    from flambeau.runtime import plan_spec

    folders = [Path(__file__).parent, *map(Path, flambeau.dialects.__path__)]
    files = [path for folder in folders for path in folder.rglob("*.py")] + [Path(plan_spec.__file__)]
    return digest(kernel_cache.toolchain(), *(path.read_bytes() for path in sorted(set(files))))


@cache
def shared() -> PlanCache:
    """The process's cache, in `FLAMBEAU_CACHE` or the user's cache folder."""
    return PlanCache(ObjectStore.open(options_module.default_cache_dir() / "plans", _LIMIT))


def _encode(program: Program) -> bytes:
    kernels = tuple((k.text, k.label) for k in program.kernels)
    return marshal.dumps((tuple(program.spec), kernels, program.errors), 2)


def _decode(data: bytes) -> Program | None:
    try:
        spec, kernels, errors = marshal.loads(data)
        return Program(PlanSpec(*spec), tuple(KernelSource(*k) for k in kernels), tuple(errors))
    except (ValueError, EOFError, TypeError):
        return None
