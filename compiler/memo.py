"""Equal parts of programs are analysed once: an answer is kept for the next part of the same form.

In: a question about a part, and the part's *form*: all that the answer may depend on, with values renamed to positions. Out:
the answer, worked out for the first part of that form. `Memo` is of one program and lives as long as its analysis, in the scope
of its sizes: what an answer asked about these is among the program's guards already. `Shared` is of all programs, so an answer is
kept with the guards under which it holds. Next: `passes/cluster_values.py`, which says what a form is; `stages.py`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from flambeau.dialects import size_guards, size_scopes
from flambeau.dialects.size_guards import Guard

_T = TypeVar("_T")
_NONE: Any = object()
_VARIANTS = 8  # answers to one question about one form, under different guards
_forgets = [False]  # whether every answer is worked out anew


class Memo:
    """Of one program. `worked` counts the answers that were worked out, by question."""

    def __init__(self) -> None:
        self.worked: Counter[str] = Counter()
        self._numbers: dict[Hashable, int] = {}
        self._answers: dict[tuple[Hashable, ...], Any] = {}

    def number(self, form: Hashable) -> int:
        """A number for a form, which equal ones share."""
        return self._numbers.setdefault(form, len(self._numbers))

    def answer(self, form: tuple[Hashable, ...], work: Callable[..., _T], *arguments: Any) -> _T:
        """`work(*arguments)`, which depends on nothing but `form`, whose first part names the question. Nobody may change it."""
        found = self._answers.get(form, _NONE)
        if found is _NONE or _forgets[0]:
            self.worked[str(form[0])] += 1
            found = self._answers[form] = work(*arguments)
        return found


class Guarded(NamedTuple):
    """What was made of something, and the guards under which the same would be made of it."""

    made: Any
    guards: tuple[Guard, ...]


class Shared:
    """Of all programs: at most `most` forms, those that were asked about last. `worked` counts what was worked out."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.worked = 0
        self._known: OrderedDict[str, list[Guarded]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def answer(self, form: str, work: Callable[[], Any]) -> Guarded:
        """What `work` gives for sizes like those at hand; the guards are noted in the scope that asks."""
        asked = size_scopes.current()
        hints = asked.hints if asked else ()
        known = self._known.setdefault(form, [])
        self._known.move_to_end(form)
        if len(self._known) > self.most:
            self._known.popitem(last=False)
        found = next((g for g in known if all(guard.holds(hints) for guard in g.guards)), None)
        if found is None or _forgets[0]:
            self.worked += 1
            with size_guards.scope(hints, by_form=True) as inner:
                made = work()
            found = Guarded(made, inner.guards)
            known.append(found)
            del known[:-_VARIANTS]
        if asked:
            for guard in found.guards:
                asked.note(guard)
        return found


def keeps() -> bool:
    """Whether what was made of a part may be used for equal ones."""
    return not _forgets[0]


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Inside, every answer is worked out anew, in all threads. What comes out is the same, later: it is for tests."""
    before, _forgets[0] = _forgets[0], True
    try:
        yield
    finally:
        _forgets[0] = before
