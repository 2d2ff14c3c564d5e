"""Elementwise kernels in which some operand runs across the columns: tiles are transposed into scratch first.

In: a `Nest` of form "map" with an access whose unit stride lies in a row loop. Out: its `KernelCall`. An item is a block of
rows along that loop; of each such operand a tile of these rows and some columns is read along the rows, turned in registers
and kept in the thread's scratch, where the rows then read it along the columns. Next: `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.loops.nest import Nest
from flambeau.compiler.codegen.loops.points import Row, Tile
from flambeau.dialects.size import Int, ceil_div


def emit_tiles(nest: Nest, width: int, walk_row: Callable[[Row, Val, Val], None]) -> tuple[Int, int]:
    """Write the kernel, for tiles of `width` columns; returns the number of items and the rows of each. `walk_row(row, lo, hi)`
    walks columns."""
    loop = nest.space.crossing_loop()
    assert loop is not None
    b, height = nest.b, nest.lanes
    extent, step = nest.extents[loop], prod(nest.extents[loop + 1 :])
    blocks = ceil_div(extent, height)
    tiles = [
        (s, nest.reserve(height * width * _itemsize(nest, s[0])))
        for s in nest.space.crossing()
        if nest.walk(s[1])[0][loop] == 1
    ]
    cols, per_loop, along, stride = (nest.number(n) for n in (nest.cols, blocks, extent, step))
    with b.apart(), b.loop(b.lo, b.hi) as item:
        inside, rest = b.rem_unsigned(item.index, stride), b.div_unsigned(item.index, stride)
        first = b.mul(b.rem_unsigned(rest, per_loop), height)
        count = b.minimum(b.sub(along, first), height)
        start = b.add(b.mul(b.add(b.mul(b.div_unsigned(rest, per_loop), along), first), stride), inside)
        with b.apart(), b.loop(0, cols, width) as part:
            end = b.minimum(b.add(part.index, width), cols)
            corner = Row(nest, start)
            for (root, layout), scratch in tiles:
                _turn(nest, corner, (root, layout), (scratch, width), (part.index, end), b.tail_mask(count, height))
            with b.apart(), b.loop(0, count) as r:
                row = Row(nest, b.add(start, b.mul(r.index, stride)))
                base = b.sub(b.mul(r.index, width), part.index)
                row.tiles = {key: Tile(scratch, base) for key, scratch in tiles}
                walk_row(row, part.index, end)
    return prod(nest.extents) // extent * blocks, height


def _itemsize(nest: Nest, root: int) -> int:
    return nest.fragment.avals[root].dtype.itemsize


def _turn(
    nest: Nest, corner: Row, key: tuple[int, StridedView], tile: tuple[Val, int], span: tuple[Val, Val], rows: Val
) -> None:
    """Copy columns `span` of the rows from `corner` on into a tile of scratch, one row (of its width) after the other."""
    b, height, (scratch, width) = nest.b, nest.lanes, tile
    access, element = nest.access(*key), nest.fragment.avals[key[0]].dtype.mlir
    base, stride = corner.base(access), nest.number(access.stride, (access, "column"))
    lo, hi = span
    with b.apart(), b.loop(lo, hi, height) as group:
        columns = []
        for k in range(height):
            col = b.add(group.index, k) if k else group.index
            at = b.mul(col, stride)
            mask = b.and_(rows, b.splat(b.cmp("lt", col, hi), height))
            columns.append(b.load(access.pointer, at if base is None else b.add(at, base), element, height, mask))
        for r, x in enumerate(transposed(b, columns)):
            b.store(x, scratch, b.add(b.sub(group.index, lo), r * width))


def transposed(b: Emitter, rows: list[Val]) -> list[Val]:
    """The square matrix held in `rows`, turned: halves of the off-diagonal blocks change places, ever smaller ones."""
    size, half = len(rows), len(rows) // 2
    while half:
        for i in range(size):
            if not i & half:
                x, y = rows[i], rows[i + half]
                rows[i] = b.shuffle(x, y, [size + lane - half if lane & half else lane for lane in range(size)])
                rows[i + half] = b.shuffle(x, y, [size + lane if lane & half else lane + half for lane in range(size)])
        half //= 2
    return rows
