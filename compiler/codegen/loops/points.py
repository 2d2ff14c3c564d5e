"""The values of a loop nest at a place: `Row` computes scalars that a row shares, `Point` the elements of one vector.

In: a `Nest`. Out: text, written where the value is first needed: once per kernel, once per row, or in the loop.
Next: `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.loops.nest import Access, Nest, index_value
from flambeau.compiler.codegen.loops.space import ColumnLoop
from flambeau.compiler.codegen.nest_place import NestPlace
from flambeau.compiler.codegen.nest_rules import Source
from flambeau.compiler.codegen.row_walk import RowPlace, RowWalk
from flambeau.dialects.graph import Node

#: Gives the linear index of the lanes being computed, on demand.
Position = Callable[[], Val]


class Tile(NamedTuple):
    """Part of an operand copied into scratch: column `col` of the row lies at element `base + col`."""

    pointer: Val
    base: Val


class Row(RowPlace):
    """One row (or, where the nest is flat, the whole kernel): scalars of `row`, an i64, or None for a flat nest."""

    def __init__(self, nest: Nest, row: Val | None) -> None:
        super().__init__(nest.fragment, nest.b)
        self.nest, self.row = nest, row
        self.walk = RowWalk(nest.b, row, nest.extents, nest.number)
        self.lines = self.walk.lines
        self.tiles: dict[tuple[int, StridedView], Tile] = {}
        self.points: list[Point] = []  # the elements of a row that is held in registers
        self.bases: dict[Access, Val | None] = {}
        self.indices: dict[StridedView, Val] = {}
        self._start: Val | None = None

    def start(self) -> Val | None:
        """The linear index of the row's first element; None for 0."""
        if self.row is not None and self._start is None:
            with self.nest.b.into(self.lines):
                self._start = self.nest.b.mul(self.row, self.nest.number(self.nest.cols, "cols"))
        return self._start

    def base(self, access: Access) -> Val | None:
        """The index of the row's first element in an access; None for 0."""
        if access not in self.bases:
            with self.nest.b.into(self.lines):
                self.bases[access] = self._base(access)
        return self.bases[access]

    def _base(self, access: Access) -> Val | None:
        if access.is_linear and access.stride == 1 and self.nest.cols != 1:
            return self.start()
        return self.walk.along(access.row_strides, access, access.dynamic)

    def member(self, node: Node, root: int) -> Val:
        return self._gather(node) if node.op.family.reads_table else super().member(node, root)

    def leaf(self, value: int, source: Source) -> Val:
        root, layout = source
        producer = self.fragment.producers.get(root)
        if layout.is_uniform and (producer is None or producer.op.name == "constant"):
            return self.nest.uniform_value(value)
        if producer is not None:
            return index_value(self.nest, producer, self._index_base(layout))
        access = self.nest.access(root, layout)
        base = self.base(access)
        return self.nest.b.load(access.pointer, 0 if base is None else base, self.fragment.avals[root].dtype.mlir)

    def report(self, node: Node, failed: Val) -> None:
        self.nest.report(node, failed, self.position())

    def write(self, value: int, x: Val) -> None:
        self.nest.b.store(x, self.nest.output(value), self.row if self.row is not None else 0)

    def _index_base(self, layout: StridedView) -> Val:
        return index_base(self, layout, self.nest.walk(layout)[0])

    def position(self) -> Val:
        return self.row if self.row is not None else self.nest.b.const(0, "i64")

    def _gather(self, node: Node) -> Val:
        nest, fragment = self.nest, self.nest.fragment
        operand, index = node.operands
        at = checked_index(nest, node, self.value(index), self.position, None)
        if fragment.size(operand) == 0:
            return nothing(nest, node)
        if fragment.sources[operand].root in fragment.member_of:
            point = Point(self, at, 1)
            result = point.value(operand)
            nest.tables.update(root for root, _ in point.leaves)  # read in another place than the row's elements
            return result
        access = nest.table(node)
        return nest.b.load(
            access.pointer, gather_index(nest, node, self.base(access), at), fragment.avals[operand].dtype.mlir
        )


