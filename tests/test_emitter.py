"""Every emitter method, compiled and compared with NumPy; scalars and vectors; memory, loops, branches; canonical text."""

import math

import numpy as np
import pytest
from flambeau.compiler.codegen.emitter import Emitter
from map_kernel import Kernel, Map

LANES = [1, 8]
FLOATS, INTEGERS = ("float32", "float64"), ("int32", "int64")


def floats(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 0.5, 1.5, 2.5, -0.5, -2.5, 1e9, -1e9, 1e-42]
    return np.concatenate([np.array(special), rng.normal(0, 3, 24)]).astype(dtype)


def integers(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.array([0, 1, -1, 2, -2, 3, -3, 7, -7, 100, -100, info.max, info.min, info.max - 1, info.min + 1], dtype)


def pairs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(x, x.size), np.tile(x, x.size)


def agree(got: np.ndarray, want: np.ndarray) -> None:
    want = want.astype(got.dtype)
    if got.dtype.kind == "f":
        assert np.array_equal(np.isnan(got), np.isnan(want))
        got, want = np.where(np.isnan(got), 0, got), np.where(np.isnan(want), 0, want)
    assert got.tobytes() == want.tobytes()


UNARY_FLOAT = {
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
    "round_even": np.rint,
}  # fmt: skip
BINARY_FLOAT = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "copysign": np.copysign,
}  # fmt: skip
BINARY_INTEGER = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "minimum": np.minimum, "maximum": np.maximum,
    "and_": np.bitwise_and, "or_": np.bitwise_or, "xor": np.bitwise_xor, "int_div_floor": np.floor_divide,
    "int_rem_floor": np.remainder,
}  # fmt: skip
PREDICATES = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


@pytest.mark.accept("PW-04", "PW-06")
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY_FLOAT)
def test_unary_floats(name, dtype, lanes):
    x = floats(dtype)
    with np.errstate(invalid="ignore"):
        agree(Map(lambda b, v: getattr(b, name)(v), (dtype,), dtype, lanes)(x), UNARY_FLOAT[name](x))


@pytest.mark.accept("PW-01")
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY_FLOAT)
def test_binary_floats(name, dtype, lanes):
    x, y = pairs(floats(dtype))
    with np.errstate(all="ignore"):
        agree(Map(lambda b, u, v: getattr(b, name)(u, v), (dtype, dtype), dtype, lanes)(x, y), BINARY_FLOAT[name](x, y))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_propagate_nan_and_order_zeros(dtype, lanes):
    x, y = pairs(floats(dtype))
    greater = Map(lambda b, u, v: b.maximum(u, v), (dtype, dtype), dtype, lanes)(x, y)
    lesser = Map(lambda b, u, v: b.minimum(u, v), (dtype, dtype), dtype, lanes)(x, y)
    zeros = (x == 0) & (y == 0)
    agree(greater[~zeros], np.maximum(x, y)[~zeros])
    agree(lesser[~zeros], np.minimum(x, y)[~zeros])
    assert np.array_equal(np.signbit(greater[zeros]), np.signbit(x[zeros]) & np.signbit(y[zeros]))
    assert np.array_equal(np.signbit(lesser[zeros]), np.signbit(x[zeros]) | np.signbit(y[zeros]))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", BINARY_INTEGER)
def test_binary_integers(name, dtype, lanes):
    x, y = pairs(integers(dtype))
    with np.errstate(all="ignore"):
        want = BINARY_INTEGER[name](x, y)
    agree(Map(lambda b, u, v: getattr(b, name)(u, v), (dtype, dtype), dtype, lanes)(x, y), want)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_unary_integers_and_shifts(dtype, lanes):
    x = integers(dtype)
    unsigned = x.view(dtype.replace("int", "uint"))
    cases = {
        "neg": (lambda b, v: b.neg(v), -x),
        "abs": (lambda b, v: b.abs(v), np.abs(x)),
        "not": (lambda b, v: b.not_(v), ~x),
        "shl": (lambda b, v: b.shl(v, 3), x << 3),
        "shr": (lambda b, v: b.shr(v, 3), x >> 3),
        "shru": (lambda b, v: b.shru(v, 3), (unsigned >> 3).view(dtype)),
    }
    for function, want in cases.values():
        agree(Map(function, (dtype,), dtype, lanes)(x), want)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_rounds_once_and_separate_ops_round_twice(dtype, lanes):
    x = (1 + np.arange(1, 65) * np.finfo(dtype).eps * 3).astype(dtype)
    with np.errstate(all="ignore"):
        exact = x.astype(np.longdouble) * x - 1 if dtype == "float64" else x.astype(np.float64) * x - 1
    fused = Map(lambda b, v: b.fma(v, v, -1.0), (dtype,), dtype, lanes)(x)
    separate = Map(lambda b, v: b.add(b.mul(v, v), -1.0), (dtype,), dtype, lanes)(x)
    agree(separate, x * x - np.ones(1, dtype))
    assert (fused != separate).any()
    if dtype == "float32":
        agree(fused, exact.astype(dtype))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "bool"])
