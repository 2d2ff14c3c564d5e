"""Packing a block of B into a panel: `width` columns side by side, row after row, for the register tile to read in order.

In: where the block lies and how its elements run. Out: text that fills the panel. Columns beyond the border may hold
anything: they are computed with and never stored. Next: `tile.py`, which packs into scratch.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.values import storage_bytes


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
