"""Clusters that share their rows become one: scores, what is made of them row by row, and products with that.

In: the clusters of a program, in order. Out: the same, where matrices [*batch, rows, columns] that a product makes, a softmax
reads, and further products take, are values within one cluster, which computes them block of rows by block of rows and never as a
whole. What such a cluster needs of matrices that an earlier one had (gradients do) it computes again. Where it cannot be done for
all clusters that such a matrix joins, they stay as they are. Next: `codegen/blocks/block.py`, the program of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.blocks.block import NoBlocks, block, extent
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.kernel import Cluster
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.orders import BLOCK
from flambeau.dialects.size import Size

#: The kind of clusters that are computed block of rows by block of rows.
BLOCKS = "blocks"
#: Bytes of the matrices, all of the batch together, from which on they are not computed as a whole.
LEAST_BYTES = 1 << 20


def blocked(graph: Graph, clusters: list[Cluster]) -> list[Cluster]:
    """The clusters of a program, those that share their rows joined."""
    apart = _without_epilogues(graph, clusters)
    found = _Blocking(graph, apart).run()
    return clusters if found is apart else found


@dataclass
class _Shared:
    """Clusters that share matrices of `rows` (of the whole batch) x `columns`, and the phase that each is computed in."""

    rows: int  # of all matrices
    columns: int
    members: set[int] = field(default_factory=set)
    phase: dict[int, int] = field(default_factory=dict)

    def is_matrix(self, aval: Aval) -> bool:
        shape = aval.shape
        return len(shape) > 1 and shape[-1] == self.columns and prod(shape[:-1]) == self.rows

    def goes_by_rows(self, aval: Aval) -> bool:
        return self.is_matrix(aval) or prod(aval.shape) == self.rows


class _Blocking:
    def __init__(self, graph: Graph, clusters: list[Cluster]) -> None:
        self.graph, self.avals, self.clusters = graph, graph.avals, clusters
        self.maker = {v: k for k, c in enumerate(clusters) for v in c.results}
        self.readers: dict[int, list[int]] = {}
        for k, c in enumerate(clusters):
            for v in c.operands:
                self.readers.setdefault(v, []).append(k)
        self.joined: dict[int, Cluster] = {}  # the number of a phase's first member -> its cluster
        self.gone: set[int] = set()

    def run(self) -> list[Cluster]:
        for number, cluster in enumerate(self.clusters):
            if number not in self.gone and (shared := self._scores(cluster)) is not None:
                self._try(number, shared)
        if not self.joined:
            return self.clusters
        kept = {k: c for k, c in enumerate(self.clusters) if k not in self.gone}
        return _in_order({**kept, **self.joined}) or self.clusters

    # ---- what belongs together ---------------------------------------------------------------------------------

    def _scores(self, cluster: Cluster) -> _Shared | None:
        """The matrices that a cluster's product makes, if rows of them are folded, and they are many and large."""
        node = _product(cluster)
        if node is None or cluster.device != CPU:
            return None
        aval = cluster.graph.avals[node.results[0]]
        *batch, rows, columns = aval.shape
        if any(isinstance(n, Size) for n in aval.shape) or prod(batch) < 2 or aval.nbytes < LEAST_BYTES:
            return None
        if not aval.dtype.is_floating_point:
            return None
        if rows < 2 or columns < 2 or not _varies(cluster, node):
            return None
        found = _Shared(prod(batch) * rows, columns)
        made = [v for v in cluster.results if found.is_matrix(self.avals[v])]
        folded = any(_folds(self.clusters[k].graph, found) for v in made for k in self.readers.get(v, ()))
        return found if folded else None

    def _try(self, number: int, shared: _Shared) -> None:
        self._grow(number, shared)
        try:
            made = self._phases(shared)
        except NoBlocks:
            return
        self.gone |= shared.members
        self.joined.update(made)

    def _grow(self, number: int, shared: _Shared) -> None:
        """All clusters that make or read one of the matrices."""
        pending = [number]
        while pending:
            k = pending.pop()
            if k in shared.members:
                continue
            shared.members.add(k)
            cluster = self.clusters[k]
            for v in (*cluster.operands, *cluster.results):
                if v in self.maker and shared.is_matrix(self.avals[v]):
                    pending += [self.maker[v], *self.readers.get(v, ())]

    # ---- phases ------------------------------------------------------------------------------------------------

    def _phases(self, shared: _Shared) -> dict[int, Cluster]:
        """A cluster for every phase. Raises NoBlocks."""
        if not shared.members.isdisjoint(self.gone):
            raise NoBlocks("[blocks] a cluster shares its rows with others already.")
        self._number(shared)
        made: dict[int, Cluster] = {}
        outputs = set(self.graph.outputs)
        parts = {p: self._with_copies(shared, p) for p in sorted(set(shared.phase.values()))}
        own = {p: {k for k in shared.members if shared.phase[k] == p} for p in parts}
        within = {p: {v for k in parts[p] for v in self.clusters[k].results} for p in parts}
        wanted = set(outputs)
        for k, c in enumerate(self.clusters):
            if k not in shared.members:
                wanted.update(c.operands)
        for p, part in parts.items():
            wanted.update(v for k in part for v in self.clusters[k].operands if v not in within[p])
        for p, part in parts.items():
            results = [v for k in sorted(own[p]) for v in self.clusters[k].results if v in wanted]
            if any(shared.is_matrix(self.avals[v]) for v in results):
                raise NoBlocks("[blocks] a matrix is wanted as a whole.")
            made[min(own[p])] = _union([self.clusters[k] for k in sorted(part)], results)
        return made

    def _number(self, shared: _Shared) -> None:
        """Number phases: what needs more than rows of what a phase makes belongs to a later one."""
        level: dict[int, int] = {}
        for k in range(min(shared.members), len(self.clusters)):
            cluster = self.clusters[k]
            before = 0
            for v in cluster.operands:
                maker = self.maker.get(v, -1)
                if maker in shared.members:
                    ends = k not in shared.members or not self._by_rows(shared, cluster, v)
                    before = max(before, shared.phase[maker] + ends)
                else:
                    before = max(before, level.get(maker, 0))
            if k in shared.members:
                shared.phase[k] = before
            else:
                level[k] = before

    def _by_rows(self, shared: _Shared, cluster: Cluster, v: int) -> bool:
        """Whether a cluster reads a value of the phase at hand row by row."""
        if not shared.goes_by_rows(self.avals[v]):
            return False
        product = _product(cluster)
        if product is None:
            return True
        sources, own = Fragment(cluster.graph).sources, cluster.graph.inputs[cluster.operands.index(v)]
        left, right = (sources.get(x) for x in product.operands)
        is_whole = right is not None and right.root == own and left is not None and not _is_turned(left.layout)
        return not is_whole

    def _with_copies(self, shared: _Shared, phase: int) -> set[int]:
        """The clusters of a phase, and those of earlier ones whose matrices they need."""
        found = {k for k in shared.members if shared.phase[k] == phase}
        pending = list(found)
        while pending:
            for v in self.clusters[pending.pop()].operands:
                maker = self.maker.get(v)
                if maker in shared.members and maker not in found and shared.is_matrix(self.avals[v]):
                    assert maker is not None
                    found.add(maker)
                    pending.append(maker)
        return found