@pytest.mark.parametrize("predicate", PREDICATES)
def test_comparisons_and_select(predicate, dtype, lanes):
    values = np.array([False, True]) if dtype == "bool" else floats(dtype) if dtype in FLOATS else integers(dtype)
    x, y = pairs(values)
    want = PREDICATES[predicate](x, y)
    agree(Map(lambda b, u, v: b.cmp(predicate, u, v), (dtype, dtype), "bool", lanes)(x, y), want)
    chosen = Map(lambda b, u, v: b.select(b.cmp(predicate, u, v), u, v), (dtype, dtype), dtype, lanes)(x, y)
    agree(chosen, np.where(want, x, y))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("target", ["bool", *INTEGERS, *FLOATS])
@pytest.mark.parametrize("source", ["bool", *INTEGERS, *FLOATS])
def test_casts(source, target, lanes):
    values = np.array([False, True]) if source == "bool" else floats(source) if source in FLOATS else integers(source)
    with np.errstate(all="ignore"):
        if source in FLOATS and target in INTEGERS:
            info = np.iinfo(target)
            want = [0 if math.isnan(v) else int(max(info.min, min(info.max, v))) for v in values.tolist()]
            want = np.array(want).astype(target)
        else:
            want = values.astype(target)
    names = {"bool": "i1", "int32": "i32", "int64": "i64", "float32": "f32", "float64": "f64"}
    agree(Map(lambda b, v: b.cast(v, names[target]), (source,), target, lanes)(values), want)


@pytest.mark.parametrize("lanes", LANES)
def test_bools(lanes):
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    table = {"and_": x & y, "or_": x | y, "xor": x ^ y, "minimum": x & y, "maximum": x | y}
    for name, want in table.items():
        agree(Map(lambda b, u, v, name=name: getattr(b, name)(u, v), ("bool", "bool"), "bool", lanes)(x, y), want)
    agree(Map(lambda b, u: b.not_(u), ("bool",), "bool", lanes)(x), ~x)


@pytest.mark.parametrize("lanes", LANES)
def test_high_half_and_bit_patterns(lanes):
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 2**32, 40, dtype=np.uint32) for _ in range(2))
    want = (x.astype(np.uint64) * y >> 32).astype(np.uint32).view(np.int32)
    agree(Map(lambda b, u, v: b.mul_hi_u32(u, v), ("int32", "int32"), "int32", lanes)(x, y), want)
    f = floats("float32")
    assert (Map(lambda b, u: b.bitcast(u, "i32"), ("float32",), "int32", lanes)(f) == f.view(np.int32)).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_constants_keep_their_bits(dtype):
    smallest = float(np.finfo(dtype).smallest_subnormal)
    for number in (0.1, -0.0, math.inf, -math.inf, math.nan, smallest, 1 / 3, float(np.finfo(dtype).max)):
        got = Map(lambda b, v, number=number: b.const(number, v), (dtype,), dtype, 4)(np.zeros(3, dtype))
        agree(got, np.full(3, number, dtype))
    overflowing = Map(lambda b, v: b.const(1e39, v), ("float32",), "float32", 1)(np.zeros(1, np.float32))
    assert overflowing[0] == math.inf


def test_strided_and_unaligned_access():
    x = np.arange(200, dtype=np.float32)
    out = np.zeros(200, np.float32)

    def write(b):
        row = b.address(b.buffer(0), b.dim(0), "f32")
        even = b.gather(row, b.mul(b.iota(8), 2), "f32")
        b.store(even, b.buffer(1), 3)
        b.scatter(even, b.buffer(1), b.mul(b.iota(8), b.dim(1)), mask=b.tail_mask(b.const(2, "i64"), 8))
        b.store(b.load(row, 1, "f32", 16), b.buffer(1), 101)

    Kernel(write)([x, out], dims=[5, 50])
    assert out[3:11].tolist() == [5, 7, 9, 11, 13, 15, 17, 19]
    assert (out[0], out[50], out[100]) == (5, 7, 0)
    assert out[101:117].tolist() == list(range(6, 22))


