"""A GPU kernel and its launch: operands and extents in the order of its parameters.

In: the values that a code generator asks for while it writes. Out: a `Launch`. Next: `emitter.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.compiler.codegen.gpu.emitter import GpuEmitter
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import KernelCall, Launch, Operand
from flambeau.dialects.size import Int, Size

#: The largest grid that every device takes.
_GRID = (2**31 - 1, 65535, 65535)


class GpuKernel:
    """A kernel being written: which operand is which value, and the numbers of its launch."""

    def __init__(self, threads: int) -> None:
        self.b = GpuEmitter(threads, self._size)
        self._pointers: dict[int, Val] = {}
        self._operands: list[Operand] = []
        self._writes: list[int] = []
        self._dims: list[Int] = []
        self._sizes: dict[Size, Val] = {}

    def pointer(self, value: int, written: bool = False) -> Val:
        """The memory of a value."""
        if value not in self._pointers:
            if written:
                self._writes.append(len(self._operands))
            self._operands.append(Operand("value", value))
            self._pointers[value] = self.b.pointer(written)
        return self._pointers[value]

    def extent(self, number: Int) -> Val:
        """`number` as a parameter of the kernel, so that its text serves other extents too."""
        self._dims.append(number)
        return self.b.extent()

    def _size(self, number: Size) -> Val:
        """A size among the numbers of the text, which is a parameter then."""
        if number not in self._sizes:
            self._sizes[number] = self.extent(number)
        return self._sizes[number]

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
        values, written = [o.index for o in self._operands], set(self._writes)
        pairs = [(w, r) for w in self._writes for r in range(len(values)) if r not in written]
        in_place = tuple((w, r) for w, r in pairs if overwrites(values[w], values[r]))
        return Launch(
            self.b.source(label),
            tuple(self._operands),
            tuple(self._dims),
            n=grid[0] * grid[1] * grid[2],
            grain=1,
            writes=tuple(self._writes),
            in_place=in_place,
            grid=grid,
            block=(self.b.threads, 1, 1),
            in_place_source=self.b.source(label, {p for pair in in_place for p in pair}) if in_place else None,
        )
