"""Emission of one loop nest: what is computed once per kernel, once per row, and for each vector of columns.

In: a `Fragment` with its `Form`. Out: text, operands and numbers of one kernel. `Row` computes scalars shared by a row,
`Point` the elements of one vector. Numbers that differ between equal kernels (extents, strides) are dims.
Next: `loops_rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from flambeau.compiler.codegen.access import Layout, merge, spread
from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.fragment import Form, Fragment, Source, nest_extents
from flambeau.compiler.codegen.stages import Stages
from flambeau.compiler.kernel import KernelSource, Operand
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Node
from flambeau.dialects.record import Kind


class Writer(Emitter):
    """An emitter that can also write to places it has left, such as the row around the current loop."""

    @contextmanager
    def into(self, lines: list[str]) -> Iterator[None]:
        """Append to `lines` instead of the current place."""
        outer, self._lines = self._lines, lines
        yield
        self._lines = outer

    def here(self) -> list[str]:
        """The place being written to."""
        return self._lines

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Write a block that is appended when it ends, after whatever is written meanwhile to the current place."""
        outer, self._lines = self._lines, []
        yield
        block, self._lines = self._lines, outer
        self._lines += block


class Access(NamedTuple):
    """An affine access: element `base(row) + column * stride` of `pointer`'s buffer."""

    pointer: Val
    row_strides: tuple[int, ...]
    stride: int
    is_linear: bool  # element i of the nest is element i of the buffer
    dynamic: Val | None


