"""Complex numbers as pairs of real ones: how ops on them are done in real arithmetic.

In: a record, operands and attributes. Out: what the op gives, in ops on real parts. A record says how in `OpRecord.parts`; what
says nothing is done to the real parts and to the imaginary parts (`each`), as moving, adding and choosing are. The pass
`legalise-complex` writes programs so, and references run so: all tiers give the bits of these formulas. A rule is given `Pair`s
where operands are complex, and gives one where the result is. Next: `tape/complex_formulas.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Builder, Value
from flambeau.dialects.dtypes import DType, from_numpy

if TYPE_CHECKING:
    from flambeau.dialects.record import OpRecord


class Pair(NamedTuple):
    """A complex value as its real and its imaginary part, `builder.Value`s of one type."""

    re: Any
    im: Any


def each(op: OpRecord, operands: Sequence[Any], attrs: Sequence[Any]) -> Pair:
    """The op done to real parts, and to imaginary parts; operands that are real (a condition, an index) take part in both."""
    named = dict(zip(op.attrs, attrs, strict=True))
    re, im = ([x[k] if isinstance(x, Pair) else x for x in operands] for k in range(2))
    return Pair(op(*re, **named), op(*im, **named))


def expanded(op: OpRecord, operands: Sequence[Any], attrs: Sequence[Any]) -> Any:
    """What the op gives, in ops on real parts."""
    return each(op, operands, attrs) if op.parts is None else op.parts(*operands, *attrs)


def in_memory(aval: Aval) -> Aval:
    """A complex tensor as the real one that it is in memory: the parts of a number are a last axis of 2."""
    if not aval.dtype.is_complex:
        return aval
    return aval._replace(shape=(*aval.shape, 2), dtype=aval.dtype.to_real())


# ---- references ------------------------------------------------------------------------------------------------


class ArrayBuilder(Builder):
    """Runs records on NumPy arrays at once, by their references."""

    def emit_all(self, op: OpRecord, operands: Sequence[Value], attrs: tuple[Any, ...]) -> tuple[Value, ...]:
        return tuple([self.wrap(np.asarray(x)) for x in op.run_reference([v.id for v in operands], attrs)])

    def wrap(self, array: np.ndarray) -> Value:
        return Value(self, array, Aval(array.shape, from_numpy(array.dtype)))


def joined(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """Complex numbers of these parts, whose bits they keep: `re + 1j * im` would not."""
    made = np.empty(np.shape(re), from_numpy(np.asarray(re).dtype).to_complex().numpy)
    made.real, made.imag = re, im
    return made


def by_parts(op: OpRecord) -> Callable[..., Any]:
    """The reference of a record that has `parts`: its own for real numbers, that of the formula for complex ones."""
    plain, builder = op.reference, ArrayBuilder()

    def operand(x: np.ndarray) -> Any:
        if np.iscomplexobj(x):
            return Pair(builder.wrap(np.asarray(x.real)), builder.wrap(np.asarray(x.imag)))
        return builder.wrap(np.asarray(x))

    @wraps(plain)
    def run(*args: Any) -> Any:
        n = len(args) - len(op.attrs)
        if not any(np.iscomplexobj(x) for x in args[:n]) and not any(
            isinstance(x, DType) and x.is_complex for x in args[n:]
        ):
            return plain(*args)
        assert op.parts is not None
        with np.errstate(all="ignore"):
            found = op.parts(*map(operand, args[:n]), *args[n:])
        return joined(found.re.id, found.im.id) if isinstance(found, Pair) else found.id

    return run
