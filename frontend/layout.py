"""Strides of tensors: how a view lies over its storage, as PyTorch would tell.

In: a tensor. Out: its strides in elements, and whether a new shape can be a view of them. Storage itself is always dense and
row-major; strides only decide which tensors share it. Next: `functions/shape.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau import host
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

Strides = tuple[int, ...]


def dense(shape: tuple[int, ...]) -> Strides:
    """The strides of a row-major tensor."""
    steps, step = [], 1
    for n in reversed(shape):
        steps.append(step)
        step *= max(n, 1)
    return tuple(reversed(steps))


def strides(tensor: Tensor) -> Strides:
    """The distance in elements, within the storage, between neighbours along each dimension."""
    found = recorder.strides(tensor)
    if 0 in tensor.shape:
        return dense(tensor.shape)
    return (_between_parts(tensor) or dense(tensor.shape)) if found is None else found


def _between_parts(tensor: Tensor) -> Strides | None:
    """The strides of parts of complex numbers, or of such numbers over memory of parts, in elements of their own size."""
    view, base_shape, starts = recorder.view_info(tensor)
    if view is None or view.base.dtype.is_complex == view.aval.dtype.is_complex:
        return None
    size = view.base.dtype.itemsize
    steps = tuple(step * size for step in dense(base_shape))
    base = np.lib.stride_tricks.as_strided(np.zeros(1, view.base.dtype.numpy), base_shape, steps)
    shown = host.view_of(base, view, starts)
    is_shared = base.size == 0 or 0 <= host.address(shown) - host.address(base) < size * base.size
    return tuple(step // shown.itemsize for step in shown.strides) if is_shared else None


def offset(tensor: Tensor) -> int:
    """Where in the storage the first element lies, in elements; 0 where no strides say it. Nothing is computed for that."""
    view, base_shape, starts = recorder.view_info(tensor)
    found = None if view is None or not view.steps else layout_of(view, base_shape)
    return 0 if found is None else found[0] + sum(n * step for n, step in zip(starts, found[2]))


def layout_of(view: Any, base_shape: tuple[int, ...]) -> tuple[int, Strides, Strides] | None:
    """Hook: where in the storage the elements lie that a view shows. (the first one where all starts are 0, strides, by how
    many elements each start moves it), None where they lie in no strides.

    Found by applying the view to an array of one byte per element that takes up no memory.
    """
    if view.base.dtype.is_complex != view.aval.dtype.is_complex:
        return None  # elements of another size: `strides` says where they lie
    base = np.lib.stride_tricks.as_strided(np.zeros(1, np.bool_), base_shape, dense(base_shape))

    def shown(starts: tuple[int, ...]) -> np.ndarray:
        return host.view_of(base, view, starts)

    n = view.n_starts
    none = shown((0,) * n)
    first = host.address(none) - host.address(base)
    if not 0 <= first <= base.size:
        return None
    moved = [host.address(shown(tuple(int(i == k) for i in range(n)))) - host.address(none) for k in range(n)]
    return first, tuple(none.strides), tuple(moved)


def is_dense(shape: tuple[int, ...], steps: Strides) -> bool:
    """Whether the elements lie row by row; dimensions of size 1 do not count."""
    wanted = 1
    for n, step in zip(reversed(shape), reversed(steps)):
        if n == 0:
            return True
        if n != 1 and step != wanted:
            return False
        wanted *= n
    return True


def fits(shape: tuple[int, ...], steps: Strides, new_shape: tuple[int, ...]) -> bool:
    """Whether `new_shape`, of as many elements, can be a view of a tensor with these strides.

    Neighbouring dimensions merge where the outer one steps over exactly the inner one; every run of merged
    dimensions must be cut into whole new dimensions.
    """
    if 0 in shape or is_dense(shape, steps):
        return True
    runs: list[int] = []
    inner = 0
    for n, step in reversed([(n, s) for n, s in zip(shape, steps) if n != 1]):
        if runs and step == inner:
            runs[-1] *= n
        else:
            runs.append(n)
        inner = step * n
    rest = [n for n in reversed(new_shape) if n != 1]
    for run in runs:
        while run > 1:
            if not rest or run % rest[0]:
                return False
            run //= rest.pop(0)
    return True
