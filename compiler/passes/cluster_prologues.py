"""When a product computes an operand while it packs it.

In: a `Move`. Out: whether it pays. Next: `schedules/products.py`, which knows how often elements are computed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flambeau.compiler.codegen.products.operands import Contraction, read
from flambeau.compiler.passes.cluster_groups import Clustering, OpenGroup
from flambeau.compiler.schedules.products import computations, computes_well

if TYPE_CHECKING:
    from flambeau.compiler.passes.cluster_producers import Move

#: What writing and reading an element is worth, in additions.
SAVED = 10.0


def pays(program: Clustering, move: Move) -> bool:
    """Whether the operand need not be written and read for less than that costs."""
    product = _contraction(program, move.joined)
    if product is None or not computes_well(product, move.position, move.bytes):
        return False
    return (computations(product)[move.position] - 1) * move.work + move.again <= SAVED * move.saved


def _contraction(program: Clustering, joined: OpenGroup) -> Contraction | None:
    """What the code generator sees; None where it cannot read the operand."""
    assert joined.product is not None
    graph, _, _ = program.fragment(replace(joined, outputs=[joined.product]))
    try:
        return read(graph)
    except ValueError:
        return None
