"""Rotary position embeddings as a module.

In: queries or keys. Out: the same, turned by where they stand. Next: `functions/rotary.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.functions.rotary import rotary_embedding
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class RotaryEmbedding(Module):
    """`functional.rotary_embedding` of [..., length, dim]: no parameters. Su et al. (2021). (PyTorch has no such module.)

    Raises ValueError for an odd `dim`, and for a `base` that is not positive; RuntimeError for inputs of another size.
    """

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        if dim <= 0 or dim % 2:
            raise ValueError(f"[RotaryEmbedding] dim is {dim}. Pass a positive even number.")
        if not base > 0:
            raise ValueError(f"[RotaryEmbedding] base is {base}. Pass a positive number.")
        self.dim = dim
        self.base = base
        self.interleaved = interleaved

    def forward(self, input: Tensor, positions: Any = 0) -> Tensor:
        if input.ndim and input.shape[-1] != self.dim:
            raise RuntimeError(
                f"[RotaryEmbedding] input has shape {tuple(input.shape)}. Its last size must be {self.dim}."
            )
        return rotary_embedding(input, positions, self.base, self.interleaved)

    def extra_repr(self) -> str:
        return f"{self.dim}, base={self.base}, interleaved={self.interleaved}"
