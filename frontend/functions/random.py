"""Random tensors: rand, randn, randint, randperm, bernoulli, uniform_, normal_.

In: a generator, whose seed and offset enter as run-time scalars. Out: numbers made from Philox bits; equal seeds give
equal bits on every machine. Uniform numbers have as many random bits as their dtype has digits (float32: 24, float64: 53);
normal ones come from pairs of them by Box and Muller's formula, so float32 normals lie within 5.8 standard deviations. Narrow
floats are drawn as what they accumulate in, all but uniform ones, and rounded once. Next: `more_random.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau import generator as generators
from flambeau import host
from flambeau.declarations import declared
from flambeau.device import Device, place
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, float32, float64, int64
from flambeau.dialects.tape.source import philox
from flambeau.function import Default, Operand, Sizes, Static, Stream_, Tensor_, builder, function, inplace
from flambeau.functions.common import check_between, check_floating, ops, size_of
from flambeau.functions.complex import view_as_real
from flambeau.functions.from_data import alike, check_leaf, drawn_dtype, with_grad
from flambeau.generator import Generator
from flambeau.runtime import OutOfMemory
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- bits to numbers --------------------------------------------------------------------------------------


def _bits(seed: Value, offset: Value, shape: tuple[int, ...], kept: int) -> Value:
    """The upper `kept` of 32 random bits, as numbers from 0 to 2**kept - 1."""
    drawn = ops.random_bits(seed.cast(int64), offset.cast(int64), shape=shape)
    return ops.and_(ops.shr(drawn, drawn.like(32 - kept)), drawn.like(2**kept - 1))


def uniform_unit(seed: Value, offset: Value, shape: tuple[int, ...], dtype: DType) -> Value:
    """Uniform numbers in [0, 1): k / 2**p for p bits of precision, those of `dtype`: 24 in float32, 53 in float64 (from two
    draws)."""
    precision = dtype.mantissa + 1
    if _words(dtype) == 1:
        return _bits(seed, offset, shape, precision).cast(dtype.accumulation).cast(dtype) * 2.0**-precision
    high = _bits(seed, offset, shape, 27).cast(float64)
    low = _bits(seed, offset + math.prod(shape), shape, 26).cast(float64)
    return (high * 2.0**26 + low) * 2.0**-53


def _words(dtype: DType) -> int:
    """How many words of 32 bits a number takes."""
    if not dtype.is_floating_point or dtype.mantissa > 52:
        raise RuntimeError(f"[random] there are no random numbers of {dtype.name}. Use float32 or float64.")
    return 1 if dtype.mantissa < 32 else 2


def _draws(size: tuple[int, ...], dtype: DType) -> int:
    host.byte_count(size, dtype)  # twice as many numbers can still be counted
    return math.prod(size) * (_words(dtype) if dtype.is_floating_point else 1)


def _uniform(generator: Any, shape: tuple[int, ...], dtype: DType) -> Value:
    """Uniform numbers, drawn from the generator of the rule being expanded."""
    seed, offset = generator
    builder().draws += _draws(shape, dtype)
    return uniform_unit(seed, offset, shape, dtype)


def _normal(generator: Any, shape: tuple[int, ...], dtype: DType) -> Value:
    """Normal numbers, likewise, in the accumulation dtype of `dtype`. Box and Muller (1958): sqrt(-2 log(1 - u)) cos(2 pi v)."""
    seed, offset = generator
    dtype = dtype.accumulation
    builder().draws += 2 * _draws(shape, dtype)
    first = uniform_unit(seed, offset, shape, dtype)
    second = uniform_unit(seed, offset + _draws(shape, dtype), shape, dtype)
    return ops.sqrt(ops.log(1.0 - first) * -2.0) * ops.cos(second * (2.0 * math.pi))


def _between(unit: Value, low: Value, high: Value) -> Value:
    low, high = (v.cast(unit.dtype).expand(unit.shape) for v in (low, high))
    return low + (high - low) * unit


def _moved(drawn: Value, mean: Value, std: Value) -> Value:
    """Normal numbers with another mean and standard deviation."""
    mean, std = (v.cast(drawn.dtype).expand(drawn.shape) for v in (mean, std))
    return mean + std * drawn


_PROBABILITY = "is not between 0 and 1. Use a probability."


# ---- new tensors ------------------------------------------------------------------------------------------


@function(name="randint")
def _randint(
    size: Sizes, dtype: Static, low: Operand, high: Operand, generator: Stream_ = generators.default_generator
):
    unit = _uniform(generator, size, float64)
    width = (high - low).cast(float64).expand(size)
    return (ops.floor(unit * width).cast(int64) + low.expand(size)).cast(dtype)


def _rand(
    *args: Any,
    size: Any = (),
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    return _plainly(rand, args or size, generator, dtype, device, requires_grad)


def _randn(
    *args: Any,
    size: Any = (),
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    return _plainly(randn, args or size, generator, dtype, device, requires_grad)


def _plainly(
    function: Any, size: Any, generator: Any, dtype: DType | None, device: Device, requires_grad: bool
) -> Tensor:
    """A call that was not recorded as it stands, in a form that is. Raises TypeError where there is none."""
    if not isinstance(generator, Generator | None):
        raise TypeError(f"[{function.name}] generator is {generator!r}. Pass a Generator.")
    place(device)  # what is none would come back here
    shape = size_of(function.name, size)
    made = function(shape, dtype=drawn_dtype(function.name, dtype), generator=generator, device=device)
    return with_grad(made, requires_grad)


@function(
    free="flambeau", samples=calls(lambda: [call(2, 3), call((70,), dtype=float64)]), variadic=True, otherwise=_rand
)
def rand(
    size: Sizes = (),
    *,
    generator: Stream_ = generators.default_generator,
    dtype: Static = None,
    device: Static = None,
    requires_grad: Default = False,
):
    """Uniform random numbers in [0, 1): `rand(2, 3)` or `rand((2, 3))`; both parts of complex ones."""
    dtype, shape = drawn_dtype("rand", dtype), size_of("rand", size)
    if dtype.is_complex:
        return ops.view_as_complex(_uniform(generator, (*shape, 2), dtype.to_real()))
    return _uniform(generator, shape, dtype)


@function(
    free="flambeau", samples=calls(lambda: [call(2, 3), call((70,), dtype=float64)]), variadic=True, otherwise=_randn
)
def randn(
    size: Sizes = (),
    *,
    generator: Stream_ = generators.default_generator,
    dtype: Static = None,
    device: Static = None,
    requires_grad: Default = False,
):
    """Normally distributed random numbers with mean 0 and variance 1: half of it in each part of complex ones."""
    dtype, shape = drawn_dtype("randn", dtype), size_of("randn", size)
    if dtype.is_complex:
        return ops.view_as_complex(_normal(generator, (*shape, 2), dtype.to_real()) * math.sqrt(0.5))
    return _normal(generator, shape, dtype).cast(dtype)


@declared(free="flambeau", samples=calls(lambda: [call(data(2, 3), gradient=False)]), recalled="operand")
def rand_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform random numbers in the shape and dtype of `input`, on its device."""
    return alike(
        "rand_like",
        rand,
        input,
        input.shape,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
        memory_format=memory_format,
        generator=generator,
    )


