"""Runs lowered clusters on NumPy arrays through ctypes: the plan runner's meaning without its machinery.

In: a graph and its inputs. Out: its outputs, computed by compiled kernels. Every operand, temporary and scratch area lies
between two pages that nobody may touch, so a kernel that reads or writes next to one ends the process. Not for timing.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from flambeau.compiler.backend import loader, object_code
from flambeau.compiler.codegen.units import Cut
from flambeau.compiler.groups import generate
from flambeau.compiler.groups.form import Group
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.passes.legalise_complex import LegaliseComplex
from flambeau.compiler.passes.legalise_dtypes import LegaliseDtypes
from flambeau.compiler.schedules.choose import choose
from flambeau.compiler.targets import Target, find
from flambeau.dialects.graph import Graph
from flambeau.runtime import _binding as runtime

NO_ERROR = (1 << 63) - 1
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class Memory:
    """Bytes that end (or start) at a page that nobody may touch; behind the other end lie bytes that nobody may write."""

    at = "end"
    _POISON = 0xA5

    def __init__(self, size: int) -> None:
        self.size = size
        self.slack = -size % 64 if self.at == "start" else 0
        runtime.set_memory_guard(self.at)
        try:
            self.buffer = runtime.Buffer.alloc(size + self.slack)
        finally:
            runtime.set_memory_guard("off")
        self.address = self.buffer.address
        self.whole = np.frombuffer(self.buffer, np.uint8) if size + self.slack else np.empty(0, np.uint8)
        self.whole[:] = self._POISON

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return self.whole[: self.size].view(dtype).reshape(shape)

    def check(self) -> None:
        assert np.all(self.whole[self.size :] == self._POISON), "written outside of a buffer"


@cache
def compiled(source: KernelSource):
    return _KERNEL(loader.load(object_code.compile_object(source, Options(target="host"))))


def lower(part: Cluster, target: Target | None = None) -> Lowered:
    return lower_group(generate.group_of(part), target or find("host"))


def lower_group(group: Group | None, target: Target) -> Lowered:
    """What becomes of a group by the schedules that its nests get."""
    return Lowered() if group is None else lower_cut(generate.cut(group, target), target)


def lower_cut(cut: Cut, target: Target) -> Lowered:
    return cut.lower([choose(unit, target) for unit in cut.units], target)


def calls(graph: Graph, options: Options) -> list[KernelCall]:
    """All calls of a compiled graph."""
    return [call for part in cluster(graph, options) for call in lower(part).calls]


def run_graph(
    graph: Graph,
    arrays: list[np.ndarray],
    options: Options,
    parts: int = 1,
    in_place: bool = False,
    target: Target | None = None,
) -> list[np.ndarray]:
    """The outputs of `graph`; raises the error of the first op that failed.

    `parts`: cut the domains finer and run them backwards. `in_place`: results take the buffers of operands that the
    calls allow them to take and that nothing reads later. `target`: generate code as for this machine.
    """
    wanted = [graph.avals[v] for v in graph.outputs]
    graph = LegaliseDtypes()(LegaliseComplex()(graph))
    memory = {v: _filled(_parts(x)) for v, x in zip(graph.inputs, arrays, strict=True)}
    clusters = cluster(graph, options)
    for k, part in enumerate(clusters):
        later = {v for c in clusters[k + 1 :] for v in c.operands} | set(graph.outputs)
        live = {id(memory[v]) for v in later if v in memory}
        dying = {v for v in part.operands if id(memory[v]) not in live}
        _run_cluster(part, lower(part, target), memory, parts, dying if in_place else set())
    for m in memory.values():
        m.check()
    return [memory[v].array(a.shape, a.dtype.numpy).copy() for v, a in zip(graph.outputs, wanted, strict=True)]


def _parts(x: np.ndarray) -> np.ndarray:
    """Complex numbers as programs take them: their parts, one after the other."""
    return np.ascontiguousarray(x).view(x.real.dtype).reshape(*x.shape, 2) if np.iscomplexobj(x) else x


def run_lowered(part: Cluster, lowered: Lowered, arrays: list[np.ndarray], parts: int = 1) -> list[np.ndarray]:
    """The outputs of one cluster, by calls that were made of it."""
    memory = {v: _filled(x) for v, x in zip(part.operands, arrays, strict=True)}
    _run_cluster(part, lowered, memory, parts, set())
    for m in memory.values():
        m.check()
    avals = [part.graph.avals[v] for v in part.graph.outputs]
    return [memory[v].array(a.shape, a.dtype.numpy).copy() for v, a in zip(part.results, avals, strict=True)]


def _filled(x: np.ndarray) -> Memory:
    m = Memory(x.nbytes)
    m.array(x.shape, x.dtype)[...] = x
    return m


def _run_cluster(part: Cluster, lowered: Lowered, memory: dict[int, Memory], parts: int, dying: set[int]) -> None:
    """Run one cluster; results may take the memory of the operands in `dying`."""
    graph = lowered.graph or part.graph
    names = dict(zip([*graph.inputs, *graph.outputs], [*part.operands, *part.results], strict=True))
    local = {v: memory[p] for v, p in zip(graph.inputs, part.operands, strict=True)}
    for v, p in zip(graph.outputs, part.results, strict=True):
        source = v
        while source in lowered.aliases:
            source = lowered.aliases[source]
        if source not in local:
            taken = _taken(graph, lowered, source, local, names, dying)
            local[source] = taken or Memory(graph.avals[source].nbytes)
        local[v] = memory[p] = local[source]
    temps = [Memory(size) for size in lowered.temps]
    status = np.array([NO_ERROR], np.int64)
    for call in lowered.calls:
        for o in call.operands:
            if o.kind == "value" and o.index not in local:
                local[o.index] = Memory(graph.avals[o.index].nbytes)
        _run_call(call, local, temps, status, parts)
    for m in temps:
        m.check()
    if status[0] != NO_ERROR:
        raise _failure(part, int(status[0]))


def _taken(graph: Graph, lowered: Lowered, value: int, local, names, dying: set[int]) -> Memory | None:
    """The memory of a dying operand that the only call that reads it lets `value` take, wherever it reads it (`plan.in_place`)."""
    for call in lowered.calls:
        for written, read in call.in_place:
            o = call.operands[read]
            readers = [c for c in lowered.calls if any(x.kind == "value" and x.index == o.index for x in c.operands)]
            reads = [i for i, x in enumerate(call.operands) if x.kind == "value" and x.index == o.index]
            if any((written, i) not in call.in_place for i in reads):
                continue
            if call.operands[written].index == value and names.get(o.index) in dying and readers == [call]:
                same = [v for v in graph.inputs if local[v] is local[o.index]]
                if len(same) == 1:
                    dying.discard(names[o.index])
                    return local[o.index]
    return None


def _run_call(call: KernelCall, local: dict[int, Memory], temps: list[Memory], status: np.ndarray, parts: int) -> None:
    kernel = compiled(call.source)
    where = {"value": lambda o: local[o.index].address, "temp": lambda o: temps[o.index].address}
    where["status"] = lambda o: status.ctypes.data
    pointers = np.array([where[o.kind](o) + o.offset for o in call.operands] or [0], np.uint64)
    dims = np.array([*call.dims, 0], np.int64)
    scratch = Memory(call.scratch)
    grain = max(1, call.grain // parts)
    chunks = range(0, call.n, grain)
    for lo in chunks if parts == 1 else reversed(chunks):
        hi = min(lo + grain, call.n)
        kernel(pointers.ctypes.data, dims.ctypes.data, lo, hi, scratch.address)
    scratch.check()


def _failure(part: Cluster, word: int) -> Exception:
    code, position = word >> 48, word & ((1 << 48) - 1)
    node = [n for n in part.graph.nodes if n.op.fallible][code]
    return node.op.failure(position, *(part.graph.avals[v] for v in node.operands), *node.attrs)
