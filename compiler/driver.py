"""From a graph to something that runs: caches first, then a compiler, now or in the background.

In: a graph and `Options`. Out: an `Executable`, which always runs and gets faster. The frontend reaches `compile` by
name. Modes: "blocking" compiles the fused program at once; "background" runs op by op and has workers compile it from
the second sight on; "off" stays op by op. Next: `stages.py` (what compiling is), `generic.py` (op by op).
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flambeau.compiler import foreign, kernel_cache, plan_cache, report
from flambeau.compiler.options import Options
from flambeau.compiler.plan import Program
from flambeau.dialects.graph import Graph
from flambeau.runtime import _binding as runtime

if TYPE_CHECKING:
    from flambeau.compiler.build import Build

_REMEMBERED = 2048
_compiled: OrderedDict[tuple[str, Options], Compiled] = OrderedDict()
_lock = threading.RLock()


def _after_fork() -> None:
    """Another thread may have held the lock."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def compile(graph: Graph, options: Options | None = None) -> Executable:
    """The executable of `graph`. Equal graphs share all that is compiled; each keeps its own lines."""
    options = options or Options.from_environment()
    key = plan_cache.key(graph, options)
    with _lock:
        found = _compiled.get((key, options))
        if found is None:
            found = _compiled[key, options] = Compiled(graph, options, key)
            if len(_compiled) > _REMEMBERED:
                _compiled.popitem(last=False)
        _compiled.move_to_end((key, options))
    found.request()
    return Executable(graph, found)


class Executable:
    """A program in the best form there is: the fused plan once that is linked, else op by op.

    Call it with one Buffer, array or number per input; it returns Buffers.
    """

    def __init__(self, graph: Graph, compiled: Compiled) -> None:
        self.graph, self.compiled = graph, compiled

    def __call__(self, inputs: Sequence[Any], donate: Sequence[int] = ()) -> list[Any]:
        """Run once. Raises what the failing op raises, with the line that recorded it; inputs are then intact."""
        plan = self.ready()
        if plan is None:
            outputs = self.interpreter(inputs)
            self.compiled.request()
            return outputs
        try:
            return plan.run(inputs, donate=donate)
        except runtime.KernelFailed as failure:
            raise self._error(inputs, failure) from None

    def ready(self) -> Any:
        """The fused plan, or None while there is none. Cheap enough to ask before every run."""
        return self.compiled.plan or self.compiled.ready()

    def wait(self, timeout: float | None = None) -> Any:
        """`ready()`, after waiting for work that is under way."""
        return self.compiled.wait(timeout)

    @property
    def report(self) -> report.ProgramReport:
        return self.compiled.report

    @cached_property
    def interpreter(self) -> Any:
        """The generic tier of this program."""
        from flambeau.compiler import ops
        from flambeau.compiler.generic import Interpreter

        start = perf_counter()
        made = Interpreter(self.graph, lambda graphs: ops.link(graphs, self.compiled.options))
        self.report.generic_seconds += perf_counter() - start
        return made

    def run_prefix(self, inputs: Sequence[Any], stop: int | None = None, everything: bool = False) -> Any:
        """What running op by op leaves, up to the op that fails: see `generic.Interpreter.run_prefix`."""
        return self.interpreter.run_prefix(inputs, stop, everything)

    def _error(self, inputs: Sequence[Any], failure: Exception) -> Exception:
        """The exception behind a failed run of the plan: that of the first op that fails when run op by op."""
        found = self.run_prefix(inputs).error
        if found is not None:
            return found
        failure.add_note("[run] no op fails when run alone. Report this as a bug.")
        return failure


