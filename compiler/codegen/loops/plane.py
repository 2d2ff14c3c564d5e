"""Elements at places of a plane, and windows with elements of their own, on CPUs: plane by plane, or line by line.

In: a nest whose op is `put`, `pick` or `fold`. Out: its call. No two tasks write to one plane, or line. Next: `reduce.py`.
"""

from __future__ import annotations

from math import prod

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.loops.windowed import Windowed
from flambeau.dialects.size import Int
from flambeau.dialects.tape.nan import canonical


class Put(Windowed):
    """Elements added where an index says, one after the other. An item is a plane."""

    def prepare(self) -> None:
        rank = len(self.node.attrs[0])
        self._planes(rank, prod(self.result.shape[-rank:]), prod(self.operand.shape[-rank:]))

    def _planes(self, rank: int, plane: Int, count: Int) -> None:
        self.items, self.work = prod(self.result.shape[:-rank]), plane + count
        self.plane, self.count = self.number(plane), self.number(count)

    def emit(self, item: Val) -> None:
        b = self.b
        start, given = b.mul(item, self.plane), b.mul(item, self.count)
        self.zero(start, self.plane)
        with b.loop(0, self.count) as k:
            at = b.load(b.buffer(1), b.add(given, k.index), "i64")
            with b.if_(self.inside(at)):
                x, to = b.load(b.buffer(0), b.add(given, k.index), self.dtype.mlir), b.add(start, at)
                if self.node.attrs[1]:
                    self.add_to(to, x)
                else:
                    b.store(canonical(b, x), self.out, to)

    def inside(self, at: Val) -> Val:
        """Whether places are within the plane."""
        return self.b.and_(self.b.cmp("ge", at, 0), self.b.cmp("lt", at, self.plane))


class Pick(Put):
    """Elements where an index says. An item is a plane."""

    def prepare(self) -> None:
        (rank,) = self.node.attrs
        self._planes(rank, prod(self.operand.shape[-rank:]), prod(self.result.shape[-rank:]))

    def emit(self, item: Val) -> None:
        b, lanes = self.b, self.schedule.lanes
        start, given = b.mul(item, self.plane), b.mul(item, self.count)
        whole = self.whole(self.count, lanes)
        if lanes > 1:
            with b.loop(0, whole, lanes) as k:
                at = b.load(b.buffer(1), b.add(given, k.index), "i64", lanes)
                mask = self.inside(at)
                places = b.add(b.splat(start, lanes), b.select(mask, at, 0))
                x = b.gather(b.buffer(0), places, self.dtype.mlir, mask)
                b.store(canonical(b, x), self.out, b.add(given, k.index))
        with b.loop(whole, self.count) as k:
            at = b.load(b.buffer(1), b.add(given, k.index), "i64")
            (x,) = b.if_else(
                self.inside(at),
                lambda: [b.load(b.buffer(0), b.add(start, at), self.dtype.mlir)],
                lambda: [b.const(0, self.dtype.mlir)],
            )
            b.store(canonical(b, x), self.out, b.add(given, k.index))


class WindowSums(Windowed):
    """Windows along an axis, each with elements of its own, summed window after window. An item is a line along the axis."""

    def prepare(self) -> None:
        axis, extent, self.step, self.dilation = self.node.attrs
        shape = self.result.shape
        inner = prod(shape[axis + 1 :])
        self.items = prod(shape[:axis]) * inner
        self.work = extent + self.operand.shape[axis] * self.operand.shape[-1]
        numbers = (extent, self.operand.shape[axis], inner, self.operand.shape[-1])
        self.extent, self.count, self.inner, self.size = (self.number(n) for n in numbers)

    def emit(self, item: Val) -> None:
        b = self.b
        outer, inner = b.div_unsigned(item, self.inner), b.rem_unsigned(item, self.inner)
        start = b.add(b.mul(outer, b.mul(self.extent, self.inner)), inner)
        self.zero(start, self.extent, self.inner)
        with b.loop(0, self.count) as o:
            row = b.add(b.mul(b.add(b.mul(outer, self.count), o.index), self.inner), inner)
            given, first = b.mul(row, self.size), b.mul(o.index, self.step)
            with b.loop(0, self.size) as k:
                place = b.add(first, b.mul(k.index, self.dilation))
                x = b.load(b.buffer(0), b.add(given, k.index), self.dtype.mlir)
                self.add_to(b.add(start, b.mul(place, self.inner)), x)
