"""What the op families share: operand checks, the maker of elementwise records, and sample operands.

In: the families' functions. Out: `elementwise`, the checks used by `infer`, `ops` to write vjps with, and `Samples`.
Next: `elementwise.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import DType, bool_, by_name, is_inexact, narrow
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample, find


class _RecordsByName:
    """`ops.sum` is the record "sum", looked up when used: a vjp may name ops of any family."""

    def __getattr__(self, name: str) -> OpRecord:
        return find(name)


ops: _RecordsByName = _RecordsByName()

Samples = Callable[[], list[Sample]]

#: Zeros, denormals, ordinary values, integers just beyond the 32-bit range, the largest values, infinities and NaN.
SPECIALS = np.array(
    [
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.0,
        -1.0,
        1.5,
        -2.5,
        2.0,
        3.0,
        -3.0,
        100.0,
        -100.0,
        1e-310,
        -1e-40,
        1e-20,
        1e20,
        2147483648.0,
    ]
    + [-2147483649.0, 9.3e18, -9.3e18, 3e38, -1.7e308, np.inf, -np.inf, np.nan]
)
#: Shapes and an axis: lines of one element and of none, no lines, lines beside each other, and lines longer than a vector.
LINES = (
    ((1,), 0),
    ((7,), 0),
    ((0, 3), 0),
    ((3, 0), 0),
    ((2, 3, 4), 1),
    ((67, 3), 0),
    ((3, 131), 1),
    ((2, 19, 5), 1),
)
SHAPES = ((), (0,), (1,), (7,), (67,), (3, 5), (2, 0, 3), (4099,), (1, 1), (5, 1, 13))


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` without NumPy's warnings: infinities, NaNs and wrapping integers are results, not accidents."""

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return run


