"""`autocast`, and what is asked and said of it: `is_autocast_enabled`, `get_autocast_dtype`, ...

In: a type of device and a dtype. Out: bits of the thread's mode, which `autocasting.py` reads where calls are expanded. Next:
`grad_scaler.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any

import numpy as np
from flambeau import cuda
from flambeau.autocasting import DEVICES, UNCACHED, Bits
from flambeau.autograd.grad_mode import decorated
from flambeau.declarations import Unsampled, declared
from flambeau.device import TYPES
from flambeau.dialects.dtypes import DType, float64
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_OF_MODE = Unsampled("of the thread's mode, not of tensors")


def is_autocast_available(device_type: str) -> bool:
    """Whether there is autocast for a type of device: for "cpu" and "cuda"."""
    return device_type in DEVICES


def _bits(op: str, device_type: Any) -> Bits:
    if not isinstance(device_type, str):
        raise ValueError(f"[{op}] device_type is a {type(device_type).__name__}. Pass 'cpu' or 'cuda'.")
    if device_type not in DEVICES:
        raise RuntimeError(f"[{op}] there is no autocast for device_type '{device_type}'. Use 'cpu' or 'cuda'.")
    return DEVICES[device_type]


def _is_possible(device_type: str, dtype: DType, bits: Bits) -> bool:
    """Whether autocast can be on; a warning says why it is not."""
    if dtype not in (bits.usual_dtype, bits.unusual_dtype):
        warnings.warn(
            f"[autocast] on '{device_type}' the dtypes are bfloat16 and float16, not {dtype}: it stays off.",
            stacklevel=4,
        )
        return False
    if device_type == "cuda" and not cuda.is_available():
        warnings.warn("[autocast] there is no GPU: autocast('cuda') stays off.", stacklevel=4)
        return False
    return True


class autocast(recorder.ModeScope):
    """`with autocast("cpu"):`, or as a decorator: within the block, or the function, products are computed in `dtype` (bfloat16 on
    the CPU, float16 on GPUs, unless given), losses and what else needs it in float32, all else in the dtype that it has. float64
    stays as it is. `enabled=False` turns it off within. It belongs to a thread.

    `cache_enabled` changes nothing: a weight is converted once in any case. Warns, and stays off, for other dtypes, and for GPUs
    where there are none. Raises RuntimeError for other types of devices.
    """

    device: str
    fast_dtype: DType

    def __new__(
        cls, device_type: str, dtype: DType | None = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> autocast:
        bits, mode = _bits("autocast", device_type), recorder.get_mode()
        chosen = bits.dtype(mode) if dtype is None else dtype
        is_on = bool(enabled) and _is_possible(device_type, chosen, bits)
        is_cached = not mode & UNCACHED if cache_enabled is None else cache_enabled
        wanted = (bits.enabled if is_on else 0) | (bits.unusual if chosen is bits.unusual_dtype else 0)
        made = super().__new__(cls, bits.enabled | bits.unusual | UNCACHED, wanted | (0 if is_cached else UNCACHED))
        made.device, made.fast_dtype, made._enabled, made._cache_enabled = device_type, chosen, is_on, is_cached  # type: ignore[attr-defined]
        return made

    def __call__(self, func: Callable) -> Callable:
        again = partial(autocast, self.device, self.fast_dtype, self._enabled, self._cache_enabled)  # type: ignore[attr-defined]
        return decorated("autocast", func, again)


# ---- asking and setting -----------------------------------------------------------------------------------


def _set(mask: int, bits: int) -> None:
    recorder.set_mode((recorder.get_mode() & ~mask) | bits)


@declared(free="flambeau", samples=_OF_MODE)
def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Whether autocast is on for a type of device ("cuda", if that is left out). It never is for those that cannot be there."""
    if device_type in TYPES and device_type not in DEVICES:
        return False
    return bool(recorder.get_mode() & _bits("is_autocast_enabled", device_type or "cuda").enabled)


@declared(free="flambeau", samples=_OF_MODE)
def is_autocast_cpu_enabled() -> bool:
    """Whether autocast is on for the CPU."""
    return is_autocast_enabled("cpu")


