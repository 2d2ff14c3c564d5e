"""Where the steps of a plan come from: kernels, ops, lines, and what they move and compute.

In: a graph with lines, and options. Out: an `Origin` for each step of its plan, found by going through the stages again, which
make the same of the same; a plan itself, which may come from disk, knows nothing of lines. Next: `stages.py`, `plans/plan.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from flambeau.compiler import stages
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.dialects import size_guards
from flambeau.dialects.cost import flops
from flambeau.dialects.graph import Graph
from flambeau.runtime.plan_spec import KERNEL_COPY, KERNEL_NOTE, KERNEL_TRANSFER, KERNEL_ZERO

_BUILT_IN = {KERNEL_COPY: "copy", KERNEL_ZERO: "zero", KERNEL_NOTE: "note", KERNEL_TRANSFER: "transfer"}


class Origin(NamedTuple):
    """A step. `cluster` is the number of the cluster that it is a call of, -1 for copies that the plan needs. Of the whole cluster:
    the ops, the lines that recorded them, the bytes of its operands and results, and the floating-point operations."""

    kernel: str
    cluster: int
    ops: tuple[str, ...]
    lines: tuple[str, ...]
    bytes: int
    flops: int


def origins(graph: Graph, options: Options, sizes: Sequence[int] = ()) -> list[Origin]:
    """Of each step of the plan that is made of `graph`, whose symbols have the values `sizes`."""
    work = stages.run(replace(graph, sizes=tuple(sizes)) if sizes else graph, replace(options, dump=None))
    numbers: dict[int, int] = {}
    found = []
    with size_guards.scope(tuple(sizes)):
        for row, cluster in zip(work.program.spec.steps, work.origins, strict=True):
            kernel = row[0]
            label = work.program.kernels[kernel].label if kernel >= 0 else _BUILT_IN.get(kernel, "control")
            number = -1 if cluster is None else numbers.setdefault(id(cluster), len(numbers))
            found.append(Origin(label, number, *_contents(cluster, sizes)))
    return found


def _contents(cluster: Cluster | None, sizes: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...], int, int]:
    if cluster is None:
        return (), (), 0, 0
    graph = replace(cluster.graph, sizes=tuple(sizes)).bind(sizes) if sizes else cluster.graph
    ops = dict.fromkeys(node.op.name for node in graph.nodes if not node.op.family.is_view)
    lines = dict.fromkeys(str(node.loc) for node in graph.nodes if node.loc is not None)
    moved = sum(graph.avals[v].nbytes for v in {*graph.inputs, *graph.outputs})
    return tuple(ops), tuple(lines), int(moved), flops(graph)
