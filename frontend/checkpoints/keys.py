"""Names in state dicts that have changed since a checkpoint was written.

In: a state dict and rules. Out: a state dict under the new names, and what became of each. Next: `manager.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: (pattern, replacement) for `re.sub`, or a function of a name that gives the new one, None to leave it out.
Rule = tuple[str, str] | Callable[[str], str | None]


def _renamed(name: str, rule: Rule) -> str | None:
    if callable(rule):
        return rule(name)
    pattern, replacement = rule
    return re.sub(pattern, replacement, name)


def migrated(state: Mapping[str, Any], rules: Iterable[Rule]) -> tuple[dict[str, Any], dict[str, str | None]]:
    """A state dict with every name taken through the rules, one after the other, and the names that changed with what they
    became (None: left out). A rule is (pattern, replacement), as `re.sub` takes them, or a function of a name.

    Raises ValueError where two names become one.
    """
    rules, found, report = list(rules), {}, {}
    for name, value in state.items():
        new: str | None = name
        for rule in rules:
            new = None if new is None else _renamed(new, rule)
        if new != name:
            report[name] = new
        if new is None:
            continue
        if new in found:
            raise ValueError(
                f"[migrated] '{name}' and another name both become '{new}'. Make the rules tell them apart."
            )
        found[new] = value
    return found, report
