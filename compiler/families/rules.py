"""The compiler's half of a family of ops: what structured ops one is, what may join it, and who makes its kernels.

In: what a family's module says. Out: `Rules`, one object per family, and `GroupOp`s, the ops of its own in fusion groups. What is
left out follows from the form: what iteration space there is decides what joins, its maps which operands must lie in memory.
Next: `compiler/families/__init__.py`, who asks; `scatter.py` for an example with loops of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flambeau.compiler.codegen.access import StridedView
    from flambeau.compiler.codegen.fragment import Fragment
    from flambeau.compiler.codegen.iteration_space import NestForm
    from flambeau.compiler.codegen.units import Cut, LoopNest
    from flambeau.compiler.groups.builder.cluster import ClusterBuilder
    from flambeau.compiler.groups.form import Call
    from flambeau.compiler.groups.replay_views import GraphMaker
    from flambeau.compiler.kernel import Cluster, Lowered
    from flambeau.compiler.passes.cluster_groups import Clustering
    from flambeau.compiler.passes.cluster_producers import Move
    from flambeau.compiler.passes.cluster_values import Values
    from flambeau.compiler.plans.control import Compile
    from flambeau.compiler.schedules.form import Schedule
    from flambeau.dialects.aval import Aval
    from flambeau.dialects.graph import Graph, Node

#: A code generator: the function, or "module:function", which is imported when it is asked for.
Generator = Callable[["Cluster"], "Cut"] | str


def no_scalars(op: Call) -> range:
    """The operands of an op that takes tensors only."""
    return range(0)


@dataclass(frozen=True)
class GroupOp:
    """An op on whole tensors in fusion groups (`form.Call`).

    name        "dialect.op". The dialect of a package's family is named like the family.
    attributes  names of its attributes, sorted: ints, sizes, strings, and tuples of these.
    check       (op, types of operands, type of the result) raises `GroupError`, without the op's name, where they do not fit.
    replay      (maker, op, operands) -> the value of the graph, made by `maker`, that code generators get for it.
    scalars     op -> positions of operands that may be scalars.
    operands    how many operands it has, and
    regions     how many regions: MLIR counts them.
    pure        it cannot fail, so that it is dropped where nobody reads it.
    axes        attributes that number an axis, in an op whose operands and result have all the same axes but for that one: what
                is one axis further in is the op with these one greater (`groups/batching.py`).
    """

    name: str
    attributes: tuple[str, ...]
    check: Callable[[Call, Sequence[Aval], Aval], None]
    replay: Callable[[GraphMaker, Call, list[int]], int]
    scalars: Callable[[Call], Sequence[int]] = no_scalars
    operands: int = 1
    regions: int = 0
    pure: bool = True
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(self.name.partition(".")):
            raise TypeError(f"[family] the op '{self.name}' of a group has no dialect. Name it dialect.op.")
        if tuple(sorted(self.attributes)) != self.attributes:
            raise TypeError(f"[family] '{self.name}' has attributes {self.attributes}. Sort `attributes`.")
        if wrong := [name for name in self.axes if name not in self.attributes]:
            raise TypeError(f"[family] '{self.name}' has no attribute '{wrong[0]}'. Name `axes` among its attributes.")
        for piece in ("check", "replay", "scalars"):
            if not callable(getattr(self, piece)):
                raise TypeError(f"[family] '{self.name}' has no `{piece}`. Give a function.")


def never(graph: Graph, node: Node) -> bool:
    """Of most families nothing fails where there are no elements."""
    return False


def takes_none(node: Node) -> None:
    """Most families take in no producers."""


def in_memory(values: Values, node: Node) -> list[int]:
    """The operands that have to be stored for a code generator that takes all of them from memory, one element after the other:
    views that are something else, and constants, of one element, too."""
    return [v for v in dict.fromkeys(node.operands) if not values.is_memory(v)]


@dataclass(frozen=True, eq=False)
class Rules:
    """What the compiler knows of a family. What `nest`, `stored` (where there is none, what follows from the nest) and `epilogue`
    say of a node, they say of all whose forms are equal (`passes/cluster_values.py`): they are asked once.

    family      its name.
    structure   (builder, node): appends the structured ops that a node is, and defines its results. Of all families with groups.
    nest        (graph, node) -> the iteration space of a node by itself (`codegen/fragment.py`), or None where it has none that
                others could share. Ops with nests are compiled by the loops of the machine, joined where their spaces allow it.
    nests_on    the classes of machines whose loops compute an element of such an op.
    layout      (node, layout of the first operand) -> the result's, of views; None where it is not affine.
    stored      (values, node) -> operands that have to be stored before the node can read them. Where it is left out: what its
                nest cannot walk, or, without a nest, what does not lie in memory in order, but for what is one element; `in_memory`
                says that, too.
    fails_empty (graph, node) -> whether the op may fail where its result has no elements.
    alone       fragment -> the nests of a cluster whose last op is of the family and has none of its own, for CPUs; None where an
                operand's view cannot be walked.
    generators  the code generator per class of machines ("cpu", "gpu"), of families with loops of their own: cuts every cluster in
                which such an op is the head into units; one without schedules makes calls at once (`codegen/units.py`).
    steps       (cluster, what compiles a region) -> calls, of ops that become steps of the plan and no group.
    epilogue    (program, node, result of the head, members) -> whether `node` may be computed where the head's result is.
    producers   node -> the rule by which the ops that compute an operand move to the node (`passes/cluster_producers.py`); None
                where they never do.
    ops         its own ops in fusion groups.
    schedules   the kinds of schedules that nests of its generators take (`codegen/units.py`, `OwnNest`), named family.something.
    """

    family: str
    structure: Callable[[ClusterBuilder, Node], None] | None = None
    nest: Callable[[Graph, Node], NestForm | None] | None = None
    nests_on: tuple[str, ...] = ("cpu", "gpu")
    layout: Callable[[Node, StridedView], StridedView | None] | None = None
    stored: Callable[[Values, Node], list[int]] | None = None
    fails_empty: Callable[[Graph, Node], bool] = never
    alone: Callable[[Fragment], list[LoopNest] | None] | None = None
    generators: Mapping[str, Generator] = field(default_factory=dict)
    steps: Callable[[Cluster, Compile], Lowered] | None = None
    epilogue: Callable[[Clustering, Node, int, set[int]], bool] | None = None
    producers: Callable[[Node], Callable[[Clustering, Move], bool] | None] = takes_none
    ops: tuple[GroupOp, ...] = ()
    schedules: tuple[type[Schedule], ...] = ()

    def __post_init__(self) -> None:
        said = f"[family] the compiler's half of '{self.family}'"
        if self.structure is None and self.steps is None:
            raise TypeError(f"{said} has no `structure`. Say what structured ops a node is: (builder, node).")
        if not (self.nest or self.layout or self.alone or self.generators or self.steps):
            raise TypeError(f"{said} says of no kernels how they are made. Give `nest`, or `generators`.")
        for machine, generator in self.generators.items():
            if not (callable(generator) or (isinstance(generator, str) and ":" in generator)):
                raise TypeError(f"{said} has {generator!r} for {machine}. Give a function, or module:function.")
        if wrong := [op for op in self.ops if not isinstance(op, GroupOp)]:
            raise TypeError(f"{said} has {wrong[0]!r} among its `ops`. Give GroupOps.")
        if odd := [cls for cls in self.schedules if not (getattr(cls, "kind", "") and hasattr(cls, "forms"))]:
            raise TypeError(
                f"{said} has {odd[0]!r} among its `schedules`. Give subclasses of Schedule that have a `kind`."
            )

    @property
    def has_own_loops(self) -> bool:
        """Whether an op of it is never one of several in one nest."""
        return self.nest is None and self.layout is None

    @property
    def is_head(self) -> bool:
        """Whether a cluster with such an op is compiled as the family says."""
        return bool(self.generators) or self.steps is not None

    def on(self, machine: str) -> bool:
        """Whether a class of machines has kernels for it, or needs none."""
        return machine in (self.generators or (self.nests_on if self.nest or self.layout else ("cpu",)))
