"""The calls of a trace, its own and those of traces that it has imported, by slots.

In: the export of a trace. Out: `CallHistory`: which call makes a slot, where the gradients of a slot meet, and where its data lie.
It says what `assembly.py` says of values, and costs what is looked at: of an imported trace the calls on the way.
Next: `runtime/binding/call_reach.c`, which finds the calls that gradients pass; `call_gradients.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph
from flambeau.imported_calls import Imported, JoinedCalls, imported


class _JoinedTrace(NamedTuple):
    """An imported trace whose calls are joined: the first number of its slots, which of them have values, its place."""

    base: int
    trace: Imported
    kept: tuple[int, ...]
    at: int


class CallHistory:
    """A trace up to a backward. A slot of an imported trace has the number that the trace gives it.

    makers          slot -> the entry of the call that makes it, the number that its trace's slots begin with, and its place
    given           input of an imported trace -> the slot that it is here
    data            slot of a leaf, or of what was kept of an imported trace -> the slot with its data
    links           slot -> where its gradients go on
    overwritten     slot whose tensor holds something else by now -> the place of what has written it; `freed` slots whose
                    history was used up
    own             slots that have their data when the trace runs: its inputs and results
    meets           gradients through two results of an imported trace meet in it, so fewer of its calls may be joined
    """

    def __init__(self, leaves: Sequence[int], joins: bool = True) -> None:
        self.leaves, self.joins = frozenset(leaves), joins
        self.meets = False
        self.makers: dict[int, tuple[Sequence[Any], int, int]] = {}
        self.given: dict[int, int] = {}
        self.data: dict[int, int] = {}
        self.links: dict[int, int] = {}
        self.overwritten: dict[int, int] = {}
        self.freed: set[int] = set()
        self.own: set[int] = set()
        self._avals: dict[int, Aval] = {}
        self._before: dict[int, list[int]] = {}  # by what was written aside: what the tensor held before
        self._at = 0
        self._places: list[_JoinedTrace] = []
        self._bases: list[int] = []
        self._within: dict[int, set[int]] = {}  # by where a joined trace begins: slots that gradients pass

    # ---- reading ----------------------------------------------------------------------------------------------

    def read(self, export: Sequence[tuple]) -> bool:
        """Whether the trace is one of calls alone, its own or imported ones, all of whose leaves are among those asked for."""
        return self._entries(export, 0, {})

    def _entries(self, export: Sequence[tuple], base: int, provided: Mapping[int, int]) -> bool:
        for entry in export:
            kind = entry[0]
            self._at += 1
            if kind == "call":
                self._call(entry, base, provided)
            elif kind == "input" or kind == "scalar":
                self._enter(entry, base, provided)
            elif kind == "leaf":
                if not base and entry[1] not in self.leaves:
                    return False
                if entry[1] in provided:
                    self.data[base + entry[1]] = provided[entry[1]]
                elif entry[2] is not None:
                    self.data[base + entry[1]] = base + entry[2]
            elif kind == "segment":
                if not self._segment(base, provided, *entry[1:]):
                    return False
            elif not self._mark(entry, base, provided):
                return False
        return True

    def _enter(self, entry: tuple, base: int, provided: Mapping[int, int]) -> None:
        slot = entry[1]
        if slot in provided:
            self.given[base + slot] = provided[slot]
        elif not base:
            self.own.add(slot)
            if entry[0] == "input":
                self._avals[slot] = Aval(entry[2], entry[3], entry[6])

    def _call(self, entry: tuple, base: int, provided: Mapping[int, int]) -> None:
        _, _, operands, results, writes, *_ = entry
        made = entry, base, self._at
        for slot in results:
            self.makers[base + slot] = made
            if slot in provided:
                self.data[base + slot] = provided[slot]
        if not base:
            self.own.update(results)
        self._write(operands, results, writes, base)

    def _write(self, operands: Sequence[Any], results: Sequence[Any], writes: Sequence[int], base: int) -> None:
        for slot, write in zip(results, writes, strict=True):
            if write >= 0:
                old, view, *_ = operands[write]
                lost = self._lost(base + old)
                if view is not None and view.aside:
                    self._before[self.data_of(base + slot)] = lost

    def _lost(self, slot: int) -> list[int]:
        """Note that the tensor of a slot holds something else from here on, also what it held before if it was written aside."""
        old = self.data_of(slot)
        lost = [old, *self._before.get(old, ())]
        self.overwritten.update(dict.fromkeys(lost, self._at))
        return lost

    def _mark(self, entry: tuple, base: int, provided: Mapping[int, int]) -> bool:
        kind = entry[0]
        if kind == "link":
            here = base + entry[1]
            self.links[self.given.get(here, here)] = base + entry[2]
        elif kind == "graft":
            self.data[base + entry[1]] = base + entry[2]
            self.links[base + entry[1]] = base + entry[3]
        elif kind == "freed":
            self.freed.update([base + slot for slot in entry[1]])
        elif kind in ("modified", "written_aside"):
            for slot in entry[1]:
                self._lost(base + slot)
        elif kind in ("backward", "grad"):
            _, payload, operands, results, writes, *_ = entry
            self.freed.update([base + slot for slot in payload.freed])
            self.data.update([(base + slot, provided[slot]) for slot in results if slot in provided])
            if not base:
                there = [slot for slot in results if slot is not None]
                self.own.update(there)
                self._avals.update(zip(there, payload.types, strict=True))
            self._write(operands, results, writes, base)
        else:
            return False
        return True

    def _segment(
        self, base: int, provided: Mapping[int, int], at: int, inner: list, state: int, given: dict, sizes: tuple
    ) -> bool:
        if sizes:
            return False
        if self.joins and not base and not provided and (trace := imported(state, inner)) is not None:
            self._join(trace, at, given)
            return True
        kept = {slot - at: now for slot, now in provided.items() if slot >= at}
        return self._entries(inner, base + at, {slot: base + now for slot, now in given.items()} | kept)

    def _join(self, trace: Imported, base: int, provided: Mapping[int, int]) -> None:
        self._places.append(_JoinedTrace(base, trace, tuple(provided), self._at))
        self._bases.append(base)
        for slot, now in provided.items():
            (self.given if slot in trace.inputs else self.data)[base + slot] = now
        for leaf, held in trace.leaves:
            if held is not None and leaf not in provided:
                self.data[base + leaf] = base + held

    def writes_within(self) -> bool:
        """Whether what a joined call computes on its way was overwritten in its tensor, which its derivative cannot say."""
        return any(self._place_of(slot) is not None for slot in self.overwritten)

    # ---- what a slot is ---------------------------------------------------------------------------------------

    def data_of(self, slot: int) -> int:
        """The slot with the data of a slot."""
        return self._end(slot, self.data)

    def meeting(self, slot: int) -> int:
        """The slot where the gradients of a slot meet: its history, if that has parted from its data."""
        return self._end(slot, self.links)

    def _end(self, slot: int, onward: Mapping[int, int]) -> int:
        """Where a slot leads, as long as it leads on."""
        given = self.given
        if not given and not onward:
            return slot
        while True:
            slot = given.get(slot, slot)
            if slot not in onward:
                return slot
            slot = onward[slot]

    def type_of(self, slot: int) -> Aval | None:
        """None where it is not at hand."""
        slot = self.data_of(slot)
        made = self._maker(slot)
        if made is None:
            return self._avals.get(slot)
        graph: Graph = made[0][1].graph
        return graph.avals[graph.outputs[made[0][3].index(slot - made[1])]]

    def made_by(self, slot: int) -> tuple[Graph, list[int], list[int]] | None:
        """The call that makes a slot: its graph, operands and results."""
        made = self._maker(slot)
        if made is None:
            return None
        (_, payload, operands, results, *_), base, _ = made
        values = [base + s for o in operands if o is not None for s in (o[0], *o[2])]
        return payload.graph, values, [base + s for s in results]

    def _maker(self, slot: int) -> tuple[Sequence[Any], int, int] | None:
        made = self.makers.get(slot)
        if made is None and (place := self._place_of(slot)) is not None:
            made = place.trace.makers[slot - place.base], place.base, place.at
        return made

    def _place_of(self, slot: int) -> _JoinedTrace | None:
        """The joined trace that makes a slot."""
        if not self._bases:
            return None
        k = bisect_right(self._bases, slot)
        place = self._places[k - 1] if k else None
        return place if place is not None and slot - place.base in place.trace.makers else None

    # ---- what gradients pass ----------------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether calls of imported traces are joined."""
        return bool(self._bases)

    def met_within(self, slot: int) -> tuple[JoinedCalls, list[int], int, int, int] | None:
        """The call that makes a slot of a joined trace: with the slots of its values, how many of them are operands, its place
        among the entries, and the number that the slots of the trace begin with."""
        place = self._place_of(slot)
        if place is None:
            return None
        call = place.trace.joined(slot - place.base, place.kept)
        return call, [place.base + s for s in call.reads], len(call.operands), place.at, place.base

    def go_within(self, base: int, slot: int, inner: Sequence[int]) -> None:
        """Note that gradients pass these slots on their way from `slot`; where others do, too, these begin a call of their own."""
        others = self._within.setdefault(base, set())
        if common := others.intersection(inner):
            self.meets = True
            met = slot if slot in others else max(common)
            self._places[bisect_right(self._bases, base) - 1].trace.cut(met - base)
        others.update(inner)


_ATTEMPTS = 8  # at joining calls, each of which says where gradients meet; equal traces need one


def call_histories(export: Sequence[tuple], leaves: Sequence[int]) -> Iterator[CallHistory]:
    """What a loss goes through on its way to the leaves, with fewer joined calls after each whose gradients have met."""
    for attempt in range(_ATTEMPTS + 1):
        trace = CallHistory(leaves, joins=attempt < _ATTEMPTS)
        if not trace.read(export):
            return
        if trace.writes_within():
            trace = CallHistory(leaves, joins=False)
            trace.read(export)
        yield trace
        if not trace.meets:
            return
