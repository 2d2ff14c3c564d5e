"""Control flow: branches and loops of the plan. A region is clustered and compiled like a program.

In: the cluster of one op. Out: a call of parts (`compiler/control.py`). Next: `host_call.py`.
"""

from __future__ import annotations

from flambeau.compiler.control import Branch, Compile, Copy, Loop, Lowering, Part, lower
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.passes.cluster_values import Values
from flambeau.dialects.graph import Node, Region


def steps(cluster: Cluster, compile_region: Compile) -> Lowered:
    return lower(cluster, compile_region, _PARTS[cluster.graph.nodes[0].op.name])


def stored(values: Values, node: Node) -> list[int]:
    """What runs finds all operands in memory, as they are."""
    return [v for v in dict.fromkeys(node.operands) if values.source(v).root != v or values.is_free(v)]


def _cond(work: Lowering, then: Region, otherwise: Region) -> list[Part]:
    flag, *operands = work.reads
    first, second = (work.run(work.body(region), operands, work.results) for region in (then, otherwise))
    return [Branch(flag, (first,), (second,))]


def _while_loop(work: Lowering, goes_on: Region, region: Region) -> list[Part]:
    """What is carried lies in the results. The body writes it in place where it may, else aside, and it is copied back."""
    n = len(work.results)
    inputs = (*work.results, *work.reads[n:])
    body, flag = work.body(region, in_place=n), work.temp(1)
    aside = {k: work.temp(work.bytes(r)) for k, r in enumerate(work.results) if k not in body.kept}
    test = work.run(work.body(goes_on), inputs, (flag,))
    once = work.run(body, inputs, [aside.get(k, r) for k, r in enumerate(work.results)])
    back = [Copy(r, aside[k], work.bytes(r)) for k, r in enumerate(work.results) if k in aside]
    start = [Copy(r, k, work.bytes(r)) for k, r in enumerate(work.results)]
    return [*start, Loop((test,), flag, (once, *back))]


_PARTS = {"cond": _cond, "while_loop": _while_loop}
RULES = Rules("control", steps=steps, stored=stored)
