"""Windows on CPUs: folds over them, row of results by row; and sums of windows plane by plane, each one window after the other.

In: a `Fragment` whose one member is an op of the family. Out: its nest, and the call that it becomes. What windows are (sizes,
steps, margins) stands in the kernel's text, extents are numbers. A vector holds windows side by side; where some reach over an
edge, places outside are not read. No two tasks write to one plane. Next: `plane.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.loops.plane import Pick, Put, WindowSums
from flambeau.compiler.codegen.loops.windowed import Windowed
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.schedules.kinds import Windows
from flambeau.dialects.size import Int, maximum
from flambeau.dialects.tape.nan import canonical

#: Elements of a window along an axis that are written out one by one.
_UNROLLED = 8

#: Where a window begins along its axis, and those of its taps that exist: from .. below.
_Taps = tuple["_WindowAxis", Val, Val | int, Val | int]


def nests(fragment: Fragment) -> list[LoopNest] | None:
    """The nest of an op on windows; None if an operand does not lie in memory in order."""
    (node,) = fragment.members
    if not fragment.reads_memory(node):
        return None
    form = NestForm("map", 1, fragment.size(node.results[0]))
    return [LoopNest(Windows, fragment, form, node.op.name, node=node, own=lower)] if form.size else []


def lower(nest: LoopNest, schedule: Windows) -> Parts:
    """The call of a nest."""
    assert nest.node is not None
    made: type[Windowed] = {"put": Put, "pick": Pick, "fold": WindowSums, "pool_spread": _Spread}.get(
        nest.node.op.name, _Folds
    )
    return Parts([made(nest, nest.node, schedule).call()])


# ---- windows ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _WindowAxis:
    """One windowed axis: extents of what windows are of and of the windows, and what they are; adaptive without a size."""

    extent: Val
    count: Val
    size: int = 0
    step: int = 1
    low: int = 0
    dilation: int = 1
    is_inside: bool = False  #: No window reaches over an edge.

    def first(self, b: Emitter, o: Val) -> Val:
        """Where a window begins, before the first element perhaps."""
        if not self.size:
            return b.div_unsigned(b.mul(o, self.extent), self.count)
        return b.sub(b.mul(o, self.step), self.low)

    def taps(self, b: Emitter, o: Val, first: Val) -> tuple[Val | int, Val | int]:
        """Those of a window that exist: from .. below; numbers where all of them do."""
        if self.is_inside:
            return 0, self.size
        zero = b.const(0, "i64")
        if not self.size:
            stop = b.mul(b.add(o, 1), self.extent)
            return zero, b.sub(b.div_unsigned(b.add(stop, b.sub(self.count, 1)), self.count), first)
        most = b.const(self.size, "i64")
        begin = self.steps(b, b.maximum(b.sub(zero, first), 0)) if self.low else zero
        return begin, b.minimum(self.steps(b, b.maximum(b.sub(self.extent, first), 0)), most)

    def steps(self, b: Emitter, elements: Val) -> Val:
        """How many taps it takes to come past so many elements."""
        d = self.dilation
        return elements if d == 1 else b.div_unsigned(b.add(elements, d - 1), d)


def _is_inside(extent: Int, count: Int, size: int, step: int, low: int, dilation: int) -> bool:
    """Whether no window along an axis reaches over an edge."""
    return size > 0 and low == 0 and bool((count - 1) * step + (size - 1) * dilation < extent)


class _OverWindows(Windowed):
    """What an op on windows of a plane has: `axes`, and the batches of planes. `held` is the plane that windows are of."""

    def planes(self) -> tuple[Sequence[Int], Sequence[Int]]:
        """The extents of the plane that windows are of, and how many windows there are along each axis."""
        rank = len(self.node.attrs[0])
        return self.operand.shape[-rank:], self.result.shape[-rank:]

    def prepare(self) -> None:
        self.extents, self.counts = self.planes()
        rank = len(self.extents)
        window = self.node.attrs[1:] or ((0,) * rank, (1,) * rank, (0,) * rank, (1,) * rank)
        self.batch = prod(self.result.shape[:-rank])
        self.window_size = prod(window[0]) or maximum(1, prod(self.extents) // maximum(1, prod(self.counts)))
        self.axes = [
            _WindowAxis(
                self.number(n), self.number(m), size, step, low, dilation, _is_inside(n, m, size, step, low, dilation)
            )
            for n, m, size, step, low, dilation in zip(self.extents, self.counts, *window, strict=True)
        ]
        self.plane, self.windows = self.number(prod(self.extents)), self.number(prod(self.counts))
        self.shape()

    def shape(self) -> None:
        """Say what an item is."""
        raise NotImplementedError

    def over_taps(
        self, axes: Sequence[_Taps], carried: list[Val], visit: Callable[[Val, list[Val]], list[Val]]
    ) -> list[Val]:
        """Loops over the taps of windows along `axes`, each with its window's first place and taps: `visit` gets the row-major
        place along them and what is carried. A few taps that always exist are written out."""
        b = self.b

        def inner(k: int, place: Val, tap: Val | int, carried: list[Val], written: int) -> list[Val]:
            axis, first, _, _ = axes[k]
            at = b.add(first, b.mul(tap, axis.dilation) if isinstance(tap, Val) else tap * axis.dilation)
            return nested(k + 1, b.add(b.mul(place, axis.extent), at) if k else at, carried, written)

        def nested(k: int, place: Val, carried: list[Val], written: int) -> list[Val]:
            if k == len(axes):
                return visit(place, carried)
            axis, _, begin, end = axes[k]
            if axis.is_inside and axis.size * written <= _UNROLLED:
                for tap in range(axis.size):
                    carried = inner(k, place, tap, carried, axis.size * written)
                return carried
            with b.loop(begin, end, carried=carried) as loop:
                found = inner(k, place, loop.index, loop.args, written)
                if carried:
                    loop.carry(found)
            return loop.results

        return nested(0, b.const(0, "i64"), carried, 1)


class _Folds(_OverWindows):
    """Folds over windows. An item is a row of results, along the last axis."""

    def shape(self) -> None:
        self.how = self.node.op.name.partition("_")[2]
        self.items = self.batch * prod(self.counts[:-1])
        self.work = self.counts[-1] * self.window_size
        *_, last = self.axes
        self.lanes = self.schedule.lanes if last.size else 1
        while self.lanes > 1 and not bool(self.counts[-1] >= self.lanes):
            self.lanes //= 2

    def emit(self, item: Val) -> None:
        b, (*outer, last) = self.b, self.axes
        rest, rows = item, list[_Taps]()
        for axis in reversed(outer):
            o, rest = b.rem_unsigned(rest, axis.count), b.div_unsigned(rest, axis.count)
            first = axis.first(b, o)
            rows.insert(0, (axis, first, *axis.taps(b, o, first)))
        start, results = b.mul(rest, self.plane), b.mul(item, last.count)
        lanes = self.lanes
        with b.loop(0, last.count, lanes) as column:
            o = b.minimum(column.index, b.sub(last.count, lanes)) if lanes > 1 else column.index
            first = last.first(b, o)
            if lanes == 1:
                found = self._window(start, [*rows, (last, first, *last.taps(b, o, first))])
            elif last.is_inside:
                found = self._side_by_side(start, rows, first, False)
            else:
                end = b.add(first, (lanes - 1) * last.step + (last.size - 1) * last.dilation)
                inside = b.and_(b.cmp("ge", first, 0), b.cmp("lt", end, last.extent))
                (found,) = b.if_else(
                    inside,
                    lambda: [self._side_by_side(start, rows, first, False)],
                    lambda: [self._side_by_side(start, rows, first, True)],
                )
            b.store(found, self.out, b.add(results, o))

    def _window(self, start: Val, axes: list[_Taps]) -> Val:
        """One window."""
        b = self.b

        def visit(place: Val, carried: list[Val]) -> list[Val]:
            return self._step(carried, b.load(b.buffer(0), b.add(start, place), self.dtype.mlir), place)

        found = self.over_taps(axes, self._begin(1), visit)
        return self._end(found, [(first, begin, end) for _, first, begin, end in axes])

    def _side_by_side(self, start: Val, rows: list[_Taps], first: Val, at_edge: bool) -> Val:
        """Windows side by side along the last axis, of which the leftmost begins at `first`."""
        b, last, lanes = self.b, self.axes[-1], self.lanes
        ahead = b.mul(b.iota(lanes), last.step)

        def tap(row: Val, k: Val | int, carried: list[Val]) -> list[Val]:
            column = b.add(first, b.mul(k, last.dilation)) if isinstance(k, Val) else b.add(first, k * last.dilation)
            place = b.add(b.mul(row, last.extent), column)
            x = self._read(b.place(b.buffer(0), b.add(start, place), self.dtype.mlir), column, ahead, at_edge)
            return self._step(carried, x, self._places(place, ahead))

        def visit(row: Val, carried: list[Val]) -> list[Val]:
            if last.size <= _UNROLLED:
                for k in range(last.size):
                    carried = tap(row, k, carried)
                return carried
            with b.loop(0, last.size, carried=carried) as loop:
                loop.carry(tap(row, loop.index, loop.args))
            return loop.results

        found = self.over_taps(rows, self._begin(lanes), visit)
        if self.how != "argmax":
            return self._end(found, [])
        columns = self._places(first, ahead)
        begin: Val | int = 0
        end: Val | int = last.size
        if not last.is_inside:
            begin = last.steps(b, b.maximum(b.sub(b.const(0, "i64", lanes), columns), 0))
            end = b.minimum(last.steps(b, b.maximum(b.sub(last.extent, columns), 0)), last.size)
        return self._end(found, [*((f, lo, hi) for _, f, lo, hi in rows), (columns, begin, end)])

    def _read(self, line: Val, column: Val, ahead: Val, at_edge: bool) -> Val:
        """An element of each window: at `line`, where `column` of the map is, and so many `ahead`. Those that do not exist are
        nothing."""
        b, last, lanes, element, nothing = self.b, self.axes[-1], self.lanes, self.dtype.mlir, self._nothing()

        def exist(columns: Val) -> Val | None:
            return b.and_(b.cmp("ge", columns, 0), b.cmp("lt", columns, last.extent)) if at_edge else None

        near = self._places(column, b.iota(lanes))
        if last.step == 1:
            return b.load(line, 0, element, lanes, exist(near), nothing)
        if last.step == 2:
            masks = exist(near), exist(b.add(near, lanes - 1))
            return b.load_every_second(line, 0, element, lanes, masks, nothing)
        mask = exist(self._places(column, ahead))
        return b.gather(line, ahead if mask is None else b.select(mask, ahead, 0), element, mask, nothing)

    def _places(self, place: Val, ahead: Val) -> Val:
        return self.b.add(self.b.splat(place, self.lanes), ahead)

    def _nothing(self) -> Any:
        return 0 if self.how == "sum" else self.dtype.least

    # ---- the fold

    def _begin(self, lanes: int) -> list[Val]:
        """What a fold begins with: its result so far, and the place of that or, of greatest floats, whether a NaN was met."""
        b, best = self.b, self.b.const(self._nothing(), self.dtype.mlir, lanes)
        if self.how == "argmax":
            return [best, b.const(-1, "i64", lanes)]
        return [best, b.const(False, "i1", lanes)] if self.how == "max" and best.is_float else [best]

    def _step(self, carried: list[Val], x: Val, place: Val) -> list[Val]:
        """One element more. Of those that do not exist, zeros are summed and the least are no greater than any."""
        b, so_far = self.b, carried[0]
        if self.how == "sum":
            return [b.add(so_far, x)]
        take = b.cmp("gt", x, so_far)
        if self.how == "max":  # which is one instruction
            return [b.select(take, x, so_far), *(b.or_(met, b.is_nan(x)) for met in carried[1:])]
        if x.is_float:
            take = b.or_(take, b.is_nan(x))
        return [b.select(take, x, so_far), b.select(take, place, carried[1])]

    def _end(self, carried: list[Val], axes: list[tuple[Val, Val | int, Val | int]]) -> Val:
        """The result of windows; `axes` say where each begins, and which taps exist. Of the least elements only, the first one
        was met without being noticed."""
        b = self.b
        if self.how == "sum":
            return canonical(b, carried[0])
        if self.how == "max":
            return b.select(carried[1], float("nan"), carried[0]) if carried[1:] else carried[0]
        at, lanes = carried[1], carried[1].lanes
        exists, place = b.const(True, "i1", lanes), b.const(0, "i64", lanes)
        for axis, (first, begin, end) in zip(self.axes, axes, strict=True):
            if isinstance(begin, Val) and isinstance(end, Val):
                exists = b.and_(exists, b.cmp("lt", b.splat(begin, lanes), b.splat(end, lanes)))
                first = b.add(first, b.mul(begin, axis.dilation))
            place = b.add(b.mul(place, axis.extent), b.splat(first, lanes))
        return b.select(b.and_(exists, b.cmp("lt", at, 0)), place, at)


class _Spread(_OverWindows):
    """Sums of windows over the elements that they hold, window after window. An item is a plane."""

    def planes(self) -> tuple[Sequence[Int], Sequence[Int]]:
        found = super().planes()
        return found[1], found[0]

    def shape(self) -> None:
        self.items = self.batch
        self.work = prod(self.counts) * self.window_size + prod(self.extents)

    def emit(self, item: Val) -> None:
        b = self.b
        start, given = b.mul(item, self.plane), b.mul(item, self.windows)
        self.zero(start, self.plane)
        self._over(0, b.const(0, "i64"), [], start, given)

    def _over(self, k: int, window: Val, axes: list[_Taps], start: Val, given: Val) -> None:
        b = self.b
        if k < len(self.axes):
            axis = self.axes[k]
            with b.loop(0, axis.count) as o:
                first = axis.first(b, o.index)
                here = b.add(b.mul(window, axis.count), o.index) if k else o.index
                self._over(k + 1, here, [*axes, (axis, first, *axis.taps(b, o.index, first))], start, given)
            return
        x = b.load(b.buffer(0), b.add(given, window), self.dtype.mlir)

        def visit(place: Val, carried: list[Val]) -> list[Val]:
            self.add_to(b.add(start, place), x)
            return carried

        self.over_taps(axes, [], visit)
