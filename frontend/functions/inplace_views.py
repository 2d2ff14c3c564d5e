"""Methods that make a tensor show its storage in another way: squeeze_, unsqueeze_, transpose_, t_, resize_, set_.

In: a tensor, which becomes its own view. Out: the same tensor; others that share its storage stay as they are. Next: `create.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import layout
from flambeau.declarations import Unsampled, declared
from flambeau.functions import permutations, shape
from flambeau.functions.create import empty
from flambeau.functions.shape import _sizes
from flambeau.memory_format import checked, contiguous_format, preserve_format
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

_OWN = Unsampled("changes how a tensor lies that is there: see test_shapes.py")


def _become(op: str, tensor: Tensor, other: Tensor) -> Tensor:
    """`tensor`, which from now on shows what `other` shows, with its history."""
    if tensor.requires_grad and tensor.is_leaf:
        raise RuntimeError(f"[{op}] the tensor is a leaf that requires grad. Use the form that returns a new tensor.")
    recorder.set_cell(tensor, other)
    return tensor


@declared(
    method=True,
    samples=calls(lambda: [call(data(1, 2, 1), gradient=False), call(data(1, 2), 0, gradient=False)]),
    recalled="operand",
)
def squeeze_(input: Tensor, *dim: Any, **named: Any) -> Tensor:
    """`squeeze`, of the tensor itself. Raises RuntimeError for a leaf that requires grad."""
    return _become("squeeze_", input, shape.squeeze(input, *dim, **named))


@declared(method=True, samples=calls(lambda: [call(data(2, 3), 1, gradient=False)]), recalled="operand")
def unsqueeze_(input: Tensor, dim: int) -> Tensor:
    """`unsqueeze`, of the tensor itself. Raises RuntimeError for a leaf that requires grad."""
    return _become("unsqueeze_", input, shape.unsqueeze(input, dim))


@declared(
    method=True,
    aliases="swapaxes_ swapdims_",
    samples=calls(lambda: [call(data(2, 3), 0, 1, gradient=False)]),
    recalled="operand",
)
def transpose_(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """`transpose`, of the tensor itself. Raises RuntimeError for a leaf that requires grad."""
    return _become("transpose_", input, permutations.transpose(input, dim0, dim1))


@declared(method=True, samples=calls(lambda: [call(data(2, 3), gradient=False)]), recalled="operand")
def t_(input: Tensor) -> Tensor:
    """`t`, of the tensor itself. Raises RuntimeError for a leaf that requires grad."""
    return _become("t_", input, permutations.t(input))


@declared(method=True, samples=_OWN)
def resize_(input: Tensor, *sizes: Any, size: Any = None, memory_format: Any = None) -> Tensor:
    """The tensor in another shape, which may hold another number of elements: the first ones stay, in row-major order, and in the
    storage if they fit there; new ones are not set.

    Raises RuntimeError for a tensor that requires grad, and for a view whose elements do not lie row by row.
    """
    wanted = tuple(n.__index__() for n in _sizes(sizes if size is None else (size,)))
    if memory_format is not None and checked("resize_", memory_format) not in (contiguous_format, preserve_format):
        raise RuntimeError(f"[resize_] the memory format is {memory_format}. Leave it out.")
    if any(n < 0 for n in wanted):
        raise RuntimeError(f"[resize_] size {wanted} has a negative entry. Pass sizes of at least 0.")
    if input.requires_grad:
        raise RuntimeError("[resize_] the tensor requires grad. Use x.detach().clone().")
    if wanted == input.shape:
        return input
    if not input.is_contiguous():
        raise RuntimeError("[resize_] the elements do not lie row by row. Use x.contiguous(), or reshape.")
    flat, count = shape.reshape(input, (-1,) if 0 not in input.shape else (0,)), math.prod(wanted)
    if count > flat.shape[0]:
        longer = empty(count, dtype=input.dtype, device=input.device)
        longer[: flat.shape[0]] = flat
        return _become("resize_", input, shape.reshape(longer, wanted))
    return _become("resize_", input, shape.reshape(flat[:count], wanted))


@declared(free="flambeau", method=True, samples=calls(lambda: [call(data(2, 3), data(2, 2), gradient=False)]))
def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor."""
    return resize_(input, the_template.shape, memory_format=memory_format)


@declared(method=True, samples=_OWN)
def set_(input: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Tensor:
    """The tensor on the storage of `source`, whose elements it shows from now on; empty without a source. With a size it shows that
    of the storage: see `as_strided`.

    Raises RuntimeError for a leaf that requires grad and for a source of another dtype.
    """
    if source is None:
        source = empty(0, dtype=input.dtype, device=input.device)
    if not isinstance(source, Tensor):
        raise TypeError(f"[set_] the source is a {type(source).__name__}. Pass a tensor.")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"[set_] the source is {source.dtype.name}, the tensor {input.dtype.name}. Convert one.")
    if size is not None:
        source = source.as_strided(size, layout.dense(tuple(size)) if stride is None else stride, storage_offset)
    return _become("set_", input, source)
