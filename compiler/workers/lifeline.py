"""Processes that end with the one that started them, whatever they are running.

In: the id of the process to end with. The kernel sends SIGKILL where it can (Linux), so that code which never looks up
ends as well; elsewhere a thread looks once a second. A forked child ends with the process that forked it. Next:
`worker.py` and `opt.py`, the users.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_parent = 0  # of a child about to be forked; 0 where there is nobody to end with


def die_with(parent: int) -> None:
    """End this process when `parent`, which must be its parent, ends: at once if that has happened. On Linux it is the
    thread that started this process whose end counts."""
    if not _ask_kernel():
        threading.Thread(target=_look, args=(parent,), name="flambeau-lifeline", daemon=True).start()
    if os.getppid() != parent:  # it ended before we could ask
        _end()
    if not _parent:
        os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
    _before_fork()


def _ask_kernel() -> bool:
    """Whether the kernel will send SIGKILL to this process when its parent ends."""
    if sys.platform != "linux":
        return False
    try:
        return ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_fork() -> None:
    global _parent
    _parent = os.getpid()


def _after_fork() -> None:
    die_with(_parent)
