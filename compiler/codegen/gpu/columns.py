"""Reductions over outer axes on a GPU: a few columns per block, several threads each, in the order that every target keeps.

Every chain of 64 rows is folded by one thread; a column's chains are combined in pairs by its first thread. In: a
nest whose form is "columns", and its schedule. Out: its launch. Next: `points.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.chain_folds import fold_chain
from flambeau.compiler.codegen.gpu.points import GpuPoint, GpuRow, NestElements, NestKernel, label_of
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import KernelCall
from flambeau.compiler.schedules.gpu_kinds import GpuColumns
from flambeau.dialects.orders import CHAIN
from flambeau.dialects.size import ceil_div, maximum


def lower_columns(nest: LoopNest, schedule: GpuColumns) -> KernelCall:
    """The launch that folds every column."""
    return _Columns(nest, schedule).call()


class _Columns:
    def __init__(self, nest: LoopNest, schedule: GpuColumns) -> None:
        self.fragment, self.form = fragment, form = nest.fragment, nest.form
        self.width, self.workers, self.room = schedule.width, schedule.workers, schedule.room
        self.folds = [Reduction.of(fragment, n) for n in fragment.members if fragment.folds(n)]
        self.elements = [v for v in fragment.graph.outputs if fragment.size(v) == form.size]
        self.chains = maximum(1, ceil_div(form.count, CHAIN))
        self.kernel = NestKernel(nest, self.width * self.workers)
        self.b = b = self.kernel.b
        self.parts = [b.shared(self.room * self.width, fold.dtype.mlir) for fold in self.folds]
        self.identities = [fold.identity(b) for fold in self.folds]
        self.count, self.columns = self.kernel.number(form.count), self.kernel.number(form.columns)
        self.x, self.worker = b.rem_unsigned(b.thread(), self.width), b.div_unsigned(b.thread(), self.width)
        self.column = b.add(b.mul(b.block(), self.width), self.x)
        self.batch = b.block("y")

    def call(self) -> KernelCall:
        b, form = self.b, self.form
        exists = b.cmp("lt", self.column, self.columns)
        with b.if_(exists), b.loop(self.worker, self.chains, self.workers) as chains:
            self._chain(chains.index)
        b.barrier()
        with b.if_(b.and_(exists, b.cmp("eq", self.worker, 0))):
            for fold, part in zip(self.folds, self.parts, strict=True):
                self._finish(fold, part)
        grid = (ceil_div(form.columns, self.width), form.batch, 1)
        return self.kernel.launch(label_of(self.fragment), grid, self.kernel.overwrites)

    def _chain(self, chain: Val) -> None:
        """Fold one chain of rows in order; elements that are results themselves are written on the way."""
        b = self.b
        start = b.mul(chain, CHAIN)
        rows = start, b.minimum(self.count, b.add(start, CHAIN))
        elements = NestElements(b, self.elements)
        totals = fold_chain(elements, self.folds, rows, self.identities, lambda row: [self._point(row)])
        for part, total in zip(self.parts, totals, strict=True):
            b.store(total, part, self._at(chain))

    def _point(self, row: Val) -> GpuPoint:
        b, form = self.b, self.form
        number = b.add(b.mul(self.batch, self.count), row)
        here = GpuRow(self.kernel, number, (form.batch, self.batch), (form.count, row))
        return GpuPoint(self.kernel, b.add(b.mul(number, self.columns), self.column), here, self.column)

    def _at(self, chain: Val) -> Val:
        return self.b.add(self.b.mul(chain, self.width), self.x)

    def _finish(self, fold: Reduction, part: Val) -> None:
        b, (result,) = self.b, fold.node.results
        fold.fold_pairs(b, part, self.chains, self.room, self._at)
        if result in self.fragment.graph.outputs:
            at = b.add(b.mul(self.batch, self.columns), self.column)
            b.store(fold.result(b, part, self.x), self.kernel.output(result), at)
