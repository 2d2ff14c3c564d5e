"""The references against other ways to compute the same: plain Python, mpmath, literal Philox; and the lowerings."""

import math
import operator

import mpmath
import numpy as np
import opgen
import pytest
from flambeau.dialects import reference
from flambeau.dialects.dtypes import INTEGER, SUPPORTED, by_name, from_numpy, is_inexact
from flambeau.dialects.record import REGISTRY, Monoid, find
from flambeau.dialects.tape.common import widened
from flambeau.dialects.tape.elementwise import saturate
from flambeau.dialects.tape.source import philox
from flambeau.dialects.tape.transcendental import POW_FORMULAS
from numpy_emitter import NumpyEmitter, Val
from test_approximations_special import CASES, WAVING


def evaluate(name: str, *operands, **attrs) -> np.ndarray:
    arrays = [np.asarray(x) for x in operands]
    (result,) = reference.run(opgen.graph_of(find(name), arrays, attrs), arrays)
    return result


# ---- exact ops against plain Python ----------------------------------------------------------------------------


def wrap(number: int, width: int, is_signed: bool = True) -> int:
    if not is_signed:
        return number % (1 << width)
    return (number + (1 << (width - 1))) % (1 << width) - (1 << (width - 1))


INTEGER_ORACLES = {
    "add": lambda x, y, w: x + y,
    "sub": lambda x, y, w: x - y,
    "mul": lambda x, y, w: x * y,
    "neg": lambda x, w: -x,
    "abs": lambda x, w: abs(x),
    "sign": lambda x, w: (x > 0) - (x < 0),
    "maximum": lambda x, y, w: max(x, y),
    "minimum": lambda x, y, w: min(x, y),
    "int_div": lambda x, y, w: x // y,
    "int_rem": lambda x, y, w: x % y,
    "and_": lambda x, y, w: x & y,
    "or_": lambda x, y, w: x | y,
    "xor": lambda x, y, w: x ^ y,
    "not_": lambda x, w: ~x,
    "shl": lambda x, y, w: x << y if 0 <= y < w else 0,
    "shr": lambda x, y, w: x >> (y if 0 <= y < w else w - 1 if x < 0 else w),
    "pow": lambda x, y, w: pow(x, y, 1 << w) if y >= 0 else {1: 1, -1: -1 if y % 2 else 1}.get(x, 0),
    "eq": lambda x, y, w: x == y,
    "ne": lambda x, y, w: x != y,
    "lt": lambda x, y, w: x < y,
    "le": lambda x, y, w: x <= y,
    "gt": lambda x, y, w: x > y,
    "ge": lambda x, y, w: x >= y,
}


@pytest.mark.accept("PW-01", "PW-04", "PW-17", "PW-18", "PW-20")
@pytest.mark.parametrize("name", INTEGER_ORACLES)
@pytest.mark.parametrize("dtype", INTEGER, ids=repr)
def test_integers_against_python(name: str, dtype) -> None:
    width = dtype.itemsize * 8
    for case in opgen.cases(find(name)):
        if case.arrays[0].dtype != dtype.numpy or case.arrays[0].size > 1000:
            continue
        (result,) = reference.run(case.graph, case.arrays)
        rows = zip(*(x.ravel().tolist() for x in case.arrays), strict=True)
        expected = [INTEGER_ORACLES[name](*row, width) for row in rows]
        assert [int(r) for r in result.ravel()] == [wrap(int(e), width, dtype.is_signed) for e in expected], case.id


FLOAT_ORACLES = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "abs": abs,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1.0 / math.sqrt(x),
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "trunc": math.trunc,
    "sign": lambda x: (x > 0) - (x < 0),
    "maximum": lambda x, y: math.nan if x != x or y != y else max(x, y),
    "fmod": math.fmod,
    "remainder": lambda x, y: x % y,
    "floor_div": operator.floordiv,
    "minimum": lambda x, y: math.nan if x != x or y != y else min(x, y),
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}


@pytest.mark.accept("PW-01", "PW-04", "PW-06", "PW-10", "PW-16", "PW-17", "PW-18")
@pytest.mark.parametrize("name", FLOAT_ORACLES)
def test_floats_against_python(name: str) -> None:
    """Every element for which Python has an answer (it refuses 1/0, sqrt(-1), floor(inf))."""
    compared = 0
    for case in opgen.cases(find(name)):
        if case.arrays[0].dtype != np.float64:
            continue
        (result,) = reference.run(case.graph, case.arrays)
        for row in zip(*(x.ravel().tolist() for x in (*case.arrays, result)), strict=True):
            try:
                expected = FLOAT_ORACLES[name](*row[:-1])
            except (ZeroDivisionError, ValueError, OverflowError):
                continue
            assert row[-1] == expected or (row[-1] != row[-1] and expected != expected), (name, row)
            compared += 1
    assert compared > 50


