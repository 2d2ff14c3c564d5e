"""The old names of `amp` for the CPU.

In: what `amp.autocast` and `amp.GradScaler` take after the device. Out: the same. Next: `../amp/autocast_mode.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.amp import autocast_mode, grad_scaler
from flambeau.dialects.dtypes import DType, bfloat16


class autocast(autocast_mode.autocast):
    """`amp.autocast("cpu", ...)`."""

    def __new__(cls, enabled: bool = True, dtype: DType = bfloat16, cache_enabled: bool = True) -> Any:  # type: ignore[misc]
        return super().__new__(cls, "cpu", dtype, enabled, cache_enabled)


class GradScaler(grad_scaler.GradScaler):
    """`amp.GradScaler("cpu", ...)`."""

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        super().__init__("cpu", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
