"""Progress for a person who waits: a bar of tqdm's on stderr, shown once something has taken a while, and only on a terminal.

In: what is done, how much of it there is. Out: nothing, unless somebody looks: then tqdm is imported. Next: the callers,
`compiler/workers/crew.py`, `compiler/export/linker.py` and `frontend/data/loader.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, Self, TypeVar

#: Seconds that something takes before it has a bar.
DELAY = 2.0

T = TypeVar("T")


def watched() -> bool:
    """Whether a person can see stderr."""
    stream = sys.stderr
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


class Bar:
    """How far something is, in a `with` statement: `advance` and `grow` it, or `tick` where only time passes."""

    def __init__(self, what: str, unit: str = "", total: int = 0) -> None:
        self.what, self.unit, self.total, self.done = what, unit, total, 0
        self._due = perf_counter() + DELAY if watched() else float("inf")
        self._shown: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown is not None:
            self._shown.close()

    def grow(self, count: int = 1) -> None:
        """There is more to do."""
        self.total += count
        self.advance(0)

    def advance(self, count: int = 1) -> None:
        """Some of it is done."""
        self.done += count
        if perf_counter() >= self._due:
            self.tick()

    def tick(self) -> None:
        """Show the bar if it is due."""
        if perf_counter() < self._due:
            return
        if self._shown is None:
            self._shown = _bar(self)
        self._shown.total, self._shown.n = self.total or None, self.done
        self._shown.refresh()


def _bar(bar: Bar) -> Any:
    from tqdm import tqdm

    plain = None if bar.total else "{desc}: {elapsed}"
    return tqdm(desc=bar.what, total=bar.total or None, unit=bar.unit, leave=False, bar_format=plain, file=sys.stderr)


def over(items: Sequence[T], what: str, unit: str) -> Iterator[T] | Sequence[T]:
    """The items, with a bar if going through them takes long."""
    return _counted(items, what, unit) if watched() else items


def _counted(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    with Bar(what, unit, len(items)) as bar:
        for item in items:
            yield item
            bar.advance()
