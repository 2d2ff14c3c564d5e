"""Who runs op by op and waits for something better, and what that has cost so far.

In: `OpList`s, which the recorder runs without Python, and the seconds spent in them. Out: their flag, set when there is reason to
ask; how much workers should hurry. Next: `one_op.py` and `driver.py`, whose plans are waited for; `workers/pool.py`, which hurries.
"""

from __future__ import annotations

import weakref
from typing import Any

from flambeau.dialects.locks import process_lock

_lock = process_lock()  # guards which lists wait for what


class Waiting:
    """The lists that wait for a program of so many ops. They are not kept alive. `tell` may be called on any thread."""

    def __init__(self, n_ops: int) -> None:
        self.seconds = 0.0  # spent doing without
        self._cost = cost(n_ops)
        self._lists: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # and what was counted of each

    def add(self, op_list: Any) -> None:
        with _lock:
            self._lists.setdefault(op_list, 0)

    def count(self) -> None:
        """Add the time spent in the lists since they were last counted."""
        with _lock:
            for op_list, before in list(self._lists.items()):
                self._lists[op_list] = spent = op_list.ns
                self.seconds += (spent - before) * 1e-9

    def heat(self) -> float:
        """How much of what compiling costs doing without has cost."""
        return self.seconds / self._cost

    def tell(self) -> None:
        """Before its next run, each list asks whoever made it for something better."""
        with _lock:
            lists = list(self._lists)
        for op_list in lists:
            op_list.is_stale = True


def cost(n_ops: int) -> float:
    """About how many seconds a worker takes for a program of so many ops, its own start included."""
    return 0.3 + 0.004 * n_ops
