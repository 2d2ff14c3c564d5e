"""Sizes that differ from run to run: which sizes of a call become symbols, and its expansion for all their values.

In: the recorder's questions at a miss, where the same call was seen with other sizes, or where its operands' shapes have
symbols. Out: expressions for the sizes; expansions whose shapes are `Size`s, with the guards under which they hold.
Nothing here runs when a recording is seen again. Next: `engine.py`, `dialects/size.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations_with_replacement
from typing import Any

from flambeau.assembly import Assembly, translated
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.cost import nanoseconds
from flambeau.dialects.dtypes import DType
from flambeau.dialects.locks import process_lock
from flambeau.dialects.size import LEAST, Int, Size, evaluate, substitute, symbol
from flambeau.dialects.size_equations import solved
from flambeau.dialects.size_guards import Guard, Scope, scope
from flambeau.dialects.size_programs import read_program
from flambeau.dialects.size_rows import program
from flambeau.engine import START, View, ViewStep, expand
from flambeau.import_sizes import imported_zeros
from flambeau.runtime import environment, recorder

Seen = tuple[Sequence[int], Sequence[int]]  #: the values of the symbols at that time, and the sizes


# ---- which sizes are symbols ----------------------------------------------------------------------------------


def fit_sizes(
    values: Sequence[int], sizes: Sequence[int], seen: Sequence[Seen], bases: Sequence[tuple | None]
) -> tuple[tuple[Int, ...], tuple[int, ...]] | None:
    """Hook: what the sizes of a call are, given what they were before at the same place and the symbols' values.

    Returns an expression per size, and the values of all symbols, new ones last; None if that does not work. A guess
    that turns out wrong costs another miss: the recorder checks all of it whenever it comes here.
    """
    found: list[Int] = []
    now = list(values)
    then = [list(v) for v, _ in seen]
    shown = [d for base in bases if base for d in base if isinstance(d, Size)]
    for k, size in enumerate(sizes):
        before = [s[k] for _, s in seen]
        if any(b != size for b in before):
            expr = relation(size, before, now, then)
            if expr is None:
                if size < LEAST:
                    return None
                expr = symbol(len(now))
                now.append(size)
                for symbols, b in zip(then, before):
                    symbols.append(b)
        else:
            expr = size if before else _guess(size, now, shown)
        found.append(expr)
    return tuple(found), tuple(now)


def relation(size: int, before: Sequence[int], now: Sequence[int], then: Sequence[Sequence[int]]) -> Int | None:
    """What a size is that was `before` when the symbols were `then`, and is `size` where they are `now`: a symbol, a symbol and a
    constant, a multiple of a symbol, or the product of two. None for another relation."""
    pairs = [*zip(before, then), (size, now)]
    for i in range(len(now)):
        if all(s == symbols[i] for s, symbols in pairs):
            return symbol(i)
    for i in range(len(now)):
        apart = size - now[i]
        if all(s - symbols[i] == apart for s, symbols in pairs):
            return symbol(i) + apart
        times = size // now[i]
        if times > 1 and all(s == times * symbols[i] for s, symbols in pairs):
            return symbol(i) * times
    for i, j in combinations_with_replacement(range(len(now)), 2):
        if all(s == symbols[i] * symbols[j] for s, symbols in pairs):
            return symbol(i) * symbol(j)
    return None


def _guess(size: int, now: Sequence[int], shown: Sequence[Size]) -> Int:
    """Seen for the first time: a symbol or a size of an operand that happens to be equal, else a constant."""
    if size < LEAST:
        return size
    for i, value in enumerate(now):
        if value == size:
            return symbol(i)
    return next((s for s in shown if evaluate(s, now) == size), size)


# ---- expansions -----------------------------------------------------------------------------------------------


def expand_sized(
    function: Any,
    infos: Sequence[Any],
    statics: dict[str, Any],
    mode: int,
    values: Sequence[int],
    bases: Sequence[tuple | None],
    exprs: Sequence[Int],
) -> tuple:
    """Hook: as `engine.expand`, for operands whose bases have the shapes `bases` (None: as the infos say) and where the
    sizes among the statics and in the operands' views are `exprs`, in order.

    Returns (payload, result types, writes, single, guards, views): the views with these sizes.
    """
    with scope(values) as asked:
        sizes, shapes = iter(exprs), iter(bases)
        statics = resized(function, statics, sizes)
        views: list[View | None] = []

        def renewed(info: Any) -> Any:
            shape = next(shapes)
            if info is None or info[0] != "tensor":
                return info
            return _renewed(info, shape, sizes, views)

        infos = [[renewed(i) for i in info] if isinstance(info, list) else renewed(info) for info in infos]
        key = _question(function, infos, statics, mode)
        if (found := expansions.find(key, values)) is not None:
            return found
        payload, types, writes, single = expand(function, infos, statics, mode)
        payload = payload._replace(cost=nanoseconds(payload.graph.bind(values)))
    answer = payload, types, writes, single, programs_of(asked), tuple(views)
    expansions.keep(key, asked.guards, answer)
    return answer


def _question(function: Any, infos: Sequence[Any], statics: dict[str, Any], mode: int) -> Hashable:
    """What an expansion depends on besides its guards; None where that cannot be told."""
    try:
        question = function, mode, _form(tuple(statics.items())), tuple([_form(info) for info in infos])
        hash(question)
    except TypeError:
        return None
    return question


def _form(x: Any) -> Any:
    """Equal for what is the same to a rule: numbers with their types, sizes by their expressions. Every new call is asked."""
    kind = type(x)
    if x is None or kind is str or kind is DType:  # equal to nothing of another type
        return x
    if kind is tuple and x and {*map(type, x)} == _INTS:
        return tuple, int, *x
    if isinstance(x, tuple | list):
        return kind, *[_form(i) for i in x]
    if isinstance(x, Size):
        return Size, x.terms
    if isinstance(x, View):
        steps = tuple((s.function, _form(tuple(s.statics.items())), s.n_starts) for s in x.steps)
        return View, _form(tuple(x.base)), steps, x.detached, x.aside
    return kind, x.hex() if isinstance(x, float) else x


_INTS = {int}


class Expansions:
    """Those that were asked for, at other places of the trie. An expansion serves all sizes for which its guards hold."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, process_lock()
        self._known: OrderedDict[Hashable, list[tuple[tuple[Guard, ...], tuple]]] = OrderedDict()

    def find(self, key: Hashable, values: Sequence[int]) -> tuple | None:
        """The answer for these values of the symbols."""
        for guards, answer in self._known.get(key, ()):
            if all(guard.holds(values) for guard in guards):
                return answer
        return None

    def keep(self, key: Hashable, guards: tuple[Guard, ...], answer: tuple) -> None:
        """Remember an answer; of a question the last few, of questions so many."""
        if key is None:
            return
        with self._lock:
            found = self._known.setdefault(key, [])
            found.append((guards, answer))
            del found[:-_VARIANTS]
            while len(self._known) > self._most:
                self._known.popitem(last=False)


