"""The kernel of convolutions with few channels per group, and of their gradients by the maps: nothing is packed.

In: `DirectSpec`. Out: kernel text. An item is a plane of the result, or a band of its rows. Vectors hold neighbours of a row; a
tile is a few rows, so that a row of the map is read once for all that it meets. All that is said of taps is known: they are written
out. Where a tile touches the map's edge, vectors are read under masks, and what lies outside is a zero that takes part. Sums along
k are one chain, of at most 256 steps. Next: `channels.py`, for the gradient by the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from flambeau.compiler.codegen.convolutions.taps import Pattern
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.kernel import Epilogue, KernelEmitter
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.schedules.kinds import Direct
from flambeau.dialects.size import Size


@dataclass(frozen=True)
class DirectSpec:
    """What text depends on: `schedule`, but for its bands; how taps meet places along rows and columns; `single`: every result is
    made of one channel; `narrow`: every vector of a row reaches over an edge. Buffers: as of `tile.ConvSpec`."""

    element: str
    schedule: Direct
    epilogue: Epilogue
    accumulator: int | None
    rows: Pattern
    columns: Pattern
    width: int  # of the kernel
    single: bool
    narrow: bool
    masks: bool  # the machine has masked loads and stores; else tiles with all rows that touch an edge are written out, too
    whole: bool  # vectors of results end where rows do, and stores under masks take long

    sums = 2  # the buffer of the results: after A and B

    @property
    def lanes(self) -> int:
        return self.schedule.lanes

    @property
    def scratch(self) -> int:
        """Bytes of scratch: results of a unit that are put in order there."""
        return self.columns.results * self.lanes * storage_bytes(self.element) if self.columns.results > 2 else 0


def direct_kernel(spec: DirectSpec, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims."""
    return _DirectWriter(spec).write(label)


@dataclass(frozen=True)
class _Tile:
    """`units` units of rows from `row` on, by vectors whose first unit is `column`. `masks`: of vectors that are read, by where
    these begin; None where all that is read and written is there. `rows_exist`: all rows that are read and written are there."""

    row: Val
    units: int
    column: Val
    rows_exist: bool = True
    masks: dict[int, Val] | None = None


