"""What PyTorch programs ask or set for the whole process: deterministic algorithms, precision of products, compile, default device.

In: switches. Out: what they are. Results are deterministic and exact to the dtype always, so most of them change nothing.
Next: `declarations.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.declarations import Unsampled, declared
from flambeau.device import CPU, Device, device
from flambeau.dialects.dtypes import DType
from flambeau.functions.storage import UntypedStorage
from flambeau.promotion import set_default_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data
from flambeau.tensor_types import dtype_of

_SWITCH = Unsampled("of the process, not of tensors")
_set: dict[str, Any] = {"deterministic": False, "warn_only": False, "precision": "highest", "warn": False, "interop": 1}


@declared(free="flambeau", samples=Unsampled("returns the function or module that it is given"))
def compile(model: Any = None, **options: Any) -> Any:
    """`model`: everything is compiled already, whatever the options say. Without one, a decorator."""
    return _itself if model is None else model


def _itself(model: Callable) -> Callable:
    return model


# ---- determinism and precision ----------------------------------------------------------------------------


@declared(free="flambeau", samples=_SWITCH)
def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Remembered, and nothing else: every algorithm is deterministic."""
    _set.update(deterministic=bool(mode), warn_only=bool(warn_only))


@declared(free="flambeau", samples=_SWITCH)
def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` said; every algorithm is deterministic anyway."""
    return _set["deterministic"]


@declared(free="flambeau", samples=_SWITCH)
def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """What `use_deterministic_algorithms` said."""
    return _set["warn_only"]


_DEBUG_MODES = ("default", "warn", "error")


@declared(free="flambeau", samples=_SWITCH)
def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """As `use_deterministic_algorithms`: "default" or 0, "warn" or 1, "error" or 2. Raises RuntimeError for others."""
    known = debug_mode in _DEBUG_MODES or (type(debug_mode) is int and debug_mode in range(3))
    if not known:
        raise RuntimeError(f"[set_deterministic_debug_mode] {debug_mode!r} is no mode. Use {', '.join(_DEBUG_MODES)}.")
    level = debug_mode if isinstance(debug_mode, int) else _DEBUG_MODES.index(debug_mode)
    use_deterministic_algorithms(level > 0, warn_only=level == 1)


@declared(free="flambeau", samples=_SWITCH)
def get_deterministic_debug_mode() -> int:
    """0, 1 or 2: what was said to be done about algorithms that are not deterministic, of which there are none."""
    return 0 if not _set["deterministic"] else 1 if _set["warn_only"] else 2


@declared(free="flambeau", samples=_SWITCH)
def set_float32_matmul_precision(precision: str) -> None:
    """Remembered, and nothing else: products are computed in their dtype. Raises RuntimeError for other words than "highest",
    "high" and "medium"."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(
            f"[set_float32_matmul_precision] {precision!r} is unknown. Use 'highest', 'high' or 'medium'."
        )
    _set["precision"] = precision


@declared(free="flambeau", samples=_SWITCH)
def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` said."""
    return _set["precision"]


@declared(free="flambeau", samples=_SWITCH)
def set_warn_always(b: bool, /) -> None:
    """Remembered, and nothing else: Python's filters say how often a warning shows."""
    _set["warn"] = bool(b)


@declared(free="flambeau", samples=_SWITCH)
def is_warn_always_enabled() -> bool:
    """What `set_warn_always` said."""
    return _set["warn"]


@declared(free="flambeau", samples=_SWITCH)
def set_num_interop_threads(num: int) -> None:
    """Remembered, and nothing else: `set_num_threads` says how many threads compute."""
    _set["interop"] = num.__index__()


@declared(free="flambeau", samples=_SWITCH)
def get_num_interop_threads() -> int:
    """What `set_num_interop_threads` said."""
    return _set["interop"]


@declared(free="flambeau", samples=_SWITCH)
def set_flush_denormal(mode: bool) -> bool:
    """False: small numbers are never flushed to zero."""
    return False


# ---- defaults ---------------------------------------------------------------------------------------------


@declared(free="flambeau", samples=_SWITCH)
def set_default_device(device: Device) -> None:
    """Takes the CPU, which is the default. Raises NotImplementedError for others: say `device=` where tensors are made."""
    if device is not None and _device(device) != CPU:
        raise NotImplementedError(
            f"[set_default_device] tensors are made on the CPU. Pass device='{device}' where one is made."
        )


_device = device


@declared(free="flambeau", samples=_SWITCH)
def set_default_tensor_type(t: Any) -> None:
    """`set_default_dtype` to that of a tensor type, such as `DoubleTensor` or its name. Raises TypeError for others."""
    wanted = dtype_of(t)
    if not isinstance(wanted, DType):
        raise TypeError(f"[set_default_tensor_type] {t!r} is no tensor type. Use one such as flambeau.DoubleTensor.")
    set_default_dtype(wanted)


# ---- what things are --------------------------------------------------------------------------------------


@declared(free="flambeau", samples=Unsampled("takes anything"))
def typename(obj: Any, /) -> str:
    """The name of an object's type, with its module; of a tensor the one that `type()` gives."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if isinstance(obj, type) else type(obj)
    name = kind.__qualname__
    return name if kind.__module__ in ("", "builtins") else f"{kind.__module__}.{name}"


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(1)), call(data()), call(data(2), error=(RuntimeError, "2 elements"))]),
)
def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not zero. Raises RuntimeError for other than one element."""
    if input.numel() != 1:
        raise RuntimeError(f"[is_nonzero] the tensor has {input.numel()} elements. Pass one of one element.")
    return bool(input)


@declared(free="flambeau", samples=Unsampled("takes anything, and says whether it is a storage"))
def is_storage(obj: Any, /) -> bool:
    """Whether `obj` is what `Tensor.untyped_storage` gives."""
    return isinstance(obj, UntypedStorage)


@declared(free="flambeau", method=True, samples=calls(lambda: [call(data(2))]))
def is_inference(input: Tensor) -> bool:
    """False: tensors made in `inference_mode` are like others."""
    return False


@declared(free="flambeau", samples=Unsampled("of numbers"))
def sym_int(a: Any) -> int:
    """`int(a)`."""
    return int(a)


@declared(free="flambeau", samples=Unsampled("of numbers"))
def sym_float(a: Any) -> float:
    """`float(a)`."""
    return float(a)


@declared(free="flambeau", samples=Unsampled("of numbers"))
def sym_max(a: Any, b: Any) -> Any:
    """The larger of two numbers."""
    return max(a, b)


@declared(free="flambeau", samples=Unsampled("of numbers"))
def sym_min(a: Any, b: Any) -> Any:
    """The smaller of two numbers."""
    return min(a, b)


@declared(free="flambeau", samples=Unsampled("of numbers"))
def sym_not(a: Any) -> bool:
    """`not a`."""
    return not a


@declared(free="flambeau", samples=Unsampled("of numbers"))
def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """`t if b else f`."""
    return t if b else f