class Compiled:
    """What equal graphs share: the plan, or the work that will make it."""

    def __init__(self, graph: Graph, options: Options, key: str) -> None:
        self.graph, self.options, self.key = graph, options, key
        self.plan: Any = None
        self.report = report.add(key, graph, options)
        self._requests = 0
        self._build: Any = None  # a `Build` while workers compile
        self._hopeless = options.mode == "off"

    def request(self) -> None:
        """Note that the program is wanted: the first time look on disk, the second time let workers compile it."""
        with _lock:
            self._requests += 1
            if self.plan is not None or self._hopeless or self._build is not None:
                return
            if self._requests == 1:
                self._from_disk()
            elif self.options.mode == "background":
                self._start_build(None)

    def ready(self) -> Any:
        """The plan; in blocking mode it is compiled now."""
        if self._build is not None:
            if self._build.done or self._build.lost:
                self._collect()
        elif self.options.mode == "blocking" and self.plan is None and not self._hopeless:
            with _lock:
                self._compile()
        return self.plan

    def wait(self, timeout: float | None) -> Any:
        build = self._build
        if build is not None:
            build.wait(timeout)
        return self.ready()

    def _from_disk(self) -> None:
        """Take the program from the cache. Kernels that are missing are compiled, in the way of the mode."""
        if self.options.dump:
            return
        start = perf_counter()
        program = plan_cache.shared().find(self.key)
        if program is None:
            return
        if self.options.mode == "background" or foreign.involved(self.graph, self.options):
            found = [kernel_cache.shared().find(k, self.options) for k in program.kernels]
            addresses = [address for address in found if address is not None]
            if len(addresses) < len(found):
                if self.options.mode == "background":
                    self._start_build(program)
                return
        else:
            addresses = kernel_cache.get(program.kernels, self.options)
        self._use(program, addresses, "disk", perf_counter() - start)

    def _compile(self) -> None:
        from flambeau.compiler import stages

        if self.plan is not None:
            return
        if foreign.involved(self.graph, self.options):
            self._compile_elsewhere()
            return
        start = perf_counter()
        try:
            program = stages.run(self.graph, self.options).program
            addresses = kernel_cache.get(program.kernels, self.options)
        except Exception as error:  # whatever went wrong, the program still runs op by op
            self._give_up(str(error) if str(error).startswith("[") else f"{type(error).__name__}: {error}")
            return
        self._use(program, addresses, "compiled", perf_counter() - start)
        if not self.options.dump:
            plan_cache.shared().insert(self.key, program)

    def _compile_elsewhere(self) -> None:
        """Compile now, but in a worker: code of plug-ins takes part, and that may end its process."""
        self._start_build(None)
        while self._build is not None:
            self._build.wait()
            self._collect()

    def _start_build(self, program: Program | None, options: Options | None = None) -> None:
        from flambeau.compiler.build import Build  # a start from the caches needs no processes

        self._build = Build(self.graph, options or self.options, program)

    def _collect(self) -> None:
        """Link what the workers made; what a fork left with the parent is asked for again on the next run."""
        with _lock:
            build, self._build = self._build, None
            if build is None or not build.done:
                return
            if build.error is not None:
                if not self._without_passes(build):
                    self._give_up(build.error)
                return
            start = perf_counter()
            self._use(build.program, build.link(), "worker", perf_counter() - start + build.seconds)

    def _without_passes(self, build: Build) -> bool:
        """If passes of plug-ins may be why a build failed, say so and start one without them."""
        suspects, error = foreign.passes(build.options), build.error or ""
        if not suspects or not (build.crash or any(foreign.named([s]) in error for s in suspects)):
            return False
        warnings.warn(
            f"[compile] {error}. Passes of plug-ins: {foreign.named(suspects)}. The program is compiled without them.",
            RuntimeWarning,
            stacklevel=2,
        )
        self._start_build(None, replace(self.options, plugins=False))
        return True

    def _use(self, program: Program, addresses: Sequence[int], origin: str, seconds: float) -> None:
        self.plan = runtime.Plan(tuple(program.spec), tuple(addresses))
        self.report.fused(program, origin, seconds)

    def _give_up(self, error: str) -> None:
        """The program stays op by op; say so once."""
        self._hopeless = True
        if offered := foreign.ops(self.graph):
            error = f"{error} (it has ops of plug-ins: {foreign.named(offered)})"
        path = report.reproducer(self.graph, self.key, error)
        self.report.failed(error, path)
        warnings.warn(
            f"[compile] a program of {len(self.graph.nodes)} ops was not compiled: {error}. It runs op by op. "
            f"To reproduce: flambeau-opt {path} --to assembly.",
            RuntimeWarning,
            stacklevel=2,
        )
