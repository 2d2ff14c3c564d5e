"""The lanes of vectors: one repeated, taken out, picked, joined, folded.

In: `Val`s. Out: vector ops, handed to `op`; a scalar is a vector of one lane, for which most of them are nothing. Next:
`arithmetic.py`, which builds on this.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.codegen.values import Val


class LaneOps:
    """Mixed into `Arithmetic`, with `op` of the `Emitter`."""

    def op(self, name: str, operands: Sequence[Val], element: str, lanes: int = 1, attribute: str = "") -> Val:
        """An op with one result; all that lowerings do, but for constants and control flow, comes through here."""
        raise NotImplementedError

    def splat(self, x: Val, lanes: int) -> Val:
        """`x` in every lane of a vector; `x` itself if it has that many lanes already."""
        if x.lanes == lanes:
            return x
        if x.lanes != 1:
            raise ValueError(f"[emitter] cannot splat {x.mlir} to {lanes} lanes. Splat scalars only.")
        return self.op("vector.broadcast", [x], x.type, lanes)

    def extract(self, x: Val, lane: int) -> Val:
        if x.lanes == 1:
            return x
        return self.op("vector.extract", [x], x.type, attribute=str(lane))

    def insert(self, x: Val, into: Val, lane: int) -> Val:
        return self.op("vector.insert", [x, into], x.type, into.lanes, str(lane))

    def shuffle(self, x: Val, y: Val, lanes: Sequence[int]) -> Val:
        """Lanes picked by number from `x` (0 ...) and `y` (x.lanes ...)."""
        return self.op("vector.shuffle", [x, y], x.type, len(lanes), ", ".join(map(str, lanes)))

    def slice_lanes(self, x: Val, start: int, count: int) -> Val:
        """`count` adjacent lanes; one lane gives a scalar."""
        if count == x.lanes:
            return x
        return self.extract(x, start) if count == 1 else self.shuffle(x, x, range(start, start + count))

    def join_lanes(self, x: Val, y: Val) -> Val:
        """The lanes of `x` followed by those of `y`, of equal count."""
        if x.lanes == 1:
            return self.insert(y, self.splat(x, 2), 1)
        return self.shuffle(x, y, range(x.lanes + y.lanes))

    def any(self, x: Val) -> Val:
        """Whether some lane of an i1 vector is true."""
        return self.reduce("or", x)

    def reduce(self, kind: str, x: Val) -> Val:
        """Fold the lanes of integers or bools, whose order does not matter: or, and, xor, add, minsi, maxsi."""
        if x.lanes == 1:
            return x
        return self.op("vector.reduction", [x], x.type, attribute=kind)
