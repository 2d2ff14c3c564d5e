"""The 64 lanes of folds in registers of vectors: each holds a few lanes, one thread has all of them.

In: an emitter, and how many lanes a register holds. Out: `VectorLanes`. Next: `lane_folds.py`, what is done with them;
`loops/lanes.py`, those that take the columns of rows.
"""

from __future__ import annotations

from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.lane_folds import Lanes
from flambeau.compiler.codegen.reduce import MonoidFold
from flambeau.compiler.codegen.values import Val


class VectorLanes(Lanes):
    """Lanes that lie in `LANES // held` registers, one after the other."""

    def __init__(self, b: Emitter, held: int) -> None:
        super().__init__(b)
        self.held = held

    def low(self, x: Val, half: int) -> Val:
        return self.b.slice_lanes(x, 0, half)

    def upper(self, x: Val, half: int) -> Val:
        return self.b.slice_lanes(x, half, half)

    def left(self, fold: MonoidFold, x: Val) -> Val:
        return fold.leave(self.b, x)