@declared(free="flambeau", samples=calls(lambda: [call(data(2, 3), gradient=False)]), recalled="operand")
def randn_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normally distributed random numbers in the shape and dtype of `input`, on its device."""
    return alike(
        "randn_like",
        randn,
        input,
        input.shape,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
        memory_format=memory_format,
        generator=generator,
    )


def check_drawn(op: str, dtype: DType, low: int, high: int) -> None:
    """Raise RuntimeError where an integer dtype does not hold all from `low` to `high` - 1."""
    if dtype.is_integer and not (dtype.least <= low and high - 1 <= dtype.greatest):
        raise RuntimeError(
            f"[{op}] {low}..{high - 1} are not all values of {dtype.name}. Use {dtype.least}..{dtype.greatest}."
        )


def _bounds(op: str, given: tuple[Any, ...], low: Any, high: Any) -> tuple[Any, Any]:
    """(low, high) of what was written before the size: nothing, `high`, or `low, high`; the rest by name. Checked."""
    written = list(given)
    high = written.pop() if high is None and written else high
    low = written.pop() if low is None and written else 0 if low is None else low
    if written or high is None:
        raise TypeError(f"[{op}] the bounds are {given}, low={low}, high={high}. Pass (high) or (low, high).")
    for n in (low, high):
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"[{op}] bound {n!r} is a {type(n).__name__}. Pass an int.")
    low, high = low.__index__(), high.__index__()
    if high <= low:
        raise RuntimeError(f"[{op}] there is no integer from {low} to {high} - 1. Make high larger than low.")
    return low, high


@declared(
    free="flambeau",
    samples=calls(lambda: [call(5, (2, 3)), call(-2, 2, (70,)), call(3, 3, (2,), error=(RuntimeError, ""))]),
)
def randint(
    *bounds_and_size: Any,
    low: int | None = None,
    high: int | None = None,
    size: Any = None,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """`randint(high, size)` or `randint(low, high, size)`: integers from `low` (0) to `high` - 1, of int64.

    Raises RuntimeError for an empty range, and for bounds that an integer dtype does not hold.
    """
    there = place(device)
    given: Any = bounds_and_size
    if size is None:
        if not given:
            raise TypeError(
                "[randint] argument 'size' is missing. Write randint(high, size) or randint(low, high, size)."
            )
        *given, size = given
    low, high = _bounds("randint", tuple(given), low, high)
    shape, dtype = size_of("randint", (size,)), host.check_supported("randint", dtype or int64)
    check_drawn("randint", dtype, low, high)
    check_leaf("randint", dtype, requires_grad)
    made = _randint(shape, dtype, low, high, generator)
    return with_grad(made, requires_grad, there)


@declared(free="flambeau", samples=calls(lambda: [call(data(2, 3), 5, gradient=False)]), recalled="operand")
def randint_like(
    input: Tensor,
    *bounds: int,
    low: int | None = None,
    high: int | None = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """`randint` in the shape and dtype of `input`, on its device."""
    low, high = _bounds("randint_like", bounds, low, high)
    return alike(
        "randint_like",
        randint,
        input,
        low,
        high,
        input.shape,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
        memory_format=memory_format,
        generator=generator,
    )


def permutation(n: int, generator: Generator | None = None) -> np.ndarray:
    """0..n-1 in random order, on the host: the order of n random keys. Raises OutOfMemory, and then nothing is drawn."""
    nbytes = host.byte_count((2 * n,), int64)
    try:
        places = np.arange(2 * n, dtype=np.int64)
    except MemoryError:
        raise OutOfMemory(
            f"[memory] the system refused {nbytes} bytes for a permutation of {n} numbers. Use a smaller one."
        ) from None
    seed, offset = (generator or generators.default_generator)._advance(2 * n)
    words = philox(seed, places + offset).view(np.uint32).astype(np.uint64)
    return np.argsort(words[:n] << np.uint64(32) | words[n:], kind="stable")


@declared(free="flambeau", samples=calls(lambda: [call(6), call(0), call(-1, error=(RuntimeError, "-1"))]))
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers 0..n-1 in random order. Raises RuntimeError for a negative `n`."""
    there = place(device)
    if n < 0:
        raise RuntimeError(f"[randperm] n is {n}. Use at least 0.")
    dtype = host.check_supported("randperm", dtype or int64)
    check_leaf("randperm", dtype, requires_grad)
    return with_grad(host.copied(permutation(n, generator), dtype, there=there), requires_grad)


