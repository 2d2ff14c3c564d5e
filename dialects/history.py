"""Ops that only steer gradients: they compute nothing and are removed before compilation.

In: a recorded trace, which has places where data and gradient part ways. Out: the records `stop_gradient`, `graft` and
`overwrite`, known to `autodiff.py` through their vjps, and `strip`. Next: `autodiff.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import SUPPORTED
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import Kind, OpRecord, Sample


def _same(x: Aval, *rest: Aval) -> Aval:
    return x


stop_gradient = OpRecord(
    name="stop_gradient",
    kind=Kind.VIEW,
    attrs=(),
    infer=_same,
    reference=lambda x: x,
    vjp=lambda ct, result, x: (None,),
    lower=None,
    dtypes=SUPPORTED,
    samples=lambda: [Sample((np.arange(6.0).reshape(2, 3),), gradient=False)],
    doc="The operand itself; no gradient passes. Marks leaves and detached reads.",
)

graft = OpRecord(
    name="graft",
    kind=Kind.VIEW,
    attrs=(),
    infer=_same,
    reference=lambda data, history: data,
    vjp=lambda ct, result, data, history: (None, ct),
    lower=None,
    dtypes=SUPPORTED,
    samples=lambda: [Sample((np.arange(6.0), np.ones(6)), gradient=False)],
    doc="The value of the first operand with the history of the second: data was written outside of grad mode.",
)

overwrite = OpRecord(
    name="overwrite",
    kind=Kind.VIEW,
    attrs=(),
    infer=_same,
    reference=lambda new, old: new,
    vjp=lambda ct, result, new, old: (ct, ct.like(0)),
    lower=None,
    dtypes=SUPPORTED,
    samples=lambda: [Sample((np.arange(6.0), np.ones(6)))],
    doc="The first operand, in the place of the second, none of whose elements is left: its gradient is 0, as in PyTorch.",
)

_IDENTITIES = (stop_gradient, graft, overwrite)


def data_operands(node: Node) -> tuple[int, ...]:
    """The operands whose values the node's own follows from: of a marker's others only the place in a history counts."""
    return node.operands[:1] if node.op in _IDENTITIES else node.operands


def strip(graph: Graph) -> Graph:
    """The same program without gradient markers, also in regions: every use of one reads its first operand instead."""
    graph = graph.with_regions(strip)
    if not any(node.op in _IDENTITIES for node in graph.nodes):
        return graph
    same: dict[int, int] = {}
    nodes = []
    for node in graph.nodes:
        operands = tuple([same.get(v, v) for v in node.operands])
        if node.op in _IDENTITIES:
            same[node.results[0]] = operands[0]
        else:
            is_same = operands == node.operands  # nearly always
            nodes.append(node if is_same else Node(node.op, operands, node.attrs, node.results, node.loc))
    return Graph(
        graph.avals, graph.inputs, nodes, [same.get(v, v) for v in graph.outputs], dict(graph.updates), graph.sizes
    )
