"""What messages call things: what users have called, never the op of ours that it was made of.

In: an error that a rule raised, or an op of a call when it ran, and the name of the function that recorded it. Out: the same error,
told of that function. Next: `engine.py`, `programs.py`, which ask for it.
"""

from __future__ import annotations

import re

from flambeau import declarations
from flambeau.dialects.record import REGISTRY

_PREFIX = re.compile(r"\[(\w+)\] ")


def is_an_op(name: str) -> bool:
    """Whether a name is that of an op, and of nothing that users call."""
    return name in REGISTRY and not declarations.is_public(name)


def told_of(error: Exception, name: str, op: str = "") -> Exception:
    """The error, with the name of a public function, `name`, where its message names an op. `op`: the one that has raised it."""
    found = _PREFIX.match(str(error.args[0])) if error.args else None
    if found and name and (is_an_op(found[1]) or is_an_op(op)) and not is_an_op(name):
        error.args = (f"[{name}] {error.args[0][found.end() :]}", *error.args[1:])
    return error
