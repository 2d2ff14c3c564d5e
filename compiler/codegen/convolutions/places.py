"""Convolutions whose vectors hold output channels: rows of C are places of y, and no patch is copied.

In: `ConvSpec`, turned. Out: text of three kernels. The first turns the kernel into panels of a few vectors of output channels, k
after k, and notes in tables where in a map the elements of k lie, and the places of y; what it writes depends on the kernel's
values and on extents alone. The second copies maps that have margins with these. The third computes blocks of C in scratch, whose
tiles read elements of the map where they lie, and turns them on their way to y. Next: `tile.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.convolutions.patches import counted
from flambeau.compiler.codegen.convolutions.tile import ConvSpec, ConvTiles
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.chains import K_BLOCK, PanelSource
from flambeau.compiler.codegen.products.kernel import KernelEmitter
from flambeau.compiler.codegen.products.pack import Packer, Submatrix
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Size

Made = tuple[KernelSource, tuple[str | Size, ...]]


def places_kernel(spec: ConvSpec) -> Made:
    """The kernel, and the names of its dims. Buffers: panels, maps, C (none), the epilogue's leaves, its outputs, the tables."""
    return _Places(spec).write()


def panels_kernel(spec: ConvSpec) -> Made:
    """What turns the kernel and makes the tables. Buffers: the kernel as it lies, panels, tables."""
    return _Panels(spec).write()


def margins_kernel(spec: ConvSpec) -> Made:
    """What copies maps. Buffers: maps, maps with margins."""
    return _Margins(spec).write()


class _Places(ConvTiles):
    def write(self) -> Made:
        b = self.b
        with b.loop(b.lo, b.hi) as items:
            rest, mb = self.split(items.index, ["m_blocks"])
            rest, nb = self.split(rest, ["n_blocks"])
            image, self.group = self.split(rest, ["groups"])
            self._item(image, mb, nb)
        return self.finish(f"convolution {self.spec.element}{self.spec.epilogue.label}")

    def _item(self, image: Val, mb: Val, nb: Val) -> None:
        """One block of C, of one image and one group, k-block after k-block."""
        b, spec, d = self.b, self.spec, self.dim
        self.phase = None
        self.m0, self.n0 = b.mul(mb, d("m_block")), b.mul(nb, d("n_block"))
        m1, n1 = (
            b.minimum(b.add(self.m0, d("m_block")), d("m")),
            b.minimum(b.add(self.n0, d("n_block")), d("n")),
        )
        start = b.add(b.mul(image, d("image")), b.mul(self.group, d("b.group")))
        x = b.address(b.buffer(1), start, spec.element)
        tables = b.buffer(spec.sums + 1 + len(spec.epilogue.leaves) + len(spec.epilogue.outputs))
        places = b.address(tables, d("k"), "i64")
        panels = b.address(b.buffer(0), b.mul(self.group, d("a.group")), spec.element)
        pitch = b.const(spec.columns, "i64")
        with b.loop(0, b.maximum(d("k"), 1), K_BLOCK) as ks:
            self.kc = b.minimum(b.sub(d("k"), ks.index), K_BLOCK)
            self.first = b.cmp("eq", ks.index, 0)
            noted = b.address(tables, ks.index, "i64")
            with b.loop(self.n0, n1, spec.columns) as js:
                at = b.mul(b.div_unsigned(js.index, spec.columns), d("a.panel"))
                panel = b.address(panels, b.add(at, b.mul(ks.index, spec.columns)), spec.element)
                source = PanelSource(panel, pitch, spec.vectors, unrolled=True)
                with b.loop(self.m0, m1, spec.rows) as rows:
                    last = b.sub(m1, 1)
                    pointers = [
                        b.place(x, b.load(places, b.minimum(b.add(rows.index, i), last), "i64"), spec.element)
                        for i in range(spec.rows)
                    ]
                    chains = self.chains(pointers, b.const(1, "i64"), source, noted)
                    sums = self._sums(rows.index, b.sub(js.index, self.n0))
                    self.put_where(self.first, chains, sums, d("n_block"))
        self.finish_turned(m1, n1, image)


