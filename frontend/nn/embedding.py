"""Embedding and EmbeddingBag: rows of a table picked by index, and put together.

In: int64 positions. Out: rows. Formulas and errors are those of the functions. Next: `rnn.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.autograd import no_grad
from flambeau.declarations import declared
from flambeau.device import Device
from flambeau.functions import gathering
from flambeau.functions.bags import embedding_bag, limited, no_sparse
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
            call(index(5, 2, 3), data(5, 4), padding_idx=1, gradient=False),
            call(index(5, 2, 3), data(5, 4), max_norm=1.0, gradient=False),
            call(truth(2), data(5, 4), error=(RuntimeError, "Convert it with .long()")),
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

    The row `padding_idx` gets no gradient. Rows whose norm of `norm_type` is above `max_norm` are first scaled down to it, within
    `weight`. `scale_grad_by_freq`: gradients of a row are divided by how often it is picked. Raises IndexError for positions
    outside of 0..count-1 (when a value is read), RuntimeError for those of other dtypes, NotImplementedError for `sparse`.
    """
    no_sparse("embedding", sparse)
    limited(input, weight, max_norm, norm_type)
    return gathering.embedding(input, weight, padding_idx, bool(scale_grad_by_freq))


class _EmbeddingTable(Module):
    """What both have: a weight [num_embeddings, embedding_dim] that is given or drawn."""

    padding_idx: int | None

    def _made(self, weight: Tensor | None, is_frozen: bool, device: Device, dtype: Any) -> None:
        shape = self.num_embeddings, self.embedding_dim
        if weight is None:
            self.weight = Parameter(empty(*shape, dtype=dtype, device=device), requires_grad=not is_frozen)
            self.reset_parameters()
            return
        if tuple(weight.shape) != shape:
            raise ValueError(
                f"[{type(self).__name__}] _weight has shape {tuple(weight.shape)}, and sizes are {shape}. Make them equal."
            )
        self.weight = Parameter(weight, requires_grad=not is_frozen)

    def _padding(self, given: int | None) -> int | None:
        return None if given is None else gathering.padding_row(type(self).__name__, given, self.num_embeddings)

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def _repr_with(self, *unusual: tuple[str, Any, Any]) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text + "".join(f", {name}={found}" for name, found, usual in unusual if found != usual)


def _table(embeddings: Tensor) -> tuple[int, int]:
    """The sizes of a table that is given. Raises ValueError for what is none."""
    if embeddings.ndim != 2:
        raise ValueError(f"[from_pretrained] embeddings has shape {embeddings.shape}. Pass [count, features].")
    return embeddings.shape[0], embeddings.shape[1]


class Embedding(_EmbeddingTable):
    """A table [num_embeddings, embedding_dim] of vectors, drawn from the normal distribution; the row `padding_idx` starts at 0
    and gets no gradient. `max_norm` and such: see `nn.functional.embedding`. `_weight` is a table to take, which `_freeze` does not
    train. Raises NotImplementedError for `sparse`, ValueError for a table of other sizes."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        no_sparse("Embedding", sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.padding_idx = self._padding(padding_idx)
        self._made(_weight, _freeze, device, dtype)

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
        n, k = _table(embeddings)
        return cls(n, k, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)

    def extra_repr(self) -> str:
        return self._repr_with(
            ("padding_idx", self.padding_idx, None),
            ("max_norm", self.max_norm, None),
            ("norm_type", self.norm_type, 2),
            ("scale_grad_by_freq", self.scale_grad_by_freq, False),
        )


class EmbeddingBag(_EmbeddingTable):
    """A table [num_embeddings, embedding_dim] of vectors, drawn from the normal distribution; bags of its rows are put together
    by `mode`: see `nn.functional.embedding_bag`. Raises NotImplementedError for `sparse`, ValueError for a table of other sizes."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        no_sparse("EmbeddingBag", sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.mode, self.include_last_offset = mode, include_last_offset
        self.padding_idx = self._padding(padding_idx)
        self._made(_weight, False, device, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """An embedding bag whose table is `embeddings` [count, features], not trained if `freeze`. Raises ValueError otherwise."""
        n, k = _table(embeddings)
        made = cls(
            n, k, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings, include_last_offset, padding_idx
        )
        made.weight.requires_grad_(not freeze)
        return made

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            False,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        text = self._repr_with(
            ("max_norm", self.max_norm, None),
            ("norm_type", self.norm_type, 2),
            ("scale_grad_by_freq", self.scale_grad_by_freq, False),
        )
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{text}, mode={self.mode!r}{padding}"
