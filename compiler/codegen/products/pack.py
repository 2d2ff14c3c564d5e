"""Packing a block of B into a panel: `width` columns side by side, row after row, for the register tile to read in order.

In: where the block lies and how its elements run. Out: text that fills the panel. Columns beyond the border may hold
anything: they are computed with and never stored. Next: `tile.py`, which packs into scratch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.targets.target import LINE


@dataclass(frozen=True)
class Submatrix:
    """`rows` x `columns` elements at `source`; (r, c) lies at r * row + c * column. All but `source` are i64."""

    source: Val
    row: Val
    column: Val
    rows: Val
    columns: Val


@dataclass(frozen=True)
class Packer:
    """Writes panels of `width` columns of `lanes`-wide vectors. `masks`: the machine has masked loads."""

    b: Emitter
    element: str
    lanes: int
    width: int
    masks: bool

    def pack(self, block: Submatrix, panel: Val, unit: str) -> None:
        """Copy; `unit` says where adjacent elements are: along a "column" index, along a "row" index, or "neither".

        The panel has room for a multiple of `lanes` rows.
        """
        if unit == "row":
            self._transpose(block, panel)
        else:
            self._copy(block, panel, unit == "column")

    def _copy(self, block: Submatrix, panel: Val, adjacent: bool) -> None:
        b, lanes = self.b, self.lanes

        def whole() -> list[Val]:
            with b.loop(0, block.rows) as rs:
                source, target = self._row(block, panel, rs.index)
                for c in range(0, self.width, lanes):
                    self._move(block, source, target, b.const(c, "i64"), lanes, None, adjacent)
            return []

        def border() -> list[Val]:
            with b.loop(0, block.rows) as rs:
                source, target = self._row(block, panel, rs.index)
                with b.loop(0, block.columns, lanes if self.masks else 1) as cs:
                    mask = b.tail_mask(b.sub(block.columns, cs.index), lanes) if self.masks else None
                    self._move(block, source, target, cs.index, lanes if self.masks else 1, mask, adjacent)
            return []

        b.if_else(b.cmp("eq", block.columns, self.width), whole, border)

    def _row(self, block: Submatrix, panel: Val, r: Val) -> tuple[Val, Val]:
        b = self.b
        source = b.address(block.source, b.mul(r, block.row), self.element)
        return source, b.address(panel, b.mul(r, self.width), self.element)

    def _move(
        self, block: Submatrix, source: Val, target: Val, c: Val, lanes: int, mask: Val | None, adjacent: bool
    ) -> None:
        b = self.b
        if adjacent:
            x = b.load(source, c, self.element, lanes, mask)
        else:
            x = b.gather(source, b.mul(b.add(b.iota(lanes), c), block.column), self.element, mask)
        b.store(x, target, c)

    def _transpose(self, block: Submatrix, panel: Val) -> None:
        """Square blocks through registers. Rows beyond the last are masked, or the last few are copied one by one."""
        b, lanes = self.b, self.lanes
        whole = block.rows if self.masks else b.mul(b.div_unsigned(block.rows, lanes), lanes)
        with b.loop(0, block.columns, lanes) as cs, b.loop(0, whole, lanes) as rs:
            mask = b.tail_mask(b.sub(block.rows, rs.index), lanes) if self.masks else None
            self._transpose_square(block, panel, rs.index, cs.index, mask)
        if not self.masks:
            with b.loop(whole, block.rows) as rs, b.loop(0, block.columns) as cs:
                x = b.load(block.source, b.add(rs.index, b.mul(cs.index, block.column)), self.element)
                b.store(x, panel, b.add(b.mul(rs.index, self.width), cs.index))

    def _transpose_square(self, block: Submatrix, panel: Val, r: Val, c: Val, mask: Val | None) -> None:
        """`lanes` x `lanes` elements; columns beyond the border repeat the last one."""
        b, last = self.b, self.b.sub(block.columns, 1)
        lines = []
        for i in range(self.lanes):
            at = b.add(r, b.mul(b.minimum(b.add(c, i), last), block.column))
            lines.append(b.load(block.source, at, self.element, self.lanes, mask))
        target = b.address(panel, b.add(b.mul(r, self.width), c), self.element)
        for i, line in enumerate(transposed(b, lines)):
            b.store(line, target, i * self.width)


@dataclass(frozen=True)
class TileRows:
    """Writes blocks of A for register tiles of `height` rows: elements of these side by side, column after column, and tiles
    `height * pitch` elements apart. Between them is room for a vector that ends beyond its tile. Columns that lie apart are asked
    for so far `ahead`."""

    b: Emitter
    element: str
    lanes: int
    height: int
    pitch: int
    ahead: int

    def pack(self, block: Submatrix, target: Val, unit: str) -> None:
        """Copy; rows beyond the border repeat the last one. `unit` says along which index elements are adjacent."""
        if unit == "row":
            self._copy(block, target)
        else:
            self._turn(block, target)

    def _tiles(self, target: Val, row: Val, count: int) -> list[Val]:
        """Where so many tiles begin, from the one of a row on."""
        b = self.b
        return [b.address(target, b.mul(b.add(row, i * self.height), self.pitch), self.element) for i in range(count)]

    def _copy(self, block: Submatrix, target: Val) -> None:
        """So many tiles at once that their rows are whole cache lines; what is left tile by tile, and row by row."""
        b, height = self.b, self.height
        line = LINE // storage_bytes(self.element)
        group = line // math.gcd(line, height)
        beyond = -height % self.lanes  # where whole vectors end beyond the last tile
        far = b.maximum(b.sub(block.rows, beyond), 0)
        grouped = b.mul(b.div_unsigned(far, group * height), group * height)
        whole = b.mul(b.div_unsigned(block.rows, height), height)
        with b.loop(0, grouped, group * height) as rs:
            tiles = self._tiles(target, rs.index, group)
            with b.loop(0, block.columns) as ks:
                source = b.address(block.source, b.add(rs.index, b.mul(ks.index, block.column)), self.element)
                to = b.mul(ks.index, height)
                if self.ahead:
                    later = b.add(rs.index, b.mul(b.add(ks.index, self.ahead), block.column))
                    for i in range(0, group * height, line):
                        b.prefetch(block.source, b.add(later, i), self.element)
                for t, tile in enumerate(tiles):
                    for i in range(0, height, self.lanes):
                        x = b.load(source, t * height + i, self.element, self.lanes)
                        b.store(x, tile, b.add(to, i))
        with b.loop(grouped, whole, height) as rs:
            (tile,) = self._tiles(target, rs.index, 1)
            with b.loop(0, block.columns) as ks:
                source = b.address(block.source, b.add(rs.index, b.mul(ks.index, block.column)), self.element)
                to = b.mul(ks.index, height)
                for i, lanes in parts_of(height, self.lanes):
                    b.store(b.load(source, i, self.element, lanes), tile, b.add(to, i))
        with b.loop(whole, block.rows, height) as rs:
            self._elements(block, target, rs.index, b.const(0, "i64"))

    def _elements(self, block: Submatrix, target: Val, row: Val, first: Val) -> None:
        """The tile of a row from column `first` on, element by element."""
        b = self.b
        (tile,) = self._tiles(target, row, 1)
        last = b.sub(block.rows, 1)
        with b.loop(first, block.columns) as ks, b.loop(0, self.height) as rs:
            line = b.mul(b.minimum(b.add(row, rs.index), last), block.row)
            x = b.load(block.source, b.add(line, b.mul(ks.index, block.column)), self.element)
            b.store(x, tile, b.add(b.mul(ks.index, self.height), rs.index))

    def _turn(self, block: Submatrix, target: Val) -> None:
        """Squares through registers, of as many tiles as their lines hold."""
        b, height, lanes = self.b, self.height, self.lanes
        count = max(1, lanes // height)
        whole = b.mul(b.div_unsigned(block.columns, lanes), lanes)
        last = b.sub(block.rows, 1)
        with b.loop(0, block.rows, count * height) as rs:
            tiles = self._tiles(target, rs.index, count)
            starts = range(0, count * height, lanes)
            lines = [
                b.address(block.source, b.mul(b.minimum(b.add(rs.index, i), last), block.row), self.element)
                for i in range(len(starts) * lanes)
            ]
            with b.loop(0, whole, lanes) as ks:
                squares = [
                    transposed(b, [b.load(x, ks.index, self.element, lanes) for x in lines[c : c + lanes]])
                    for c in starts
                ]
                for k in range(lanes):
                    to = b.mul(b.add(ks.index, k), height)
                    for c, square in zip(starts, squares, strict=True):
                        for t, tile in enumerate(
                            tiles
                        ):  # what ends beyond its tile is written again by the next column
                            begin, end = max(0, t * height - c), min(lanes, (t + 1) * height - c)
                            x = b.shuffle(square[k], square[k], list(range(begin, end))) if begin else square[k]
                            b.store(x, tile, b.add(to, max(0, c - t * height)))
            with b.loop(0, count * height, height) as ts:
                row = b.add(rs.index, ts.index)
                with b.if_(b.cmp("lt", row, block.rows)):
                    self._elements(block, target, row, whole)


def parts_of(count: int, lanes: int) -> list[tuple[int, int]]:
    """Runs of lanes, powers of two, that cover `count` exactly: where each begins, and how long it is."""
    parts, at = [], 0
    while at < count:
        run = min(lanes, 1 << (count - at).bit_length() - 1)
        parts.append((at, run))
        at += run
    return parts


def transposed(b: Emitter, lines: list[Val]) -> list[Val]:
    """The transpose of a square block held in registers: lane j of line i becomes lane i of line j.

    First blocks as large as 128 bits, which one instruction interleaves, then the 128-bit parts.
    """
    part = min(len(lines), 16 // storage_bytes(lines[0].type))
    groups = [_transposed_parts(b, lines[i : i + part], part) for i in range(0, len(lines), part)]
    columns = [_gathered_parts(b, [group[j] for group in groups], part) for j in range(part)]
    return [columns[i % part][i // part] for i in range(len(lines))]


def _transposed_parts(b: Emitter, lines: list[Val], part: int, run: int = 1) -> list[Val]:
    """Transposes the squares of `part` lines by `part` lanes that lie side by side; `run` lanes are of one column by now."""
    if run == part:
        return lines
    pairs = list(zip(lines[0::2], lines[1::2], strict=True))
    low, high = ([_interleaved(b, x, y, part, run, up) for x, y in pairs] for up in (0, 1))
    return _transposed_parts(b, low, part, 2 * run) + _transposed_parts(b, high, part, 2 * run)


def _interleaved(b: Emitter, x: Val, y: Val, part: int, run: int, upper: int) -> Val:
    """Runs of `run` lanes of x and y in turn, from the lower or upper halves of their parts."""
    picked: list[int] = []
    for start in range(upper * part // 2, x.lanes, part):
        for lane in range(start, start + part // 2, run):
            picked += [*range(lane, lane + run), *range(x.lanes + lane, x.lanes + lane + run)]
    return b.shuffle(x, y, picked)


def _gathered_parts(b: Emitter, lines: list[Val], part: int) -> list[Val]:
    """Line i of the result holds part i of every line, in order: parts with even and odd numbers, again and again."""
    count = lines[0].lanes
    for _ in range(len(lines).bit_length() - 1):
        pairs = list(zip(lines[0::2], lines[1::2], strict=True))
        halves = ([lane for lane in range(2 * count) if lane // part % 2 == odd] for odd in (0, 1))
        lines = [b.shuffle(x, y, half) for half in halves for x, y in pairs]
    return lines
