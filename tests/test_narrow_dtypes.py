"""float16 and bfloat16: computed in float32, rounded once per op and once per call of a function, on every tier."""

from __future__ import annotations

import math

import contraction_order
import flambeau as fb
import flambeau.dialects.tape
import function_cases as fc
import numpy as np
import opgen
import pytest
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.compiler.passes.legalise_dtypes import LegaliseDtypes
from flambeau.dialects import dtypes, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import SUPPORTED, bfloat16, float16, float32, float64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import REGISTRY, find
from flambeau.dialects.tape.common import SPECIALS, one_nan
from flambeau.dialects.tape.elementwise import saturate
from flambeau.runtime.recorder import Function

#: What cannot be compiled runs op by op, with a warning.
pytestmark = pytest.mark.filterwarnings(r"error:\[compile\]:RuntimeWarning")

NARROW = (float16, bfloat16)
#: Elementwise, but with operands that are not all of one dtype, or with attributes.
OTHERS = ("select", "cast", "check_index", "check_range")


@pytest.fixture(params=NARROW, ids=lambda d: d.name)
def dtype(request):
    return request.param


def numbers(dtype, count: int, seed: int = 0) -> np.ndarray:
    """Special values, then numbers of all sizes."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(-12, 12, count)) * rng.choice([-1, 1], count)
    return saturate(rng.permutation(np.concatenate([SPECIALS, sizes])[:count]), dtype)


def graph_of(make, *arrays: np.ndarray):
    builder = GraphBuilder()
    inputs = [builder.input(Aval(x.shape, dtypes.from_numpy(x.dtype))) for x in arrays]
    builder.graph.outputs = [v.id for v in make(*inputs)]
    return builder.graph


def run(make, *arrays: np.ndarray, mode: str = "blocking") -> list[np.ndarray]:
    """The outputs of a compiled program."""
    graph = graph_of(make, *arrays)
    found = driver.compile(graph, Options(mode=mode))([np.ascontiguousarray(x) for x in arrays])
    avals = [graph.avals[v] for v in graph.outputs]
    return [np.frombuffer(b, a.dtype.numpy, count=a.size).reshape(a.shape) for b, a in zip(found, avals)]


def everything(records, *operands):
    """All results of all records."""
    found = [r(*operands) for r in records]
    return [y for x in found for y in (x if isinstance(x, tuple) else (x,))]


def expected(make, *arrays: np.ndarray) -> list[np.ndarray]:
    return [one_nan(x) for x in reference.run(graph_of(make, *arrays), arrays)]


def assert_same_bits(found, wanted) -> None:
    for k, (x, y) in enumerate(zip(found, wanted, strict=True)):
        assert x.dtype == y.dtype and x.shape == y.shape
        differs = np.flatnonzero(np.asarray(x.ravel().view(np.uint8) != y.ravel().view(np.uint8)))
        assert x.tobytes() == y.tobytes(), f"output {k}: {x.ravel()[differs[0] // x.itemsize]} differs"


def elementwise(arity: int, exact: bool):
    """The elementwise records on `arity` operands of one narrow dtype."""
    return [
        r
        for r in REGISTRY.values()
        if r.family.is_pointwise
        and r.exact is exact
        and float16 in r.dtypes
        and r.name not in OTHERS
        and not r.attrs
        and len(r.samples()[0].operands) == arity
    ]


def test_references_round_once(dtype):
    """What NumPy computes on the dtype itself is what float32 gives, rounded; of several roundings one is left."""
    x, y = numbers(dtype, 4000), numbers(dtype, 4000, seed=1)
    wide = [a.astype(np.float32) for a in (x, y)]
    with np.errstate(all="ignore"):
        for name, op in (("add", np.add), ("mul", np.multiply), ("div", np.divide)):
            (result,) = expected(lambda x, y, name=name: [find(name)(x, y)], x, y)
            assert_same_bits([result], [one_nan(op(*wide).astype(dtype.numpy))])
        (result,) = expected(lambda x: [find("rsqrt")(x)], x)
        assert_same_bits([result], [one_nan((np.float32(1) / np.sqrt(wide[0])).astype(dtype.numpy))])


@pytest.mark.parametrize("arity", [1, 2])
def test_every_exact_elementwise_op_compiles_to_its_reference(dtype, arity):
    arrays = [numbers(dtype, 700, seed=k) for k in range(arity)]
    records = elementwise(arity, exact=True)
    assert len(records) >= 9
    make = lambda *xs: everything(records, *xs)  # noqa: E731
    assert_same_bits(run(make, *arrays), expected(make, *arrays))


def test_approximations_are_those_of_float32_rounded(dtype):
    x = numbers(dtype, 700)
    records = elementwise(1, exact=False)
    assert len(records) >= 8
    wide = run(lambda x: everything(records, x), x.astype(np.float32))
    rounded = [one_nan(y.astype(dtype.numpy)) for y in wide]
    assert_same_bits(run(lambda x: everything(records, x), x), rounded)


def chain(x, y):
    """Each op rounds: fusing must not keep more bits than were stored."""
    s = (x + y) * x
    t = find("sqrt")(find("abs")(s - y)) / x
    u = find("select")(t < s, t, s + t * y)
    return [s, u, find("maximum")(u, -s)]


def test_fused_chains_round_after_every_op(dtype):
    x, y = numbers(dtype, 4099), numbers(dtype, 4099, seed=1)
    wanted = expected(chain, x, y)
    assert_same_bits(run(chain, x, y), wanted)
    assert_same_bits(run(chain, x, y, mode="off"), wanted)
    unrounded = [a.astype(dtype.numpy) for a in expected(chain, x.astype(np.float32), y.astype(np.float32))]
    assert any(a.tobytes() != b.tobytes() for a, b in zip(unrounded, wanted, strict=True)), "the chain tells nothing"


@pytest.mark.parametrize("shape,axes", [((5, 700), (1,)), ((700, 5), (0,)), ((3, 70, 4), (0, 2)), ((9001,), (0,))])
def test_folds_add_up_in_the_accumulator(dtype, shape, axes):
    x = saturate(np.random.default_rng(3).uniform(0.5, 1.5, shape), dtype)
    make = lambda x: [find(name)(x, axes=axes) for name in ("sum", "prod", "max", "min")]  # noqa: E731
    found = run(make, x)
    assert_same_bits(found, expected(make, x))
    total = x.astype(np.float64).sum(axis=axes)
    assert np.all(np.abs(found[0].astype(np.float64) - total) <= total * 2.0 ** -(dtype.mantissa + 1) * 1.01)


def test_extremes_have_positions(dtype):
    x = numbers(dtype, 600).reshape(20, 30)
    make = lambda x: [find("argmax")(x, axes=(1,)), find("argmin")(x, axes=(0,))]  # noqa: E731
    assert_same_bits(run(make, x), expected(make, x))


@pytest.mark.parametrize("m,k,n", [(3, 300, 5), (1, 300, 7), (33, 64, 17)])
def test_products_are_those_of_float32_rounded(dtype, m, k, n):
    rng = np.random.default_rng(m)
    a, b = (saturate(rng.normal(size=shape), dtype) for shape in ((m, k), (k, n)))
    (found,) = run(lambda a, b: [find("matmul")(a, b)], a, b)
    wide = contraction_order.matmul(a.astype(np.float32), b.astype(np.float32))
    assert_same_bits([found], [wide.astype(dtype.numpy)])


def test_casts_go_through_the_accumulator(dtype):
    x = np.concatenate([SPECIALS, [1 + 2.0**-11 + 2.0**-30, 65519.99999, 65520.0, 6e-8, 2.0**-25]])
    others = [d for d in SUPPORTED if d is not dtype]
    for other in others:
        source = saturate(x, other)
        make = lambda x: [x.cast(dtype), x.cast(dtype).cast(other)]  # noqa: B023, E731
        assert_same_bits(run(make, source), expected(make, source))
    narrow = saturate(x, float32).astype(dtype.numpy)
    (found,) = run(lambda x: [x.cast(dtype)], saturate(x, float64))
    assert_same_bits([found], [one_nan(narrow)])
    make = lambda x: [x.cast(d) for d in others]  # noqa: E731
    assert_same_bits(run(make, narrow), expected(make, narrow))


def test_movement_keeps_bits_and_scatter_adds_up(dtype):
    x = numbers(dtype, 60).reshape(5, 12).copy()
    x.view(np.uint16)[0, :3] = [0xFFFF, 0x7FFF, 0xFFC1]  # NaNs of every kind, where they are NaNs
    index = np.zeros((40, 12), np.int64) + np.arange(12) % 4
    updates = saturate(np.random.default_rng(5).uniform(0, 1, (40, 12)), dtype)
    zeros = np.zeros((5, 12), dtype.numpy)

    def moved(x):
        parts = find("concat")(x, find("flip")(x, axes=(0,)), dim=0)
        return [parts, find("permute")(parts, perm=(1, 0)), find("slice")(x, starts=(1, 2), sizes=(3, 4), steps=(1, 2))]

    for found, wanted in zip(run(moved, x), reference.run(graph_of(moved, x), [x]), strict=True):
        assert found.tobytes() == wanted.tobytes()
    make = lambda z, i, u: [find("scatter_add")(z, i, u, axis=0)]  # noqa: E731
    assert_same_bits(run(make, zeros, index, updates), expected(make, zeros, index, updates))


def test_sources(dtype):
    def make(x):
        at = find("iota")(shape=(5000,), dim=0, dtype=dtype, builder=x.builder)
        return [at, x.builder.constant(0.1, dtype, (3,)), x.builder.constant(-0.0, dtype)]

    x = np.zeros(1, np.float32)
    assert_same_bits(run(make, x), expected(make, x))


def test_a_machine_that_has_the_dtype_gives_the_same_bits(dtype):
    """What a native machine computes in the dtype itself is what the wide one rounds to: by NumPy, which has both."""
    x, y = numbers(dtype, 2000), numbers(dtype, 2000, seed=1)
    graph = graph_of(chain, x, y)
    native, wide = LegaliseDtypes(native=dtype.name)(graph), LegaliseDtypes()(graph)
    assert {n.op.name for n in native.nodes} == {n.op.name for n in graph.nodes}
    assert sum(n.op.name == "cast" for n in wide.nodes) > len(graph.nodes)
    assert_same_bits(
        [one_nan(a) for a in reference.run(native, [x, y])], [one_nan(a) for a in reference.run(wide, [x, y])]
    )


@pytest.mark.parametrize("mode", ["blocking", "off"])
def test_a_sample_of_every_record_compiles_to_what_the_record_says(dtype, mode):
    """All in one program: what is narrow is computed by the kernels of another dtype, whose samples are all compiled."""
    program, chosen = Graph(), []
    for record in opgen.records():
        cases = [c for c in opgen.cases(record) if case_takes(c, dtype)]
        if cases:
            chosen.append((record, max(cases, key=lambda c: max((x.size for x in c.arrays), default=0))))
    assert len(chosen) > 60
    arrays, results = [], []
    for record, case in chosen:
        inputs = [program.add_input(case.graph.avals[v]) for v in case.graph.inputs]
        (node,) = case.graph.nodes
        results.append(program.add_node(record, inputs, node.attrs))
        arrays += case.arrays
    program.outputs = [v for found in results for v in found]
    made = driver.compile(program, Options(mode=mode))(arrays)
    found = iter(np.frombuffer(b, program.avals[v].dtype.numpy) for b, v in zip(made, program.outputs, strict=True))
    for (record, case), values in zip(chosen, results, strict=True):
        mine = [next(found)[: program.avals[v].size].reshape(program.avals[v].shape) for v in values]
        assert opgen.compare(record, case, *mine) is None


def case_takes(case: opgen.Case, dtype) -> bool:
    """Whether a case is one op, without a program of its own, on data of this dtype."""
    (node,) = case.graph.nodes or (None,)
    is_plain = node is not None and not (node.op.regions or node.op.effect or node.op.moves_to)
    return is_plain and any(case.graph.avals[v].dtype is dtype for v in (*case.graph.inputs, *node.results))


# ---- functions ----------------------------------------------------------------------------------------------------


def recorded(declaration) -> bool:
    """Whether its calls are recorded as one function."""
    return type(fc.public_call(declaration)) is Function


#: What depends on which numbers the dtype has.
OF_ITS_DTYPE = ("flambeau.nextafter", "flambeau.nan_to_num")
#: What takes no narrow floats, nor does it in PyTorch.
WIDE_ONLY = (
    *("flambeau.quantile", "flambeau.nanquantile", "flambeau.det", "flambeau.logdet", "flambeau.inverse"),
    *("flambeau.cholesky_solve", "flambeau.cholesky_inverse", "flambeau.lu_solve", "flambeau.orgqr", "flambeau.ormqr"),
    *(
        f"linalg.{name}"
        for name in ("det", "solve", "inv", "solve_triangular", "lu_solve", "eigvalsh", "eigvals", "ldl_solve")
    ),
    *("linalg.householder_product", "flambeau.matrix_power"),
    *("flambeau.complex", "flambeau.polar", "flambeau.view_as_complex", "flambeau.view_as_complex_copy"),
    *(name for name in fc.SAMPLED if name.startswith("fft.")),
)


@pytest.mark.parametrize(
    "name", [n for n, d in fc.SAMPLED.items() if recorded(d) and n not in OF_ITS_DTYPE + WIDE_ONLY]
)
def test_a_call_rounds_once(name, dtype):
    """A function gives what it gives on the same numbers in the accumulation dtype, rounded."""
    with fb.compiler_options(mode="off"):
        for case in [c for c in fc.cases(fc.SAMPLED[name]) if c.dtype is dtype]:
            try:
                wide = case.results(lambda x: fb.tensor(x).to(wider(x)))
            except (RuntimeError, TypeError, ValueError, IndexError):
                continue
            found = case.results()
            for x, y in zip(found, wide, strict=True):
                if isinstance(x, fb.Tensor) and x.dtype is dtype:
                    assert fc.same(x.detach().numpy(), y.detach().to(dtype).numpy()), case


@pytest.mark.parametrize("mode", ["off", "blocking"])
def test_infinities_become_the_greatest_number_of_the_dtype(dtype, mode):
    x = fb.tensor([np.inf, -np.inf, np.nan, 1.5], dtype=dtype)
    most = fb.finfo(dtype).max
    with fb.compiler_options(mode=mode):
        assert x.nan_to_num().tolist() == [most, -most, 0.0, 1.5]
        assert x.nan_to_num(2.0, posinf=4.0).tolist() == [4.0, -most, 2.0, 1.5]


def test_ldexp_has_the_dtype_of_the_floats(dtype):
    x = fb.tensor([1.5, -3.0, 1.0], dtype=dtype)
    for powers in (fb.tensor([1, -2, 12]), fb.tensor([1, -2, 12], dtype=fb.int8), fb.tensor([1, -2, 12], dtype=dtype)):
        found = fb.ldexp(x, powers)
        assert found.dtype is dtype and found.tolist() == [3.0, -0.75, 4096.0]
    assert fb.ldexp(x, fb.tensor([1.0, 2.0, 0.5])).dtype is float32
    assert fb.ldexp(fb.tensor([3]), fb.tensor([2])).dtype is float32


def test_numbers_are_not_rounded_before_they_are_used_but_for_comparison(dtype):
    x = fb.tensor([0.1, *range(1, 40)], dtype=dtype)
    wide = x.float()
    for call in (
        lambda x: x * 0.1,
        lambda x: x + 0.1,
        lambda x: x / 3.3,
        lambda x: 0.1 - x,
        lambda x: x.clamp(0.3, 0.7),
    ):
        assert fc.same(call(x).numpy(), call(wide).to(dtype).numpy())
    rounded = x * fb.tensor(0.1, dtype=dtype)
    assert not fc.same((x * 0.1).numpy(), rounded.numpy()), "the number tells nothing"
    assert (x == 0.1).tolist() == [True] + [False] * 39 and not (wide == 0.1).any()


def test_gradients_of_ops_round_once(dtype):
    """What vjps make of several ops, such as ct * (1 - y * y), is computed in the accumulation dtype."""
    x = saturate(np.random.default_rng(4).uniform(0.3, 0.9, 200), dtype)
    tried = 0
    for name in ("tanh", "sigmoid", "log1p", "sqrt", "rsqrt", "pow", "div", "erf"):
        record = find(name)
        arity = len(record.samples()[0].operands)
        builder = GraphBuilder()
        operands = [builder.input(Aval(x.shape, dtype)) for _ in range(arity)]
        forward = Graph(list(builder.graph.avals), list(builder.graph.inputs))
        forward.outputs = list(forward.add_node(record, forward.inputs, ()))
        graph = opgen.gradient_graph(forward, forward.inputs)
        (y,) = reference.run(forward, [x] * len(operands))
        found = reference.run(graph, [*[x] * arity, np.flip(x)])
        wide = [a.astype(np.float32) for a in (np.flip(x), y, *[x] * arity)]
        made = GraphBuilder()
        values = [made.input(Aval(a.shape, float32)) for a in wide]
        parts = record.vjp(*values)
        made.graph.outputs = [p.id for p in parts]
        for mine, theirs in zip(found, reference.run(made.graph, wide), strict=True):
            assert mine.dtype == dtype.numpy and opgen.same_bits(mine, theirs.astype(dtype.numpy)), name
            tried += 1
    assert tried >= 10


def wider(array: np.ndarray):
    dtype = dtypes.from_numpy(array.dtype)
    return dtype.accumulation


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extremes_of_all_numbers_are_found_without_widening(name, dtype):
    """Every number beside every kind of number: zeros of both signs, infinities, NaNs of both signs, subnormals."""
    dtype = getattr(fb, dtype)
    bits = np.arange(1 << 16, dtype=np.uint16).astype(np.int16)
    every = fb.tensor(bits).view(dtype)
    record = find(name)
    for other in (0.0, -0.0, math.inf, -math.inf, math.nan, 1.5, -2.0, 1e-7):
        beside = fb.full((1 << 16,), other, dtype=dtype)
        x, y = every.to(fb.float32).numpy(), beside.to(fb.float32).numpy()
        wanted = fb.tensor(record.reference(x, y)).to(dtype).view(fb.int16).tolist()
        for mode in ("off", "blocking"):
            with fb.compiler_options(mode=mode):
                assert getattr(fb, name)(every, beside).view(fb.int16).tolist() == wanted, (other, mode)
    b = GraphBuilder()
    b.graph.outputs = [record(b.input(Aval((4,), dtype)), b.input(Aval((4,), dtype))).id]
    assert [node.op.name for node in LegaliseDtypes()(b.graph).nodes] == [name]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["neg", "abs"])
def test_signs_of_all_numbers_change_without_widening(name, dtype):
    dtype, record = getattr(fb, dtype), find(name)
    every = fb.tensor(np.arange(1 << 16, dtype=np.uint16).astype(np.int16)).view(dtype)
    wanted = fb.tensor(record.reference(every.to(fb.float32).numpy())).to(dtype).view(fb.int16).tolist()
    for mode in ("off", "blocking"):
        with fb.compiler_options(mode=mode):
            assert getattr(fb, name)(every).view(fb.int16).tolist() == wanted, mode
    b = GraphBuilder()
    b.graph.outputs = [record(b.input(Aval((4,), dtype))).id]
    assert [node.op.name for node in LegaliseDtypes()(b.graph).nodes] == [name]


@pytest.mark.parametrize(
    "bounds", [(-1.0, 1.0), (1.0, -1.0), (None, 0.0), (-0.5, None), (math.nan, 1.0), (0.0, math.nan), (2.0, 2.0)]
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_clamp_by_numbers(dtype, bounds):
    """Values, and that the gradient flows within the bounds, ends included, and nowhere if they cross or one is NaN."""
    numbers = [math.nan, -math.inf, -2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, math.inf]
    low, high = bounds
    x = fb.tensor(numbers, dtype=getattr(fb, dtype), requires_grad=True)
    y = x.clamp(low, high)
    y.sum().backward()
    wanted, flows = [], []
    for n in numbers:
        is_nan = any(v is not None and math.isnan(v) for v in (n, low, high))
        least = n if low is None else max(n, low)
        wanted.append(math.nan if is_nan else least if high is None else min(least, high))
        flows.append(float((low is None or n >= low) and (high is None or n <= high)))
    np.testing.assert_array_equal(y.detach().double().numpy(), wanted)
    assert x.grad.tolist() == flows


def _apart(x, y):
    """Computed in float32, of bfloat16 alone: lanes may have any order."""
    return fb.where(x > y, x + y, fb.relu(x) * 3)


@pytest.mark.parametrize("shape", [(1 << 16,), (3, 21845), (256, 256), (1, 13), (7, 9)])
def test_lanes_without_an_order_give_every_number_its_place(shape):
    """Beside arrays that are stretched, turned, or have every second element, in whole vectors and in what is left of them."""
    count = math.prod(shape)
    bits = np.random.default_rng(3).permutation(1 << 16)[:count].astype(np.uint16).astype(np.int16).reshape(shape)
    x = fb.tensor(bits).view(fb.bfloat16)
    rng = np.random.default_rng(4)
    row = fb.tensor(rng.normal(size=shape[-1:]).astype(np.float32)).to(fb.bfloat16)
    turned = (
        fb.tensor(rng.normal(size=shape[::-1]).astype(np.float32)).to(fb.bfloat16).permute(*range(len(shape))[::-1])
    )
    spread = fb.tensor(rng.normal(size=(*shape[:-1], 2 * shape[-1])).astype(np.float32)).to(fb.bfloat16)[..., ::2]
    for y in (row, turned, spread, row[:1]):
        fb.flush()
        with fb.compiler_options(mode="blocking"):
            found = _apart(x, y).view(fb.int16).tolist()
        with np.errstate(all="ignore"):
            a, b = x.to(fb.float32).numpy(), np.broadcast_to(y.to(fb.float32).numpy(), shape)
            rounded = lambda z: fb.tensor(z.astype(np.float32)).to(fb.bfloat16).to(fb.float32).numpy()  # noqa: E731
            wanted = np.where(a > b, rounded(a + b), rounded(rounded(np.where(a <= 0, 0, a)) * np.float32(3)))
        assert found == fb.tensor(wanted.astype(np.float32)).to(fb.bfloat16).view(fb.int16).tolist()
