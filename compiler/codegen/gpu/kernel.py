"""A GPU kernel and its launch: operands and extents in the order of its parameters.

In: the values that a code generator asks for while it writes. Out: a `Launch`. Next: `emitter.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.compiler.codegen.arguments import KernelArguments
from flambeau.compiler.codegen.gpu.emitter import GpuEmitter
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import KernelCall, Launch
from flambeau.dialects.size import Int

#: The largest grid that every device takes.
_GRID = (2**31 - 1, 65535, 65535)


class GpuKernel(KernelArguments):
    """A kernel being written, and the numbers of its launch."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.b = GpuEmitter(threads, lambda n: self.number(n, n))

    def add_pointer(self, position: int, written: bool) -> Val:
        return self.b.pointer(written)

    def add_number(self, position: int) -> Val:
        return self.b.extent()

    def launch(
        self, label: str, grid: tuple[Int, Int, Int], overwrites: Callable[[int, int], bool] = lambda new, old: False
    ) -> KernelCall:
        """The finished call, on a grid that may be of sizes known at run time. Raises ValueError where it is larger than
        devices allow; where it might become so is a guard.

        `overwrites(new, old)` says whether each element of the input `old` is read by no other thread than the one that
        writes the element in its place of the output `new`, and before that: the two can be one buffer."""
        if any(n > most for n, most in zip(grid, _GRID, strict=True)):
            raise ValueError(
                f"[gpu] kernel '{label}' needs a grid of {grid} blocks, more than {_GRID}. Split the array."
            )
        values, written = [o.index for o in self.operands], list(self.writes.values())
        pairs = [(w, r) for w in written for r in range(len(values)) if r not in written]
        in_place = tuple((w, r) for w, r in pairs if overwrites(values[w], values[r]))
        return Launch(
            self.b.source(label),
            tuple(self.operands),
            tuple(self.dims),
            n=grid[0] * grid[1] * grid[2],
            grain=1,
            writes=tuple(written),
            in_place=in_place,
            grid=grid,
            block=(self.b.threads, 1, 1),
            in_place_source=self.b.source(label, {p for pair in in_place for p in pair}) if in_place else None,
        )
