"""`Tensor`, `LongTensor` and its kin as constructors: PyTorch's old way of making tensors, and of asking whether one is of a dtype.

In: sizes or data. Out: tensors. Besides `Tensor`, whose dtype is the default one, there is one of each dtype that has such classes,
called by its column `tensor` (`dialects/dtypes.py`). Next: `functions/create.py`.
"""

from __future__ import annotations

from types import NoneType
from typing import Any

from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType
from flambeau.functions import create, from_data
from flambeau.promotion import get_default_dtype
from flambeau.runtime.recorder import Size, Tensor


class TensorType(type):
    """The type of `LongTensor` and its kin, whose instances are the tensors of `dtype`."""

    dtype: DType

    def __instancecheck__(cls, found: object) -> bool:
        return isinstance(found, Tensor) and found.dtype is cls.dtype

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        return _constructed(cls.__name__, cls.dtype, args, device)


def _constructed(name: str, dtype: DType, args: tuple[Any, ...], device: Any) -> Tensor:
    if len(args) == 1 and isinstance(args[0], Tensor):
        return _same(name, dtype, args[0])
    if len(args) == 1 and isinstance(args[0], bool | float | complex | NoneType):
        raise TypeError(f"[{name}] {args[0]!r} is no size and no sequence. Use flambeau.tensor({args[0]!r}).")
    if len(args) == 1 and not isinstance(args[0], int | Size):
        return from_data.tensor(args[0], dtype=dtype, device=device)
    size = args[0] if args and isinstance(args[0], Size) else args or (0,)
    return create.empty(size, dtype=dtype, device=device)


def _same(name: str, dtype: DType, tensor: Tensor) -> Tensor:
    if tensor.dtype is not dtype:
        raise TypeError(f"[{name}] the tensor is of dtype {tensor.dtype.name}, not {dtype.name}. Use x.to({dtype!r}).")
    return tensor.view(tensor.shape)


def construct(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Tensor:
    """`Tensor(2, 3)`: an unset tensor of these sizes in the default dtype; `Tensor(data)`: one with a copy of `data`;
    `Tensor(tensor)`: on the memory of `tensor`. What inherits from `Tensor` makes one of its class.

    Raises TypeError for a tensor of another dtype, for a number that is no size, and for other keywords than `device`.
    """
    given = dict(kwargs or {})
    if unknown := given.keys() - {"device", "data"}:
        raise TypeError(f"[{cls.__name__}] there is no argument {min(unknown)!r}. It takes: data or sizes, device.")
    args += (given["data"],) if "data" in given else ()
    made = _constructed(cls.__name__, get_default_dtype(), args, given.get("device"))
    return made if cls is Tensor else made.detach().as_subclass(cls)


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
