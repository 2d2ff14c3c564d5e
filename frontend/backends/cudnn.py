"""`backends.cudnn`: not there. Its switches can be set and change nothing: results are deterministic always."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

enabled, benchmark, deterministic, allow_tf32 = True, False, False, False
benchmark_limit: int | None = 10


def is_available() -> bool:
    """False."""
    return False


def version() -> int | None:
    """None."""
    return None


def is_acceptable(tensor: Any) -> bool:
    """False."""
    return False


@contextmanager
def flags(**switches: Any) -> Iterator[None]:
    """A block in which switches would be others."""
    before = {name: globals()[name] for name in switches if name in globals()}
    globals().update(switches)
    try:
        yield
    finally:
        globals().update(before)