def test_signed_zeros() -> None:
    zeros = np.array([0.0, -0.0])
    assert np.signbit(evaluate("maximum", zeros, zeros[::-1])).tolist() == [False, False]
    assert np.signbit(evaluate("minimum", zeros, zeros[::-1])).tolist() == [True, True]
    assert not np.signbit(evaluate("sign", zeros)).any()
    assert np.signbit(evaluate("neg", zeros)).tolist() == [True, False]
    assert np.signbit(evaluate("round", np.array([-0.25, 0.25]))).tolist() == [True, False]


@pytest.mark.accept("PW-10")
def test_round_takes_halves_to_even() -> None:
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    assert evaluate("round", halves).tolist() == [0, 2, 2, 0, -2, -2]


def test_casts_saturate() -> None:
    x = np.array([1e30, -1e30, np.nan, np.inf, -np.inf, 2.9, -2.9, 2147483648.0, 2147483520.0])
    int32 = evaluate("cast", x, dtype=by_name("int32"))
    assert int32.tolist() == [2**31 - 1, -(2**31), 0, 2**31 - 1, -(2**31), 2, -2, 2**31 - 1, 2147483520]
    int64 = evaluate("cast", x.astype(np.float32), dtype=by_name("int64"))
    assert int64.tolist()[:7] == [2**63 - 1, -(2**63), 0, 2**63 - 1, -(2**63), 2, -2]
    assert evaluate("cast", np.array([0.0, -0.0, np.nan, 0.1]), dtype=by_name("bool")).tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert evaluate("cast", np.array([2**32 + 5]), dtype=by_name("int32")).tolist() == [5]
    assert evaluate("cast", np.array([True, False]), dtype=by_name("float32")).tolist() == [1.0, 0.0]


# ---- approximated ops against mpmath ---------------------------------------------------------------------------

MPMATH = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "sqrt": mpmath.sqrt,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
}


#: name -> (exact function, bounds of each operand)
FURTHER = {
    "atan2": (mpmath.atan2, (-9, 9), (-9, 9)),
    "hypot": (mpmath.hypot, (-9, 9), (-9, 9)),
    "logaddexp": (lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)), (0, 9), (-9, 9)),
    "logaddexp2": (lambda x, y: mpmath.log(mpmath.mpf(2) ** x + mpmath.mpf(2) ** y, 2), (0, 9), (-9, 9)),
    "entr": (lambda x: -x * mpmath.log(x), (0.01, 9)),
    "logit": (lambda x: mpmath.log(x / (1 - x)), (0.01, 0.4)),
    "zeta": (mpmath.zeta, (1.1, 9), (0.1, 9)),
}


def test_every_approximated_op_has_an_oracle() -> None:
    """Those of `CASES` are compared as compiled, over their range."""
    assert {r.name for r in opgen.records() if r.ulp} == {*MPMATH, *FURTHER, *CASES, *WAVING, "pow"} - {"sqrt"}


@pytest.mark.parametrize("name", FURTHER)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_further_functions_against_mpmath(name: str, dtype) -> None:
    """The reference keeps the record's bound."""
    exact, *bounds = FURTHER[name]
    generator = np.random.default_rng(10)
    operands = [generator.uniform(*pair, 80).astype(dtype) for pair in bounds]
    with mpmath.workdps(60):
        found = [exact(*(mpmath.mpf(float(v)) for v in row)) for row in zip(*operands, strict=True)]
        expected = np.array([float(e) for e in found]).astype(dtype)
    assert opgen.ulp_distance(evaluate(name, *operands), expected).max() <= REGISTRY[name].ulp


