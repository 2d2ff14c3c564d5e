"""Interrupts that wait until something is done: a child with its pipes, files that have just arrived.

In: a few lines that must not be left halfway. Out: the same, and the interrupt right behind them. Blocking SIGINT in this thread
is not enough: the kernel gives it to another one (a pool's, OpenBLAS's), and Python takes it here all the same. So Python's
handler is replaced meanwhile, too. Next: `processes.py`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Take no interrupt until the end of the block; one that came is taken there. A child that is forked within ignores them until
    it unblocks SIGINT (`worker.main`)."""
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    # None: a handler that Python does not know and could not put back. Other threads take no interrupts.
    replaced = handler is not None and threading.current_thread() is threading.main_thread()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        if replaced:
            signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if replaced:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)
