"""Plans of one-op programs, for the baseline tier: from memory, from disk, or compiled.

In: graphs of one node. Out: runtime plans. In background mode workers compile, so that a compiler that crashes takes
nothing with it; otherwise this process does, except for ops of plug-ins. A step waits for these plans, so it does not
wait for long: where a worker does not answer, this process compiles. Next: `op_by_op.py`, the user.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from flambeau.compiler.baseline.waiting import Waiting
from flambeau.compiler.caches import kernel_cache, plan_cache
from flambeau.compiler.options import Options
from flambeau.compiler.plans import devices
from flambeau.compiler.plans.program import Program
from flambeau.compiler.plugins import foreign
from flambeau.compiler.workers import pool
from flambeau.compiler.workers.build import Build
from flambeau.dialects.graph import Graph
from flambeau.dialects.locks import process_lock

#: Seconds that a step waits for the next answer of a worker.
PATIENCE = 2.0
_REMEMBERED = 2048
_plans: OrderedDict[str, list[Any]] = OrderedDict()  # several where symbols have guards
_asked: OrderedDict[str, Build] = OrderedDict()  # what workers make, or have made
_lock = process_lock()
_slow: weakref.ref[pool.Pool] | None = None  # the pool that kept a step waiting; it is asked for no more plans


class OpPlans:
    """Makes plans of one-op programs for a program that is compiled with `options`."""

    def __init__(self, options: Options) -> None:
        self.options = replace(options, plugins=False, schedules=())

    @property
    def key(self) -> Options:
        return self.options

    @property
    def improves(self) -> bool:
        return self.options.mode == "background"

    def __call__(self, graphs: Sequence[Graph]) -> list[Any]:
        """`link`."""
        return link(graphs, self.options)

    def at_hand(self, graph: Graph) -> Any:
        """A plan that is in memory or on disk, or that workers have made; else None."""
        if self.options.mode != "background":  # off: references stand in where they can, for good
            return None
        key = plan_cache.key(graph, self.options)
        if found := _remembered(key, graph):
            return found
        if (build := _asked.get(key)) is not None and build.done and build.error is None:
            plan = _plan(build.program, build.link())
        elif program := plan_cache.shared().find(key, graph.sizes):
            addresses = [kernel_cache.shared().find(k, self.options) for k in program.kernels]
            if None in addresses:
                return None
            plan = _plan(program, [a for a in addresses if a is not None])
        else:
            return None
        _remember({key: plan})
        return plan

    def ask(self, graph: Graph, waiting: Waiting) -> None:
        """Let workers make a plan, in background mode. Once each: what they failed at they fail at again."""
        key = plan_cache.key(graph, self.options)
        if self.options.mode != "background" or key in _asked:
            return
        _asked[key] = Build(graph, self.options, waiting=waiting)
        while len(_asked) > _REMEMBERED:
            _asked.popitem(last=False)


@lru_cache(maxsize=64)
def linker(options: Options) -> OpPlans:
    """The `OpPlans` of these options."""
    return OpPlans(options)


def link(graphs: Sequence[Graph], options: Options) -> list[Any]:
    """One plan per graph, which serves the values at hand of its symbols, if it has any. Raises RuntimeError where one
    cannot be compiled. Passes of plug-ins have no part in it."""
    options = replace(options, plugins=False, schedules=())
    keys = [plan_cache.key(g, options) for g in graphs]
    found = {k: _remembered(k, g) for k, g in zip(keys, graphs)}
    missing = {k: g for k, g in zip(keys, graphs) if found[k] is None}
    made = _make(missing, options) if missing else {}
    _remember(made)
    return [made.get(k) or found[k] for k in keys]


def _remember(made: dict[str, Any]) -> None:
    with _lock:
        for k, plan in made.items():
            known = _plans.setdefault(k, [])
            known.append(plan)
            del known[: -plan_cache.MOST_VARIANTS]
        while len(_plans) > _REMEMBERED:
            _plans.popitem(last=False)


def _remembered(key: str, graph: Graph) -> Any:
    known = _plans.get(key, ())
    return next((plan for plan in known if not graph.sizes or plan.fits(graph.sizes)), None)


def _make(graphs: dict[str, Graph], options: Options) -> dict[str, Any]:
    made, builds = {}, {}
    for k, g in graphs.items():
        elsewhere = foreign.involved(g, options)  # a worker lowers it
        program = plan_cache.shared().find(k, g.sizes) or (None if elsewhere else _lower(k, g, options))
        if program is not None and (options.mode != "background" or _is_slow()):
            made[k] = _plan(program, kernel_cache.get(program.kernels, options))
        else:
            builds[k] = Build(g, options, program, urgent=True)
    return made | {k: _finish(b, graphs[k]) for k, b in builds.items()}


def _is_slow() -> bool:
    return _slow is not None and _slow() is pool.shared()


def _answered(build: Build) -> bool:
    """Wait for a build, but no longer than a step may, where this process can do the work itself."""
    global _slow
    if build.program is None:  # it takes code of a plug-in, which runs in workers only; the pool ends those that stall
        return build.wait()
    if not build.wait(0.0 if _is_slow() else PATIENCE):
        _slow = weakref.ref(pool.shared())
        build.withdraw()
    return build.done


def _finish(build: Build, graph: Graph) -> Any:
    """Wait for a build. A worker that died may have been killed from outside, so it is given a second chance."""
    is_answered = _answered(build)
    foreign.leave_out_ops(graph, build.blamed, build.error or "")
    if build.crash is not None and not foreign.left_out(graph):
        build = Build(graph, build.options, build.program, urgent=True)
        is_answered = _answered(build)
    if not is_answered:
        return _plan(build.program, kernel_cache.get(build.program.kernels, build.options))
    if build.error is not None:
        op = graph.nodes[0].op.name
        raise RuntimeError(f"[{op}] cannot be compiled: {build.error}. Report this as a bug.")
    return _plan(build.program, build.link())


def _lower(key: str, graph: Graph, options: Options) -> Program:
    from flambeau.compiler import stages  # a start from the caches does without

    program = stages.run(graph, options).program
    plan_cache.shared().insert(key, program, graph.sizes)
    return program


def _plan(program: Program, addresses: Sequence[int]) -> Any:
    return devices.link(program, addresses)