def rounded_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` (operand arrays..., attrs...) for narrow floats, too: these are computed in the dtype that they accumulate
    in (`DType.accumulation`), and the result is rounded once. All others it gets as they are."""

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        dtype = next((d for a in args if isinstance(a, np.ndarray | np.generic) and (d := narrow(a.dtype))), None)
        if dtype is None:
            return function(*args)
        results = function(*(widened(a) for a in args))
        if isinstance(results, tuple):
            return tuple([_rounded(r, dtype) for r in results])
        return _rounded(results, dtype)

    return run


def _rounded(result: Any, dtype: DType) -> np.ndarray:
    """A result of what was widened, in the narrow dtype; one that is no float there, as it is. Rounding computes: NaNs are one."""
    result = np.asarray(result)
    return one_nan(result.astype(dtype.numpy)) if result.dtype == dtype.accumulation.numpy else result


def widened(x: Any) -> Any:
    """An array of narrow floats in the dtype that they accumulate in; anything else as it is."""
    dtype = narrow(x.dtype) if isinstance(x, np.ndarray | np.generic) else None
    return x.astype(dtype.accumulation.numpy) if dtype else x


@quiet
def saturate(x: np.ndarray, dtype: DType) -> np.ndarray:
    """The language's conversion: float to int truncates and saturates, NaN becomes 0; number to bool is x != 0. Integers wrap.
    What is narrow is converted from and to the dtype that it accumulates in; what registers carry as integers has one NaN."""
    x = np.asarray(widened(np.asarray(x)))
    if dtype.is_bool:
        return np.asarray(x != 0)
    if x.dtype.kind == "c" and not dtype.is_complex:
        x = np.asarray(x.real)
    if not dtype.has_infinity:
        x = np.clip(
            x.astype(dtype.accumulation.numpy), dtype.least, dtype.greatest
        )  # as in PyTorch; ml_dtypes gives NaN
    if not is_inexact(x) or not dtype.is_integer:
        result = x.astype(dtype.accumulation.numpy).astype(dtype.numpy)
        return one_nan(result) if dtype.carrier else result  # as kernels write it, bit by bit
    low, high = x.dtype.type(dtype.least), x.dtype.type(dtype.greatest)  # high may round up to 2**31 or 2**63
    inside = (x >= low) & (x < high)
    result = np.where(inside, x, 0).astype(dtype.numpy)
    result = np.where(x >= high, dtype.numpy.type(dtype.greatest), result)
    return np.where(x < low, dtype.numpy.type(dtype.least), result)


def one_nan(x: np.ndarray) -> np.ndarray:
    """`x` with the canonical NaN for every NaN, of complex numbers in each part; itself where there is none, as among integers."""
    if not is_inexact(x):
        return x
    if x.dtype.kind == "c":
        made = np.array(x, order="C")
        for part in (made.real, made.imag):
            part[...] = one_nan(part)
        return made
    found = np.isnan(x)
    return np.where(found, x.dtype.type(np.nan), x) if found.any() else x


def is_zero(x: np.ndarray, negative: bool) -> np.ndarray:
    """Where elements are the zero of that sign."""
    return (x == 0) & (np.signbit(x) == negative)


def zeros_signed(x: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """`x` with its zeros negative where that says so, else positive."""
    return np.where(x == 0, np.where(negative, x.dtype.type(-0.0), x.dtype.type(0.0)), x)


def is_extreme(x: Any, r: Any) -> Any:
    """Where an element is the extreme `r` that was taken; a NaN is."""
    here = x.eq(r)
    return ops.or_(here, x.ne(x)) if x.dtype.is_floating_point else here


def names(dtypes: Sequence[DType]) -> str:
    return ", ".join(d.name for d in dtypes)


def check_dtype(op: str, aval: Aval, dtypes: Sequence[DType], what: str = "operand") -> None:
    if aval.dtype not in dtypes:
        # PyTorch has no kernels of these either, and says so with this class
        is_missing = aval.dtype.is_stored_only or aval.dtype.is_complex
        kind = NotImplementedError if is_missing else RuntimeError
        raise kind(f"[{op}] {what} has dtype {aval.dtype.name}, not one of {names(dtypes)}. Cast it first.")


def check_scalar(op: str, aval: Aval, dtype: DType, what: str) -> None:
    if aval.shape or aval.dtype is not dtype:
        found = f"{aval.dtype.name} of shape {aval.shape}"
        raise RuntimeError(f"[{op}] {what} is {found}. Pass a 0-d {dtype.name}.")


def check_same(op: str, avals: Sequence[Aval]) -> None:
    """All operands have one shape and one dtype."""
    if any(a.shape != avals[0].shape for a in avals):
        shapes = " and ".join(str(a.shape) for a in avals)
        raise RuntimeError(f"[{op}] operands have shapes {shapes}. Broadcast them to one shape first.")
    if len({a.dtype for a in avals}) > 1:
        found = " and ".join(a.dtype.name for a in avals)
        raise RuntimeError(f"[{op}] operands have dtypes {found}. Cast them to one dtype first.")


def check_axis(op: str, axis: Any, rank: int, what: str = "axis") -> None:
    if not isinstance(axis, int) or not 0 <= axis < rank:
        allowed = f"Give one of 0..{rank - 1}." if rank else "A 0-d operand has no axes."
        raise IndexError(f"[{op}] {what} {axis} is out of range for an operand of rank {rank}. {allowed}")


def check_length(op: str, what: str, values: Sequence[Any], rank: int) -> None:
    if len(values) != rank:
        raise RuntimeError(
            f"[{op}] `{what}` is {tuple(values)} for an operand of rank {rank}. Give one number per dimension."
        )


def elementwise(
    name: str,
    arity: int,
    *,
    dtypes: Sequence[DType],
    reference: Callable[..., Any],
    lower: Callable[..., Any],
    vjp: Callable[..., tuple[Any, ...]] | NoGradient,
    samples: Samples,
    doc: str,
    result: DType | None = None,
    results: dict[str, DType | None] | None = None,
    gives_reals: bool = False,
    holomorphic: bool = False,
    **fields: Any,
) -> OpRecord:
    """A record of kind ELEMENTWISE whose operands share shape and dtype; `result` is its dtype where that differs. Several
    `results` are given by name, each with its dtype or None for that of the operands; `gives_reals`: for that of their parts, where
    these are complex. `holomorphic`: the vjp is that of real numbers; of complex ones the conjugate of its derivative counts."""
    dtypes_of_results = {"result": result} if results is None else results

    def infer(*avals: Aval) -> Aval | tuple[Aval, ...]:
        if len(avals) != arity:
            raise TypeError(f"[{name}] takes {arity} operand(s), got {len(avals)}. Give every operand once.")
        check_same(name, avals)
        check_dtype(name, avals[0], dtypes)
        first = avals[0]
        own = first.dtype.to_real() if gives_reals else first.dtype
        if results is None and (result or own) is first.dtype and first.device == CPU:
            return first  # nearly always
        found = tuple(Aval(first.shape, dtype or own) for dtype in dtypes_of_results.values())
        return found[0] if results is None else found

    return OpRecord(
        name=name,
        kind=Kind.ELEMENTWISE,
        attrs=(),
        infer=infer,
        reference=quiet(rounded_once(reference)),
        vjp=_conjugated(vjp) if holomorphic else vjp,
        lower=_on_equal_lanes(lower) if arity > 1 else lower,
        dtypes=dtypes,
        samples=lambda: samples() + bad_operands(name, arity, dtypes),
        doc=doc,
        results=tuple(dtypes_of_results),
        **fields,
    )


def _conjugated(vjp: Callable[..., tuple[Any, ...]] | NoGradient) -> Callable[..., tuple[Any, ...]] | NoGradient:
    """A vjp that multiplies by derivatives, as one that multiplies by their conjugates where numbers are complex: PyTorch's
    convention, in which a gradient points where a real loss grows."""
    if isinstance(vjp, NoGradient):
        return vjp

    def rule(ct: Any, *rest: Any) -> tuple[Any, ...]:
        if not ct.dtype.is_complex:
            return vjp(ct, *rest)
        return tuple([part if part is None else part.conj() for part in vjp(ct.conj(), *rest)])

    return rule


def _on_equal_lanes(lower: Callable[..., Any]) -> Callable[..., Any]:
    """A lowering that is given operands of equal lanes: what it does to a scalar beside a vector depends on nothing else."""
    return lambda b, *operands: lower(b, *b.unify(*operands))


def bad_operands(name: str, arity: int, dtypes: Sequence[DType]) -> list[Sample]:
    """Calls that every elementwise op with operands of one type must refuse."""
    dtype = dtypes[0].numpy
    bad = []
    if arity > 1:
        shapes = [np.zeros(2, dtype)] * (arity - 1) + [np.zeros(3, dtype)]
        bad.append(Sample(tuple(shapes), error=(RuntimeError, f"[{name}] operands have shapes (2,) and")))
        other = np.zeros(2, dtypes[-1].numpy)
        mixed = [np.zeros(2, dtype)] * (arity - 1) + [other]
        if other.dtype != dtype:
            bad.append(
                Sample(tuple(mixed), error=(RuntimeError, f"[{name}] operands have dtypes {dtypes[0].name} and"))
            )
    refused = next((d for d in (bool_, by_name("float32"), by_name("int32")) if d not in dtypes), None)
    if refused is not None:
        text = f"[{name}] operand has dtype {refused.name}, not one of {names(dtypes)}. Cast it first."
        bad.append(Sample((np.zeros(2, refused.numpy),) * arity, error=(RuntimeError, text)))
    return bad


def random(shape: tuple[int, ...], low: float = -3.0, high: float = 3.0, seed: int = 0) -> np.ndarray:
    """Reproducible data in [low, high)."""
    generator = np.random.default_rng([seed, *shape])
    return np.asarray(generator.uniform(low, high, shape))


def points(arity: int = 1, values: np.ndarray = SPECIALS) -> list[Sample]:
    """One sample with every combination of `values`; no gradient is checked there."""
    grid = np.meshgrid(*[values] * arity, indexing="ij")
    return [Sample(tuple(np.ascontiguousarray(g.ravel()) for g in grid), gradient=False)]


def shapes(arity: int = 1, low: float = -3.0, high: float = 3.0) -> list[Sample]:
    """One sample per shape in SHAPES, of ordinary values."""
    return [
        Sample(
            tuple(random(shape, low, high, seed) for seed in range(arity)), gradient=len(shape) != 1 or shape[0] < 64
        )
        for shape in SHAPES
    ]


def samples_of(arity: int = 1, low: float = -3.0, high: float = 3.0, values: np.ndarray = SPECIALS) -> Samples:
    return lambda: points(arity, values) + shapes(arity, low, high)


def in_float64(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The reference of a function that NumPy computes best in float64: evaluated there, rounded once."""

    def run(*arrays: np.ndarray) -> np.ndarray:
        result = function(*(np.asarray(a, np.float64) for a in arrays))
        return np.asarray(result).astype(arrays[0].dtype)

    return run


def reduce_axes(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i not in axes)
