"""fmod, %, // and div with a rounding mode of floats: exact for every quotient, PyTorch's results at the edges, on every
tier and in every width of vectors."""

import math
from fractions import Fraction

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler.backend import object_code
from flambeau.compiler.export import elf
from flambeau.compiler.options import Options
from flambeau.dialects.dtypes import FLOATING
from flambeau.dialects.record import find
from flambeau.dialects.tape.division import MOST_STEPS
from map_kernel import Kernel, Map
from numpy_emitter import NumpyEmitter, Val
from support import against_torch, gradients_against_torch, rounds

NAMES = ("fmod", "remainder", "floor_div")
#: Narrow floats are computed in float32 and rounded once: `test_narrow_dtypes.py`.
DTYPES = [d.numpy.type for d in FLOATING if d.accumulation is d]
OURS = {"fmod": fb.fmod, "remainder": fb.remainder, "floor_div": fb.floor_divide}


def everywhere(dtype, count, seed=0):
    """Numbers of every magnitude and sign, and the format's edges."""
    rng, info = np.random.default_rng(seed), np.finfo(dtype)
    low, high = math.log2(float(info.smallest_subnormal)), math.log2(float(info.max))
    numbers = np.exp2(rng.uniform(low, high, count)) * rng.choice([-1, 1], count)
    return numbers.astype(dtype)


def usual(dtype, count, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4, count)).astype(dtype)


def edges(dtype):
    info = np.finfo(dtype)
    one_less = np.nextafter(dtype(1), dtype(0))
    values = [0.0, 1.0, 3.0, 0.5, 7.5, one_less, info.max, info.tiny, info.smallest_subnormal, np.inf, np.nan]
    values = np.array([*values, *(-v for v in values)], dtype)
    return [g.ravel() for g in np.meshgrid(values, values)]


def just_below_multiples(dtype, count, seed=3):
    """x one place below, at, and one above a whole multiple of y, where a rounded quotient is one too large."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(1, 2, count).astype(dtype)
    x = (y * 2.0 ** rng.integers(0, 30, count)).astype(dtype) * rng.integers(1, 100, count).astype(dtype)
    return np.nextafter(x, rng.choice([-np.inf, 0, np.inf], count).astype(dtype)), y


def pairs(dtype, count):
    yield "everywhere", everywhere(dtype, count), everywhere(dtype, count, 1)
    yield "usual", usual(dtype, count), usual(dtype, count, 1)
    yield "edges", *edges(dtype)
    yield "multiples", *just_below_multiples(dtype, count)


def same_bits(x, y):
    unsigned = f"u{x.itemsize}"
    return x.dtype == y.dtype and np.array_equal(x.view(unsigned), y.view(unsigned))


# ---- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_reference_is_exact(dtype):
    """Against rational arithmetic."""
    x, y = everywhere(dtype, 300), everywhere(dtype, 300, 1)
    for a, b, got in zip(x.tolist(), y.tolist(), find("fmod").reference(x, y).tolist(), strict=True):
        exact = abs(Fraction(a)) % abs(Fraction(b))
        assert abs(Fraction(got)) == exact and math.copysign(1, got) == math.copysign(1, a)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_compiled_code_has_the_bits_of_the_reference(name, dtype, lanes):
    text = np.dtype(dtype).name
    compiled = Map(find(name).lower, (text, text), text, lanes)
    for label, x, y in pairs(dtype, rounds(2_000, 100_000, 3_000_000)):
        assert same_bits(compiled(x, y), find(name).reference(x, y)), label


@pytest.mark.parametrize("target", ["x86-64-v3", "aarch64-neon", "x86-64-v4"])
def test_exported_code_calls_nothing(target):
    def write(b):
        for k, name in enumerate(NAMES):
            x, y = (b.load(b.buffer(i), 0, "f64", 4) for i in range(2))
            b.store(find(name).lower(b, x, y), b.buffer(2), 4 * k)

    source = Kernel(write).source
    assert elf.undefined_symbols(object_code.compile_object(source, Options(target=target))) == []


@pytest.mark.parametrize("mode", ["off", "blocking"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tier_gives_the_same_bits(mode, dtype):
    with fb.compiler_options(mode=mode):
        for label, x, y in pairs(dtype, 500):
            for name in NAMES:
                got = OURS[name](fb.tensor(x) + 0.0, fb.tensor(y)).numpy()  # fused with its neighbour where fused
                assert same_bits(got, find(name).reference(x + dtype(0), y)), (name, label)


def steps(name, x, y):
    """How often the loop's body runs when the record is lowered on arrays."""
    count = 0

    class Counting(NumpyEmitter):
        def repeat(self, carried, condition, body, at_most):
            def counted(*values):
                nonlocal count
                count += 1
                return body(*values)

            return super().repeat(carried, condition, counted, at_most)

    with np.errstate(all="ignore"):
        find(name).lower(Counting(), Val(x), Val(y))
    return count


