"""Locks of the process: reentrant, and free again in a forked child.

In: nothing. Out: `process_lock`. A finalizer that Python runs in the middle of a guarded section may need the section itself;
and the thread that holds a lock does not exist in a forked child. Next: `compiler/baseline/op_plans.py`, a user.
"""

from __future__ import annotations

import os
import threading
from typing import Any


def process_lock() -> Any:
    """A new lock, for `with`."""
    made: Any = threading.RLock()
    os.register_at_fork(after_in_child=made._at_fork_reinit)
    return made
