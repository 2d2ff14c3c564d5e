"""Contractions: a matmul with its epilogue becomes one call.

In: a cluster (views and elementwise ops on two operands, one matmul, elementwise ops on the result); then its schedule. Out:
`Cut`, and the call. Kernel text depends on element type, prologues, epilogue, and what the schedule says of loops; extents, strides
and blocks of C are dims. Next: `operands.py` (what is computed), `tile.py`, `vector.py`, `pack.py` (the
kernels).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flambeau.compiler.codegen.lane_folds import chunks_of
from flambeau.compiler.codegen.products.dots import DotSpec, dot_kernel, fits
from flambeau.compiler.codegen.products.kernel import Epilogue, in_order, make_leaf
from flambeau.compiler.codegen.products.operands import (
    Contraction,
    Factor,
    MatrixAccess,
    read,
    unit_of_lhs,
    unit_of_rhs,
)
from flambeau.compiler.codegen.products.prologue import Prologue, prologue, strides
from flambeau.compiler.codegen.products.results import in_place, place_sums
from flambeau.compiler.codegen.products.tile import TileSpec, panels_kernel, tile_kernel
from flambeau.compiler.codegen.products.vector import VectorSpec, vector_kernel
from flambeau.compiler.codegen.units import Cut, Parts, ProductNest, joined
from flambeau.compiler.kernel import Cluster, KernelCall, Operand
from flambeau.compiler.schedules.kinds import DotProduct, Product, VectorProduct
from flambeau.compiler.schedules.products import panels_pay
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, ceil_div, maximum, minimum


def cut(cluster: Cluster) -> Cut:
    """The product of a contraction cluster."""
    c = read(cluster.graph)
    if 0 in (c.batches, c.m, c.n):
        return Cut()
    kind = VectorProduct if c.is_vector else DotProduct if fits(c) else Product
    return Cut([ProductNest(kind, c, cluster.graph, label(c))], _emit, joined)


def label(c: Contraction) -> str:
    """A name for people: the ops in order, which its kernel's begins with."""
    before = [f"{s.op.name} + " for s in (*c.lhs.steps, *c.rhs.steps) if s.args]
    name = "matvec" if c.is_vector else "matmul"
    return "".join([*before, f"{name} {c.dtype.mlir}", *(f" + {s.op.name}" for s in c.steps if s.args)])


def _emit(nest: ProductNest, schedule: Any, target: Target) -> Parts:
    if isinstance(schedule, VectorProduct):
        return Parts([_vector_call(nest.c, schedule, target.has_masks)])
    if isinstance(schedule, DotProduct):
        return Parts([_dot_call(nest.c, schedule, target)])
    return _Tiled(nest.c, nest.graph, schedule, target.has_masks).lower()


