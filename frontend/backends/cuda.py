"""`backends.cuda`: GPUs are reached through their driver alone. Switches can be set and change nothing: products are exact to the
dtype always, and attention is compiled as any other operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Products:
    """Switches of products of matrices."""

    allow_tf32 = False
    allow_fp16_reduced_precision_reduction = False
    allow_bf16_reduced_precision_reduction = False
    fp32_precision = "ieee"


matmul = _Products()
_kinds = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True}


def is_built() -> bool:
    """False: there is no toolkit in the package."""
    return False


def _switch(kind: str) -> tuple[Any, Any]:
    def is_enabled() -> bool:
        return _kinds[kind]

    def enable(enabled: bool) -> None:
        _kinds[kind] = bool(enabled)

    return is_enabled, enable


flash_sdp_enabled, enable_flash_sdp = _switch("flash")
mem_efficient_sdp_enabled, enable_mem_efficient_sdp = _switch("mem_efficient")
math_sdp_enabled, enable_math_sdp = _switch("math")
cudnn_sdp_enabled, enable_cudnn_sdp = _switch("cudnn")


@contextmanager
def sdp_kernel(**switches: Any) -> Iterator[None]:
    """A block in which attention would be computed in another way."""
    yield