class Point(NestPlace):
    """The elements of a row in columns `col`, `col + 1`, ... of one vector; `mask` says which exist (None: all).

    `block` is (first column, distance from it) where `col` belongs to a block of 64 columns that are computed together.
    """

    def __init__(
        self, row: Row, col: Val, lanes: int, mask: Val | None = None, block: tuple[Val, int] | None = None
    ) -> None:
        super().__init__(row.fragment, row.b)
        self.row, self.col, self.lanes, self.mask = row, col, lanes, mask
        self.block, self.shift = block or (col, 0)
        self.nest = row.nest
        self.leaves: dict[tuple[int, StridedView], Val] = {}
        self._columns: Val | None = None

    def columns(self) -> Val:
        """The column of each lane."""
        if self._columns is None:
            b = self.nest.b
            self._columns = self.col if self.lanes == 1 else b.add(b.splat(self.col, self.lanes), b.iota(self.lanes))
        return self._columns

    def position(self) -> Val:
        """The linear index of each lane's element."""
        start = self.row.start()
        return self.columns() if start is None else self.nest.b.add(self.columns(), start)

    def index(self, base: Val | None) -> Val:
        """The index of the first lane in a buffer that runs along the columns."""
        return self.col if base is None else self.nest.b.add(base, self.col)

    def computes(self, root: int) -> bool:
        nest = self.nest
        node = self.fragment.member_of.get(root)
        if node is None or self.fragment.folds(node) or self.fragment.is_row_level(root, nest.form):
            return False
        return root in nest.storing or (root not in nest.kept and root not in nest.stored)

    def held(self, root: int) -> Val:
        nest, dtype = self.nest, self.fragment.avals[root].dtype.mlir
        if self.fragment.folds(self.fragment.member_of[root]) or self.fragment.is_row_level(root, nest.form):
            return self.row.value(root)
        if root in nest.kept:
            return nest.b.load(nest.kept[root], self.col, dtype, self.lanes, self.mask)
        return nest.b.load(nest.output(root), self.index(self.row.start()), dtype, self.lanes, self.mask)

    def member(self, node: Node, root: int) -> Val:
        if self.nest.b.parted and self._converts(node):  # without a shuffle
            x, element = self.value(node.operands[0]), self.fragment.avals[root].dtype.mlir
            return self.values.setdefault(root, self.nest.b.cast(x, element))
        return self._gather(node) if node.op.family.reads_table else super().member(node, root)

    def _converts(self, node: Node) -> bool:
        """Whether a member casts to or from floats that are kept as bits, where lanes have no order (`has_no_order`)."""
        ends = [self.fragment.avals[v].dtype for v in (*node.operands, *node.results)]
        return any(dtype.carrier for dtype in ends)

    def report(self, node: Node, failed: Val) -> None:
        where = self.position()
        failed = self.b.splat(failed, where.lanes)
        self.nest.report(node, failed if self.mask is None else self.b.and_(failed, self.mask), where)

    def leaf(self, value: int, source: Source) -> Val:
        """The elements of a value that lies in memory, or an iota's; a scalar where all lanes share one."""
        nest = self.nest
        root, layout = source
        producer = nest.fragment.producers.get(root)
        rows, stride = nest.walk(layout)
        if stride == 0 and not nest.inside(layout):
            return self.row.value(value)
        if (root, layout) not in self.leaves:
            if producer is not None:
                self.leaves[root, layout] = index_value(nest, producer, self._index(layout, rows, stride))
            elif (root, layout) in self.row.tiles:
                pointer, base = self.row.tiles[root, layout]
                element = nest.fragment.avals[root].dtype.mlir
                self.leaves[root, layout] = nest.b.load(pointer, self.index(base), element, self.lanes, self.mask)
            else:
                access = nest.access(root, layout)
                self.leaves[root, layout] = self.load(
                    access, self.row.base(access), nest.fragment.avals[root].dtype.mlir
                )
        return self.leaves[root, layout]

    def _index(self, layout: StridedView, rows: tuple[int, ...], stride: int) -> Val:
        b = self.nest.b
        if inside := self.nest.inside(layout):
            return b.add(self._inside(inside, layout, True), index_base(self.row, layout, rows))
        along = self.columns()
        if stride != 1:
            along = b.mul(along, self.nest.number(stride, (layout, "index")))
        return b.add(along, index_base(self.row, layout, rows))

    def load(self, access: Access, base: Val | None, element: str) -> Val:
        """One element per lane of an affine access whose row starts at `base`."""
        b = self.nest.b
        if access.inside:
            return self._load_inside(access, base, element)
        if access.stride == 0:
            return b.load(access.pointer, 0 if base is None else base, element)
        if access.stride == 1:
            return b.load(access.pointer, self.index(base), element, self.lanes, self.mask)
        if self.is_paired(access):
            return b.load_every_second(access.pointer, self._twice(base), element, self.lanes)
        at = b.mul(self.columns(), self.nest.number(access.stride, (access, "column")))
        at = at if base is None else b.add(at, base)
        return b.gather(access.pointer, at, element, self.mask if self.lanes > 1 else None)

    def is_paired(self, access: Access) -> bool:
        """Whether the lanes are every second element of what two registers hold, all of them there."""
        return isinstance(access.stride, int) and access.stride == 2 and self.lanes > 1 and self.mask is None

    def _twice(self, base: Val | None) -> Val:
        """Where the first lane of a paired access lies."""
        at = self.nest.b.mul(self.col, 2)
        return at if base is None else self.nest.b.add(at, base)

    def _load_inside(self, access: Access, base: Val | None, element: str) -> Val:
        """As `load`, of an access that breaks inside the columns; between two breaks lie whole registers."""
        b, adjacent = self.nest.b, access.stride in (0, 1)
        at = self._inside(access.inside, access, not adjacent)
        at = at if base is None else b.add(base, at)
        if access.stride == 0:
            return b.load(access.pointer, at, element)
        if access.stride == 1:
            return b.load(access.pointer, at, element, self.lanes, self.mask)
        return b.gather(access.pointer, at, element, self.mask if self.lanes > 1 else None)

    def _inside(self, loops: tuple[ColumnLoop, ...], key: object, each: bool) -> Val:
        """Where the first lane lies, counted from the row's first element, or where `each` lane does.

        No break lies inside of a block of 64: quotients of its first column serve all of it.
        """
        b, number, last = self.nest.b, self.nest.number, loops[-1]
        total = b.const(0, "i64")
        for k, (below, extent, stride) in enumerate(loops):
            if stride == 0:
                continue
            at = self.block if below == 1 else b.div_unsigned(self.block, number(below, (key, "below", k)))
            at = b.rem_unsigned(at, number(extent, (key, "extent", k))) if k else at
            at = b.add(at, self.shift) if below == 1 and self.shift else at
            total = b.add(total, at if stride == 1 else b.mul(at, number(stride, (key, "inside", k))))
        if not each or self.lanes == 1 or last.stride == 0:
            return total
        lanes = b.iota(self.lanes)
        return b.add(total, lanes if last.stride == 1 else b.mul(lanes, number(last.stride, (key, "lane"))))

    def _gather(self, node: Node) -> Val:
        nest, b = self.nest, self.nest.b
        operand, index = node.operands
        if nest.fragment.size(operand) == 0:
            checked_index(nest, node, b.splat(self.value(index), self.lanes), self.position, self.mask)
            return nothing(nest, node)
        element = nest.fragment.avals[operand].dtype.mlir
        access = nest.table(node)
        base, layout = self.row.base(access), nest.fragment.sources[index].layout
        if nest.walk(layout)[1] == 0 and not nest.inside(layout) and self.row.row is not None:
            return self.load(access, self._row_of_table(node, index, base), element)
        at = checked_index(nest, node, b.splat(self.value(index), self.lanes), self.position, self.mask)
        if access.stride:
            along = self.columns()
            if access.stride != 1:
                along = b.mul(along, nest.number(access.stride, (access, "column")))
            base = along if base is None else b.add(along, base)
        return b.gather(
            access.pointer, gather_index(nest, node, base, at), element, self.mask if self.lanes > 1 else None
        )

    def _row_of_table(self, node: Node, index: int, base: Val | None) -> Val:
        """Where a gather reads whose index all columns share: checked and computed once per row."""
        with self.nest.b.into(self.row.lines):
            start = self.row.start() or self.nest.b.const(0, "i64")
            at = checked_index(self.nest, node, self.row.value(index), lambda: start, None)
            return gather_index(self.nest, node, base, at)

    def write(self, value: int, x: Val) -> None:
        """Store an output's elements to its buffer or its part of one, those kept between passes to scratch."""
        nest = self.nest
        if value in nest.stages.kept:
            if not self.row.points:  # else the row is in registers
                self.store(x, nest.scratch_for(value), self.col)
        elif value in nest.placed:
            self.place(x, *nest.placed[value])
        elif nest.streaming and value in nest.streamed:
            nest.b.stream(nest.b.splat(x, self.lanes), nest.output(value), self.index(self.row.start()))
        else:
            self.store(x, nest.output(value), self.index(self.row.start()))

    def place(self, x: Val, buffer: int, layout: StridedView) -> None:
        """Write to the part of a buffer that `layout` describes."""
        nest, b = self.nest, self.nest.b
        access = nest.target_access(buffer, layout)
        base, x = self.row.base(access), b.splat(x, self.lanes)
        if access.stride == 1 or self.lanes == 1:
            return b.store(x, access.pointer, self.index(base), self.mask)
        if self.is_paired(access):
            return b.store_every_second(x, access.pointer, self._twice(base))
        at = b.mul(self.columns(), nest.number(access.stride, (access, "column")))
        b.scatter(x, access.pointer, at if base is None else b.add(at, base), self.mask)

    def store(self, x: Val, pointer: Val, index: Val) -> None:
        """Write to adjacent elements from `index` on."""
        self.nest.b.store(self.nest.b.splat(x, self.lanes), pointer, index, self.mask)


