"""`DataParallel` and `data_parallel`: a module on several devices, of which there is one here, so that calls pass through.

In: a module. Out: the same, under the name `module`, as state dicts of PyTorch's have it. Next: `loss.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.nn.module import Module


def _check(device_ids: Sequence[Any] | None) -> None:
    if device_ids is not None and len(device_ids) > 1:
        raise RuntimeError(f"[DataParallel] device_ids are {list(device_ids)}. Give one device: batches are not split.")


class DataParallel(Module):
    """`module`, called as it is. Raises RuntimeError for more than one device."""

    def __init__(
        self, module: Any, device_ids: Sequence[Any] | None = None, output_device: Any = None, dim: int = 0
    ) -> None:
        super().__init__()
        _check(device_ids)
        self.module, self.dim = module, dim
        self.device_ids = [] if device_ids is None else list(device_ids)
        self.output_device = output_device

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(
    module: Any,
    inputs: Any,
    device_ids: Sequence[Any] | None = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: dict[str, Any] | None = None,
) -> Any:
    """`module(*inputs, **module_kwargs)`; `inputs` may be one that is no tuple. Raises RuntimeError for more than one device."""
    _check(device_ids)
    return module(*(inputs if isinstance(inputs, tuple) else (inputs,)), **(module_kwargs or {}))
