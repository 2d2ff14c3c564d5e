"""Sizes that are known only when a program runs: integer expressions of a trace's symbols.

In: symbols, numbered from 0, each at least 2 (sizes 0 and 1 are always literal). Out: `Size`, which behaves like an int
where shapes are computed. A question about its value (a comparison, `int()`, printing) is answered from the values at
hand, the *hints*, and the answer is noted as a *guard*: what was built holds for all sizes for which the guards do.
Inside `size_guards.scope(hints)` guards are collected; elsewhere a question that has no certain answer is an error.
Next: `size_guards.py`; `size_rows.py`, what the runtime evaluates; `size_programs.py`, `size_text.py`, the ways back;
`size_equations.py`; `graph.py`.

A size is a polynomial with integer coefficients over symbols, divisions and extremes, in a normal form: equal sizes are
equal objects, and `a == b` needs no guard when the two forms agree. The compiler works in scopes that are `by_form`:
there sizes are equal only if their forms are, so that no program depends on a coincidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import gcd, inf
from operator import floordiv
from typing import Any, Union
from weakref import WeakValueDictionary

from flambeau.dialects.size_rows import GREATER, LESSER, QUOTIENT, program
from flambeau.dialects.size_scopes import asking, current

LEAST = 2  #: the least value of a symbol

Int = Union[int, "Size"]
_Monomial = tuple["Atom", ...]  # a product
_Term = tuple[_Monomial, int]


_TEXTS = {QUOTIENT: "(({}) // ({}))", LESSER: "min({}, {})", GREATER: "max({}, {})"}
_OPERATIONS: dict[int, Callable[[int, int], int]] = {QUOTIENT: floordiv, LESSER: min, GREATER: max}


class Atom:
    """A symbol, or a quotient or extreme of `parts` that has no simpler form. Ordered by its text. There is one object
    for each text, made by `_atom`, so that comparing two asks nothing and costs nothing."""

    __slots__ = ("__weakref__", "parts", "symbol", "text")

    def __init__(self, symbol: int, parts: tuple[Int, ...], text: str) -> None:
        self.symbol, self.parts, self.text = symbol, parts, text  # symbol < 0: what is made of the parts

    def __reduce__(self) -> tuple:
        return _atom, (self.symbol, self.parts)


_atoms: WeakValueDictionary[str, Atom] = WeakValueDictionary()


def _atom(symbol: int, parts: tuple[Int, ...] = ()) -> Atom:
    text = f"s{symbol}" if symbol >= 0 else _TEXTS[symbol].format(*map(repr_of, parts))
    return _atoms.get(text) or _atoms.setdefault(text, Atom(symbol, parts, text))


class Size:
    """An integer that depends on symbols. Arithmetic gives sizes (or ints, where the symbols cancel out)."""

    __slots__ = ("_hash", "terms")
    terms: tuple[
        tuple[_Monomial, int], ...
    ]  # monomials in order with their coefficients, none zero; () is the constant

    def __init__(self, terms: tuple[tuple[_Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash: int | None = None

    # ---- arithmetic

    def __add__(self, other: Any) -> Int:
        if not _is_size(other):
            return NotImplemented
        if not isinstance(other, Size):
            return self._plus(other)
        terms = dict(self.terms)
        for monomial, c in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + c
        return from_terms(terms)

    __radd__ = __add__

    def _plus(self, constant: int) -> Int:
        """The constant is the last term."""
        *rest, (monomial, c) = self.terms
        if monomial:
            return Size((*self.terms, ((), constant))) if constant else self
        return Size((*rest, ((), c + constant))) if c + constant else Size(tuple(rest))

    def __neg__(self) -> Int:
        return Size(tuple((m, -c) for m, c in self.terms))

    def __pos__(self) -> Int:
        return self

    def __sub__(self, other: Any) -> Int:
        return self + -other if _is_size(other) else NotImplemented

    def __rsub__(self, other: Any) -> Int:
        return -self + other if _is_size(other) else NotImplemented

    def __mul__(self, other: Any) -> Int:
        if not _is_size(other):
            return NotImplemented
        if not isinstance(other, Size):
            return Size(tuple([(m, c * other) for m, c in self.terms])) if other else 0
        terms: dict[_Monomial, int] = {}
        for m, c in self.terms:
            for n, d in other.terms:
                product = tuple(sorted(m + n, key=lambda a: a.text))
                terms[product] = terms.get(product, 0) + c * d
        return from_terms(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Int:
        return _floordiv(self, other) if _is_size(other) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Int:
        return _floordiv(other, self) if _is_size(other) else NotImplemented

    def __mod__(self, other: Any) -> Int:
        return self - self // other * other if _is_size(other) else NotImplemented

    def __rmod__(self, other: Any) -> Int:
        return other - other // self * self if _is_size(other) else NotImplemented

    def __divmod__(self, other: Any) -> tuple[Int, Int]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Int, Int]:
        return other // self, other % self

    def __abs__(self) -> Int:
        return self if self >= 0 else -self

    def bit_length(self) -> int:
        """Of the value at hand; guarded to within that power of two."""
        bits = int(evaluate(self, asking("bit_length").hints)).bit_length()
        if bits and not (self >= 1 << (bits - 1) and self < 1 << bits):
            raise AssertionError
        return bits

    # ---- questions

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not _is_size(other):
            return NotImplemented
        if isinstance(other, Size) and self.terms == other.terms:
            return True
        asked = current()
        return False if asked is not None and asked.by_form else _ask("==", self - other)

    def __ne__(self, other: object) -> bool:
        return not self == other if _is_size(other) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return _ask("<", self - other) if _is_size(other) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return _ask(">=", self - other) if _is_size(other) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return _ask("<", other - self) if _is_size(other) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return _ask(">=", other - self) if _is_size(other) else NotImplemented

    def __bool__(self) -> bool:
        return self != 0

    def __index__(self) -> int:
        """The value at hand; whatever is made with it holds for this value only."""
        return asking("int").fix(self)

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __truediv__(self, other: Any) -> float:
        return int(self) / other

    def __rtruediv__(self, other: Any) -> float:
        return other / int(self)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple([(m, 2 * c + 1) for m, c in self.terms]))  # odd: -1 and -2 have one hash
        return self._hash

    def __str__(self) -> str:
        """The value at hand (as `int` gives it); outside of scopes the expression."""
        return str(int(self)) if current() else repr_of(self)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if current() else format(repr_of(self), spec)

    def __reduce__(self) -> tuple:
        return Size, (self.terms,)

    # ---- for the recorder

    @property
    def program(self) -> tuple[tuple[int, int, int], ...]:
        """The size as rows of `PlanSpec.exprs`; the last is its value."""
        return program(self)

    def substitute(self, sizes: Sequence[Int]) -> Int:
        """With symbol i replaced by `sizes[i]`."""
        return substitute(self, sizes)


def symbol(index: int) -> Size:
    """The size that symbol `index` stands for."""
    return Size((((_atom(index),), 1),))


# ---- sizes and whatever contains them -------------------------------------------------------------------------


class Sized:
    """A static attribute of an op, other than a tuple, that may mention sizes. `key` is its exact identity."""

    __slots__ = ()
    key: bytes

    def substituted(self, sizes: Sequence[Int] | Mapping[int, Int]) -> Sized:
        """With symbol i replaced by `sizes[i]`."""
        raise NotImplementedError

    def symbols(self) -> frozenset[int]:
        """The symbols that it mentions."""
        raise NotImplementedError


def is_static(x: Any) -> bool:
    """Whether `x`, a size, an attribute or a nested tuple of these, mentions no symbol."""
    if isinstance(x, Sized):
        return not x.symbols()
    return all(map(is_static, x)) if isinstance(x, tuple) else not isinstance(x, Size)


def evaluate(size: Int, values: Sequence[int]) -> int:
    """The value of a size for these values of the symbols."""
    if not isinstance(size, Size):
        return size
    total = 0
    for monomial, c in size.terms:
        for atom in monomial:
            if atom.symbol >= 0:
                c *= values[atom.symbol]
            else:
                a, b = atom.parts
                c *= _OPERATIONS[atom.symbol](evaluate(a, values), evaluate(b, values))
        total += c
    return total


def substitute(x: Any, sizes: Sequence[Int] | Mapping[int, Int]) -> Any:
    """`x`, a size, an attribute or a nested tuple of these, with symbol i replaced by `sizes[i]`."""
    if isinstance(x, tuple):
        made = [substitute(i, sizes) for i in x]
        return type(x)(*made) if hasattr(x, "_fields") else tuple(made)
    if not isinstance(x, Size):
        return x.substituted(sizes) if isinstance(x, Sized) else x
    total: Int = 0
    for monomial, c in x.terms:
        product: Int = c
        for atom in monomial:
            if atom.symbol >= 0:
                product = product * sizes[atom.symbol]
            else:
                a, b = (substitute(p, sizes) for p in atom.parts)
                product = product * _BUILDERS[atom.symbol](a, b)
        total = total + product
    return total


def symbols(x: Any) -> frozenset[int]:
    """The symbols that `x`, a size, an attribute or a nested tuple of these, mentions."""
    if isinstance(x, tuple):
        return frozenset().union(*map(symbols, x))
    if not isinstance(x, Size):
        return x.symbols() if isinstance(x, Sized) else frozenset()
    atoms = [a for m, _ in x.terms for a in m]
    return frozenset(a.symbol for a in atoms if a.symbol >= 0).union(*(symbols(a.parts) for a in atoms))


def hint(size: Int) -> int:
    """The value at hand, without a guard: for estimates, and choices that change nothing but speed."""
    return evaluate(size, asking("hint").hints) if isinstance(size, Size) else size


def minimum(a: Int, b: Int) -> Int:
    """The lesser one; asks nothing."""
    return _extreme(LESSER, a, b)


def same(a: Int, b: Int) -> bool:
    """Whether the two are one expression, and so equal for all values; asks nothing."""
    if isinstance(a, Size) or isinstance(b, Size):
        return _terms(a) == _terms(b)
    return a == b


def at_most(a: Int, b: Int) -> bool:
    """Whether a <= b for all values of the symbols, as far as that is certain; asks nothing."""
    return _bounds(b - a)[0] >= 0


def maximum(a: Int, b: Int) -> Int:
    """The greater one; asks nothing."""
    return _extreme(GREATER, a, b)


def ceil_div(a: Int, b: Int) -> Int:
    """a / b rounded up."""
    return -(-a // b)


def repr_of(size: Int) -> str:
    """The expression as text, such as `s0*64 + s1 - 1`."""
    if not isinstance(size, Size):
        return str(size)
    text = ""
    for monomial, c in size.terms:
        factors = [*([str(abs(c))] if abs(c) != 1 or not monomial else []), *(a.text for a in monomial)]
        sign = " - " if c < 0 else " + "
        text += (sign if text else "-" if c < 0 else "") + "*".join(factors)
    return text


# ---- the normal form ------------------------------------------------------------------------------------------


def _is_size(x: object) -> bool:
    return isinstance(x, (Size, int)) and x is not True and x is not False


def _terms(x: Int) -> tuple[tuple[_Monomial, int], ...]:
    return x.terms if isinstance(x, Size) else (((), int(x)),)


def from_terms(terms: dict[_Monomial, int]) -> Int:
    kept = sorted(((m, c) for m, c in terms.items() if c), key=lambda t: (-len(t[0]), [a.text for a in t[0]]))
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Size(tuple(kept))


def as_size(x: Int) -> Size:
    return x if isinstance(x, Size) else Size((((), x),))


def _primitive(size: Size) -> tuple[tuple[_Term, ...], int, int]:
    """(terms, constant, factor): the size is `factor * terms + constant`, the terms without a common divisor."""
    constant = sum(c for m, c in size.terms if not m)
    factor = gcd(*(c for m, c in size.terms if m)) or 1
    return tuple((m, c // factor) for m, c in size.terms if m), constant, factor


def _extreme(which: int, a: Int, b: Int) -> Int:
    low, high = _bounds(b - a)
    if low >= 0 or high <= 0:
        return a if (low >= 0) == (which == LESSER) else b
    return Size((((_atom(which, tuple(sorted((a, b), key=repr_of))),), 1),))


def term_quotient(monomial: _Monomial, c: int, divisor: tuple[_Monomial, int]) -> tuple[_Monomial, int] | None:
    """The term divided by another term, where that goes without a rest."""
    rest = list(monomial)
    for atom in divisor[0]:
        if atom not in rest:
            return None
        rest.remove(atom)
    return (tuple(rest), c // divisor[1]) if c % divisor[1] == 0 else None


_LONGEST_DIVISION = 16  # terms of a quotient that are looked for


def _floordiv(a: Int, b: Int) -> Int:
    """floor(a / b): what divides evenly is taken out, the rest becomes an atom unless it is a small constant."""
    if not isinstance(a, Size) and not isinstance(b, Size):
        return a // b
    if not isinstance(b, Size) and b == 0:
        raise ZeroDivisionError("integer division or modulo by zero")
    if _terms(a) == _terms(b):
        return 1
    whole: dict[_Monomial, int] = {}
    rest: dict[_Monomial, int] = {}
    divisor = _terms(b)[0] if len(_terms(b)) == 1 else None
    for m, c in _terms(a):
        found = term_quotient(m, c, divisor) if divisor else None
        into, (m, c) = (whole, found) if found else (rest, (m, c))
        into[m] = into.get(m, 0) + c
    left = from_terms(rest)
    if not isinstance(left, Size) and not isinstance(b, Size):
        return from_terms(whole) + left // b
    if not isinstance(left, Size) and left == 0:
        return from_terms(whole)
    if _is_rest(left, b):
        return from_terms(whole)
    quotient, left = _long_division(left, b)
    if (not isinstance(left, Size) and left == 0) or _is_rest(left, b):
        return from_terms(whole) + quotient
    left = left + quotient * b
    return from_terms(whole) + Size((((_atom(QUOTIENT, (left, b)),), 1),))


def _is_rest(a: Int, b: Int) -> bool:
    """Whether 0 <= a < b for certain."""
    return _bounds(a)[0] >= 0 and _bounds(b - a)[0] > 0


def _long_division(a: Int, b: Int) -> tuple[Int, Int]:
    """(quotient, rest): a = quotient * b + rest, as far as terms divide by the leading term of b."""
    quotient: Int = 0
    leading = _terms(b)[0]
    for _ in range(_LONGEST_DIVISION):
        found = next((q for m, c in _terms(a) if (q := term_quotient(m, c, leading))), None)
        if found is None:
            break
        term = from_terms(dict([found]))
        quotient, a = quotient + term, a - term * b
    return quotient, a


_BUILDERS: dict[int, Callable[[Int, Int], Int]] = {
    QUOTIENT: lambda a, b: a // b,
    LESSER: minimum,
    GREATER: maximum,
}


@lru_cache(4096)
def _bounds(size: Int) -> tuple[float, float]:
    """The least and the greatest value that symbols of at least `LEAST` allow."""
    if not isinstance(size, Size):
        return size, size
    low = high = 0.0
    for monomial, c in size.terms:
        a, b = 1.0, 1.0
        for atom in monomial:
            x, y = _atom_bounds(atom)
            if x < 0:
                return -inf, inf
            a, b = a * x, b * y
        low, high = (low + c * a, high + c * b) if c > 0 else (low + c * b, high + c * a)
    return low, high


def _atom_bounds(atom: Atom) -> tuple[float, float]:
    if atom.symbol >= 0:
        return LEAST, inf
    (a, b), (c, d) = (_bounds(p) for p in atom.parts)
    if atom.symbol != QUOTIENT:
        pick = min if atom.symbol == LESSER else max
        return pick(a, c), pick(b, d)
    if a < 0 or c <= 0:
        return -inf, inf
    return (0 if d == inf else a // d), (inf if b == inf else b // c)


_RELATIONS: dict[str, Callable[[int], bool]] = {
    "==": lambda v: v == 0,
    "!=": lambda v: v != 0,
    "<": lambda v: v < 0,
    ">=": lambda v: v >= 0,
}


def _decide(relation: str, low: float, high: float) -> bool | None:
    """Whether a value between the bounds stands in the relation to 0; None where that is not certain."""
    if low == high == 0:
        return relation in ("==", ">=")
    if low > 0:
        return relation in ("!=", ">=")
    if high < 0:
        return relation in ("!=", "<")
    if low >= 0 and relation in (">=", "<"):
        return relation == ">="
    return None


def _ask(relation: str, difference: Int) -> bool:
    if not isinstance(difference, Size):
        return _RELATIONS[relation](difference)
    certain = _decide(relation, *_bounds(difference))
    return asking("a comparison").ask(relation, difference) if certain is None else certain
