"""What the compiler knows of a machine. Next: `x86_64.py`, one that is written down; `host.py`, the one at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Bytes of a cache line.
LINE = 64


@dataclass(frozen=True)
class Target:
    """A machine.

    `triple`, `cpu` and `features` are LLVM's names; `vector_bytes` and `registers` describe the vector register file;
    `native` names the narrow dtypes (`DType.is_narrow`) that it computes in, others are widened; `l1`, `l2`, `l3` are
    data cache sizes in bytes as one core sees them, `l1_ways`, `l2_ways` the lines of one set. `family` names the set of code
    generators.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 8 << 20
    l1_ways: int = 8
    l2_ways: int = 8
    family: str = "cpu"  # | "gpu"
    native: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()  # LLVM's names of what a CPU must have to run the code, beyond its architecture

    @property
    def dialect(self) -> str:
        """The MLIR dialect that kernels are in before they become LLVM IR."""
        return "nvvm" if self.family == "gpu" else "llvm"

    @property
    def has_masks(self) -> bool:
        """Whether vectors are loaded and stored under a mask at no cost."""
        return self.vector_bytes == 64

    @property
    def narrows_in_order(self) -> bool:
        """Whether one instruction narrows the integers of a vector and leaves them in order. Those of 32 bytes do so within each
        half, and another one has to put the quarters in order."""
        return self.vector_bytes != 32

    def lines_kept(self, level: int, stride: int, run: int = 1) -> int:
        """Cache lines that a cache holds of runs of so many lines that lie `stride` bytes apart: those whose addresses agree in
        what chooses a set drive each other out."""
        size, ways = (self.l1, self.l1_ways) if level == 1 else (self.l2, self.l2_ways)
        sets = max(1, size // (ways * LINE))
        apart = max(1, math.gcd(stride, sets * LINE) // LINE)
        return ways * min(sets, sets // apart * run)

    def has_dots(self, lanes: int) -> bool:
        """Whether one instruction adds products of four neighbouring 8-bit integers to each of `lanes` sums, a vector's."""
        name = {64: "+avx512vnni", 32: "+avxvnni"}.get(self.vector_bytes)
        return self.family == "cpu" and name in self.features.split(",") and lanes == self.lanes(4)

    def lanes(self, itemsize: int) -> int:
        """Elements of `itemsize` bytes in one vector register."""
        return self.vector_bytes // itemsize
