"""Fields of schedules that users fix by `compiler_options(schedules=...)`.

In: entries `pattern -> fields`, which are read and checked when they are given; then the kind and label of a nest. Out:
`fixed`, the fields that are fixed for it. Next: `scheduling.py`, which refuses those that do not fit; `fitting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from flambeau.compiler.schedules import ScheduleError
from flambeau.compiler.schedules.form import Schedule, form_of, read_fields, read_value, spelled
from flambeau.compiler.schedules.kinds import KINDS, find

#: Pattern and fields, as text: `("matmul*", "rows = 6, vectors = 2")`.
Entry = tuple[str, str]


def is_entry(given: Any) -> bool:
    """Whether this is a pattern with fields as text."""
    return isinstance(given, tuple) and len(given) == 2 and all(isinstance(x, str) for x in given)


def entries(given: Any) -> tuple[Entry, ...]:
    """What a user gave, as text: a mapping from patterns to fields, each a mapping or text such as `rows = 6, vectors = 2`; or a
    tuple of entries. Raises TypeError for anything else, ScheduleError for fields that no kind of schedule has or takes."""
    pairs = list(given.items()) if isinstance(given, Mapping) else list(given)
    found = []
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(f"[schedule] {pair!r} is no pattern with fields. Give {{'matmul*': {{'rows': 6}}}}.")
        pattern, fields = pair
        found.append((pattern, _text(pattern, fields)))
    return tuple(found)


def _text(pattern: str, fields: Any) -> str:
    if isinstance(fields, Mapping):
        values = {str(k): tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        text = ", ".join(f"{name} = {spelled(value)}" for name, value in values.items())
    elif isinstance(fields, str):
        text = fields
    else:
        raise TypeError(f"[schedule] the fields for '{pattern}' are {fields!r}. Give a dict, or text: name = value.")
    _check(pattern, read_fields(text))
    return text


def _check(pattern: str, fields: Mapping[str, str]) -> None:
    """Raise ScheduleError unless some kind that the pattern may mean has all the fields, and takes their values."""
    named = _names_kind(pattern)
    kinds = list(KINDS.values()) if named is None else [named]
    having = [cls for cls in kinds if fields.keys() <= cls.forms().keys()]
    if not having:
        if len(kinds) == 1:
            for name in fields:
                form_of(kinds[0], name)
        known = "; ".join(f"{cls.kind} has {', '.join(cls.forms())}" for cls in kinds)
        raise ScheduleError(f"[schedule] no kind of schedule has {', '.join(fields) or 'no fields'}: {known}.")
    refused = [error for cls in having if (error := _refusal(cls, fields)) is not None]
    if len(refused) == len(having):
        raise refused[0]


def _refusal(cls: type[Schedule], fields: Mapping[str, str]) -> ScheduleError | None:
    try:
        _values(cls, fields)
    except ScheduleError as error:
        return error
    return None


def _values(cls: type[Schedule], fields: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name, text in fields.items():
        found[name] = read_value(cls, name, text)
        if not cls.forms()[name].accepts(found[name]):
            raise ScheduleError(f"[schedule] {cls.kind}: {name} is {text}. Give {cls.forms()[name].words}.")
    return found


def _names_kind(pattern: str) -> type[Schedule] | None:
    """The kind that a pattern names: all of it, or what stands before `: `. Kinds of packages have to be named."""
    return find(pattern.partition(": ")[0])


def matches(pattern: str, kind: str, label: str) -> bool:
    """Whether a pattern means a nest: by its kind (`product`), by its label as `explain()` shows it (`matmul*relu`), or by both
    (`product: matmul*relu`). `*`, `?` and `[...]` stand for characters."""
    named = _names_kind(pattern)
    if named is not None:
        rest = pattern[len(named.kind) :].removeprefix(": ")
        return kind == named.kind and (not rest or fnmatchcase(label, rest))
    return fnmatchcase(label, pattern)


def taken(given: Sequence[Entry], cls: type[Schedule], label: str) -> tuple[Entry, ...]:
    """The entries that a nest takes: those that mean it and whose fields its kind has."""
    forms = cls.forms().keys()
    return tuple(e for e in given if matches(e[0], cls.kind, label) and read_fields(e[1]).keys() <= forms)


def fixed(entries: Sequence[Entry], cls: type[Schedule]) -> dict[str, Any]:
    """The fields that the entries of a nest fix; later ones count."""
    found: dict[str, Any] = {}
    for _, text in entries:
        found.update(_values(cls, read_fields(text)))
    return found