def _without_epilogues(graph: Graph, clusters: list[Cluster]) -> list[Cluster]:
    """The clusters, but products of many large matrices turned, which fold what is to become rows of blocks, by themselves: what is
    made of their results is made of the sums of all blocks."""
    found = []
    for cluster in clusters:
        node = _product(cluster)
        if node is None or not _are_many(cluster, node) or _is_bare(cluster, node):
            found.append(cluster)
            continue
        left = Fragment(cluster.graph).sources.get(node.operands[0])
        if left is None or not _is_turned(left.layout):
            found.append(cluster)
        else:
            found += _split(graph, cluster, node)
    return found


def _are_many(cluster: Cluster, node: Node) -> bool:
    """Whether a product's left factors are several matrices, and large."""
    aval = cluster.graph.avals[node.operands[0]]
    return not any(isinstance(n, Size) for n in aval.shape) and prod(aval.shape[:-2]) > 1 and aval.nbytes >= LEAST_BYTES


def _is_bare(cluster: Cluster, node: Node) -> bool:
    """Whether nothing but a product is stored, or that with canonical NaNs."""
    ends = {node.results[0]}
    ends.update(n.results[0] for n in cluster.graph.nodes if n.op.name == "canonical_nan" and n.operands[0] in ends)
    return len(cluster.graph.outputs) == 1 and ends.issuperset(cluster.graph.outputs)


