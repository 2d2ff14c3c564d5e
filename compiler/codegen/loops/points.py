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
from flambeau.compiler.codegen.loops.reduce import canonical
from flambeau.compiler.codegen.loops.space import ColumnLoop
from flambeau.compiler.codegen.nest_rules import Source, read_operands
from flambeau.dialects.graph import Node

#: Gives the linear index of the lanes being computed, on demand.
Position = Callable[[], Val]


def post_order(root: int, below: Callable[[int], list[int]]) -> list[int]:
    """What `root` needs, operands first, without recursion: chains of ops are long."""
    order: dict[int, None] = {}
    pending = [(root, iter(below(root)))]
    while pending:
        value, rest = pending[-1]
        deeper = next((v for v in rest if v not in order), None)
        if deeper is not None:
            pending.append((deeper, iter(below(deeper))))
        else:
            order[value] = None
            pending.pop()
    return list(order)[:-1]


class Tile(NamedTuple):
    """Part of an operand copied into scratch: column `col` of the row lies at element `base + col`."""

    pointer: Val
    base: Val


class Row:
    """One row (or, where the nest is flat, the whole kernel): scalars of `row`, an i64, or None for a flat nest."""

    def __init__(self, nest: Nest, row: Val | None) -> None:
        self.nest, self.row = nest, row
        self.lines = nest.b.here()
        self.values: dict[int, Val] = {}
        self.tiles: dict[tuple[int, StridedView], Tile] = {}
        self.points: list[Point] = []  # the elements of a row that is held in registers
        self.bases: dict[Access, Val | None] = {}
        self.indices: dict[StridedView, Val] = {}
        self._coordinates: list[Val] | None = None
        self._start: Val | None = None

    def start(self) -> Val | None:
        """The linear index of the row's first element; None for 0."""
        if self.row is not None and self._start is None:
            with self.nest.b.into(self.lines):
                self._start = self.nest.b.mul(self.row, self.nest.number(self.nest.cols, "cols"))
        return self._start

    def coordinates(self) -> list[Val]:
        """The row's index along each row loop."""
        if self._coordinates is None:
            self._coordinates = [] if self.row is None else self._split(self.row)
        return self._coordinates

    def _split(self, row: Val) -> list[Val]:
        b, left = self.nest.b, row
        found: list[Val] = []
        for extent in reversed(self.nest.extents[1:]):
            n = self.nest.number(extent)
            found.append(b.rem_unsigned(left, n))
            left = b.div_unsigned(left, n)
        return [*([left] if self.nest.extents else []), *reversed(found)]

    def base(self, access: Access) -> Val | None:
        """The index of the row's first element in an access; None for 0."""
        if access not in self.bases:
            with self.nest.b.into(self.lines):
                self.bases[access] = self._base(access)
        return self.bases[access]

    def _base(self, access: Access) -> Val | None:
        b = self.nest.b
        if access.is_linear and access.stride == 1 and self.nest.cols != 1:
            return self.start()
        total = access.dynamic
        if any(access.row_strides):
            for at, stride in zip(self.coordinates(), access.row_strides, strict=True):
                if stride:
                    term = at if stride == 1 else b.mul(at, self.nest.number(stride, (access, "row", at)))
                    total = term if total is None else b.add(total, term)
        return total

    def value(self, value: int) -> Val:
        """A scalar that every column of the row shares."""
        if value not in self.values:
            with self.nest.b.into(self.lines):
                for root in post_order(self.nest.fragment.sources[value].root, self._operands):
                    self.values[root] = self._compute(root)
                self.values[value] = self._compute(value)
        return self.values[value]

    def _operands(self, root: int) -> list[int]:
        """The members that the row's value `root` reads and that are not known yet."""
        fragment = self.nest.fragment
        node = fragment.member_of.get(root)
        if node is None or root in self.values:
            return []
        roots = [fragment.sources[v].root for v in read_operands(node)]
        return [r for r in roots if r in fragment.member_of and r not in self.values]

    def _compute(self, value: int) -> Val:
        nest, fragment = self.nest, self.nest.fragment
        root, layout = fragment.sources[value]
        node = fragment.member_of.get(root)
        if node is None:
            return self._leaf(value, root, layout)
        if root in self.values:
            return self.values[root]
        if node.op.family.reads_table:
            return self._gather(node)
        made = compute(nest, node, [self.value(v) for v in node.operands], self.position, None)
        return _noted(self.values, node, made)[root]

    def _leaf(self, value: int, root: int, layout: StridedView) -> Val:
        producer = self.nest.fragment.producers.get(root)
        if layout.is_uniform and (producer is None or producer.op.name == "constant"):
            return self.nest.uniform_value(value)
        if producer is not None:
            return index_value(self.nest, producer, self._index_base(layout))
        access = self.nest.access(root, layout)
        base = self.base(access)
        return self.nest.b.load(access.pointer, 0 if base is None else base, self.nest.fragment.avals[root].dtype.mlir)

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