def test_masked_tails_touch_nothing_else():
    for count in range(9):
        x, out = np.arange(9, dtype=np.float64), np.full(9, -1.0)

        def write(b):
            mask = b.tail_mask(b.sub(b.hi, b.lo), 8)
            b.store(b.load(b.buffer(0), b.lo, "f64", 8, mask, other=7.0), b.buffer(1), b.lo, mask)

        Kernel(write)([x, out], lo=0, hi=count)
        assert out.tolist() == [*range(count), *[-1.0] * (9 - count)]


def test_loops_carry_values_and_nest():
    def write(b):
        zero = b.const(0, "i64")
        with b.loop(0, b.dim(0), carried=[zero, b.const(1.0, "f64", 4)]) as outer:
            with b.loop(outer.index, b.dim(0), 2, carried=[outer.args[0]]) as inner:
                inner.carry([b.add(inner.args[0], inner.index)])
            outer.carry([inner.results[0], b.mul(outer.args[1], 2.0)])
        b.store(outer.results[0], b.buffer(0), 0)
        b.store(outer.results[1], b.buffer(1), 0)

    total, power = np.zeros(1, np.int64), np.zeros(4)
    Kernel(write)([total, power], dims=[6])
    assert total[0] == sum(j for i in range(6) for j in range(i, 6, 2))
    assert power.tolist() == [64.0] * 4


@pytest.mark.parametrize("lanes", LANES)
def test_a_repeated_body_runs_while_a_lane_needs_it_and_no_longer_than_told(lanes):
    """Halve what is at least 1; the second value counts in every lane."""

    def write(b):
        x = b.load(b.buffer(0), 0, "f64", lanes)
        halved, count = b.repeat(
            [x, b.const(0, "i32")],
            lambda x, count: b.cmp("ge", x, 1.0),
            lambda x, count: [b.select(b.cmp("ge", x, 1.0), b.mul(x, 0.5), x), b.add(count, 1)],
            20,
        )
        b.store(halved, b.buffer(1), 0)
        b.store(count, b.buffer(2), 0)

    kernel = Kernel(write)
    for x, want, steps in ((0.7, 0.7, 0), (1.0, 0.5, 1), (1000.0, 1000 / 1024, 10), (2.0**30, 2.0**10, 20)):
        data, out, count = np.full(lanes, 0.25), np.zeros(lanes), np.zeros(1, np.int32)
        data[-1] = x
        kernel([data, out, count])
        assert (out[-1], count[0]) == (want, steps) and (out[:-1] == 0.25).all()


def test_branches_give_values():
    def write(b):
        small = b.cmp("lt", b.dim(0), 10)
        text, number = b.if_else(
            small, lambda: [b.const(1, "i32"), b.add(b.dim(0), 5)], lambda: [b.const(2, "i32"), b.dim(0)]
        )
        b.store(text, b.buffer(0), 0)
        with b.if_(b.not_(small)):
            b.store(number, b.buffer(1), 0)

    kernel = Kernel(write)
    for extent, want in ((3, (1, -1)), (30, (2, 30))):
        first, second = np.zeros(1, np.int32), np.full(1, -1)
        kernel([first, second], dims=[extent])
        assert (first[0], second[0]) == want


@pytest.mark.parametrize("lanes", LANES)
def test_functions_read_what_was_made_before_them(lanes):
    """Results of loops and branches, counters, dims, constants and tables, in a function and in one that it calls."""

    def write(b):
        table = b.table([10, 20, 30, 40], "i64")
        with b.loop(0, b.dim(0), carried=[b.const(0, "i64")]) as sums:
            sums.carry([b.add(sums.args[0], sums.index)])
        (twice,) = b.if_else(b.cmp("lt", b.dim(0), 4), lambda: [b.mul(sums.results[0], 2)], lambda: [sums.results[0]])
        with b.loop(0, b.dim(0)) as rows, b.function():
            x = b.add(b.load(table, rows.index, "i64"), twice)
            with b.if_(b.cmp("gt", rows.index, 0)), b.function():
                at = b.mul(b.sub(rows.index, 1), lanes)
                b.store(b.add(b.splat(x, lanes), b.splat(b.dim(1), lanes)), b.buffer(0), at)

    source, out = Kernel(write), np.zeros(2 * lanes, np.int64)
    source([out], dims=[3, 5])
    assert out.tolist() == [20 + 6 + 5] * lanes + [30 + 6 + 5] * lanes
    again = Emitter()
    write(again)
    assert again.source("test") == source.source and source.source.text.count("llvm.func internal") == 2


