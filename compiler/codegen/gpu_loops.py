"""The GPU code generator for everything that is not a matrix product: a cluster in, launches out.

A thread per element; 32 x 32 tiles through shared memory where operands are read transposed; a block per row where rows
are folded, passing over the row once per dependent reduction and once more for its elements. What a later pass needs of
an earlier one is computed again. Outer reductions: `gpu_columns.py`. Next: `gpu_points.py` for what one element is.
"""

from __future__ import annotations

from flambeau.compiler.codegen.access import merge
from flambeau.compiler.codegen.expand import expand
from flambeau.compiler.codegen.fragment import Form, Fragment, Source
from flambeau.compiler.codegen.gpu_columns import lower_columns
from flambeau.compiler.codegen.gpu_fold import Accumulator, Fold, threads_for
from flambeau.compiler.codegen.gpu_points import NestKernel, Point, label_of, refuse_unsupported
from flambeau.compiler.codegen.stages import Stages
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import Cluster, KernelCall, Lowered
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, ceil_div

_THREADS = 256
_TILE = 32
#: Rows of a tile that a block of 256 threads holds at once.
_ROWS = _THREADS // _TILE


def lower(cluster: Cluster, target: Target) -> Lowered:
    """The launches of a cluster. Raises ValueError for what has no GPU kernel yet."""
    fragment = Fragment(expand(cluster.graph))
    refuse_unsupported(fragment)
    form = fragment.form()
    if form is None:
        raise ValueError(f"[gpu] {label_of(fragment)} does not fit one kernel. Compile it for a CPU target.")
    if all(fragment.size(v) == 0 for v in fragment.graph.outputs):
        return Lowered()
    return Lowered([_call(fragment, form)])


def _call(fragment: Fragment, form: Form) -> KernelCall:
    if form.kind == "rows":
        return _rows(fragment, form)
    if form.kind == "columns":
        return lower_columns(fragment, form)
    transposed = _transposed(fragment)
    return _tiles(fragment, form, transposed) if transposed else _map(fragment, form)


# ---- elements -------------------------------------------------------------------------------------------------


def _map(fragment: Fragment, form: Form) -> KernelCall:
    """A thread per element."""
    kernel = NestKernel(fragment, form, _THREADS)
    b, n = kernel.b, kernel.extent(form.size)
    linear = b.add(b.mul(b.block(), _THREADS), b.thread())
    with b.if_(b.cmp("lt", linear, n)):
        _store(Point(kernel, linear))
    return kernel.launch(label_of(fragment), (ceil_div(form.size, _THREADS), 1, 1), kernel.overwrites)


def _store(point: Point) -> None:
    """Write every output's element, all of them computed before the first is written."""
    outputs = point.fragment.graph.outputs
    for v in outputs:
        point.value(v)
    for v in outputs:
        point.store(v)


# ---- transposed operands --------------------------------------------------------------------------------------


def _transposed(fragment: Fragment) -> dict[Source, tuple[Int, Int, Int]]:
    """Operands read with their last two dimensions exchanged, as (batch, rows, columns) of the result.

    Only those of the first such shape: others are read where they lie, which is right but slow.
    """
    found: dict[Source, tuple[Int, Int, Int]] = {}
    for v in fragment.leaf_values():
        source = fragment.sources[v]
        if source.root in fragment.member_of or source.root in fragment.producers:
            continue
        shape = _exchange(source)
        if shape and shape in (*list(found.values())[:1], *([shape] if not found else [])):
            found[source] = shape
    return found


def _exchange(source: Source) -> tuple[Int, Int, Int] | None:
    dims = merge(source.layout)
    if source.layout.offset or len(dims) not in (2, 3):
        return None
    (rows, row_stride), (columns, column_stride) = dims[-2:]
    if row_stride != 1 or column_stride != rows or rows < 2 or columns < 2:
        return None
    if len(dims) == 2:
        return 1, rows, columns
    return (dims[0][0], rows, columns) if dims[0][1] == rows * columns else None


