"""Equations among sizes: what symbols must be for sizes to be 0.

In: sizes that are 0. Out: symbols made of others, or constants. Next: `size.py`; the frontend's `assembly.py`, the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from flambeau.dialects.size import Int, Size, as_size, from_terms, same, substitute, symbol, symbols, term_quotient


def solve(size: Size) -> tuple[int, Int] | None:
    """(a symbol, what it must be for `size` to be 0), if one can be found. That a symbol must be a multiple of something is
    said with itself: `4*(s0 // 4)` for s0."""
    size = _without_common_factor(size)
    for monomial, c in size.terms:
        if len(monomial) == 1 and c in (1, -1) and monomial[0].symbol >= 0:
            index, rest = monomial[0].symbol, size - Size(((monomial, c),))
            found = -rest if c == 1 else rest
            if index not in symbols(found) or same(substitute(found, _Replaced(index, found)), found):
                return index, found
    return None


def _without_common_factor(size: Size) -> Size:
    """A size that is 0 for the same values: without the number and the symbols that divide every term."""
    factor = gcd(*(c for _, c in size.terms))
    terms = tuple((m, c // factor) for m, c in size.terms)
    for atom in size.terms[0][0]:
        divided = [term_quotient(m, c, ((atom,), 1)) for m, c in terms]
        if atom.symbol >= 0 and all(divided):
            terms = tuple(t for t in divided if t is not None)
    return as_size(from_terms(dict(terms)))


class _Replaced(dict[int, Int]):
    """Symbols, of which one is replaced."""

    def __init__(self, index: int, size: Int) -> None:
        super().__init__({index: size})

    def __missing__(self, index: int) -> Int:
        return symbol(index)


def solved(equations: Sequence[Size], n: int, before: Sequence[Int] = ()) -> list[Int]:
    """What each of `n` symbols is where all the sizes in `equations` are 0: itself, a constant, or made of others.
    `before` is the answer for the first symbols and earlier equations, which is gone on from.

    Equations that no symbol can be taken out of are left out, so the result may say less than they do, never something
    else.
    """
    found: list[Int] = [*before, *(symbol(i) for i in range(len(before), n))]
    for equation in equations:
        zero = substitute(equation, found)
        answer = solve(zero) if isinstance(zero, Size) else None
        if answer is not None:
            found = [substitute(f, _Replaced(*answer)) for f in found]
    return found
