"""From a graph to something that runs: caches first, then a compiler, now or in the background.

In: a graph and `Options`. Out: an `Executable`, which always runs and gets faster. The frontend reaches `compile` by
name. Modes: "blocking" compiles the fused program at once; "background" runs op by op and has workers compile it from
the second sight on; "off" stays op by op. Next: `stages.py` (what compiling is), `generic.py` (op by op).
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from flambeau.compiler import kernel_cache, plan_cache, report
from flambeau.compiler.build import Build
from flambeau.compiler.options import Options
from flambeau.compiler.plan import Program
from flambeau.dialects.graph import Graph
from flambeau.runtime import _binding as runtime

_REMEMBERED = 2048
_executables: OrderedDict[tuple[str, Options], Executable] = OrderedDict()
_plans: OrderedDict[str, Any] = OrderedDict()  # of one-op programs
_lock = threading.RLock()


def compile(graph: Graph, options: Options | None = None) -> Executable:
    """The executable of `graph`; equal graphs share one."""
    options = options or Options.from_environment()
    key = plan_cache.key(graph, options)
    with _lock:
        found = _executables.get((key, options))
        if found is None:
            found = _executables[key, options] = Executable(graph, options, key)
            if len(_executables) > _REMEMBERED:
                _executables.popitem(last=False)
        _executables.move_to_end((key, options))
        found.request()
    return found


class Executable:
    """A program in the best form there is: `plan` once the fused one is linked, else op by op.

    Call it with one Buffer, array or number per input; it returns Buffers.
    """

    def __init__(self, graph: Graph, options: Options, key: str) -> None:
        self.graph, self.options, self.key = graph, options, key
        self.plan: Any = None
        self.report = report.add(key, graph, options)
        self._requests = 0
        self._build: Build | None = None
        self._interpreter: Any = None
        self._hopeless = options.mode == "off"

    def __call__(self, inputs: Sequence[Any], donate: Sequence[int] = ()) -> list[Any]:
        """Run once. Raises what the failing op raises, with the line that recorded it; inputs are then intact."""
        plan = self.ready()
        if plan is not None:
            try:
                return plan.run(inputs, donate=donate)
            except runtime.KernelFailed as failure:
                raise self.error(inputs, failure) from None
        outputs = self.interpreter(inputs)
        self.request()
        return outputs

    def ready(self) -> Any:
        """The fused plan, or None while there is none. Cheap enough to ask before every run."""
        if self._build is not None and (self._build.done or self._build.lost):
            self._collect()
        return self.plan

    def wait(self, timeout: float | None = None) -> Any:
        """`ready()`, after waiting for work that is under way."""
        if self._build is not None:
            self._build.wait(timeout)
        return self.ready()

    def request(self) -> None:
        """Note that the program is wanted: the first time look into the caches, the second time compile."""
        self._requests += 1
        if self.plan is not None or self._hopeless or self._build is not None:
            return
        if self._requests == 1 and self._from_disk():
            return
        if self.options.mode == "blocking":
            self._compile_now()
        elif self._requests > 1:
            self._build = Build(self.graph, self.options)

    @property
    def interpreter(self) -> Any:
        """The generic tier of this program."""
        if self._interpreter is None:
            from flambeau.compiler.generic import Interpreter

            start = perf_counter()
            self._interpreter = Interpreter(self.graph, self._link_ops)
            self.report.generic_seconds = perf_counter() - start
        return self._interpreter

    def run_prefix(self, inputs: Sequence[Any], stop: int | None = None) -> Any:
        """What eager execution would have left: see `generic.Interpreter.run_prefix`."""
        return self.interpreter.run_prefix(inputs, stop)

    def error(self, inputs: Sequence[Any], failure: Exception) -> Exception:
        """The exception behind a failed run of the plan: that of the first op that fails when run op by op."""
        found = self.run_prefix(inputs).error
        if found is not None:
            return found
        failure.add_note("[run] no op fails when run alone. Report this as a bug.")
        return failure

    # ---- getting a plan

    def _from_disk(self) -> bool:
        if self.options.dump:
            return False
        start = perf_counter()
        program = plan_cache.shared().find(self.key)
        if program is None:
            return False
        addresses = [kernel_cache.shared().find(k, self.options) for k in program.kernels]
        if None not in addresses:
            self._use(program, addresses, "disk", perf_counter() - start)
        elif self.options.mode == "blocking":
            self._link_now(program, start)
        else:
            self._build = Build(self.graph, self.options, program)
        return True

    def _compile_now(self) -> None:
        from flambeau.compiler import stages

        start = perf_counter()
        try:
            program = stages.run(self.graph, self.options).program
            self._link_now(program, start)
        except Exception as error:  # whatever went wrong, the program still runs op by op
            self._give_up(str(error) if str(error).startswith("[") else f"{type(error).__name__}: {error}")
            return
        if not self.options.dump:
            plan_cache.shared().insert(self.key, program)

    def _link_now(self, program: Program, start: float) -> None:
        addresses = kernel_cache.get(program.kernels, self.options)
        self._use(program, addresses, "compiled", perf_counter() - start)

    def _collect(self) -> None:
        """Link what the workers made."""
        with _lock:
            build, self._build = self._build, None
            if build is None or self.plan is not None:
                return
            if not build.done:  # lost in a fork: ask again on the next run
                return
            if build.error is not None:
                self._give_up(build.error)
                return
            start = perf_counter()
            self._use(build.program, link(build), "worker", perf_counter() - start + build.seconds)

    def _use(self, program: Program, addresses: Sequence[int], origin: str, seconds: float) -> None:
        self.plan = _plan(program, addresses)
        self.report.fused(program, origin, seconds)

    def _give_up(self, error: str) -> None:
        """The program stays op by op; say so once."""
        self._hopeless = True
        path = report.reproducer(self.graph, self.key, error)
        self.report.failed(error, path)
        warnings.warn(
            f"[compile] a program of {len(self.graph.nodes)} ops was not compiled: {error}. It runs op by op. "
            f"To reproduce: flambeau-opt {path} --to assembly.",
            RuntimeWarning,
            stacklevel=2,
        )

    # ---- one-op programs

    def _link_ops(self, graphs: list[Graph]) -> list[Any]:
        """Plans of one-op programs, from memory, from disk, or compiled: by workers in background mode."""
        keys = [plan_cache.key(g, self.options) for g in graphs]
        missing = {k: g for k, g in zip(keys, graphs) if k not in _plans}
        made = self._build_ops(missing) if missing else {}
        with _lock:
            _plans.update(made)
            plans = [_plans[k] for k in keys]
            while len(_plans) > _REMEMBERED:
                _plans.popitem(last=False)
        return plans

    def _build_ops(self, graphs: dict[str, Graph]) -> dict[str, Any]:
        programs = {k: plan_cache.shared().find(k) or self._lower_op(k, g) for k, g in graphs.items()}
        if self.options.mode != "background":
            return {k: _plan(p, kernel_cache.get(p.kernels, self.options)) for k, p in programs.items()}
        builds = {k: Build(graphs[k], self.options, p) for k, p in programs.items()}
        for build in builds.values():
            build.wait()
            if build.error is not None:
                raise RuntimeError(f"[compile] an op could not be compiled: {build.error}. Report this as a bug.")
        return {k: _plan(b.program, link(b)) for k, b in builds.items()}

    def _lower_op(self, key: str, graph: Graph) -> Program:
        from flambeau.compiler import stages

        program = stages.run(graph, self.options).program
        plan_cache.shared().insert(key, program)
        return program


def link(build: Build) -> list[int]:
    """The addresses of a finished build's kernels."""
    cache, options = kernel_cache.shared(), build.options
    return [
        cache.insert(k, options, build.objects[k.text]) if k.text in build.objects else cache.find(k, options)
        for k in build.program.kernels
    ]


def _plan(program: Program, addresses: Sequence[int]) -> Any:
    return runtime.Plan(tuple(program.spec), tuple(addresses))
