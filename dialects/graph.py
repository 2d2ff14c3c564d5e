"""Programs as data: a straight line of primitive ops over numbered values.

In: records (`record.py`) applied to values. Out: `Graph`, which the frontend's recorder assembles,
`autodiff.py` differentiates, `reference.py` interprets and the compiler turns into a plan.
Values are small integers; `avals[v]` is the type of value `v`. Every value is defined before it
is used, either as an input or as a result of exactly one node.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flambeau.dialects.aval import Aval
from flambeau.dialects.record import OpRecord
from flambeau.dialects.size import Int, substitute


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


@dataclass
class Graph:
    """A program. `updates[k] = i` says that output k replaces the storage that input i came from.

    Such an output may be written into the buffer of input i once nothing else reads it. Scalars
    written by the user are ordinary 0-d inputs (float64, int64 or bool).

    Shapes and attributes may be `Size`s over the symbols whose values are given to each run; `sizes` are the values
    at which the program was recorded, one per symbol. Work on such a graph goes on inside `size.scope(graph.sizes)`.
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
        self, op: OpRecord, operands: Sequence[int], attrs: tuple[Any, ...] = (), loc: Loc | None = None
    ) -> tuple[int, ...]:
        """Append `op`; its record checks operand types and gives the result types. Returns the results' ids."""
        results = tuple(self.add_value(a) for a in op.infer_results([self.avals[v] for v in operands], attrs))
        self.nodes.append(Node(op, tuple(operands), attrs, results, loc))
        return results

    def inline(self, fragment: Graph, operands: Sequence[int]) -> list[int]:
        """Append a copy of `fragment` with its inputs bound to `operands`; returns the ids of its outputs."""
        if len(operands) != len(fragment.inputs):
            raise ValueError(f"[inline] fragment takes {len(fragment.inputs)} inputs, got {len(operands)}.")
        ids = dict(zip(fragment.inputs, operands, strict=True))
        for node in fragment.nodes:
            for v in node.results:
                ids[v] = self.add_value(fragment.avals[v])
            self.nodes.append(
                node._replace(
                    operands=tuple(ids[v] for v in node.operands), results=tuple(ids[v] for v in node.results)
                )
            )
        return [ids[v] for v in fragment.outputs]

    def bind(self, sizes: Sequence[Int]) -> Graph:
        """The same program with these values for its symbols: numbering and lines are kept."""
        return Graph(
            [Aval(substitute(a.shape, sizes), a.dtype) for a in self.avals],
            list(self.inputs),
            [n._replace(attrs=substitute(n.attrs, sizes)) for n in self.nodes],
            list(self.outputs),
            dict(self.updates),
        )

    def producers(self) -> dict[int, Node]:
        """The node that defines each value; inputs are absent."""
        return {v: n for n in self.nodes for v in n.results}

    def structural_key(self) -> tuple[Hashable, ...]:
        """Equal for graphs that compute the same thing the same way; stable across processes."""
        return (
            tuple((self.avals[v].shape, self.avals[v].dtype.name) for v in self.inputs),
            tuple((n.op.name, n.operands, n.attrs, n.results) for n in self.nodes),
            tuple(self.inputs),
            tuple(self.outputs),
            tuple(sorted(self.updates.items())),
        )
