"""Embedding: rows of a table picked by index."""

from __future__ import annotations

from typing import Any

from flambeau.autograd import no_grad
from flambeau.declarations import declared
from flambeau.device import Device
from flambeau.functions import gathering
from flambeau.functions.create import empty
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, truth


def _refuse(op: str, max_norm: float | None, scale_grad_by_freq: bool, sparse: bool) -> None:
    """Say what cannot be honoured."""
    if max_norm is not None:
        raise NotImplementedError(
            f"[{op}] max_norm is {max_norm}: rows are not scaled at look-up. Use normalize or clip rows."
        )
    if scale_grad_by_freq:
        raise NotImplementedError(
            f"[{op}] scale_grad_by_freq is not there. Divide the loss terms by the counts instead."
        )
    if sparse:
        raise NotImplementedError(
            f"[{op}] sparse gradients are not there. Use sparse=False: only the rows met are added to."
        )


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(index(5, 2, 3), data(5, 4)),
            call(index(5, 2, 3), data(5, 4), padding_idx=1, gradient=False),
            call(truth(2), data(5, 4), error=(IndexError, "Convert it with .long()")),
        ]
    ),
)
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` [count, features] at the positions `input` (int64, any shape): [*input.shape, features].

    The row `padding_idx` gets no gradient. Raises IndexError for positions outside of 0..count-1 (when a value is read),
    NotImplementedError for `max_norm`, `scale_grad_by_freq` and `sparse`.
    """
    _refuse("embedding", max_norm, scale_grad_by_freq, sparse)
    return gathering.embedding(input, weight, padding_idx)


class Embedding(Module):
    """A table [num_embeddings, embedding_dim] of vectors, drawn from the normal distribution; the row `padding_idx` starts at 0
    and gets no gradient. Raises NotImplementedError for `max_norm`, `scale_grad_by_freq` and `sparse`."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _refuse("Embedding", max_norm, scale_grad_by_freq, sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.padding_idx = (
            None if padding_idx is None else gathering.padding_row("Embedding", padding_idx, num_embeddings)
        )
        self.weight = Parameter(empty(num_embeddings, embedding_dim, dtype=dtype, device=device))
        self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An embedding whose table is `embeddings` [count, features], not trained if `freeze`. Raises ValueError otherwise."""
        if embeddings.ndim != 2:
            raise ValueError(f"[from_pretrained] embeddings has shape {embeddings.shape}. Pass [count, features].")
        made = cls(
            embeddings.shape[0],
            embeddings.shape[1],
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            dtype=embeddings.dtype,
        )
        made.weight = Parameter(embeddings, requires_grad=not freeze)
        return made

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, input: Tensor) -> Tensor:
        return gathering.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
