"""A plug-in for Flambeau: the op `fma`, the function of that name, and the passes `drop-negations` and `divide-once`.

`ops.py`, `passes.py` and `groups.py` are found through entry points; users import `fma` from here.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`fma`, imported when asked for: the compiler's workers need the op and the pass only."""
    if name == "fma":
        from flambeau_example.functions import fma

        return fma
    raise AttributeError(f"module 'flambeau_example' has no attribute '{name}'")
