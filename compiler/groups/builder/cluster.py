"""What the families share while a cluster becomes a group: how every value can be read, and appending ops.

In: the cluster's graph. Out: a `Group`, through `form.GroupBuilder`. Next: `groups/form.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from flambeau.compiler.codegen.fragment import number_fallible
from flambeau.compiler.groups import bodies, slices
from flambeau.compiler.groups.form import PARALLEL, Affine, Body, Group, GroupBuilder, Map, identity_map
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Loc, Node
from flambeau.dialects.size import Int

#: What becomes of an axis: a form over the new ones, a constant alone where it has one place only.
Moved = Affine


class Read(NamedTuple):
    """A value of the cluster as elements of one of the group: element `d` is `root[map(d)]`. A scalar has no map: all
    elements are it."""

    root: int
    map: Map = ()
    is_scalar: bool = False


class ClusterBuilder:
    """A group under construction, and how it reads the cluster's values."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.avals = graph, graph.avals
        self.out = GroupBuilder(graph.sizes)
        self.codes = number_fallible(graph)
        self.reads: dict[int, Read] = {}
        self._wholes: dict[int, int] = {}
        for v in graph.inputs:
            self.define(v, self.out.input(self.avals[v]))

    def build(self) -> Group:
        return self.out.build(tuple(self.whole(v) for v in self.graph.outputs))

    # ---- values

    def define(self, value: int, number: int) -> None:
        """`value` is `number` of the group, all of it."""
        self.reads[value] = Read(number, identity_map(self.avals[value].rank))

    def aval(self, node: Node) -> Aval:
        return self.avals[node.results[0]]

    def is_whole(self, value: int) -> bool:
        """Whether a value is all of its root, in its shape."""
        read, aval = self.reads[value], self.avals[value]
        return (
            not read.is_scalar and read.map == identity_map(aval.rank) and self.out.avals[read.root].shape == aval.shape
        )

    def whole(self, value: int) -> int:
        """A value as a tensor of its own shape: its root, reshaped where that is enough, or a copy."""
        if self.is_whole(value):
            return self.reads[value].root
        if value not in self._wholes:
            self._wholes[value] = self._made_whole(value)
        return self._wholes[value]

    def _made_whole(self, value: int) -> int:
        read, shape = self.reads[value], self.avals[value].shape
        if not read.is_scalar and _is_regrouped(read.map, self.out.avals[read.root].shape, shape):
            return slices.reshape(self.out, read.root, shape)
        return self.copy(value)

    def copy(self, value: int, loc: Loc | None = None) -> int:
        """A value as a tensor that has memory of its own."""
        aval = self.avals[value]
        return self.points(aval, bodies.copy(aval.dtype.mlir), (value,), name="copy", loc=loc)

    def scalar(self, value: int) -> int:
        """A value of rank 0 as a number."""
        read = self.reads[value]
        if read.is_scalar:
            return read.root
        return self.out.call("tensor.extract", (self.whole(value),), (self.avals[value],))[0]

    def start(self, value: int) -> int:
        """A start of a slice: a number, or a tensor of rank 0."""
        return self.reads[value].root if self.reads[value].is_scalar else self.whole(value)

    # ---- ops

    def call(
        self,
        node: Node,
        name: str,
        operands: Sequence[int],
        attributes: Mapping[str, Hashable],
        regions: tuple[Body, ...] = (),
    ) -> None:
        """An op on whole tensors that is all of a node, which has one result."""
        (number,) = self.out.call(name, tuple(operands), (self.aval(node),), attributes, regions, node.loc)
        self.define(node.results[0], number)

    def points(
        self,
        aval: Aval,
        body: Body,
        operands: Sequence[int],
        captures: Sequence[int] = (),
        name: str = "",
        loc: Loc | None = None,
    ) -> int:
        """A nest over the elements of its one result: see `all_points`."""
        return self.all_points([aval], body, operands, captures, name, loc)[0]

    def all_points(
        self,
        avals: Sequence[Aval],
        body: Body,
        operands: Sequence[int],
        captures: Sequence[int] = (),
        name: str = "",
        loc: Loc | None = None,
    ) -> tuple[int, ...]:
        """A nest over the elements of its results, which have one shape. The body reads operands of the cluster at the
        element's own place (those of rank 0 at their only one), and `captures` of the group."""
        maps = [self.reads[v].map for v in operands]
        rank, shape = avals[0].rank, avals[0].shape
        results = [(aval, identity_map(rank), None) for aval in avals]
        return self.nest((PARALLEL,) * rank, shape, operands, maps, results, body, captures, name, loc)

    def nest(
        self,
        iterators: tuple[str, ...],
        extents: Sequence[Int],
        operands: Sequence[int],
        maps: Sequence[Map],
        results: Sequence[tuple[Aval, Map, str | None]],
        body: Body,
        captures: Sequence[int] = (),
        name: str = "",
        loc: Loc | None = None,
    ) -> tuple[int, ...]:
        """A linalg.generic. Operands that are scalars become captures."""
        reads = [self.reads[v] for v in operands]
        outside: list[int | None] = [r.root if r.is_scalar else None for r in reads]
        captured: tuple[int, ...] = ()
        if captures or any(r.is_scalar for r in reads):
            body, captured = recaptured(body, (*outside, *(None for _ in results), *captures))
        kept = tuple((r.root, m) for r, m in zip(reads, maps, strict=True) if not r.is_scalar)
        return self.out.generic(iterators, tuple(extents), kept, tuple(results), body, captured, loc=loc, name=name)


def _is_regrouped(map: Map, root: Sequence[Int], shape: Sequence[Int]) -> bool:
    """Whether a map reads all elements of its root in order: it differs from the identity in axes of extent 1 only."""
    wide = [k for k, n in enumerate(shape) if n != 1]
    reads = [(e, n) for e, n in zip(map, root, strict=True) if n != 1]
    return reads == [(Affine.of(k), shape[k]) for k in wide]


def moved(map: Map, axes: Mapping[int, Moved]) -> Map:
    """`map` with every axis replaced."""
    return tuple(_moved(e, axes) for e in map)


def _moved(e: Affine, axes: Mapping[int, Moved]) -> Affine:
    terms, constant = [], e.constant
    for axis, coefficient in e.terms:
        constant += coefficient * axes[axis].constant
        terms += [(other, coefficient * scale) for other, scale in axes[axis].terms]
    return Affine(tuple(sorted(terms)), constant)


@lru_cache(maxsize=4096)
def recaptured(body: Body, outside: tuple[int | None, ...]) -> tuple[Body, tuple[int, ...]]:
    """The body with the arguments that come from `outside` last, in the order of their first use, each once; and what
    these are."""
    used = dict.fromkeys(x for op in body.ops for x in op.operands)
    used.update(dict.fromkeys(body.results))
    order = list(dict.fromkeys(n for x in used if x < len(outside) and (n := outside[x]) is not None))
    own = [k for k, number in enumerate(outside) if number is None]
    place = {k: new for new, k in enumerate(own)}
    types = [body.types[k] for k in own]
    for new, number in enumerate(order, len(own)):
        sources = [k for k, n in enumerate(outside) if n == number]
        place.update(dict.fromkeys(sources, new))
        types.append(body.types[sources[0]])
    down = len(body.types) - len(types)

    def renamed(x: int) -> int:
        return place[x] if x < len(body.types) else x - down

    ops = tuple(op._replace(operands=tuple(map(renamed, op.operands))) for op in body.ops)
    return Body(tuple(types), ops, tuple(map(renamed, body.results))), tuple(order)
