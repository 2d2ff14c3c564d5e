"""Programs as data: a straight line of primitive ops over numbered values.

In: records (`record.py`) applied to values. Out: `Graph`, which the frontend's recorder assembles,
`autodiff.py` differentiates, `reference.py` interprets and the compiler turns into a plan.
Values are small integers; `avals[v]` is the type of value `v`. Every value is defined before it
is used, either as an input or as a result of exactly one node. An op's attributes may be `Region`s, graphs that it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.identity import graph_bytes
from flambeau.dialects.record import OpRecord
from flambeau.dialects.size import Int, Sized, substitute, symbols


class Loc(NamedTuple):
    """The line of user code that recorded an op."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Node(NamedTuple):
    """One primitive op: `results = op(operands, attrs)`. `attrs` follow `op.attrs` in order."""

    op: OpRecord
    operands: tuple[int, ...]
    attrs: tuple[Any, ...]
    results: tuple[int, ...]
    loc: Loc | None = None

    def renamed(self, names: Mapping[int, int], at: Loc | None = None) -> Node:
        """The same op on other numbers, and at another line if one is given."""
        op, operands, attrs, results, loc = self
        return Node(op, tuple([names[v] for v in operands]), attrs, tuple([names[v] for v in results]), at or loc)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The graphs that the op runs, in order."""
        if not self.op.regions:
            return ()
        return tuple([a for a in self.attrs if isinstance(a, Region)])

    @property
    def may_fail(self) -> bool:
        """Whether the op, or one in its regions, may fail at run time."""
        op = self.op
        return op.fallible or (bool(op.regions) and any(n.may_fail for r in self.regions for n in r.graph.nodes))

    @property
    def counts_unread(self) -> bool:
        """Whether the op has to be computed even where nobody reads its results: for its error or its effect."""
        op = self.op
        return op.fallible or op.effect or (bool(op.regions) and (self.may_fail or self.has_effect))

    @property
    def has_effect(self) -> bool:
        """Whether the op, or one in its regions, does something besides giving results."""
        return self.op.effect or (bool(self.op.regions) and any(r.graph.has_effect for r in self.regions))


@dataclass
class Graph:
    """A program. `updates[k] = i` says that output k replaces the storage that input i came from.

    Such an output may be written into the buffer of input i once nothing else reads it. Scalars
    written by the user are ordinary 0-d inputs (float64, int64 or bool).

    Shapes and attributes may be `Size`s over the symbols whose values are given to each run; `sizes` are the values
    at which the program was recorded, one per symbol. Work on such a graph goes on inside `size_guards.scope(graph.sizes)`.
    """

    avals: list[Aval] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    updates: dict[int, int] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()

    def add_value(self, aval: Aval) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def add_input(self, aval: Aval) -> int:
        value = self.add_value(aval)
        self.inputs.append(value)
        return value

    def add_node(
        self,
        op: OpRecord,
        operands: Sequence[int],
        attrs: tuple[Any, ...] = (),
        loc: Loc | None = None,
        device: str = CPU,
    ) -> tuple[int, ...]:
        """Append `op`; its record checks operand types and gives the result types. Returns the results' ids. `device` is where
        the results of an op without operands lie."""
        return self.add_typed(
            op, operands, attrs, op.infer_results([self.avals[v] for v in operands], attrs, device), loc
        )

    def add_typed(
        self,
        op: OpRecord,
        operands: Sequence[int],
        attrs: tuple[Any, ...],
        avals: Sequence[Aval],
        loc: Loc | None = None,
    ) -> tuple[int, ...]:
        """Append `op`, whose results have these types, as its record has found before. Returns the results' ids."""
        first = len(self.avals)
        self.avals += avals
        results = (first,) if len(avals) == 1 else tuple(range(first, first + len(avals)))
        self.nodes.append(Node(op, tuple(operands), attrs, results, loc))
        return results

    def inline(self, fragment: Graph, operands: Sequence[int], loc: Loc | None = None) -> list[int]:
        """Append a copy of `fragment` with its inputs bound to `operands`; returns the ids of its outputs. Its ops belong
        to the line `loc`, where that is given."""
        if len(operands) != len(fragment.inputs):
            raise ValueError(f"[inline] fragment takes {len(fragment.inputs)} inputs, got {len(operands)}.")
        ids = dict(zip(fragment.inputs, operands, strict=True))
        avals, nodes = self.avals, self.nodes
        for node in fragment.nodes:
            for v in node.results:
                ids[v] = len(avals)
                avals.append(fragment.avals[v])
            nodes.append(node.renamed(ids, loc))
        return [ids[v] for v in fragment.outputs]

    def bind(self, sizes: Sequence[Int] | Mapping[int, Int]) -> Graph:
        """The same program with these values for its symbols: numbering and lines are kept."""
        return Graph(
            [a._replace(shape=substitute(a.shape, sizes)) for a in self.avals],
            list(self.inputs),
            [n._replace(attrs=substitute(n.attrs, sizes)) for n in self.nodes],
            list(self.outputs),
            dict(self.updates),
        )

    def walk(self) -> Iterator[tuple[Graph, Node]]:
        """Every node with the graph that it is in, those in regions after the op that runs them."""
        for node in self.nodes:
            yield self, node
            for region in node.regions:
                yield from region.graph.walk()

    def with_regions(self, change: Callable[[Graph], Graph]) -> Graph:
        """The same program with `change` made to the regions of its own ops; it sees to those within."""
        if not any(n.op.regions for n in self.nodes):
            return self
        nodes = [n._replace(attrs=_changed(n.attrs, change)) if n.op.regions else n for n in self.nodes]
        return Graph(self.avals, self.inputs, nodes, self.outputs, self.updates, self.sizes)

    @property
    def has_effect(self) -> bool:
        """Whether the program does something besides giving results."""
        return any(n.has_effect for n in self.nodes)

    def live_nodes(self) -> list[Node]:
        """The nodes that an output, an error or an effect depends on, in order."""
        live, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if not live.isdisjoint(node.results) or node.counts_unread:
                live.update(node.operands)
                kept.append(node)
        return kept[::-1]

    def device(self, node: Node) -> str:
        """Where a node is computed: where its results lie; those of a transfer lie where it moves them."""
        for v in node.results or node.operands:
            return self.avals[v].device
        return CPU

    def producers(self) -> dict[int, Node]:
        """The node that defines each value; inputs are absent."""
        return {v: n for n in self.nodes for v in n.results}

    def structural_key(self) -> tuple[Hashable, ...]:
        """Equal for graphs that compute the same thing the same way; stable across processes."""
        return (
            tuple((self.avals[v].shape, self.avals[v].dtype.name, self.avals[v].device) for v in self.inputs),
            tuple((n.op.name, n.operands, n.attrs, n.results, self.avals[n.results[0]].device) for n in self.nodes),
            tuple(self.inputs),
            tuple(self.outputs),
            tuple(sorted(self.updates.items())),
        )


