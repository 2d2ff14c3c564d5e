"""The old names of `amp` for GPUs.

In: what `amp.autocast` and `amp.GradScaler` take after the device. Out: the same. Next: `../amp/autocast_mode.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from flambeau.amp import autocast_mode, grad_scaler
from flambeau.dialects.dtypes import DType, float16


class autocast(autocast_mode.autocast):
    """`amp.autocast("cuda", ...)`."""

    def __new__(cls, enabled: bool = True, dtype: DType = float16, cache_enabled: bool = True) -> Any:  # type: ignore[misc]
        return super().__new__(cls, "cuda", dtype, enabled, cache_enabled)


class GradScaler(grad_scaler.GradScaler):
    """`amp.GradScaler("cuda", ...)`."""

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)


def custom_fwd(fwd: Callable | None = None, *, cast_inputs: DType | None = None) -> Any:
    """`amp.custom_fwd` for GPUs."""
    if fwd is None:
        return partial(custom_fwd, cast_inputs=cast_inputs)
    return autocast_mode.custom_fwd(fwd, device_type="cuda", cast_inputs=cast_inputs)


def custom_bwd(bwd: Callable) -> Any:
    """`amp.custom_bwd` for GPUs."""
    return autocast_mode.custom_bwd(bwd, device_type="cuda")
