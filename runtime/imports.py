"""Imports that leave Python's collector no work.

In: names of modules. Out: modules; `settled`, for other work that makes many objects that stay. Used by the frontend for the
package itself, and for the compiler. Next: `binding/module.c`, `uncollected`.
"""

from __future__ import annotations

import gc
import sys
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


def imported(name: str) -> Any:
    """A module, `settled` where this imports it."""
    if name in sys.modules:
        return import_module(name)  # another thread may have begun to
    return settled(import_module, name)
