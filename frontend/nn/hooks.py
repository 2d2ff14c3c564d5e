"""Handles that remove what a `register_*_hook` call added."""

from __future__ import annotations

import weakref
from itertools import count
from typing import Any

from flambeau.runtime.recorder import Context

_ids = count()


class RemovableHandle(Context):
    """Adds `entry` to the table `owner.<table>` (made when empty); `remove()`, or leaving a `with`, takes it out."""

    def __init__(self, owner: Any, table: str, entry: Any, prepend: bool = False) -> None:
        self.id = next(_ids)
        self._owner = weakref.ref(owner)
        self._table = table
        hooks = getattr(owner, table) or {}
        added = {self.id: entry}
        setattr(owner, table, {**added, **hooks} if prepend else {**hooks, **added})

    def remove(self) -> None:
        """Take the hook out; a second call does nothing."""
        owner = self._owner()
        if owner is None:
            return
        hooks = {k: v for k, v in (getattr(owner, self._table) or {}).items() if k != self.id}
        setattr(owner, self._table, hooks or None)

    def enter(self) -> RemovableHandle:
        return self

    def leave(self) -> None:
        self.remove()
