"""Failures that no program of a user's can be blamed for: how they are told apart, and what is said of them.

In: an exception. Out: a RuntimeError that says that it is a bug of ours, and what to report it with.
"""

from __future__ import annotations

import re

#: Prefixes of messages that only our own code can cause; no such message may reach a user.
INTERNAL = re.compile(
    r"\[(plan(\.\w+)?|op list|kernel|cluster|runtime|run|stages|emitter|loops|gemm|inline|internal|recorder|together|held"
    r"|set_hooks|set_slot|mark_history|tensor_for_slot|fit_sizes)\] "
    r"|\[flush\] (?!there is|takes|argument)"  # `flush` is a public function as well
)


def is_internal(error: BaseException) -> bool:
    """Whether the message is one for us."""
    return INTERNAL.match(str(error)) is not None


_BUG = "this is a bug of Flambeau's, not of your program"


def tells_of_bug(error: BaseException) -> bool:
    """Whether the message is one of `bug`."""
    return re.match(rf"\[[^\]]*\] {_BUG}: ", str(error)) is not None


def bug(name: str, error: BaseException, where: str = "", reproducer: str = "") -> RuntimeError:
    """What users are told of `error`, which happened to the op or function `name`, recorded at `where`."""
    made = RuntimeError(
        f"[{name}] {_BUG}: {type(error).__name__}: {str(error).rstrip('.')}. "
        + (f"It was recorded at {where}. " if where else "")
        + f"Please report it with {reproducer or 'the lines that led to it'}."
    )
    made.__cause__ = error
    return made
