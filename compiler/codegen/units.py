"""What schedules are for: the nests that a cluster is cut into, before anything is emitted.

In: made by the code generators' `cut`. Out: `Unit`s, one schedule each, and `Cut`, which makes calls of them once they have their
schedules. Next: `schedules/choose.py`, which chooses; `loops/cut.py`, `products/cut.py`, `gpu/loops.py`, `gpu/matmul.py`, which
cut and emit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.loops.phases import Stages
from flambeau.compiler.codegen.loops.space import Space
from flambeau.compiler.codegen.products.operands import Contraction
from flambeau.compiler.groups.form import Generic
from flambeau.compiler.kernel import KernelCall, Launch, Lowered
from flambeau.compiler.schedules.form import Schedule
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.size import Int, repr_of


class Parts(NamedTuple):
    """The calls that a unit becomes, and the sizes of the buffers that they share."""

    calls: list[KernelCall]
    temps: list[Int] = []


@dataclass
class LoopNest:
    """A nest of loops over the elements of a fragment.

    `kind` is that of its schedule. `placed` says which outputs lie within larger buffers: (buffer, where in it). `node` is the
    op of one that has loops of its own, and `own` makes its calls; `extents` are the loops of a scatter.
    """

    kind: type[Schedule]
    fragment: Fragment
    form: NestForm
    label: str
    placed: dict[int, tuple[int, StridedView]] = field(default_factory=dict)
    alone: bool = False  # whether no other nest writes to the placed outputs' part of their buffers
    node: Node | None = None
    own: Callable[[LoopNest, Any], Parts] | None = None
    extents: tuple[Any, ...] | None = None
    _stages: dict[int, Stages] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        return self.fragment.graph

    def computes(self, value: int) -> bool:
        """Whether it computes a value of its cluster."""
        return value in self.fragment.member_of

    @cached_property
    def space(self) -> Space:
        return Space(self.fragment, self.form, [layout for _, layout in self.placed.values()], self.extents)

    def stages(self, recompute: int) -> Stages:
        """Its passes, where an element that takes more work than `recompute` is kept between them."""
        if recompute not in self._stages:
            self._stages[recompute] = Stages(self.fragment, self.form, recompute)
        return self._stages[recompute]

    def widths(self) -> set[int]:
        """Bytes of the numbers that the innermost loop reads, writes and computes."""
        graph = self.graph
        values = [*graph.inputs, *graph.outputs, *(v for n in self.fragment.members for v in n.results)]
        return {graph.avals[v].dtype.itemsize for v in values if graph.avals[v].size == self.form.size}

    def __str__(self) -> str:
        loops = " x ".join(repr_of(n) for n in (self.form.batch, self.form.count, self.form.columns) if n != 1)
        return f"{self.kind.kind} nest of {loops or 1}: {self.label}"


@dataclass
class ProductNest:
    """A product with what is computed of its operands and results."""

    kind: type[Schedule]
    c: Contraction
    graph: Graph
    label: str

    def computes(self, value: int) -> bool:
        """Whether it computes a value of its cluster."""
        return self.c.result == value

    def __str__(self) -> str:
        c = self.c
        m, n, k, batches = (repr_of(x) for x in (c.m, c.n, c.k, c.batches))
        return f"{self.kind.kind} nest of {batches} times {m} x {n}, along {k}: {self.label}"


@dataclass
class OwnNest:
    """A nest of a family with loops of its own, which says itself how it may be looped: `choose(nest, machine, fixed)` gives the
    schedule with these fields fixed, `obstacle(nest, schedule, machine)` says why one does not fit, and what to do."""

    kind: type[Schedule]
    graph: Graph
    label: str
    choose: Callable[[OwnNest, Target, Mapping[str, Any]], Schedule]
    obstacle: Callable[[OwnNest, Any, Target], str | None] = lambda nest, schedule, machine: None

    def __post_init__(self) -> None:
        if not (isinstance(self.kind, type) and issubclass(self.kind, Schedule)):
            raise TypeError(
                f"[{self.label}] the nest's kind is {self.kind!r}. Give a subclass of Schedule; where there is nothing to choose "
                "give Cut(join=lambda made: joined([Parts(calls)])), without a nest."
            )

    def computes(self, value: int) -> bool:
        """Whether it computes a value that somebody may have tiled: ops of its family are none that are."""
        return False

    def __str__(self) -> str:
        return f"{self.kind.kind} nest: {self.label}"


Unit = LoopNest | ProductNest | OwnNest
Emit = Callable[[Any, Any, Target], Parts]


@dataclass
class Cut:
    """A cluster as units. `emit(unit, schedule, target)` makes a unit's calls, `join` puts those of all of them together.

    `is_apart`: its ops were cut apart, and values of units have numbers of their own. `tiled` are the ops of its group that
    somebody tiled, with the values that they compute."""

    units: list[Unit] = field(default_factory=list)
    emit: Emit = lambda unit, schedule, target: Parts([])
    join: Callable[[list[Parts]], Lowered] = lambda made: Lowered()
    is_apart: bool = False
    tiled: tuple[tuple[int, Generic], ...] = ()

    def lower(self, schedules: Sequence[Schedule], target: Target) -> Lowered:
        """The calls of all units, given a schedule for each."""
        return self.join([_named(self.emit(u, s, target), s) for u, s in zip(self.units, schedules, strict=True)])


def _named(made: Parts, schedule: Schedule) -> Parts:
    """The same calls. The first one's kernel, of those that are not spare, says by what schedule they were made; others only
    combine its partial results."""
    calls = list(made.calls)
    for k, call in enumerate(calls):
        if not call.spare:
            calls[k] = _with_schedule(call, str(schedule))
            break
    return Parts(calls, made.temps)


def _with_schedule(call: KernelCall, text: str) -> KernelCall:
    found = replace(call, source=replace(call.source, schedule=text))
    if isinstance(found, Launch) and found.in_place_source is not None:
        return replace(found, in_place_source=replace(found.in_place_source, schedule=text))
    return found


def joined(made: Sequence[Parts], aliases: dict[int, int] | None = None) -> Lowered:
    """Calls and temporaries one after the other; of several units, only the first may have temporaries."""
    return Lowered([c for part in made for c in part.calls], [t for part in made for t in part.temps], aliases or {})
