"""Whether code that is being recorded may read values: not in the functions of `cond` and loops, nor in a model being exported.

In: `begin` and `end`, around what is recorded beside the trace. Out: `is_unread()`, for who can do without the value.
Next: `regions.py`.
"""

from __future__ import annotations

import threading

from flambeau.runtime import recorder


class _Depth(threading.local):
    regions = 0


_depth = _Depth()


def begin() -> None:
    """A function of an op with regions is being recorded by this thread."""
    _depth.regions += 1


def end() -> None:
    """It has been recorded."""
    _depth.regions -= 1


def is_unread() -> bool:
    """Whether this thread records what must not look at values."""
    return _depth.regions > 0 or recorder.capturing()