@function(name="bernoulli", fallible=True)
def _bernoulli(input: Tensor_, generator: Stream_ = generators.default_generator):
    check_floating("bernoulli", input)
    input = check_between("bernoulli", "input", input, 0, 1, _PROBABILITY)
    p = input.cast(input.dtype.accumulation)
    return (_uniform(generator, p.shape, p.dtype) < p).cast(input.dtype)


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(3, 4, low=0, high=1), gradient=False)]),
    recalled="operand",
)
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that the element gives, or with probability `p`, else 0, in the shape and dtype of `input`.

    Raises RuntimeError for one outside [0, 1] (of elements, when the value is read).
    """
    return _bernoulli(input, generator) if p is None else bernoulli_(input.detach().clone(), p, generator=generator)


# ---- in place ---------------------------------------------------------------------------------------------


@inplace(name="uniform_")
def _uniform_(input: Tensor_, low: Operand, high: Operand, generator: Stream_ = generators.default_generator):
    check_floating("uniform_", input)
    unit = _uniform(generator, input.shape, input.dtype)
    return _between(unit.cast(unit.dtype.accumulation), low, high)


@inplace(name="normal_")
def _normal_(input: Tensor_, mean: Operand, std: Operand, generator: Stream_ = generators.default_generator):
    check_floating("normal_", input)
    return _moved(_normal(generator, input.shape, input.dtype), mean, std)


@inplace(name="bernoulli_", fallible=True)
def _bernoulli_(input: Tensor_, p: Operand, generator: Stream_ = generators.default_generator):
    if not p.weak:
        p = check_between("bernoulli_", "p", p, 0, 1, _PROBABILITY)
    seed, offset = generator
    builder().draws += _draws(input.shape, input.dtype)
    unit = uniform_unit(seed, offset, input.shape, float32)
    return (unit < p.cast(float32).expand(input.shape)).cast(input.dtype)


@declared(method=True, samples=calls(lambda: [call(data(3, 4), -1, 2, gradient=False)]), recalled="operand")
def uniform_(input: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with uniform numbers in [from_, to), both parts of complex ones.

    Raises RuntimeError for bounds that are not finite or the wrong way round.
    """
    if input.dtype.is_complex:
        uniform_(view_as_real(input), from_, to, generator=generator)
        return input
    if not (math.isfinite(from_) and math.isfinite(to)):
        raise RuntimeError(f"[uniform_] from {from_} to {to} is no finite range. Use finite bounds.")
    if from_ > to:
        raise RuntimeError(f"[uniform_] from {from_} to {to} is empty. Swap the bounds.")
    return _uniform_(input, from_, to, generator)


@declared(method=True, samples=calls(lambda: [call(data(3, 4), -1, 2, gradient=False)]), recalled="operand")
def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with normally distributed numbers. Raises RuntimeError for a `std` that is negative or NaN."""
    if not std >= 0:
        raise RuntimeError(f"[normal_] std is {std}. Use at least 0.")
    if input.dtype.is_complex:
        normal_(view_as_real(input), 0.0, std * math.sqrt(0.5), generator=generator)
        return input.add_(mean) if mean else input  # type: ignore[attr-defined]
    return _normal_(input, mean, std, generator)


@declared(method=True, samples=calls(lambda: [call(data(3, 4), 0.25, gradient=False)]), recalled="types")
def bernoulli_(input: Tensor, p: float = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability `p`, else 0. Raises RuntimeError for one outside [0, 1]."""
    if not isinstance(p, Tensor) and not 0 <= p <= 1:
        raise RuntimeError(f"[bernoulli_] p is {p}. Use a probability from 0 to 1.")
    return _bernoulli_(input, p, generator)