@dataclass
class _Tiled:
    c: Contraction
    graph: Graph
    schedule: Product
    masks: bool
    temps: list[Int] = field(default_factory=list)

    def lower(self) -> Parts:
        c, schedule = self.c, self.schedule
        accumulator, sums = place_sums(c.outputs, c.dtype, c.k, c.batches * c.m * c.n, self.temps)
        rank, epilogue, unit = len(c.batch), make_epilogue(c), unit_of_rhs(c)
        left = prologue("a", c.lhs, c.dtype.mlir, schedule.a_lines)
        right = prologue("b", c.rhs, c.dtype.mlir, schedule.b_lines)
        a_unit = unit_of_lhs(c) if schedule.a_lines == "tile" else "column"
        spec = TileSpec(c.dtype.mlir, schedule, epilogue, accumulator, self.masks, unit, rank, left, right, a_unit)
        source, names = tile_kernel(spec)
        outputs = [Operand("value", v) for v, _, _ in c.outputs]
        if accumulator is not None:
            del outputs[accumulator]
        factors = [_operand(x) for x in (*c.lhs.leaves, *c.rhs.leaves)]
        operands: tuple[Operand, ...] = (*factors, sums, *map(_operand, c.leaves), *outputs)
        first_output = spec.sums + 1 + len(c.leaves)
        m_block, n_block = schedule.m_block, schedule.n_block
        m_blocks, n_blocks = ceil_div(c.m, m_block), ceil_div(c.n, n_block)
        n = c.batches * m_blocks * n_blocks
        work = minimum(m_block, c.m) * ceil_div(minimum(n_block, c.n), schedule.lanes) * maximum(c.k, 1)
        grain = minimum(n, maximum(1, schedule.grain // work))
        dims = in_order(names, self._numbers(spec, m_blocks, n_blocks))
        writes = (spec.sums, *range(first_output, len(operands)))
        over = in_place(self.graph, operands, spec.sums, c.leaves, c.k, lambda leaf: is_dense(leaf, c))
        before = [self._panels(spec)] if schedule.panels else []
        operands += tuple(call.operands[1] for call in before)
        return Parts([*before, KernelCall(source, operands, dims, n, grain, writes, spec.scratch, over)], self.temps)

    def _panels(self, spec: TileSpec) -> KernelCall:
        """What packs B where that is kept, which need not pay: texts do not depend on it."""
        c, schedule = self.c, self.schedule
        source, names = panels_kernel(spec)
        panels, panel = ceil_div(c.n, schedule.columns), self._pitch() * schedule.columns
        self.temps.append(panels * panel * c.dtype.itemsize)
        grain = minimum(panels, maximum(1, schedule.grain * schedule.lanes // maximum(1, panel)))
        operands = _operand(c.rhs.leaves[0]), Operand("temp", len(self.temps) - 1)
        dims = in_order(names, self._of_b(spec) | {"n": c.n, "k": c.k})
        return KernelCall(source, operands, dims, panels, grain, (1,), keeps=panels_pay(c, schedule.lanes), spare=True)

    def _pitch(self) -> Int:
        """Rows that a panel of all of B has room for."""
        return ceil_div(self.c.k, self.schedule.lanes) * self.schedule.lanes

    def _of_b(self, spec: TileSpec) -> dict[str, Int]:
        """The dims of a B in memory."""
        c = self.c
        return {"b.k": c.rhs.row, "b.column": 1 if spec.b_unit == "column" else c.rhs.column, "b.pitch": self._pitch()}

    def _packed(self, unit: str) -> Int:
        """Whether B is packed, if it is not 0: where its rows are not adjacent or end within a vector that cannot be masked,
        always."""
        c, schedule = self.c, self.schedule
        always = unit != "column" or not (self.masks or c.n % schedule.columns == 0)
        return 1 if always else c.m // schedule.pack_rows

    def _numbers(self, spec: TileSpec, m_blocks: Int, n_blocks: Int) -> dict[str, Int]:
        """The kernel's dims by name."""
        c, schedule = self.c, self.schedule
        numbers = {"m": c.m, "n": c.n, "k": c.k, "b.packed": self._packed(spec.b_unit)}
        numbers.update({"m_block": schedule.m_block, "n_block": schedule.n_block})
        numbers.update({"m_blocks": m_blocks, "n_blocks": n_blocks})
        if spec.lhs is None:
            numbers.update({"a.row": c.lhs.row, "a.k": c.lhs.column})
        else:
            numbers["a.pitch"] = schedule.a_pitch
        if spec.rhs is None:
            numbers.update(self._of_b(spec))
        numbers.update(_factor_numbers("a", c.lhs, spec.lhs) | _factor_numbers("b", c.rhs, spec.rhs))
        numbers.update({f"batch{r}": extent for r, extent in enumerate(c.batch)})
        for k, leaf in enumerate(c.leaves):
            numbers.update({f"leaf{k}.batch{r}": s for r, s in enumerate(leaf.batch)})
        for k, leaf in enumerate(c.leaves):
            numbers.update({f"leaf{k}.row": leaf.row, f"leaf{k}.column": leaf.column})
        return numbers


# ---- dot and matrix-vector products -----------------------------------------------------------------------------


def _vector_call(c: Contraction, schedule: VectorProduct, masks: bool) -> KernelCall:
    """The outputs of M = 1 run over the columns of B, those of N = 1 over the rows of A."""
    over_rows, item, along_k = c.n == 1, schedule.group * schedule.rounds, schedule.along == "k"
    p, x, outputs = (c.lhs, c.rhs, c.m) if over_rows else (c.rhs, c.lhs, c.n)
    leaves = [(leaf.row if over_rows else leaf.column) for leaf in c.leaves]
    over_k, across_k = ("row", "column") if over_rows else ("column", "row")  # the lines of P that run along k, or not
    matrix = prologue("p", p, c.dtype.mlir, over_k if along_k else across_k)
    vector = prologue("x", x, c.dtype.mlir, across_k)
    epilogue = make_epilogue(c, leaves)
    spec = VectorSpec(c.dtype.mlir, schedule, masks, len(c.batch), epilogue, matrix, vector)
    source, names = vector_kernel(spec)
    chunks, blocks = chunks_of(c.k), ceil_div(outputs, item)
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
    grain = minimum(n, maximum(1, schedule.grain // maximum(1, item * c.k)))
    return KernelCall(source, operands, in_order(names, numbers), n, grain, written, spec.scratch(c.k))


# ---- dots of 8-bit integers --------------------------------------------------------------------------------------


def _dot_call(c: Contraction, schedule: DotProduct, target: Target) -> KernelCall:
    (a,), (b,) = c.lhs.leaves, c.rhs.leaves
    spec = DotSpec(
        a.dtype.mlir,
        b.dtype.mlir,
        schedule,
        target.has_masks,
        target.has_dots(schedule.lanes),
        len(c.batch),
        make_epilogue(c),
    )
    source, names = dot_kernel(spec)
    m_block, n_block = schedule.m_block, schedule.n_block
    m_blocks, n_blocks = ceil_div(c.m, m_block), ceil_div(c.n, n_block)
    numbers = {
        "m": c.m, "n": c.n, "k": c.k, "a.row": a.row, "b.column": b.column,
        "m_block": m_block, "n_block": n_block, "m_blocks": m_blocks, "n_blocks": n_blocks,
        **{f"batch{r}": extent for r, extent in enumerate(c.batch)},
    }  # fmt: skip
    for name, leaf in (("a", a), ("b", b), *((f"leaf{k}", leaf) for k, leaf in enumerate(c.leaves))):
        numbers.update({f"{name}.batch{r}": s for r, s in enumerate(leaf.batch)})
        numbers.update({f"{name}.row": leaf.row, f"{name}.column": leaf.column})
    operands = (*map(_operand, (a, b, *c.leaves)), *(Operand("value", v) for v, _, _ in c.outputs))
    writes = tuple(range(2 + len(c.leaves), len(operands)))
    n = c.batches * m_blocks * n_blocks
    work = minimum(m_block, c.m) * minimum(n_block, c.n) * ceil_div(maximum(c.k, 1), spec.step)
    grain = minimum(n, maximum(1, schedule.grain // work))
    return KernelCall(source, operands, in_order(names, numbers), n, grain, writes, spec.scratch())


def make_epilogue(c: Contraction, columns: list[int] | None = None) -> Epilogue:
    """The epilogue as kernel text sees it; `columns` are the strides of its leaves along vectors."""
    columns = [x.column for x in c.leaves] if columns is None else columns
    leaves = tuple(make_leaf(x, stride) for x, stride in zip(c.leaves, columns, strict=True))
    return Epilogue(leaves, c.steps, tuple((ref, dtype.mlir) for _, ref, dtype in c.outputs))


def _factor_numbers(name: str, factor: Factor, computed: Prologue | None) -> dict[str, Int]:
    """Dims that say where the leaves of an operand lie; a view of memory is the one leaf `name`."""
    numbers: dict[str, Int] = {}
    for k, leaf in enumerate(factor.leaves):
        own = name if computed is None else computed.names[k]
        numbers.update({f"{own}.batch{r}": s for r, s in enumerate(leaf.batch)})
        if computed is not None:
            numbers[f"{own}.line"], numbers[f"{own}.column"] = strides(leaf, computed.lines)
    return numbers


def _operand(x: MatrixAccess) -> Operand:
    return Operand("value", x.value, x.offset * x.dtype.itemsize)


def is_dense(x: MatrixAccess, c: Contraction) -> bool:
    """Whether an epilogue operand lies exactly as the result does."""
    steps = [c.m * c.n]
    for extent in reversed(c.batch[1:]):
        steps.append(steps[-1] * extent)
    rows_fit = x.row == c.n or c.m == 1
    return (
        x.offset == 0 and x.batch == tuple(reversed(steps[: len(c.batch)])) and rows_fit and (x.column == 1 or c.n == 1)
    )
