"""Ops that know nothing but scalar code: what generators get where a fusion group says what is computed.

In: lowerings that play a body. Out: `BodyRecord`, which stands where a generator expects a record. Next: `fragment.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau.dialects.record import Kind, Monoid, NoGradient, OpRecord


@dataclass(frozen=True, eq=False)
class BodyRecord(OpRecord):
    """A record of no registry, without types, reference and gradient."""

    def __post_init__(self) -> None:
        """It has no name that others could find it by."""


def pointwise(
    name: str, lower: Any, weight: int, fails: Callable[..., Any] | None = None, results: int = 1
) -> BodyRecord:
    """An op whose results' elements depend on the operands' in their place."""
    return body_record(name, Kind.ELEMENTWISE, lower, weight, fails, results=results)


def placed(name: str, lower: Any, weight: int) -> BodyRecord:
    """An op whose result's elements depend on their place."""
    return body_record(name, Kind.SOURCE, lower, weight)


def folding(name: str, monoid: Monoid, weight: int) -> BodyRecord:
    """An op that folds the axes in its attribute."""
    return body_record(name, Kind.REDUCTION, monoid, weight, attrs=("axes",))


def body_record(
    name: str,
    family: str,
    lower: Any,
    weight: int,
    fails: Callable[..., Any] | None = None,
    attrs: tuple[str, ...] = (),
    results: int = 1,
    fallible: bool = False,
) -> BodyRecord:
    """An op of any family, of which `lower` is all there is to know besides."""
    return BodyRecord(
        name=name,
        kind=family,
        attrs=attrs,
        infer=_nothing,
        reference=_nothing,
        vjp=NoGradient("it is compiled code"),
        lower=lower,
        dtypes=(),
        fallible=fallible or fails is not None,
        fails=fails,
        weight=weight,
        results=tuple(f"result{k}" for k in range(results)),
    )


def _nothing(*arguments: Any) -> Any:
    raise TypeError("[group] an op of a fusion group has scalar code only. Ask the record that it was made of.")
