"""FractionalMaxPool2d and FractionalMaxPool3d.

In: [(batch,) channels, spatial...]. Out: the largest element of each window. Formulas and errors are those of
`functions/fractional_pool.py`. Next: `embedding.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flambeau.functions import fractional_pool
from flambeau.functions.common import repeated
from flambeau.functions.fractional_pool import Ratio
from flambeau.functions.pool import Numbers
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class _FractionalMaxPool(Module):
    _rank: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Numbers,
        output_size: Numbers | None = None,
        output_ratio: Ratio | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        name, rank = type(self).__name__, self._rank
        if (output_size is None) == (output_ratio is None):
            found = "both are given" if output_size is not None else "neither is given"
            raise ValueError(f"[{name}] of output_size and output_ratio {found}. Give one of them.")
        self.kernel_size, self.return_indices = repeated(kernel_size, rank), return_indices
        self.output_size = None if output_size is None else repeated(output_size, rank)
        self.output_ratio = None if output_ratio is None else repeated(output_ratio, rank)
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"[{name}] output_ratio is {output_ratio}. Use numbers between 0 and 1.")
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """`fractional_max_pool2d`. Raises ValueError unless one of `output_size` and `output_ratio` (from 0 to 1) is given."""

    _rank, _function = 2, fractional_pool.fractional_max_pool2d


class FractionalMaxPool3d(_FractionalMaxPool):
    """`fractional_max_pool3d`. Raises ValueError unless one of `output_size` and `output_ratio` (from 0 to 1) is given."""

    _rank, _function = 3, fractional_pool.fractional_max_pool3d
