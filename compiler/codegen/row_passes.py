"""The passes over a row: a stage folds the row's elements, or walks them, and stores what it computes; then come the row's scalars.

One order of work for every machine (`loops/phases.py` says what is computed when). A machine says what comes before a pass, who has
which elements, and who writes what all share. In: stages. Out: text. Next: `lane_folds.py`, how a pass folds; `loops/rows.py`,
rows of CPUs; `gpu/loops.py`, those of GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.loops.phases import Stages
from flambeau.compiler.codegen.nest_place import NestPlace
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.values import Val


class RowPasses:
    """The passes over the rows of a fragment's nest."""

    def __init__(self, fragment: Fragment, stages: Stages) -> None:
        self.fragment, self.stages = fragment, stages

    # ---- what a machine says -----------------------------------------------------------------------------------

    def enter(self, row: Any, stage: int) -> None:
        """What comes before a pass."""

    def fold(self, row: Any, stage: int, folds: Sequence[Reduction]) -> Sequence[Val]:
        """The results of a pass that folds, and stores what the stage does."""
        raise NotImplementedError

    def walk(self, row: Any, stage: int) -> None:
        """A pass that only stores."""
        raise NotImplementedError

    def leave(self, row: Any, stage: int) -> None:
        """What comes after a pass."""

    def end(self, row: Any) -> None:
        """What comes after all passes."""

    def alone(self) -> AbstractContextManager[None]:
        """What one of all who share a row does."""
        return nullcontext()

    # ---- the order of work -------------------------------------------------------------------------------------

    def emit(self, row: NestPlace) -> None:
        """All passes over one row, then its scalars."""
        for stage in self.stages.loops():
            self.enter(row, stage)
            folds = [Reduction.of(self.fragment, n) for n in self.stages.reductions[stage]]
            if folds:
                results = self.fold(row, stage, folds)
                row.values.update({f.node.results[0]: x for f, x in zip(folds, results, strict=True)})
            else:
                self.walk(row, stage)
            self.leave(row, stage)
        self.end(row)
        if outputs := self.stages.row_outputs():
            with self.alone():
                for value in outputs:
                    row.write(value, row.value(value))
