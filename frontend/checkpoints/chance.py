"""The state of all random numbers that a training may draw: ours, NumPy's and Python's.

In: nothing. Out: what files can hold; and back. Next: `manager.py`.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from flambeau.functions.from_data import tensor
from flambeau.generator import default_generator


def state() -> dict[str, Any]:
    """The states now."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # type: ignore[misc]
    version, words, gauss_next = random.getstate()
    return {
        "flambeau": default_generator.get_state(),
        "numpy": [str(name), tensor(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, tensor(np.array(words, np.int64)), gauss_next],
    }


def restore(saved: dict[str, Any]) -> None:
    """Go on as at the time when `state` was called."""
    default_generator.set_state(saved["flambeau"])
    name, keys, *rest = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, words, gauss_next = saved["python"]
    random.setstate((version, tuple(words.tolist()), gauss_next))
