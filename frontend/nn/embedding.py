"""Embedding: rows of a table picked by index."""

from __future__ import annotations

from typing import Any

from flambeau.declarations import declared
from flambeau.device import Device
from flambeau.functions import gathering
from flambeau.functions.create import empty
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, truth


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(index(5, 2, 3), data(5, 4)),
            call(truth(2), data(5, 4), error=(IndexError, "Convert it with .long()")),
        ]
    ),
)
def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """Rows of `weight` [count, features] at the positions `input` (int64, any shape): [*input.shape, features].

    Raises IndexError for positions outside of 0..count-1 (when a value is read).
    """
    return gathering.embedding(input, weight)


class Embedding(Module):
    """A table [num_embeddings, embedding_dim] of vectors, drawn from the normal distribution."""

    def __init__(self, num_embeddings: int, embedding_dim: int, device: Device = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(empty(num_embeddings, embedding_dim, dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return gathering.embedding(input, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
