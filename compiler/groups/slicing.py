"""A part of a group's result from parts of its inputs: what a shard computes, to the bit what the whole has there.

In: a group with one output, a window of it along one axis. Out: a group that computes the window, and the window of every input
that it reads. It follows from the maps: a window along an axis of a result is one of the parallel loop that runs there, and so of
the operands' axes that this loop runs along; folded loops stay whole, so that orders stay. Where maps do not say it (ops on
whole tensors, bodies that compute with their place) all is computed and the window taken. Next: `batching.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from flambeau.compiler.groups.form import Affine, Body, Generic, Group, GroupBuilder, Map, StructuredOp, scalars
from flambeau.dialects.aval import Aval
from flambeau.dialects.size import Int


class Window(NamedTuple):
    """Elements `start` to `start + size` of an axis."""

    start: int
    size: int

    def hull(self, other: Window) -> Window:
        """The least window that holds both."""
        start = min(self.start, other.start)
        return Window(start, max(self.start + self.size, other.start + other.size) - start)


class Sliced(NamedTuple):
    """The group of a window, and the windows of its inputs along each of their axes."""

    group: Group
    inputs: tuple[tuple[Window, ...], ...]


def sliced(group: Group, axis: int, window: Window) -> Sliced:
    """The group that computes a window of the one output along `axis`. Extents are numbers."""
    (output,) = group.outputs
    shape = group.avals[output].shape
    wanted = {output: tuple(window if k == axis else _all(n) for k, n in enumerate(shape))}
    for op in reversed(group.ops):
        _propagate(group, op, wanted)
    whole = {v: tuple(map(_all, group.avals[v].shape)) for v in group.inputs}
    return _Slicing(group, {**whole, **wanted}).run()


def _all(extent: Int) -> Window:
    return Window(0, int(extent))


def _loops(op: Generic, wanted: tuple[Window, ...]) -> list[Window]:
    """The windows of the loops, given those of the results' axes."""
    found = [_all(n) for n in op.extents]
    for e, window in zip(op.result_maps[0], wanted, strict=True):
        if e.terms:
            found[e.terms[0][0]] = window
    return found


def _follows(op: StructuredOp) -> bool:
    """Whether the maps say all of an op."""
    if not isinstance(op, Generic) or len(op.results) > 1:
        return False
    names = {o.name for o in op.body.ops}
    return not _asks_its_place(op.body) or ("flambeau.fold" in names and "tensor.extract" not in names)


def _asks_its_place(body: Body) -> bool:
    return any(o.name == "linalg.index" or any(map(_asks_its_place, o.regions)) for o in body.ops)


def _axis(e: Affine, extent: Int, loops: list[Window]) -> Window:
    """What an axis of an operand is read of."""
    if len(e.terms) != 1:
        return _all(extent)
    ((loop, c),) = e.terms
    ends = [c * at + e.constant for at in (loops[loop].start, loops[loop].start + loops[loop].size - 1)]
    return Window(min(ends), max(ends) - min(ends) + 1)


def _propagate(group: Group, op: StructuredOp, wanted: dict[int, tuple[Window, ...]]) -> None:
    """Add what an op reads of its operands for what is wanted of its results."""
    if not any(v in wanted for v in op.results):
        return
    follows = _follows(op)
    for k, v in enumerate(op.reads):
        read = tuple(map(_all, group.avals[v].shape))
        if follows and isinstance(op, Generic) and k < len(op.operands):
            read = _read(group, op, k, _loops(op, wanted[op.results[0]]))
        wanted[v] = tuple(a.hull(b) for a, b in zip(wanted.get(v, read), read, strict=True))


def _read(group: Group, op: Generic, k: int, loops: list[Window]) -> tuple[Window, ...]:
    """What a nest reads of its operand `k`."""
    shape = group.avals[op.operands[k]].shape
    return tuple(_axis(e, n, loops) for e, n in zip(op.maps[k], shape, strict=True))


