"""What a schedule is: a frozen value with a kind and named fields, which prints as text that reads back.

In: fields, or text such as `points(lanes = 16, unroll = 4, ...)`. Out: `Schedule`s, whose fields keep the rules that hold for every
nest and machine. They decide speed and never a bit. Next: `kinds.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, NamedTuple

from flambeau.compiler.schedules import ScheduleError
from flambeau.dialects.size import Int, Size, repr_of
from flambeau.dialects.size_text import parse

#: What a field holds: a number, or a tuple of them, a word or a truth value.
Value = Int | bool | str | tuple[int, ...]


class FieldRule(NamedTuple):
    """What a field accepts, in words and as a test, and how its text is read."""

    words: str
    accepts: Callable[[Any], bool]
    read: Callable[[str], Any]


def _is_int(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _read_int(text: str) -> int:
    return int(text)


def _read_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(x) for x in text.removeprefix("[").removesuffix("]").split(",") if x.strip())


def _field(form: FieldRule, doc: str) -> Any:
    return field(metadata={"form": form, "doc": doc})


def count(doc: str, least: int = 1, most: int = 1 << 40) -> Any:
    """A field that is an int within bounds."""
    limits = f"an int of at least {least}" if most >= 1 << 40 else f"an int from {least} to {most}"
    return _field(FieldRule(limits, lambda x: _is_int(x) and least <= x <= most, _read_int), doc)


def power(doc: str, most: int) -> Any:
    """A field that is a power of two."""
    accepts = lambda x: _is_int(x) and 1 <= x <= most and x & (x - 1) == 0  # noqa: E731
    return _field(FieldRule(f"a power of two, at most {most}", accepts, _read_int), doc)


def size(doc: str, least: int = 1) -> Any:
    """A field that is an int, or an expression of sizes known at run time only."""
    accepts = lambda x: isinstance(x, Size) or (_is_int(x) and x >= least)  # noqa: E731
    return _field(FieldRule(f"an int of at least {least}", accepts, lambda text: parse(text.strip("'"))), doc)


def flag(doc: str) -> Any:
    """A field that is true or false."""
    return _field(
        FieldRule("true or false", lambda x: isinstance(x, bool), lambda text: {"true": True, "false": False}[text]),
        doc,
    )


def word(doc: str, *words: str) -> Any:
    """A field that is one of a few words."""
    return _field(FieldRule(f"one of {', '.join(words)}", lambda x: x in words, str), doc)


def positions(doc: str) -> Any:
    """A field that is a tuple of numbers in order."""
    accepts = lambda x: isinstance(x, tuple) and all(_is_int(n) and n >= 0 for n in x) and list(x) == sorted(set(x))  # noqa: E731
    return _field(FieldRule("numbers in order, each once", accepts, _read_numbers), doc)


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """How one nest is looped. Making one raises ScheduleError where a field breaks a rule that holds everywhere.

    Kinds are declared likewise, with `eq=False, repr=False`: what these are is said here once, and need not be generated for
    each whenever a process compiles its first program.
    """

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, form in self.forms().items():
            if not form.accepts(value := getattr(self, name)):
                raise ScheduleError(f"[schedule] {self.kind}: {name} is {spelled(value)}. Give {form.words}.")
        if (broken := self.broken()) is not None:
            raise ScheduleError(f"[schedule] {self}: {broken}")

    def broken(self) -> str | None:
        """The rule between fields that they break, and what to do; None if they keep all."""
        return None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    @classmethod
    @cache
    def forms(cls) -> Mapping[str, FieldRule]:
        """What each field accepts."""
        return {f.name: f.metadata["form"] for f in fields(cls)}

    @classmethod
    def docs(cls) -> dict[str, str]:
        """What each field means."""
        return {f.name: f.metadata["doc"] for f in fields(cls)}

    def __str__(self) -> str:
        return f"{self.kind}({', '.join([f'{name} = {spelled(getattr(self, name))}' for name in self.forms()])})"

    __repr__ = __str__


def multiple(name: str, value: Int, of: str, unit: int) -> str | None:
    """What is wrong where a field is no multiple of another one."""
    if isinstance(value, Size) or value % unit == 0:
        return None
    return f"{name} is {value}, no multiple of {of} ({unit}). Give one."


def first(*problems: str | None) -> str | None:
    """The first of some problems that there is."""
    return next((p for p in problems if p), None)


# ---- text -----------------------------------------------------------------------------------------------------


def spelled(value: Any) -> str:
    """A field's value as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"'{repr_of(value)}'" if isinstance(value, Size) else str(value)


_TEXT = re.compile(r"\s*([\w.-]+)\s*\((.*)\)\s*", re.DOTALL)
_ENTRY = re.compile(r"\s*(\w+)\s*=\s*(\[[^\]]*\]|'[^']*'|[^,\s]+)\s*(?:,|$)")


def read_fields(text: str) -> dict[str, str]:
    """Names and texts in `name = value, name = value`. Raises ScheduleError."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text.rstrip()):
        entry = _ENTRY.match(text, at)
        if entry is None or entry[1] in found:
            raise ScheduleError(
                f"[schedule] '{text.strip()}' cannot be read at '{text[at:].strip()}'. Write name = value."
            )
        found[entry[1]], at = entry[2], entry.end()
    return found


def read_value(cls: type[Schedule], name: str, text: str) -> Any:
    """A field's value from its text. Raises ScheduleError."""
    form = form_of(cls, name)
    try:
        return form.read(text)
    except (ValueError, KeyError):
        raise ScheduleError(f"[schedule] {cls.kind}: {name} is {text}. Give {form.words}.") from None


def form_of(cls: type[Schedule], name: str) -> FieldRule:
    """What a field accepts. Raises ScheduleError for one that the kind has not."""
    known = cls.forms()
    if name not in known:
        raise ScheduleError(f"[schedule] {cls.kind} has no field '{name}'. Its fields: {', '.join(known)}.")
    return known[name]


def read(text: str, find: Callable[[str], type[Schedule] | None], known: Iterable[str]) -> Schedule:
    """The schedule that a text says, of the kind that `find` knows by name, or of those `known`. Raises ScheduleError."""
    match = _TEXT.fullmatch(text)
    cls = find(match[1]) if match else None
    if match is None or cls is None:
        raise ScheduleError(f"[schedule] '{text.strip()}' is no schedule. Write KIND(...), of {', '.join(known)}.")
    given = {name: read_value(cls, name, value) for name, value in read_fields(match[2]).items()}
    if missing := [name for name in cls.forms() if name not in given]:
        raise ScheduleError(f"[schedule] {text.strip()}: {', '.join(missing)} is missing. Say every field.")
    return cls(**given)
