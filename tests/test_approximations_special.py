"""The special functions against exact values: accuracy over their whole range, lanes, coefficients."""

import importlib
from functools import cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
from flambeau.dialects.tape import coefficients_bessel, coefficients_special
from map_kernel import Map
from support import rounds
from test_approximations import FORMATS, FURTHER, SPECIAL, distance


def erfcx(x):
    return mpmath.exp(x * x) * mpmath.erfc(x)


def ndtri(p):
    if p in (0, 1):
        return (2 * p - 1) * mpmath.inf
    return -mpmath.sqrt(2) * erfcinv(2 * p) if p < 0.4 else mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)


def erfcinv(q):
    """Newton's steps on ln(erfc(z)) = ln(q)."""
    z = mpmath.sqrt(-mpmath.log(q))
    for _ in range(60):
        value = mpmath.erfc(z)
        step = (mpmath.log(value) - mpmath.log(q)) * value * mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(z * z)
        z += step
        if abs(step) < mpmath.mpf(2) ** -180:
            break
    return z


def erfinv(x):
    if abs(x) == 1:
        return x * mpmath.inf
    return mpmath.erfinv(x) if abs(x) < 0.9 else mpmath.sign(x) * erfcinv(1 - abs(x))


PARTS = ("inverse", "error", "gamma", "bessel", "waves")
INVERSE, ERROR, GAMMA, BESSEL, WAVES = (f"approximations_{part}" for part in PARTS)
#: Name -> (module, exact function, greatest distance seen in the sweep below, rounded up, in float32 and float64).
CASES = {
    "asin": (INVERSE, mpmath.asin, 2.0),
    "acos": (INVERSE, mpmath.acos, 1.3),
    "atan": (INVERSE, mpmath.atan, 1.3),
    "sinh": (INVERSE, mpmath.sinh, 1.7),
    "cosh": (INVERSE, mpmath.cosh, 1.7),
    "asinh": (INVERSE, mpmath.asinh, 3.0),
    "acosh": (INVERSE, mpmath.acosh, 3.0),
    "atanh": (INVERSE, mpmath.atanh, 3.0),
    "exp2": (INVERSE, lambda x: mpmath.mpf(2) ** x, 1.0),
    "log2": (INVERSE, lambda x: mpmath.log(x, 2), 2.0),
    "log10": (INVERSE, mpmath.log10, 2.0),
    "erfc": (ERROR, mpmath.erfc, 4.0),
    "erfcx": (ERROR, erfcx, 4.0),
    "erfinv": (ERROR, erfinv, 4.0),
    "ndtri": (ERROR, ndtri, 4.0),
    "lgamma": (GAMMA, lambda x: mpmath.loggamma(x).real, 6.0),
    "digamma": (GAMMA, mpmath.digamma, 6.0),
    "i0": (BESSEL, lambda x: mpmath.besseli(0, x), 4.0),
    "i1": (BESSEL, lambda x: mpmath.besseli(1, x), 4.0),
    "i0e": (BESSEL, lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)), 4.0),
    "i1e": (BESSEL, lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)), 4.0),
    "modified_bessel_k0": (WAVES, lambda x: mpmath.besselk(0, x), 8.0),
    "modified_bessel_k1": (WAVES, lambda x: mpmath.besselk(1, x), 8.0),
    "scaled_modified_bessel_k0": (WAVES, lambda x: mpmath.besselk(0, x) * mpmath.exp(x), 8.0),
    "scaled_modified_bessel_k1": (WAVES, lambda x: mpmath.besselk(1, x) * mpmath.exp(x), 8.0),
}
#: What has zeros without end: beyond them the error is compared with the size of a wave there.
WAVING = {
    "bessel_j0": (WAVES, lambda x: mpmath.besselj(0, x), 9.0),
    "bessel_j1": (WAVES, lambda x: mpmath.besselj(1, x), 11.0),
    "bessel_y0": (WAVES, lambda x: mpmath.bessely(0, x), 17.0),
    "bessel_y1": (WAVES, lambda x: mpmath.bessely(1, x), 17.0),
    "airy_ai": (WAVES, mpmath.airyai, 18.0),
}
#: Bounds of the sweeps beside small numbers of every magnitude: (low, high), or one pair per dtype.
RANGES = {
    "asin": (-1, 1), "acos": (-1, 1), "atan": (-9, 9), "atanh": (-1, 1), "asinh": (-30, 30), "acosh": (1, 30),
    "sinh": {"float32": (-89, 89), "float64": (-710, 710)}, "cosh": {"float32": (-89, 89), "float64": (-710, 710)},
    "exp2": {"float32": (-150, 128), "float64": (-1075, 1024)}, "log2": (0.1, 9), "log10": (0.1, 99),
    "erfc": {"float32": (-5, 10), "float64": (-6, 27)}, "erfcx": {"float32": (-9, 30), "float64": (-26, 99)},
    "erfinv": (-1, 1), "ndtri": (0, 1), "lgamma": (0, 40), "digamma": (0, 40),
    "i0": {"float32": (-91, 91), "float64": (-700, 700)}, "i1": {"float32": (-91, 91), "float64": (-700, 700)},
    "i0e": (-99, 99), "i1e": (-99, 99),
    "modified_bessel_k0": (0, 80), "modified_bessel_k1": (0, 80),
    "scaled_modified_bessel_k0": (0, 300), "scaled_modified_bessel_k1": (0, 300),
}  # fmt: skip
POSITIVE = ("log2", "log10", "ndtri", "lgamma", "digamma", "acosh", *(n for n in CASES if "bessel_k" in n))
#: Where functions bend, and are zero or infinite.
EDGES = [
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    2.0,
    2.5,
    7.5,
    7.75,
    8.0,
    10.0,
    0.118,
    0.763,
    1.4616321449683623,
    0.41421356,
    2.41421356,
]


