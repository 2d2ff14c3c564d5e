"""The scope in which a thread asks about sizes.

In: scopes (`size_guards.Scope`), entered and left. Out: the innermost one. Sizes ask it what follows from no form. Next: `size.py`,
`size_guards.py`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flambeau.runtime.recorder import Context

if TYPE_CHECKING:
    from flambeau.dialects.size_guards import Scope


class _Local(threading.local):
    """What a thread has entered and not left."""

    def __init__(self) -> None:
        self.stack: list[within] = []


_local = _Local()


class within(Context):
    """Go on in a scope that was left."""

    def __init__(self, made: Scope) -> None:
        self.made = made

    def enter(self) -> Scope:
        _local.stack.append(self)
        return self.made

    def leave(self) -> None:
        stack = _local.stack
        if self in stack:
            del stack[stack.index(self) :]


def current() -> Scope | None:
    """The innermost scope of this thread."""
    stack = _local.stack
    return stack[-1].made if stack else None


def asking(what: str) -> Scope:
    found = current()
    if found is None:
        raise RuntimeError(f"[size] {what} of a size that is not known here. Ask inside `size_guards.scope(hints)`.")
    return found
