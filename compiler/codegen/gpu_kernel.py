"""A GPU kernel and its launch: operands and extents in the order of its parameters.

In: the values that a code generator asks for while it writes. Out: a `Launch`. Next: `gpu_emitter.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.gpu_emitter import GpuEmitter
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import KernelCall, Launch, Operand

#: The largest grid that every device takes.
_GRID = (2**31 - 1, 65535, 65535)


class Kernel:
    """A kernel being written: which operand is which value, and the numbers of its launch."""

    def __init__(self, threads: int) -> None:
        self.b = GpuEmitter(threads)
        self._pointers: dict[int, Val] = {}
        self._operands: list[Operand] = []
        self._writes: list[int] = []
        self._dims: list[int] = []

    def pointer(self, value: int, written: bool = False) -> Val:
        """The memory of a value."""
        if value not in self._pointers:
            if written:
                self._writes.append(len(self._operands))
            self._operands.append(Operand("value", value))
            self._pointers[value] = self.b.pointer(written)
        return self._pointers[value]

    def extent(self, number: int) -> Val:
        """`number` as a parameter of the kernel, so that its text serves other extents too."""
        self._dims.append(number)
        return self.b.extent()

    def launch(self, label: str, grid: tuple[int, int, int]) -> KernelCall:
        """The finished call. Raises ValueError where the grid is larger than devices allow."""
        if any(n > most for n, most in zip(grid, _GRID, strict=True)):
            raise ValueError(
                f"[gpu] kernel '{label}' needs a grid of {grid} blocks, more than {_GRID}. Split the array."
            )
        blocks = grid[0] * grid[1] * grid[2]
        return Launch(
            self.b.source(label),
            tuple(self._operands),
            tuple(self._dims),
            n=blocks,
            grain=1,
            writes=tuple(self._writes),
            grid=grid,
            block=(self.b.threads, 1, 1),
        )
