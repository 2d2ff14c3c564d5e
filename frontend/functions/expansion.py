"""Views that repeat what they show along dimensions of size 1: expand, broadcast_to, and grids made of these.

In: a tensor and static sizes. Out: a tensor on the same storage; writing to it writes to the input. All are made of the records
reshape and broadcast. Next: `assemble.py`, copies.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import Unsampled, declared
from flambeau.dialects.builder import Value
from flambeau.function import Sizes, Static, Tensor_, view
from flambeau.functions.common import broadcast_shapes as common_shape
from flambeau.functions.common import ops, size_of
from flambeau.functions.permutations import transpose
from flambeau.functions.shape import _sizes, reshape
from flambeau.runtime.recorder import Size as Shape
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _expanded(op: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    new = len(wanted) - len(found)
    if new < 0:
        raise RuntimeError(
            f"[{op}] sizes {wanted} have fewer dimensions than the shape {found}. Give at least {len(found)}."
        )
    result = []
    for dim, n in enumerate(wanted):
        old = found[dim - new] if dim >= new else 1
        if n == -1 and dim < new:
            raise RuntimeError(f"[{op}] sizes {wanted} have -1 at the new dimension {dim}. Give its size.")
        n = old if n == -1 else n
        if old not in (1, n):
            raise RuntimeError(
                f"[{op}] dimension {dim} has size {old} in shape {found}, not 1, so it cannot expand to {n}."
            )
        result.append(n)
    return tuple(result)


def _unexpand(base: Value, new: Value, size: Any, implicit: bool = False) -> Value:
    if math.prod(base.shape) != math.prod(new.shape):
        raise RuntimeError("[expand] elements of this view share memory. Write to a copy: x.clone().")
    return ops.reshape(new, shape=base.shape)


@view(
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 1), (3, 4)),
            call(data(1, 3), (2, -1, 3)),
            call(data(), (2, 2)),
            call(data(2), (3,), error=(RuntimeError, "cannot expand to 3")),
        ]
    ),
    variadic=True,
    put=_unexpand,
)
def expand(input: Tensor_, size: Sizes, *, implicit: Static = False):
    """Dimensions of size 1 stretched to `size` without copying; -1 keeps a size, new dimensions go in front. `implicit`
    changes nothing.

    The result cannot be written to. Raises RuntimeError for sizes that do not fit.
    """
    return input.expand(_expanded("expand", input.shape, _sizes(size)))


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(3, 1), data(4)),
            call(data(2), data(3), error=(RuntimeError, "do not broadcast")),
        ]
    ),
)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """The tensors expanded to their common shape. Raises RuntimeError where there is none."""
    given = _tensors("broadcast_tensors", tensors)
    if not given:
        return ()
    size = common_shape("broadcast_tensors", *(t.shape for t in given))
    return tuple(expand(t, size) for t in given)


@declared(free="flambeau", samples=Unsampled("of shapes, not of tensors"))
def broadcast_shapes(*shapes: Any) -> Shape:
    """The shape that tensors of these shapes (or sizes) broadcast to. Raises RuntimeError where there is none."""
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    return Shape(common_shape("broadcast_shapes", *given) if given else ())


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2), data(3)),
            call(data(2), data(3), indexing="xy"),
            call(data(2, 2), error=(RuntimeError, "Pass vectors of one dtype")),
        ]
    ),
)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Coordinates of a grid: result i is tensor i, of one dimension, along dimension i and the same along all others.

    `indexing="xy"` swaps the first two dimensions; None is "ij". Raises RuntimeError for tensors of more dimensions and
    other dtypes.
    """
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f"[meshgrid] indexing is {indexing!r}. Use 'ij' or 'xy'.")
    given = _tensors("meshgrid", tensors)
    if not given:
        raise RuntimeError("[meshgrid] there are no tensors. Pass at least one.")
    for t in given:
        if t.ndim > 1 or t.dtype is not given[0].dtype:
            raise RuntimeError(
                f"[meshgrid] a tensor is {t.dtype.name} of shape {t.shape}. Pass vectors of one dtype, here {given[0].dtype.name}."
            )
    size = tuple(t.shape[0] if t.ndim else 1 for t in given)
    rank = len(given)
    grid = [expand(reshape(t, [1] * i + [-1] + [1] * (rank - 1 - i)), size) for i, t in enumerate(given)]
    return tuple(transpose(g, 0, 1) if indexing == "xy" and rank > 1 else g for g in grid)


def _tensors(op: str, given: tuple[Any, ...]) -> list[Tensor]:
    """Tensors given one by one or as one sequence."""
    found = list(given[0]) if len(given) == 1 and isinstance(given[0], tuple | list) else list(given)
    for t in found:
        if not isinstance(t, Tensor):
            raise TypeError(f"[{op}] an argument is a {type(t).__name__}. Pass tensors.")
    return found


@view(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 1), (3, 4)),
            call(data(), (2, 2)),
            call(data(2), (3,), error=(RuntimeError, "cannot expand to 3")),
        ]
    ),
    variadic=True,
    put=_unexpand,
)
def broadcast_to(input: Tensor_, size: Sizes):
    """`expand` to the shape `size`."""
    return input.expand(_expanded("broadcast_to", input.shape, size_of("broadcast_to", _sizes(size))))