@pytest.mark.parametrize("dtype", DTYPES)
def test_quotients_that_fit_a_mantissa_take_no_loop_and_none_takes_too_long(dtype):
    x, y = usual(dtype, 1000), np.abs(usual(dtype, 1000, 1)) + dtype(1)
    assert np.abs(x / y).max() < 2.0 ** np.finfo(dtype).nmant
    assert steps("fmod", x, y) == 0 and steps("fmod", *edges(dtype)) > 0
    largest, count = np.finfo(dtype).max, 3000
    hard = np.full(count, largest) - abs(everywhere(dtype, count))
    tiny = np.arange(1, count + 1) * np.finfo(dtype).smallest_subnormal
    assert 10 < steps("fmod", hard.astype(dtype), tiny.astype(dtype)) <= MOST_STEPS * 0.8


# ---- beside PyTorch ---------------------------------------------------------------------------------------

OPERATIONS = {
    "fmod": lambda m, x, y: m.fmod(x, y),
    "%": lambda m, x, y: x % y,
    "//": lambda m, x, y: x // y,
    "floor": lambda m, x, y: m.div(x, y, rounding_mode="floor"),
    "trunc": lambda m, x, y: m.div(x, y, rounding_mode="trunc"),
}


def quotient_is_finite(x, y):
    """Where it overflows, PyTorch's vectorized fmod gives NaN."""
    with np.errstate(all="ignore"):
        return ~(np.isinf(x / y) & np.isfinite(x) & (y != 0))


def bits_of_torch(op, x, y):
    torch = pytest.importorskip("torch")
    got, want = op(fb, fb.tensor(x), fb.tensor(y)).numpy(), op(torch, torch.tensor(x), torch.tensor(y)).numpy()
    same = (got.view(f"u{got.itemsize}") == want.view(f"u{want.itemsize}")) | (np.isnan(got) & np.isnan(want))
    return got.dtype == want.dtype, same


@pytest.mark.accept("PW-12")
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_are_those_of_torch(name, dtype):
    for label, x, y in pairs(dtype, 3000):
        told = quotient_is_finite(x, y) | (name in ("//", "floor", "trunc"))
        same_dtype, same = bits_of_torch(OPERATIONS[name], x, y)
        assert same_dtype and same[told].all(), (label, x[told & ~same][:3], y[told & ~same][:3])


@pytest.mark.parametrize("name", OPERATIONS)
def test_numbers_and_mixed_dtypes(name):
    op = OPERATIONS[name]
    floats, integers = usual(np.float32, 40), np.arange(-20, 20)
    for number in (0.3, -0.7, 3, 1e-30, math.inf):
        against_torch(lambda m, x, n=number: op(m, x, n), floats, ulp=0)
    for number in (0.3, -7, 2.5):
        against_torch(lambda m, x, n=number: op(m, x, n), integers, ulp=0)
    if name in ("%", "//"):
        against_torch(lambda m, y: op(m, 1e6, y), floats, ulp=0)
        against_torch(lambda m, y: op(m, 7, y), floats, ulp=0)
    against_torch(lambda m, x, y: op(m, x, y), floats, integers * 2 + 1, ulp=0)
    against_torch(lambda m, x, y: op(m, x, y), integers, floats.astype(np.float64), ulp=0)
    against_torch(lambda m, x, y: op(m, x, y), integers, integers * 2 + 1, ulp=0)
    with pytest.raises(RuntimeError, match="integer division by zero"):
        op(fb, fb.tensor(integers), fb.tensor(integers)).tolist()


@pytest.mark.accept("PW-12")
@pytest.mark.parametrize("name", ["fmod", "%", "floor", "trunc"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_those_of_torch(name, dtype):
    x, y = usual(dtype, 60), usual(dtype, 60, 1)
    gradients_against_torch(OPERATIONS[name], x, y, rtol=0)
    gradients_against_torch(OPERATIONS[name], *just_below_multiples(dtype, 60), rtol=0)


def test_second_derivatives_are_zero():
    x, y = (fb.tensor(usual(np.float64, 9, s), requires_grad=True) for s in (0, 1))
    for op in (fb.fmod, fb.remainder):
        first = fb.autograd.grad((op(x, y) * x).sum(), [x, y], create_graph=True)
        assert fb.autograd.grad(first[1].sum(), [x, y], allow_unused=True)[0].tolist() == [
            -float(q) for q in (fb.trunc(x / y) if op is fb.fmod else x // y).tolist()
        ]