class _DirectWriter(KernelEmitter):
    source: Val
    weights: Val
    image: Val
    group: Val
    channel: Val
    first: Val
    kept: dict[tuple[int, int], Val]

    def __init__(self, spec: DirectSpec) -> None:
        super().__init__()
        self.spec = spec

    def write(self, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b = self.b
        with b.loop(b.lo, b.hi) as items:
            plane, band = self.split(items.index, ["bands"])
            self._item(plane, band)
        return self.finish(label)

    # ---- loops ---------------------------------------------------------------------------------------------

    def _item(self, plane: Val, band: Val) -> None:
        b, spec, d = self.b, self.spec, self.dim
        self.image, self.group, self.channel = self.split(plane, ["groups", "m"])
        self.first = b.mul(plane, d("pitch"))
        place = b.add(b.mul(self.image, d("image")), b.mul(self.group, d("b.group")))
        self.source = b.address(b.buffer(1), place, spec.element)
        place = b.add(b.mul(self.group, d("a.group")), b.mul(self.channel, d("a.row")))
        self.weights = b.address(b.buffer(0), place, spec.element)
        self.kept = {}
        if spec.single and spec.schedule.kept:
            taps = [[r for r, _ in sorted({t for of in p.taps for t in of})] for p in (spec.rows, spec.columns)]
            self.kept = {(r, s): self._weight(self.weights, r, s) for r in taps[0] for s in taps[1]}
        begin = b.mul(band, d("band"))
        end = b.minimum(b.add(begin, d("band")), d("units0"))
        units, whole = spec.schedule.rows, begin
        if units > 1:
            count = b.sub(end, begin)
            whole = b.sub(end, b.rem_unsigned(count, units))
            with b.loop(begin, whole, units) as rows:
                self._row_of_tiles(rows.index, units)
        with b.loop(whole, end) as rows:
            self._row_of_tiles(rows.index, 1)

    def _row_of_tiles(self, row: Val, units: int) -> None:
        """All tiles of some rows. Of those that are one row high, which there are few of, all are taken for an edge's."""
        b, lanes, d = self.b, self.spec.lanes, self.dim
        rows, columns = self.spec.rows, self.spec.columns
        near = b.mul(row, rows.step)
        far = b.add(near, (units - 1) * rows.step + rows.offsets[-1])
        inside = b.and_(b.cmp("ge", b.add(near, rows.offsets[0]), 0), b.cmp("lt", far, d("size0")))
        inside = b.and_(inside, b.cmp("le", b.mul(b.add(row, units), rows.results), d("height")))
        with b.loop(0, d("units1"), lanes) as us:
            place = b.mul(us.index, columns.step)
            all_of_it = b.and_(inside, b.cmp("ge", b.add(place, columns.offsets[0]), 0))
            last = b.add(place, columns.offsets[-1] + lanes * columns.step - 1)
            all_of_it = b.and_(all_of_it, b.cmp("lt", last, d("size1")))
            end = b.mul(b.add(us.index, lanes), columns.results)
            all_of_it = b.and_(all_of_it, b.cmp("le", end, d("width")))
            whole = _Tile(row, units, us.index)
            at_edge = partial(self._edge_tile, replace(whole, rows_exist=False), place)
            if units == 1 and self.spec.schedule.rows > 1:
                at_edge()
            elif self.spec.narrow:
                b.if_else(inside, partial(self._edge_tile, whole, place), at_edge)
            else:
                beside = at_edge
                if not self.spec.masks:
                    beside = partial(b.if_else, inside, partial(self._edge_tile, whole, place), at_edge)
                b.if_else(all_of_it, partial(self._tile, whole), beside)

    def _edge_tile(self, tile: _Tile, place: Val) -> list[Val]:
        return self._tile(replace(tile, masks=self._masks(place)))

    def _tile(self, tile: _Tile) -> list[Val]:
        """Sums from 0 on, over all channels of the group, then stored."""
        b, spec, d = self.b, self.spec, self.dim
        across = spec.columns.results
        zero = b.const(0, spec.element, spec.lanes)
        sums = [zero] * (tile.units * spec.rows.results * across)
        if spec.single:
            sums = self._chains(tile, sums, self.source, self.weights)
        else:
            with b.loop(0, d("channels"), carried=sums) as cs:
                source = b.address(self.source, b.mul(cs.index, d("channel")), spec.element)
                weights = b.address(self.weights, b.mul(cs.index, d("w.channel")), spec.element)
                cs.carry(self._chains(tile, cs.args, source, weights))
            sums = cs.results
        for row in range(tile.units * spec.rows.results):
            self._store(tile, row, sums[row * across : (row + 1) * across])
        return []

    # ---- sums ----------------------------------------------------------------------------------------------

    def _chains(self, tile: _Tile, sums: Sequence[Val], source: Val, weights: Val) -> list[Val]:
        """One channel more: row by row of the map."""
        spec, found = self.spec, list(sums)
        across = spec.columns.results
        for offset, met in spec.rows.rows(tile.units).items():
            read = self._vectors(tile, source, offset)
            for j, taps in enumerate(spec.columns.taps):
                for s, place in taps:
                    for row, r in met:
                        weight = self.kept.get((r, s)) or self._weight(weights, r, s)
                        at = row * across + j
                        found[at] = self.multiply_add(weight, read[place], found[at])
        return found

    def _weight(self, weights: Val, r: int, s: int) -> Val:
        spec = self.spec
        return self.b.splat(self.b.load(weights, r * spec.width + s, spec.element), spec.lanes)

    def _vectors(self, tile: _Tile, source: Val, offset: int) -> dict[int, Val]:
        """What a tile reads of one row of the map: a vector for each offset of columns."""
        b, spec, d = self.b, self.spec, self.dim
        row = b.add(b.mul(tile.row, spec.rows.step), offset)
        start = b.add(b.mul(row, d("size1")), b.mul(tile.column, spec.columns.step))
        line, offsets = b.place(source, start, spec.element), spec.columns.offsets
        if tile.masks is None:
            return dict(zip(offsets, self._read(line, None), strict=True))
        masks = tile.masks
        if tile.rows_exist:
            return dict(zip(offsets, self._read(line, masks), strict=True))
        zeros = [b.const(0, spec.element, spec.lanes)] * len(offsets)
        is_there = b.op("arith.cmpi", [row, d("size0")], "i1", 1, "ult")
        return dict(zip(offsets, b.if_else(is_there, lambda: self._read(line, masks), lambda: zeros), strict=True))

    def _read(self, line: Val, masks: dict[int, Val] | None) -> list[Val]:
        """A vector for each offset of columns, in order. Every second place: of two vectors, which serve two offsets."""
        b, spec, lanes = self.b, self.spec, self.spec.lanes
        step, offsets = spec.columns.step, spec.columns.offsets

        def load(at: int) -> Val:
            begin, mask = b.place(line, b.const(at, "i64"), spec.element), None if masks is None else masks[at]
            if step <= 2:
                return b.load(begin, 0, spec.element, lanes, mask)
            return b.gather(begin, b.mul(b.iota(lanes), step), spec.element, mask)

        loaded = {at: load(at) for at in self._begins()}
        if step != 2:
            return [loaded[at] for at in offsets]
        found = []
        for at in offsets:
            odd = int(at not in loaded or at + lanes not in loaded)
            begin = at - odd
            found.append(b.shuffle(loaded[begin], loaded[begin + lanes], range(odd, 2 * lanes, 2)))
        return found

    def _begins(self) -> list[int]:
        """Where vectors that are read begin, from a row's first unit on."""
        columns, lanes = self.spec.columns, self.spec.lanes
        if columns.step != 2:
            return columns.offsets
        pairs: list[int] = []
        for at in columns.offsets:
            if at - 1 not in pairs:
                pairs.append(at)
        return sorted({begin for at in pairs for begin in (at, at + lanes)})

    def _masks(self, place: Val) -> dict[int, Val]:
        """Which elements of these vectors are in the map, given the place of the row's first unit."""
        b, columns, lanes = self.b, self.spec.columns, self.spec.lanes
        size = b.splat(b.truncate(self.dim("size1"), "i32"), lanes)
        apart = columns.step if columns.step > 2 else 1
        steps = b.const_vector(range(0, apart * lanes, apart), "i32")
        found = {}
        for at in self._begins():
            places = b.add(b.splat(b.truncate(b.add(place, at), "i32"), lanes), steps)
            found[at] = b.op("arith.cmpi", [places, size], "i1", lanes, "ult")
        return found

    # ---- results -------------------------------------------------------------------------------------------

    def _store(self, tile: _Tile, row: int, sums: Sequence[Val]) -> None:
        """A row of a tile, counted through its units: `sums` are the results of units, which are brought in order."""
        b, rows = self.b, self.spec.rows
        at = b.add(b.mul(tile.row, rows.results), row)
        if tile.rows_exist or rows.results == 1:
            self._finish(tile, at, self._in_order(sums))
            return
        with b.if_(b.cmp("lt", at, self.dim("height"))):
            self._finish(tile, at, self._in_order(sums))

    def _in_order(self, sums: Sequence[Val]) -> list[Val]:
        """Vectors of neighbours, of vectors that hold each unit's first, second, ... result."""
        b, lanes, count = self.b, self.spec.lanes, len(sums)
        if count == 1:
            return list(sums)
        if count == 2:
            taken = [lane // 2 + lanes * (lane % 2) for lane in range(2 * lanes)]
            return [b.shuffle(sums[0], sums[1], half) for half in (taken[:lanes], taken[lanes:])]
        for j, x in enumerate(sums):
            b.scatter(x, b.scratch, b.add(b.mul(b.iota(lanes), count), j))
        return [b.load(b.scratch, v * lanes, self.spec.element, lanes) for v in range(count)]

    def _finish(self, tile: _Tile, row: Val, vectors: Sequence[Val]) -> None:
        """The epilogue of a row of a tile, and its stores."""
        b, spec, d = self.b, self.spec, self.dim
        column = b.mul(tile.column, spec.columns.results)
        for v, x in enumerate(vectors):
            begin = b.add(column, v * spec.lanes)
            mask = None
            if tile.masks is not None and not spec.whole:
                mask = b.tail_mask(b.maximum(b.sub(d("width"), begin), 0), spec.lanes)
            pixel = b.add(b.mul(row, d("width")), begin)
            index = b.add(self.first, pixel)

            def load(k: int, pixel: Val = pixel, mask: Val | None = mask) -> Val:
                leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
                places = ("group", self.group), ("row", self.channel), ("image", self.image)
                start = b.const(0, "i64")
                for name, place in places:
                    start = b.add(start, b.mul(place, d(f"leaf{k}.{name}")))
                return self.load_leaf(leaf, buffer, start, pixel, f"leaf{k}", spec.lanes, mask)

            write = lambda y, buffer, index=index, mask=mask: b.store(y, buffer, index, mask)  # noqa: E731
            self.store_results(spec.epilogue, spec.accumulator, spec.sums, x, write, load)
