"""Guards: what a program built at some sizes demands of others, collected while questions about sizes are answered.

In: the values at hand, the *hints*, and questions. Out: answers, and `Guard`s under which they are the same; what follows from
earlier ones is not noted again. `remembered` keeps what a function gave, for the sizes for which its guards hold.
Next: `size_programs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import inf
from typing import Any, NamedTuple, TypeVar

from flambeau.dialects.locks import process_lock
from flambeau.dialects.size import _RELATIONS, Size, _bounds, _decide, _primitive, _Term, as_size, evaluate, symbol
from flambeau.dialects.size_rows import program
from flambeau.dialects.size_scopes import asking, current, within

_T = TypeVar("_T")

RELATIONS = ("==", "!=", "<", ">=")
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<"}


class Guard(NamedTuple):
    """`size relation 0`, where relation is "==", "!=", "<" or ">="."""

    relation: str
    size: Size

    def holds(self, values: Sequence[int]) -> bool:
        """Whether it does for these values of the symbols."""
        return _RELATIONS[self.relation](evaluate(self.size, values))

    @property
    def program(self) -> tuple[int, tuple[tuple[int, int, int], ...]]:
        """(index of the relation in `RELATIONS`, the size's `program`): what the runtime evaluates."""
        return RELATIONS.index(self.relation), program(self.size)


def strongest(guards: Sequence[Guard]) -> list[Guard]:
    """The guards without the inequalities that follow from another one: its expression differs by a factor and a
    constant only."""
    found: dict[tuple[_Term, ...], tuple[int, Guard]] = {}
    kept = []
    for guard in guards:
        if guard.relation in ("==", "!="):
            kept.append(guard)
            continue
        form, least = _at_least(guard)
        if form not in found or found[form][0] < least:
            found[form] = least, guard
    return kept + [guard for _, guard in found.values()]


def _at_least(guard: Guard) -> tuple[tuple[_Term, ...], int]:
    """An inequality as (sum of terms without a constant, the least value that it may have)."""
    terms, constant, factor = _primitive(guard.size if guard.relation == ">=" else as_size(-guard.size - 1))
    return terms, -(constant // factor)


class Scope:
    """The values that questions are answered from, and the guards that the answers depend on, in order. What follows
    from earlier guards needs none. `by_form`: sizes whose forms differ are not equal, which needs no guard either."""

    def __init__(self, hints: Sequence[int], by_form: bool = False) -> None:
        self.hints, self.by_form = tuple(hints), by_form
        self._guards: dict[Guard, None] = {}
        self._known: dict[tuple[_Term, ...], float] = {}  # sums of terms without a constant, and their least values
        self._answers: dict[tuple[str, Size], bool] = {}  # since the last guard

    @property
    def guards(self) -> tuple[Guard, ...]:
        return tuple(self._guards)

    def note(self, guard: Guard) -> None:
        self._guards[guard] = None
        self._answers.clear()
        if guard.relation in ("==", ">="):
            self._learn(guard.size)
        if guard.relation in ("==", "<"):
            self._learn(as_size(-guard.size - int(guard.relation == "<")))

    def require(self, guard: Guard) -> None:
        """Note a guard, known to hold, unless it follows from earlier ones."""
        if not _decide(guard.relation, *self.bounds(guard.size)):
            self.note(guard)

    def _learn(self, size: Size) -> None:
        """`size >= 0`."""
        terms, constant, factor = _primitive(size)
        self._known[terms] = max(self._known.get(terms, -inf), -(constant // factor))

    def bounds(self, size: Size) -> tuple[float, float]:
        """The least and the greatest value that the guards so far allow."""
        low, high = _bounds(size)
        for negated, x in ((False, size), (True, as_size(-size))):
            terms, constant, factor = _primitive(x)
            if terms in self._known:
                bound = self._known[terms] * factor + constant
                low, high = (low, min(high, -bound)) if negated else (max(low, bound), high)
        return low, high

    def ask(self, relation: str, size: Size) -> bool:
        """Whether `size relation 0` at the hints; noted unless it is certain."""
        found = self._answers.get((relation, size))
        if found is None:
            found = self._answer(relation, size)
            self._answers[relation, size] = found
        return found

    def _answer(self, relation: str, size: Size) -> bool:
        certain = _decide(relation, *self.bounds(size))
        if certain is not None:
            return certain
        if self.by_form and relation in ("==", "!="):
            return relation == "!="
        guard = Guard(relation, size)
        if not guard.holds(self.hints):
            self.note(Guard(_OPPOSITE[relation], size))
            return False
        self.note(guard)
        return True

    def fix(self, size: Size) -> int:
        """The value at the hints; everything holds for this value only."""
        value = evaluate(size, self.hints)
        self.note(Guard("==", as_size(size - value)))
        return value

    def pin(self, *symbols: int) -> None:
        """Make everything hold for exactly these hints, or for those of some symbols."""
        for i in symbols or range(len(self.hints)):
            self.note(Guard("==", as_size(symbol(i) - self.hints[i])))


def scope(hints: Sequence[int], by_form: bool = False) -> within:
    """Answer questions about sizes from `hints` inside, and collect the guards. `by_form`: see `Scope`."""
    return within(Scope(hints, by_form))


_MOST_ANSWERS = 16  # that are remembered for equal arguments


def _with_guards(function: Callable[..., _T], args: tuple, asked: Scope | None) -> tuple[_T, tuple[Guard, ...]]:
    """What a function gives, and the guards that it would give the same under."""
    if asked is None:
        return function(*args), ()
    with scope(asked.hints, asked.by_form) as inner:
        return function(*args), inner.guards


def remembered(limit: int) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """Remember the results of a function of hashable arguments, each for the sizes for which its guards hold."""

    def wrap(function: Callable[..., _T]) -> Callable[..., _T]:
        known: dict[tuple, list[tuple[_T, tuple[Guard, ...]]]] = {}
        lock = process_lock()

        @wraps(function)
        def run(*args: Any) -> _T:
            asked = current()
            key = (asked is not None and asked.by_form, *args)
            found = None
            for entry in known.get(key, ()):
                if not entry[1]:
                    return entry[0]
                if all(g.holds(asked.hints if asked else ()) for g in entry[1]):
                    found = entry
                    break
            if found is None:
                found = _with_guards(function, args, asked)
                with lock:
                    if len(known) >= limit:
                        known.pop(next(iter(known)))
                    known[key] = [*known.get(key, [])[1 - _MOST_ANSWERS :], found]
            for guard in found[1]:
                asking("what is remembered").require(guard)
            return found[0]

        return run

    return wrap
