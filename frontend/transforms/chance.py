"""Random decisions of transforms: numbers drawn on the host, where nothing is compiled.

In: a generator, the default one without: it follows `manual_seed`, and in a loader's worker from the worker's seed. Out: floats
in [0, 1). Next: `crop.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau import generator as generators
from flambeau.dialects.tape.source import philox
from flambeau.generator import Generator


def uniforms(n: int, generator: Generator | None = None) -> list[float]:
    """`n` numbers in [0, 1), of 32 bits."""
    seed, offset = (generator or generators.default_generator)._advance(n)
    words = philox(seed, np.arange(n, dtype=np.int64) + offset).view(np.uint32)
    return [float(word) * 2.0**-32 for word in words]


def below(bound: int, u: float) -> int:
    """One of 0 to `bound` - 1, by a number in [0, 1)."""
    return min(int(u * bound), bound - 1)
