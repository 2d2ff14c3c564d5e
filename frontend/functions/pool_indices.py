"""`max_pool*d_with_indices` and `adaptive_max_pool*d_with_indices`: poolings that always say where the largest elements are.

In: what the poolings without this ending take. Out: (values, indices). Next: `fractional_pool.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.declarations import declare
from flambeau.functions.adaptive_pool import Target, _largest, _largest_samples
from flambeau.functions.pool import Numbers, _max_samples, max_pool1d, max_pool2d, max_pool3d
from flambeau.runtime.recorder import Tensor


def _of_windows(n: int, pooled: Callable[..., Any]) -> None:
    def call(
        input: Tensor,
        kernel_size: Numbers,
        stride: Numbers | None = None,
        padding: Numbers = 0,
        dilation: Numbers = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        return pooled(input, kernel_size, stride, padding, dilation, ceil_mode, True)

    call.__name__ = call.__qualname__ = f"max_pool{n}d_with_indices"
    call.__doc__ = f"`max_pool{n}d`, always with the indices."
    declare(call, call.__name__, free="nn.functional", samples=_max_samples(n))


def _adaptive(n: int) -> None:
    def call(input: Tensor, output_size: Target, return_indices: bool = False) -> Any:
        return _largest(n, input, output_size, True)

    call.__name__ = call.__qualname__ = f"adaptive_max_pool{n}d_with_indices"
    call.__doc__ = f"`adaptive_max_pool{n}d`, always with the indices."
    declare(call, call.__name__, free="nn.functional", samples=_largest_samples(n))


for _n, _function in enumerate((max_pool1d, max_pool2d, max_pool3d), 1):
    _of_windows(_n, _function)
    _adaptive(_n)