@cache
def compiled(name: str, dtype: str, lanes: int = 8, arity: int = 1) -> Map:
    function = getattr(
        importlib.import_module(f"flambeau.dialects.tape.{(CASES | WAVING).get(name, (GAMMA,))[0]}"), name
    )
    return Map(function, (dtype,) * arity, dtype, lanes)


def points(name: str, dtype: str, count: int) -> np.ndarray:
    """Over the range, at every magnitude of it, and close to where the function changes."""
    low, high = RANGES[name] if isinstance(RANGES[name], tuple) else RANGES[name][dtype]
    rng = np.random.default_rng(5)
    top = np.log10(max(abs(low), abs(high)))
    parts = [
        rng.uniform(low, high, count),
        rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-35, top, count),
        np.outer(
            EDGES, 1 + np.concatenate([-(10.0 ** rng.uniform(-16, -1, 4)), 10.0 ** rng.uniform(-16, -1, 4), [0]])
        ).ravel(),
        1 - 10.0 ** rng.uniform(-16, -1, count // 4),
        [high, low],
    ]
    x = np.concatenate(parts).astype(dtype)
    x = np.abs(x) if name in POSITIVE else x
    return x[(x >= low) & (x <= high) & ((x != 0) | (name not in POSITIVE))]


def worst(name: str, dtype: str, x: np.ndarray, least: float = 0.0) -> tuple[float, float]:
    """(the greatest distance in units in the last place, where), those of `least` for what is smaller."""
    got, found, largest = compiled(name, dtype)(x), (0.0, 0.0), float(np.finfo(dtype).max)
    with mpmath.workprec(240):
        for value, result in zip(x.tolist(), got.tolist(), strict=True):
            exact = CASES[name][1](mpmath.mpf(value))
            if abs(exact) > largest:
                assert abs(result) > largest * (1 - 1e-5) and (result > 0) == (exact > 0), (value, result)
                continue
            size = mpmath.mpf(max(abs(exact), least))
            error = abs(mpmath.mpf(result) - exact) / size * distance(0.0, size, dtype) if size else abs(result)
            found = max(found, (float(error), value))
    return found


