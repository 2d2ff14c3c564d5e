"""Names of dimensions, as data: how they are written, found, and made one.

In: tuples with a name, or None, for each dimension. Out: the same, positions, and RuntimeErrors for names that do not fit. No
tensor is seen here. The rules are those of the named tensors of earlier versions of PyTorch. Next: `named_tensor.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Names = tuple[str | None, ...]


def checked(op: str, names: Iterable[Any], rank: int) -> Names:
    """Names for a tensor of `rank` dimensions. Raises RuntimeError for another number of them, for one that is there twice or is no
    identifier, TypeError for what is no name."""
    found = tuple(names)
    for name in found:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"[{op}] {name!r} is no name of a dimension. Use strings, or None for no name.")
        if isinstance(name, str) and not (name.isidentifier() and name.isascii()):
            raise RuntimeError(f"[{op}] {name!r} is no identifier. Name dimensions as you name variables.")
    if len(found) != rank:
        raise RuntimeError(f"[{op}] {len(found)} names {found} do not fit a tensor of {rank} dimensions. Name each.")
    return unique(op, found)


def unique(op: str, names: Names) -> Names:
    """The names. Raises RuntimeError where one is there twice."""
    given = [n for n in names if n is not None]
    if twice := [n for n in given if given.count(n) > 1]:
        raise RuntimeError(f"[{op}] {names} has the name {twice[0]!r} twice. Rename a dimension: x.rename(old='new').")
    return names


def position(op: str, name: str, names: Names) -> int:
    """Where the dimension is. Raises RuntimeError where there is none of that name."""
    if name not in names:
        raise RuntimeError(f"[{op}] there is no dimension {name!r} among {names}. Use one of these names.")
    return names.index(name)


def resolved(op: str, dim: Any, names: Names) -> Any:
    """A dimension, or a list of them, with positions for names; anything else is as it was."""
    if isinstance(dim, str):
        return position(op, dim, names)
    if isinstance(dim, tuple | list) and any(isinstance(d, str) for d in dim):
        return tuple(resolved(op, d, names) for d in dim)
    return dim


def unified(op: str, x: Names, y: Names) -> Names:
    """The names of what two tensors broadcast to: from the right equal names, or the one that is there.

    Raises RuntimeError for two names at one place, and for a name that the other has at another place.
    """
    found: list[str | None] = []
    for i in range(1, max(len(x), len(y)) + 1):
        a, b = x[-i] if i <= len(x) else None, y[-i] if i <= len(y) else None
        if a is not None and b is not None and a != b:
            raise RuntimeError(
                f"[{op}] dimensions {a!r} of {x} and {b!r} of {y} are at the same place from the right. "
                "Use x.align_to(...), or rename one."
            )
        name = b if a is None else a
        if name is not None and a is not b and a != b and name in (x if a is None else y):
            raise RuntimeError(
                f"[{op}] dimension {name!r} is at another place from the right in {x} than in {y}. Use x.align_to(...)."
            )
        found.append(name)
    return tuple(reversed(found))


def expanded(op: str, names: Sequence[Any], known: Names) -> list[Any]:
    """Names with those of `known` that they leave out where an ellipsis, `...` or "...", stands."""
    given: list[Any] = [... if n == "..." else n for n in names]
    if given.count(...) > 1:
        raise RuntimeError(f"[{op}] there is more than one ellipsis in {tuple(given)}. Use one.")
    if ... not in given:
        return given
    at = given.index(...)
    return [*given[:at], *known[at : len(known) - (len(given) - at - 1)], *given[at + 1 :]]


def refined(names: Sequence[Any], known: Names) -> Names:
    """`known` with names where there are none. Raises RuntimeError where one would be changed or taken away."""
    wanted = checked("refine_names", expanded("refine_names", names, known), len(known))
    for old, new in zip(known, wanted, strict=True):
        if old is not None and old != new:
            raise RuntimeError(
                f"[refine_names] dimension {old!r} of {known} cannot become {new!r}. Use x.rename(...) to change names."
            )
    return wanted


def renamed(op: str, names: tuple[Any, ...], changes: dict[str, Any], known: Names) -> Names:
    """What `rename(*names, **changes)` makes of `known`."""
    if names and changes:
        raise RuntimeError(f"[{op}] both names and changes were given. Use x.rename('A', 'B') or x.rename(old='new').")
    if names == (None,):
        return (None,) * len(known)
    for old in changes:
        position(op, old, known)
    wanted = expanded(op, names, known) if names else [changes.get(n, n) if n else n for n in known]
    return checked(op, wanted, len(known))


def order_to(op: str, names: Sequence[Any], known: Names) -> tuple[list[int | None], Names]:
    """(positions of the dimensions in their new order, None for a new one; their names). Raises RuntimeError for dimensions that
    have no name, or are left out."""
    if None in known:
        raise RuntimeError(f"[{op}] a dimension of {known} has no name. Use x.refine_names(...) first.")
    given: list[Any] = [... if n == "..." else n for n in names]
    if given.count(...) > 1:
        raise RuntimeError(f"[{op}] there is more than one ellipsis in {tuple(given)}. Use one.")
    rest = [n for n in known if n not in given]
    if ... in given:
        at = given.index(...)
        given[at : at + 1] = rest
    elif rest:
        raise RuntimeError(
            f"[{op}] dimension {rest[0]!r} of {known} is not among {tuple(names)}. Name all, or use '...'."
        )
    if None in given:
        raise RuntimeError(f"[{op}] {tuple(names)} leaves a dimension without a name. Name all.")
    wanted = checked(op, given, len(given))
    return [known.index(n) if n in known else None for n in wanted], wanted
