"""Views whose gradients are asked for: every read of such a view goes through one value of the graph.

A view is read anew by each call that takes it, so in a trace it is no value of its own. Where tensor hooks or `grad` need
its whole gradient, the trace is assembled with an alias for it. Two views of the same elements of the same tensor are one.
In: the export of a trace, places of views. Out: an `Assembly` with `aliases`. Next: `inline.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flambeau.assembly import Assembly, in_order
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph, Loc, Node
from flambeau.dialects.history import graft
from flambeau.dialects.record import find
from flambeau.engine import START, View


class Place(NamedTuple):
    """Where a tensor is in a history: a slot, and the view through which it is seen."""

    slot: int
    view: View | None = None
    starts: tuple[int, ...] = ()

    def within(self, view: View, starts: Sequence[int | None]) -> bool:
        """Whether what `view` shows is seen through this view. A view of all elements as they are has no parts."""
        assert self.view is not None
        steps = self.view.steps
        same = view.steps[: len(steps)] == steps if steps else not view.steps
        return same and not view.detached and tuple(starts[: len(self.starts)]) == self.starts


class SharedViews(Assembly):
    """A trace in which all reads of the views at `places` are one value each: `alias(place)`.

    `plain` is the same trace without, `numbers` has the scalars that entered it. What is asked of a place looks only at those of
    the same tensor that begin as it does, of however many there are.
    """

    def __init__(self, export: Sequence[tuple], plain: Assembly, places: Sequence[Place], numbers: Mapping) -> None:
        self.plain, self.numbers = plain, numbers
        self.places: list[Place] = []
        self.near: dict[tuple[int, tuple[int | None, ...]], list[int]] = {}  # (slot, starts) -> positions in `places`
        for place in map(self.rooted, places):
            there = self.near.setdefault((place.slot, place.starts), [])
            if all(self.places[k] != place for k in there):
                there.append(len(self.places))
                self.places.append(place)
        self.aliases: dict[int, int] = {}  # by position in `places`
        self.shown: dict[int, int] = {}  # alias -> the read that it takes its data from
        self.data: dict[int, int] = {}  # by position in `places`: the value of `plain` that this reads
        self.known: dict[int, int] = {}  # value -> the number it is
        super().__init__(export)
        self._finish()

    def rooted(self, place: Place) -> Place:
        """The place in the trace that the history came from."""
        return place._replace(slot=self.plain.root_of(place.slot))

    def alias(self, place: Place) -> int:
        """The value that all reads of a view go through."""
        rooted = self.rooted(place)
        return self.aliases[next(k for k in self.near[rooted.slot, rooted.starts] if self.places[k] == rooted)]

    def _around(self, slot: int, view: View, starts: tuple[int | None, ...]) -> list[int]:
        """The places through which a view of a tensor is seen, in order."""
        begun = [k for n in range(len(starts) + 1) for k in self.near.get((slot, starts[:n]), ())]
        return sorted(k for k in begun if self.places[k].within(view, starts))

    def _read(self, k: int) -> None:
        """A view that no call of the trace reads, added to the graph: seen through the other views that it is within."""
        place = self.places[k]
        assert place.view is not None
        b = GraphBuilder(self.graph)
        starts = [b.constant(s, int64) for s in place.starts]
        around = [j for j in self._around(place.slot, place.view, place.starts) if j != k]
        if not around:
            self._add(k, place.view.read(b.value(self.slots[place.slot]), starts).id, 0)
            return
        nearest = max(around, key=lambda j: len(_view(self.places[j]).steps))
        if nearest not in self.aliases:
            self._read(nearest)
        rest = place.view.after(_view(self.places[nearest]))
        self._add(k, rest.read(b.value(self.aliases[nearest]), starts[len(self.places[nearest].starts) :]).id, 0)

    def _finish(self) -> None:
        """Put the aliases into the graph, each after what it shows."""
        for k in range(len(self.places)):
            if k not in self.aliases:
                self._read(k)
        reshape, avals = find("reshape"), self.graph.avals
        self.graph.nodes += [Node(reshape, (v,), (avals[a].shape,), (a,)) for a, v in self.shown.items()]
        self.graph.nodes = in_order(self.graph.nodes)

    # ---- assembling

    def _scalar(self, offset, provided, slot, kind) -> None:
        super()._scalar(offset, provided, slot, kind)
        if not offset and slot in self.numbers:
            self.known[self.slots[slot]] = self.numbers[slot]

    def _inline(
        self,
        offset: int,
        graph: Graph,
        values: list[int],
        operands: Sequence[tuple | None],
        writes: Sequence[int],
        loc: Loc | None,
    ) -> list[int]:
        reads = self._reads(offset, graph, operands, writes)
        if not reads:
            return super()._inline(offset, graph, values, operands, writes, loc)
        start = len(self.graph.nodes)
        ids = {v: self._through(reads.get(v), now, offset) for v, now in zip(graph.inputs, values, strict=True)}
        for node in graph.nodes:
            made = tuple(self.graph.add_value(graph.avals[v]) for v in node.results)
            self.graph.nodes.append(node._replace(operands=tuple(ids[v] for v in node.operands), results=made))
            ids.update((v, self._through(reads.get(v), now, offset)) for v, now in zip(node.results, made))
        if loc is not None:
            self.graph.nodes[start:] = [n._replace(loc=loc) for n in self.graph.nodes[start:]]
        return [ids[v] for v in graph.outputs]

    def _reads(
        self, offset: int, graph: Graph, operands: Sequence[tuple | None], writes: Sequence[int]
    ) -> dict[int, tuple[int, int]]:
        """The values of a call's fragment that are reads of one of the places, each with its data in `plain`. Operands are read
        first, in order.

        A call that writes to a view starts from the tensor's history, not from the view's.
        """
        found: dict[int, tuple[int, int]] = {}
        at = 0
        for i, operand in enumerate(operands):
            if operand is None:
                continue
            slot, view, starts = operand
            if view is not None and i not in writes:
                numbers = tuple(self.known.get(self.slots[offset + s]) for s in starts)
                root = self.rooted(Place(offset + slot)).slot
                data = self.plain.available(self.plain.facts.data_at(self.plain, offset + slot))
                for k in self._around(root, view, numbers):
                    found[graph.inputs[at] + _position(self.places[k].view, len(starts))] = k, data
            at += 1 + len(starts)
        return found

    def _through(self, read: tuple[int, int] | None, value: int, offset: int) -> int:
        """What stands for a value: the alias, if the value is a read of a view; with data of its own where others were written to
        the tensor, aside of its history, between this read and the first."""
        if read is None:
            return value
        k, data = read
        if self.data.setdefault(k, data) != data:
            return self.graph.add_node(graft, [value, self.aliases[k]])[0]
        self._add(k, value, offset)
        return self.aliases[k]

    def _add(self, k: int, value: int, offset: int) -> None:
        if k not in self.aliases:
            self.aliases[k] = self.graph.add_value(self.graph.avals[value])
            self.shown[self.aliases[k]] = value
        elif not offset:  # the data are here; those of an imported trace may be gone
            self.shown[self.aliases[k]] = value


def _view(place: Place) -> View:
    assert place.view is not None
    return place.view


def _position(view: View | None, n_starts: int) -> int:
    """Which value of a fragment the read of an operand is, counted from its base. `n_starts`: of the whole operand."""
    assert view is not None
    b = GraphBuilder()
    base = b.input(view.base)
    starts = [b.input(START) for _ in range(n_starts)]
    return view.read(base, starts[: view.n_starts]).id - base.id
