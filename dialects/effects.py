"""Effects: what a program does besides giving results, written down while it runs and carried out when it has succeeded.

In: the reference of `host_call`, on whatever tier. Out: what was noted inside `collecting`, in order. So an effect happens
once, also where a run fails and is repeated op by op. Next: `tape/host.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

#: A call's number and the bytes of each of its operands.
Noted = tuple[int, tuple[bytes, ...]]


class _Sinks(threading.local):
    def __init__(self) -> None:
        self.found: list[list[Noted]] = []


_sinks = _Sinks()


@contextmanager
def collecting(sink: list[Noted] | None) -> Iterator[None]:
    """Note in `sink` what is done inside; None: nobody is interested."""
    _sinks.found.append([] if sink is None else sink)
    try:
        yield
    finally:
        _sinks.found.pop()


def note(number: int, operands: tuple[np.ndarray, ...]) -> None:
    """An effect, if somebody collects them."""
    if _sinks.found:
        _sinks.found[-1].append((number, tuple([np.ascontiguousarray(x).tobytes() for x in operands])))
