"""What must hold of an operand's elements at run time, and what is said of one for which it does not.

In: an op's types and attributes, through `OpRecord.domain`. Out: the exception that Python raises, and for programs without
Python the parts of its text. Next: `tape/check.py` for an example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


class OutOfRange(IndexError, RuntimeError):
    """A position that is not there: PyTorch raises the one or the other, as the function is."""


@dataclass(frozen=True)
class Domain:
    """Elements of operand `operand` lie in low..high or, without bounds, are not 0. `error` is raised with `before`, the
    place of the first that does not, and `after`; `whole`: the text is `before` alone, whatever the place."""

    operand: int
    error: type[Exception]
    before: str
    after: str
    low: float | None = None
    high: float | None = None
    whole: bool = False

    def failure(self, position: int, shape: tuple[int, ...]) -> Exception:
        """The exception for the element at row-major `position` of an operand of `shape`."""
        place = coordinates(position, shape) if shape else ""
        return self.error(self.before if self.whole else f"{self.before}{place}{self.after}")


def coordinates(position: int, shape: tuple[int, ...]) -> str:
    """A row-major position as text: `[1, 2]`."""
    return str([int(i) for i in np.unravel_index(position, shape)])


def failing(domain: Callable[..., Domain], arity: int) -> Callable[..., Exception]:
    """`OpRecord.failure` of an op of `arity` operands, from its domain."""

    def failure(position: int, *arguments: object) -> Exception:
        found = domain(*arguments)
        return found.failure(position, arguments[:arity][found.operand].shape)  # type: ignore[attr-defined]

    return failure
