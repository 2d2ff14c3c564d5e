"""What equal graphs share: the plans, where they come from, and the work that makes them.

In: a graph, `Options`, the graph's key. Out: a `Compiled`, which is asked for plans: it looks on disk, compiles, or has workers
compile, and says why where there will be none. Next: `stages.py` (what compiling is), `workers/build.py` (in the background).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from flambeau.compiler.baseline.waiting import Waiting
from flambeau.compiler.caches import kernel_cache, plan_cache
from flambeau.compiler.options import Options
from flambeau.compiler.plans import devices
from flambeau.compiler.plans.program import Program, pinned
from flambeau.compiler.plugins import foreign
from flambeau.compiler.schedules import ScheduleError
from flambeau.compiler.tools import report
from flambeau.compiler.workers import pool
from flambeau.compiler.workers.build import Build
from flambeau.compiler.workers.crew import Crew
from flambeau.dialects.graph import Graph
from flambeau.dialects.locks import process_lock
from flambeau.dialects.size import LEAST
from flambeau.dialects.size_programs import fits
from flambeau.runtime.imports import imported

_lock = process_lock()


class Compiled:
    """What equal graphs share: the plans, or the work that will make them.

    A graph without symbols has one plan. One with symbols may have several: each serves the sizes for which its guards
    hold, and at most `plan_cache.MOST_VARIANTS` are made. For what they leave out the program runs op by op.
    """

    def __init__(self, graph: Graph, options: Options, key: str) -> None:
        self.graph, self.options, self.key = graph, options, key
        self.plans: list[Any] = []
        self.report = report.add(key, graph, options)
        self._stored: list[Program] | None = None  # programs on disk that are not linked yet; None: nobody looked
        self._requests = 0  # for sizes without a plan, since there last was a new one
        self._build: Any = None  # a `Build` while workers compile
        self.waiting = Waiting(len(graph.nodes))  # for it
        self._hopeless = options.mode == "off"
        self._keeps_hosted = False  # what is built has ops on the host, and may be kept in the program's place

    @property
    def plan(self) -> Any:
        """The first plan, or None."""
        return self.plans[0] if self.plans else None

    def checked(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """`sizes`, one per symbol. Raises ValueError where that is not so."""
        if len(sizes) != len(self.graph.sizes):
            raise ValueError(f"[run] the program has {len(self.graph.sizes)} symbols, got {len(sizes)} sizes.")
        return tuple(sizes)

    def find(self, sizes: Sequence[int]) -> Any:
        """The plan that serves these sizes, if there is one."""
        if not sizes:
            return self.plans[0] if self.plans and not self.graph.sizes else None
        return next((plan for plan in self.plans if plan.fits(sizes)), None) if min(sizes) >= LEAST else None

    def request(self, sizes: Sequence[int]) -> None:
        """Note that a program for these sizes is wanted: the first time look on disk, the second time let workers
        compile it."""
        with _lock:
            if self._build is not None or not self._wants(sizes) or self._from_disk(sizes):
                return
            self._requests += 1
            if self._requests > 1 and self.options.mode == "background":
                self._start_build(None, sizes)

    def ready(self, sizes: Sequence[int]) -> Any:
        """The plan for these sizes; in blocking mode it is compiled now."""
        self.checked(sizes)
        build = self._build  # another thread may collect it meanwhile
        if build is not None:
            if build.done or build.lost:
                self._collect()
        elif self.options.mode == "blocking":
            with _lock:
                self._compile(sizes)
        return self.find(sizes)

    def hurry(self) -> None:
        """Have the pool see whether what is spent op by op is worth more than leisure."""
        if self._build is not None and self.waiting.heat() >= 1:
            pool.shared().look()

    def wait(self, timeout: float | None, sizes: Sequence[int]) -> Any:
        build = self._build
        if build is not None:
            build.wait(timeout)
        return self.ready(sizes)

    def _wants(self, sizes: Sequence[int]) -> bool:
        """Whether there should be a plan for these sizes, and is none."""
        if self._hopeless or self.find(sizes) is not None or (sizes and min(sizes) < LEAST):
            return False
        if len(self.plans) < plan_cache.MOST_VARIANTS:
            return True
        self.report.is_full = True
        return False

    def _from_disk(self, sizes: Sequence[int]) -> bool:
        """Take a program from the cache. Kernels that are missing are compiled, in the way of the mode."""
        if self._stored is None:
            self._stored = [] if self.options.dump else self._look()
        start = perf_counter()
        program = next((p for p in self._stored if not sizes or fits(p.spec, sizes)), None)
        if program is None:
            return False
        if self.options.mode == "background" or foreign.involved(self.graph, self.options):
            found = [kernel_cache.shared().find(k, self.options) for k in program.kernels]
            addresses = [address for address in found if address is not None]
            if len(addresses) < len(found):
                if self.options.mode != "background":
                    return False
                self._start_build(program, sizes)
                return True
        else:
            with Crew(self.options) as crew:
                addresses = crew.addresses(program.kernels)
        self._use(program, addresses, "disk", perf_counter() - start)
        return True

    def _look(self) -> list[Program]:
        """The programs on disk."""
        cache = plan_cache.shared()
        if self.graph.sizes:
            return cache.variants(self.key)
        program = cache.find(self.key)
        return [] if program is None else [program]

    def _compile(self, sizes: Sequence[int]) -> None:
        if not self._wants(sizes) or self._from_disk(sizes):
            return
        graph = self._at(sizes)
        if foreign.involved(graph, self.options):
            self._compile_elsewhere(sizes)
            return
        start = perf_counter()
        try:
            may_pin = bool(sizes) and not self.options.strict_sizes
            program, addresses, workers = self._make(graph, may_pin, self.options)
        except ScheduleError:
            raise  # the user's own: without it the program would run, but not as asked for
        except Exception as error:  # whatever went wrong, the program still runs op by op
            if sizes and self.options.strict_sizes:
                raise
            self._give_up(_words(error))
            return
        self._use(program, addresses, "compiled", perf_counter() - start + workers)
        if not self.options.dump:
            plan_cache.shared().insert(self.key, program, sizes)

    def _make(self, graph: Graph, may_pin: bool, options: Options) -> tuple[Program, list[int], float]:
        """The program, its kernels' addresses, and seconds that workers took. Where an op of others does not compile, it runs
        on the host. Where the program cannot be compiled for all sizes and `may_pin`, it serves only those at hand, and
        says why."""
        stages = imported("flambeau.compiler.stages")  # a start from the caches does without

        try:
            with Crew(options) as crew:
                program = stages.run(graph, options, crew.offer).program
                return program, crew.addresses(program.kernels), crew.seconds
        except Exception as error:
            if isinstance(error, ScheduleError):
                raise
            if on_host := self._for_host(options, _words(error)):
                return self._make(graph, may_pin, replace(options, on_host=on_host))
            if not may_pin:
                raise
            program, addresses, seconds = self._make(graph.bind(graph.sizes), False, options)
            return pinned(program, graph.sizes, _words(error)), addresses, seconds

    def _at(self, sizes: Sequence[int]) -> Graph:
        """The graph as it would have been recorded at these sizes."""
        return replace(self.graph, sizes=tuple(sizes)) if sizes else self.graph

    def _compile_elsewhere(self, sizes: Sequence[int]) -> None:
        """Compile now, but in a worker: code of plug-ins takes part, and that may end its process."""
        self._start_build(None, sizes)
        while self._build is not None:
            self._build.wait()
            self._collect()

    def _start_build(self, program: Program | None, sizes: Sequence[int], options: Options | None = None) -> None:
        self._build = Build(
            self._at(sizes),
            foreign.remembered(options or self.options),
            program,
            waiting=self.waiting,
        )

    def _start_pinned(self, failed: Build) -> None:
        """A build for one value of the symbols, where the one for all values failed."""
        sizes = failed.graph.sizes
        self._build = Build(self.graph.bind(sizes), failed.options, waiting=self.waiting)
        self._build.pin = sizes, failed.error

    def _collect(self) -> None:
        """Link what the workers made; what a fork left with the parent is asked for again on the next run."""
        with _lock:
            build, self._build = self._build, None
            if build is None or not build.done:
                return
            if build.error is not None:
                self._failed(build)
                return
            start = perf_counter()
            program, addresses = build.program, build.link()
            if build.pin is not None:
                program = pinned(program, *build.pin)
                plan_cache.shared().insert(self.key, program, build.pin[0])
            elif self._keeps_hosted:
                plan_cache.shared().insert(self.key, program, build.graph.sizes)
            self._use(program, addresses, "worker", perf_counter() - start + build.seconds)

    def _failed(self, build: Build) -> None:
        """Try again without what may have been the reason, else stay op by op."""
        if build.error and build.error.startswith("[schedule]"):
            raise ScheduleError(build.error)
        if self._without_passes(build):
            return
        foreign.leave_out_ops(self.graph, build.blamed, build.error or "")
        if on_host := self._for_host(build.options, build.error or "", build.blamed):
            self._keeps_hosted = build.crash is None  # what ended a worker may have come from outside
            self._start_build(None, build.graph.sizes, replace(build.options, on_host=on_host))
        elif not build.graph.sizes:
            self._give_up(build.error or "")
        elif self.options.strict_sizes:
            raise RuntimeError(f"[compile] {build.error}")
        else:
            self._start_pinned(build)

    def _for_host(self, options: Options, error: str, running: str = "") -> tuple[str, ...]:
        """If ops of others may be why the program could not be compiled, say so and name them with those that run on the host
        already; else name none."""
        if not (more := foreign.for_host(self.graph, options, error, running)):
            return ()
        offers = {o.name: o for o in foreign.ops(self.graph)}
        named = ", ".join(foreign.named([offers[n]]) if n in offers else f"'{n}'" for n in more)
        does, it = ("does", "Its NumPy reference runs") if len(more) == 1 else ("do", "Their NumPy references run")
        warnings.warn(
            f"[plug-in] {named} {does} not compile: {error.rstrip('.')}. {it} instead.", RuntimeWarning, stacklevel=2
        )
        return (*options.on_host, *more)

    def _without_passes(self, build: Build) -> bool:
        """If passes of plug-ins may be why a build failed, say so and start one without them: without the one that is to
        blame, where that is known."""
        error = (build.error or "").rstrip(".")
        blamed = foreign.culprits(build.options, error, build.crash is not None, build.blamed)
        if not blamed:
            return False
        if build.crash:
            for offer in blamed if build.blamed else ():
                foreign.leave_out(offer, build.crash)
            error = f"{error}. It ran with passes of plug-ins: {foreign.named(blamed)}"
        warnings.warn(f"[compile] {error}. The program is compiled without.", RuntimeWarning, stacklevel=2)
        without = (*build.options.without, *(s.name for s in blamed))
        self._start_build(None, build.graph.sizes, replace(build.options, without=without))
        return True

    def _use(self, program: Program, addresses: Sequence[int], origin: str, seconds: float) -> None:
        self.plans.append(devices.link(program, addresses))
        self._requests = 0
        self._stored = [p for p in self._stored or [] if p is not program]
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


def _words(error: Exception) -> str:
    return str(error) if str(error).startswith("[") else f"{type(error).__name__}: {error}"
