"""The kinds of schedules, one class each (those of GPUs: `gpu_kinds.py`), with every number that their emitters use.

In: fields. Out: values that keep their own rules; `schedules/fitting.py` says whether one fits a nest and a machine. Next:
`choose.py`, which chooses them; `codegen/`, whose emitters read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flambeau.compiler import families
from flambeau.compiler.schedules.form import (
    Schedule,
    count,
    first,
    flag,
    multiple,
    positions,
    power,
    read,
    size,
    word,
)
from flambeau.compiler.schedules.gpu_kinds import GpuColumns, GpuPoints, GpuProduct, GpuRows, GpuVectorProduct
from flambeau.dialects.orders import LANES
from flambeau.dialects.size import Int

_MOST_UNROLLED = 64


# ---- loops on CPUs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Points(Schedule):
    """Every element by itself: a parallel loop over elements, rows, parts of rows or blocks of rows."""

    kind: ClassVar[str] = "points"
    lanes: int = power("elements of a vector", LANES)
    unroll: int = count("vectors per round of the inner loop", 1, _MOST_UNROLLED)
    resident: bool = flag("whether a row is written as the vectors that it takes, without a loop")
    part: int = count("columns that an item of the parallel loop computes; 0: rows are not cut", 0)
    tile: int = count(
        "columns of the tiles in which operands that run across the columns are turned in scratch; 0: read in place", 0
    )
    streamed: tuple[int, ...] = positions("outputs whose stores go past the caches, by number")
    grain: int = count("elements of a task: items are handed to threads so many at a time")

    def broken(self) -> str | None:
        if self.part and self.tile:
            return "rows are cut into parts or turned in tiles, not both. Leave one 0."
        if self.tile and self.lanes == 1:
            return "tiles are turned in vectors of several lanes. Leave tile 0, or give lanes."
        if self.resident and (self.part or self.tile or self.lanes == 1):
            return "a row without a loop is one item, of several lanes. Leave resident false, or part and tile 0."
        return first(multiple("part", self.part, "lanes", self.lanes), multiple("tile", self.tile, "lanes", self.lanes))


@dataclass(frozen=True, eq=False, repr=False)
class Rows(Schedule):
    """Rows whose columns are folded: a parallel loop over rows (or chunks of 4096 columns), passes over each."""

    kind: ClassVar[str] = "rows"
    lanes: int = power("elements of a vector", LANES)
    unroll: int = count("vectors per round of a pass that folds nothing", 1, _MOST_UNROLLED)
    interleave: int = power("accumulators that a round of a folding pass advances", LANES)
    recompute: int = count("an element is kept between passes if computing it again is more work, in additions", 0)
    resident: bool = flag("whether a row stays in registers through all passes")
    chunks: bool = flag("whether an item is a chunk of 4096 columns, not a row: a second kernel combines them")
    streamed: tuple[int, ...] = positions("outputs whose stores go past the caches, by number")
    grain: int = count("elements of a task")

    def broken(self) -> str | None:
        if self.lanes == 1:
            return "lanes is 1, and folds go by vectors. Give at least 2."
        if self.resident and self.chunks:
            return "a row in registers is one item. Leave resident or chunks false."
        if self.interleave > LANES // self.lanes:
            return (
                f"interleave is {self.interleave}, and {LANES} lanes are {LANES // self.lanes} accumulators. Give less."
            )
        return None


@dataclass(frozen=True, eq=False, repr=False)
class Columns(Schedule):
    """Columns whose rows are folded: a parallel loop over chains of 64 rows and blocks of columns; a second kernel
    combines several chains."""

    kind: ClassVar[str] = "columns"
    lanes: int = power("elements of a vector", LANES)
    unroll: int = count("vectors per round of the loop over columns", 1, _MOST_UNROLLED)
    block: int = count("columns that an item of the parallel loop folds")
    resident: bool = flag("whether the partial results of all columns stay in registers from row to row")
    streamed: tuple[int, ...] = positions("outputs whose stores go past the caches, by number")
    grain: int = count("elements of a task")

    def broken(self) -> str | None:
        if self.lanes == 1:
            return "lanes is 1, and folds go by vectors. Give at least 2."
        return multiple("block", self.block, "lanes", self.lanes)


@dataclass(frozen=True, eq=False, repr=False)
class Scatter(Schedule):
    """Updates added to what is there, one after the other: a parallel loop over blocks of the inner elements."""

    kind: ClassVar[str] = "scatter"
    lanes: int = power("elements of a vector", LANES)
    unroll: int = count("vectors per round of the loop over inner elements", 1, _MOST_UNROLLED)
    block: int = count("inner elements that an item of the parallel loop updates")
    grain: int = count("elements of a task")

    def broken(self) -> str | None:
        return multiple("block", self.block, "lanes", self.lanes)


@dataclass(frozen=True, eq=False, repr=False)
class Scan(Schedule):
    """Running folds: a parallel loop over chains, which are lines along the axis, or blocks of 1024 elements of one."""

    kind: ClassVar[str] = "scan"
    lanes: int = power(
        "elements of a vector: of lines beside each other, or of one line where a block is combined with what comes before",
        LANES,
    )
    chains: int = count("vectors, or chains, that a round of the loop along the axis advances side by side", 1, 16)
    grain: int = count("elements of a task: items are handed to threads so many at a time")


@dataclass(frozen=True, eq=False, repr=False)
class Sort(Schedule):
    """Lines sorted: a parallel loop over lines, or, for every digit of keys, over blocks of them."""

    kind: ClassVar[str] = "sort"
    bits: int = count("bits of a digit; 0: each element is inserted among those before it", 0, 12)
    block: int = count("elements of a line that an item counts and moves; 0: items are lines", 0)
    grain: int = count("elements of a task: items are handed to threads so many at a time")

    def broken(self) -> str | None:
        return "blocks are sorted by digits. Give bits, or block 0." if self.block and not self.bits else None


@dataclass(frozen=True, eq=False, repr=False)
class TopK(Schedule):
    """The first of sorted lines: a parallel loop over lines, or blocks of them whose first ones are then compared."""

    kind: ClassVar[str] = "topk"
    lanes: int = power("elements that are compared at once with the last one that is among the first", LANES)
    bits: int = count("bits of a digit of keys; 0: each element is inserted among those before it", 0, 12)
    room: int = count("elements that are kept beside the first ones before they are sorted")
    block: int = count("elements of a line that an item goes through; 0: items are lines", 0)
    grain: int = count("elements of a task: items are handed to threads so many at a time")


@dataclass(frozen=True, eq=False, repr=False)
class Search(Schedule):
    """Places in sorted lines: a parallel loop over values."""

    kind: ClassVar[str] = "search"
    chains: int = count("values that are searched for side by side", 1, 16)
    grain: int = count("values of a task: items are handed to threads so many at a time")


@dataclass(frozen=True, eq=False, repr=False)
class Windows(Schedule):
    """Windows over planes: a parallel loop over rows of results, or over planes that windows are added to."""

    kind: ClassVar[str] = "windows"
    lanes: int = power("elements of a vector, of windows side by side or of zeros", LANES)
    grain: int = count("elements of windows that a task takes")


# ---- products on CPUs -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Tiles(Schedule):
    """What products and convolutions have in common: blocks of C are items of the parallel loop, each computed in register tiles
    along panels of B, k-block after k-block of 256."""

    lanes: int = power("elements of a vector", LANES)
    rows: int = count("rows of the register tile", 1, 64)
    vectors: int = count("vectors in a row of the register tile", 1, 64)
    steps: int = power("steps along k per round of the tile's loop", 64)
    m_block: Int = size("rows of a block of C: so many share a packed panel of B")  # noqa: RUF009
    n_block: Int = size("columns of a block of C")  # noqa: RUF009

    @property
    def columns(self) -> int:
        """Columns of the register tile."""
        return self.lanes * self.vectors

    def broken(self) -> str | None:
        if self.lanes == 1:
            return "lanes is 1, and tiles go by vectors. Give at least 2."
        return first(
            multiple("m_block", self.m_block, "rows", self.rows),
            multiple("n_block", self.n_block, "lanes * vectors", self.columns),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Product(Tiles):
    """A product of matrices."""

    kind: ClassVar[str] = "product"
    pack_rows: int = count(
        "B is copied into panels where at least so many rows of A share it and it could be read in place"
    )
    ahead: int = count("rows of B that are asked for before the tile that packs them reads them", 0)
    a_lines: str = word(
        "how A lies in scratch: computed in rows or columns, or a copy in which the rows of a tile lie side by side; none: it is "
        "read in place",
        "none",
        "row",
        "column",
        "tile",
    )
    a_unroll: int = count("vectors per round while A is computed", 1, _MOST_UNROLLED)
    a_pitch: Int = size("elements from line to line of a computed A", 0)  # noqa: RUF009
    b_lines: str = word("in which lines a computed B is computed; none: it lies in memory", "none", "row", "column")
    b_unroll: int = count("vectors per round while B is computed", 1, _MOST_UNROLLED)
    b_in_tile: bool = flag("whether the first tile of a panel computes B while it multiplies")
    panels: bool = flag("whether panels of B may come from a call before, which is made where these are kept")
    grain: int = count("multiply-adds of vectors in a task")

    def broken(self) -> str | None:
        if self.panels and self.b_lines != "none":
            return "what is computed in tiles is not kept. Leave panels false, or b_lines none."
        if self.b_in_tile and self.b_lines != "row":
            return "a tile computes B row by row. Leave b_in_tile false, or b_lines row."
        return first(super().broken(), multiple("a_pitch", self.a_pitch, "lanes", self.lanes))


@dataclass(frozen=True, eq=False, repr=False)
class Convolution(Tiles):
    """A convolution, or one of its gradients: a product of matrices per group, whose B is packed of patches, panel by panel."""

    kind: ClassVar[str] = "convolution"
    turned: bool = flag(
        "whether columns of C are output channels; its rows are places, or of a gradient by the kernel taps"
    )
    narrows: bool = flag("whether the last columns of C, which fill no tile, are computed vector by vector")
    grain: int = count("multiply-adds of vectors in a task")


@dataclass(frozen=True, eq=False, repr=False)
class Direct(Schedule):
    """A convolution of few channels per group, or its gradient by the maps. Along a row an item of the parallel loop is a plane of
    the result, or a band of its rows, made of the map where that lies; along channels a vector of these, for which maps are turned
    strip by strip. Rows and columns count as those of tiles do: with a stride, a gradient has so many times that."""

    kind: ClassVar[str] = "direct"
    lanes: int = power("elements of a vector", LANES)
    along: str = word("what vectors hold: neighbours in a row, or channels", "row", "channels")
    rows: int = count(
        "rows of a tile, which share what is read; along channels those of a strip of whole rows", 1, 4096
    )
    columns: int = count("along channels: columns of a strip, at most", 1, 4096)
    unroll: int = count("along channels: columns per round of the inner loop, which share what is read", 1, 16)
    kept: bool = flag("along a row: whether the kernel stays in registers while a plane goes by")
    band: Int = size("rows of an item; along channels its images")  # noqa: RUF009
    grain: int = count("multiply-adds of vectors in a task")

    def broken(self) -> str | None:
        if self.lanes == 1:
            return "lanes is 1, and tiles go by vectors. Give at least 2."
        return f"rows is {self.rows}. Along a row give at most 64." if self.along == "row" and self.rows > 64 else None


@dataclass(frozen=True, eq=False, repr=False)
class DirectWeight(Schedule):
    """The gradient of a convolution of few channels per group by its kernel: an item of the parallel loop is a vector of output
    channels, for which maps are turned strip by strip."""

    kind: ClassVar[str] = "direct-weight"
    lanes: int = power("output channels of a vector", LANES)
    tap_rows: int = count("rows of the kernel whose sums stay in registers while places go by", 1, 64)
    unroll: int = count("places per round of the inner loop: they share what is read", 1, 16)
    rows: int = count("rows of places that are turned at once, where strips hold whole rows", 1, 4096)
    columns: int = count("places of a row that are turned at once, at most", 1, 4096)
    grain: int = count("multiply-adds of vectors in a task")

    def broken(self) -> str | None:
        return "lanes is 1, and sums go by vectors. Give at least 2." if self.lanes == 1 else None


@dataclass(frozen=True, eq=False, repr=False)
class Quads(Schedule):
    """A convolution of 8-bit integers: an item of the parallel loop is a band of rows of an image and a group, which is packed four
    channels at a time."""

    kind: ClassVar[str] = "quads"
    lanes: int = power("places of a vector", LANES)
    rows: int = count("output channels of a tile, which share what is read of the map", 1, 16)
    vectors: int = count("vectors of a tile, which share what is read of the kernel", 1, 16)
    band: Int = size("rows of the result in an item")  # noqa: RUF009
    grain: int = count("multiply-adds of vectors in a task")

    def broken(self) -> str | None:
        return "lanes is 1, and tiles go by vectors. Give at least 2." if self.lanes == 1 else None


@dataclass(frozen=True, eq=False, repr=False)
class VectorProduct(Schedule):
    """A dot or matrix-vector product: an item of the parallel loop is a few groups of outputs, each summed in 64 lanes."""

    kind: ClassVar[str] = "vector-product"
    lanes: int = power("elements of a vector", LANES)
    along: str = word(
        "where vectors run: along k, along outputs whose elements are adjacent, or along outputs, gathered",
        "k",
        "output",
        "neither",
    )
    group: int = count("outputs that are computed at a time", 1, 4096)
    rounds: int = count("groups of an item, one after the other; 1 but along k", 1, LANES)
    depth: int = power("lanes of each output that stay in registers while rows go by, along outputs", LANES)
    ahead: int = count("how far ahead elements of the matrix are asked for, along k; 0 if they are not", 0)
    grain: int = count("multiply-adds of a task")

    def broken(self) -> str | None:
        if self.lanes == 1:
            return "lanes is 1, and sums go by vectors. Give at least 2."
        if self.along != "k":
            if self.rounds != 1 or self.ahead:
                return "rounds and ahead are for vectors that run along k. Leave 1 and 0."
            return multiple("group", self.group, "lanes", self.lanes)
        return "along k all lanes of an output stay in registers. Leave depth 1." if self.depth != 1 else None


@dataclass(frozen=True, eq=False, repr=False)
class DotProduct(Schedule):
    """A product of 8-bit integers whose lines lie along k: an item of the parallel loop is a block of C, in tiles of dots."""

    kind: ClassVar[str] = "dot-product"
    lanes: int = power("sums of a vector", LANES)
    rows: int = count("rows of a tile, which share what is read of B", 1, 16)
    columns: int = count("columns of a tile, which share what is read of A", 1, 16)
    m_block: Int = size("rows of a block of C")  # noqa: RUF009
    n_block: int = count("columns of a block of C")
    grain: int = count("multiply-adds of vectors in a task")

    def broken(self) -> str | None:
        if self.lanes == 1:
            return "lanes is 1, and sums go by vectors. Give at least 2."
        return first(
            multiple("m_block", self.m_block, "rows", self.rows),
            multiple("n_block", self.n_block, "columns", self.columns),
            multiple("n_block", self.n_block, "lanes", self.lanes),
        )


KINDS: dict[str, type[Schedule]] = {
    cls.kind: cls
    for cls in (
        Points, Rows, Columns, Scatter, Scan, Sort, TopK, Search, Windows, Product, VectorProduct, DotProduct,
        Convolution, Direct, DirectWeight, Quads,
        GpuPoints, GpuRows, GpuColumns, GpuProduct, GpuVectorProduct,
    )
}  # fmt: skip


def find(name: str) -> type[Schedule] | None:
    """The kind of that name, one of KINDS or of a package's family (`family.something`). Raises PluginError where that family
    cannot be used."""
    if name in KINDS:
        return KINDS[name]
    family, dot, _ = name.partition(".")
    return next((cls for cls in _of(family) if cls.kind == name), None) if dot else None


def of_families() -> list[type[Schedule]]:
    """The kinds of all families of packages. Raises PluginError where one of these cannot be used."""
    return [cls for family in families.offered() for cls in _of(family)]


def _of(family: str) -> tuple[type[Schedule], ...]:
    return families.find(family).schedules if families.offer(family) is not None else ()


def parse(text: str) -> Schedule:
    """The schedule whose text this is. Raises ScheduleError."""
    return read(text, find, KINDS)
