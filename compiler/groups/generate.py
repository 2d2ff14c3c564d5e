"""From a cluster to kernel calls: of its own ops, or of its fusion group, which is then all that a code generator gets.

In: a `Cluster` and a target. Out: `Lowered`; of a group, in values of the graph that it replays to. Next: `builder/`, `replay.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

from flambeau.compiler.groups.builder import from_cluster, may_fail
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.replay import replay
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph

#: The module whose `lower` makes kernels of a cluster, per family of targets and kind of cluster.
_CODE_GENERATORS = {
    ("cpu", "loops"): "loops",
    ("cpu", "contraction"): "gemm",
    ("gpu", "loops"): "gpu_loops",
    ("gpu", "contraction"): "gpu_matmul",
}


def lower(cluster: Cluster, machine: Target, through_mlir: bool = False) -> Lowered:
    """What the target's code generator makes of a cluster; `through_mlir`: of what MLIR hands back of its group."""
    if through_mlir:
        return lower_group(cluster, machine, through_mlir)
    return code_generator(machine.family, cluster.kind)(cluster, machine)


def lower_group(cluster: Cluster, machine: Target, through_mlir: bool = False) -> Lowered:
    """What the target's code generator makes of a cluster's group; or of what MLIR hands back of it, parsed and verified."""
    if is_empty(cluster.graph):
        return Lowered()
    group = from_cluster(cluster.graph)
    replayed = replay(read_back(group) if through_mlir else group)
    generator = code_generator(machine.family, cluster.kind)
    lowered = generator(replace(cluster, graph=replayed.graph, errors=replayed.errors), machine)
    lowered.graph = replace(replayed.graph, nodes=[])
    return lowered


def read_back(group: Group) -> Group:
    """The group that MLIR reads in the text of this one."""
    from flambeau.compiler.groups import reading  # imports MLIR

    return replace(reading.parse_group(print_group(group)), sizes=group.sizes)


def is_empty(graph: Graph) -> bool:
    """Whether there is nothing to compute, and nothing that could fail."""
    return all(0 in graph.avals[v].shape for v in graph.outputs) and not any(may_fail(graph, n) for n in graph.nodes)


def code_generator(family: str, kind: str) -> Callable[..., Lowered]:
    name = _CODE_GENERATORS.get((family, kind))
    if name is None:
        raise ValueError(f"[compile] no code generator lowers '{kind}' clusters. Use loops or contraction.")
    return importlib.import_module(f"flambeau.compiler.codegen.{name}").lower