def _tiles(fragment: Fragment, form: Form, transposed: dict[Source, tuple[Int, Int, Int]]) -> KernelCall:
    """A block per 32 x 32 tile of the result: operands come in along their own rows, results leave along theirs."""
    kernel = NestKernel(fragment, form, _THREADS)
    b = kernel.b
    batch, rows, columns = next(iter(transposed.values()))
    height, width = kernel.extent(rows), kernel.extent(columns)
    x, y = b.rem_unsigned(b.thread(), _TILE), b.div_unsigned(b.thread(), _TILE)
    row0, column0 = b.mul(b.block("y"), _TILE), b.mul(b.block("x"), _TILE)
    base = b.mul(b.block("z"), b.mul(height, width))
    tiles = {}
    for source in transposed:
        element = fragment.avals[source.root].dtype.mlir
        tile = tiles[source] = b.shared(_TILE * (_TILE + 1), element)
        for step in range(0, _TILE, _ROWS):
            local = b.add(y, step)
            row, column = b.add(row0, x), b.add(column0, local)
            with b.if_(b.and_(b.cmp("lt", row, height), b.cmp("lt", column, width))):
                at = b.add(base, b.add(b.mul(column, height), row))
                kernel.read.setdefault(source.root, set()).add(source.layout)
                loaded = b.load(kernel.pointer(source.root), at, element)
                b.store(loaded, tile, b.add(b.mul(local, _TILE + 1), x))
    b.barrier()
    for step in range(0, _TILE, _ROWS):
        local = b.add(y, step)
        row, column = b.add(row0, local), b.add(column0, x)
        with b.if_(b.and_(b.cmp("lt", row, height), b.cmp("lt", column, width))):
            point = Point(kernel, b.add(base, b.add(b.mul(row, width), column)))
            for source, tile in tiles.items():
                element = fragment.avals[source.root].dtype.mlir
                point.leaves[source] = b.load(tile, b.add(b.mul(x, _TILE + 1), local), element)
            _store(point)
    label = f"{label_of(fragment)} transposed"
    return kernel.launch(label, (ceil_div(columns, _TILE), ceil_div(rows, _TILE), batch), kernel.overwrites)


# ---- rows -----------------------------------------------------------------------------------------------------


def _rows(fragment: Fragment, form: Form) -> KernelCall:
    """A block per row."""
    kernel = NestKernel(fragment, form, threads_for(form.count))
    b, stages = kernel.b, Stages(fragment, form)
    length = kernel.extent(form.count)
    row = Point(kernel, b.block())
    start = b.mul(b.block(), length)
    fold = Fold(b, form.count, length)
    for stage in range(stages.last):
        _compute_row(row, stages, stage)
        row.values.update(_fold_stage(kernel, row, start, fold, stages.reductions[stage]))
    _compute_row(row, stages, stages.last)
    row_outputs = set(stages.row_outputs())
    if elements := [v for v in fragment.graph.outputs if v not in row_outputs]:
        with b.loop(b.thread(), length, b.threads) as loop:
            point = Point(kernel, b.add(start, loop.index), row)
            for v in elements:
                point.value(v)
            for v in elements:
                point.store(v)
    if row_outputs:
        with b.if_(b.cmp("eq", b.thread(), 0)):
            for v in sorted(row_outputs):
                row.store(v)
    return kernel.launch(label_of(fragment), (form.batch, 1, 1), kernel.overwrites)


def _compute_row(row: Point, stages: Stages, stage: int) -> None:
    """Compute what the row's elements share and what is known by `stage`, before the loops that read it."""
    fragment = row.fragment
    for node in fragment.members:
        for result in node.results:
            if fragment.is_row_level(result, row.kernel.form) and stages.stage_of[result] <= stage:
                row.value(result)


def _fold_stage(kernel: NestKernel, row: Point, start: Val, fold: Fold, nodes: list[Node]) -> dict[int, Val]:
    """The results of reductions that depend on the same earlier ones, folded in one pass."""
    b, avals = kernel.b, kernel.fragment.avals

    def step(column: Val, totals):
        point = Point(kernel, b.add(start, column), row)
        return [n.op.lower.combine(b, t, point.value(n.operands[0])) for n, t in zip(nodes, totals, strict=True)]

    results = fold.run([_accumulator(n, avals[n.results[0]].dtype) for n in nodes], step)
    return {n.results[0]: x for n, x in zip(nodes, results, strict=True)}


def _accumulator(node: Node, dtype) -> Accumulator:
    return Accumulator(node.op.lower.identity(dtype), dtype.mlir, node.op.lower.combine)
