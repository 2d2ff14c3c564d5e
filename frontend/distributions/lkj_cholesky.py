"""LKJCholesky, over the Cholesky factors of correlation matrices.

In: a size and a concentration. Out: a distribution over lower triangular matrices. Next: `multivariate.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.autograd import no_grad
from flambeau.distributions import constraints
from flambeau.distributions.dirichlet import Beta
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.utils import broadcast_all, fb
from flambeau.runtime.recorder import Tensor


class LKJCholesky(Distribution):
    """Factors [dim, dim] of correlation matrices R whose density is proportional to det(R)**(concentration - 1) (Lewandowski,
    Kurowicka and Joe, 2009). A concentration of 1 is uniform over them."""

    arg_constraints: ClassVar[Any] = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Tensor | float = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"[LKJCholesky] dim is {dim}. Use at least 2.")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = self._instance_of(_instance)
        new.dim = self.dim
        return super().expand(batch_shape, new)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """The onion method: row i is a direction of i numbers, of squared length y of Beta(i / 2, concentration + (dim - 1 - i) /
        2), and sqrt(1 - y) on the diagonal."""
        like, shape = self.concentration, tuple(self._extended_shape(sample_shape))
        with no_grad():
            rows = fb.arange(1, self.dim, dtype=like.dtype, device=like.device)
            share = Beta(rows / 2, like.unsqueeze(-1) + (self.dim - 1 - rows) / 2, validate_args=False)
            y = fb.nn.functional.pad(share.sample(sample_shape), (1, 0))
            directions = fb.randn(shape, dtype=like.dtype, device=like.device).tril(-1)
            length = directions.square().sum(-1, True).sqrt().clamp(fb.finfo(like.dtype).tiny, None)
            diagonal = (1 - y).clamp(fb.finfo(like.dtype).tiny, None).sqrt()
            return y.sqrt().unsqueeze(-1) * directions / length + diagonal.diag_embed()

    def log_prob(self, value: Tensor) -> Tensor:
        diagonal = self._checked(value).diagonal(dim1=-2, dim2=-1)[..., 1:]
        count, a = self.dim - 1, self.concentration + 0.5 * (self.dim - 1)
        rows = fb.arange(2, self.dim + 1, dtype=diagonal.dtype, device=diagonal.device)
        powers = 2 * (self.concentration.unsqueeze(-1) - 1) + self.dim - rows
        normalizer = 0.5 * count * math.log(math.pi) + fb.mvlgamma(a - 0.5, count) - count * a.lgamma()
        return (powers * diagonal.log()).sum(-1) - normalizer
