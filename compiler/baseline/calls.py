"""Calls by themselves, run op by op: what traces that were never seen before are made of.

In: the graphs of calls, which equal calls share. Out: `OpList`s, looked up by the graph and the values of its symbols.
Nothing is compiled for them: where an op has no plan yet there is none. Next: `op_by_op.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from flambeau.compiler.baseline.one_op import OneOps
from flambeau.compiler.baseline.op_by_op import Interpreter
from flambeau.compiler.baseline.op_plans import linker
from flambeau.compiler.baseline.waiting import cost
from flambeau.compiler.options import Options
from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph
from flambeau.dialects.history import strip
from flambeau.dialects.locks import process_lock
from flambeau.dialects.size import is_static

_REMEMBERED = 4096
_LOOKED_AT = 64  # of them for one to forget


def _is_static(graph: Graph) -> bool:
    return all(is_static(a.shape) for a in graph.avals) and all(is_static(n.attrs) for n in graph.nodes)


class _CallGraph:
    """A call's graph and what runs it: `op_list`, once that is whole."""

    __slots__ = ("_interpreter", "graph", "is_used", "op_list")

    def __init__(self, graph: Graph, interpreter: Interpreter) -> None:
        self.graph, self._interpreter = graph, interpreter
        self.op_list: Any = None
        self.is_used = False  # since it was last looked at

    def listed(self) -> Any:
        """The list as it is by now."""
        found = self._interpreter.op_list()
        if found.is_whole:
            self.op_list = found
        return found


class CallRunner:
    """What runs calls, for one set of options. `compiling` says how many seconds workers would take for so many."""

    compiling = staticmethod(cost)

    def __init__(self, options: Options) -> None:
        self._link = linker(options)
        self._known: OrderedDict[tuple[int, tuple[int, ...]], _CallGraph] = OrderedDict()
        self._lock = process_lock()

    def find(self, graph: Graph, sizes: Sequence[int]) -> Any:
        """What runs `graph` with these values of its symbols; None where an op has no plan, an effect, regions, or
        another device than this one."""
        number = id(graph)
        found = self._known.get((number, ()))
        if (found is None or found.graph is not graph) and sizes:
            found = self._known.get((number, tuple(sizes)))
        if found is not None and found.graph is graph:
            found.is_used = True
            return found.op_list or found.listed()
        sizes = () if _is_static(graph) else tuple(sizes)  # a trace's sizes are not those of each of its calls
        made = self._made(graph, sizes)
        if made is None:
            return None
        call = _CallGraph(graph, made)
        with self._lock:
            self._known[number, sizes] = call
            while len(self._known) > _REMEMBERED:
                self._forget()
        return call.listed()

    def _forget(self) -> None:
        """The one that was not used for the longest time, of those that were looked at."""
        for key, call in list(islice(self._known.items(), _LOOKED_AT)):
            if not call.is_used:
                break
            call.is_used = False
            self._known.move_to_end(key)
        self._known.popitem(last=False)

    def _made(self, graph: Graph, sizes: Sequence[int]) -> Interpreter | None:
        graph = strip(graph.bind(sizes) if sizes else graph)
        if graph.has_effect or any(n.regions for n in graph.nodes) or any(a.device != CPU for a in graph.avals):
            return None
        ops = OneOps(graph, self._link, links=False)
        return Interpreter(graph, self._link, ops=ops) if ops.is_linked() else None


def calls(options: Options) -> CallRunner | None:
    """The calls of these options; None where every program is to be compiled at once, or its ops are told where to run."""
    global _latest
    latest = _latest
    if latest is None or latest[0] is not options:  # equal ones take long to compare
        latest = _latest = options, _calls(options)
    return latest[1]


_latest: tuple[Options, CallRunner | None] | None = None


@lru_cache(maxsize=16)
def _calls(options: Options) -> CallRunner | None:
    return None if options.mode == "blocking" or options.on_host or options.dump else CallRunner(options)
