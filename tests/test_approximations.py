"""The math functions against exact values: accuracy, special values, scalars equal to vectors, coefficients."""

import importlib.util
import math
import sys
from functools import cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
from flambeau.dialects.tape import approximations, coefficients
from map_kernel import Map

FORMATS = {"float32": (24, -125), "float64": (53, -1021)}
EXACT = {
    "exp": mpmath.exp, "expm1": mpmath.expm1, "log": mpmath.log, "log1p": mpmath.log1p, "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "erf": mpmath.erf, "sin": mpmath.sin, "cos": mpmath.cos,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x), "pow": lambda x, y: x**y,
}  # fmt: skip
LONG = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
}  # fmt: skip
#: The greatest distance seen in the sweeps below, rounded up.
ULP = {
    "exp": 1.0, "expm1": 1.35, "log": 1.0, "log1p": 1.45, "tanh": 2.45, "sigmoid": 2.2, "erf": 1.1, "sin": 1.6,
    "cos": 1.6, "rsqrt": 1.5, "pow": 1.0,
}  # fmt: skip
POSITIVE = ("log", "rsqrt")


@cache
def compiled(name: str, dtype: str, lanes: int = 8) -> Map:
    return Map(getattr(approximations, name), (dtype,) * (2 if name == "pow" else 1), dtype, lanes)


def points(name: str, dtype: str, count: int, seed: int = 0) -> np.ndarray:
    """Where the function is interesting: its working range, near 0 and 1, all magnitudes."""
    rng = np.random.default_rng(seed)
    largest = 88.0 if dtype == "float32" else 709.0
    low, high = {
        "exp": (-1.2 * largest, largest), "expm1": (-40, largest), "sigmoid": (-1.2 * largest, 1.2 * largest),
        "tanh": (-12, 12), "erf": (-6, 6), "sin": (-100, 100), "cos": (-100, 100),
    }.get(name, (-0.9, 10.0))  # fmt: skip
    reach = 4.0 if name in ("sin", "cos", "log1p", "log", "rsqrt") else 1.0
    parts = [
        rng.uniform(low, high, count),
        rng.uniform(-1.0, 1.0, count),
        1.0 + rng.uniform(-0.5, 1.0, count),
        rng.uniform(-1.0, 1.0, count) * 10.0 ** rng.uniform(-30.0, reach, count),
    ]
    x = np.concatenate(parts).astype(dtype)
    x = x[x > -1] if name == "log1p" else x
    return np.abs(x) if name in POSITIVE else x


def distance(got: float, exact, dtype: str) -> float:
    """Units in the last place of the exact value between it and `got`."""
    precision, lowest = FORMATS[dtype]
    exponent = max(mpmath.frexp(abs(exact))[1], lowest) if exact else lowest
    return float(abs(mpmath.mpf(got) - exact) / mpmath.mpf(2) ** (exponent - precision))


def worst(name: str, dtype: str, *operands: np.ndarray, precision: int = 200) -> float:
    got = compiled(name, dtype)(*operands)
    with mpmath.workprec(precision):
        exact = [EXACT[name](*map(mpmath.mpf, row)) for row in zip(*(x.tolist() for x in operands))]
        return max(distance(y, e, dtype) for y, e in zip(got.tolist(), exact))


@pytest.mark.accept("PW-05", "PW-08")
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", [n for n in EXACT if n != "pow"])
def test_accuracy_against_exact_values(name, dtype):
    x = points(name, dtype, 400)
    assert worst(name, dtype, x) <= ULP[name]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", LONG)
def test_accuracy_on_dense_sweeps(name, dtype):
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is no wider than float64 here")
    x = points(name, dtype, 40_000, seed=1)
    got = compiled(name, dtype)(x)
    exact = LONG[name](x.astype(np.longdouble))
    precision, lowest = FORMATS[dtype]
    exponent = np.maximum(np.frexp(np.abs(exact))[1], lowest)
    error = np.abs(got - exact) / np.ldexp(np.longdouble(1), exponent - precision)
    assert error.max() <= ULP[name], x[error.argmax()]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_trigonometric_functions_of_large_arguments(name, dtype):
    rng = np.random.default_rng(2)
    top = 37 if dtype == "float32" else 307
    with mpmath.workprec(2300):
        near_zeros = [float(mpmath.pi / 2 * int(2.0**k)) for k in rng.uniform(0, 3.3 * top, 100)]
    worst_known = [16367173 * 2.0**72 if dtype == "float32" else 6381956970095103 * 2.0**797]
    x = np.concatenate([10.0 ** rng.uniform(0, top, 150), near_zeros, worst_known, -(10.0 ** rng.uniform(4, top, 50))])
    assert worst(name, dtype, x.astype(dtype), precision=2300) <= ULP[name]


@pytest.mark.accept("PW-07")
@pytest.mark.parametrize("dtype", FORMATS)
def test_pow_accuracy(dtype):
    rng = np.random.default_rng(3)
    top, largest = (37, 88.0) if dtype == "float32" else (300, 708.0)
    x = np.concatenate(
        [10.0 ** rng.uniform(-top, top, 500), rng.uniform(0.1, 4, 500), 1 + 10.0 ** rng.uniform(-6, -1, 500)]
    ).astype(dtype)
    logarithm = np.log(x.astype(np.float64))
    y = (rng.uniform(-largest, largest, x.size) / np.where(logarithm == 0, 1, logarithm)).astype(dtype)
    assert worst("pow", dtype, x, y) <= ULP["pow"]


SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 1e-45, -1e-45, 5e-324, -5e-324, 1e-310, 1e-40]
FURTHER = [88.8, -104.5, 709.9, -745.2, -745.0, -100.0, -87.5, 0.5, -0.5, 2.0, 3.0, -3.0, 1e30, -1e30, 1e300, -1e300]


def same(got: np.ndarray, want: np.ndarray, ulps: float) -> np.ndarray:
    """Equal up to `ulps`, signs of zeros, NaN and infinities included."""
    close = np.abs(got - want) <= ulps * np.spacing(np.abs(want))
    exact = (got == want) & (np.signbit(got) == np.signbit(want))
    return exact | (np.isnan(got) & np.isnan(want)) | (close & (want != 0) & np.isfinite(want))


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", [n for n in EXACT if n != "pow"])
def test_special_values(name, dtype, lanes):
    with np.errstate(all="ignore"):
        x = np.array(SPECIAL + FURTHER).astype(dtype)
        want = {
            "sigmoid": lambda v: np.where(v < 0, np.exp(-np.abs(v)), 1) / (1 + np.exp(-np.abs(v))),
            "erf": np.vectorize(math.erf, otypes=[np.longdouble]),
            "rsqrt": lambda v: 1 / np.sqrt(v),
        }.get(name, LONG.get(name))(x.astype(np.longdouble))
        agree = same(compiled(name, dtype, lanes)(x), want.astype(dtype), 2)
    assert agree.all(), list(zip(x[~agree], want[~agree]))


@pytest.mark.parametrize("dtype", FORMATS)
def test_exp_is_0_from_where_it_underflows(dtype):
    lowest = {"float32": -104.0, "float64": -746.0}[dtype]
    x = np.concatenate([np.linspace(lowest, 3 * lowest, 4000), -np.geomspace(-lowest, 3e38, 200)]).astype(dtype)
    assert compiled("exp", dtype, 8)(x).tobytes() == np.zeros_like(x).tobytes()


@pytest.mark.parametrize("dtype", FORMATS)
def test_pow_special_values(dtype):
    values = np.array([*SPECIAL, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 4.0, 1.5, 1e20, -1e20, 2.0**24 + 2, 2.0**53 - 1])
    x, y = (m.ravel().astype(dtype) for m in np.meshgrid(values, values))
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
        agree = same(compiled("pow", dtype)(x, y), want, 2)
    assert agree.all(), list(zip(x[~agree], y[~agree], want[~agree]))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", EXACT)
def test_bits_do_not_depend_on_lanes_or_neighbours(name, dtype):
    x = points(name, dtype, 60)
    x = np.concatenate([x, np.array(SPECIAL, dtype), (x[:40] * 1e6).astype(dtype)])
    operands = (x, x[::-1].copy()) if name == "pow" else (x,)
    scalar = compiled(name, dtype, 1)(*operands)
    for lanes in (4, 16):
        vector = compiled(name, dtype, lanes)(*operands)
        nan = np.isnan(scalar)
        assert np.array_equal(nan, np.isnan(vector))
        assert scalar[~nan].tobytes() == vector[~nan].tobytes()


@pytest.mark.parametrize("name", ["exp", "log", "sin", "tanh"])
def test_bits_do_not_depend_on_the_instruction_set(name):
    x = points(name, "float32", 200)
    narrow = Map(getattr(approximations, name), ("float32",), "float32", 8, target="x86-64-v3")
    assert narrow(x).tobytes() == compiled(name, "float32", 16)(x).tobytes()


def test_philox_matches_a_scalar_evaluation():
    def reference(seed: int, counter: int) -> int:
        words, keys = [counter & 0xFFFFFFFF, counter >> 32, 0, 0], [seed & 0xFFFFFFFF, seed >> 32]
        for _ in range(10):
            first, second = words[0] * 0xD2511F53, words[2] * 0xCD9E8D57
            words = [
                second >> 32 ^ words[1] ^ keys[0], second & 0xFFFFFFFF,
                first >> 32 ^ words[3] ^ keys[1], first & 0xFFFFFFFF,
            ]  # fmt: skip
            keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
        return words[0]

    def bits(b, position):
        seed, offset = b.const(seed_value, "i64"), b.const(offset_value, "i64")
        return approximations.philox(b, seed, offset, position)

    for seed_value, offset_value in ((0, 0), (0x0123456789ABCDEF, 5), (-1, 2**32 - 3)):
        positions = np.arange(20, dtype=np.int64)
        got = Map(bits, ("int64",), "int32", 8)(positions).view(np.uint32)
        assert got.tolist() == [reference(seed_value % 2**64, offset_value + int(i)) for i in positions]


def test_philox_known_answer():
    """The first word of Random123's published vector for counter and key 0."""
    zero = Map(lambda b, p: approximations.philox(b, p, p, p), ("int64",), "int32", 1)(np.zeros(1, np.int64))
    assert zero.view(np.uint32)[0] == 0x6627E8D5


def test_coefficients_are_what_the_script_derives(monkeypatch):
    path = Path(__file__).parent.parent / "tools" / "derive_coefficients.py"
    spec = importlib.util.spec_from_file_location("derive_coefficients", path)
    derive = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, derive)  # dataclasses look their module up
    spec.loader.exec_module(derive)
    wanted = {("EXP", "f32"), ("SIN", "f32"), ("LOG", "f64")}
    for fit in derive.fits():
        if (fit.name, fit.format) in wanted:
            numbers, _ = derive.derive(fit)
            assert tuple(map(float, numbers)) == getattr(coefficients, fit.name)[fit.format]
    assert tuple(map(float, derive.turns()[:8])) == coefficients.TURNS[:8]
