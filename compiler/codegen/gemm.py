"""Contractions: a matmul with its epilogue becomes one call.

In: a cluster (views and elementwise ops on two operands, one matmul, elementwise ops on the result) and a target. Out:
`Lowered`. Kernel text depends on element type, prologues, epilogue and register tile only; extents, strides and blocking
are dims. Which operands are packed, and how C is cut into items, depends on extents and cache sizes, never on the number
of threads. Next: `gemm_operands.py` (what is computed), `gemm_tile.py`, `gemm_vector.py`, `gemm_pack.py` (the kernels).
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.codegen.gemm_blocking import Blocking, Cut, blocking, cut
from flambeau.compiler.codegen.gemm_kernel import Epilogue, make_leaf
from flambeau.compiler.codegen.gemm_operands import Access, Contraction, Factor, read
from flambeau.compiler.codegen.gemm_prologue import Prologue, prologue, strides
from flambeau.compiler.codegen.gemm_tile import K_BLOCK, TileSpec, tile_kernel
from flambeau.compiler.codegen.gemm_vector import VectorSpec, vector_kernel
from flambeau.compiler.kernel import Cluster, KernelCall, Lowered, Operand
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import Int, Size, at_most, ceil_div, maximum, minimum

#: Multiply-adds worth a chunk of a matrix-vector product's parallel loop.
_VECTOR_GRAIN = 65_536


def lower(cluster: Cluster, target: Target, blocks: Blocking | None = None) -> Lowered:
    """The calls that compute a contraction cluster. `blocks` overrides the blocking; it never changes a bit."""
    c = read(cluster.graph)
    lowered = Lowered()
    if 0 in (c.batches, c.m, c.n):
        return lowered
    if c.is_vector:
        _lower_vector(c, target, lowered)
    else:
        _Tiled(c, cluster.graph, target, blocks or blocking(target, c.dtype.itemsize), lowered).lower()
    return lowered


@dataclass
class _Tiled:
    c: Contraction
    graph: Graph
    target: Target
    blocks: Blocking
    lowered: Lowered

    def lower(self) -> None:
        c, blocks = self.c, self.blocks
        lanes, masks = self.target.lanes(c.dtype.itemsize), self.target.vector_bytes == 64
        unit = _unit_of_rhs(c)
        chosen = cut(c, unit, lanes, masks, blocks)
        accumulator, sums = self._accumulator()
        rank, epilogue = len(c.batch), make_epilogue(c)
        left, right = prologue("a", c.lhs, c.dtype.mlir), prologue("b", c.rhs, c.dtype.mlir)
        spec = TileSpec(
            c.dtype.mlir, lanes, blocks.rows, chosen.vectors, masks, unit, rank, epilogue, accumulator, left, right
        )
        source, names = tile_kernel(spec)
        outputs = [Operand("value", v) for v, _, _ in c.outputs]
        if accumulator is not None:
            del outputs[accumulator]
        factors = [_operand(x) for x in (*c.lhs.leaves, *c.rhs.leaves)]
        operands = (*factors, sums, *map(_operand, c.leaves), *outputs)
        first_output = spec.sums + 1 + len(c.leaves)
        numbers = self._numbers(spec, chosen)
        n = c.batches * chosen.m_blocks * chosen.n_blocks
        work = minimum(chosen.m_block, c.m) * ceil_div(minimum(chosen.n_block, c.n), lanes) * maximum(c.k, 1)
        grain = minimum(n, maximum(1, blocks.item_work // work))
        dims = in_order(names, numbers)
        writes = (spec.sums, *range(first_output, len(operands)))
        in_place, scratch = self._in_place(operands, spec.sums), spec.scratch(chosen.m_block)
        self.lowered.calls.append(KernelCall(source, operands, dims, n, grain, writes, scratch, in_place))

    def _numbers(self, spec: TileSpec, chosen: Cut) -> dict[str, Int]:
        """The kernel's dims by name."""
        c = self.c
        numbers = {"m": c.m, "n": c.n, "k": c.k, "b.packed": chosen.packed}
        numbers.update({name: getattr(chosen, name) for name in ("m_block", "n_block", "m_blocks", "n_blocks")})
        if spec.lhs is None:
            numbers.update({"a.row": c.lhs.row, "a.k": c.lhs.column})
        else:
            numbers["a.pitch"] = spec.pitch(chosen.m_block)
        if spec.rhs is None:
            numbers.update({"b.k": c.rhs.row, "b.column": c.rhs.column})
        numbers.update(_factor_numbers("a", c.lhs, spec.lhs) | _factor_numbers("b", c.rhs, spec.rhs))
        numbers.update({f"batch{r}": extent for r, extent in enumerate(c.batch)})
        for k, leaf in enumerate(c.leaves):
            numbers.update({f"leaf{k}.batch{r}": s for r, s in enumerate(leaf.batch)})
        for k, leaf in enumerate(c.leaves):
            numbers.update({f"leaf{k}.row": leaf.row, f"leaf{k}.column": leaf.column})
        return numbers

    # ---- results -------------------------------------------------------------------------------------------

    def _accumulator(self) -> tuple[int | None, Operand]:
        """Where partial sums lie: an output of the product's dtype, else a temporary if there are several k-blocks."""
        c = self.c
        for k, (v, ref, _) in enumerate(c.outputs):
            if ref.kind == "acc":
                return k, Operand("value", v)
        for k, (v, _, dtype) in enumerate(c.outputs):
            if dtype is c.dtype:
                return k, Operand("value", v)
        size = 0 if at_most(c.k, K_BLOCK) else c.batches * c.m * c.n
        self.lowered.temps.append(size * c.dtype.itemsize)
        return None, Operand("temp", len(self.lowered.temps) - 1)

    def _in_place(self, operands: tuple[Operand, ...], sums: int) -> tuple[tuple[int, int], ...]:
        """Outputs may overwrite dense epilogue operands; where partial sums lie, only if there are none."""
        c = self.c
        written = [p for p in range(sums + 1 + len(c.leaves), len(operands))]
        if at_most(c.k, K_BLOCK) and operands[sums].kind == "value":
            written.append(sums)
        pairs = []
        for p in written:
            itemsize = self.graph.avals[operands[p].index].dtype.itemsize
            for k, leaf in enumerate(c.leaves):
                if leaf.dtype.itemsize == itemsize and is_dense(leaf, c):
                    pairs.append((p, sums + 1 + k))
        return tuple(pairs)


