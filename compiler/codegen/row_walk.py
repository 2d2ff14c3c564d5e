"""Where a row is among the row loops of a nest, for every machine.

In: the number of a row, and how its machine writes numbers into text. Out: `RowWalk`, its coordinates and where accesses that
run along them begin; `RowPlace`, the values that its elements share; written once in front of the row's loops.
Next: `loops/points.py`, rows of vectors; `gpu/points.py`, rows of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.nest_place import NestPlace
from flambeau.compiler.codegen.values import Val
from flambeau.dialects.size import Int


class RowWalk:
    """The row `row`, an i64, or None of a nest without row loops. `number(n, key)` is an extent or a stride of the text;
    `coordinates` are given where loops are at hand that are the nest's row loops; `narrow`: 32 bits divide faster, and suffice."""

    def __init__(
        self,
        b: Emitter,
        row: Val | None,
        extents: Sequence[Int],
        number: Callable[[Int, object], Val | Int],
        coordinates: list[Val] | None = None,
        narrow: Callable[[], bool] = lambda: False,
    ) -> None:
        self.b, self.row, self.extents, self.number = b, row, extents, number
        self.lines = b.here()
        self._coordinates, self.narrow = coordinates, narrow

    def coordinates(self) -> list[Val]:
        """The row's index along each row loop."""
        if self._coordinates is None:
            self._coordinates = [] if self.row is None else self._split(self.row)
        return self._coordinates

    def _split(self, row: Val) -> list[Val]:
        b, found = self.b, list[Val]()
        is_narrow = len(self.extents) > 1 and self.narrow()
        left = b.truncate(row, "i32") if is_narrow else row
        for extent in reversed(self.extents[1:]):
            n = self.number(extent, None)
            found.append(b.rem_unsigned(left, n))
            left = b.div_unsigned(left, n)
        coordinates = [*([left] if self.extents else []), *reversed(found)]
        return [b.extend_signed(x, "i64") for x in coordinates] if is_narrow else coordinates

    def along(self, strides: Sequence[Int], key: object, total: Val | None = None) -> Val | None:
        """`total` plus the row's index times these strides; None for 0."""
        if not any(strides):
            return total
        for at, stride in zip(self.coordinates(), strides, strict=True):
            if stride:
                term = at if stride == 1 else self.b.mul(at, self.number(stride, (key, "row", at)))
                total = term if total is None else self.b.add(total, term)
        return total


class RowPlace(NestPlace):
    """A place that is a row: its values are written in front of what asks for them."""

    walk: RowWalk

    def value(self, value: int) -> Val:
        if value in self.values:
            return self.values[value]
        with self.b.into(self.walk.lines):
            return super().value(value)