@pytest.mark.accept("PW-05", "PW-08", "PW-11", "PW-31")
@pytest.mark.parametrize("name", MPMATH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_against_mpmath(name: str, dtype) -> None:
    """The reference is within 1 ulp of the correctly rounded result; half the range of the tests of compiled code."""
    generator = np.random.default_rng(8)
    x = np.concatenate(
        [generator.uniform(-9, 9, 60), generator.normal(size=20) * 1e-3, [1e-20, 80.0, -80.0, 300.0, 1e4]]
    )
    x = x.astype(dtype)
    if name in ("log", "sqrt", "rsqrt"):
        x = np.abs(x)
    if name == "log1p":
        x = x[x > -1]
    with mpmath.workdps(60), np.errstate(over="ignore"):
        exact = [MPMATH[name](mpmath.mpf(float(v))) for v in x]
        expected = np.array([float(e) for e in exact]).astype(dtype)
    distance = opgen.ulp_distance(evaluate(name, x), expected)
    assert distance.max() <= (1 if name != "rsqrt" else 2), (name, x[distance.argmax()], distance.max())


@pytest.mark.accept("PW-07")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow_against_mpmath_and_its_formulas(dtype) -> None:
    generator = np.random.default_rng(9)
    x, y = generator.uniform(0.1, 9, 80).astype(dtype), generator.uniform(-6, 6, 80).astype(dtype)
    with mpmath.workdps(60):
        exact = [mpmath.power(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, y, strict=True)]
        expected = np.array([float(e) for e in exact]).astype(dtype)
    assert opgen.ulp_distance(evaluate("pow", x, y), expected).max() <= 1
    x = np.concatenate([-x, x, [0.0, -0.0, np.inf, -np.inf, np.nan]]).astype(dtype)
    one = dtype(1)
    with np.errstate(all="ignore"):
        formulas = {0: x * 0 + 1, 1: x, 2: x * x, 3: x * x * x, 0.5: np.sqrt(x), -0.5: one / np.sqrt(x), -1: one / x}
    formulas[0] = np.ones_like(x)
    assert set(formulas) == {exponent for exponent, _ in POW_FORMULAS}
    for exponent, formula in formulas.items():
        assert opgen.same_bits(evaluate("pow", x, np.full_like(x, exponent)), formula), exponent


# ---- Philox ----------------------------------------------------------------------------------------------------


def literal_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as in its paper, on Python integers."""
    mask = 0xFFFFFFFF
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            (second >> 32) ^ counter[1] ^ key[0],
            second & mask,
            (first >> 32) ^ counter[3] ^ key[1],
            first & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
    return counter


def test_philox_known_answers() -> None:
    """The vectors that come with Random123, then our counter layout against the literal one."""
    ones = 0xFFFFFFFF
    assert literal_philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert literal_philox([ones] * 4, [ones] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert literal_philox(pi, [0xA4093822, 0x299F31D0]) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    for seed, offset in ((0, 0), (-1, 2**32 - 2), (0x1234567887654321, 5), (7, -2)):
        bits = evaluate("random_bits", np.asarray(seed), np.asarray(offset), shape=(4,))
        for i, word in enumerate(bits.tolist()):
            position = (offset + i) % 2**64
            key = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
            assert word & 0xFFFFFFFF == literal_philox([position & ones, position >> 32, 0, 0], key)[0]


def test_random_bits_do_not_depend_on_shape_and_look_uniform() -> None:
    seed, offset = np.asarray(42), np.asarray(0)
    flat = evaluate("random_bits", seed, offset, shape=(6000,))
    assert np.array_equal(flat, evaluate("random_bits", seed, offset, shape=(60, 100)).ravel())
    assert np.array_equal(flat[100:], philox(42, np.arange(100, 6000)))
    ones = np.unpackbits(flat.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.005 and len(np.unique(flat)) > 5990


# ---- movement against NumPy ------------------------------------------------------------------------------------


@pytest.mark.accept("SHP-11", "SHP-16", "IDX-02", "IDX-07")
def test_movement_against_numpy() -> None:
    x = np.arange(35.0).reshape(5, 7)
    zero = np.asarray(0)
    assert np.array_equal(evaluate("slice", x, starts=(1, 0), sizes=(2, 3), steps=(2, 3)), x[1:4:2, 0:7:3])
    late = evaluate("dynamic_slice", x, np.asarray(99), np.asarray(-9), sizes=(2, 3), steps=(1, 2))
    assert np.array_equal(late, x[3:5, 0:5:2])
    assert np.array_equal(
        evaluate("pad", x, np.asarray(-1.0), low=(1, 0), high=(0, 2)), np.pad(x, ((1, 0), (0, 2)), constant_values=-1)
    )
    updated = evaluate("update_slice", x, -np.ones((2, 2)), np.asarray(1), zero, steps=(2, 4))
    expected = x.copy()
    expected[1:4:2, 0:5:4] = -1
    assert np.array_equal(updated, expected)
    index = np.array([[0, 0, 4], [1, 2, 3], [0, 1, 0], [3, 3, 3], [2, 0, 0]])
    assert np.array_equal(evaluate("gather", x, index, axis=1), np.take_along_axis(x, index, 1))
    added = evaluate("scatter_add", x, index, np.ones((5, 3)), axis=1)
    assert added[0].tolist() == [2, 1, 2, 3, 5, 5, 6]
    assert np.array_equal(evaluate("flip", x, axes=(1,)), x[:, ::-1])
    assert np.array_equal(evaluate("permute", x, perm=(1, 0)), x.T)
    assert np.array_equal(evaluate("concat", x, x, dim=1), np.hstack([x, x]))


def test_scatter_add_adds_in_row_major_order() -> None:
    updates = np.array([1e8, 1.0, -1e8, 1.0], np.float32)
    result = evaluate("scatter_add", np.zeros(1, np.float32), np.zeros(4, np.int64), updates, axis=0)
    assert result.tolist() == [1.0]  # (1e8 + 1) is 1e8 in float32; another order gives 2 or 0


@pytest.mark.accept("LIN-01", "LIN-02")
def test_matmul_is_the_sum_of_products() -> None:
    for case in opgen.cases(find("matmul")):
        a, b = case.arrays
        (result,) = reference.run(case.graph, case.arrays)
        if result.dtype == np.float64 and a.size * b.shape[-1] < 20000:
            products = a[..., :, :, None] * b[..., None, :, :]
            expected = [
                math.fsum(column) for column in np.moveaxis(products, -2, -1).reshape(result.size, a.shape[-1]).tolist()
            ]
            bound = 4 * np.finfo(np.float64).eps * math.sqrt(max(a.shape[-1], 1))
            magnitude = np.abs(products).sum(-2).ravel()
            assert np.all(np.abs(result.ravel() - expected) <= bound * magnitude), case.id


def test_of_updates_with_equal_indices_the_last_one_stays() -> None:
    updates = np.arange(1.0, 7.0, dtype=np.float32).reshape(3, 2)
    index = np.array([[1, 0], [1, 1], [0, 0]])
    result = evaluate("scatter", np.zeros((2, 2), np.float32), index, updates, axis=0)
    assert result.tolist() == [[5.0, 6.0], [3.0, 4.0]]


def test_scatters_combine_in_row_major_order_with_what_is_there() -> None:
    index = np.zeros(3, np.int64)
    base = np.array([2.0], np.float32)
    assert evaluate("scatter_mul", base, index, np.array([1e38, 10.0, 0.0], np.float32), axis=0).tolist() != [0.0]
    assert evaluate("scatter_max", base, index, np.array([-1.0, 3.0, 1.0], np.float32), axis=0).tolist() == [3.0]
    assert evaluate("scatter_min", base, index, np.array([7.0, -3.0, 1.0], np.float32), axis=0).tolist() == [-3.0]
    zeros = np.array([-0.0, 0.0, -0.0], np.float32)
    assert not np.signbit(evaluate("scatter_max", np.float32([-0.0]), index, zeros, axis=0))[0]
    assert np.signbit(evaluate("scatter_min", np.float32([0.0]), index, zeros, axis=0))[0]


# ---- lowerings -------------------------------------------------------------------------------------------------

LOWERED = [
    r for r in opgen.records() if (r.family.is_pointwise or r.family.is_placed) and r.exact and r.name != "random_bits"
]


@pytest.mark.parametrize("record", [*LOWERED, find("pow")], ids=str)
def test_lowerings_compute_the_reference(record) -> None:
    """To the bit, on an emitter that computes with NumPy. (pow here: integers only, floats need approximations.)"""
    for case in opgen.cases(record):
        (node,) = case.graph.nodes
        if any(a.dtype.is_complex for a in case.graph.avals):
            continue  # done in real arithmetic: `OpRecord.parts`
        expected = reference.run(case.graph, case.arrays)
        if not record.exact and is_inexact(expected[0]):
            continue
        emitter = NumpyEmitter([i.astype(np.int64) for i in np.indices(expected[0].shape)])
        with np.errstate(all="ignore"):
            operands = [Val(widened(x)) for x in case.arrays]  # as the pass legalise-dtypes has it
            results = record.run_lower(emitter, operands, node.attrs)
            failed = record.fails(emitter, *operands, *node.attrs).array if record.fails else False
        for result, wanted in zip(results, expected, strict=True):
            found = saturate(result.array, from_numpy(wanted.dtype))
            assert opgen.same_bits(np.broadcast_to(found, wanted.shape), wanted), case.id
        assert not np.any(failed)


def test_fails_finds_zero_divisors() -> None:
    x, y = np.array([1, 2, 3]), np.array([1, 0, -1])
    for name in ("int_div", "int_rem"):
        assert find(name).fails(NumpyEmitter(), Val(x), Val(y)).array.tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all"])
def test_monoids_have_identities_and_combine_like_the_reference(name: str) -> None:
    record = find(name)
    assert isinstance(record.lower, Monoid)
    for dtype in (d for d in record.dtypes if not d.is_complex):
        pairs = np.array([[0, 1], [5, -3], [2, 2]]).astype(dtype.numpy)
        combined = record.lower.combine(NumpyEmitter(), Val(pairs[:, 0]), Val(pairs[:, 1])).array
        assert np.array_equal(combined, evaluate(name, pairs, axes=(1,)))
        identity = Val(np.full(3, record.lower.identity(dtype), dtype.numpy))
        assert np.array_equal(record.lower.combine(NumpyEmitter(), identity, Val(pairs[:, 1])).array, pairs[:, 1])


def test_dtypes_are_the_supported_ones() -> None:
    for record in opgen.records():
        assert set(record.dtypes) <= set(SUPPORTED), record