# ---- dot and matrix-vector products -----------------------------------------------------------------------------


def _lower_vector(c: Contraction, target: Target, lowered: Lowered) -> None:
    """The outputs of M = 1 run over the columns of B, those of N = 1 over the rows of A."""
    lanes, masks = target.lanes(c.dtype.itemsize), target.vector_bytes == 64
    over_rows = c.n == 1
    p, x, outputs = (c.lhs, c.rhs, c.m) if over_rows else (c.rhs, c.lhs, c.n)
    unit = _unit_of_vector(p, x, over_rows, outputs, c.k)
    along_k = unit == "k"
    chains = target.registers // 2
    if along_k:
        group, depth = max(1, chains // (LANES // lanes)), 1
    else:  # long rows of the matrix are read in long runs
        depth = 1 if outputs >= 2 * chains * lanes else chains // 4
        group = chains // depth * lanes
    leaves = [(leaf.row if over_rows else leaf.column) for leaf in c.leaves]
    over_k, across_k = ("row", "column") if over_rows else ("column", "row")  # the lines of P that run along k, or not
    matrix = prologue("p", p, c.dtype.mlir, over_k if along_k else across_k)
    vector = prologue("x", x, c.dtype.mlir, across_k)
    spec = VectorSpec(
        c.dtype.mlir, lanes, group, depth, unit, masks, len(c.batch), make_epilogue(c, leaves), matrix, vector
    )
    source, names = vector_kernel(spec)
    chunks, blocks = maximum(1, ceil_div(c.k, CHUNK)), ceil_div(outputs, group)
    numbers = {
        "blocks": blocks, "outputs": outputs, "k": c.k, "chunks": chunks,
        **{f"batch{r}": extent for r, extent in enumerate(c.batch)},
        **{f"leaf{k}.column": stride for k, stride in enumerate(leaves)},
    }  # fmt: skip
    if matrix is None:
        numbers["p.output"], numbers["p.k"] = (p.row, p.column) if over_rows else (p.column, p.row)
    if vector is None:
        numbers["x.k"] = x.row if over_rows else x.column
    numbers.update(_factor_numbers("p", p, matrix) | _factor_numbers("x", x, vector))
    for k, leaf in enumerate(c.leaves):
        numbers.update({f"leaf{k}.batch{r}": s for r, s in enumerate(leaf.batch)})
    outputs_of = [Operand("value", v) for v, _, _ in c.outputs]
    operands = (*map(_operand, (*p.leaves, *x.leaves, *c.leaves)), *outputs_of)
    written = tuple(range(spec.first_leaf + len(leaves), len(operands)))
    n = c.batches * blocks
    grain = minimum(n, maximum(1, _VECTOR_GRAIN // maximum(1, group * c.k)))
    lowered.calls.append(KernelCall(source, operands, in_order(names, numbers), n, grain, written, spec.scratch(c.k)))


def in_order(names: tuple[str | Size, ...], numbers: dict[str, Int]) -> tuple[Int, ...]:
    """A kernel's dims, given their names in order; a size that the epilogue reads names itself."""
    return tuple(name if isinstance(name, Size) else numbers[name] for name in names)


def _unit_of_vector(p: Factor, x: Factor, over_rows: bool, outputs: Int, k: Int) -> str:
    """Where vectors run: along "k", along the "output", or "neither", which takes elements from everywhere."""
    along_k = p.runs_along_columns if over_rows else p.runs_along_rows
    x_along_k = x.is_computed or (x.row if over_rows else x.column) == 1
    if (along_k and x_along_k) or k <= 1:
        return "k"
    if p.is_computed or outputs == 1:
        return "output"
    return "output" if (p.row if over_rows else p.column) == 1 else "neither"


def make_epilogue(c: Contraction, columns: list[int] | None = None) -> Epilogue:
    """The epilogue as kernel text sees it; `columns` are the strides of its leaves along vectors."""
    columns = [x.column for x in c.leaves] if columns is None else columns
    leaves = tuple(make_leaf(x, stride) for x, stride in zip(c.leaves, columns, strict=True))
    return Epilogue(leaves, c.steps, tuple((ref, dtype.mlir) for _, ref, dtype in c.outputs))


def _unit_of_rhs(c: Contraction) -> str:
    """The direction in which B's elements are adjacent; a computed B is brought into the one that tiles read."""
    if c.rhs.is_computed:
        return "neither"
    return "column" if c.rhs.column == 1 or c.n == 1 else "row" if c.rhs.row == 1 or c.k == 1 else "neither"


def _factor_numbers(name: str, factor: Factor, computed: Prologue | None) -> dict[str, Int]:
    """Dims that say where the leaves of an operand lie; a view of memory is the one leaf `name`."""
    numbers: dict[str, Int] = {}
    for k, leaf in enumerate(factor.leaves):
        own = name if computed is None else computed.names[k]
        numbers.update({f"{own}.batch{r}": s for r, s in enumerate(leaf.batch)})
        if computed is not None:
            numbers[f"{own}.line"], numbers[f"{own}.column"] = strides(leaf, computed.lines)
    return numbers


def _operand(x: Access) -> Operand:
    return Operand("value", x.value, x.offset * x.dtype.itemsize)


def is_dense(x: Access, c: Contraction) -> bool:
    """Whether an epilogue operand lies exactly as the result does."""
    steps = [c.m * c.n]
    for extent in reversed(c.batch[1:]):
        steps.append(steps[-1] * extent)
    rows_fit = x.row == c.n or c.m == 1
    return (
        x.offset == 0 and x.batch == tuple(reversed(steps[: len(c.batch)])) and rows_fit and (x.column == 1 or c.n == 1)
    )
