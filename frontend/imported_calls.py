"""Imported traces as few calls: what lies behind a value that is read from outside is one call, which equal traces share.

In: the export of an imported trace, which is told by its state. Out: `Imported`, and of it `JoinedCalls` for a value: so the
derivative of an episode's step is made once, and looked up as one for each after. Next: `call_history.py`, which lays them out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from flambeau.call_derivatives import Known, is_plain
from flambeau.dialects.graph import Graph
from flambeau.dialects.locks import process_lock


class JoinedCalls(Known):
    """The calls behind a slot of an imported trace as one.

    operands    the slots of its inputs; then its `values` go on with those of results that were kept
    reads       the slots of all its values
    slots       value -> slot, of the results of its calls
    """

    __slots__ = ("operands", "reads")

    def __init__(self, trace: Imported, slot: int, kept: Iterable[int]) -> None:
        entries = trace.behind(slot)
        made = {s for entry in entries for s in entry[3] if s == slot or s not in trace.cuts}
        read = dict.fromkeys(s for entry in entries for s in _values(entry))
        self.operands = tuple([s for s in read if s not in made])
        graph = Graph([], [], [], [])
        numbers = {s: graph.add_value(trace.avals[s]) for s in self.operands}
        graph.inputs = list(numbers.values())
        for entry in entries:
            found = graph.inline(entry[1].graph, [numbers[s] for s in _values(entry)])
            numbers.update([(s, v) for s, v in zip(entry[3], found, strict=True) if s in made])
        results = [s for s in kept if s in made]
        graph.outputs = [numbers[slot]]
        self.reads = (*self.operands, *results)
        super().__init__(graph, [numbers[s] for s in self.reads], {numbers[s]: s for s in made})


class Imported:
    """An imported trace of calls that only compute.

    makers      slot -> the entry of the call that makes it
    inputs      the slots of values and scalars that enter; `leaves` those of leaves, with that of what they hold
    cuts        slots that gradients reach on several ways: no call goes beyond them
    """

    def __init__(self, export: Sequence[tuple]) -> None:
        self.export = export
        self.makers = {slot: entry for entry in export if entry[0] == "call" for slot in entry[3]}
        self.inputs = frozenset([entry[1] for entry in export if entry[0] in ("input", "scalar")])
        self.leaves = [entry[1:] for entry in export if entry[0] == "leaf"]
        self.cuts: frozenset[int] = frozenset()
        self._joined: dict[tuple[int, ...], JoinedCalls] = {}

    @cached_property
    def avals(self) -> dict[int, Any]:
        """The types of what calls read from outside of them, as the calls have them."""
        return {
            slot: entry[1].graph.avals[v]
            for entry in self.makers.values()
            for slot, v in zip(_values(entry), entry[1].graph.inputs, strict=True)
        }

    @cached_property
    def shapes(self) -> dict[int, tuple]:
        """The shapes of values that enter, and of results."""
        found = {entry[1]: entry[2] for entry in self.export if entry[0] == "input"}
        for slot, entry in self.makers.items():
            graph = entry[1].graph
            found[slot] = graph.avals[graph.outputs[entry[3].index(slot)]].shape
        for leaf, held in self.leaves:
            if held in found:
                found[leaf] = found[held]
        return found

    def behind(self, slot: int) -> list[tuple]:
        """The calls that a slot depends on, in their order, up to the cuts."""
        found: set[int] = set()
        pending = [slot]
        while pending:
            entry = self.makers.get(pending.pop())
            if entry is not None and id(entry) not in found:
                found.add(id(entry))
                pending += [s for s in _values(entry) if s not in self.cuts]
        return [entry for entry in self.export if id(entry) in found]

    def cut(self, slot: int) -> None:
        """From here on no call goes beyond this slot."""
        self.cuts, self._joined = self.cuts | {slot}, {}

    def joined(self, slot: int, kept: Sequence[int]) -> JoinedCalls:
        """The call that makes a slot, where the `kept` ones have their values."""
        key = slot, *kept
        found = self._joined.get(key)
        if found is None:
            found = self._joined[key] = JoinedCalls(self, slot, kept)
        return found


def _values(entry: tuple) -> list[int]:
    """The slots that a call reads, one for each input of its graph."""
    return [s for operand in entry[2] if operand is not None for s in (operand[0], *operand[2])]


_KINDS = {"input", "scalar", "leaf", "call"}
_MOST = 256
_known: OrderedDict[int, Imported | None] = OrderedDict()
_lock = process_lock()


def imported(state: int, export: Sequence[tuple]) -> Imported | None:
    """The trace of this state; None where its calls are to be looked at one by one."""
    if state in _known:
        return _known[state]
    found = Imported(export) if all(map(_only_computes, export)) else None
    with _lock:
        _known[state] = found
        if len(_known) > _MOST:
            _known.popitem(last=False)
    return found


def _only_computes(entry: tuple) -> bool:
    """Whether calls may be joined where this is an entry: nothing is written, each result is a value of its own, and gradients
    can come through one of them at most."""
    if entry[0] != "call":
        return entry[0] in _KINDS
    graph, writes = entry[1].graph, entry[4]
    made = [v for node in graph.nodes for v in node.results]
    alone = len(set(graph.outputs)) == len(graph.outputs) and set(made).issuperset(graph.outputs)
    alone = alone and sum(graph.avals[v].dtype.is_inexact for v in graph.outputs) <= 1
    return alone and None not in entry[3] and all(write < 0 for write in writes) and is_plain(graph)
