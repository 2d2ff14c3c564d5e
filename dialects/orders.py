"""The orders that folds follow, by name, and the rule that ties an order to the loops of an op.

An order is a tree over the elements of a fold, numbered from 0; `places` say which number an element has. Both stand in
the op `flambeau.fold`, and decide, with the arithmetic of the body, every bit of the result: shapes do not. A tree with
other numbers is another name in this table, which references, the verifier and code generators read. Nothing here imports
MLIR. Next: `flambeau_ops.py`, `tape/reduction_order.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flambeau.dialects.size import Int, Size

CHUNK, LANES, CHAIN, BLOCK = 4096, 64, 64, 256
#: Elements of a scan that are combined one after the other before the next ones start anew.
SCAN_BLOCK = 1024


@dataclass(frozen=True)
class FoldOrder:
    """`tree` says in which order elements are folded. `exact`: any tree gives the same bits, so nobody has to follow one;
    only folds of integers, truth values and extremes are."""

    name: str
    tree: str
    exact: bool = False


ORDERS = {
    order.name: order
    for order in (
        FoldOrder(
            "lanes",
            f"Chunks of {CHUNK} elements; in a chunk element i goes, in order, to lane i mod {LANES}; lanes are halved "
            "pairwise, then chunks are combined in pairs, an odd last one carried over.",
        ),
        FoldOrder(
            "chains",
            f"Chains of {CHAIN} elements in order; then chains are combined in pairs, an odd last one carried over.",
        ),
        FoldOrder("blocks", f"Blocks of {BLOCK} elements in order, each from the identity; blocks are added in order."),
        FoldOrder("sequential", "One element after the other."),
        FoldOrder("any", "Any tree: the combination is exactly associative.", exact=True),
    )
}


#: The orders of scans, whose result has an element for every place.
SCAN_ORDERS = {
    order.name: order
    for order in (
        ORDERS["sequential"],
        FoldOrder(
            "prefixes",
            f"Blocks of {SCAN_BLOCK} elements, each one element after the other; the last elements of the blocks one after "
            "the other; and the elements of every block but the first with what comes out for the blocks before.",
        ),
    )
}


class OrderError(ValueError):
    """A fold whose order is unknown, or whose places are no numbering of its elements. Says what is wrong, and what to do."""


#: A linear form over loops: ((loop, coefficient), ...) and a constant. `None`: a place that is no such form.
Place = tuple[tuple[tuple[int, int], ...], int]


def check_order(name: str, orders: Mapping[str, FoldOrder] = ORDERS) -> FoldOrder:
    """The order of that name, of a fold unless it is said of what. Raises OrderError."""
    if name not in orders:
        raise OrderError(f"there is no order named '{name}'. Orders are {', '.join(orders)}.")
    return orders[name]


def folded_loops(
    places: Sequence[Place | None], extents: Mapping[int, Int], reductions: Collection[int]
) -> tuple[int, ...]:
    """The loops that a fold goes over, outermost first: the numbering that its places give, taken row-major together.

    `extents` are the loops' trip counts, `reductions` the loops that the op reduces. A place is the row-major number of an
    element over some of these loops (rewrites split and join loops that way, and leave 0 for one that runs once); together
    they name every reduction loop that runs more than once. A part of a loop starts at an offset: its elements would be
    numbered anew, which is another tree. Raises OrderError.
    """
    order = with_single([loop for place in places for loop in _row_major(place, extents)], extents, reductions)
    if sorted(order) != sorted(reductions):
        raise OrderError(
            f"the places count loops {order}, and the op reduces {sorted(reductions)}. "
            "Give the index of every reduction loop once, and of no other."
        )
    return tuple(order)


def with_single(order: Sequence[int], extents: Mapping[int, Int], reductions: Collection[int]) -> list[int]:
    """An order of loops with the reduction loops that run once and that it leaves out, where it stays ascending if it is."""
    found = [*(loop for loop in sorted(reductions) if loop not in order and extents.get(loop) == 1), *order]
    return sorted(found) if list(order) == sorted(order) else found


def _row_major(place: Place | None, extents: Mapping[int, Int]) -> list[int]:
    """The loops of one place, outermost first."""
    if place is None:
        raise OrderError(
            "a place is no linear form of linalg.index: a reduction loop was tiled, or the place is computed. "
            "Give the indices of whole loops."
        )
    terms, constant = place
    if constant:
        raise OrderError(
            f"a place starts at {constant}: a reduction loop was tiled, peeled or shifted. Leave reduction loops whole."
        )
    found: list[int] = []
    below: Int | None = 1  # None: not known here
    for loop, coefficient in sorted(terms, key=lambda term: term[1]):
        if coefficient != below:
            raise OrderError(
                f"a place counts loop {loop} in steps of {coefficient} instead of {below}. Number elements row-major."
            )
        found.insert(0, loop)
        extent = extents.get(loop)
        below = None if extent is None or isinstance(extent, Size) else below * extent
    return found
