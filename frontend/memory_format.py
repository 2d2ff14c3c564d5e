"""Memory formats: in which order the elements of a tensor lie, as `contiguous`, `to` and `clone` take it.

In: a tensor and a format. Out: the same elements in that order, as a view of dense storage. Next: `functions/convert.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau import layout
from flambeau.host import is_whole
from flambeau.runtime.recorder import Tensor


@dataclass(frozen=True)
class memory_format:
    """A memory format; `order` says in which order the dimensions lie, outermost first, empty where that is as they are."""

    name: str
    order: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"flambeau.{self.name}"

    def __reduce__(self) -> str:
        return self.name


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last", (0, 2, 3, 1))
channels_last_3d = memory_format("channels_last_3d", (0, 2, 3, 4, 1))

FORMATS = (contiguous_format, preserve_format, channels_last, channels_last_3d)


def checked(op: str, given: object) -> memory_format:
    """`given`, if it is a memory format."""
    if not isinstance(given, memory_format):
        raise TypeError(
            f"[{op}] memory_format is a {type(given).__name__}. Pass flambeau.channels_last or another format."
        )
    return given


def lies_so(tensor: Tensor, given: memory_format) -> bool:
    """Whether the elements lie in that order."""
    if given is preserve_format:
        return True
    shape, steps = tensor.shape, layout.strides(tensor)
    if not given.order:
        return is_whole(tensor) or layout.is_dense(shape, steps)
    if len(shape) != len(given.order):
        return False
    return layout.is_dense(tuple(shape[d] for d in given.order), tuple(steps[d] for d in given.order))


def laid_out(op: str, tensor: Tensor, given: memory_format) -> Tensor:
    """A copy whose elements lie in that order. Raises RuntimeError for another number of dimensions than it has."""
    from flambeau.functions.create import clone  # that module imports this one

    if not given.order:
        return clone(tensor)
    if tensor.ndim != len(given.order):
        raise RuntimeError(
            f"[{op}] {given!r} is for {len(given.order)} dimensions, the tensor has {tensor.ndim}. Use contiguous_format."
        )
    back = tuple(given.order.index(d) for d in range(tensor.ndim))
    return clone(tensor.permute(given.order)).permute(back)


def in_format(op: str, tensor: Tensor, given: object) -> Tensor:
    """The tensor itself if its elements lie in that order, or if none is asked for; else a copy in which they do."""
    if given is None:
        return tensor
    wanted = checked(op, given)
    return tensor if lies_so(tensor, wanted) else laid_out(op, tensor, wanted)
