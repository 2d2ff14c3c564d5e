"""The tiles of convolutions, and their way to the result.

In: `ConvSpec`; a panel of B in scratch, and which of C's columns it holds. Out: text. Columns are (image, place), so that small
images fill tiles together: a tile whose columns lie side by side in C, and that is full, goes straight there; all others pass
through scratch. Of x with a stride no two columns lie side by side: their places are noted. Next: `conv_blocks.py`, which brings
operands to tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler.codegen.conv_patches import Patches, counted
from flambeau.compiler.codegen.conv_phases import Phase
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.gemm_chains import K_BLOCK, Chains, PanelSource, RowSource, TileText
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.schedules.kinds import Convolution
from flambeau.dialects.size import Int

_WORD = 8


@dataclass(frozen=True)
class ConvSpec(TileText):
    """What text of convolutions depends on. `gives` is the tensor that is computed, `rank` counts its spatial axes; neighbours
    along the last one meet places a `step` apart (0: any); `phased`: x with a stride."""

    schedule: Convolution
    gives: str
    rank: int
    step: int
    phased: bool

    @property
    def sums(self) -> int:
        return 2  # after A and B

    @property
    def pitch(self) -> int:
        """Elements between lines along k that lie in scratch: their overhang fits, and neighbours share no cache sets."""
        return K_BLOCK + self.lanes

    @property
    def panel_pitch(self) -> int:
        """Elements between the rows of a panel, with room for what is copied too much."""
        return self.columns + self.lanes

    @property
    def ahead(self) -> int:
        """Elements from what is packed to what the next panel is packed of, with a margin."""
        return self.columns + self.lanes // 2

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


class Columns(NamedTuple):
    """The columns of a panel: `width` of them from the pixel `place` of `image` on, of which some may be another image's."""

    width: Val
    image: Val
    place: Val
    are_adjacent: Val


class ConvTiles(Chains):
    """A kernel whose items are blocks of C, of a `group` and perhaps of a `phase`."""

    spec: ConvSpec
    group: Val
    phase: Phase | None

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__(spec)
        self.regions = spec.regions()

    def region(self, name: str) -> Val:
        """Where a part of scratch begins."""
        return self.b.address(self.b.scratch, self.regions[name], "i8")

    def dims(self, name: str) -> list[Val]:
        """The numbers of that name, one per spatial axis."""
        return [self.dim(f"{name}{d}") for d in range(self.spec.rank)]

    def tile(self, a: RowSource, columns: Columns, m: Val, rows: Val) -> None:
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
        self.put_where(fresh, chains, target, c_stride)
        with b.if_(b.not_(direct)):
            self._finish_runs(rows, columns, m)

    def _row_start(self, m: Val, image: Val) -> Val:
        """Where the pixels of an image begin in row `m` of C."""
        b, d = self.b, self.dim
        start = b.add(b.mul(self.group, d("c.group")), b.mul(m, d("pitch")))
        return b.add(start, b.mul(image, d("c.image")))

    def _finish_runs(self, rows: Val, columns: Columns, m: Val) -> None:
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

                self.finish_vector(
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

    # ---- columns that lie apart ----------------------------------------------------------------------------

    def note_places(self, first: Val, count: Val) -> None:
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

    def _finish_apart(self, rows: Val, columns: Columns, m: Val) -> None:
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

                self.finish_vector(
                    x,
                    lambda buffer: b.gather(buffer, index, spec.element, mask),
                    lambda y, buffer: b.scatter(y, buffer, index, mask),
                    load,
                )
