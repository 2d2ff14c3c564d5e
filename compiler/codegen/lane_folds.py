"""Folds of the elements of a row, in the order that docs/architecture.md fixes: 64 lanes, chunks of 4096, pairs.

One order of work for every machine: lanes take their elements of a chunk one after the other, lanes are halved until one is left,
what chunks give is combined in pairs. A machine says who holds the lanes (registers of vectors, threads of a block), how they reach
one another, where chunks leave what they give, and what one does for all who share a row. In: folds, and elements. Out: text.
Next: `loops/lanes.py`, vectors of CPUs; `gpu/lanes.py`, threads of a block; `row_passes.py`, who folds rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.reduce import MonoidFold
from flambeau.compiler.codegen.values import Val
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import Int, ceil_div, maximum

#: From one column on to before another.
Span = tuple[Val, Val]


def chunks_of(count: Int) -> Int:
    return maximum(1, ceil_div(count, CHUNK))


class Elements:
    """What lanes take, at places that `at` makes: by default what a subclass's `element` says."""

    def __init__(self, b: Emitter) -> None:
        self.b = b

    def at(self, col: Val, mask: Val | None = None, block: tuple[Val, int] | None = None) -> Any:
        """The place of a register's lanes: columns `col`, `col + 1`, ..., those of them that `mask` says. `block` is (first column,
        distance from it) within 64 columns that are taken together."""
        raise NotImplementedError

    def element(self, place: Any, fold: Any) -> Any:
        """What a fold takes there, as lanes hold it."""
        raise NotImplementedError

    def combine(self, fold: Any, total: Val, x: Any) -> Val:
        return fold.combine(self.b, total, x)

    def store(self, place: Any) -> None:
        """Write what else is computed there."""


class Lanes:
    """The 64 lanes of folds on one machine, of which a register of each worker's holds `held` together."""

    held: int
    #: Whether chunks leave what they give in memory: where there are several, or where others have to know it.
    is_staged = True
    #: Chunks, and no fewer than these if that is known (0: it is not).
    slots: tuple[Val | Int, int]

    def __init__(self, b: Emitter) -> None:
        self.b = b

    # ---- what a machine says -----------------------------------------------------------------------------------

    def walk(self, span: Span, folds: Sequence[Any], elements: Elements) -> list[list[Val]]:
        """The registers of every fold, whose lanes have taken a chunk's elements."""
        raise NotImplementedError

    def low(self, x: Val, half: int) -> Val:
        """Lanes 0..half of a register, or of those of all workers."""
        raise NotImplementedError

    def upper(self, x: Val, half: int) -> Val:
        """The lanes that are `half` further."""
        raise NotImplementedError

    def left(self, fold: Any, x: Val) -> Val:
        """What the last lane holds, as an element."""
        return x

    def whole(self) -> Span:
        """All columns, where there is one chunk."""
        raise NotImplementedError

    def span(self, chunk: Val) -> Span:
        """The columns of a chunk."""
        raise NotImplementedError

    def staging(self, folds: Sequence[Any]) -> list[Val]:
        """For every fold, room for what chunks give, which all who share the row see."""
        raise NotImplementedError

    def chunks(self) -> AbstractContextManager[Val]:
        """The number of each chunk, for those who fold it."""
        raise NotImplementedError

    def put(self, results: Iterable[Val], parts: Sequence[Val], chunk: Val) -> None:
        """Write what a chunk gives, and let the others see it."""
        raise NotImplementedError

    def alone(self) -> AbstractContextManager[None]:
        """What one of all who share a row does, and the others then see."""
        return nullcontext()

    # ---- the order of work -------------------------------------------------------------------------------------

    def row(self, folds: Sequence[Any], elements: Elements) -> list[Val]:
        """The results of folding a whole row, known to all who share it."""
        if not self.is_staged:
            return list(self.chunk(self.whole(), folds, elements))
        parts = self.staging(folds)
        with self.chunks() as chunk:
            self.put(self.chunk(self.span(chunk), folds, elements), parts, chunk)
        return [self._paired(fold, part) for fold, part in zip(folds, parts, strict=True)]

    def chunk(self, span: Span, folds: Sequence[Any], elements: Elements) -> Iterator[Val]:
        """The results of folding at most a chunk, one after the other."""
        registers = self.walk(span, folds, elements)
        return (self.halve(fold, mine) for fold, mine in zip(folds, registers, strict=True))

    def halve(self, fold: Any, registers: Sequence[Val], count: int = LANES) -> Val:
        """Halve the lanes, lane j with lane j + half, until one is left. Of `count` elements in as many registers as they need, the
        lanes left out hold the identity, which changes no lane that started from it."""
        b, registers, width = self.b, list(registers), LANES // self.held
        while width > 1:
            width //= 2
            upper = registers[width:]
            folded = [fold.combine(b, x, y) for x, y in zip(registers, upper, strict=False)]
            registers = folded + registers[len(upper) : width]
        (x,), half = registers, self.held // 2
        while half:
            low = self.low(x, half)
            x = fold.combine(b, low, self.upper(x, half)) if count > half else low
            half //= 2
        return self.left(fold, x)

    def _paired(self, fold: MonoidFold, part: Val) -> Val:
        count, most = self.slots
        if most != 1:
            with self.alone():
                fold.fold_pairs(self.b, part, count, most)
        return fold.result(self.b, part)
