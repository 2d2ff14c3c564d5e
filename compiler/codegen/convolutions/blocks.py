"""The kernel of convolutions: that of matrix products, whose operands are found by tables.

In: `ConvSpec`. Out: kernel text. Items of the parallel loop are blocks of C, of one group (and of one phase); k goes by blocks of
256. B is packed into a panel at a time, padding included, and tiles read it there: patches line by line (`patches.py`), for w
line by line into scratch and turned there. A is read in place for y, and for x, whose kernel was turned before
(`weights.py`); for w a block of it is packed for each k-block. Next: `phases.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.convolutions.joined import JoinedPatches
from flambeau.compiler.codegen.convolutions.patches import Geometry, Patches, coordinates
from flambeau.compiler.codegen.convolutions.phases import Phase, Phases
from flambeau.compiler.codegen.convolutions.tile import ConvSpec, ConvTiles, PanelColumns
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.chains import K_BLOCK, RowSource
from flambeau.compiler.codegen.products.pack import Packer, Submatrix
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Size


def convolution_kernel(spec: ConvSpec) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims. Buffers: A, B, C (partial sums), the epilogue's leaves, its outputs but the one
    that is C."""
    return _BlocksWriter(spec).write()


class _BlocksWriter(ConvTiles):
    def write(self) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b, spec = self.b, self.spec
        with b.loop(b.lo, b.hi) as items:
            # phases are innermost: they write to the same cache lines
            rest, phase = self.split(items.index, ["phases"]) if spec.phased else (items.index, None)
            rest, mb = self.split(rest, ["m_blocks"])
            group, nb = self.split(rest, ["n_blocks"])
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
        self.m0, self.n0 = m0, n0
        a0 = b.mul(group, d("a.group"))
        if phase is not None:
            a0 = b.add(a0, b.mul(phase, d("a.phase")))
        self.a0 = b.address(b.buffer(0), a0, spec.element)
        b0 = b.address(b.buffer(1), b.mul(group, d("b.group")), spec.element)
        patches = (JoinedPatches if spec.joined else Patches)(
            b, spec.element, spec.lanes, spec.step, geometry, b0, self.region("lines"), self.region("runs"), spec.ahead,
            not spec.masks and (spec.gives != "w" or spec.turned),
        )  # fmt: skip
        of_rows, of_columns = patches, patches
        if spec.gives == "w":
            of_rows, of_columns = (patches, self._maps()) if spec.turned else (self._maps(), patches)
        with b.loop(0, b.maximum(k, 1), K_BLOCK) as ks:
            self.kc = b.minimum(b.sub(k, ks.index), K_BLOCK)
            self.first, self.last = b.cmp("eq", ks.index, 0), b.cmp("ge", b.add(ks.index, K_BLOCK), k)
            runs, a = None, RowSource(b.address(self.a0, ks.index, spec.element), None, d("a.row"), b.const(1, "i64"))
            if spec.gives == "w":
                a, runs = self._fill_rows(of_rows, ks.index, m0, m1), of_columns.note_runs(ks.index, self.kc)
            else:
                patches.note_lines(ks.index, self.kc)
            with b.loop(n0, n1, spec.columns) as js:
                columns = self._columns(js.index, b.minimum(b.sub(n1, js.index), spec.columns))
                with b.function():
                    self._pack(of_columns, runs, js.index, columns.width)
                with b.loop(m0, m1, spec.rows) as rows:
                    row = rows.index if a.first is None else b.sub(rows.index, a.first)
                    a_at = a._replace(start=b.address(a.start, b.mul(row, a.row), spec.element))
                    self.tile(a_at, columns, rows.index, b.minimum(b.sub(m1, rows.index), spec.rows))
        if spec.turned:
            self.finish_turned(m1, n1)

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

    def _columns(self, first: Val, count: Val) -> PanelColumns:
        b, d = self.b, self.dim
        if self.phase is not None:
            return PanelColumns(count, self.note_places(first, count), b.sub(first, self.n0), b.const(False, "i1"))
        if self.spec.gives == "w":
            place = b.sub(first, self.n0) if self.spec.turned else first
            return PanelColumns(count, b.const(0, "i64"), place, b.const(True, "i1"))
        image, place = coordinates(b, first, [d("pitch")])
        return PanelColumns(count, image, place, b.cmp("le", b.add(place, self.spec.columns), d("pitch")))

    # ---- operands ------------------------------------------------------------------------------------------

    def _maps(self) -> Patches:
        """y as patches without taps, of which w takes the places of a k-block."""
        b, spec, d = self.b, self.spec, self.dim
        one, zero, size = b.const(1, "i64"), b.const(0, "i64"), d("a.row")
        geometry = Geometry([size], [one], size, d("a.image"), d("images"), [one], [zero], [zero], [one], [size])
        return Patches(
            b, spec.element, spec.lanes, 1, geometry, self.a0, self.region("a.lines"), self.region("a.runs"), spec.ahead,
            not spec.masks and not spec.turned,
        )  # fmt: skip

    def _fill_rows(self, lines: Patches, k: Val, m0: Val, m1: Val) -> RowSource:
        """Where tiles of w read A from `k` on: a block of scratch that is filled now."""
        b, spec = self.b, self.spec
        runs = lines.note_runs(k, self.kc)
        with b.loop(m0, m1, K_BLOCK) as ms:
            count = b.minimum(b.sub(m1, ms.index), K_BLOCK)
            lines.note_lines(ms.index, count)
            target = b.address(self.region("a"), b.mul(b.sub(ms.index, m0), spec.pitch), spec.element)
            lines.fill(b.const(0, "i64"), count, runs, target, spec.pitch)
        return RowSource(self.region("a"), m0, b.const(spec.pitch, "i64"), b.const(1, "i64"))

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
            packer.pack(Submatrix(turned, one, pitch, self.kc, lines), target, "row")
