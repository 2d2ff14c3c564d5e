"""Operands of a product that are computed where they are packed: a prologue's text.

In: a `Prologue` and the place of a block. Out: text that computes vectors of the operand, and that fills a block in
scratch with them, so that the register tile reads the block as it reads a packed copy. Next: `tile.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.kernel import KernelEmitter, Leaf, evaluate, make_leaf
from flambeau.compiler.codegen.products.operands import Factor, MatrixAccess, TermOp, TermRef
from flambeau.compiler.codegen.products.pack import transposed


@dataclass(frozen=True)
class Prologue:
    """An operand computed by `steps` from `leaves`. Its elements form lines: of row after row ("row"), each running along
    columns, or of column after column ("column"), each running along rows. `name` begins the names of its dims."""

    name: str
    element: str
    lines: str
    leaves: tuple[Leaf, ...]
    steps: tuple[TermOp, ...]
    ref: TermRef

    @property
    def names(self) -> list[str]:
        """The leaves' names."""
        return [f"{self.name}{k}" for k in range(len(self.leaves))]

    @property
    def label(self) -> str:
        return "".join(f"{step.op.name} + " for step in self.steps if step.args)


def prologue(name: str, factor: Factor, element: str, lines: str) -> Prologue | None:
    """A factor as text sees it, in `lines`; None if it only lies in memory."""
    if not factor.is_computed:
        return None
    leaves = tuple(make_leaf(x, strides(x, lines)[1]) for x in factor.leaves)
    return Prologue(name, element, lines, leaves, factor.steps, factor.ref)


def strides(x: MatrixAccess, lines: str) -> tuple[Any, Any]:
    """The strides of a leaf from line to line, and along a line."""
    return (x.row, x.column) if lines == "row" else (x.column, x.row)


class OperandLines(NamedTuple):
    """Some lines of an operand: `height` of them from line `first` on, and of each `length` elements from `start` on."""

    first: Val
    height: Val
    start: Val
    length: Val


@dataclass(frozen=True)
class Computer:
    """Computes vectors of an operand. Its leaves are the buffers from `buffer` on and begin at `offsets`."""

    kernel: KernelEmitter
    prologue: Prologue
    buffer: int
    offsets: dict[str, Val]
    lanes: int
    masks: bool

    def vector(self, line: Val, at: Val, lanes: int, mask: Val | None, ahead: int = 0) -> Val:
        """`lanes` elements of a line from `at` on, after asking for what the line `ahead` of it will need."""
        b, kernel, spec = self.kernel.b, self.kernel, self.prologue

        def load(k: int) -> Val:
            name = spec.names[k]
            pitch = kernel.dim(f"{name}.line")
            start = b.add(self.offsets[name], b.mul(line, pitch))
            if ahead and spec.leaves[k].column == "unit":
                far = b.add(start, b.mul(pitch, ahead))
                b.prefetch(b.buffer(self.buffer + k), b.add(far, at), spec.leaves[k].element)
            return kernel.load_leaf(spec.leaves[k], b.buffer(self.buffer + k), start, at, name, lanes, mask)

        (x,) = evaluate(b, spec.steps, [spec.ref], load)
        return b.splat(x, lanes)

    def fill(self, lines: OperandLines, target: Val, pitch: Val, unroll: int) -> None:
        """Store lines one after the other, `pitch` apart, `unroll` vectors per round. What follows a line's end is overwritten:
        `pitch` is a multiple of the vector."""
        b, element = self.kernel.b, self.prologue.element
        with b.loop(0, lines.height) as ls:
            row = b.address(target, b.mul(ls.index, pitch), element)
            line = b.add(lines.first, ls.index)

            def move(at: Val, lanes: int, mask: Val | None) -> None:
                b.store(self.vector(line, b.add(lines.start, at), lanes, mask), row, at)

            self._along(lines.length, move, unroll)

    def fill_transposed(self, lines: OperandLines, target: Val, width: int, unroll: int) -> None:
        """Store lines side by side, `width` elements of as many lines in a row: squares pass through registers, `unroll` per
        round."""
        b, lanes, element = self.kernel.b, self.lanes, self.prologue.element
        last = b.sub(b.add(lines.first, lines.height), 1)
        with b.loop(0, lines.height, lanes) as ls:

            def move(at: Val, count: int, mask: Val | None) -> None:
                place = b.address(target, b.add(b.mul(at, width), ls.index), element)
                numbers = [b.minimum(b.add(b.add(lines.first, ls.index), i), last) for i in range(lanes)]
                square = [self.vector(line, b.add(lines.start, at), count, mask) for line in numbers]
                if count == 1:
                    for i, x in enumerate(square):
                        b.store(x, place, i)
                else:
                    for i, x in enumerate(transposed(b, square)):
                        b.store(x, place, i * width)

            self._along(lines.length, move, unroll)

    def _along(self, length: Val, move: Callable[[Val, int, Val | None], None], unroll: int) -> None:
        """Vectors along a line, `unroll` per round; the rest of it under a mask, or element by element."""
        b, lanes = self.kernel.b, self.lanes
        start = b.const(0, "i64")
        for count in sorted({1, unroll}, reverse=True):
            end = b.mul(b.div_unsigned(length, count * lanes), count * lanes)
            with b.loop(start, end, count * lanes) as vs:
                for i in range(count):
                    move(b.add(vs.index, i * lanes), lanes, None)
            start = end
        if not self.masks:
            with b.loop(start, length) as vs:
                move(vs.index, 1, None)
            return
        with b.if_(b.cmp("lt", start, length)):
            move(start, lanes, b.tail_mask(b.sub(length, start), lanes))
