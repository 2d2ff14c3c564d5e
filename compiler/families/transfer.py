"""Transfers: steps that the runtime has built in. Where nothing has to be moved they are views.

In: the cluster of one op and the views it reads through, which lie where memory begins. Out: one call. Next: `../plan.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.access import StridedView, apply_view, dense
from flambeau.compiler.families.rules import Rules, in_memory
from flambeau.compiler.families.view import structure
from flambeau.compiler.kernel import TRANSFER, Cluster, KernelCall, Lowered, Operand
from flambeau.compiler.plans.control import Compile
from flambeau.dialects.tape.transfer import crosses


def steps(cluster: Cluster, compile_region: Compile) -> Lowered:
    graph = cluster.graph
    *views, node = graph.nodes
    if not crosses(graph, node) or graph.outputs != [node.results[0]]:
        raise RuntimeError("[transfer] a transfer does not stand alone. Report this as a bug.")
    roots: dict[int, tuple[int, StridedView | None]] = {v: (v, dense(graph.avals[v].shape)) for v in graph.inputs}
    for view in views:
        root, layout = roots[view.operands[0]]
        roots[view.results[0]] = root, None if layout is None else apply_view(view, layout)
    root, layout = roots[node.operands[0]]
    if layout is None or not layout.is_identity:
        raise RuntimeError("[transfer] the operand is not stored as it is moved. Report this as a bug.")
    (result,) = graph.outputs
    operands = Operand("value", result), Operand("value", root)
    return Lowered([KernelCall(TRANSFER, operands, (graph.avals[result].nbytes,), 1, 1, writes=(0,))])


RULES = Rules("transfer", structure, layout=apply_view, stored=in_memory, steps=steps)
