"""Complex arithmetic as real arithmetic: code generators meet no complex numbers.

How an op is done on the parts of numbers says its record (`OpRecord.parts`, `dialects/parts.py`), and references follow the same
formulas. In memory a complex tensor is what it was: the parts of each number one after the other, which is a real tensor with one
more axis of 2. Within the program its parts are two values. Next: `simplify.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.compiler.passes import Pass
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.parts import IN_MEMORY, Pair, expanded, in_memory
from flambeau.dialects.record import find


@dataclass(frozen=True)
class LegaliseComplex(Pass):
    """Write ops on complex numbers in ops on their parts.

    In: any graph. Out: the same bits; what was complex, of shape S, is a real tensor of shape S x 2 where it comes in, goes out
    or is handed to a region. Idempotent.
    """

    name = "legalise-complex"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        if not any(aval.dtype.is_complex for aval in graph.avals):
            return graph
        work = _Parting(graph)
        for node in graph.nodes:
            work.add(node)
        return work.finish()


#: Ops of no attributes that do to the real part what they do to the imaginary one.
_ALIKE = ("add", "sub", "neg")


class _Number:
    """A complex value of the source: its parts, its memory as real numbers, or both, made when they are asked for."""

    def __init__(self, pair: Pair | None = None, memory: Value | None = None) -> None:
        self._pair, self._memory = pair, memory

    @property
    def is_whole(self) -> bool:
        """Whether there is no more than its memory."""
        return self._pair is None

    @property
    def pair(self) -> Pair:
        if self._pair is None:
            self._pair = Pair(*(_part(self.memory, k) for k in range(2)))
        return self._pair

    @property
    def memory(self) -> Value:
        if self._memory is None:
            assert self._pair is not None
            self._memory = _interleaved(self._pair)
        return self._memory


def _part(memory: Value, k: int) -> Value:
    """Every other element, from the k-th on."""
    *shape, _ = memory.shape
    starts, steps = (0,) * len(shape) + (k,), (1,) * (len(shape) + 1)
    found = find("slice")(memory, starts=starts, sizes=(*shape, 1), steps=steps)
    return find("reshape")(found, shape=tuple(shape))


def _interleaved(pair: Pair) -> Value:
    shape = pair.re.shape
    last = [find("reshape")(part, shape=(*shape, 1)) for part in pair]
    return find("concat")(*last, dim=len(shape))


class _Parting:
    """The graph being written; `values` has what stands for the source's values: a `Value`, or a `_Number` for a complex one."""

    def __init__(self, source: Graph) -> None:
        self.source = source
        self.b = GraphBuilder(Graph(sizes=source.sizes))
        self.values: dict[int, Any] = {v: self._input(source.avals[v]) for v in source.inputs}

    def _input(self, aval: Aval) -> Any:
        value = self.b.input(in_memory(aval))
        return _Number(memory=value) if aval.dtype.is_complex else value

    def add(self, node: Node) -> None:
        self.b.loc, self.b.device = node.loc, self.source.device(node)
        touched = (*node.operands, *node.results)
        if not any(self.source.avals[v].dtype.is_complex for v in touched) or node.op.regions or node.op.effect:
            self._keep(node)
        elif node.op.name == "view_as_real":
            self.values[node.results[0]] = self.values[node.operands[0]].memory
        elif node.op.name == "view_as_complex":
            self.values[node.results[0]] = _Number(memory=self.values[node.operands[0]])
        elif node.op.by_memory:
            self._hand_over(node)
        elif self._is_in_memory(node):
            self.values[node.results[0]] = _Number(memory=node.op(*(self.values[v].memory for v in node.operands)))
        elif node.op.name == "complex":
            self.values[node.results[0]] = _Number(Pair(*(self.values[v] for v in node.operands)))
        else:
            self._expand(node)

    def _is_in_memory(self, node: Node) -> bool:
        """Whether the op does the same to all parts of numbers that nobody has taken apart yet: then it is done to their memory,
        which is read and written in whole vectors."""
        found = [self.values[v] for v in node.operands]
        return node.op.name in _ALIKE and all(isinstance(x, _Number) and x.is_whole for x in found)

    def _keep(self, node: Node) -> None:
        """The op as it is; what is complex is handed over as it lies in memory."""
        operands = [_memory(self.values[v]).id for v in node.operands]
        first = len(self.b.graph.avals)
        avals = [self.source.avals[v] for v in node.results]
        self.b.graph.avals.extend(map(in_memory, avals))
        results = tuple(range(first, first + len(avals)))
        self.b.graph.nodes.append(node._replace(operands=tuple(operands), results=results))
        for v, aval, made in zip(node.results, avals, map(self.b.value, results), strict=True):
            self.values[v] = _Number(memory=made) if aval.dtype.is_complex else made

    def _hand_over(self, node: Node) -> None:
        """The op of the record that has code for numbers as they lie in memory."""
        is_complex = any(self.source.avals[v].dtype.is_complex for v in node.operands)
        form = find(node.op.name + IN_MEMORY)
        named = dict(zip(form.attrs, (*node.attrs, is_complex), strict=True))
        found = form(*(_memory(self.values[v]) for v in node.operands), **named)
        for v, made in zip(node.results, (found,) if form.is_single else found, strict=True):
            self.values[v] = _Number(memory=made) if self.source.avals[v].dtype.is_complex else made

    def _expand(self, node: Node) -> None:
        operands = [x.pair if isinstance(x := self.values[v], _Number) else x for v in node.operands]
        found = expanded(node.op, operands, node.attrs)
        (result,) = node.results
        self.values[result] = _Number(found) if isinstance(found, Pair) else found

    def finish(self) -> Graph:
        graph = self.b.graph
        self.b.loc = None
        for v in self.source.outputs:
            self.b.device = self.source.avals[v].device
            graph.outputs.append(_memory(self.values[v]).id)
        graph.updates = dict(self.source.updates)
        return graph


def _memory(value: Any) -> Value:
    return value.memory if isinstance(value, _Number) else value
