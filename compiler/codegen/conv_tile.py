"""The kernel of convolutions: that of matrix products, whose operands are found by tables.

In: `ConvSpec`. Out: kernel text. Items of the parallel loop are blocks of C, of one group (and of one phase); k goes by blocks of
256. B is packed into a panel at a time, padding included, and tiles read it there: patches line by line (`conv_patches.py`), for w
line by line into scratch and turned there. A is read in place for y; for x and w a block of it is packed for each k-block. Columns
are (image, place), so that small images fill tiles together: a tile whose columns lie side by side in C, and that is full, goes
straight there; all others pass through scratch. Of x with a stride no two columns lie side by side: their places are noted. Next:
`conv_phases.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler.codegen.conv_patches import Geometry, Patches, coordinates, counted
from flambeau.compiler.codegen.conv_phases import Phase, Phases
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.gemm_chains import K_BLOCK, Chains, PanelSource, RowSource
from flambeau.compiler.codegen.gemm_kernel import Epilogue
from flambeau.compiler.codegen.gemm_pack import Block, Packer
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.schedules.kinds import Convolution
from flambeau.dialects.size import Int, Size

_WORD = 8


@dataclass(frozen=True)
class ConvSpec:
    """What text depends on: `schedule`, but for its blocks of C, which are dims. `gives` is the tensor that is computed, `rank`
    counts its spatial axes; neighbours along the last one meet places a `step` apart (0: any); `phased`: x with a stride.
    `accumulator` is the output that holds partial sums between k-blocks, or None where a temporary does."""

    element: str
    schedule: Convolution
    gives: str
    rank: int
    step: int
    phased: bool
    epilogue: Epilogue
    accumulator: int | None

    #: The positions of the buffers: A, B, partial sums, then the epilogue's leaves.
    sums = 2

    @property
    def lanes(self) -> int:
        return self.schedule.lanes

    @property
    def rows(self) -> int:
        return self.schedule.rows

    @property
    def vectors(self) -> int:
        return self.schedule.vectors

    @property
    def columns(self) -> int:
        return self.schedule.columns

    @property
    def pitch(self) -> int:
        """Elements between lines along k that lie in scratch: their overhang fits, and neighbours share no cache sets."""
        return K_BLOCK + self.lanes

    @property
    def panel_pitch(self) -> int:
        """Elements between the rows of a panel, with room for what is copied too much."""
        return self.columns + self.lanes

    def regions(self) -> dict[str, int]:
        """Where the parts of scratch begin, in bytes. The last one, a block of A, is as large as blocks of C are high."""
        most = max(K_BLOCK, self.columns)
        elements = storage_bytes(self.element)
        words = {
            "lines": most * Patches.line_words(self.rank),
            "runs": most * Patches.run_words(self.rank),
            "a.lines": K_BLOCK * Patches.line_words(1),
            "a.runs": K_BLOCK * Patches.run_words(1) if self.gives == "w" else 0,
            "places": 2 * (self.columns + self.lanes) if self.phased else 0,
        }
        parts = {name: count * _WORD for name, count in words.items()}
        parts["tile"] = self.rows * self.columns * elements
        parts["panel"] = K_BLOCK * self.panel_pitch * elements
        parts["turned"] = self.lanes * self.pitch * elements if self.gives == "w" else 0
        found, at = {}, 0
        for name, size in parts.items():
            found[name] = at
            at += -(-size // 64) * 64
        return {**found, "a": at}

    @property
    def scratch(self) -> Int:
        """Bytes of scratch."""
        own = self.regions()["a"]
        return own if self.gives == "y" else own + self.schedule.m_block * self.pitch * storage_bytes(self.element)


def convolution_kernel(spec: ConvSpec) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims. Buffers: A, B, C (partial sums), the epilogue's leaves, its outputs but the one
    that is C."""
    return _Writer(spec).write()


class _Columns(NamedTuple):
    """The columns of a panel: `width` of them from the pixel `place` of `image` on, of which some may be another image's."""

    width: Val
    image: Val
    place: Val
    are_adjacent: Val