@declared(free="flambeau", samples=_OF_MODE)
def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Turn autocast on or off for a type of device; `set_autocast_enabled(enabled)` is for GPUs."""
    if enabled is None:
        device_type, enabled = "cuda", device_type
    bits = _bits("set_autocast_enabled", device_type)
    _set(bits.enabled, bits.enabled if enabled else 0)


@declared(free="flambeau", samples=_OF_MODE)
def set_autocast_cpu_enabled(enabled: bool) -> None:
    """Turn autocast on or off for the CPU."""
    set_autocast_enabled("cpu", enabled)


@declared(free="flambeau", samples=_OF_MODE)
def get_autocast_dtype(device_type: str) -> DType:
    """The dtype that autocast converts to on a type of device."""
    return _bits("get_autocast_dtype", device_type).dtype(recorder.get_mode())


@declared(free="flambeau", samples=_OF_MODE)
def get_autocast_cpu_dtype() -> DType:
    """The dtype that autocast converts to on the CPU."""
    return get_autocast_dtype("cpu")


@declared(free="flambeau", samples=_OF_MODE)
def get_autocast_gpu_dtype() -> DType:
    """The dtype that autocast converts to on GPUs."""
    return get_autocast_dtype("cuda")


@declared(free="flambeau", samples=_OF_MODE)
def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Set the dtype that autocast converts to on a type of device: bfloat16 or float16. Raises TypeError for others."""
    bits = _bits("set_autocast_dtype", device_type)
    if dtype not in (bits.usual_dtype, bits.unusual_dtype):
        raise TypeError(f"[set_autocast_dtype] dtype is {dtype}. Use bfloat16 or float16.")
    _set(bits.unusual, bits.unusual if dtype is bits.unusual_dtype else 0)


@declared(free="flambeau", samples=_OF_MODE)
def set_autocast_cpu_dtype(dtype: DType) -> None:
    """Set the dtype that autocast converts to on the CPU."""
    set_autocast_dtype("cpu", dtype)


@declared(free="flambeau", samples=_OF_MODE)
def set_autocast_gpu_dtype(dtype: DType) -> None:
    """Set the dtype that autocast converts to on GPUs."""
    set_autocast_dtype("cuda", dtype)


@declared(free="flambeau", samples=_OF_MODE)
def is_autocast_cache_enabled() -> bool:
    """What was said last of the cache of converted weights, which changes nothing."""
    return not recorder.get_mode() & UNCACHED


@declared(free="flambeau", samples=_OF_MODE)
def set_autocast_cache_enabled(enabled: bool) -> None:
    """Remembered for `is_autocast_cache_enabled`."""
    _set(UNCACHED, 0 if enabled else UNCACHED)


@declared(free="flambeau", samples=_OF_MODE)
def clear_autocast_cache() -> None:
    """Nothing: there is no cache to clear."""


# ---- functions with gradients of their own ----------------------------------------------------------------


def _cast(value: Any, device_type: str, dtype: DType) -> Any:
    if isinstance(value, Tensor):
        fits = value.is_floating_point() and value.device.type == device_type and value.dtype is not float64
        return value.to(dtype) if fits else value
    if isinstance(value, str | bytes | np.ndarray):
        return value
    if isinstance(value, Mapping):
        return {k: _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cast(v, device_type, dtype) for v in value)
    return (_cast(v, device_type, dtype) for v in value) if isinstance(value, Iterable) else value


def custom_fwd(fwd: Callable | None = None, *, device_type: str, cast_inputs: DType | None = None) -> Any:
    """A decorator of the `forward` of an `autograd.Function`: with `cast_inputs` it gets its tensors in that dtype and runs without
    autocast, where that is on."""
    _bits("custom_fwd", device_type)
    if fwd is None:
        return partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @wraps(fwd)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        is_on = is_autocast_enabled(device_type)
        args[0]._dtype = get_autocast_dtype(device_type)
        args[0]._fwd_used_autocast = is_on and cast_inputs is None
        if not is_on or cast_inputs is None:
            return fwd(*args, **kwargs)
        with autocast(device_type, enabled=False):
            given = _cast(args[1:], device_type, cast_inputs)
            return fwd(args[0], *given, **_cast(kwargs, device_type, cast_inputs))

    return wrapper


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Any:
    """A decorator of the `backward` of an `autograd.Function`, which then runs with autocast as its `forward` did."""
    _bits("custom_bwd", device_type)
    if bwd is None:
        return partial(custom_bwd, device_type=device_type)

    @wraps(bwd)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, args[0]._dtype, args[0]._fwd_used_autocast):
            return bwd(*args, **kwargs)

    return wrapper