@pytest.mark.accept("PW-05", "PW-08")
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_accuracy_against_exact_values(name, dtype):
    count = rounds(60, 200, 3000)
    error, where = worst(name, dtype, points(name, dtype, count // 4 if "_k" in name else count))  # exact K takes long
    assert error <= CASES[name][2], where


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_accuracy_below_0_is_that_of_numbers_of_magnitude_1(name, dtype):
    """Zeros there are not approached in their own units: that would take each one's digits."""
    x = np.random.default_rng(8).uniform(-20, 0, rounds(60, 200, 3000)).astype(dtype)
    error, where = worst(name, dtype, x[x != np.rint(x)], least=1.0)
    assert error <= 12.0, where


@pytest.mark.accept("PW-08")
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", WAVING)
def test_accuracy_of_waves(name, dtype):
    low, high = (0.0, 200.0) if "_y" in name else (-100.0, 25.0) if name == "airy_ai" else (-200.0, 200.0)
    rng, count = np.random.default_rng(7), rounds(50, 150, 2000)
    x = np.concatenate(
        [rng.uniform(low, high, count), rng.uniform(max(low, -9), 9, count), [2.0, 5.0, 8.0, 1e-3]]
    ).astype(dtype)
    found = compiled(name, dtype)(x)
    with mpmath.workprec(160):
        for value, result in zip(x.tolist(), found.tolist(), strict=True):
            exact = WAVING[name][1](mpmath.mpf(value))
            wave = mpmath.mpf(1) / (1 + abs(value)) ** (0.25 if name == "airy_ai" else 0.5)
            size = max(abs(exact), wave / 2 if name != "airy_ai" or value < 0 else 0)
            error = abs(mpmath.mpf(result) - exact) / size * distance(0.0, size, dtype)
            assert error <= WAVING[name][2], value


def test_coefficients_of_waves_are_those_derived():
    path = Path(__file__).parent.parent / "tools" / "derive_bessel_coefficients.py"
    if not path.exists():
        return
    spec = importlib.util.spec_from_file_location("derive_bessel_coefficients", path)
    with pytest.MonkeyPatch.context() as patch, mpmath.workdps(40):
        patch.syspath_prepend(str(path.parent))
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        for name in ("J0", "AI_RIGHT", "K1_TAIL"):
            _, _, function, low, high, degree = next(f for f in tool.fits() if f[0] == name)
            wanted = tuple(map(float, tool.interpolated(function, low, high, degree)))
            assert getattr(coefficients_bessel, name) == wanted


ZETA = [
    (1.5, 0.3),
    (2.0, 1.0),
    (2.0, 1e-3),
    (2.0, 40.0),
    (3.0, 7.5),
    (7.0, 0.9),
    (30.0, 2.0),
    (2.5, 1e5),
    (3.0, -1.3),
    (4.0, -7.6),
]


@pytest.mark.parametrize("dtype", FORMATS)
def test_zeta_accuracy(dtype):
    x, q = (np.array(column).astype(dtype) for column in zip(*ZETA))
    got = compiled("zeta", dtype, arity=2)(x, q)
    with mpmath.workdps(40):
        for a, b, result in zip(x.tolist(), q.tolist(), got.tolist(), strict=True):
            exact = (
                mpmath.zeta(a, b) if b > 0 else mpmath.zeta(a, b + 20) + mpmath.fsum([(b + k) ** -a for k in range(20)])
            )
            assert distance(result, mpmath.mpf(exact), dtype) <= 8.0, (a, b)


def test_powers_of_the_base_have_whole_logarithms():
    for dtype, low, high in (("float32", -149, 128), ("float64", -1074, 1024)):
        whole = np.arange(low, high).astype(dtype)
        powers = np.ldexp(np.ones_like(whole), whole.astype(int))
        assert np.array_equal(compiled("log2", dtype)(powers), whole)
        assert np.array_equal(compiled("exp2", dtype)(whole), powers)
    tens = np.arange(-37, 39)
    assert np.array_equal(
        compiled("log10", "float32")(np.array([float(f"1e{n}") for n in tens], np.float32)), tens.astype(np.float32)
    )
    tens = np.arange(0, 23)
    assert np.array_equal(
        compiled("log10", "float64")(np.array([float(f"1e{n}") for n in tens])), tens.astype(np.float64)
    )


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", [*CASES, "zeta"])
def test_bits_do_not_depend_on_lanes_or_neighbours(name, dtype):
    arity = 2 if name == "zeta" else 1
    values = np.array([*SPECIAL, *FURTHER, *EDGES, 0.3, -0.7, 11.0, -1.3]).astype(dtype)
    operands = (values, values[::-1].copy())[:arity]
    scalar, vector = (compiled(name, dtype, lanes, arity)(*operands) for lanes in (1, 16))
    assert np.array_equal(np.isnan(scalar), np.isnan(vector))
    assert scalar[~np.isnan(scalar)].tobytes() == vector[~np.isnan(scalar)].tobytes()


def test_coefficients_are_what_the_script_derives(monkeypatch):
    path = Path(__file__).parent.parent / "tools"
    monkeypatch.syspath_prepend(path)
    special, common = map(importlib.import_module, ("derive_special_coefficients", "derive_coefficients"))
    wanted = {("ATAN", "f32"), ("SINH", "f32"), ("STIRLING", "f32"), ("I0", "f32")}
    for fit in special.fits():
        if (fit.name, fit.format) in wanted:
            numbers, _ = common.derive(fit)
            assert tuple(map(float, numbers)) == getattr(coefficients_special, fit.name)[fit.format]