class _Writer(Chains):
    def __init__(self, spec: ConvSpec) -> None:
        super().__init__(spec.schedule, spec.element)
        self.spec = spec
        self.regions = spec.regions()

    def region(self, name: str) -> Val:
        """Where a part of scratch begins."""
        return self.b.address(self.b.scratch, self.regions[name], "i8")

    def dims(self, name: str) -> list[Val]:
        """The numbers of that name, one per spatial axis."""
        return [self.dim(f"{name}{d}") for d in range(self.spec.rank)]

    def write(self) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b, spec = self.b, self.spec
        with b.loop(b.lo, b.hi) as items:
            rest, mb = self.split(items.index, ["m_blocks"])
            rest, nb = self.split(rest, ["n_blocks"])
            group, phase = self.split(rest, ["phases"]) if spec.phased else (rest, None)
            self._item(group, phase, mb, nb)
        name = {"y": "convolution", "x": "convolution by input", "w": "convolution by weight"}[spec.gives]
        return self.finish(f"{name} {spec.element}{spec.epilogue.label}")

    # ---- items ---------------------------------------------------------------------------------------------

    def _item(self, group: Val, phase: Val | None, mb: Val, nb: Val) -> None:
        """One block of C, k-block after k-block."""
        b, spec, d = self.b, self.spec, self.dim
        self.group = group
        self.phase = self._phase(phase)
        geometry = self._geometry()
        k, n = self._extents()
        m0, n0 = b.mul(mb, d("m_block")), b.mul(nb, d("n_block"))
        m1, n1 = b.minimum(b.add(m0, d("m_block")), d("m")), b.minimum(b.add(n0, d("n_block")), n)
        self.a0 = b.address(b.buffer(0), b.mul(group, d("a.group")), spec.element)
        b0 = b.address(b.buffer(1), b.mul(group, d("b.group")), spec.element)
        patches = Patches(
            b, spec.element, spec.lanes, spec.step, geometry, b0, self.region("lines"), self.region("runs")
        )
        with b.loop(0, b.maximum(k, 1), K_BLOCK) as ks:
            self.kc = b.minimum(b.sub(k, ks.index), K_BLOCK)
            self.first, self.last = b.cmp("eq", ks.index, 0), b.cmp("ge", b.add(ks.index, K_BLOCK), k)
            runs = patches.note_runs(ks.index, self.kc) if spec.gives == "w" else None
            if spec.gives != "w":
                patches.note_lines(ks.index, self.kc)
            a = self._rows_of_a(ks.index, m0, m1)
            with b.loop(n0, n1, spec.columns) as js:
                columns = self._columns(js.index, b.minimum(b.sub(n1, js.index), spec.columns))
                self._pack(patches, runs, js.index, columns.width)
                with b.loop(m0, m1, spec.rows) as rows:
                    row = rows.index if a.first is None else b.sub(rows.index, a.first)
                    a_at = a._replace(start=b.address(a.start, b.mul(row, a.row), spec.element))
                    self._tile(a_at, columns, rows.index, b.minimum(b.sub(m1, rows.index), spec.rows))

    def _phase(self, number: Val | None) -> Phase | None:
        return None if number is None else Phases(self.b, self.dims).at(number)

    def _geometry(self) -> Geometry:
        d, dims = self.dim, self.dims
        steps, bases, shifts, taps, pixels = map(dims, ("step", "base", "shift", "taps", "pixels"))
        if self.phase is not None:
            one = self.b.const(1, "i64")
            steps, bases, taps, pixels = [one] * len(steps), self.phase.bases, self.phase.taps, self.phase.places
        return Geometry(
            dims("size"), dims("stride"), d("channel"), d("image"), d("images"), steps, bases, shifts, taps, pixels
        )

    def _extents(self) -> tuple[Val, Val]:
        """Steps along k, and columns, of the item's matrices."""
        b, d = self.b, self.dim
        if self.phase is None:
            return d("k"), d("n")
        k, n = d("channels"), d("images")
        for taps, places in zip(self.phase.taps, self.phase.places, strict=True):
            k, n = b.mul(k, taps), b.mul(n, places)
        return k, n

    def _columns(self, first: Val, count: Val) -> _Columns:
        b, d = self.b, self.dim
        if self.phase is not None:
            self._note_places(first, count)
            return _Columns(count, count, count, b.const(False, "i1"))
        if self.spec.gives == "w":
            return _Columns(count, b.const(0, "i64"), first, b.const(True, "i1"))
        image, place = coordinates(b, first, [d("pitch")])
        return _Columns(count, image, place, b.cmp("le", b.add(place, self.spec.columns), d("pitch")))

    # ---- operands ------------------------------------------------------------------------------------------

    def _rows_of_a(self, k: Val, m0: Val, m1: Val) -> RowSource:
        """Where tiles read A from `k` on: in place, or in a block of scratch that is filled now."""
        b, spec, d = self.b, self.spec, self.dim
        one = b.const(1, "i64")
        if spec.gives == "y":
            return RowSource(b.address(self.a0, k, spec.element), None, d("a.row"), one)
        block, pitch = self.region("a"), b.const(spec.pitch, "i64")
        if spec.gives == "x":
            self._pack_kernel(k, m0, m1, block)
        else:
            self._pack_maps(k, m0, m1, block)
        return RowSource(block, m0, pitch, one)

    def _pack_kernel(self, k: Val, m0: Val, m1: Val, block: Val) -> None:
        """The kernel's elements that a k-block of x takes, for every row: found by their distances."""
        b, spec, d = self.b, self.spec, self.dim
        table, pitch = self.region("a.lines"), spec.pitch
        strides, taps, starts, hops = self.dims("w.stride"), self.dims("taps"), None, None
        if self.phase is not None:
            taps, starts, hops = self.phase.taps, self.phase.starts, self.dims("hop")

        def note(at: Val, channel: Val, places: Sequence[Val]) -> None:
            distance = b.mul(channel, d("w.channel"))
            for axis, (place, stride) in enumerate(zip(places, strides, strict=True)):
                if starts is not None and hops is not None:
                    place = b.add(starts[axis], b.mul(place, hops[axis]))
                distance = b.add(distance, b.mul(place, stride))
            b.store(distance, table, at)

        counted(b, k, self.kc, taps, note)
        with b.loop(m0, m1) as rows:
            row = b.address(self.a0, b.mul(rows.index, d("a.row")), spec.element)
            target = b.address(block, b.mul(b.sub(rows.index, m0), pitch), spec.element)
            with b.loop(0, self.kc, spec.lanes) as ks:
                mask = b.tail_mask(b.sub(self.kc, ks.index), spec.lanes)
                at = b.load(table, ks.index, "i64", spec.lanes, mask)
                b.store(b.gather(row, at, spec.element, mask), target, ks.index)

    def _pack_maps(self, k: Val, m0: Val, m1: Val, block: Val) -> None:
        """The places of y that a k-block of w takes, for every row: a map without taps."""
        b, spec, d = self.b, self.spec, self.dim
        one, zero = b.const(1, "i64"), b.const(0, "i64")
        geometry = Geometry(
            [d("a.row")], [one], d("a.row"), d("a.image"), d("images"), [one], [zero], [zero], [one], [d("a.row")]
        )
        maps = Patches(b, spec.element, spec.lanes, 1, geometry, self.a0, self.region("a.lines"), self.region("a.runs"))
        runs = maps.note_runs(k, self.kc)
        with b.loop(m0, m1, K_BLOCK) as ms:
            count = b.minimum(b.sub(m1, ms.index), K_BLOCK)
            maps.note_lines(ms.index, count)
            target = b.address(block, b.mul(b.sub(ms.index, m0), spec.pitch), spec.element)
            maps.fill(zero, count, runs, target, spec.pitch)

    def _pack(self, patches: Patches, runs: Val | None, first: Val, count: Val) -> None:
        """Fill the panel with `count` columns from `first` on."""
        b, spec = self.b, self.spec
        panel = self.region("panel")
        if runs is None:
            runs = patches.note_runs(first, count)
            patches.fill(b.const(0, "i64"), self.kc, runs, panel, spec.panel_pitch)
            return
        patches.note_lines(first, count)
        turned, packer = self.region("turned"), Packer(b, spec.element, spec.lanes, spec.panel_pitch, masks=True)
        with b.loop(0, count, spec.lanes) as vs:
            lines = b.minimum(b.sub(count, vs.index), spec.lanes)
            patches.fill(vs.index, lines, runs, turned, spec.pitch)
            one, pitch = b.const(1, "i64"), b.const(spec.pitch, "i64")
            target = b.address(panel, vs.index, spec.element)
            packer.pack(Block(turned, one, pitch, self.kc, lines), target, "row")

    # ---- tiles ---------------------------------------------------------------------------------------------

    def _tile(self, a: RowSource, columns: _Columns, m: Val, rows: Val) -> None:
        """One register tile over one k-block. Columns beyond the border are computed of what is in the panel, and never stored."""
        b, spec = self.b, self.spec
        wide = b.and_(b.cmp("eq", columns.width, spec.columns), columns.are_adjacent)
        direct = b.and_(wide, b.cmp("eq", rows, spec.rows))
        if not spec.epilogue.is_plain:
            direct = b.and_(direct, b.not_(self.last))
        stride = b.const(spec.columns, "i64")
        source = PanelSource(self.region("panel"), b.const(spec.panel_pitch, "i64"), spec.vectors, unrolled=True)
        chains = self.chains(self.row_pointers(a, rows), a.k, source)
        tile = self.region("tile")
        if spec.phased:
            self.put(chains, tile, stride, False)
            self._finish_apart(rows, columns, m)
            return
        c_at = b.place(b.buffer(spec.sums), b.add(self._row_start(m, columns.image), columns.place), spec.element)
        target, c_stride = b.select(direct, c_at, tile), b.select(direct, self.dim("pitch"), stride)
        fresh = b.or_(self.first, b.not_(direct))
        b.if_else(
            fresh,
            lambda: self.put(chains, target, c_stride, False),
            lambda: self.put(chains, target, c_stride, True),
        )
        with b.if_(b.not_(direct)):
            self._finish_runs(rows, columns, m)

    def _row_start(self, m: Val, image: Val) -> Val:
        """Where the pixels of an image begin in row `m` of C."""
        b, d = self.b, self.dim
        start = b.add(b.mul(self.group, d("c.group")), b.mul(m, d("pitch")))
        return b.add(start, b.mul(image, d("c.image")))

    def _finish_runs(self, rows: Val, columns: _Columns, m: Val) -> None:
        """From the tile in scratch to C, image by image."""
        b, spec, zero = self.b, self.spec, self.b.const(0, "i64")

        def more(done: Val, image: Val, place: Val) -> Val:
            return b.cmp("lt", done, columns.width)

        def finish(done: Val, image: Val, place: Val) -> list[Val]:
            length = b.minimum(b.sub(columns.width, done), b.sub(self.dim("pitch"), place))
            with b.loop(0, rows) as rs, b.loop(0, length, spec.lanes) as vs:
                row, pixel = b.add(m, rs.index), b.add(place, vs.index)
                mask = b.tail_mask(b.sub(length, vs.index), spec.lanes)
                index = b.add(self._row_start(row, image), pixel)
                at = b.add(b.mul(rs.index, spec.columns), b.add(done, vs.index))
                x = b.load(self.region("tile"), at, spec.element, spec.lanes, mask)

                def load(k: int) -> Val:
                    start = self._leaf_start(k, row, image)
                    leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
                    return self.load_leaf(leaf, buffer, start, pixel, f"leaf{k}", spec.lanes, mask)

                self._finish(
                    x,
                    lambda buffer: b.load(buffer, index, spec.element, spec.lanes, mask),
                    lambda y, buffer: b.store(y, buffer, index, mask),
                    load,
                )
            return [b.add(done, length), b.add(image, 1), zero]

        b.while_([zero, columns.image, columns.place], more, finish)

    def _leaf_start(self, k: int, row: Val, image: Val | None = None) -> Val:
        """Where a row of a leaf begins, of an image or of the first one."""
        b, d, name = self.b, self.dim, f"leaf{k}"
        start = b.add(b.mul(self.group, d(f"{name}.group")), b.mul(row, d(f"{name}.row")))
        return start if image is None else b.add(start, b.mul(image, d(f"{name}.image")))

    def _finish(
        self,
        x: Val,
        read: Callable[[Val], Val],
        write: Callable[[Val, Val], None],
        load: Callable[[int], Val],
    ) -> None:
        """Add what earlier k-blocks left, apply the epilogue after the last one, store. `read` and `write` reach the same places
        of a buffer, `load` those of a leaf."""
        b, spec = self.b, self.spec
        sums = b.buffer(spec.sums)
        (x,) = b.if_else(self.first, lambda: [x], lambda: [b.add(read(sums), x)])
        if spec.epilogue.is_plain:
            write(x, sums)
            return

        def final() -> list[Val]:
            position = spec.sums + 1 + len(spec.epilogue.leaves)
            for k, y in enumerate(spec.epilogue.apply(b, x, load)):
                if k == spec.accumulator:
                    write(y, sums)
                else:
                    write(y, b.buffer(position))
                    position += 1
            return []

        def partial() -> list[Val]:
            write(x, sums)
            return []

        b.if_else(self.last, final, partial)

    # ---- columns that lie apart ----------------------------------------------------------------------------

    def _note_places(self, first: Val, count: Val) -> None:
        """Note the image and the pixel of every column."""
        b, phase = self.b, self.phase
        assert phase is not None
        images, pixels = self._places()
        strides, hops = self.dims("c.stride"), self.dims("step")

        def note(at: Val, image: Val, places: Sequence[Val]) -> None:
            pixel = b.const(0, "i64")
            for q, hop, start, stride in zip(places, hops, phase.offsets, strides, strict=True):
                pixel = b.add(pixel, b.mul(b.add(b.mul(q, hop), start), stride))
            b.store(image, images, at)
            b.store(pixel, pixels, at)

        counted(b, first, count, phase.places, note)

    def _places(self) -> tuple[Val, Val]:
        table = self.region("places")
        return table, self.b.address(table, self.spec.columns + self.spec.lanes, "i64")

    def _finish_apart(self, rows: Val, columns: _Columns, m: Val) -> None:
        """From the tile in scratch to C, every column to its place."""
        b, spec, d = self.b, self.spec, self.dim
        with b.loop(0, columns.width, spec.lanes) as vs:
            mask = b.tail_mask(b.sub(columns.width, vs.index), spec.lanes)
            image, pixel = (b.load(table, vs.index, "i64", spec.lanes, mask) for table in self._places())
            places = b.add(b.mul(image, d("c.image")), pixel)
            with b.loop(0, rows) as rs:
                row = b.add(m, rs.index)
                index = b.add(self._row_start(row, b.const(0, "i64")), places)
                at = b.add(b.mul(rs.index, spec.columns), vs.index)
                x = b.load(self.region("tile"), at, spec.element, spec.lanes, mask)

                def load(k: int) -> Val:
                    name = f"leaf{k}"
                    apart = b.add(b.mul(image, d(f"{name}.image")), b.mul(pixel, d(f"{name}.column")))
                    leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
                    return b.gather(buffer, b.add(self._leaf_start(k, row), apart), leaf.element, mask)

                self._finish(
                    x,
                    lambda buffer: b.gather(buffer, index, spec.element, mask),
                    lambda y, buffer: b.scatter(y, buffer, index, mask),
                    load,
                )
