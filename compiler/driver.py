"""From a graph to something that runs: caches first, then a compiler, now or in the background.

In: a graph and `Options`. Out: an `Executable`, which always runs and gets faster. The frontend reaches `compile` by
name. Modes: "blocking" compiles the fused program at once; "background" runs op by op and has workers compile it from
the second sight on; "off" stays op by op. A graph with symbols may have several plans, made when sizes come that the
others do not serve. Next: `compiled.py` (its plans), `baseline/op_by_op.py` (op by op).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from flambeau.compiler import targets
from flambeau.compiler.baseline import calls as single_calls
from flambeau.compiler.baseline import op_plans
from flambeau.compiler.baseline.op_by_op import Interpreter
from flambeau.compiler.caches import plan_cache
from flambeau.compiler.compiled import Compiled
from flambeau.compiler.options import Options
from flambeau.compiler.plans import devices
from flambeau.compiler.plugins import foreign
from flambeau.compiler.tools import report
from flambeau.dialects import effects
from flambeau.dialects.dtypes import exported
from flambeau.dialects.effects import Noted
from flambeau.dialects.graph import Graph
from flambeau.dialects.locks import process_lock
from flambeau.runtime import _binding as runtime

_REMEMBERED = 1024
_compiled: OrderedDict[tuple[str, Options], Compiled] = OrderedDict()
_lock = process_lock()


def compile(graph: Graph, options: Options | None = None) -> Executable:
    """The executable of `graph`. Equal graphs share all that is compiled; each keeps its own lines. Raises ValueError for
    a target whose code cannot run here."""
    options = options or Options.from_environment()
    targets.check_runs_here(options.target)
    options = devices.with_targets(graph, options)
    foreign.warn_of_names()
    key = plan_cache.key(graph, options)
    with _lock:
        found = _compiled.get((key, options))
        if found is None:
            found = _compiled[key, options] = Compiled(graph, options, key)
            if len(_compiled) > _REMEMBERED:
                _compiled.popitem(last=False)
        _compiled.move_to_end((key, options))
    found.request(graph.sizes)
    return Executable(graph, found)


def calls(options: Options | None = None) -> Any:
    """What runs the calls of a trace by themselves: `CallRunner` of `baseline/calls.py`, or None where that is not wanted."""
    return single_calls.calls(options or Options.from_environment())


class Executable:
    """A program in the best form there is: a fused plan once that is linked, else op by op.

    Call it with one Buffer, array or number per input; it returns Buffers. `sizes` are the values of the graph's symbols:
    a plan serves those for which its guards hold, and others get a plan of their own.
    """

    def __init__(self, graph: Graph, compiled: Compiled) -> None:
        self.graph, self.compiled = graph, compiled
        self._generic: Any = None  # the baseline tier, once it is needed

    def __call__(
        self,
        inputs: Sequence[Any],
        donate: Sequence[int] = (),
        sizes: Sequence[int] = (),
        noted: list[Noted] | None = None,
        again: bool = True,
        times: Any = None,
    ) -> list[Any]:
        """Run once. Raises what the failing op raises, with the line that recorded it; inputs are then intact. `noted` gets the
        calls of the host that the program would make, once it has succeeded. Workers are asked for what will run `again`. `times`
        are nanoseconds of the plan's steps (`Plan.run`), if there is a plan."""
        inputs = [exported(x) if type(x) is np.ndarray else x for x in inputs]
        plan = self.ready(sizes)
        if plan is None:
            outputs = self._op_by_op(inputs, sizes, noted)
            if again:
                self.compiled.request(sizes)
            return outputs
        try:
            if noted is None and not self._has_effect:
                return plan.run(inputs, sizes, donate, None, times)
            records: list[tuple[bytes, ...]] = []
            outputs = plan.run(inputs, sizes, donate, records, times)
            if noted is not None:
                noted += [(int.from_bytes(number, "little"), tuple(rest)) for number, *rest in records]
            return outputs
        except runtime.KernelFailed as failure:
            raise self._error(inputs, failure, sizes) from None
        except runtime.OtherSizes as error:  # the guards hold, but a size has no value: something was not asked
            if self.compiled.options.strict_sizes:
                raise
            self.report.pinned = f"{error} (sizes {tuple(sizes)})"
            return self._op_by_op(inputs, sizes, noted)

    @cached_property
    def _has_effect(self) -> bool:
        return self.graph.has_effect

    def _op_by_op(self, inputs: Sequence[Any], sizes: Sequence[int], noted: list[Noted] | None) -> list[Any]:
        found: list[Noted] = []
        with effects.collecting(found):
            outputs = self._interpreter(sizes)(inputs, sizes)
        if noted is not None:
            noted += found
        return outputs

    def op_list(self, sizes: Sequence[int] = ()) -> Any:
        """What runs the program op by op without Python, or None before it has first run so. Its owner is told when there may
        be a plan."""
        generic = self._generic  # another thread may drop it meanwhile
        if generic is None:
            return None
        found = generic.lent(sizes)
        self.compiled.waiting.add(found)
        self.compiled.waiting.count()
        self.compiled.hurry()
        return found

    def ready(self, sizes: Sequence[int] = ()) -> Any:
        """The fused plan for these sizes, or None while there is none. Cheap enough to ask before every run."""
        return self.compiled.find(sizes) or self.compiled.ready(sizes)

    def settle(self) -> None:
        """Forget what it takes to run op by op, which is much: there is a plan. It is made again where an op fails."""
        if not self.graph.sizes:
            self._generic = None

    def wait(self, timeout: float | None = None, sizes: Sequence[int] = ()) -> Any:
        """`ready()`, after waiting for work that is under way."""
        return self.compiled.wait(timeout, sizes)

    @property
    def report(self) -> report.ProgramReport:
        return self.compiled.report

    def _interpreter(self, sizes: Sequence[int]) -> Any:
        """The baseline tier of this program, ready for these values of its symbols."""
        from flambeau.compiler.passes.reference_calls import ReferenceCalls  # a start from the caches does without

        sizes = self.compiled.checked(sizes)
        found = self._generic  # another thread may drop it meanwhile
        if found is None:
            start = perf_counter()
            graph, options = self.graph, self.compiled.options
            if options.on_host:
                graph = ReferenceCalls("+".join(options.on_host))(graph)
            found = self._generic = runtime.uncollected(Interpreter, graph, op_plans.linker(options), sizes)
            self.report.generic_seconds += perf_counter() - start
        return found

    def run_prefix(
        self, inputs: Sequence[Any], stop: int | None = None, everything: bool = False, sizes: Sequence[int] = ()
    ) -> Any:
        """What running op by op leaves, up to the op that fails: see `generic.Interpreter.run_prefix`. Raises what
        interrupted the plan that failed, if that is why it did."""
        from flambeau.compiler.host_calls import reference_kernel  # after a failure only

        reference_kernel.check_interrupt()
        return self._interpreter(sizes).run_prefix(inputs, stop, everything, sizes)

    def _error(self, inputs: Sequence[Any], failure: Exception, sizes: Sequence[int]) -> Exception:
        """The exception behind a failed run of the plan: that of the first op that fails when run op by op."""
        found = self.run_prefix(inputs, sizes=sizes).error
        if found is not None:
            return found
        return self.bug(failure)

    def bug(self, failure: Exception) -> Exception:
        """What a user is told of a plan that failed although no op fails when run alone, or that could not be run."""
        return report.bug(self.graph, self.compiled.key, failure)