_VARIANTS = 4
expansions = Expansions(1024)


def programs_of(asked: Scope) -> tuple:
    """The guards of a scope in the recorder's form."""
    return tuple(g.program for g in asked.guards)


def _renewed(info: tuple, shape: tuple | None, sizes: Iterator[Int], views: list[View | None]) -> tuple:
    """An operand's info with symbols in its shape and its view."""
    kind, own, dtype, requires_grad, is_leaf, view, base, device = info
    if view is not None:
        view = _view_at(view, shape or view.base.shape, sizes)
        views.append(view)
        own, base = view.aval.shape, view.base.shape
    elif shape is not None:
        own = base = shape
    return kind, own, dtype, requires_grad, is_leaf, view, base, device


def _view_at(view: View, shape: tuple, sizes: Iterator[Int]) -> View:
    steps = tuple(ViewStep(s.function, resized(s.function, s.statics, sizes), s.n_starts) for s in view.steps)
    made = View(view.base._replace(shape=shape), steps, view.aval, view.detached, view.aside)
    b = GraphBuilder()
    result = made.read(b.input(made.base), [b.input(START) for _ in range(made.n_starts)])
    return replace(made, aval=result.aval)


def resized(function: Any, statics: dict[str, Any], sizes: Iterator[Int]) -> dict[str, Any]:
    """The static arguments with the next sizes for their ints."""
    kinds = {p[0]: p[1] for p in function.params}
    return {name: _replaced(x, sizes) if kinds[name] == "size" else x for name, x in statics.items()}


def _replaced(x: Any, sizes: Iterator[Int]) -> Any:
    if isinstance(x, tuple):
        return tuple(_replaced(i, sizes) for i in x)
    return next(sizes) if type(x) is int else x


# ---- whole traces ---------------------------------------------------------------------------------------------


