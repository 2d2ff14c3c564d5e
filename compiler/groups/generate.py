"""From a cluster to its fusion group, and from a group to the nests that kernels are made of: the group is all that a code
generator gets.

In: a `Cluster`; then its `Group` and a target. Out: a `Cut`, in values of the graph that the group replays to. Next: `builder/`,
`replay.py`; `schedules/scheduling.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from flambeau.compiler import families
from flambeau.compiler.codegen.units import Cut, OwnNest
from flambeau.compiler.families.rules import Generator
from flambeau.compiler.groups.builder import from_cluster, may_fail
from flambeau.compiler.groups.form import Group, GroupError
from flambeau.compiler.groups.replay import replay
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.passes.cluster import LOOPS, kind_of
from flambeau.compiler.passes.cluster_blocks import BLOCKS
from flambeau.compiler.plugins import boundary
from flambeau.compiler.schedules.form import Schedule, ScheduleError
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: What makes nests of a cluster without a head, per class of machines.
_LOOPS: Mapping[str, Generator] = {
    "cpu": "flambeau.compiler.codegen.loops.cut:cut",
    "gpu": "flambeau.compiler.codegen.gpu.loops:cut",
}


def group_of(cluster: Cluster, through_mlir: bool = False) -> Group | None:
    """The fusion group of a cluster, or what MLIR hands back of it; None where there is nothing to compute."""
    if is_empty(cluster.graph):
        return None
    group = from_cluster(cluster.graph)
    return read_back(group) if through_mlir else group


def cut(group: Group, machine: Target) -> Cut:
    """The nests that the target's code generator makes of a group. Raises GroupError for one that none of its generators
    follows."""
    replayed = replay(group)
    kind = kind_of(replayed.graph)
    found = cut_cluster(Cluster(kind, replayed.graph, errors=replayed.errors), machine)
    join, graph = found.join, replace(replayed.graph, nodes=[])
    return replace(found, join=lambda made: replace(join(made), graph=graph), tiled=replayed.tiled)


def cut_cluster(cluster: Cluster, machine: Target) -> Cut:
    """The nests of a cluster."""
    generator = _bordered(cluster, code_generator(machine.family, cluster.kind))
    found = generator(cluster)
    units = [_bordered_nest(cluster, unit) if isinstance(unit, OwnNest) else unit for unit in found.units]
    return replace(found, units=units, emit=_bordered(cluster, found.emit), join=_bordered(cluster, found.join))


def _bordered_nest(cluster: Cluster, nest: OwnNest) -> OwnNest:
    """A nest whose functions are a family's. A schedule that breaks a rule is the package's fault, unless somebody fixed fields."""
    own = _bordered(cluster, nest.choose)
    given = _bordered(cluster, nest.choose, (GroupError, ScheduleError))

    def choose(unit: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> Schedule:
        return (given if fixed else own)(unit, machine, fixed)

    return replace(nest, choose=choose, obstacle=_bordered(cluster, nest.obstacle))


def _bordered(
    cluster: Cluster, function: _Function, refusals: tuple[type[Exception], ...] = (GroupError,)
) -> _Function:
    """A function of a code generator. What one of a package raises is told as the package's, but for refusals."""
    offer = None if cluster.kind in (LOOPS, BLOCKS) else families.offer(cluster.kind)
    if offer is None:
        return function

    def run(*args: Any) -> Any:
        with boundary.beyond(offer, len(cluster.graph.nodes), "the code generator of family", refusals):
            return function(*args)

    return run  # type: ignore[return-value]


def read_back(group: Group) -> Group:
    """The group that MLIR reads in the text of this one."""
    from flambeau.compiler.groups import reading  # imports MLIR

    return replace(reading.parse_group(print_group(group)), sizes=group.sizes)


def is_empty(graph: Graph) -> bool:
    """Whether there is nothing to compute, and nothing that could fail."""
    return all(0 in graph.avals[v].shape for v in graph.outputs) and not any(may_fail(graph, n) for n in graph.nodes)


def code_generator(family: str, kind: str) -> Callable[[Cluster], Cut]:
    """What makes nests for a class of machines of a cluster of this kind (`passes.cluster.kind_of`). Raises ValueError where
    nothing does."""
    generators = _LOOPS if kind == LOOPS else families.find(kind).generators
    found = generators.get(family)
    if found is None:
        known = ", ".join(generators) or "none"
        raise ValueError(f"[compile] ops of family '{kind}' have no code generator for a {family}. There are: {known}.")
    if callable(found):
        return found
    module, _, name = found.partition(":")
    return getattr(importlib.import_module(module), name)


def steps_of(cluster: Cluster) -> Callable[..., Lowered] | None:
    """What makes steps of the plan of a cluster that is no fusion group, or several; None where it is one."""
    if cluster.kind == BLOCKS:
        from flambeau.compiler.codegen.blocks.kernel import lower  # a compile does without

        return lower
    return None if cluster.kind == LOOPS else families.find(cluster.kind).steps
