"""Emission of one loop nest: what is computed once per kernel, once per row, and for each vector of columns.

In: a `LoopNest` and its schedule. Out: text, operands and numbers of one kernel: `Nest` holds what is set up once,
`points.py` computes values in rows and columns. Numbers that differ between equal kernels (extents, strides) are dims.
Next: `points.py`.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.arguments import KernelArguments
from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.loops.space import ColumnLoop
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.codegen.values import POINTER
from flambeau.compiler.kernel import KernelSource, Operand
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, ceil_div

LINE = 64  #: Bytes of a cache line.


class Writer(Emitter):
    """An emitter that can also write past the caches."""

    def stream(self, x: Val, pointer: Val, index: Val) -> None:
        """Write past the caches to an address that is aligned to the vector; `fence` before others read it."""
        address, alignment = self.address(pointer, index, x.type), min(x.lanes * x.bits // 8, 64)
        self.line(
            f"llvm.store {x.name}, {address.name} {{alignment = {alignment} : i64, nontemporal}} : {x.mlir}, {POINTER}"
        )

    def fence(self) -> None:
        """Make streamed stores visible before anything that follows."""
        self.line("llvm.fence seq_cst")

    def aligned(self, pointer: Val, offset: Val | None, bytes_: int) -> Val:
        """Whether `pointer`, moved by `offset` bytes, is a multiple of `bytes_`."""
        address = self.emit(f"llvm.ptrtoint {pointer.name} : {POINTER} to i64", "i64")
        address = address if offset is None else self.add(address, offset)
        return self.cmp("eq", self.and_(address, bytes_ - 1), 0)


class Access(NamedTuple):
    """An affine access: element `base(row) + column * stride` of `pointer`'s buffer."""

    pointer: Val
    row_strides: tuple[Any, ...]
    stride: Any
    is_linear: bool  # element i of the nest is element i of the buffer
    dynamic: Val | None
    inside: tuple[ColumnLoop, ...] = ()  # the loops that columns stand for where the access breaks inside of them


class Nest(KernelArguments):
    """State of one kernel being emitted. `extents` are the row loops; `cols` the innermost one."""

    def __init__(self, unit: LoopNest, schedule: Any, recompute: int = 0) -> None:
        super().__init__()
        fragment = unit.fragment
        self.fragment, self.form, self.space = fragment, unit.form, unit.space
        self.placed = unit.placed  # output -> (buffer, where in it), if not the buffer of its own
        self.stages = unit.stages(recompute)
        self.extents, self.cols, self.lanes = unit.space.extents, unit.space.cols, schedule.lanes
        self.walk, self.inside = unit.space.walk, unit.space.inside
        self.b = Writer(lambda n: self.number(n, n))
        self.uniform: dict[int, Val] = {}
        self.accesses: dict[tuple, Access] = {}
        self.kept: dict[int, Val] = {}  # elements kept in scratch by an earlier stage
        self.stored: set[int] = set()  # elements that an earlier stage has written to their output
        self.storing: set[int] = set()  # elements that the current stage computes and writes
        self.scratch_of: dict[int, Val] = {}
        self.stage = 0
        self.last_read: dict[int, int] = {}  # input -> last stage that reads it
        self.tables: set[int] = set()  # inputs read at computed places
        self.scratch: Int = 0
        self._code: Val | None = None
        self.top = self.b.here()
        self.streamed = {fragment.graph.outputs[k] for k in getattr(schedule, "streamed", ())}
        self.streaming = False  # whether the loop being written stores past the caches
        self._aligned: Val | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no element to compute: then none is read, not even what rows would share of them."""
        return bool(self.form.size == 0)

    def aligned(self) -> Val:
        """Whether the streamed outputs of this call begin on cache lines; decided at run time, once."""
        if self._aligned is None:
            with self.b.into(self.top):
                self._aligned = reduce(self.b.and_, map(self._begins_aligned, sorted(self.streamed)))
        return self._aligned

    def _begins_aligned(self, value: int) -> Val:
        is_flat = self.form.kind == "map" and not self.extents
        offset = self.b.mul(self.b.lo, self.fragment.avals[value].dtype.itemsize) if is_flat else None
        return self.b.aligned(self.output(value), offset, LINE)

    # ---- numbers and pointers ------------------------------------------------------------------------------

    def add_number(self, position: int) -> Val:
        return self.b.dim(position)

    def add_pointer(self, position: int, written: bool) -> Val:
        return self.b.buffer(position)

    def scratch_for(self, value: int) -> Val:
        """Room for one row of a kept element."""
        if value not in self.scratch_of:
            self.scratch_of[value] = self.reserve(self.cols * self.fragment.avals[value].dtype.itemsize)
        return self.scratch_of[value]

    def reserve(self, size: Int) -> Val:
        """A pointer to `size` bytes of the thread's scratch, aligned to a cache line."""
        with self.b.into(self.top):
            at = self.b.address(self.b.scratch, self.number(self.scratch), "i8") if self.scratch else self.b.scratch
        self.scratch += ceil_div(size, 64) * 64
        return at

    def access(self, root: int, layout: StridedView) -> Access:
        """How the nest reads `layout` of an input (or of an iota's coordinates), set up once."""
        key = (root, layout)
        self.last_read[root] = max(self.stage, self.last_read.get(root, 0))
        if key not in self.accesses:
            self.accesses[key] = self._make_access(root, layout)
        return self.accesses[key]

    def target_access(self, buffer: int, layout: StridedView) -> Access:
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
        return self.access(root, self.fragment.table_layout(gather))

    def _make_access(self, root: int, layout: StridedView) -> Access:
        itemsize = self.fragment.avals[root].dtype.itemsize
        pointer = self.pointer(Operand("value", root, layout.offset * itemsize))
        return Access(pointer, *self.walk(layout), layout.is_identity, self._dynamic(layout), self.inside(layout))

    def layouts(self) -> dict[int, list[StridedView]]:
        """How each input is read so far."""
        found: dict[int, list[StridedView]] = {}
        for key in self.accesses:
            if key[0] != "target":
                found.setdefault(key[0], []).append(key[1])
        return found

    def _dynamic(self, layout: StridedView) -> Val | None:
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
            with self.b.into(self.top):
                self.uniform[value] = self._uniform(value, producer, root, layout)
        return self.uniform[value]

    def _uniform(self, value: int, producer: Node | None, root: int, layout: StridedView) -> Val:
        element = self.fragment.avals[value].dtype.mlir
        if producer is not None and producer.op.name == "constant":
            return self.b.const(producer.attrs[0], element)
        if producer is not None:
            return index_value(self, producer, self.index_origin(layout))
        access = self.access(root, layout)
        index = access.dynamic if access.dynamic is not None else 0
        return self.b.load(access.pointer, index, element)

    def index_origin(self, layout: StridedView) -> Val:
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
        text = finished.text.replace(f"%dims[{ERROR_BASE}]", f"%dims[{place}]").replace(
            f"%dim{ERROR_BASE}", f"%dim{place}"
        )
        return KernelSource(text, label)


ERROR_BASE = 999_999


def index_value(nest: Nest, node: Node, coordinate: Val) -> Val:
    """An iota at the given coordinates."""
    b, dim = nest.b, node.attrs[1]
    with b.at(None, (coordinate,) * (dim + 1)):
        return node.op.lower(b, *node.attrs)