def _split(graph: Graph, cluster: Cluster, node: Node) -> list[Cluster]:
    """A product, and what is made of its result."""
    whole, (product,) = cluster.graph, node.results
    values = dict(zip(whole.inputs, cluster.operands, strict=True))
    values.update(zip(whole.outputs, cluster.results, strict=True))
    values.setdefault(product, -1)
    if values[product] < 0:
        values[product] = graph.add_value(whole.avals[product])
    bare, inputs = _canonical(replace(whole, outputs=[product]))
    first = Cluster(cluster.kind, bare, tuple(values[v] for v in inputs), (values[product],))
    others = [v for v in whole.outputs if v != product]
    rest = [n for n in whole.nodes if product not in n.results]
    after, inputs = _canonical(replace(whole, inputs=[*whole.inputs, product], nodes=rest, outputs=others))
    return [first, Cluster("loops", after, tuple(values[v] for v in inputs), tuple(values[v] for v in others))]


def _is_turned(layout: StridedView) -> bool:
    return len(layout.strides) > 1 and layout.strides[-2] == 1 and layout.strides[-1] != 1


def _product(cluster: Cluster) -> Node | None:
    return next((n for n in cluster.graph.nodes if n.op.family.is_product), None)


def _varies(cluster: Cluster, node: Node) -> bool:
    """Whether the right factor of a product is another one for other matrices of the batch."""
    source = Fragment(cluster.graph).sources.get(node.operands[1])
    return source is not None and any(source.layout.strides[:-2])


def _folds(graph: Graph, shared: _Shared) -> bool:
    """Whether columns of the matrices are folded."""
    for n in graph.nodes:
        if n.op.family.folds and shared.is_matrix(graph.avals[n.operands[0]]):
            return tuple(n.attrs[0]) == (graph.avals[n.operands[0]].rank - 1,)
    return False


# ---- one cluster of several -----------------------------------------------------------------------------------


def _union(clusters: Sequence[Cluster], results: Sequence[int]) -> Cluster:
    """The cluster that computes `results` of some clusters, which are in order. Raises NoBlocks."""
    if len(clusters) < 2:
        raise NoBlocks("[blocks] a cluster alone.")
    whole, ids = Graph(), dict[int, int]()
    for cluster in clusters:
        for v, own in zip(cluster.operands, cluster.graph.inputs, strict=True):
            if v not in ids:
                ids[v] = whole.add_input(cluster.graph.avals[own])
        made = whole.inline(cluster.graph, [ids[v] for v in cluster.operands])
        ids.update(zip(cluster.results, made, strict=True))
    whole.outputs = [ids[v] for v in results]
    graph, inputs = _canonical(whole)
    values = {x: v for v, x in ids.items()}
    found = Cluster(BLOCKS, graph, tuple(values[x] for x in inputs), tuple(results))
    block(graph, min(extent(graph).rows, BLOCK))  # raises NoBlocks
    return found


def _canonical(graph: Graph) -> tuple[Graph, list[int]]:
    """What the outputs need, numbered: inputs, then results in the order of nodes. And the inputs that it has."""
    nodes = graph.live_nodes()
    read = {v for n in nodes for v in n.operands}
    inputs = [v for v in graph.inputs if v in read]
    names = {v: k for k, v in enumerate([*inputs, *(v for n in nodes for v in n.results)])}
    avals = [graph.avals[v] for v in names]
    outputs = [names[v] for v in graph.outputs]
    return Graph(avals, list(range(len(inputs))), [n.renamed(names) for n in nodes], outputs), inputs


def _in_order(clusters: dict[int, Cluster]) -> list[Cluster] | None:
    """Clusters with operands first, otherwise by their numbers; None where some wait for each other."""
    import heapq

    maker = {v: k for k, c in clusters.items() for v in c.results}
    before = {k: {maker[v] for v in c.operands if v in maker} - {k} for k, c in clusters.items()}
    after: dict[int, list[int]] = {}
    for k, found in before.items():
        for one in found:
            after.setdefault(one, []).append(k)
    waiting = {k: len(found) for k, found in before.items()}
    ready = [k for k, count in waiting.items() if not count]
    heapq.heapify(ready)
    ordered = []
    while ready:
        k = heapq.heappop(ready)
        ordered.append(clusters[k])
        for one in after.get(k, ()):
            waiting[one] -= 1
            if not waiting[one]:
                heapq.heappush(ready, one)
    return ordered if len(ordered) == len(clusters) else None
