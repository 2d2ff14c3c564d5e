"""The standard's functions that move elements: shapes, axes, joining, repeating.

In: arrays. Out: arrays. Next: `searching.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.array_api.operands import axes_of, common, fb
from flambeau.runtime.recorder import Tensor

Axes = int | tuple[int, ...]


def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """All in the shape that they have together."""
    return list(fb.broadcast_tensors(*arrays))


def broadcast_to(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """x in a shape that it broadcasts to."""
    return fb.broadcast_to(x, shape)


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that arrays of these shapes have together."""
    return tuple(fb.broadcast_shapes(*shapes))


def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """One after the other along an axis that there is; with None all elements in a row. In the common dtype."""
    joined = common(*arrays)
    return fb.cat([x.flatten() for x in joined], 0) if axis is None else fb.cat(joined, axis)


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Side by side along a new axis, in the common dtype."""
    return fb.stack(common(*arrays), axis)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis."""
    return tuple(fb.unbind(x, axis))


def expand_dims(x: Tensor, /, axis: Axes) -> Tensor:
    """With axes of size 1 at these places of the result. Raises IndexError for places that it does not have."""
    if isinstance(axis, int):
        return fb.unsqueeze(x, axis)
    rank = x.ndim + len(axis)
    places = sorted(a + rank if a < 0 else a for a in axis)
    if len(set(places)) < len(places):
        raise ValueError(f"[expand_dims] axis {axis} names a place of {rank} twice. Name each once.")
    for place in places:
        x = fb.unsqueeze(x, place)
    return x


def squeeze(x: Tensor, /, axis: Axes) -> Tensor:
    """Without these axes. Raises ValueError for axes whose size is not 1."""
    axes = axes_of(axis, x)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(
                f"[squeeze] axis {a} of shape {tuple(x.shape)} has size {x.shape[a]}. Name axes of size 1."
            )
    return fb.squeeze(x, axes) if axes else x


def permute_dims(x: Tensor, /, axes: tuple[int, ...]) -> Tensor:
    """The axes in another order."""
    return fb.permute(x, axes)


def moveaxis(x: Tensor, source: Axes, destination: Axes, /) -> Tensor:
    """Axes moved to other places, the others in their order."""
    return fb.movedim(x, source, destination)


def flip(x: Tensor, /, *, axis: Axes | None = None) -> Tensor:
    """The elements in reverse along axes, all for None."""
    return fb.flip(x, axes_of(axis, x))


def roll(x: Tensor, /, shift: Axes, *, axis: Axes | None = None) -> Tensor:
    """The elements moved on by `shift` along axes, the last ones coming in first; for None in a row."""
    if axis is None:
        return fb.roll(x, shift)
    axes = axes_of(axis, x)
    return fb.roll(x, shift if isinstance(shift, tuple) else (shift,) * len(axes), axes)


def reshape(x: Tensor, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Tensor:
    """In another shape; `copy` True gives a copy always, False none: then a ValueError where one is needed."""
    if copy is False:
        try:
            return x.view(shape)
        except RuntimeError as error:
            raise ValueError(f"[reshape] {tuple(x.shape)} to {shape} takes a copy. Leave out copy=False.") from error
    made = fb.reshape(x, shape)
    return made.clone() if copy else made


def repeat(x: Tensor, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element (or slice along an axis) as often as `repeats` says, a number or one for each."""
    if isinstance(repeats, Tensor):
        repeats = repeats.to(fb.int64)
    return fb.repeat_interleave(x, repeats, axis)


def tile(x: Tensor, repetitions: tuple[int, ...], /) -> Tensor:
    """x again and again along each axis."""
    return fb.tile(x, tuple(repetitions))