def test_report_lowers_the_status_word_to_the_first_failure():
    def write(b):
        with b.loop(b.lo, b.hi, 4) as loop:
            x = b.load(b.buffer(0), loop.index, "i32", 4)
            b.report(b.cmp("lt", x, 0), b.buffer(1), 9, b.add(b.iota(4), loop.index))

    kernel, untouched = Kernel(write), 2**63 - 1
    for failing, want in (([], untouched), ([6], 9 << 48 | 6), ([7, 2, 3], 9 << 48 | 2)):
        x, status = np.ones(8, np.int32), np.full(1, untouched)
        x[failing] = -1
        kernel([x, status], hi=8)
        assert status[0] == want


def test_lanes():
    def write(b):
        x = b.load(b.buffer(0), 0, "i64", 8)
        low, high = b.slice_lanes(x, 0, 4), b.slice_lanes(x, 4, 4)
        b.store(b.join_lanes(b.add(low, high), b.shuffle(x, x, [0, 9, 2, 11])), b.buffer(1), 0)
        b.store(b.insert(b.extract(x, 3), b.splat(b.dim(0), 2), 1), b.buffer(1), 8)
        b.store(b.reduce("add", x), b.buffer(1), 10)
        b.store(b.join_lanes(b.dim(0), b.lo), b.buffer(1), 11)

    out = np.zeros(13, np.int64)
    Kernel(write)([np.arange(8), out], dims=[50], lo=77)
    assert out.tolist() == [4, 6, 8, 10, 0, 1, 2, 3, 50, 3, 28, 50, 77]


def test_tables():
    numbers = [0.5, 3.0, -1.0, math.inf]

    def write(b):
        b.store(b.gather(b.table(numbers, "f64"), b.load(b.buffer(0), 0, "i64", 4), "f64"), b.buffer(1), 0)
        b.store(b.load(b.table([7, 8], "i32"), 1, "i32"), b.buffer(2), 0)

    out, other = np.zeros(4), np.zeros(1, np.int32)
    Kernel(write)([np.array([3, 0, 1, 2]), out, other])
    assert out.tolist() == [math.inf, 0.5, 3.0, -1.0] and other[0] == 8


def write_sample(b):
    with b.at(b.lo, [b.hi]):
        x = b.load(b.buffer(1), b.position(), "f32", 4)
        y = b.fma(x, 2.0, b.const(2.0, x))
        b.store(y, b.buffer(0), b.index(0))


def test_text_is_canonical():
    first, second = Emitter(), Emitter()
    write_sample(first)
    write_sample(second)
    text = first.source("a").text
    assert text == second.source("b").text
    assert text.count("arith.constant") == 1


def test_misuse_is_refused_with_the_types():
    b = Emitter()
    x, y = b.const(1.0, "f32"), b.const(1.0, "f64")
    with pytest.raises(TypeError, match=r"\[emitter\] arith.addf of f32, f64. Cast the operands to one type."):
        b.add(x, y)
    with pytest.raises(TypeError, match=r"\[emitter\] cmp of f32, f64."):
        b.cmp("lt", x, y)
    with pytest.raises(ValueError, match=r"\[emitter\] cannot splat vector<4xf32> to 8 lanes."):
        b.splat(b.const(1.0, "f32", 4), 8)
    with pytest.raises(RuntimeError, match=r"\[emitter\] position\(\) outside of"):
        b.position()
    with pytest.raises(TypeError, match=r"loop carries \['f32'\], got \['f64'\]"), b.loop(0, 1, carried=[x]) as loop:
        loop.carry([y])
    with pytest.raises(RuntimeError, match=r"ended without carry\(\)"), b.loop(0, 1, carried=[x]):
        pass
    with pytest.raises(TypeError, match=r"loop carries \['f32'\], got \['f64'\]"):
        b.repeat([x], lambda x: b.cmp("lt", x, 0), lambda x: [y], 3)
    with pytest.raises(TypeError, match="branches give"):
        b.if_else(b.const(True, "i1"), lambda: [x], lambda: [y])
