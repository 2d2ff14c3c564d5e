"""`LongTensor` and its kin: PyTorch's old names for making tensors of one dtype, and for asking whether a tensor is one.

In: sizes or data. Out: tensors. There is one of each dtype that has such classes, called by its column
`tensor` (`dialects/dtypes.py`). Next: `functions/create.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType
from flambeau.runtime.recorder import Size, Tensor


class TensorType(type):
    """The type of `LongTensor` and its kin, whose instances are the tensors of `dtype`."""

    dtype: DType

    def __instancecheck__(cls, found: object) -> bool:
        return isinstance(found, Tensor) and found.dtype is cls.dtype

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        from flambeau.functions import create, from_data

        if len(args) == 1 and isinstance(args[0], Tensor):
            return cls._same(args[0])
        if len(args) == 1 and not isinstance(args[0], int | Size):
            return from_data.tensor(args[0], dtype=cls.dtype, device=device)
        size = args[0] if args and isinstance(args[0], Size) else args or (0,)
        return create.empty(size, dtype=cls.dtype, device=device)

    def _same(cls, tensor: Tensor) -> Tensor:
        if tensor.dtype is not cls.dtype:
            raise TypeError(
                f"[{cls.__name__}] the tensor is of dtype {tensor.dtype.name}, not {cls.dtype.name}. Use x.to({cls.dtype!r})."
            )
        return tensor.view(tensor.shape)


def _made(dtype: DType) -> TensorType:
    name = f"{dtype.tensor}Tensor"
    doc = (
        f"`{name}(2, 3)`: an unset tensor of {dtype.name} of these sizes; `{name}(data)`: one with a copy of `data`; "
        f"`{name}(tensor)`: on the memory of `tensor`. `isinstance(x, {name})` asks for the dtype. Raises TypeError for a "
        "tensor of another dtype."
    )
    return TensorType(name, (), {"__doc__": doc, "dtype": dtype, "__module__": "flambeau"})


#: By name.
TENSOR_TYPES = {t.__name__: t for t in (_made(d) for d in dtypes.SUPPORTED if d.has_classes)}


def dtype_of(kind: Any) -> Any:
    """What `x.type(kind)` asks for: the dtype of a tensor type, or of its name, with a module or none; else itself."""
    if isinstance(kind, str):
        kind = TENSOR_TYPES.get(kind.rpartition(".")[2], kind)
    return kind.dtype if isinstance(kind, TensorType) else kind
