"""AdaptiveLogSoftmaxWithLoss: a softmax over many classes, rare ones in clusters of their own.

In: features and classes. Out: log-probabilities and their mean, negated. Next: `lazy.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from flambeau.device import Device
from flambeau.functions.activation import log_softmax
from flambeau.functions.assemble import cat
from flambeau.functions.choose import where
from flambeau.nn.container import ModuleList, Sequential
from flambeau.nn.linear import Linear
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class ASMoutput(NamedTuple):
    """What the module returns: the log-probability of each target, and the mean of these, negated."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of `n_classes` classes, sorted from frequent to rare: those below the first of `cutoffs` have outputs of
    their own, those from each cutoff to the next share one, and are told apart by a smaller layer, of `in_features` divided by a
    power of `div_value`. Grave and others, "Efficient softmax approximation for GPUs" (2017).

    All clusters are computed for every row, and the right one is chosen: which ones a batch needs would have to be read first.
    Raises ValueError for cutoffs that do not rise from 1 to below `n_classes`.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        given = list(cutoffs)
        fits = bool(given) and all(int(c) == c and 0 < c < n_classes for c in given)
        if not fits or any(a >= b for a, b in pairwise(given)):
            raise ValueError(
                f"[AdaptiveLogSoftmaxWithLoss] cutoffs are {given}. Give rising ints from 1 to {n_classes - 1}, one at least."
            )
        self.in_features, self.n_classes, self.div_value, self.head_bias = in_features, n_classes, div_value, head_bias
        self.cutoffs = [*given, n_classes]
        self.shortlist_size, self.n_clusters = given[0], len(given)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for k in range(self.n_clusters):
            inner, outer = int(in_features // (div_value ** (k + 1))), self.cutoffs[k + 1] - self.cutoffs[k]
            layers = Linear(in_features, inner, False, device, dtype), Linear(inner, outer, False, device, dtype)
            self.tail.append(Sequential(*layers))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.head.reset_parameters()
        for layers in self.tail:
            for layer in layers.children():
                layer.reset_parameters()

    def _check(self, input: Tensor, target: Tensor) -> None:
        wanted = {0: (1, "[features]"), 1: (2, "[N, features]")}
        rank, text = wanted.get(target.ndim, (None, ""))
        if rank is None:
            raise RuntimeError(f"[AdaptiveLogSoftmaxWithLoss] target has {target.ndim} dimensions. Pass [N], or 0-d.")
        if input.ndim != rank or (rank == 2 and input.shape[0] != target.shape[0]):
            raise RuntimeError(
                f"[AdaptiveLogSoftmaxWithLoss] input has shape {tuple(input.shape)}, target {tuple(target.shape)}. Pass {text}."
            )

    def forward(self, input: Tensor, target: Tensor) -> ASMoutput:
        """(log-probabilities of the targets [N], their mean negated) of features [N, in_features] and classes [N]; or of one
        row and one class. Raises RuntimeError for shapes that do not fit, IndexError for other classes (when a value is read)."""
        self._check(input, target)
        x = input if target.ndim else input.unsqueeze(0)
        y = target if target.ndim else target.unsqueeze(0)
        found = self.log_prob_of(x, y)
        output = found if target.ndim else found.squeeze(0)
        return ASMoutput(output, (-found).mean())

    def log_prob_of(self, x: Tensor, y: Tensor) -> Tensor:
        """[N]: the log-probability of each class."""
        head = log_softmax(self.head(x), 1)
        column, tail = y, None
        for k, (low, high) in enumerate(pairwise(self.cutoffs)):
            is_here = (y >= low) & (y < high)
            column = where(is_here, self.shortlist_size + k, column)
            inner = log_softmax(self.tail[k](x), 1).gather(1, (y - low).clamp(0, high - low - 1).unsqueeze(1))
            part = where(is_here, inner.squeeze(1), 0.0)
            tail = part if tail is None else tail + part
        # A class that there is not stays what it is, or becomes a place that there is not.
        column = where(y >= self.n_classes, self.head_size, column)
        found = head.gather(1, column.unsqueeze(1)).squeeze(1)
        return found if tail is None else found + tail

    def log_prob(self, input: Tensor) -> Tensor:
        """[N, n_classes]: the log-probabilities of all classes."""
        head = log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for k, layers in enumerate(self.tail):
            place = self.shortlist_size + k
            parts.append(log_softmax(layers(input), 1) + head[:, place : place + 1])
        return cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """[N]: the most probable class of each row."""
        return self.log_prob(input).argmax(1)
