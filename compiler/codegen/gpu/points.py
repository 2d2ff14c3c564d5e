"""The values of a nest at one element, as scalars of one thread, and at one row.

In: the `NestKernel` of a `LoopNest`, and an index. Out: text that loads operands and computes members: those of an element where
the emitter stands, those of a row in front of the loops that read them. Next: `../row_walk.py`; `loops.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flambeau.compiler import families
from flambeau.compiler.codegen.access import StridedView, merge
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.gpu.kernel import GpuKernel
from flambeau.compiler.codegen.lane_folds import Elements
from flambeau.compiler.codegen.nest_place import NestPlace
from flambeau.compiler.codegen.nest_rules import Source
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.row_walk import RowPlace, RowWalk
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import Operand
from flambeau.dialects.size import Int, maximum

#: Indices below this fit 32-bit arithmetic, which is several times faster.
_NARROW = 1 << 31


class NestKernel(GpuKernel):
    """A kernel that computes the nest of a fragment."""

    def __init__(self, nest: LoopNest, threads: int) -> None:
        super().__init__(threads)
        self.nest, self.fragment, self.form = nest, nest.fragment, nest.form
        self.read: dict[int, set[StridedView]] = {}  # how elements of each input are read

    @property
    def is_empty(self) -> bool:
        """Whether there is no element to compute: then none is read, not even what rows would share of them."""
        return bool(self.form.size == 0)

    def overwrites(self, new: int, old: int) -> bool:
        """Whether `new`, an output, may take the buffer of the input `old`: see `GpuKernel.launch`. Every thread computes the
        elements in the same places of all outputs before it writes one of them, and every pass over a row ends at a
        barrier."""
        return self.fragment.takes_place(new, old, self.form, self.read.get(old, ()))


class GpuPoint(NestPlace):
    """One element: `linear` is its row-major index in the nest. Where the nest has rows it is that in column `col` of `row`.

    `values` holds what is known already: results of reductions, accumulators of a product. `leaves` holds operands
    that were loaded in another way.
    """

    def __init__(self, kernel: NestKernel, linear: Val, row: GpuRow | None = None, col: Val | None = None) -> None:
        super().__init__(kernel.fragment, kernel.b)
        self.kernel, self.linear, self.row, self.col = kernel, linear, row, col
        self.leaves: dict[Source, Val] = {}

    def needs(self, value: int) -> list[int]:
        """All operands: a thread reads from memory in the order of the ops."""
        root = self.fragment.sources[value].root
        known = root in self.values or not self.computes(root)
        return [] if known else list(self.fragment.member_of[root].operands)

    def computes(self, root: int) -> bool:
        node = self.fragment.member_of.get(root)
        if node is None or self.row is None:
            return node is not None
        return not (self.fragment.folds(node) or self.fragment.is_row_level(root, self.kernel.form))

    def held(self, root: int) -> Val:
        assert self.row is not None, "a place that is a row computes all that it has"
        return self.row.value(root)

    def position(self) -> Val:
        return self.linear

    def write(self, value: int, x: Val) -> None:
        self.b.store(x, self.kernel.output(value), self.linear)

    def leaf(self, value: int, source: Source) -> Val:
        if self.row is not None and self.row.shares(source.layout):
            return self.row.value(value)
        if source not in self.leaves:
            self.leaves[source] = self._read(source)
        return self.leaves[source]

    def _read(self, source: Source) -> Val:
        producer = self.fragment.producers.get(source.root)
        if producer is not None and producer.op.name == "constant":
            return producer.op.lower(self.b, *producer.attrs)
        element = self.fragment.avals[source.root].dtype.mlir
        self.kernel.read.setdefault(source.root, set()).add(source.layout)
        index = self._index(source.layout)
        if producer is not None:  # an iota, whose layout gives its coordinate
            return self.b.cast(index, element)
        return self.b.load(self.kernel.pointer(Operand("value", source.root)), index, element)

    def _index(self, layout: StridedView) -> Val:
        """Where a layout's element lies in its root (i64)."""
        if layout.is_identity and layout.size > 1:
            return self.linear
        if self.row is not None and self.col is not None and not self.kernel.nest.space.inside(layout):
            return self.row.index(layout, self.col)
        dims = merge(layout)
        total: Val | None = None
        if any(stride for _, stride in dims):
            total = strided_index(self.b, self.linear, dims, _span(layout))
        if total is None:
            return self.b.const(layout.offset, "i64")
        return self.b.add(total, layout.offset) if layout.offset else total


