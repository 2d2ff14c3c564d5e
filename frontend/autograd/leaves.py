"""Where gradient histories begin and end: `requires_grad`, `detach`, `data`.

In: tensors. Out: leaves, which have no history and may get a gradient, and what shares storage with a result without its history.
Next: `function.py`.
"""

from __future__ import annotations

import warnings

from flambeau import inline
from flambeau.autograd.grad_mode import enable_grad, no_grad
from flambeau.dialects.dtypes import DType
from flambeau.function import Tensor_, view
from flambeau.placing import apart
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import unary


@view(free="flambeau", method=True, detach=True, samples=unary())
def detach(input: Tensor_):
    """The same storage without gradient history: writes to either are seen by both."""
    return input


@view(detach=True, aside=True, name="data")
def _data(input: Tensor_):
    return input


def detach_(tensor: Tensor) -> Tensor:
    """Cut this tensor from its gradient history: it becomes a leaf that does not require grad. Raises RuntimeError for a view,
    whose base would keep its history."""
    if tensor._base is not None:
        raise RuntimeError("[detach_] the tensor is a view, and its base would keep its history. Use detach().")
    if tensor.is_leaf:
        return requires_grad_(tensor, False)
    recorder.set_cell(tensor, detach(tensor))
    return tensor


def _set_data(tensor: Tensor, value: Tensor) -> None:
    """`tensor.data = value`: a leaf shares the storage of `value` from now on; a result keeps its history and gets a
    copy of the elements. Raises RuntimeError for a result of another shape or dtype."""
    if tensor.is_leaf:
        recorder.set_cell(tensor, detach(value))
        return
    if tensor._place != value._place:
        raise apart("data", (tensor._place, value._place))
    if (tensor.shape, tensor.dtype) != (value.shape, value.dtype):
        raise RuntimeError(
            f"[data] {value.dtype.name} of shape {value.shape} is assigned to a result that is {tensor.dtype.name} of "
            f"shape {tensor.shape} and has gradient history. Detach the tensor first."
        )
    with no_grad():
        new = detach(value).clone()
    with enable_grad():
        recorder.set_cell(tensor, inline.same(tensor))
    with no_grad():
        detach(tensor).copy_(new)


def requires_grad_(tensor: Tensor, requires_grad: bool = True) -> Tensor:
    """Make a leaf tensor require grad, or not. A view gets elements of its own, with a warning where what it was a view of is held
    elsewhere. Raises RuntimeError for integer dtypes and for tensors with history."""
    if requires_grad:
        prepare_leaf(tensor, "requires_grad_")
    found = recorder.set_requires_grad(tensor, bool(requires_grad))
    if found.requires_grad > requires_grad:  # it shares elements that have a history, from which it was detached
        recorder.set_cell(tensor, detach(tensor))
    return found


def prepare_leaf(tensor: Tensor, op: str) -> None:
    """What `op` does before `tensor` becomes a leaf that requires grad: refuses dtypes that have no gradients, and gives a view
    elements of its own, as a leaf has. Where somebody holds what the view shows, who would see writes in PyTorch: warns, and
    refuses writes to the leaf."""
    dtype: DType = tensor.dtype
    if not dtype.is_inexact:
        raise RuntimeError(
            f"[{op}] only floating-point tensors can require grad, this one is {dtype.name}. Cast it first."
        )
    if tensor.requires_grad or not recorder.is_part(tensor):
        return
    is_lone = recorder.is_lone_view(tensor)
    if not is_lone:
        text = f"[{op}] a leaf has elements of its own: this view's are copied, and what it is of is no longer seen."
        warnings.warn(f"{text} Clone it first.", stacklevel=3)
    with no_grad():
        recorder.set_cell(tensor, tensor.clone())
    if not is_lone:
        recorder.set_apart(tensor)


def _set_requires_grad(tensor: Tensor, value: bool) -> None:
    requires_grad_(tensor, value)


_requires_grad = Tensor.__dict__["requires_grad"]
Tensor.requires_grad = property(  # type: ignore[assignment]
    _requires_grad.__get__, _set_requires_grad, doc=_requires_grad.__doc__
)
Tensor.data = property(_data, _set_data, doc="The storage without gradient history; assignable.")  # type: ignore
