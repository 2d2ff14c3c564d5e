"""Gated linear units as modules.

In: a tensor. Out: half of one dimension, times a function of the other half. Next: `functions/gated.py`.
"""

from __future__ import annotations

from flambeau.functions import gated
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class GLU(Module):
    """The first half along `dim` times the sigmoid of the second one."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return gated.glu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class SwiGLU(GLU):
    """The first half along `dim` times silu of the second one. (PyTorch has no such module.)"""

    def forward(self, input: Tensor) -> Tensor:
        return gated.swiglu(input, self.dim)


class GeGLU(GLU):
    """The first half along `dim` times gelu of the second one. (PyTorch has no such module.)"""

    def __init__(self, dim: int = -1, approximate: str = "none") -> None:
        super().__init__(dim)
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return gated.geglu(input, self.dim, self.approximate)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, approximate={self.approximate!r}"