class GpuRow(RowPlace, GpuPoint):
    """A row: what its elements share, written in front of the loops that read it. `loops` are pairs of an extent and an index, of
    loops that walk rows."""

    def __init__(self, kernel: NestKernel, row: Val, *loops: tuple[Int, Val]) -> None:
        super().__init__(kernel, row)
        extents, known = kernel.nest.space.extents, [(n, at) for n, at in loops if n != 1]
        coordinates = [at for _, at in known] if extents == tuple(n for n, _ in known) else None
        narrow = lambda: bool(prod(extents) < _NARROW)  # noqa: E731
        self.walk = RowWalk(kernel.b, row, extents, lambda n, key: n, coordinates, narrow)
        self.bases: dict[StridedView, Val | None] = {}

    def shares(self, layout: StridedView) -> bool:
        """Whether all elements of the row read the same one."""
        space = self.kernel.nest.space
        return not self.kernel.is_empty and space.walk(layout)[1] == 0 and not space.inside(layout)

    def base(self, layout: StridedView) -> Val | None:
        """Where the row's first element lies; None for 0."""
        if layout not in self.bases:
            with self.b.into(self.walk.lines):
                offset = self.b.const(layout.offset, "i64") if layout.offset else None
                self.bases[layout] = self.walk.along(self.kernel.nest.space.walk(layout)[0], layout, offset)
        return self.bases[layout]

    def index(self, layout: StridedView, col: Val) -> Val:
        """Where the element in a column lies."""
        base, stride = self.base(layout), self.kernel.nest.space.walk(layout)[1]
        along = col if stride == 1 else self.b.mul(col, stride)
        return along if base is None else self.b.add(base, along)

    def _index(self, layout: StridedView) -> Val:
        if layout.is_identity and layout.size == self.kernel.form.batch != 1:
            return self.linear
        base = self.base(layout)
        return self.b.const(0, "i64") if base is None else base


class NestElements(Elements):
    """The elements of a nest, and what is stored of them where they are folded."""

    def __init__(self, b: Emitter, stored: Sequence[int]) -> None:
        super().__init__(b)
        self.stored = stored

    def element(self, place: GpuPoint, fold: Reduction) -> Val:
        return place.value(fold.node.operands[0])

    def store(self, place: GpuPoint) -> None:
        place.store_all(self.stored)


def strided_index(b: Emitter, linear: Val, dims: list[tuple[Int, Int]], span: Int) -> Val:
    """Sum of stride times coordinate, where `linear` counts through the extents of `dims`, outermost first."""
    left = b.truncate(linear, "i32") if span < _NARROW else linear
    total: Val | None = None
    for k in range(len(dims) - 1, -1, -1):
        extent, stride = dims[k]
        at = b.rem_unsigned(left, extent) if k else left
        if k:
            left = b.div_unsigned(left, extent)
        if stride:
            term = at if stride == 1 else b.mul(at, stride)
            total = term if total is None else b.add(total, term)
    assert total is not None
    return b.extend_signed(total, "i64") if total.type == "i32" else total


def _span(layout: StridedView) -> Int:
    """More than any number met while an index of `layout` is computed."""
    reach = sum((extent - 1) * abs(stride) for extent, stride in zip(layout.shape, layout.strides, strict=True))
    return maximum(layout.size, reach) + abs(layout.offset) + 1


def refuse_unsupported(fragment: Fragment) -> None:
    """Raise ValueError for what no GPU kernel computes yet."""
    for node in fragment.members:
        if not families.rules(node.op).on("gpu") or node.op.fallible:
            raise ValueError(f"[{node.op.name}] has no GPU kernel yet. Compile it for a CPU target.")
    if not fragment.is_affine or any(s.layout.dynamic for s in fragment.sources.values()):
        raise ValueError("[gpu] the cluster reads through a view that is not affine. Compile it for a CPU target.")


def label_of(fragment: Fragment) -> str:
    return "+".join(n.op.name for n in fragment.members) or "copy"
