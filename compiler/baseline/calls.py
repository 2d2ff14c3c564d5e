"""Calls by themselves, run op by op: what traces that were never seen before are made of.

In: the graphs of calls, which equal calls share. Out: `OpList`s, looked up by the graph and the values of its symbols.
Nothing is compiled for them: where an op has no plan yet there is none. Next: `op_by_op.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from flambeau.compiler.baseline.one_op import OneOps
from flambeau.compiler.baseline.op_by_op import Interpreter
from flambeau.compiler.baseline.op_plans import linker
from flambeau.compiler.options import Options
from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph
from flambeau.dialects.history import strip
from flambeau.dialects.locks import process_lock

_REMEMBERED = 4096


class _CallGraph:
    """A call's graph and what runs it: `op_list`, once all of its ops have plans."""

    def __init__(self, graph: Graph, interpreter: Interpreter) -> None:
        self.graph, self._interpreter = graph, interpreter
        self.op_list: Any = None

    def listed(self) -> Any:
        """The list as it is by now."""
        found = self._interpreter.op_list()
        if self._interpreter.has_all_plans:
            self.op_list = found
        return found


class CallRunner:
    """What runs calls, for one set of options."""

    def __init__(self, options: Options) -> None:
        self._link = linker(options)
        self._known: OrderedDict[tuple[int, tuple[int, ...]], _CallGraph] = OrderedDict()
        self._lock = process_lock()

    def find(self, graph: Graph, sizes: Sequence[int]) -> Any:
        """What runs `graph` with these values of its symbols; None where an op has no plan, an effect, regions, or
        another device than this one."""
        key = id(graph), tuple(sizes)
        found = self._known.get(key)
        if found is not None and found.graph is graph:
            return found.op_list or found.listed()
        made = self._made(graph, sizes)
        if made is None:
            return None
        call = _CallGraph(graph, made)
        with self._lock:
            self._known[key] = call
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return call.listed()

    def _made(self, graph: Graph, sizes: Sequence[int]) -> Interpreter | None:
        graph = strip(graph.bind(sizes) if sizes else graph)
        if graph.has_effect or any(n.regions for n in graph.nodes) or any(a.device != CPU for a in graph.avals):
            return None
        ops = OneOps(graph, self._link, links=False)
        return Interpreter(graph, self._link, ops=ops) if ops.is_linked() else None


@lru_cache(maxsize=16)
def calls(options: Options) -> CallRunner | None:
    """The calls of these options; None where every program is to be compiled at once, or its ops are told where to run."""
    return None if options.mode == "blocking" or options.on_host or options.dump else CallRunner(options)