def checked_index(
    nest: Nest, node: Node, index: Val, position: Position, mask: Val | None, reports: bool = True
) -> Val:
    """`index`, replaced by 0 where it is out of range, and reported if this one `reports`."""
    b = nest.b
    extent = nest.number(nest.fragment.avals[node.operands[0]].shape[node.attrs[0]], (node.results, "extent"))
    failed = b.or_(b.cmp("lt", index, 0), b.cmp("ge", index, b.splat(extent, index.lanes)))
    if reports:
        nest.report(node, failed if mask is None else b.and_(failed, mask), position())
    return b.select(failed, 0, index)


def nothing(nest: Nest, node: Node) -> Val:
    """What a gather from an operand without elements gives, where every index is out of range: it may not read at 0."""
    return nest.b.const(0, nest.fragment.avals[node.operands[0]].dtype.mlir)


def gather_index(nest: Nest, node: Node, base: Val | None, at: Val) -> Val:
    """Where a gather reads, given where the row starts and the index along the axis."""
    b = nest.b
    stride = nest.fragment.sources[node.operands[0]].layout.strides[node.attrs[0]]
    at = at if stride == 1 else b.mul(at, nest.number(stride, (node.results, "axis")))
    return at if base is None else b.add(at, base)


def index_base(row: Row, layout: StridedView, row_strides: tuple[int, ...]) -> Val:
    """The row's part of an iota's coordinate."""
    nest, b = row.nest, row.nest.b
    if layout in row.indices:
        return row.indices[layout]
    with b.into(row.lines):
        total = nest.index_origin(layout)
        if any(row_strides):
            for at, stride in zip(row.walk.coordinates(), row_strides, strict=True):
                if stride:
                    total = b.add(total, b.mul(at, nest.number(stride, (layout, "row", at))))
    row.indices[layout] = total
    return total
