"""Control flow: branches and loops of the plan. A region is clustered and compiled like a program.

In: the cluster of one op. Out: a call of parts (`compiler/plans/control.py`). Next: `host_call.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.families.rules import Rules
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.passes.cluster_values import Values
from flambeau.compiler.plans.control import (
    Branch,
    Compile,
    CountedLoop,
    Cursor,
    Lowering,
    MemoryCopy,
    Part,
    WhileLoop,
    lower,
)
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Node, Region
from flambeau.dialects.tape.loop import turns


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
    fixed = range(n, len(work.reads))
    body, flag = work.body(region, n, fixed), work.temp(1)
    aside = {k: work.temp(work.bytes(r)) for k, r in enumerate(work.results) if k not in body.kept}
    test = work.run(work.body(goes_on, fixed=fixed), inputs, (flag,))
    once = work.run(body, inputs, [aside.get(k, r) for k, r in enumerate(work.results)])
    back = [MemoryCopy(r, aside[k], work.bytes(r)) for k, r in enumerate(work.results) if k in aside]
    start = [MemoryCopy(r, k, work.bytes(r)) for k, r in enumerate(work.results)]
    return [*start, WhileLoop((test,), flag, (once, *back))]


def _scan(work: Lowering, region: Region) -> list[Part]:
    """Carried values as in `while_loop`. Slices are read, and results of each turn written, where they lie in the whole: cursors
    go through these."""
    n, sliced, size, reverse, _ = work.node.attrs
    times = turns([work.graph.avals[v] for v in work.node.operands], n, sliced, size)

    def through(positions: Sequence[int], types: Sequence[Aval]) -> list[Cursor]:
        return [work.cursor(p, a.nbytes, times, reverse) for p, a in zip(positions, types, strict=True)]

    slices = through(work.reads[n : n + sliced], region.inputs[n : n + sliced])
    stacked = through(work.results[n:], region.outputs[n:])
    carried = work.results[:n]
    body = work.body(region, n, range(n + sliced, len(work.reads)))
    aside = {k: work.temp(work.bytes(r)) for k, r in enumerate(carried) if k not in body.kept}
    inputs = (*carried, *[c.position for c in slices], *work.reads[n + sliced :])
    outputs = [*[aside.get(k, r) for k, r in enumerate(carried)], *[c.position for c in stacked]]
    back = [MemoryCopy(carried[k], at, work.bytes(carried[k])) for k, at in aside.items()]
    start = [MemoryCopy(r, k, work.bytes(r)) for k, r in enumerate(carried)]
    once = work.run(body, inputs, outputs)
    return [*start, CountedLoop(times, work.temp(8), (*slices, *stacked), (once, *back))]


_PARTS: dict[str, Callable[..., list[Part]]] = {"cond": _cond, "while_loop": _while_loop, "scan": _scan}
RULES = Rules("control", steps=steps, stored=stored)