class _Panels(KernelEmitter):
    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.spec = spec

    def write(self) -> Made:
        b, spec, d = self.b, self.spec, self.dim
        with b.loop(b.lo, b.hi) as items:
            group, panel = self.split(items.index, ["panels"])
            first = b.mul(panel, spec.columns)
            count = b.minimum(b.sub(d("n"), first), spec.columns)
            row = b.add(b.mul(group, d("n")), first)
            source = b.address(b.buffer(0), b.mul(row, d("k")), spec.element)
            target = b.address(b.buffer(1), b.mul(items.index, d("a.panel")), spec.element)
            packer = Packer(b, spec.element, spec.lanes, spec.columns, masks=True)
            packer.pack(Submatrix(source, b.const(1, "i64"), d("k"), d("k"), count), target, "row")
            with b.if_(b.cmp("eq", items.index, 0)):
                self._note()
        return self.finish(f"panels of a kernel {spec.element}")

    def _dims(self, name: str) -> list[Val]:
        return [self.dim(f"{name}{d}") for d in range(self.spec.rank)]

    def _note(self) -> None:
        """Where in a map elements along k lie, from the first one of a place on; and where these do."""
        b, d, table = self.b, self.dim, self.b.buffer(2)
        strides = self._dims("stride")

        def note(start: Val, unit: Val | None, hops: Sequence[Val]) -> Callable[[Val, Val, Sequence[Val]], None]:
            def visit(at: Val, outer: Val, coordinates: Sequence[Val]) -> None:
                distance = b.const(0, "i64") if unit is None else b.mul(outer, unit)
                inner = coordinates if unit is not None else [outer, *coordinates]
                for x, hop, stride in zip(inner, hops, strides, strict=True):
                    distance = b.add(distance, b.mul(b.mul(x, hop), stride))
                b.store(distance, start, at)

            return visit

        zero, taps, places = b.const(0, "i64"), self._dims("taps"), self._dims("pixels")
        counted(b, zero, d("k"), taps, note(table, d("channel"), self._dims("shift")))
        behind = b.address(table, d("k"), "i64")
        counted(b, zero, d("m"), places[1:], note(behind, None, self._dims("step")))


class _Margins(KernelEmitter):
    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.spec = spec

    def write(self) -> Made:
        b, spec, d = self.b, self.spec, self.dim
        sizes, wide, low = (self._dims(name) for name in ("size", "wide", "low"))
        strides = self._dims("x.stride")
        with b.loop(b.lo, b.hi) as items:
            source = b.address(b.buffer(0), b.mul(items.index, d("x.channel")), spec.element)
            target = b.address(b.buffer(1), b.mul(items.index, d("channel")), spec.element)

            def line(at: Val, outer: Val | None, rest: Sequence[Val]) -> None:
                length, start = sizes[-1], b.const(0, "i64")
                before = [] if outer is None else [outer, *rest]
                for x, margin, n, stride in zip(before, low, sizes, strides, strict=False):
                    place = b.sub(x, margin)
                    inside = b.op("arith.cmpi", [place, n], "i1", 1, "ult")
                    length = b.select(inside, length, b.const(0, "i64"))
                    start = b.add(start, b.mul(place, stride))
                row = b.address(target, b.mul(at, wide[-1]), spec.element)
                self._copy(b.place(source, b.sub(start, low[-1]), spec.element), row, length, low[-1], wide[-1])

            if spec.rank == 1:
                line(b.const(0, "i64"), None, [])
            else:
                lines = wide[0]
                for n in wide[1:-1]:
                    lines = b.mul(lines, n)
                counted(b, b.const(0, "i64"), lines, wide[1:-1], line)
        return self.finish(f"margins {spec.element}")

    def _dims(self, name: str) -> list[Val]:
        return [self.dim(f"{name}{d}") for d in range(self.spec.rank)]

    def _copy(self, source: Val, target: Val, length: Val, low: Val, wide: Val) -> None:
        """A line of `wide` elements: from `low` on `length` of them from `source` on, zeros elsewhere."""
        b, lanes, element = self.b, self.spec.lanes, self.spec.element
        with b.loop(0, wide, lanes) as vs:
            first = b.splat(b.truncate(b.sub(vs.index, low), "i32"), lanes)
            places = b.add(first, b.const_vector(range(lanes), "i32"))
            exists = b.op("arith.cmpi", [places, b.splat(b.truncate(length, "i32"), lanes)], "i1", lanes, "ult")
            x = b.load(b.place(source, vs.index, element), 0, element, lanes, exists)
            b.store(x, target, vs.index, b.tail_mask(b.sub(wide, vs.index), lanes))
