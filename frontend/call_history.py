"""The calls that gradients of a trace pass, its own and those of traces that it has imported, by slots.

In: the export of a trace. Out: `CallHistory`: which calls a loss goes through, each with its operands, where the gradients of a
slot meet, and where its data lie. It says what `assembly.py` says of values, and costs what is looked at: of an imported
trace the calls on the way. Next: `call_gradients.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flambeau.call_derivatives import Known, known, passes
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph


class Passed(NamedTuple):
    """A call that gradients can pass: where those of its operands meet, which result hands them on, the slots of its operands
    and results, and its place among the entries."""

    call: Known
    wanted: tuple[bool, ...]
    operands: Sequence[int]
    result: int
    values: Sequence[int]
    at: int

    @property
    def slot(self) -> int:
        return self.values[len(self.operands) + self.result]


class CallHistory:
    """A trace up to a backward. A slot of an imported trace has the number that the trace gives it.

    makers          slot -> the entry of the call that makes it, the number that its trace's slots begin with, and its place
    given           input of an imported trace -> the slot that it is here
    data            slot of a leaf, or of what was kept of an imported trace -> the slot with its data
    links           slot -> where its gradients go on
    overwritten     slot whose tensor holds something else by now -> the place of what has written it; `freed` slots whose
                    history was used up
    own             slots that have their data when the trace runs: its inputs and results
    calls           those that gradients pass, each after those it depends on; `needs` the slots between
    """

    def __init__(self, leaves: Sequence[int]) -> None:
        self.leaves = frozenset(leaves)
        self.makers: dict[int, tuple[Sequence[Any], int, int]] = {}
        self.given: dict[int, int] = {}
        self.data: dict[int, int] = {}
        self.links: dict[int, int] = {}
        self.overwritten: dict[int, int] = {}
        self.freed: set[int] = set()
        self.own: set[int] = set()
        self.calls: list[Passed] = []
        self.needs: set[int] = set()
        self._avals: dict[int, Aval] = {}
        self._at = 0

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
        for slot in results:
            self.makers[base + slot] = entry, base, self._at
            if slot in provided:
                self.data[base + slot] = provided[slot]
        if not base:
            self.own.update(results)
        self._write(operands, writes, base)

    def _write(self, operands: Sequence[Any], writes: Sequence[int], base: int) -> None:
        for write in writes:
            if write >= 0:
                self.overwritten[self.data_of(base + operands[write][0])] = self._at

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
            self.overwritten.update([(self.data_of(base + slot), self._at) for slot in entry[1]])
        elif kind in ("backward", "grad"):
            _, payload, operands, results, writes, *_ = entry
            self.freed.update([base + slot for slot in payload.freed])
            self.data.update([(base + slot, provided[slot]) for slot in results if slot in provided])
            if not base:
                there = [slot for slot in results if slot is not None]
                self.own.update(there)
                self._avals.update(zip(there, payload.types, strict=True))
            self._write(operands, writes, base)
        else:
            return False
        return True

    def _segment(
        self, base: int, provided: Mapping[int, int], at: int, inner: list, state: int, given: dict, sizes: tuple
    ) -> bool:
        if sizes:
            return False
        kept = {slot - at: now for slot, now in provided.items() if slot >= at}
        return self._entries(inner, base + at, {slot: base + now for slot, now in given.items()} | kept)

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
        while True:
            slot = given.get(slot, slot)
            if slot not in onward:
                return slot
            slot = onward[slot]

    def type_of(self, slot: int) -> Aval | None:
        """None where it is not at hand."""
        slot = self.data_of(slot)
        made = self.makers.get(slot)
        if made is None:
            return self._avals.get(slot)
        graph: Graph = made[0][1].graph
        return graph.avals[graph.outputs[made[0][3].index(slot - made[1])]]

    def made_by(self, slot: int) -> tuple[Graph, list[int], list[int]] | None:
        """The call that makes a slot: its graph, operands and results."""
        made = self.makers.get(slot)
        if made is None:
            return None
        (_, payload, operands, results, *_), base, _ = made
        values = [base + s for o in operands if o is not None for s in (o[0], *o[2])]
        return payload.graph, values, [base + s for s in results]

    # ---- what gradients pass ----------------------------------------------------------------------------------

    def reach(self, root: int) -> bool:
        """Find the calls from `root` down to the leaves. False: one hands on the gradients of several results."""
        self.needs = {self.meeting(slot) for slot in self.leaves}
        entered: set[int] = set()
        pending: list[tuple[int, tuple[Graph, list[int], list[int]] | None]] = [(root, None)]
        while pending:
            slot, made = pending.pop()
            if made is not None:
                if not self._pass(*made, self.makers[slot][2]):
                    return False
            elif slot not in entered and (call := self.made_by(slot)) is not None:
                graph, values, results = call
                entered.update(results)
                operands = [self.meeting(v) for v in values]
                pending.append((slot, (graph, operands, [*values, *results])))
                pending.extend([(v, None) for v in operands])
        return True

    def _pass(self, graph: Graph, operands: Sequence[int], values: Sequence[int], at: int) -> bool:
        needs = self.needs
        wanted = tuple([v in needs for v in operands])
        if True not in wanted:
            return True
        call = known(graph)
        through = passes(call, wanted)
        if True in through:
            k = through.index(True)
            needs.add(values[len(operands) + k])
            self.calls.append(Passed(call, wanted, operands, k, values, at))
        return through.count(True) <= 1
