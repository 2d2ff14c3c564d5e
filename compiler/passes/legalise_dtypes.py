"""Dtypes that a machine lacks: what is narrow is computed in the dtype that it accumulates in, and rounded once per op.

The rule is in docs/architecture.md, "One semantics": the table in `dialects/dtypes.py` says where a dtype's numbers are computed
and added up (`DType.accumulation`), the references follow it, and here the program does. So code generators meet narrow
dtypes only where elements are loaded, stored, moved, converted and compared. Next: `canonical_nans.py`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find
from flambeau.dialects.rounding import accumulated
from flambeau.dialects.tape.nan import moves


@dataclass(frozen=True)
class LegaliseDtypes(Pass):
    """Put casts around the ops on narrow dtypes.

    In: any graph. Out: the same bits; what computes on narrow numbers computes on their accumulation dtype, and casts go
    between these two only. Stored values keep their dtype, and are widened by whoever reads them. Idempotent.
    `native` names the narrow dtypes that the machine computes in (`Target.native`), separated by +: ops whose record says that
    they round once stay as they are in these. Folds and products are widened always.
    """

    name = "legalise-dtypes"
    native: str = ""

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        if not any(aval.dtype.is_narrow for aval in graph.avals):
            return graph
        work = _Widening(graph, frozenset(self.native.split("+")))
        for node in graph.nodes:
            work.add(node)
        return work.finish()


class _Widening(Copy):
    """The graph being written, and the wide values of its narrow ones by number."""

    def __init__(self, source: Graph, native: frozenset[str]) -> None:
        super().__init__(source)
        self.native = native
        self._wide: dict[int, int] = {}

    def add(self, node: Node) -> None:
        if node.op.name == "cast":
            self.bind(node, (self._cast(node, self.ids[node.operands[0]], node.attrs[0]),))
        elif self._stays(node):
            self.keep(node)
        else:
            self._compute(node)

    def _stays(self, node: Node) -> bool:
        """Whether the op needs no arithmetic that the machine lacks: it moves, it hands on what nobody has widened or
        changes its bits, or no dtype is narrow but native ones."""
        if moves(node.op) or node.op.name == "constant":
            return True
        if (node.op.hands_on or node.op.by_bits) and self._wide.keys().isdisjoint(self.operands(node)):
            return True
        narrow = {a.dtype for v in (*node.operands, *node.results) if (a := self.source.avals[v]).dtype.is_narrow}
        return all(d.name in self.native for d in narrow) and (not narrow or node.op.rounds_once)

    def _compute(self, node: Node) -> None:
        operands = tuple([self._widened(node, v) for v in self.operands(node)])
        attrs: tuple[Hashable, ...] = tuple(map(accumulated, node.attrs))
        place = self.source.device(node)
        avals = list(node.op.infer_results([self.graph.avals[v] for v in operands], attrs, place))
        found = self.append(node, node.op, operands, attrs, avals)
        self.bind(node, tuple([self._rounded(node, v, r) for v, r in zip(found, node.results, strict=True)]))

    def _widened(self, node: Node, value: int) -> int:
        """A value of the new graph in the dtype that it accumulates in."""
        if value not in self._wide:
            self._wide[value] = self._converted(node, value, self.graph.avals[value].dtype.accumulation)
        return self._wide[value]

    def _rounded(self, node: Node, value: int, original: int) -> int:
        return self._converted(node, value, self.source.avals[original].dtype)

    def _cast(self, node: Node, value: int, dtype: DType) -> int:
        """The language's cast, which goes through the accumulation dtype of either side that is narrow."""
        wide = self._widened(node, value) if self.graph.avals[value].dtype.is_narrow else value
        return self._converted(node, self._converted(node, wide, dtype.accumulation), dtype)

    def _converted(self, node: Node, value: int, dtype: DType) -> int:
        aval = self.graph.avals[value]
        if aval.dtype is dtype:
            return value
        (result,) = self.append(node, find("cast"), (value,), (dtype,), [aval._replace(dtype=dtype)])
        return result
