"""What happened to each program: the data behind `flambeau.explain()`.

In: events of the driver. Out: `programs()`, one `ProgramReport` each, and `totals()`. Nothing here prints.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flambeau.compiler.caches import kernel_cache, plan_cache, private
from flambeau.compiler.options import Options
from flambeau.compiler.plans.program import Program
from flambeau.compiler.workers import pool
from flambeau.dialects import bugs
from flambeau.dialects.graph import Graph
from flambeau.dialects.size_guards import Guard
from flambeau.dialects.size_programs import guards_of

_KEPT = 1024  # programs, and files of those that failed


@dataclass
class ProgramReport:
    """One program.

    tier      "generic" or "fused": what runs it now.
    origin    where the fused plan came from: "compiled" here, by a "worker", or from "disk"; None without one.
    seconds   compile and link time, workers' time included. `generic_seconds`: preparing the baseline tier.
    kernels   label of each kernel; `schedules` the text of what each was made by, "" where it goes with another one. `steps` counts
              their calls; `arena_bytes` is temporary memory (0 where that depends on symbols).
    patterns  of `compiler_options(schedules=...)`, and which of them are `unread`: they meant none of the kernels.
    error     why it was not fused, with `reproducer`, a file.
    symbols   how many extents are known at run time only. `plans`: the guards of each plan, none for all sizes;
              `pinned`: why a plan serves one value only where it should serve more; `is_full`: sizes came that no plan
              serves, and there are too many plans already.
    """

    key: str
    ops: int
    inputs: int
    outputs: int
    mode: str
    tier: str = "generic"
    origin: str | None = None
    seconds: float = 0.0
    generic_seconds: float = 0.0
    kernels: list[str] = field(default_factory=list)
    schedules: list[str] = field(default_factory=list)
    patterns: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    steps: int = 0
    arena_bytes: int = 0
    error: str | None = None
    reproducer: str | None = None
    symbols: int = 0
    plans: list[tuple[Guard, ...]] = field(default_factory=list)
    pinned: str | None = None
    is_full: bool = False

    def fused(self, program: Program, origin: str, seconds: float) -> None:
        """A fused plan is in use from now on."""
        self.tier, self.origin, self.seconds = "fused", origin, seconds
        self.kernels = [k.label for k in program.kernels]
        self.schedules = [k.schedule for k in program.kernels]
        self.unread = program.unread
        self.steps = len(program.spec.steps)
        self.plans.append(tuple(guards_of(program.spec)))
        self.pinned = program.pinned or self.pinned
        if not self.symbols:
            self.arena_bytes = program.spec.exprs[program.spec.arena_bytes][1]

    def failed(self, error: str, path: str) -> None:
        self.error, self.reproducer = error, path


_programs: deque[ProgramReport] = deque(maxlen=_KEPT)


def add(key: str, graph: Graph, options: Options) -> ProgramReport:
    """Begin the report of a program."""
    found = ProgramReport(
        key,
        len(graph.nodes),
        len(graph.inputs),
        len(graph.outputs),
        options.mode,
        patterns=tuple(pattern for pattern, _ in options.schedules),
        symbols=len(graph.sizes),
    )
    _programs.append(found)
    return found


def programs() -> list[ProgramReport]:
    """The programs seen by this process, oldest first; the last 1024 of them."""
    return list(_programs)


def totals() -> dict[str, Any]:
    """Counts over all programs, and the caches' statistics."""
    plans, kernels = plan_cache.shared(), kernel_cache.shared().statistics
    known = programs()  # a copy: other threads may add some
    return {
        "programs": len(known),
        "fused": sum(p.tier == "fused" for p in known),
        "failed": sum(p.error is not None for p in known),
        "compile_seconds": sum(p.seconds for p in known),
        "plan_cache_hits": plans.hits,
        "plan_cache_misses": plans.misses,
        "kernels_from_memory": kernels.memory,
        "kernels_from_disk": kernels.disk,
        "kernels_compiled": kernels.compiled,
        "worker_processes": pool.processes(),
    }


def bug(graph: Graph, key: str, failure: Exception) -> Exception:
    """`failure` of a whole program as users are told it: the ops that may have failed, their lines, and the program in a file."""
    suspects = [n for n in graph.nodes if n.may_fail] or graph.nodes[-1:]
    names = ", ".join(dict.fromkeys(n.op.name for n in suspects)) or "run"
    lines = ", ".join(dict.fromkeys(str(n.loc) for n in suspects if n.loc is not None))
    return bugs.bug(names, failure, lines, reproducer(graph, key, str(failure)))


def reproducer(graph: Graph, key: str, error: str) -> str:
    """Write a program that did not compile, as text for `flambeau-opt`; returns the path."""
    import tempfile  # a start from the caches does without

    from flambeau.dialects.irdl import print_graph  # likewise

    content = "".join(f"// {line}\n" for line in error.splitlines()) + print_graph(graph)
    try:
        folder = private.cache_folder("failed") or Path(tempfile.mkdtemp(prefix="flambeau-"))
        path = folder / f"flambeau-{key[:16]}.mlir"
        path.write_text(content)
        for old in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime)[:-_KEPT]:
            old.unlink()
        return str(path)
    except OSError:
        return "(no file could be written)"
