"""Parameters and buffers: tensors that a `Module` registers when they are assigned to it."""

from __future__ import annotations

from typing import Any

from flambeau.autograd.leaves import prepare_leaf
from flambeau.functions.create import empty
from flambeau.functions.from_data import as_tensor
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


class Parameter(Tensor):
    """A tensor to be trained: a leaf that requires grad, and that modules register.

    `Parameter(data)` shares the storage of `data`, a tensor; without data it is empty. A view gets elements of its own, with a
    warning where what it was a view of is held elsewhere. Raises RuntimeError for integer dtypes that are to require grad.
    """

    _text_name = "tensor"

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        data = empty(0) if data is None else as_tensor(data)
        data = data.detach() if data.requires_grad else data
        if requires_grad:
            prepare_leaf(data, "Parameter")
        return recorder.make_leaf(data, requires_grad, cls)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + Tensor.__repr__(self)


class Buffer:
    """`self.mean = nn.Buffer(tensor)` registers the tensor as a buffer; `persistent=False` keeps it out of state dicts."""

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        self.tensor, self.persistent = empty(0) if data is None else data, persistent
