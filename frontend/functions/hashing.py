"""hash_tensor: one number for many elements, which changes when one of them does.

In: tensors of any dtype but complex ones. Out: uint64. Next: `reduce.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.dtypes import float64, int64, uint64
from flambeau.functions.assemble import cat
from flambeau.functions.common import canonical_dims
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, points


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(points(), gradient=False),
            call(data(3, 5), gradient=False),
            call(data(2, 3, 4), (0, -1), keepdim=True, gradient=False),
            call(index(9, 7), gradient=False),
            call(data(0, 2), 0, gradient=False),
            call(data(2), mode=1, error=(RuntimeError, "mode is 1")),
        ]
    ),
)
def hash_tensor(input: Tensor, dim: Any = (), *, keepdim: bool = False, mode: int = 0) -> Tensor:
    """The bits of the elements over `dim` (an int, a tuple, or () for all), widened to float64 or int64, folded by exclusive or
    into one uint64 each; 0 of nothing. `mode` must be 0. Raises RuntimeError for another mode and for complex numbers."""
    if mode != 0:
        raise RuntimeError(f"[hash_tensor] mode is {mode!r}. Use 0.")
    if input.dtype.is_complex:
        raise RuntimeError(f"[hash_tensor] {input.dtype.name} has no bits to fold. Use view_as_real(x).")
    rank = input.ndim
    dims = canonical_dims("hash_tensor", dim, rank)
    wide = input.detach().to(float64 if input.dtype.is_floating_point else int64)
    kept = tuple(1 if d in dims else n for d, n in enumerate(input.shape))
    others = [d for d in range(rank) if d not in dims]
    count = math.prod(input.shape[d] for d in dims)
    bits = wide.permute((*dims, *others)).reshape((count, *(input.shape[d] for d in others))).clone().view(uint64)
    while count > 1:
        half = count // 2
        folded, rest = bits[:half] ^ bits[half : 2 * half], bits[2 * half :]
        bits = cat([folded, rest]) if count % 2 else folded
        count -= half
    found = bits[0] if count else bits.new_zeros([input.shape[d] for d in others])
    return found.reshape(kept) if keepdim else found