class _TraceReading:
    """The current trace as it is read along with its recording: each entry once, however often it is looked at, unless an
    equation says more of the symbols of what was read before.

    sizes       what is put in the place of symbol i
    n_zeros     how many of the assembly's zeros these follow from; `n_states` how many states of the trace
    """

    def __init__(self) -> None:
        self.assembly = Assembly(())
        self.sizes: list[Int] = []
        self.n_states = self.n_zeros = 0

    def extend(self, export: Sequence[tuple], values: Sequence[int], sizes: list[Int]) -> None:
        """Go on to the end of the export."""
        if _forms(sizes[: len(self.sizes)]) != _forms(self.sizes):
            self.assembly, self.n_zeros = Assembly(()), 0
        self.sizes = sizes
        self.assembly.graph.sizes = tuple(values)
        as_is = _forms(sizes) == _forms([symbol(i) for i in range(len(sizes))])
        self.assembly.extend(export, None if as_is else sizes)

    def solve(self, export: Sequence[tuple], values: Sequence[int]) -> None:
        """Go on to the end of the export, with what the trace's guards say of its symbols put in their place."""
        zeros: list[Size] = []
        if values:
            self.n_states, equations = recorder.trace_equations(self.n_states)
            zeros = _zeros(equations)
        self.extend(export, values, solved(zeros, len(values), self.sizes))
        while len(self.assembly.zeros) > self.n_zeros:
            zeros = self.assembly.zeros[self.n_zeros :]
            self.n_zeros = len(self.assembly.zeros)
            self.extend(export, values, solved(zeros, len(values), self.sizes))


def _forms(sizes: Sequence[Int]) -> list:
    """Equal for the same expressions; to compare sizes would ask whether their values are equal."""
    return [s.terms if isinstance(s, Size) else s for s in sizes]


def assembled(export: Sequence[tuple]) -> Assembly:
    """The current trace, with what its guards say of its symbols put in their place."""
    values = recorder.trace_sizes()
    with _reading("solved") as reading:
        reading.solve(export, values)
    return reading.assembly


def equations(export: Sequence[tuple]) -> list[tuple]:
    """Hook: what is 0 of the trace's symbols, by its guards and those of the traces it has imported: programs of sizes."""
    values = recorder.trace_sizes()
    with scope(values):
        zeros = [*_zeros(recorder.trace_equations(0)[1]), *imported_zeros(export)]
        apart = [symbol(i) - size for i, size in enumerate(solved(zeros, len(values)))]
    return [program(zero) for zero in apart if isinstance(zero, Size)]


def assembled_as_is(export: Sequence[tuple]) -> Assembly:
    """The current trace with the values of its symbols."""
    values = recorder.trace_sizes()
    if not values:
        return assembled(export)
    with _reading("bound") as reading:
        reading.extend(export, values, list(values))
    return reading.assembly


@contextmanager
def _reading(name: str) -> Iterator[_TraceReading]:
    """A reading of the current trace, to go on with."""
    notes = recorder.trace_notes()
    reading = notes.pop(name, None) or _TraceReading()
    yield reading
    notes[name] = reading  # not if it was cut short


def bound(export: Sequence[tuple]) -> Sequence[tuple]:
    """The export of the current trace with the values of its symbols."""
    values = recorder.trace_sizes()
    return translated(export, values) if values else export


def _zeros(equations: Sequence) -> list[Size]:
    """The sizes that are 0 in a trace, with those of traces it has imported."""
    found: list[Int] = []
    for item in equations:
        if isinstance(item[1], list):
            exprs, inner = item
            found += [substitute(zero, exprs) for zero in _zeros(inner)]
        else:
            found.append(read_program(item))
    return [zero for zero in found if isinstance(zero, Size)]


def answered(export: Sequence[tuple], ask: Callable[[Assembly], tuple]) -> tuple:
    """The answer of a hook that looks at a whole trace, and the guards it depends on: where it cannot be given for all
    sizes, for those at hand."""
    values = recorder.trace_sizes()
    if not values:
        return (*ask(assembled(export)), ())
    try:
        with scope(values) as asked:
            answer = ask(assembled(export))
        return (*answer, programs_of(asked))
    except Exception:
        answer = ask(assembled_as_is(export))
        if strict():
            raise
        asked = Scope(values)
        asked.pin()
        return (*answer, programs_of(asked))


def strict() -> bool:
    """Whether what cannot be done for all sizes is an error rather than done for those at hand."""
    return environment.flag("FLAMBEAU_STRICT_SIZES")
