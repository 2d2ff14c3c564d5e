"""What checks of ops in groups have in common.

In: types of operands and result. Out: `GroupError`, without the op's name. Next: `calls.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.groups.form import Body, Call, GroupError
from flambeau.compiler.groups.verify_bodies import check_block
from flambeau.dialects.aval import Aval
from flambeau.dialects.size import Int, same


def check_count(given: Sequence[Aval], count: int) -> None:
    """Raise GroupError unless there are so many operands."""
    if len(given) != count:
        raise GroupError(f"it takes {len(given)} operands. Give {count}.")


def check_axis(op: Call, aval: Aval) -> int:
    """The attribute `axis`. Raises GroupError unless it numbers one of a tensor's axes."""
    axis = op.attribute["axis"]
    if not isinstance(axis, int) or not 0 <= axis < aval.rank:
        raise GroupError(f"its axis is {axis} of {aval.mlir}. Name one of its axes.")
    return axis


def check_like(found: Aval, shape: Sequence[Int], like: Aval) -> None:
    """Raise GroupError unless a result has this shape, and the element type of an operand."""
    expected = Aval(tuple(shape), like.dtype)
    fits = found.dtype is like.dtype and len(found.shape) == len(shape)
    if not fits or not all(map(same, found.shape, shape)):
        raise GroupError(f"it gives {found.mlir}, and its operands {expected.mlir}. Make them agree.")


def check_combiner(regions: Sequence[Body], element: str) -> None:
    """Raise GroupError unless there is one region, which makes one element of two."""
    check_region(regions, (element, element), "the old element and an update")


def check_region(regions: Sequence[Body], arguments: tuple[str, ...], what: str) -> None:
    """Raise GroupError unless there is one region, which makes one element of these, all of one type: `what` they are."""
    element = arguments[0]
    if len(regions) != 1 or regions[0].types != arguments:
        raise GroupError(f"it has {len(regions)} regions. Give one that takes {what}, {element}.")
    types = check_block(regions[0], 0)
    if [types[k] for k in regions[0].results] != [element]:
        raise GroupError(f"its region yields {[types[k] for k in regions[0].results]}. Yield one {element}.")
