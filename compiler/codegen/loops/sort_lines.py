"""The lines of an operand in kernels of orders: where they lie, and the keys of their elements.

In: a line's number. Out: places, keys. Lines are all elements along the axis at one place of the other axes. Next: `sort_keys.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.loops.sort_keys import sort_key
from flambeau.dialects.dtypes import DType


@dataclass(frozen=True)
class Lines:
    """Lines of `count` elements; `columns` of them lie beside each other, None for one."""

    b: Emitter
    source: Val
    dtype: DType
    count: Val
    columns: Val | None
    descending: bool

    def start(self, line: Val, count: Val | None = None) -> Val:
        """Where a line begins, in a tensor with `count` elements along the axis if that is another one."""
        b, count = self.b, self.count if count is None else count
        if self.columns is None:
            return b.mul(line, count)
        outer, column = b.div_unsigned(line, self.columns), b.rem_unsigned(line, self.columns)
        return b.add(b.mul(outer, b.mul(count, self.columns)), column)

    def place(self, start: Val, k: Val) -> Val:
        """Where element `k` of a line lies."""
        return self.b.add(start, k if self.columns is None else self.b.mul(k, self.columns))

    def key(self, start: Val, k: Val) -> Val:
        """The key of an element of a line."""
        return sort_key(self.b, self.b.load(self.source, self.place(start, k), self.dtype.mlir), self.descending)
