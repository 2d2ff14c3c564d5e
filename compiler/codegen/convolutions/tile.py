"""The tiles of convolutions, and their way to the result.

In: `ConvSpec`; a panel of B in scratch, and which of C's columns it holds. Out: text. Columns are (image, place), so that small
images fill tiles together: a tile whose columns lie side by side in C, and that is full, goes straight there; all others pass
through scratch. Of x with a stride no two columns lie side by side: their places are noted. Next: `blocks.py`, which brings
operands to tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from flambeau.compiler.codegen.convolutions.joined import JoinedPatches
from flambeau.compiler.codegen.convolutions.patches import Patches, advanced, coordinates
from flambeau.compiler.codegen.convolutions.phases import Phase
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.chains import K_BLOCK, Chains, PanelSource, RowSource, TileText
from flambeau.compiler.codegen.products.pack import transposed
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.schedules.kinds import Convolution
from flambeau.dialects.size import Int

_WORD = 8
#: Words that say where a run of columns of a phase lies.
_RUN = 4


@dataclass(frozen=True)
class ConvSpec(TileText):
    """What text of convolutions depends on. `gives` is the tensor that is computed, `rank` counts its spatial axes; neighbours
    along the last one meet places a `step` apart (0: any); `phased`: x with a stride, whose neighbours in a phase lie `apart`
    elements from each other (0: any); `joined`: rows of places are as long as those of the map (`joined.py`); `masks`: the machine
    has masked loads and stores; `run_lanes`: what follows the sums of a phase takes so many at a time."""

    schedule: Convolution
    gives: str
    rank: int
    step: int
    phased: bool
    apart: int
    joined: bool
    masks: bool
    run_lanes: int

    @property
    def turned(self) -> bool:
        return self.schedule.turned

    @property
    def by_places(self) -> bool:
        """Whether rows of C are places of y: nothing is copied in a block."""
        return self.turned and self.gives == "y"

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
        """Where the parts of scratch begin, in bytes. The last one is as large as the schedule's blocks say."""
        most = max(K_BLOCK, self.columns)
        elements = storage_bytes(self.element)
        words = {
            "lines": 0 if self.by_places else most * Patches.line_words(self.rank),
            "runs": 0 if self.by_places else most * (JoinedPatches if self.joined else Patches).run_words(self.rank),
            "a.lines": most * Patches.line_words(1) if self.gives == "w" else 0,
            "a.runs": K_BLOCK * Patches.run_words(1) if self.gives == "w" else 0,
            "places": _RUN * self.columns if self.phased else 0,
        }
        parts = {name: count * _WORD for name, count in words.items()}
        parts["tile"] = max(self.rows * self.columns, self.lanes * self.lanes) * elements
        parts["panel"] = 0 if self.by_places else K_BLOCK * self.panel_pitch * elements
        parts["turned"] = self.lanes * self.pitch * elements if self.gives == "w" else 0
        found, at = {}, 0
        for name, size in parts.items():
            found[name] = at
            at += -(-size // 64) * 64
        return {**found, "a": at}

    @property
    def scratch(self) -> Int:
        """Bytes of scratch: at its end, for w, a block of A; where sums do not lie as C does, those of a block of C."""
        row = (self.pitch if self.gives == "w" else 0) + (self.schedule.n_block if self.phased or self.turned else 0)
        return self.regions()["a"] + self.schedule.m_block * row * storage_bytes(self.element)


class PanelColumns(NamedTuple):
    """The columns of a panel: `width` of them from the pixel `place` of `image` on, of which some may be another image's. Of x with
    a stride, `image` counts the runs that are noted, and `place` is that of the first column in its block of C."""

    width: Val
    image: Val
    place: Val
    are_adjacent: Val


class ConvTiles(Chains):
    """A kernel whose items are blocks of C, of a `group` and perhaps of a `phase`."""

    spec: ConvSpec
    group: Val
    phase: Phase | None
    m0: Val
    n0: Val

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__(spec)
        self.regions = spec.regions()

    def region(self, name: str) -> Val:
        """Where a part of scratch begins."""
        return self.b.address(self.b.scratch, self.regions[name], "i8")

    def dims(self, name: str) -> list[Val]:
        """The numbers of that name, one per spatial axis."""
        return [self.dim(f"{name}{d}") for d in range(self.spec.rank)]

    def tile(self, a: RowSource, columns: PanelColumns, m: Val, rows: Val) -> None:
        """One register tile over one k-block. Columns beyond the border are computed of what is in the panel, and never stored."""
        b, spec = self.b, self.spec
        wide = b.and_(b.cmp("eq", columns.width, spec.columns), columns.are_adjacent)
        direct = b.and_(wide, b.cmp("eq", rows, spec.rows))
        if not spec.epilogue.is_plain:
            direct = b.and_(direct, b.not_(self.last))
        pointers = self.row_pointers(a, rows)
        if spec.phased:
            self._put_apart(self._wide(a, pointers), rows, columns, m)
            return
        if spec.turned:
            chains = self._wide(a, pointers)
            self.put_where(self.first, chains, self._sums(m, columns.place), self.dim("n_block"))
            return

        def whole() -> list[Val]:
            c_at = b.place(b.buffer(spec.sums), b.add(self._row_start(m, columns.image), columns.place), spec.element)
            target = b.select(direct, c_at, self.region("tile"))
            c_stride = b.select(direct, self.dim("pitch"), b.const(spec.columns, "i64"))
            self.put_where(b.or_(self.first, b.not_(direct)), self._wide(a, pointers), target, c_stride)
            return []

        if spec.schedule.narrows:
            few = b.cmp("le", columns.width, spec.columns - spec.lanes)
            b.if_else(few, lambda: self._put_narrow(a, pointers, columns.width), whole)
        else:
            whole()
        with b.if_(b.not_(direct)), b.function():
            self._finish_runs(rows, columns, m)

    def _wide(self, a: RowSource, pointers: list[Val]) -> list[Val]:
        """The chains of a whole tile."""
        pitch = self.b.const(self.spec.panel_pitch, "i64")
        return self.chains(pointers, a.k, PanelSource(self.region("panel"), pitch, self.spec.vectors, unrolled=True))

    def _put_narrow(self, a: RowSource, pointers: list[Val], width: Val) -> list[Val]:
        """The chains of fewer columns than the tile has, vector by vector, into scratch."""
        b, spec = self.b, self.spec
        pitch, stride = b.const(spec.panel_pitch, "i64"), b.const(spec.columns, "i64")
        with b.loop(0, width, spec.lanes) as vs:
            panel, tile = (b.address(self.region(name), vs.index, spec.element) for name in ("panel", "tile"))
            self.put(self.chains(pointers, a.k, PanelSource(panel, pitch, 1)), tile, stride, False)
        return []

    def _row_start(self, m: Val, image: Val) -> Val:
        """Where the pixels of an image begin in row `m` of C."""
        b, d = self.b, self.dim
        start = b.add(b.mul(self.group, d("c.group")), b.mul(m, d("pitch")))
        return b.add(start, b.mul(image, d("c.image")))

    def _finish_runs(self, rows: Val, columns: PanelColumns, m: Val) -> None:
        """From the tile in scratch to C, image by image."""
        b, spec, zero = self.b, self.spec, self.b.const(0, "i64")

        def more(done: Val, image: Val, place: Val) -> Val:
            return b.cmp("lt", done, columns.width)

        def finish(done: Val, image: Val, place: Val) -> list[Val]:
            length = b.minimum(b.sub(columns.width, done), b.sub(self.dim("pitch"), place))

            def finish_vector(r: Val, v: Val, count: Val | None) -> list[Val]:
                row, pixel = b.add(m, r), b.add(place, v)
                mask = None if count is None else b.tail_mask(b.sub(length, v), spec.lanes)
                index = b.add(self._row_start(row, image), pixel)
                at = b.add(b.mul(r, spec.columns), b.add(done, v))
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
                return []

            with b.loop(0, rows) as rs, b.loop(0, length, spec.lanes) as vs:
                self._whole_or_not(length, vs.index, spec.lanes, partial(finish_vector, rs.index, vs.index))
            return [b.add(done, length), b.add(image, 1), zero]

        b.while_([zero, columns.image, columns.place], more, finish)

    def _whole_or_not(self, length: Val, start: Val, lanes: int, finish: Callable[[Val | None], list[Val]]) -> None:
        """`finish(end)` of the vector that begins at `start` of a run that ends at `length`: with no end where it is whole, and the
        machine has no masks."""
        if self.spec.masks:
            finish(length)
            return
        whole = self.b.cmp("ge", self.b.sub(length, start), lanes)
        self.b.if_else(whole, lambda: finish(None), lambda: finish(length))

    def _leaf_start(self, k: int, row: Val, image: Val | None = None) -> Val:
        """Where a row of a leaf begins, of an image or of the first one."""
        b, d, name = self.b, self.dim, f"leaf{k}"
        start = b.add(b.mul(self.group, d(f"{name}.group")), b.mul(row, d(f"{name}.row")))
        return start if image is None else b.add(start, b.mul(image, d(f"{name}.image")))

    def _sums(self, m: Val, column: Val) -> Val:
        """Where the sums of a tile lie in scratch: from row `m` on, and from a column of the block on."""
        b, spec, n_block = self.b, self.spec, self.dim("n_block")
        at = b.add(b.mul(b.sub(m, self.m0), n_block), column)
        if spec.gives == "w":  # behind a block of A
            at = b.add(at, b.mul(self.dim("m_block"), spec.pitch))
        return b.address(self.region("a"), at, spec.element)

    def finish_turned(self, m1: Val, n1: Val, image: Val | None = None) -> None:
        """From the sums in scratch, whose rows are taps, or places of an image, to C, whose rows are output channels: square by
        square."""
        b, spec, square = self.b, self.spec, self.region("tile")
        start_of = image if image is not None else b.const(0, "i64")
        lanes, position = spec.lanes, spec.sums + 1 + len(spec.epilogue.leaves)
        with b.loop(self.n0, n1, lanes) as ns, b.loop(self.m0, m1, lanes) as ms:
            lines = [b.minimum(b.add(ms.index, i), b.sub(m1, 1)) for i in range(lanes)]
            column = b.sub(ns.index, self.n0)
            for i, x in enumerate(
                transposed(b, [b.load(self._sums(m, column), 0, spec.element, lanes) for m in lines])
            ):
                b.store(x, square, i * lanes)
            count = b.sub(m1, ms.index)
            mask = b.tail_mask(count, lanes)
            with b.loop(0, b.minimum(b.sub(n1, ns.index), lanes)) as rs:
                row = b.add(ns.index, rs.index)

                def load(k: int) -> Val:
                    leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
                    start = self._leaf_start(k, row, image)
                    return self.load_leaf(leaf, buffer, start, ms.index, f"leaf{k}", lanes, mask)

                x = b.load(square, b.mul(rs.index, lanes), spec.element, lanes)
                index = b.add(self._row_start(row, start_of), ms.index)
                for k, y in enumerate(spec.epilogue.apply(b, x, load)):
                    self.store_tail(y, b.buffer(position + k), index, count, mask, spec.masks)

    # ---- columns that lie apart ----------------------------------------------------------------------------

    def note_places(self, first: Val, count: Val) -> Val:
        """Note the runs of columns that lie in one row of the map: where each begins, its length, its image and first pixel. How
        many these are."""
        b, phase, zero, table = self.b, self.phase, self.b.const(0, "i64"), self.region("places")
        assert phase is not None
        strides, hops = self.dims("c.stride"), self.dims("step")

        def more(done: Val, runs: Val, *at: Val) -> Val:
            return b.cmp("lt", done, count)

        def note(done: Val, runs: Val, *at: Val) -> list[Val]:
            length = b.minimum(b.sub(count, done), b.sub(phase.places[-1], at[-1]))
            pixel = b.const(0, "i64")
            for q, hop, start, stride in zip(at[1:], hops, phase.offsets, strides, strict=True):
                pixel = b.add(pixel, b.mul(b.add(b.mul(q, hop), start), stride))
            for k, word in enumerate((done, length, at[0], pixel)):
                b.store(word, table, b.add(b.mul(runs, _RUN), k))
            return [b.add(done, length), b.add(runs, 1), *advanced(b, at, phase.places, length)]

        return b.while_([zero, zero, *coordinates(b, first, phase.places)], more, note)[1]

    def _put_apart(self, chains: list[Val], rows: Val, columns: PanelColumns, m: Val) -> None:
        """Partial sums stay in scratch, side by side; finished ones go to their places."""
        b, spec, n_block = self.b, self.spec, self.dim("n_block")
        sums, tile, stride = self._sums(m, columns.place), self.region("tile"), b.const(spec.columns, "i64")

        def finish() -> list[Val]:
            b.if_else(
                self.first,
                lambda: self.put(chains, tile, stride, False),
                lambda: self.put(chains, tile, stride, (sums, n_block)),
            )
            with b.function():
                self._finish_apart(rows, columns, m)
            return []

        def partial() -> list[Val]:
            self.put_where(self.first, chains, sums, n_block)
            return []

        b.if_else(self.last, finish, partial)

    def _finish_apart(self, rows: Val, columns: PanelColumns, m: Val) -> None:
        """From the tile in scratch to C, run by run."""
        b, spec = self.b, self.spec
        with b.loop(0, columns.image) as runs:
            word = b.mul(runs.index, _RUN)
            begin, length, image, pixel = (b.load(self.region("places"), b.add(word, k), "i64") for k in range(_RUN))

            def finish(v: Val, end: Val | None) -> list[Val]:
                with b.loop(0, rows) as rs:
                    row, count = b.add(m, rs.index), None if end is None else b.sub(length, v)
                    here = b.add(pixel, b.mul(v, self.dims("step")[-1]))
                    at = b.add(b.mul(rs.index, spec.columns), b.add(begin, v))
                    self._finish_vector_apart(at, row, image, here, count)
                return []

            with b.loop(0, length, spec.run_lanes) as vs:
                self._whole_or_not(length, vs.index, spec.run_lanes, partial(finish, vs.index))

    def _finish_vector_apart(self, at: Val, row: Val, image: Val, pixel: Val, count: Val | None) -> None:
        """A vector of a run, or the first `count` of its elements: its sums lie at `at` in the tile in scratch."""
        b, spec, position = self.b, self.spec, self.spec.sums + 1 + len(self.spec.epilogue.leaves)
        x = b.load(self.region("tile"), at, spec.element, spec.run_lanes, self._first(count))
        results = spec.epilogue.apply(b, x, lambda k: self._leaf_apart(k, row, image, pixel, count))
        index = b.add(self._row_start(row, image), pixel)
        for k, y in enumerate(results):
            self._store_apart(y, b.buffer(position + k), index, count)

    def _first(self, count: Val | None) -> Val | None:
        """The mask of so many elements of a run's vector; None: of all."""
        return None if count is None else self.b.tail_mask(count, self.spec.run_lanes)

    def _store_apart(self, x: Val, buffer: Val, index: Val, count: Val | None) -> None:
        b, lanes = self.b, self.spec.run_lanes
        if self.spec.apart == 2:
            b.store_every_second(x, buffer, index, count, self.spec.masks)
        elif self.spec.apart == 1:
            b.store(x, buffer, index, self._first(count))
        else:
            b.scatter(x, buffer, b.add(b.mul(b.iota(lanes), self.dims("step")[-1]), index), self._first(count))

    def _leaf_apart(self, k: int, row: Val, image: Val, pixel: Val, count: Val | None) -> Val:
        """What the epilogue reads beside neighbours of a phase."""
        b, spec, leaf, column = self.b, self.spec, self.spec.epilogue.leaves[k], self.dim(f"leaf{k}.column")
        buffer, lanes = b.buffer(spec.sums + 1 + k), spec.run_lanes
        start = b.add(self._leaf_start(k, row, image), b.mul(pixel, column))
        if leaf.column == "fixed":
            return b.load(buffer, start, leaf.element)
        if leaf.column == "unit" and spec.apart == 1:
            return b.load(buffer, start, leaf.element, lanes, self._first(count))
        if leaf.column == "unit" and spec.apart == 2:
            if count is None:
                return b.load_every_second(buffer, start, leaf.element, lanes)
            reach = b.sub(b.mul(count, 2), 1)
            far = b.maximum(b.sub(reach, lanes - 1), 0)
            masks = b.tail_mask(reach, lanes), b.tail_mask(far, lanes)
            return b.load_every_second(buffer, start, leaf.element, lanes, masks)
        places = b.add(b.mul(b.iota(lanes), b.mul(column, self.dims("step")[-1])), start)
        return b.gather(buffer, places, leaf.element, self._first(count))
