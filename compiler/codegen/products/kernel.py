"""What all contraction kernels share: named dims, the items of the parallel loop, applying an epilogue.

In: an `Emitter`. Out: text; `KernelEmitter.finish` gives the source and the names of its dims in order, so that `cut.py`
fills them in. Next: `tile.py`, `vector.py`, `pack.py`, `prologue.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.products.operands import MatrixAccess, TermOp, TermRef
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Int, Size


@dataclass(frozen=True)
class Leaf:
    """What steps read, as text sees it: element type and how it runs along columns ("fixed", "unit", "strided")."""

    element: str
    column: str


@dataclass(frozen=True)
class Epilogue:
    """What happens to a product before it is stored. `outputs` pairs a ref with an element type."""

    leaves: tuple[Leaf, ...]
    steps: tuple[TermOp, ...]
    outputs: tuple[tuple[TermRef, str], ...]

    @property
    def is_plain(self) -> bool:
        """Whether the product itself is all that is stored."""
        return all(ref.kind == "acc" for ref, _ in self.outputs)

    def apply(self, b: Emitter, acc: Val, load: Callable[[int], Val]) -> list[Val]:
        """The outputs for one vector (or scalar) of the product; `load` reads a leaf at the same place."""
        values = evaluate(b, self.steps, [ref for ref, _ in self.outputs], load, acc)
        return [b.splat(x, acc.lanes) for x in values]

    @property
    def label(self) -> str:
        return "".join(f" + {step.op.name}" for step in self.steps if step.args)


def make_leaf(x: MatrixAccess, column: Any) -> Leaf:
    """An access as text sees it, given its stride along columns."""
    return Leaf(x.dtype.mlir, {0: "fixed", 1: "unit"}.get(column, "strided"))


def in_order(names: tuple[str | Size, ...], numbers: dict[str, Int]) -> tuple[Int, ...]:
    """A kernel's dims, given their names in order; a size that the epilogue reads names itself."""
    return tuple(name if isinstance(name, Size) else numbers[name] for name in names)


def evaluate(
    b: Emitter, steps: Sequence[TermOp], refs: Sequence[TermRef], load: Callable[[int], Val], acc: Val | None = None
) -> list[Val]:
    """The values that `refs` stand for at one place; `load` reads a leaf there, `acc` is the product."""
    loaded: dict[int, Val] = {}
    values: list[Val] = []

    def value(ref: TermRef) -> Val:
        if ref.kind == "step":
            return values[ref.number]
        if ref.kind == "acc" and acc is not None:
            return acc
        if ref.number not in loaded:
            loaded[ref.number] = load(ref.number)
        return loaded[ref.number]

    for step in steps:
        values += step.op.run_lower(b, [value(r) for r in step.args], step.attrs)
    return [value(ref) for ref in refs]


class KernelEmitter:
    """An `Emitter` whose dims have names (a size that is read names itself), numbered in order of first use."""

    def __init__(self) -> None:
        self.b = Emitter(self.dim)
        self.names: dict[str | Size, int] = {}

    def dim(self, name: str | Size) -> Val:
        return self.b.dim(self.names.setdefault(name, len(self.names)))

    def finish(self, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
        return self.b.source(label), tuple(self.names)

    def split(self, item: Val, names: Sequence[str]) -> list[Val]:
        """Coordinates of `item` in a row-major space; `names` are the dims of its extents but the outermost."""
        coordinates: list[Val] = []
        for name in reversed(names):
            extent = self.dim(name)
            coordinates.append(self.b.rem_unsigned(item, extent))
            item = self.b.div_unsigned(item, extent)
        return [item, *reversed(coordinates)]

    def batch_offsets(self, batch: Val, rank: int, operands: Sequence[str]) -> dict[str, Val]:
        """Where the `batch`-th matrix of each operand begins, in elements."""
        b = self.b
        indices = self.split(batch, [f"batch{r}" for r in range(1, rank)]) if rank else []
        offsets = {}
        for name in operands:
            total = b.const(0, "i64")
            for r, index in enumerate(indices):
                total = b.add(total, b.mul(index, self.dim(f"{name}.batch{r}")))
            offsets[name] = total
        return offsets

    def multiply_add(self, x: Val, y: Val, z: Val) -> Val:
        """x * y + z: fused for floats, wrapping for integers."""
        return self.b.fma(x, y, z) if x.is_float else self.b.add(self.b.mul(x, y), z)

    def load_leaf(
        self, leaf: Leaf, pointer: Val, start: Val, column: Val, name: str, lanes: int, mask: Val | None
    ) -> Val:
        """`lanes` elements of a leaf from `column` on, in the row that begins at `start`."""
        b = self.b
        if leaf.column == "fixed":
            return b.load(pointer, start, leaf.element)
        if leaf.column == "unit":
            return b.load(pointer, b.add(start, column), leaf.element, lanes, mask)
        stride = self.dim(f"{name}.column")
        first = b.add(start, b.mul(column, stride))
        if lanes == 1:
            return b.load(pointer, first, leaf.element)
        return b.gather(pointer, b.add(first, b.mul(b.iota(lanes), stride)), leaf.element, mask)

    def store_tail(self, x: Val, buffer: Val, index: Val, count: Val, mask: Val | None, masks: bool) -> None:
        """Write the first `count` lanes, of which `mask` (None: all) says the same. Where the machine has no `masks`, a store under
        one takes as long as a dozen others: a vector that is whole goes without."""
        b = self.b
        if masks or mask is None:
            b.store(x, buffer, index, mask)
            return

        def write(under: Val | None) -> list[Val]:
            b.store(x, buffer, index, under)
            return []

        b.if_else(b.cmp("ge", count, x.lanes), lambda: write(None), lambda: write(mask))

    def store_results(
        self,
        epilogue: Epilogue,
        accumulator: int | None,
        sums: int,
        x: Val,
        write: Callable[[Val, Val], None],
        load: Callable[[int], Val],
    ) -> None:
        """Apply the epilogue to finished sums, and store: output `accumulator` to buffer `sums`, after which come leaves and then
        the other outputs. `write` stores to a buffer, `load` reads a leaf at the same places."""
        if epilogue.is_plain:
            write(x, self.b.buffer(sums))
            return
        position = sums + 1 + len(epilogue.leaves)
        for k, y in enumerate(epilogue.apply(self.b, x, load)):
            if k == accumulator:
                write(y, self.b.buffer(sums))
            else:
                write(y, self.b.buffer(position))
                position += 1
