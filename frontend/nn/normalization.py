"""LayerNorm, and what layers with a learned scale and shift share.

In: a tensor. Out: the same shape. Next: `batch_norm.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.device import Device
from flambeau.functions.create import empty
from flambeau.functions.normalize import layer_norm
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor


class _Scaled(Module):
    """What layers with a learned scale and shift share; a layer may have no shift at all."""

    def _learned(self, shape: Any, device: Device, dtype: Any, **wanted: bool) -> None:
        """Register each parameter, or None in its place."""
        for name, is_there in wanted.items():
            made = Parameter(empty(shape, dtype=dtype, device=device)) if is_there else None
            self.register_parameter(name, made)

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if getattr(self, "bias", None) is not None:
            init.zeros_(self.bias)


class LayerNorm(_Scaled):
    """Mean 0 and variance 1 over the last dimensions, which have `normalized_shape`; then a learned scale and shift."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-05,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        affine = elementwise_affine
        self._learned(self.normalized_shape, device, dtype, weight=affine, bias=affine and bias)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine, bias = self.elementwise_affine, self.bias is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}, bias={bias}"
