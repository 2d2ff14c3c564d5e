"""The graph that a group replays to, and maps as views of it.

In: maps of operands. Out: nodes that slice, flip, permute and stretch. Next: `replay_folds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.compiler.groups.form import Affine, Call, Generic, Group, GroupError, Map, identity_map
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph, Loc, Node
from flambeau.dialects.record import OpRecord, find
from flambeau.dialects.size import Int, same


class GraphMaker:
    """A graph under construction: `value[v]` is the group's value `v` in it, and `integers[v]` what it is if it is known."""

    def __init__(self, group: Group) -> None:
        self.group, self.graph = group, Graph(sizes=group.sizes)
        self.value: dict[int, int] = {v: self.graph.add_input(group.avals[v]) for v in group.inputs}
        self.integers: dict[int, Int] = {}
        self.errors: dict[int, int] = {}
        self._views: dict[Any, int] = {}

    def node(self, op: OpRecord, operands: Sequence[int], aval: Aval, loc: Loc | None = None, attrs: Any = ()) -> int:
        return self.nodes(op, operands, [aval], loc, attrs)[0]

    def nodes(
        self, op: OpRecord, operands: Sequence[int], avals: Sequence[Aval], loc: Loc | None = None, attrs: Any = ()
    ) -> tuple[int, ...]:
        """A node with any number of results."""
        results = tuple(self.graph.add_value(aval) for aval in avals)
        self.graph.nodes.append(Node(op, tuple(operands), attrs, results, loc))
        return results

    def record(
        self, name: str, operands: Sequence[int], aval: Aval, attrs: tuple[Any, ...] = (), loc: Loc | None = None
    ) -> int:
        """A node of a record. Its types are known: asking the record would ask about sizes."""
        return self.node(find(name), operands, aval, loc, attrs)

    def constant(self, value: Any, dtype: DType) -> int:
        return self.record("constant", (), Aval((), dtype), (value, dtype))

    def viewed(self, name: str, x: int, shape: tuple[Int, ...], attrs: tuple[Any, ...]) -> int:
        """A view of a value of the graph."""
        return self.record(name, [x], Aval(shape, self.graph.avals[x].dtype), attrs)

    def reshaped(self, x: int, shape: tuple[Int, ...]) -> int:
        return x if shape == self.shape(x) else self.viewed("reshape", x, shape, (shape,))

    def broadcast(self, x: int, shape: tuple[Int, ...]) -> int:
        return x if shape == self.shape(x) else self.viewed("broadcast", x, shape, (shape,))

    def aval(self, op: Call) -> Aval:
        """The type of an op's one result."""
        return self.group.avals[op.results[0]]

    def shape(self, x: int) -> tuple[Int, ...]:
        return self.graph.avals[x].shape

    def fails(self, result: int, code: Any) -> None:
        """The op that gives `result` may fail, as number `code`."""
        self.errors[result] = code

    def arguments(self, op: Generic, slots: Sequence[int], loops: list[int]) -> list[int]:
        """Arguments of a body as tensors over `loops`: operands through their maps, captured scalars stretched."""
        first = len(op.operands) + len(op.results)
        if any(len(op.operands) <= k < first for k in slots):
            raise GroupError("[linalg.generic] a body reads what its result was before. Only folds do that.")
        return [
            self.view(op.operands[k], op.maps[k], loops, op.extents)
            if k < first
            else self.view(op.captures[k - first], (), loops, op.extents)
            for k in slots
        ]

    def view(self, v: int, map: Map, loops: list[int], extents: Sequence[Int]) -> int:
        """Value `v` of the group read through a map, as a tensor over `loops`."""
        rank = len(loops)
        if map == identity_map(rank) and loops == list(range(rank)) and self.group.avals[v].shape == tuple(extents):
            return self.value[v]
        key = (v, map, tuple((d, extents[d]) for d in loops))
        if key not in self._views:
            self._views[key] = self._view(self.value[v], map, list(loops), extents)
        return self._views[key]

    def stretched(self, x: int, loops: Sequence[int], extents: Sequence[Int]) -> int:
        """A value of rank 0 in every place of a nest."""
        return self._view(x, (), list(loops), extents)

    def _view(self, x: int, map: Map, loops: list[int], extents: Sequence[Int]) -> int:
        if any(len(e.terms) > 1 for e in map) and any(same(extents[d], 0) for d in loops):
            return self.stretched(self.constant(0, self.graph.avals[x].dtype), loops, extents)
        x = self._sliced(x, self._windows(map, extents))
        x, read = self._unfolded(x, map, extents)
        backwards = tuple(axis for axis, e in enumerate(read) if e.terms and e.terms[0][1] < 0)
        if backwards:
            x = self.viewed("flip", x, self.shape(x), (backwards,))
        order = sorted((loops.index(e.terms[0][0]), axis) for axis, e in enumerate(read) if e.terms)
        rest = [axis for axis, e in enumerate(read) if not e.terms]
        perm = (*rest, *(axis for _, axis in order))
        axes_in_order = [axis for _, axis in order]
        if axes_in_order != sorted(axes_in_order):  # else a reshape puts units where they belong
            x = self.viewed("permute", x, tuple(self.shape(x)[axis] for axis in perm), (perm,))
        present = {k for k, _ in order}
        if len(present) != len(order):
            raise GroupError(f"[linalg.generic] a map reads two axes by one loop: {map}. No generator follows it.")
        x = self.reshaped(x, tuple(extents[d] if k in present else 1 for k, d in enumerate(loops)))
        return self.broadcast(x, tuple(extents[d] for d in loops))

    def _windows(self, map: Map, extents: Sequence[Int]) -> list[tuple[Int, Int, int]]:
        """(start, size, step) of every axis: the elements that loops reach, each of them where there are several loops."""
        windows: list[tuple[Int, Int, int]] = []
        for e in map:
            start = e.constant + sum(c * (extents[loop] - 1) for loop, c in e.terms if c < 0)
            if len(e.terms) == 1:
                ((loop, c),) = e.terms
                windows.append((start, extents[loop], abs(c)))
            else:
                windows.append((start, 1 + sum(abs(c) * (extents[loop] - 1) for loop, c in e.terms), 1))
        return windows

    def _unfolded(self, x: int, map: Map, extents: Sequence[Int]) -> tuple[int, Map]:
        """What is read by several loops along one axis, with an axis for each."""
        read = list(map)
        for axis, e in enumerate(map):
            if len(e.terms) < 2:
                continue
            for k in range(len(e.terms) - 1, 0, -1):
                (outer, step), (loop, c) = e.terms[0], e.terms[k]
                step = abs(step) if k == 1 else 1
                size, span = extents[loop], self.shape(x)[axis]
                count = extents[outer] if k == 1 else span - abs(c) * (size - 1)
                shape = tuple(count if a == axis else n for a, n in enumerate(self.shape(x)))
                x = self.viewed("unfold", x, (*shape, size), (axis, size, step, abs(c)))
                read.append(Affine(((loop, c),)))
            read[axis] = Affine(e.terms[:1])
        return x, tuple(read)

    def _sliced(self, x: int, windows: list[tuple[Int, Int, int]]) -> int:
        starts, sizes, steps = (tuple(w[k] for w in windows) for k in range(3))
        is_all = sizes == self.shape(x) and all(s == 0 for s in starts) and all(s == 1 for s in steps)
        return x if is_all else self.viewed("slice", x, sizes, (starts, sizes, steps))
