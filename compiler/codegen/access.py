"""Where elements lie: views as strides, and the common refinement of the loops that several accesses need.

In: shapes and view ops; numbers are ints or `Size`s. Out: `StridedView`s (affine maps from coordinates to positions in a root
value), and `merge` and `chain`, which turn the layouts of one loop nest into few loop dimensions. Nothing here emits
code. Next: `fragment.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

from flambeau.dialects.graph import Node
from flambeau.dialects.size import hint
from flambeau.dialects.tape.view import reach, windows_in


class StridedView(NamedTuple):
    """Element `c` of a view is element `offset + sum(strides * c) + sum(scale * start)` of a dense root.

    `dynamic` holds (0-d value, limit, scale) triples: starts known only at run time, clamped to 0..limit.
    """

    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    offset: Any = 0
    dynamic: tuple[tuple[int, Any, Any], ...] = ()

    @property
    def size(self) -> Any:
        return prod(self.shape)

    @property
    def is_identity(self) -> bool:
        """Whether element i, row-major, is element i of the root (reshapes keep this)."""
        if 0 in self.shape:
            return True
        if self.offset or self.dynamic:
            return False
        expected: Any = 1
        for extent, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if extent != 1 and stride != expected:
                return False
            expected *= extent
        return True

    @property
    def is_uniform(self) -> bool:
        """Whether every element is the same one."""
        return all(extent == 1 or stride == 0 for extent, stride in zip(self.shape, self.strides, strict=True))


def dense(shape: tuple[Any, ...]) -> StridedView:
    """The layout of a value stored row-major."""
    strides: list[Any] = []
    step: Any = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return StridedView(shape, tuple(reversed(strides)))


def permute(x: StridedView, axes: tuple[int, ...]) -> StridedView:
    return x._replace(shape=tuple(x.shape[a] for a in axes), strides=tuple(x.strides[a] for a in axes))


def broadcast(x: StridedView, shape: tuple[Any, ...]) -> StridedView:
    """Stretch unit axes to `shape`, which has the same rank."""
    pairs = zip(x.shape, shape, x.strides, strict=True)
    return x._replace(shape=shape, strides=tuple(0 if old == 1 and new != 1 else s for old, new, s in pairs))


def strided(x: StridedView, starts: tuple[Any, ...], shape: tuple[Any, ...], steps: tuple[int, ...]) -> StridedView:
    """The part of `x` of the given shape from `starts` on, every `steps`-th element."""
    offset = x.offset + sum(start * stride for start, stride in zip(starts, x.strides, strict=True))
    strides = tuple(step * stride for step, stride in zip(steps, x.strides, strict=True))
    return x._replace(shape=shape, strides=strides, offset=offset)


def flip(x: StridedView, axes: tuple[int, ...]) -> StridedView:
    offset = x.offset + sum((x.shape[a] - 1) * x.strides[a] for a in axes if x.shape[a])
    strides = tuple(-s if a in axes else s for a, s in enumerate(x.strides))
    return x._replace(strides=strides, offset=offset)


def reshape(x: StridedView, shape: tuple[Any, ...]) -> StridedView | None:
    """The same elements in another shape, or None where that is not affine."""
    if prod(shape) == 0:
        return x._replace(shape=shape, strides=(0,) * len(shape))
    dims = merge(x)
    wanted = [n for n in shape if n != 1]
    extents = chain([*suffixes([e for e, _ in dims]), *suffixes(wanted)], prod(wanted))
    if extents is None or len(extents) > len(wanted):
        return None
    strides = iter(spread(dims, extents))
    return x._replace(shape=shape, strides=tuple(0 if n == 1 else next(strides) for n in shape))


def merge(x: StridedView) -> list[tuple[Any, Any]]:
    """(extent, stride) pairs, outermost first, with unit dims dropped and dims that run on joined."""
    dims: list[tuple[Any, Any]] = []
    for extent, stride in zip(x.shape, x.strides, strict=True):
        if extent == 1:
            continue
        if dims and dims[-1][1] == extent * stride:
            dims[-1] = (dims[-1][0] * extent, stride)
        else:
            dims.append((extent, stride))
    return dims


def suffixes(extents: Iterable[Any]) -> list[Any]:
    """Products of the inner extents at every boundary between two dims."""
    extents, products = list(extents), []
    step: Any = 1
    for extent in reversed(extents[1:]):
        step *= extent
        products.append(step)
    return products


def chain(cuts: Iterable[Any], size: Any) -> tuple[Any, ...] | None:
    """The extents of the loops over `size` elements that break at every cut, outermost first; None if cuts clash.

    A cut that divides another for all values of the symbols comes before it in any order by value."""
    extents: list[Any] = []
    below: Any = 1
    for cut in [*sorted(set(cuts), key=hint), size]:
        if cut == below or below == size:
            continue
        if cut % below:
            return None
        extents.append(cut // below)
        below = cut
    return tuple(reversed(extents))


def spread(dims: list[tuple[Any, Any]], extents: tuple[Any, ...]) -> tuple[Any, ...]:
    """The strides of merged `dims` over finer loops of `extents`."""
    strides: list[Any] = []
    pending = list(reversed(dims))
    inner: Any = 1
    position = 0  # elements of the current dim already covered
    for extent in reversed(extents):
        if position == len(pending):  # a uniform access has no dims left
            strides.append(0)
            continue
        whole, stride = pending[position]
        strides.append(stride * inner)
        inner *= extent
        if inner == whole:
            inner, position = 1, position + 1
    return tuple(reversed(strides))


def dynamic_window(
    x: StridedView, starts: tuple[int, ...], sizes: tuple[Any, ...], steps: tuple[int, ...]
) -> StridedView:
    """The window of `x` from run-time `starts` (0-d values), moved to where it fits."""
    dynamic = []
    for start, extent, size, step, stride in zip(starts, x.shape, sizes, steps, x.strides, strict=True):
        limit = extent - reach(size, step)
        if limit and stride:
            dynamic.append((start, limit, stride))
    window = strided(x, (0,) * len(sizes), sizes, steps)
    return window._replace(dynamic=x.dynamic + tuple(dynamic))


def unfold(x: StridedView, axis: int, shape: tuple[Any, ...], step: int, dilation: int) -> StridedView:
    """Windows along an axis, of the given shape: their elements are the last axis."""
    strides = tuple(s * step if a == axis else s for a, s in enumerate(x.strides))
    return x._replace(shape=shape, strides=(*strides, x.strides[axis] * dilation))


def apply_view(node: Node, x: StridedView) -> StridedView | None:
    """The layout of a view op's result given its operand's; None where it is not affine."""
    attrs = dict(zip(node.op.attrs, node.attrs, strict=True))
    match node.op.name:
        case "reshape":
            return reshape(x, attrs["shape"])
        case "permute":
            return permute(x, attrs["perm"])
        case "broadcast":
            return broadcast(x, attrs["shape"])
        case "slice":
            return strided(x, attrs["starts"], attrs["sizes"], attrs["steps"])
        case "unfold":
            size, step, dilation = attrs["size"], attrs["step"], attrs["dilation"]
            count = windows_in(x.shape[attrs["axis"]], size, step, dilation)
            shape = tuple(count if a == attrs["axis"] else m for a, m in enumerate(x.shape))
            return unfold(x, attrs["axis"], (*shape, size), step, dilation)
        case "flip":
            return flip(x, attrs["axes"])
        case "dynamic_slice":
            return dynamic_window(x, node.operands[1:], attrs["sizes"], attrs["steps"])
        case "stop_gradient" | "graft" | "overwrite" | "to_device":
            return x
    raise ValueError(
        f"[loops] the view {node.op.name} has no layout. Teach `access.apply_view` where its elements lie."
    )
