"""Integer division, bitwise logic and shifts.

In: integers, or for logic booleans too. Division fails at run time where the divisor is 0. Next: `compare.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.domain import Domain, failing
from flambeau.dialects.dtypes import INTEGER, LOGICAL, from_numpy, int64
from flambeau.dialects.record import NoGradient, OpRecord, Sample
from flambeau.dialects.tape.common import elementwise, points, quiet, samples_of, shapes

_DISCRETE = NoGradient("its result is discrete")


def _division(name: str, shown: str, divide, lower, doc: str) -> OpRecord:
    """`shown`: the public function that users are told of, also by exported programs."""

    def domain(x: Aval, y: Aval) -> Domain:
        text, advice = f"[{shown}] integer division by zero", "Replace zero divisors first."
        if not y.shape:
            return Domain(1, RuntimeError, text, f". {advice}")
        return Domain(1, RuntimeError, f"{text} at ", f" of a divisor of shape {y.shape}. {advice}")

    failure = failing(domain, 2)

    @quiet
    def reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        zeros = np.flatnonzero(y == 0)
        if zeros.size:
            raise failure(int(zeros[0]), Aval(np.shape(x), int64), Aval(np.shape(y), int64))
        return divide(x, y)

    return elementwise(
        name,
        2,
        dtypes=INTEGER,
        reference=reference,
        lower=lower,
        vjp=_DISCRETE,
        samples=lambda: points(2, _NONZERO) + shapes(2, 1, 9) + [_by_zero(shown)],
        fallible=True,
        failure=failure,
        domain=domain,
        fails=lambda b, x, y: b.cmp("eq", y, b.const(0, y)),
        doc=doc,
    )


def _by_zero(shown: str) -> Sample:
    x, y = np.ones((2, 3), np.int64), np.array([[1, 2, 3], [4, 0, 0]])
    return Sample(
        (x, y), error=(RuntimeError, f"[{shown}] integer division by zero at [1, 1] of a divisor of shape (2, 3).")
    )


_NONZERO = np.array([1.0, -1.0, 2.0, 3.0, -3.0, 7.0, -100.0, 2147483648.0, -2147483649.0, 9.3e18, -9.3e18])


int_div = _division(
    "int_div",
    "floor_divide",
    np.floor_divide,
    lambda b, x, y: b.int_div_floor(x, y),
    "The quotient rounded down; fails where y is 0; the least integer by -1 wraps.",
)
int_rem = _division(
    "int_rem",
    "remainder",
    np.remainder,
    lambda b, x, y: b.int_rem_floor(x, y),
    "The remainder of int_div, with the sign of y; fails where y is 0.",
)


def _logic(name: str, arity: int, reference, lower, doc: str) -> OpRecord:
    return elementwise(
        name,
        arity,
        weight=1,
        dtypes=LOGICAL,
        reference=reference,
        lower=lower,
        vjp=_DISCRETE,
        samples=samples_of(arity),
        doc=doc,
    )


and_ = _logic("and_", 2, np.bitwise_and, lambda b, x, y: b.and_(x, y), "Logical and; of integers, bit by bit.")
or_ = _logic("or_", 2, np.bitwise_or, lambda b, x, y: b.or_(x, y), "Logical or; of integers, bit by bit.")
xor = _logic("xor", 2, np.bitwise_xor, lambda b, x, y: b.xor(x, y), "Exclusive or; of integers, bit by bit.")
not_ = _logic("not_", 1, np.bitwise_not, lambda b, x: b.not_(x), "Logical not; of integers, every bit flipped.")


def _width(x: np.ndarray) -> int:
    return x.dtype.itemsize * 8


def _shl(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inside = (y >= 0) & (y < _width(x))
    return np.where(inside, np.left_shift(x, np.where(inside, y, 0)), 0).astype(x.dtype)


def _shr(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inside = (y >= 0) & (y < _width(x))
    if not from_numpy(x.dtype).is_signed:
        return np.where(inside, np.right_shift(x, np.where(inside, y, 0)), 0).astype(x.dtype)
    return np.right_shift(x, np.where(inside, y, _width(x) - 1).astype(x.dtype))


def _inside(b, y):
    return b.and_(b.cmp("ge", y, b.const(0, y)), b.cmp("lt", y, b.const(y.bits, y)))


def _lower_shl(b, x, y):
    """0 is shifted where the amount is out of range, by what its low bits say: no guard stands around the shift, which LLVM
    leaves away for GPUs, where the amount loses its high half."""
    kept = b.select(_inside(b, y), x, b.const(0, x))
    return b.shl(kept, b.and_(y, b.const(y.bits - 1, y)))


def _lower_shr(b, x, y):
    if not x.is_signed:
        return b.select(_inside(b, y), b.shr(x, b.and_(y, b.const(y.bits - 1, y))), b.const(0, x))
    return b.shr(x, b.select(_inside(b, y), y, b.const(y.bits - 1, y)))


def _shift(name: str, reference, lower, doc: str) -> OpRecord:
    return elementwise(
        name,
        2,
        weight=1,
        dtypes=INTEGER,
        reference=reference,
        lower=lower,
        vjp=_DISCRETE,
        samples=samples_of(2, -4, 40),
        doc=doc,
    )


shl = _shift("shl", _shl, _lower_shl, "x shifted left by y bits; 0 where y is negative or not below the width.")
shr = _shift(
    "shr",
    _shr,
    _lower_shr,
    "x shifted right by y bits, copying the sign; all sign (0 of unsigned) where y is out of the width's range.",
)


# ---- the greatest common divisor --------------------------------------------------------------------------


def _trailing_zeros(b, x):
    """Of an integer above 0: the bits below its lowest one."""
    return b.sub(b.bit_length(b.and_(x, b.sub(b.const(0, x), x))), b.const(1, x))


def _lower_gcd(b, x, y):
    """Stein's algorithm, "Computational problems associated with Racah algebra" (1967): odd numbers are subtracted, and the
    difference halved until it is odd. No division, which vectors do not have."""
    x, y = b.abs(x), b.abs(y)  # the least integer is a power of two, if its sign is taken for a bit
    zero, one = b.const(0, x), b.const(1, x)
    both = b.or_(x, y)
    common = _trailing_zeros(b, b.select(b.cmp("eq", both, zero), one, both))
    none = b.or_(b.cmp("eq", x, zero), b.cmp("eq", y, zero))
    odd = b.select(none, one, x)
    odd = b.shru(odd, _trailing_zeros(b, odd))

    def step(odd, rest):
        going = b.cmp("ne", rest, zero)
        halved = b.select(going, b.shru(rest, _trailing_zeros(b, b.select(going, rest, one))), odd)
        less = b.cmp("lt", halved, odd)
        smaller, larger = b.select(less, halved, odd), b.select(less, odd, halved)
        return [smaller, b.sub(larger, smaller)]

    rest = b.select(none, zero, y)
    odd, _ = b.repeat([odd, rest], lambda odd, rest: b.cmp("ne", rest, zero), step, 2 * x.bits)
    return b.select(none, both, b.shl(odd, common))


gcd = elementwise(
    "gcd",
    2,
    dtypes=INTEGER,
    reference=np.gcd,
    lower=_lower_gcd,
    vjp=_DISCRETE,
    samples=samples_of(2, -40, 40),
    doc="The greatest common divisor, not below 0; that of 0 and x is |x|. The least integer has no magnitude and stays itself.",
)
