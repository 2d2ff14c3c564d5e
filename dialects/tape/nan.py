"""NaNs have no sign and no payload: the op that makes them all one, and where a program needs it.

Processors differ in the NaN they make and in which of two they hand on, and compilers swap operands and move signs. So what an
op *computes* is the canonical NaN wherever it is one; what only *moves* elements moves their bits. As no op that computes sees
the difference, nothing need be done but where values leave a program. In: a graph. Out: `seen`. Next: `elementwise.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flambeau.dialects.dtypes import FLOATING, STORED_FLOATING
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import Nans, OpRecord
from flambeau.dialects.tape.common import elementwise, one_nan, samples_of

canonical_nan = elementwise(
    "canonical_nan",
    1,
    weight=2,
    dtypes=STORED_FLOATING,
    reference=one_nan,
    lower=lambda b, x: b.select(b.is_nan(x), b.const(math.nan, x), x),
    vjp=lambda ct, r, x: (ct,),
    samples=samples_of(),
    rounds_once=True,
    nans=Nans.CANONICAL,
    doc="x; NaNs of every sign and payload become one, the positive quiet one without payload.",
)


def _lower_by_bits(b, x):
    integer = f"i{x.bits}"
    infinity = b.bitcast(b.const(math.inf, x), integer)
    magnitude = b.and_(b.bitcast(x, integer), (1 << (x.bits - 1)) - 1)
    return b.select(b.cmp("gt", magnitude, infinity), b.const(math.nan, x), x)


canonical_nan_of_root = elementwise(
    "canonical_nan_of_root",
    1,
    weight=3,
    dtypes=FLOATING,
    reference=one_nan,
    lower=_lower_by_bits,
    vjp=lambda ct, r, x: (ct,),
    samples=samples_of(),
    nans=Nans.CANONICAL,
    doc="canonical_nan, which finds NaNs by their bits: LLVM knows for which x a root is NaN, and would take the choice between "
    "one NaN and another for none.",
)


def canonical(b, x):
    """What is computed, a NaN being the canonical one: which of several NaNs it would be, code generators decide."""
    return canonical_nan.lower(b, x) if x.is_float else x


def moves(op: OpRecord) -> bool:
    """Whether the op hands elements of its operands on as they are, and computes nothing."""
    return op.family.moves


def handed_on(op: OpRecord, operands: Sequence[int]) -> Sequence[int] | None:
    """Those of an op's operands of which elements are handed on as they are; None where it computes all that it gives."""
    if op.family.keeps:
        return operands[:1]
    return operands if op.family.moves else None


def seen(graph: Graph) -> frozenset[int]:
    """The computed values that leave the program, as they are or moved, and may hold a NaN that is not canonical."""
    outgoing = leaving(graph)
    clean = {v for v, aval in enumerate(graph.avals) if not aval.dtype.is_inexact}
    found: set[int] = set()
    has_complex = any(dtype.is_complex for dtype in {aval.dtype for aval in graph.avals})
    for node in graph.nodes:
        is_complex = has_complex and any(graph.avals[v].dtype.is_complex for v in node.results)
        if _is_clean(node, clean, is_complex):
            clean.update(node.results)
        elif handed_on(node.op, node.operands) is None and not outgoing.isdisjoint(node.results):
            found.update(v for v in node.results if v in outgoing and v not in clean)
            clean.update(node.results)
    return frozenset(found)


def leaving(graph: Graph) -> set[int]:
    """The values that leave the program, and those of which elements do."""
    found = set(graph.outputs)
    for node in reversed(graph.nodes):
        if not found.isdisjoint(node.results):
            found.update(handed_on(node.op, node.operands) or ())
    return found


def _is_clean(node: Node, clean: set[int], is_complex: bool) -> bool:
    """Whether the result's NaNs, if any, are canonical without further ado, as those of the `clean` values are. What is said of
    kernels does not hold of ops on complex numbers, which are others there."""
    if not is_complex and (node.op.family.one_nan or node.op.nans is Nans.CANONICAL):
        return True  # folds make theirs canonical themselves: not every kernel of one can do more to its results
    if not is_complex and node.op.name == "cast" and node.attrs[0].carrier:
        return True  # it is written bit by bit, the NaN, too
    passed = node.operands if node.op.hands_on else handed_on(node.op, node.operands)
    return passed is not None and clean.issuperset(passed)