class Nest:
    """State of one kernel being emitted. `extents` are the row loops; `cols` the innermost one."""

    def __init__(
        self, fragment: Fragment, form: Form, target: Target, placed: dict[int, tuple[int, Layout]] | None = None
    ) -> None:
        self.fragment, self.form, self.target = fragment, form, target
        self.placed = placed or {}  # output -> (buffer, where in it), if not the buffer of its own
        self.stages = Stages(fragment, form)
        self.b = Writer()
        self.operands: list[Operand] = []
        self.dims: list[int] = []
        written = [layout for _, layout in self.placed.values()]
        extents = nest_extents(form, fragment.elem_layouts(form) + written, fragment.row_layouts(form)) or ()
        self.extents, self.cols = (extents[:-1], extents[-1]) if extents else ((), 1)
        self.lanes = 1 if form.size == 1 else self._lanes()
        self.uniform: dict[int, Val] = {}
        self.accesses: dict[tuple, Access] = {}
        self.kept: dict[int, Val] = {}  # elements kept in scratch by an earlier stage
        self.stored: set[int] = set()  # elements that an earlier stage has written to their output
        self.storing: set[int] = set()  # elements that the current stage computes and writes
        self.scratch_of: dict[int, Val] = {}
        self.writes: dict[int, int] = {}  # output value -> operand position
        self.stage = 0
        self.last_read: dict[int, int] = {}  # input -> last stage that reads it
        self.tables: set[int] = set()  # inputs read at computed places
        self.scratch = 0
        self._numbers: dict[object, Val] = {}
        self._code: Val | None = None
        self.top = self.b.here()

    def _lanes(self) -> int:
        """Elements per step: a full register of the narrowest number, at most 64."""
        graph = self.fragment.graph
        values = [*graph.inputs, *graph.outputs, *(v for n in self.fragment.members for v in n.results)]
        sizes = {graph.avals[v].dtype.itemsize for v in values if graph.avals[v].size == self.form.size}
        return min(self.target.vector_bytes // min(sizes - {1}, default=1), 64)

    # ---- numbers and pointers ------------------------------------------------------------------------------

    def number(self, n: int, key: object = None) -> Val:
        """A dim: a number known when the kernel is called. What is asked for again by `key` is the same dim."""
        if key is not None and key in self._numbers:
            return self._numbers[key]
        self.dims.append(n)
        found = self.b.dim(len(self.dims) - 1)
        if key is not None:
            self._numbers[key] = found
        return found

    def pointer(self, operand: Operand, *, written: bool = False) -> Val:
        """The pointer of an operand; equal operands share one, except that what is written stands alone."""
        if operand not in self.operands or written:
            self.operands.append(operand)
        return self.b.buffer(len(self.operands) - 1 if written else self.operands.index(operand))

    def output(self, value: int) -> Val:
        """The pointer that an output of the fragment is stored through."""
        if value not in self.writes:
            self.pointer(Operand("value", value), written=True)
            self.writes[value] = len(self.operands) - 1
        return self.b.buffer(self.writes[value])

    def scratch_for(self, value: int) -> Val:
        """Room for one row of a kept element."""
        if value not in self.scratch_of:
            self.scratch_of[value] = self.reserve(self.cols * self.fragment.avals[value].dtype.itemsize)
        return self.scratch_of[value]

    def reserve(self, size: int) -> Val:
        """A pointer to `size` bytes of the thread's scratch, aligned to a cache line."""
        with self.b.into(self.top):
            at = self.b.address(self.b.scratch, self.number(self.scratch), "i8") if self.scratch else self.b.scratch
        self.scratch += -(-size // 64) * 64
        return at

    def access(self, root: int, layout: Layout) -> Access:
        """How the nest reads `layout` of an input (or of an iota's coordinates), set up once."""
        key = (root, layout)
        self.last_read[root] = max(self.stage, self.last_read.get(root, 0))
        if key not in self.accesses:
            self.accesses[key] = self._make_access(root, layout)
        return self.accesses[key]

    def target_access(self, buffer: int, layout: Layout) -> Access:
        """How the nest writes to a part of a buffer."""
        key = ("target", buffer, layout)
        if key not in self.accesses:
            itemsize = self.fragment.avals[buffer].dtype.itemsize
            pointer = self.pointer(Operand("value", buffer, layout.offset * itemsize), written=True)
            self.writes[buffer] = len(self.operands) - 1
            self.accesses[key] = Access(pointer, *self.walk(layout), layout.is_identity, self._dynamic(layout))
        return self.accesses[key]

    def table(self, gather: Node) -> Access:
        """The access of a gather's operand, without the contribution of the index."""
        root = self.fragment.sources[gather.operands[0]].root
        self.tables.add(root)
        return self.access(root, self.fragment.gather_layout(gather))

    def _make_access(self, root: int, layout: Layout) -> Access:
        itemsize = self.fragment.avals[root].dtype.itemsize
        pointer = self.pointer(Operand("value", root, layout.offset * itemsize))
        return Access(pointer, *self.walk(layout), layout.is_identity, self._dynamic(layout))

    def reads_only_itself(self, root: int) -> bool:
        """Whether every element of the nest reads of this input only the element in its own place."""
        layouts = [key[1] for key in self.accesses if key[0] == root]
        return root not in self.tables and all(x.is_identity and x.size == self.form.size for x in layouts)

    def walk(self, layout: Layout) -> tuple[tuple[int, ...], int]:
        """The strides of a layout over the row loops, and over the columns."""
        if layout.size == 0 or layout.size == 1:
            return (0,) * len(self.extents), 0
        if layout.size == self.form.size:
            strides = spread(merge(layout), (*self.extents, self.cols))
            return strides[:-1], strides[-1]
        return spread(merge(layout), self.extents), 0

    def _dynamic(self, layout: Layout) -> Val | None:
        total = None
        for start, limit, scale in layout.dynamic:
            with self.b.into(self.top):
                term = self.b.minimum(self.b.maximum(self.uniform_value(start), 0), self.number(limit))
                term = self.b.mul(term, self.number(scale))
                total = term if total is None else self.b.add(total, term)
        return total

    def uniform_value(self, value: int) -> Val:
        """A value with one element, read once per kernel."""
        if value not in self.uniform:
            root, layout = self.fragment.sources[value]
            producer = self.fragment.producers.get(root)
            if producer is not None and producer.op.name == "constant":
                return self.b.const(producer.attrs[0], self.fragment.avals[value].dtype.mlir)
            with self.b.into(self.top):
                self.uniform[value] = self._uniform(value, producer, root, layout)
        return self.uniform[value]

    def _uniform(self, value: int, producer: Node | None, root: int, layout: Layout) -> Val:
        if producer is not None:
            return index_value(self, producer, self.index_origin(layout))
        access = self.access(root, layout)
        index = access.dynamic if access.dynamic is not None else 0
        return self.b.load(access.pointer, index, self.fragment.avals[value].dtype.mlir)

    def index_origin(self, layout: Layout) -> Val:
        """Where the coordinates of an iota begin."""
        origin, moved = self.number(layout.offset, (layout, "origin")), self._dynamic(layout)
        if moved is None:
            return origin
        with self.b.into(self.top):
            return self.b.add(origin, moved)

    # ---- failures ------------------------------------------------------------------------------------------

    def report(self, node: Node, failed: Val, position: Val) -> None:
        """Lower the status word where `failed`: see `KernelCall` for the code."""
        status, b = self.pointer(Operand("status")), self.b
        code = self.number(self.fragment.error_numbers[node.results[0]], (node.results, "code"))
        with b.if_(b.any(failed)):
            word = b.or_(b.shl(b.add(self.error_base(), code), 48), position)
            none = b.const((1 << 63) - 1, "i64", failed.lanes)
            b.atomic_min(status, b.reduce("minsi", b.select(failed, word, none)))

    def error_base(self) -> Val:
        """The last dim, which the plan builder appends: `ERROR_BASE` stands for it until the text is finished."""
        if self._code is None:
            self._code = self.b.dim(ERROR_BASE)
        return self._code

    @property
    def is_fallible(self) -> bool:
        return self._code is not None

    def source(self, label: str) -> KernelSource:
        """The finished kernel."""
        finished = self.b.source(label)
        place = str(len(self.dims))
        text = finished.text.replace(f"%dims[{ERROR_BASE}]", f"%dims[{place}]").replace(f"%dim{ERROR_BASE}", f"%dim{place}")
        return KernelSource(text, label)


ERROR_BASE = 999_999


class Row:
    """One row (or, where the nest is flat, the whole kernel): scalars of `row`, an i64, or None for a flat nest."""

    def __init__(self, nest: Nest, row: Val | None) -> None:
        self.nest, self.row = nest, row
        self.lines = nest.b.here()
        self.values: dict[int, Val] = {}
        self.bases: dict[Access, Val | None] = {}
        self.indices: dict[Layout, Val] = {}
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
            b, left, found = self.nest.b, self.row, []
            for extent in reversed(self.nest.extents[1:]):
                n = self.nest.number(extent)
                found.append(b.rem_unsigned(left, n))
                left = b.div_unsigned(left, n)
            self._coordinates = [*([left] if self.nest.extents else []), *reversed(found)]
        return self._coordinates

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
                self.values[value] = self._compute(value)
        return self.values[value]

    def _compute(self, value: int) -> Val:
        nest, fragment = self.nest, self.nest.fragment
        root, layout = fragment.sources[value]
        node = fragment.member_of.get(root)
        if node is None:
            return self._leaf(value, root, layout)
        if root in self.values:
            return self.values[root]
        if node.op.kind is Kind.GATHER:
            return self._gather(node)
        result = compute(nest, node, [self.value(v) for v in node.operands], self.position, None)
        self.values[root] = result
        return result

    def _leaf(self, value: int, root: int, layout: Layout) -> Val:
        producer = self.nest.fragment.producers.get(root)
        if layout.is_uniform and (producer is None or producer.op.name == "constant"):
            return self.nest.uniform_value(value)
        if producer is not None:
            return index_value(self.nest, producer, self._index_base(layout))
        access = self.nest.access(root, layout)
        base = self.base(access)
        return self.nest.b.load(access.pointer, 0 if base is None else base, self.nest.fragment.avals[root].dtype.mlir)

    def _index_base(self, layout: Layout) -> Val:
        return index_base(self, layout, self.nest.walk(layout)[0])

    def position(self) -> Val:
        return self.row if self.row is not None else self.nest.b.const(0, "i64")

    def _gather(self, node: Node) -> Val:
        nest, fragment = self.nest, self.nest.fragment
        operand, index = node.operands
        at = checked_index(nest, node, self.value(index), self.position, None)
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
    """The elements of a row in columns `col`, `col + 1`, ... of one vector; `mask` says which exist (None: all)."""

    def __init__(self, row: Row, col: Val, lanes: int, mask: Val | None = None) -> None:
        self.row, self.col, self.lanes, self.mask = row, col, lanes, mask
        self.nest = row.nest
        self.values: dict[int, Val] = {}
        self.leaves: dict[tuple[int, Layout], Val] = {}
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
            self.values[value] = self._compute(value)
        return self.values[value]

    def _compute(self, value: int) -> Val:
        nest = self.nest
        root, layout = nest.fragment.sources[value]
        node = nest.fragment.member_of.get(root)
        if node is None:
            return self._leaf(value, Source(root, layout))
        if nest.fragment.folds(node) or nest.fragment.is_row_level(root, nest.form):
            return self.row.value(root)
        if root == value or root not in self.values:
            self.values[root] = self._member(node, root)
        return self.values[root]

    def _member(self, node: Node, root: int) -> Val:
        dtype = self.nest.fragment.avals[root].dtype.mlir
        if root in self.nest.kept and root not in self.nest.storing:
            return self.nest.b.load(self.nest.kept[root], self.col, dtype, self.lanes, self.mask)
        if root in self.nest.stored and root not in self.nest.storing:
            return self.nest.b.load(self.nest.output(root), self.index(self.row.start()), dtype, self.lanes, self.mask)
        if node.op.kind is Kind.GATHER:
            return self._gather(node)
        return compute(self.nest, node, [self.value(v) for v in node.operands], self.position, self.mask)

    def _leaf(self, value: int, source: Source) -> Val:
        nest = self.nest
        root, layout = source
        producer = nest.fragment.producers.get(root)
        rows, stride = nest.walk(layout)
        if stride == 0:
            return self.row.value(value)
        if (root, layout) not in self.leaves:
            if producer is not None:
                self.leaves[root, layout] = index_value(nest, producer, self._index(layout, rows, stride))
            else:
                access = nest.access(root, layout)
                self.leaves[root, layout] = self.load(access, self.row.base(access), nest.fragment.avals[root].dtype.mlir)
        return self.leaves[root, layout]

    def _index(self, layout: Layout, rows: tuple[int, ...], stride: int) -> Val:
        b = self.nest.b
        along = self.columns()
        if stride != 1:
            along = b.mul(along, self.nest.number(stride, (layout, "index")))
        return b.add(along, index_base(self.row, layout, rows))

    def load(self, access: Access, base: Val | None, element: str) -> Val:
        """One element per lane of an affine access whose row starts at `base`."""
        b = self.nest.b
        if access.stride == 0:
            return b.load(access.pointer, 0 if base is None else base, element)
        if access.stride == 1:
            return b.load(access.pointer, self.index(base), element, self.lanes, self.mask)
        at = b.mul(self.columns(), self.nest.number(access.stride, (access, "column")))
        at = at if base is None else b.add(at, base)
        return b.gather(access.pointer, at, element, self.mask if self.lanes > 1 else None)

    def _gather(self, node: Node) -> Val:
        nest, b = self.nest, self.nest.b
        operand, index = node.operands
        element = nest.fragment.avals[operand].dtype.mlir
        access = nest.table(node)
        base = self.row.base(access)
        if nest.walk(nest.fragment.sources[index].layout)[1] == 0 and self.row.row is not None:
            return self.load(access, self._row_of_table(node, index, base), element)
        at = checked_index(nest, node, b.splat(self.value(index), self.lanes), self.position, self.mask)
        if access.stride:
            along = self.columns()
            if access.stride != 1:
                along = b.mul(along, nest.number(access.stride, (access, "column")))
            base = along if base is None else b.add(along, base)
        return b.gather(access.pointer, gather_index(nest, node, base, at), element, self.mask if self.lanes > 1 else None)

    def _row_of_table(self, node: Node, index: int, base: Val | None) -> Val:
        """Where a gather reads whose index all columns share: checked and computed once per row."""
        with self.nest.b.into(self.row.lines):
            start = self.row.start() or self.nest.b.const(0, "i64")
            at = checked_index(self.nest, node, self.row.value(index), lambda: start, None)
            return gather_index(self.nest, node, base, at)

    def place(self, x: Val, buffer: int, layout: Layout) -> None:
        """Write to the part of a buffer that `layout` describes."""
        nest, b = self.nest, self.nest.b
        access = nest.target_access(buffer, layout)
        base, x = self.row.base(access), b.splat(x, self.lanes)
        if access.stride == 1 or self.lanes == 1:
            return b.store(x, access.pointer, self.index(base), self.mask)
        at = b.mul(self.columns(), nest.number(access.stride, (access, "column")))
        b.scatter(x, access.pointer, at if base is None else b.add(at, base), self.mask)

    def store(self, x: Val, pointer: Val, index: Val) -> None:
        self.nest.b.store(self.nest.b.splat(x, self.lanes), pointer, index, self.mask)


def compute(nest: Nest, node: Node, operands: list[Val], position, mask: Val | None) -> Val:
    """Emit one member on the given operands; `position()` gives the linear index of the lanes."""
    b = nest.b
    if node.op.kind is Kind.REDUCTION:  # nothing to fold: one step from the identity
        monoid, dtype = node.op.lower, nest.fragment.avals[node.results[0]].dtype
        return monoid.combine(b, b.const(monoid.identity(dtype), operands[0]), operands[0])
    if node.op.kind is Kind.SOURCE:
        with b.at(position()):
            return node.op.lower(b, *operands, *node.attrs)
    if node.op.fallible and node.op.fails is not None:
        failed = node.op.fails(b, *operands, *node.attrs)
        where = position()
        failed = b.splat(failed, where.lanes)
        nest.report(node, failed if mask is None else b.and_(failed, mask), where)
    return node.op.lower(b, *operands, *node.attrs)


def checked_index(nest: Nest, node: Node, index: Val, position, mask: Val | None) -> Val:
    """`index`, reported and replaced by 0 where it is out of range."""
    b = nest.b
    extent = nest.number(nest.fragment.avals[node.operands[0]].shape[node.attrs[0]], (node.results, "extent"))
    failed = b.or_(b.cmp("lt", index, 0), b.cmp("ge", index, b.splat(extent, index.lanes)))
    nest.report(node, failed if mask is None else b.and_(failed, mask), position())
    return b.select(failed, 0, index)


def gather_index(nest: Nest, node: Node, base: Val | None, at: Val) -> Val:
    """Where a gather reads, given where the row starts and the index along the axis."""
    b = nest.b
    stride = nest.fragment.sources[node.operands[0]].layout.strides[node.attrs[0]]
    at = at if stride == 1 else b.mul(at, nest.number(stride, (node.results, "axis")))
    return at if base is None else b.add(at, base)


def index_base(row: Row, layout: Layout, row_strides: tuple[int, ...]) -> Val:
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


def index_value(nest: Nest, node: Node, coordinate: Val) -> Val:
    """An iota at the given coordinates."""
    b, dim = nest.b, node.attrs[1]
    with b.at(None, (coordinate,) * (dim + 1)):
        return node.op.lower(b, *node.attrs)
