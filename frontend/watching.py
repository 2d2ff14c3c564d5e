"""Watchers: what looks at every program that runs while it is there. `verify`, `find_nan` and `profile` are made of this.

In: a `Watcher`, entered. Out: the same values as ever, computed under its eyes: as long as there is one, the recorder is given no
plans, so that every run comes through `programs.Runner`, which hands it over. Next: `verifying.py`, `nans.py`, `profiling.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self

from flambeau.dialects import effects
from flambeau.dialects.graph import Graph
from flambeau.runtime import recorder

_watchers: list[Watcher] = []  # of all threads; the one put there last counts


class ProgramRun:
    """One run of a program: its `graph` with values for its sizes, its inputs, of which it may take some for good, and `make`,
    which gives its executable, for which `sizes` are those that it is told."""

    def __init__(
        self,
        graph: Graph,
        make: Callable[[], Any],
        inputs: Sequence[Any],
        sizes: Sequence[int],
        may_take: Sequence[int],
    ) -> None:
        self.graph, self._make, self.inputs, self.sizes, self.may_take = graph, make, inputs, sizes, may_take

    @cached_property
    def executable(self) -> Any:
        """Made when first asked for, which may take a compiler's time."""
        return self._make()

    def op_by_op(self) -> dict[int, Any]:
        """All values of `graph`, as Buffers, computed one op after the other. Raises what the first op that fails raises."""
        with effects.collecting([]):  # the host is called for the program itself
            prefix = self.executable.run_prefix(self.inputs, everything=True, sizes=self.sizes)
        if prefix.error is not None:
            raise prefix.error
        return {**dict(zip(self.graph.inputs, self.inputs)), **prefix.values}


class Watcher(recorder.Context):
    """Sees the programs that run inside the block, of all threads; they are compiled at once, with `options`, a context. What was
    recorded before runs unseen."""

    def __init__(self, options: recorder.Context) -> None:
        self._options: Any = options

    def enter(self) -> Self:
        self._options.enter()  # runs what was recorded, and forgets all programs
        _watchers.append(self)
        return self

    def leave(self) -> None:
        if self not in _watchers:
            return
        try:
            self._options.leave()  # likewise
        finally:
            _watchers.remove(self)

    def watch(self, run: ProgramRun, usual: Callable[..., list[Any]]) -> list[Any]:
        """The outputs of a run, which `usual` computes; `given=run.may_take` lets it overwrite these inputs, and `times` is memory
        for the nanoseconds of the plan's steps."""
        raise NotImplementedError


def current() -> Watcher | None:
    """Who watches."""
    return _watchers[-1] if _watchers else None
