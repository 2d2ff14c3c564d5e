"""From a cluster to its fusion group, and from a group to kernel calls: the group is all that a code generator gets.

In: a `Cluster`; then its `Group` and a target. Out: `Lowered`, in values of the graph that the group replays to. Next: `builder/`,
`replay.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

from flambeau.compiler.codegen.units import Cut
from flambeau.compiler.groups.builder import from_cluster, may_fail
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.replay import replay
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.passes.cluster import kind_of
from flambeau.compiler.schedules.choose import choose
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph

#: The module whose `cut` makes nests of a cluster, per family of targets and kind of cluster.
_CODE_GENERATORS = {
    ("cpu", "loops"): "loops",
    ("cpu", "contraction"): "gemm",
    ("gpu", "loops"): "gpu_loops",
    ("gpu", "contraction"): "gpu_matmul",
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
    return replace(found, join=lambda made: replace(join(made), graph=graph))


def cut_cluster(cluster: Cluster, machine: Target) -> Cut:
    """The nests of a cluster."""
    return code_generator(machine.family, cluster.kind)(cluster)


def lower(group: Group | None, machine: Target) -> Lowered:
    """What becomes of a group by the schedules that its nests get."""
    if group is None:
        return Lowered()
    return lower_cut(cut(group, machine), machine)


def lower_cut(found: Cut, machine: Target) -> Lowered:
    """What becomes of nests by the schedules that they get."""
    return found.lower([choose(unit, machine) for unit in found.units], machine)


def read_back(group: Group) -> Group:
    """The group that MLIR reads in the text of this one."""
    from flambeau.compiler.groups import reading  # imports MLIR

    return replace(reading.parse_group(print_group(group)), sizes=group.sizes)


def is_empty(graph: Graph) -> bool:
    """Whether there is nothing to compute, and nothing that could fail."""
    return all(0 in graph.avals[v].shape for v in graph.outputs) and not any(may_fail(graph, n) for n in graph.nodes)


def code_generator(family: str, kind: str) -> Callable[[Cluster], Cut]:
    name = _CODE_GENERATORS.get((family, kind))
    if name is None:
        raise ValueError(f"[compile] no code generator lowers '{kind}' clusters. Use loops or contraction.")
    return importlib.import_module(f"flambeau.compiler.codegen.{name}").cut
