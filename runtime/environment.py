"""The environment variables of Flambeau: what each may be. They set defaults, and are read when these are needed.

In: `os.environ`. Out: `value(name)`, checked. Next: `compiler/options.py`, which makes options of them.
"""

from __future__ import annotations

import os
import warnings
from functools import cache

#: Variable -> the values that it takes; None where it is a path. Empty is the same as not set.
VARIABLES: dict[str, tuple[str, ...] | None] = {
    "FLAMBEAU_COMPILE": ("background", "blocking", "off"),
    "FLAMBEAU_CACHE": None,
    "FLAMBEAU_DUMP": None,
    "FLAMBEAU_STRICT_SIZES": ("0", "1"),
}
_PREFIX = "FLAMBEAU_"


def value(name: str) -> str | None:
    """The variable's value, None if it is not set. Raises ValueError for a value that it does not take."""
    found, accepted = os.environ.get(name) or None, VARIABLES[name]
    if found is not None and accepted is not None and found not in accepted:
        raise ValueError(f"[options] {name} is '{found}'. Set it to {either(accepted)}.")
    return found


def check() -> None:
    """Raise ValueError if a variable has a value that it does not take."""
    for name in VARIABLES:
        value(name)


def path(name: str) -> str | None:
    """The path that a variable holds, with `~` as in a shell; relative ones count from the working folder."""
    found = value(name)
    return os.path.abspath(os.path.expanduser(found)) if found else None


def flag(name: str) -> bool:
    """Whether the variable is 1. Raises ValueError unless it is 0, 1 or not set."""
    return value(name) == "1"


def either(words: tuple[str, ...]) -> str:
    """The words for people: a, b or c."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


@cache
def warn_of_misspelt() -> None:
    """Warn, once, of variables that are not ours and nearly have a name of ours: they would be ignored in silence."""
    endings = [name.removeprefix(_PREFIX) for name in VARIABLES]
    for name in os.environ:
        if not name.startswith(_PREFIX) or name in VARIABLES:
            continue
        import difflib  # rarely needed: not at start

        if close := difflib.get_close_matches(name.removeprefix(_PREFIX), endings, 1, 0.7):
            warnings.warn(
                f"[options] {name} is set, and there is no such variable. Did you mean {_PREFIX}{close[0]}?",
                RuntimeWarning,
                stacklevel=2,
            )