class _Slicing:
    """The group under construction: `values[v]` holds the window `windows[v]` of the old one's value `v`."""

    def __init__(self, group: Group, windows: dict[int, tuple[Window, ...]]) -> None:
        self.group, self.windows, self.out = group, windows, GroupBuilder(group.sizes)
        self.scalars = scalars(group)
        self.values = {v: self.out.input(self._aval(v)) for v in group.inputs}

    def run(self) -> Sliced:
        for op in self.group.ops:
            if not any(v in self.windows for v in op.results):
                continue
            if isinstance(op, Generic) and _follows(op):
                self._nest(op)
            else:
                self._as_it_is(op)
        group = self.out.build(tuple(self.values[v] for v in self.group.outputs))
        return Sliced(group, tuple(self.windows[v] for v in self.group.inputs))

    def _aval(self, v: int) -> Aval:
        aval = self.group.avals[v]
        return aval if v in self.scalars else aval._replace(shape=tuple(w.size for w in self.windows[v]))

    def _nest(self, op: Generic) -> None:
        (result,) = op.results
        loops = _loops(op, self.windows[result])
        operands = tuple(self._operand(op, k, loops) for k in range(len(op.operands)))
        made = self.out.generic(
            op.iterators,
            tuple(w.size for w in loops),
            operands,
            ((self._aval(result), op.result_maps[0], op.inits[0]),),
            op.body,
            tuple(self.values[v] for v in op.captures),
            op.tiles,
            op.loc,
            op.name,
        )
        self.values[result] = made[0]

    def _operand(self, op: Generic, k: int, loops: list[Window]) -> tuple[int, Map]:
        """Just what a nest reads of an operand, and where it is read by loops that begin at 0."""
        v = op.operands[k]
        read = _read(self.group, op, k, loops)
        number = self.values[v] if read == self.windows[v] else self._part(v, read)
        map = []
        for e, window in zip(op.maps[k], read, strict=True):
            begin = e.constant + sum(c * loops[d].start for d, c in e.terms)
            map.append(Affine(e.terms, begin - window.start))
        return number, tuple(map)

    def _part(self, v: int, windows: tuple[Window, ...]) -> int:
        """Windows of a value of which more is there."""
        aval = self.group.avals[v]._replace(shape=tuple(w.size for w in windows))
        starts = tuple(w.start - there.start for w, there in zip(windows, self.windows[v], strict=True))
        where = {"starts": starts, "steps": (1,) * len(windows)}
        return self.out.call("tensor.extract_slice", (self.values[v],), (aval,), where)[0]

    def _as_it_is(self, op: StructuredOp) -> None:
        """An op on all of its operands; of its results, what is wanted."""
        avals = [self.group.avals[v] for v in op.results]
        if isinstance(op, Generic):
            operands = tuple((self.values[v], m) for v, m in zip(op.operands, op.operand_maps, strict=True))
            results = tuple(zip(avals, op.result_maps, op.inits, strict=True))
            captures = tuple(self.values[v] for v in op.captures)
            made = self.out.generic(
                op.iterators, op.extents, operands, results, op.body, captures, op.tiles, op.loc, op.name
            )
        else:
            given = tuple(self.values[v] for v in op.operands)
            made = self.out.call(op.name, given, tuple(avals), op.attribute, op.regions, op.loc)
        for v, number in zip(op.results, made, strict=True):
            self.values[v] = self._window(v, number)

    def _window(self, v: int, number: int) -> int:
        """What is wanted of a value that was computed whole."""
        windows = self.windows.get(v)
        if v in self.scalars or windows is None or windows == tuple(map(_all, self.group.avals[v].shape)):
            return number
        where = {"starts": tuple(w.start for w in windows), "steps": (1,) * len(windows)}
        return self.out.call("tensor.extract_slice", (number,), (self._aval(v),), where)[0]
