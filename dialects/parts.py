"""Complex numbers as pairs of real ones: how ops on them are done in real arithmetic.

In: a record, operands and attributes. Out: what the op gives, in ops on real parts. A record says how in `OpRecord.parts`; what
says nothing is done to the real parts and to the imaginary parts (`each`), as moving, adding and choosing are. The pass
`legalise-complex` writes programs so, and references run so: all tiers give the bits of these formulas. A rule is given `Pair`s
where operands are complex, and gives one where the result is. Next: `tape/complex_formulas.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Builder, Value
from flambeau.dialects.dtypes import DType, from_numpy
from flambeau.dialects.record import NoGradient, OpRecord, Sample, find

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


def from_memory(aval: Aval) -> Aval:
    """The complex tensor that a real one is the memory of. Raises RuntimeError for one that is none's."""
    found: Any = find("view_as_complex").infer(aval)
    return found


#: What the name of a record ends in that `memory_form` makes.
IN_MEMORY = "_in_memory"


def memory_form(op: OpRecord) -> OpRecord:
    """The same op where complex numbers are real tensors with a last axis of 2, as they lie in memory: what `legalise-complex`
    writes for a record that says `by_memory`. With the attribute `complex` operands are such numbers, else real ones; what it
    gives may be complex in either case."""
    count = len(op.attrs) + 1

    def taken(avals: Sequence[Aval], is_complex: bool) -> list[Aval]:
        return [from_memory(a) if is_complex and a.dtype.is_inexact else a for a in avals]

    def infer(*args: Any) -> Any:
        found: Any = op.infer(*taken(args[:-count], args[-1]), *args[-count:-1])
        return in_memory(found) if op.is_single else tuple(map(in_memory, found))

    # operands have the names that they have there, which text tells their number from
    own = inspect.Parameter("complex", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    infer.__signature__ = inspect.Signature([*inspect.signature(op.infer).parameters.values(), own])  # type: ignore[attr-defined]

    def reference(*args: Any) -> Any:
        arrays = [_numbers(x) if args[-1] and x.dtype.kind == "f" else x for x in args[:-count]]
        found = op.reference(*arrays, *args[-count:-1])
        return _memory(found) if op.is_single else tuple(map(_memory, found))

    def failure(position: int, *args: Any) -> Exception:
        assert op.failure is not None
        return op.failure(position, *taken(args[:-count], args[-1]), *args[-count:-1])

    def samples() -> list[Sample]:
        small = [s for s in op.samples() if s.error is None and all(np.size(x) <= 18 for x in s.operands)]
        return [
            *(Sample(s.operands, {**s.attrs, "complex": False}, gradient=False) for s in small),
            *(
                Sample(tuple(map(_sample_numbers, s.operands)), {**s.attrs, "complex": True}, gradient=False)
                for s in small
                if s.numbers is None
            ),
            Sample(
                tuple([np.zeros((2, 3)) for _ in small[0].operands]),
                {**small[0].attrs, "complex": True},
                error=(RuntimeError, "does not have 2 elements. Put both parts of a number there."),
            ),
        ]

    return OpRecord(
        name=op.name + IN_MEMORY,
        kind=op.kind,
        attrs=(*op.attrs, "complex"),
        infer=infer,
        reference=reference,
        vjp=NoGradient(
            f"it stands in programs whose gradients are written already; that of `{op.name}` is what it has"
        ),
        lower=None,
        dtypes=[d for d in op.dtypes if not d.is_complex],
        exact=False,
        keep=op.keep,
        fallible=op.fallible,
        failure=failure if op.fallible else None,
        results=op.results,
        fixed=op.fixed,
        samples=samples,
        doc=f"`{op.name}` of complex numbers as they lie in memory, or with such results.",
    )


def _numbers(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.result_type(x.dtype, np.complex64))[..., 0]


def _sample_numbers(x: Any) -> np.ndarray:
    array = np.asarray(x)
    return _memory(array * (1 + 0.1j)) if array.dtype == np.float64 else array


def _memory(x: np.ndarray) -> np.ndarray:
    return np.stack([x.real, x.imag], -1) if np.iscomplexobj(x) else x


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
