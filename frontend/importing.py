"""Imports what the package is made of, in order, without work for Python's collector.

In: nothing. Out: loaded modules, and `settled`, by which others import more. Next: `hooks.py`, `operators.py`, `public.py`.
"""

import gc
from collections.abc import Callable
from importlib import import_module
from typing import Any

from flambeau.runtime._binding import uncollected


def settled(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, for one that makes many objects that stay, as imports do. The collector waits meanwhile, and what is there
    at the end counts as old: looking at all of it while it is young took a quarter of the time of our imports."""
    answer = uncollected(function, *args)
    if not gc.get_freeze_count():  # what a user has frozen stays so
        try:
            gc.freeze()
        finally:
            gc.unfreeze()  # to the oldest generation
    return answer


#: Tensors work from the first one on.
for _name in ("hooks", "operators", "public"):
    settled(import_module, f"flambeau.{_name}")
