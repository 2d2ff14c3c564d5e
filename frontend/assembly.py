"""Traces as graphs: the recorder's export of a trace becomes one `Graph` of primitive ops.

In: the export, a list of entries in recording order. Out: `Assembly`: the graph, which value each slot is, and which
slots were overwritten. Gradient markers (`stop_gradient`, `graft`) are kept; `dialects/history.strip` removes them for
the compiler. The numbering of values depends on the export alone, so backward expansions can refer to them.
Next: `programs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import bool_
from flambeau.dialects.graph import Graph, Loc, Node
from flambeau.dialects.history import data_operands, graft, stop_gradient
from flambeau.dialects.size import Int, Size, substitute
from flambeau.engine import SCALARS, View

_UNKNOWN = Aval((), bool_)


class Differentiated(NamedTuple):
    """The expansion of a backward or grad entry: inputs of `graph` are values of the assembled prefix: `operands`.

    `freed` are the slots whose history it used up.
    """

    name: str
    graph: Graph
    operands: tuple[int, ...]
    freed: tuple[int, ...] = ()
    cost: int = 0  # the estimated run time in ns

    @property
    def types(self) -> list[Aval]:
        """Of the gradients that there are."""
        return [self.graph.avals[v] for v in self.graph.outputs]


class Overwrite(NamedTuple):
    """The value of slot `slot` was replaced in its tensor by a call whose values have numbers from `first` on.

    `new` is what replaced it, None where another trace has done so. `aside`: through `tensor.data`.
    """

    slot: int
    name: str
    loc: Loc | None
    first: int
    new: int | None = None
    aside: bool = False


def translated(export: Sequence[tuple], sizes: Sequence[Int]) -> list[tuple]:
    """An export with `sizes[i]` for symbol i. Imported traces keep their symbols, what these are changes."""
    return [_translators[kind](entry, sizes) if (kind := entry[0]) in _translators else entry for entry in export]


def _translated_call(entry: tuple, sizes: Sequence[Int]) -> tuple:
    kind, payload, operands, *rest = entry
    operands = tuple(o and (o[0], o[1] and translated_view(o[1], sizes), o[2]) for o in operands)
    return (kind, payload._replace(graph=payload.graph.bind(sizes)), operands, *rest)


def translated_view(view: View, sizes: Sequence[Int]) -> View:
    """A view with `sizes[i]` for symbol i."""
    steps = [s._replace(statics={n: substitute(x, sizes) for n, x in s.statics.items()}) for s in view.steps]
    base, aval = (a._replace(shape=substitute(a.shape, sizes)) for a in (view.base, view.aval))
    return View(base, tuple(steps), aval, view.detached, view.aside)


_translators: dict[str, Callable[[tuple, Sequence[Int]], tuple]] = {
    "input": lambda entry, sizes: (*entry[:2], substitute(entry[2], sizes), *entry[3:]),
    "segment": lambda entry, sizes: (*entry[:-1], substitute(entry[-1], sizes)),
    "call": _translated_call,
    "backward": _translated_call,
    "grad": _translated_call,
}


class Assembly:
    """A trace as a graph.

    slots           slot -> its value
    inputs          the slots that enter from outside, in order; `differentiable` those of them with a history in an
                    earlier trace; `leaves` the slots of leaf entries
    same            value -> the value that holds the same: it need not be computed
    provided        value of an imported trace that was kept -> its slot
    overwrites      which slots were replaced in their tensors; `roots` the input slot whose tensor came to hold a slot
    keeps           slots worth keeping for a backward; `freed` those whose history was used up
    leaf_data       the values that leaves had; `leaf_slots` the slots that are leaves, those of imported traces, too
    made            slot -> the values of the call that made it
    calls           (how many values there were before, first slot, name) of each call, backward and grad of this trace
    imported        the slots of imported traces; `read` those that calls of this one read
    links           slot a of an imported trace -> slot b, where gradients that arrive at it go on
    grafts          slot -> the slot where its history is
    joined          value that has the history of a link -> the slot that was linked; `joins` has these values by the one that is
                    read in the trace, `bridges` their nodes. They are no part of `graph`: see `reach.py`
    zeros           sizes that are 0, or symbols of imported traces would not agree with those of this one
    slots_of        value -> its slots, the first one first: those of imported traces show what was provided for them

    `sizes` are the values of the trace's symbols. `extend` adds what has been recorded since; what looks at a value alone is
    in `facts`, which likewise look at each node once.
    """

    def __init__(self, export: Sequence[tuple], sizes: Sequence[int] = ()) -> None:
        self.graph = Graph(sizes=tuple(sizes))
        self.zeros: list[Size] = []
        self.slots: dict[int, int] = {}
        self.inputs: list[int] = []
        self.leaves: list[int] = []
        self.differentiable: list[int] = []
        self.same: dict[int, int] = {}
        self.provided: dict[int, int] = {}
        self.overwrites: list[Overwrite] = []
        self.freed: list[int] = []
        self.links: dict[int, int] = {}
        self.grafts: dict[int, int] = {}
        self.joined: dict[int, int] = {}
        self.joins: dict[int, int] = {}
        self.bridges: dict[int, Node] = {}
        self.slots_of: dict[int, list[int]] = {}
        self.made: dict[int, frozenset[int]] = {}
        self.calls: list[tuple[int, int, str]] = []
        self.imported: set[int] = set()
        self.read: set[int] = set()
        self.keeps: set[int] = set()
        self.leaf_data: set[int] = set()
        self.leaf_slots: set[int] = set()
        self.roots: dict[int, int] = {}
        self.n_read = 0
        self._facts = Facts()
        self.extend(export)

    def extend(self, export: Sequence[tuple], sizes: Sequence[Int] | None = None) -> None:
        """Read the entries of the export that are new; with `sizes[i]` for symbol i, if given."""
        new = export[self.n_read :]
        self.n_read += len(new)
        self._entries(new if sizes is None else translated(new, sizes), 0, {})

    @contextmanager
    def scratch(self) -> Iterator[Graph]:
        """A graph whose values have numbers behind those of the trace, for a look at what was recorded. Scalars that are
        entered and values that are added meanwhile are gone at the end: the entry that is about to be made brings them again."""
        n_values, n_inputs = len(self.graph.avals), len(self.inputs)
        try:
            yield Graph(self.graph.avals, self.graph.inputs, sizes=self.graph.sizes)
        finally:
            for slot in self.inputs[n_inputs:]:
                value = self.slots.pop(slot)
                self.keeps.discard(slot)
                del self.slots_of[value], self.roots[slot]
            self._facts.forget_inputs(self.graph.inputs, n_inputs)
            del self.inputs[n_inputs:], self.graph.inputs[n_inputs:], self.graph.avals[n_values:]

    def _hold(self, slot: int, value: int) -> None:
        self.slots[slot] = value
        self.slots_of.setdefault(value, []).append(slot)

    def _entries(self, export: Sequence[tuple], offset: int, provided: dict[int, int]) -> None:
        for kind, *rest in export:
            getattr(self, f"_{kind}")(offset, provided, *rest)

    def _same_shape(self, inner: Aval, outer: Aval) -> None:
        """A value of an imported trace was provided: what that says of symbols."""
        apart = [a - b for a, b in zip(inner.shape, outer.shape, strict=True)]
        self.zeros += [zero for zero in apart if isinstance(zero, Size)]

    def _enter(self, offset: int, provided: dict[int, int], slot: int, aval: Aval) -> None:
        if slot in provided:
            self._hold(offset + slot, self.slots[provided[slot]])
            self._same_shape(aval, self.graph.avals[self.slots[offset + slot]])
        elif offset:  # an input of an imported trace that nothing reads any more
            self._hold(offset + slot, self.graph.add_value(aval))
        else:
            self._hold(slot, self.graph.add_input(aval))
            self.inputs.append(slot)
            self.roots[slot] = slot

    def _input(self, offset, provided, slot, shape, dtype, requires_grad, is_leaf, device) -> None:
        self._enter(offset, provided, slot, Aval(shape, dtype, device))
        if requires_grad and not is_leaf:
            self.differentiable.append(offset + slot)
        self.keeps.add(offset + slot)

    def enter_scalar(self, slot: int, kind: str) -> None:
        """A scalar of the entry that is about to be made."""
        self._scalar(0, {}, slot, kind)

    def _scalar(self, offset, provided, slot, kind) -> None:
        self._enter(offset, provided, slot, Aval((), SCALARS[kind]))
        self.keeps.add(offset + slot)

    def _leaf(self, offset, provided, slot, data) -> None:
        if data is None:  # known for its gradient only; `_link` or `_graft` will tell its type
            value = self.graph.add_value(_UNKNOWN)
        else:
            (value,) = self.graph.add_node(stop_gradient, [self.slots[offset + data]])
            self.leaf_data.add(self.slots[offset + data])
            self._follow(offset + slot, offset + data)
        self._hold(offset + slot, value)
        self.leaf_slots.add(offset + slot)
        if not offset:
            self.leaves.append(slot)

    def _graft(self, offset, provided, slot, data, history) -> None:
        operands = [self.slots[offset + data], self.slots[offset + history]]
        self._learn_type(operands[1], operands[0])
        (value,) = self.graph.add_node(graft, operands)
        self._hold(offset + slot, value)
        self.grafts[offset + slot] = offset + history
        if offset + history in self.leaf_slots:
            self.leaf_slots.add(offset + slot)
            self.leaf_data.add(operands[0])
        if not offset:
            self.read.update((data, history))
        self._follow(offset + slot, offset + data)

    def _follow(self, slot: int, old: int) -> None:
        """The tensor that held slot `old` now holds `slot`."""
        if old in self.roots:
            self.roots[slot] = self.roots[old]

    def _call(self, offset, provided, payload, operands, results, writes, loc, function) -> None:
        values = []
        for operand in operands:
            if operand is not None:
                values += [self.slots[offset + s] for s in (operand[0], *operand[2])]
        if not offset:
            self.read.update(o[0] for o in operands if o is not None)
        start, first = len(self.graph.nodes), len(self.graph.avals)
        self._begin(offset, results, payload.name)
        place = Loc(*loc) if loc else None
        outputs = self._inline(offset, payload.graph, values, operands, writes, place)
        keep = any([n.op.keep for n in payload.graph.nodes])
        for slot, value in zip(results, outputs):
            self._result(offset, provided, slot, value)
            if keep:
                self.keeps.add(offset + slot)
        own = frozenset(n.results[0] for n in self.graph.nodes[start:])
        self.made.update((offset + slot, own) for slot in results)
        for slot, write in zip(results, writes):
            if write >= 0:
                old, view = offset + operands[write][0], operands[write][1]
                self._follow(offset + slot, old)
                aside = view is not None and view.aside
                self.overwrites.append(Overwrite(old, function.name, place, first, offset + slot, aside))

    def _begin(self, offset: int, results: Sequence[int | None], name: str) -> None:
        first = next((s for s in results if s is not None), None)
        if not offset and first is not None:
            self.calls.append((len(self.graph.avals), first, name))

    def call_of(self, value: int) -> tuple[int, str]:
        """The first slot, and the name, of the call of this trace whose expansion makes a value."""
        return next(((slot, name) for before, slot, name in reversed(self.calls) if before <= value), (0, ""))

    def _inline(
        self,
        offset: int,
        graph: Graph,
        values: list[int],
        operands: Sequence[tuple | None],
        writes: Sequence[int],
        loc: Loc | None,
    ) -> list[int]:
        """Append a call's fragment, at the call's line; its operands are `values`."""
        return self.graph.inline(graph, values, loc)

    def _result(self, offset: int, provided: dict[int, int], slot: int, value: int) -> None:
        if slot in provided:
            kept = self.slots[provided[slot]]
            self._same_shape(self.graph.avals[value], self.graph.avals[kept])
            self.same[value], self.provided[value] = kept, offset + slot
            (value,) = self.graph.add_node(graft, [kept, value])
        self._hold(offset + slot, value)

    def _backward(self, offset, provided, payload, operands, results, writes, loc, function) -> None:
        """In an imported trace gradients are of no interest: they have no history."""
        if offset:
            outputs = [self.graph.add_value(payload.graph.avals[v]) for v in payload.graph.outputs]
        else:
            self._begin(offset, results, payload.name)
            outputs = self.graph.inline(payload.graph, payload.operands)
            outputs = [self.graph.add_node(stop_gradient, [v])[0] for v in outputs]  # gradients have no history
        existing = [(s, w) for s, w in zip(results, writes) if s is not None]
        for (slot, write), value in zip(existing, outputs, strict=True):
            self._result(offset, provided, slot, value)
            self.keeps.add(offset + slot)  # an imported trace cannot compute it again
            if write >= 0:
                self._follow(offset + slot, offset + operands[write][0])
        self.freed += [offset + s for s in payload.freed]

    _grad = _backward

    def _learn_type(self, value: int, other: int) -> None:
        """Of a leaf that was entered for its gradient only, from a value that has its history."""
        if self.graph.avals[value] is _UNKNOWN:
            self.graph.avals[value] = self.graph.avals[other]

    def _link(self, offset, provided, here, there) -> None:
        target = self.slots[offset + there]
        self._learn_type(target, self.slots[offset + here])
        if not offset:
            self.links[here] = there
            data = self.slots[here]
            bridge = self.graph.add_value(self.graph.avals[data])
            self.joins[data], self.same[bridge], self.joined[bridge] = bridge, data, here
            self.bridges[bridge] = Node(graft, (data, target), (), (bridge,))

    def _modified(self, offset, provided, slots, aside=False) -> None:
        if not offset:
            name, first = "an operation after it was computed", len(self.graph.avals)
            self.overwrites += [Overwrite(s, name, None, first, aside=aside) for s in slots]

    def _written_aside(self, offset, provided, slots) -> None:
        self._modified(offset, provided, slots, aside=True)

    def _freed(self, offset, provided, slots) -> None:
        self.freed += [offset + s for s in slots]

    def _segment(self, offset, provided, base, inner, state, given, sizes) -> None:
        inner = translated(inner, sizes) if sizes else inner
        kept = {slot - base: now for slot, now in provided.items() if slot >= base}
        before = len(self.slots)
        self._entries(inner, offset + base, {slot: offset + now for slot, now in given.items()} | kept)
        if not offset:
            self.imported.update(islice(reversed(self.slots), len(self.slots) - before))

    def root_of(self, slot: int) -> int:
        """The slot where the history of a slot is: in the trace that it came from."""
        while slot in self.links or slot in self.grafts:
            slot = self.links[slot] if slot in self.links else self.grafts[slot]
        return slot

    def available(self, value: int) -> int:
        """The value that holds what `value` is."""
        while value in self.same:
            value = self.same[value]
        return value

    @property
    def facts(self) -> Facts:
        """What is known of the values, of all that was read so far."""
        self._facts.extend(self)
        return self._facts


class Facts:
    """What follows about the values of an assembled trace, found once for each of its nodes.

    producers       value -> the node that makes it
    computable      the values that follow from the inputs: all but those of imported traces of whose operands too little was kept
    data            values that show the data of another -> that one. The result of a call is a copy, even if it looks the same
    freed           slots whose history an earlier backward has used up; `used_up` the values of the calls that made them
    overwritten     value -> what replaced the tensors with its data, each with its place in order; but for what was written to
                    leaves aside, as PyTorch allows
    followed        value that was overwritten aside -> the slot of what is there now; `before` has the values before it
    """

    def __init__(self) -> None:
        self.producers: dict[int, Node] = {}
        self.computable: set[int] = set()
        self.data: dict[int, int] = {}
        self.freed: set[int] = set()
        self.used_up: set[int] = set()
        self.overwritten: dict[int, list[tuple[int, Overwrite]]] = {}
        self.followed: dict[int, int] = {}
        self.before: dict[int, list[int]] = {}
        self._n_nodes = self._n_inputs = self._n_overwrites = self._n_freed = 0

    def extend(self, asm: Assembly) -> None:
        nodes, inputs = asm.graph.nodes, asm.graph.inputs
        self.computable.update(inputs[self._n_inputs :])
        for node in nodes[self._n_nodes :]:
            self._add(asm, node)
        for k, o in enumerate(asm.overwrites[self._n_overwrites :], self._n_overwrites):
            self._overwrite(asm, k, o)
        for slot in asm.freed[self._n_freed :]:
            self.freed.add(slot)
            self.used_up |= asm.made.get(slot, frozenset())
        self._n_nodes, self._n_inputs = len(nodes), len(inputs)
        self._n_overwrites, self._n_freed = len(asm.overwrites), len(asm.freed)

    def data_at(self, asm: Assembly, slot: int) -> int:
        """The value whose data a slot shows."""
        value = asm.slots[slot]
        return self.data.get(value, value)

    def _overwrite(self, asm: Assembly, k: int, o: Overwrite) -> None:
        old = self.data_at(asm, o.slot)
        lost = [old, *self.before.get(old, ())]
        if not o.aside:
            for value in lost:
                self.overwritten.setdefault(value, []).append((k, o))
        elif o.new is not None:
            new = self.data_at(asm, o.new)
            self.before[new] = lost
            self.followed.update((value, o.new) for value in lost)

    def forget_inputs(self, inputs: Sequence[int], n: int) -> None:
        """Only the first `n` stay."""
        self.computable.difference_update(inputs[n:])
        self._n_inputs = min(self._n_inputs, n)

    def _add(self, asm: Assembly, node: Node) -> None:
        for v in node.results:
            self.producers[v] = node
        if self.computable.issuperset(data_operands(node)):
            self.computable.update(node.results)
        if node.op.family.is_view and not any(s in asm.made for s in asm.slots_of.get(node.results[0], ())):
            shown = asm.available(node.operands[0])
            self.data[node.results[0]] = self.data.get(shown, shown)


def in_order(nodes: list[Node]) -> list[Node]:
    """In an order in which every value is made before it is read."""
    producers = {v: n for n in nodes for v in n.results}
    done: set[int] = set()
    result = []
    for first in nodes:
        pending = [first]
        while pending:
            node = pending[-1]
            missing = [producers[v] for v in node.operands if v in producers and v not in done]
            if missing:
                pending += missing
                continue
            pending.pop()
            if node.results[0] not in done:
                done.update(node.results)
                result.append(node)
    return result
