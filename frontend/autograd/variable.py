"""`Variable`, which tensors with gradients were called before they all had them: code of old goes on working.

In: tensors. Out: tensors. Next: `__init__.py`.
"""

from __future__ import annotations

from flambeau.runtime.recorder import Tensor


class _Tensors(type):
    """Every tensor is a `Variable`, as in PyTorch."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_Tensors):
    """`Variable(data, requires_grad=False)`: the tensor, detached, which requires grad if that is asked for. It shares the
    memory of `data`. Raises RuntimeError for integers that are to require grad."""

    def __new__(cls, data: Tensor, requires_grad: bool = False) -> Tensor:  # type: ignore[misc]
        return data.detach().requires_grad_(requires_grad)