class Point:
    """The elements of a row in columns `col`, `col + 1`, ... of one vector; `mask` says which exist (None: all).

    `block` is (first column, distance from it) where `col` belongs to a block of 64 columns that are computed together.
    """

    def __init__(
        self, row: Row, col: Val, lanes: int, mask: Val | None = None, block: tuple[Val, int] | None = None
    ) -> None:
        self.row, self.col, self.lanes, self.mask = row, col, lanes, mask
        self.block, self.shift = block or (col, 0)
        self.nest = row.nest
        self.values: dict[int, Val] = {}
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

    def value(self, value: int) -> Val:
        """The elements of a value; a scalar where all lanes share one."""
        if value not in self.values:
            for root in post_order(self.nest.fragment.sources[value].root, self._operands):
                self.values[root] = self._compute(root)
            self.values[value] = self._compute(value)
        return self.values[value]

    def _operands(self, root: int) -> list[int]:
        """The members that the element `root` is computed from and that are not known yet."""
        fragment = self.nest.fragment
        if root in self.values or not self._is_computed(root):
            return []
        roots = [fragment.sources[v].root for v in read_operands(fragment.member_of[root])]
        return [r for r in roots if r not in self.values and self._is_computed(r)]

    def _is_computed(self, root: int) -> bool:
        """Whether the element `root` is computed here: not a leaf, nor shared by the row, nor read back from memory."""
        nest = self.nest
        node = nest.fragment.member_of.get(root)
        if node is None or nest.fragment.folds(node) or nest.fragment.is_row_level(root, nest.form):
            return False
        return root in nest.storing or (root not in nest.kept and root not in nest.stored)

    def _compute(self, value: int) -> Val:
        nest = self.nest
        root, layout = nest.fragment.sources[value]
        node = nest.fragment.member_of.get(root)
        if node is None:
            return self._leaf(value, Source(root, layout))
        if nest.fragment.folds(node) or nest.fragment.is_row_level(root, nest.form):
            return self.row.value(root)
        return self.values[root] if root in self.values else self._member(node, root)

    def _member(self, node: Node, root: int) -> Val:
        dtype = self.nest.fragment.avals[root].dtype.mlir
        if root in self.nest.kept and root not in self.nest.storing:
            return self.nest.b.load(self.nest.kept[root], self.col, dtype, self.lanes, self.mask)
        if root in self.nest.stored and root not in self.nest.storing:
            return self.nest.b.load(self.nest.output(root), self.index(self.row.start()), dtype, self.lanes, self.mask)
        if node.op.family.reads_table:
            return self._gather(node)
        made = compute(self.nest, node, [self.value(v) for v in node.operands], self.position, self.mask)
        return _noted(self.values, node, made)[root]

    def _leaf(self, value: int, source: Source) -> Val:
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


def _noted(values: dict[int, Val], node: Node, made: tuple[Val, ...]) -> dict[int, Val]:
    """`values` with what a member gave: it is emitted once for all of its results."""
    for v, x in zip(node.results, made, strict=True):
        values.setdefault(v, x)
    return values


def compute(nest: Nest, node: Node, operands: list[Val], position: Position, mask: Val | None) -> tuple[Val, ...]:
    """Emit one member on the given operands: its results. `position()` gives the linear index of the lanes."""
    b = nest.b
    if node.op.family.folds:  # nothing to fold: one step from the identity
        monoid, dtype = node.op.lower, nest.fragment.avals[node.results[0]].dtype
        return (canonical(b, monoid.combine(b, b.const(monoid.identity(dtype), operands[0]), operands[0])),)
    if node.op.family.is_placed:
        with b.at(position()):
            return node.op.run_lower(b, operands, node.attrs)
    if node.op.fallible and node.op.fails is not None:
        failed = node.op.fails(b, *operands, *node.attrs)
        where = position()
        failed = b.splat(failed, where.lanes)
        nest.report(node, failed if mask is None else b.and_(failed, mask), where)
    return node.op.run_lower(b, operands, node.attrs)


def checked_index(nest: Nest, node: Node, index: Val, position: Position, mask: Val | None) -> Val:
    """`index`, reported and replaced by 0 where it is out of range."""
    b = nest.b
    extent = nest.number(nest.fragment.avals[node.operands[0]].shape[node.attrs[0]], (node.results, "extent"))
    failed = b.or_(b.cmp("lt", index, 0), b.cmp("ge", index, b.splat(extent, index.lanes)))
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
            for at, stride in zip(row.coordinates(), row_strides, strict=True):
                if stride:
                    total = b.add(total, b.mul(at, nest.number(stride, (layout, "row", at))))
    row.indices[layout] = total
    return total
