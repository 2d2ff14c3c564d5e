"""The kinds of schedules of nests on GPUs: see `kinds.py`. Next: `gpu.py`, which chooses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flambeau.compiler.schedules.form import Schedule, count, multiple, power
from flambeau.dialects.orders import LANES

#: Threads of a block, at most, and those of a warp.
BLOCK_THREADS, WARP = 1024, 32


@dataclass(frozen=True, eq=False, repr=False)
class GpuPoints(Schedule):
    """Every element by itself: blocks of threads over all elements, or over tiles of operands that are read turned."""

    kind: ClassVar[str] = "gpu-points"
    threads: int = count("threads of a block", 1, BLOCK_THREADS)
    each: int = count("elements of a thread", 1, 64)
    tile: int = count(
        "side of the tiles that are turned in workgroup memory; 0: operands are read where they lie", 0, 128
    )
    pad: int = count("elements between the rows of a tile there, so that a column meets different banks", 0, 32)

    def broken(self) -> str | None:
        if self.threads % WARP:
            return f"threads is {self.threads}. Give a multiple of a warp's {WARP}."
        if self.tile == 0:
            return None
        if self.each != 1:
            return "the threads of a tile have as many elements as it takes. Leave each 1."
        if self.threads % self.tile or self.tile % (self.threads // self.tile):
            return f"{self.threads} threads do not share the rows of a tile of {self.tile} evenly. Give other ones."
        return None


@dataclass(frozen=True, eq=False, repr=False)
class GpuRows(Schedule):
    """Rows whose columns are folded: a block of threads per row, passing over it once per dependent fold."""

    kind: ClassVar[str] = "gpu-rows"
    groups: int = count("chunks of 4096 columns that a block folds at once, 64 threads each", 1, BLOCK_THREADS // LANES)
    room: int = count("chunks whose results workgroup memory has room for")


@dataclass(frozen=True, eq=False, repr=False)
class GpuColumns(Schedule):
    """Columns whose rows are folded: a block of threads per few columns, several threads to each."""

    kind: ClassVar[str] = "gpu-columns"
    width: int = count("columns of a block", 1, BLOCK_THREADS)
    workers: int = count("threads to a column, each folding chains of 64 rows", 1, BLOCK_THREADS)
    room: int = count("chains of a column whose results workgroup memory has room for")

    def broken(self) -> str | None:
        threads = self.width * self.workers
        if threads > BLOCK_THREADS or threads % WARP:
            return f"{threads} threads. Give a multiple of a warp's {WARP}, at most {BLOCK_THREADS}."
        return None


@dataclass(frozen=True, eq=False, repr=False)
class GpuProduct(Schedule):
    """A product of matrices: a block of threads per tile of C, whose operands pass through workgroup memory."""

    kind: ClassVar[str] = "gpu-product"
    tile: int = count("side of the tile of C", 1, 256)
    depth: int = power("steps along k that are in workgroup memory at once", 64)
    each: int = power("side of the results of a thread", 16)
    pad: int = count("elements between the rows of a tile in workgroup memory", 0, 64)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return (self.tile // self.each) ** 2

    def broken(self) -> str | None:
        if wrong := multiple("tile", self.tile, "each", self.each) or multiple("pad", self.pad, "each", self.each):
            return wrong
        if self.threads > BLOCK_THREADS or self.threads % WARP:
            return f"{self.threads} threads. Give a multiple of a warp's {WARP}, at most {BLOCK_THREADS}."
        return multiple("tile * depth", self.tile * self.depth, "threads", self.threads)


@dataclass(frozen=True, eq=False, repr=False)
class GpuVectorProduct(Schedule):
    """A dot or matrix-vector product: a block of threads per output, which folds along k as rows are folded."""

    kind: ClassVar[str] = "gpu-vector-product"
    groups: int = count(
        "chunks of 4096 steps along k that a block folds at once, 64 threads each", 1, BLOCK_THREADS // LANES
    )
    room: int = count("chunks whose results workgroup memory has room for")