class Region(Sized):
    """A program within a program, as an attribute of the op that runs it: a graph of its own numbers.

    It reads its inputs only: what it takes from outside are operands of the op. Its inputs and outputs are what the op's record
    says. Immutable, and compared by what it computes: lines play no part. It uses the symbols of the program around it.
    """

    __slots__ = ("_key", "graph")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._key: bytes | None = None

    @property
    def inputs(self) -> list[Aval]:
        return [self.graph.avals[v] for v in self.graph.inputs]

    @property
    def outputs(self) -> list[Aval]:
        return [self.graph.avals[v] for v in self.graph.outputs]

    @property
    def key(self) -> bytes:  # type: ignore[override]
        if self._key is None:
            self._key = graph_bytes(self.graph)
        return self._key

    def substituted(self, sizes: Sequence[Int] | Mapping[int, Int]) -> Region:
        return Region(self.graph.bind(sizes)) if self.symbols() else self

    def symbols(self) -> frozenset[int]:
        graph = self.graph
        return symbols((tuple(a.shape for a in graph.avals), tuple(n.attrs for n in graph.nodes)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Region) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Region({', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))})"

    def __reduce__(self):
        return (Region, (self.graph,))


def _changed(attrs: tuple[Any, ...], change: Callable[[Graph], Graph]) -> tuple[Any, ...]:
    return tuple([Region(change(a.graph)) if isinstance(a, Region) else a for a in attrs])
