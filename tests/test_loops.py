"""The loop-kernel generator: every record compiled, and fused programs equal to unfused ones to the bit."""

from __future__ import annotations

import dataclasses
import random
import re

import execute
import flambeau.dialects.tape  # noqa: F401
import numpy as np
import opgen
import pytest
import random_graphs
from flambeau.compiler import families, targets
from flambeau.compiler.groups import bodies
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import bool_, float32, float64, int32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find

FUSED, UNFUSED = Options(fuse=True), Options(fuse=False)
LOOPS = [r for r in opgen.records() if not families.rules(r).is_head]


def outcome(graph: Graph, arrays: list[np.ndarray], options: Options, **how):
    """The outputs, or the error's class and text."""
    try:
        return execute.run_graph(graph, arrays, options, **how)
    except (IndexError, RuntimeError) as error:
        if str(error).startswith("[compile]"):
            raise
        return type(error), str(error)


def assert_same(found, expected) -> None:
    if isinstance(expected, tuple):
        assert found == expected
        return
    assert not isinstance(found, tuple), found
    for k, (x, y) in enumerate(zip(found, expected, strict=True)):
        assert opgen.same_bits(x, y), f"output {k} differs: {x} and {y}"


def assert_one_semantics(graph: Graph, arrays: list[np.ndarray]):
    """Unfused, fused, cut into other parts, and in place: the same bits."""
    expected = outcome(graph, arrays, UNFUSED)
    assert_same(outcome(graph, arrays, FUSED), expected)
    assert_same(outcome(graph, arrays, FUSED, parts=3), expected)
    assert_same(outcome(graph, arrays, FUSED, in_place=True), expected)
    return expected


def test_what_is_short_is_light():
    """How long a loop's body may be, and whether elements are computed again, follows the weights of the ops."""
    found = {}
    for record in LOOPS:
        if not record.family.is_pointwise or len(record.results) > 1 or record.samples is None:
            continue
        case = next(iter(opgen.cases(record, narrow=False)), None)
        if case is None:  # of complex numbers only, which kernels do not have
            continue
        avals = [case.graph.avals[v] for v in case.graph.nodes[-1].operands]
        ops = lowered_ops(record, avals, case.graph.nodes[-1].attrs)
        if 0 < ops <= 4:
            found[record.name] = ops, record.weight
    assert len(found) > 20 and {"add", "canonical_nan", "canonical_nan_of_root"} <= found.keys()
    assert {name: pair for name, pair in found.items() if pair[1] > 3 * pair[0]} == {}


def lowered_ops(record, avals, attrs) -> int:
    """How many operations compute an element: constants and views of the same bits are none. 0 where it is checked, too."""
    (result,) = record.infer_results([Aval((), a.dtype) for a in avals], attrs)
    types = tuple(a.dtype.mlir for a in avals)
    body = bodies.elementwise(record, attrs, types, (result.dtype.mlir,), None)
    names = [op.name for op in body.ops]
    return 0 if "flambeau.check" in names else sum(n not in ("arith.constant", "arith.bitcast") for n in names)


@pytest.mark.parametrize("record", LOOPS, ids=lambda r: r.name)
def test_every_sample_compiles_to_what_the_record_says(record):
    wrong = []
    for case in opgen.cases(record, narrow=False):
        results = execute.run_graph(case.graph, case.arrays, UNFUSED)
        wrong += filter(None, [opgen.compare(record, case, *results)])
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_do_not_depend_on_fusion(seed):
    program = random_graphs.program(seed, 25, fallible=seed % 3 == 0)
    assert_one_semantics(program.graph, program.inputs)


def test_random_exact_programs_equal_their_reference():
    for seed in range(100, 120):
        program = random_graphs.program(seed, 25, exact=True, fallible=False)
        values = random_graphs.evaluate(program.graph, program.inputs)
        found = execute.run_graph(program.graph, program.inputs, FUSED)
        assert_same(found, [values[v] for v in program.graph.outputs])


# ---- rows and columns ---------------------------------------------------------------------------------------


def op(name: str, *args, **attrs) -> Value:
    return find(name)(*args, **attrs)


class Rows:
    """A random program over [rows, cols]: elements, values per row and per column, folded and stretched again."""

    def __init__(self, seed: int, shape: tuple[int, int]) -> None:
        self.rng, self.shape, self.b = random.Random(seed), shape, GraphBuilder()
        self.arrays: list[np.ndarray] = []
        rows, cols = shape
        self.elements = [self.input(shape), self.input(shape)]
        self.row_values = [self.input((rows,))]
        self.column_values = [self.input((cols,))]
        self.outputs: list[Value] = []
        for _ in range(self.rng.randint(6, 14)):
            self.rng.choice((self.combine,) * 3 + (self.stretch,) * 2 + (self.fold,) * 2 + (self.on_rows, self.pick))()
        made = self.elements[2:] + self.row_values[1:] + self.column_values[1:] + self.outputs
        self.b.graph.outputs = [v.id for v in self.rng.sample(made, min(len(made), 4))] or [self.elements[0].id]

    def input(self, shape: tuple[int, ...]) -> Value:
        data = np.random.default_rng([self.rng.randint(0, 9999), *shape]).normal(size=shape).astype(np.float32)
        if self.rng.random() < 0.3 and data.size:
            data.flat[self.rng.randrange(data.size)] = self.rng.choice((np.nan, np.inf, -np.inf, -0.0, 0.0))
        self.arrays.append(data)
        return self.b.input(Aval(shape, float32))

    def element(self) -> Value:
        return self.rng.choice(self.elements)

    def combine(self) -> None:
        name = self.rng.choice(("add", "sub", "mul", "div", "maximum", "exp", "tanh", "select", "sqrt"))
        self.elements.append(self.elementwise(name, self.elements))

    def elementwise(self, name: str, values: list[Value]) -> Value:
        x, y = self.rng.choice(values), self.rng.choice(values)
        if name == "select":
            return op(name, x < y, x * 2.0, y)
        return op(name, x) if name in ("exp", "tanh", "sqrt", "neg") else op(name, x, y)

    def on_rows(self) -> None:
        self.row_values.append(self.elementwise(self.rng.choice(("add", "mul", "neg", "sqrt")), self.row_values))

    def stretch(self) -> None:
        rows, cols = self.shape
        if self.rng.random() < 0.7:
            unit = op("reshape", self.rng.choice(self.row_values), shape=(rows, 1))
        else:
            unit = op("reshape", self.rng.choice(self.column_values), shape=(1, cols))
        self.elements.append(self.element() - op("broadcast", unit, shape=self.shape))

    def fold(self) -> None:
        kind = self.rng.choice(("rows", "rows", "columns", "all"))
        name = self.rng.choice(("sum", "sum", "max", "min", "prod", "argmax"))
        axes = {"rows": (1,), "columns": (0,), "all": (0, 1)}[kind]
        result = op(name, self.element(), axes=axes).cast(float32)
        {"rows": self.row_values, "columns": self.column_values, "all": self.outputs}[kind].append(result)

    def pick(self) -> None:
        rows, cols = self.shape
        index = np.random.default_rng(self.rng.randint(0, 9999)).integers(0, cols, (rows, 1))
        self.arrays.append(index)
        picked = op("gather", self.element(), self.b.input(Aval((rows, 1), int64)), axis=1)
        self.row_values.append(op("reshape", picked, shape=(rows,)))


ROW_SHAPES = (
    (1, 2),
    (3, 7),
    (64, 10),
    (5, 64),
    (130, 65),
    (7, 129),
    (2, 4099),
    (33, 4097),
    (70, 1),
    (1, 8200),
    (200, 3),
)


@pytest.mark.parametrize("shape", ROW_SHAPES, ids=str)
def test_rows_and_columns_do_not_depend_on_fusion(shape):
    for seed in range(4):
        program = Rows(seed, shape)
        assert_one_semantics(program.b.graph, program.arrays)


def rows_of(x: Value, shape: tuple[int, int]) -> Value:
    return op("broadcast", op("reshape", x, shape=(shape[0], 1)), shape=shape)


def softmax(x: Value) -> Value:
    e = op("exp", x - rows_of(op("max", x, axes=(1,)), x.shape))
    return e / rows_of(op("sum", e, axes=(1,)), x.shape)


def layer_norm(x: Value) -> Value:
    n = x.shape[1]
    centred = x - rows_of(op("sum", x, axes=(1,)) * (1.0 / n), x.shape)
    variance = op("sum", centred * centred, axes=(1,)) * (1.0 / n)
    return centred * rows_of(op("rsqrt", variance + 1e-5), x.shape)


@pytest.mark.parametrize("function", (softmax, layer_norm))
@pytest.mark.parametrize("shape", ((3, 10), (65, 130), (2, 5000)), ids=str)
@pytest.mark.parametrize("dtype", (float32, float64), ids=str)
def test_row_kernels_are_one_kernel_with_gradients_to_the_bit(function, shape, dtype):
    b = GraphBuilder()
    y = function(b.input(Aval(shape, dtype)))
    b.graph.outputs = [y.id]
    x, ct = (np.random.default_rng(k).normal(size=shape).astype(dtype.numpy) for k in range(2))
    (result,) = assert_one_semantics(b.graph, [x])
    assert len(execute.calls(b.graph, FUSED)) == 1
    gradient = opgen.gradient_graph(b.graph, b.graph.inputs)
    assert_one_semantics(gradient, [x, ct])
    exact = {softmax: _softmax_of, layer_norm: _layer_norm_of}[function](x.astype(np.float64))
    assert np.max(np.abs(result - exact)) < 100 * np.finfo(dtype.numpy).eps


def _softmax_of(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _layer_norm_of(x: np.ndarray) -> np.ndarray:
    d = x - x.mean(1, keepdims=True)
    return d / np.sqrt((d * d).mean(1, keepdims=True) + 1e-5)


def cross_entropy(b: GraphBuilder, shape: tuple[int, int]) -> list[Value]:
    x, target = b.input(Aval(shape, float32)), b.input(Aval(shape[:1], int64))
    shifted = x - rows_of(op("max", x, axes=(1,)), shape)
    logp = shifted - rows_of(op("log", op("sum", op("exp", shifted), axes=(1,))), shape)
    picked = op("gather", logp, op("reshape", target, shape=(shape[0], 1)), axis=1)
    return [op("sum", picked, axes=(0, 1)) * (-1.0 / shape[0]), picked]


def test_cross_entropy_picks_its_row_elements_in_the_row_kernel():
    b = GraphBuilder()
    b.graph.outputs = [v.id for v in cross_entropy(b, (70, 33))]
    x = np.random.default_rng(0).normal(size=(70, 33)).astype(np.float32)
    target = np.arange(70) % 33
    loss, _ = assert_one_semantics(b.graph, [x, target])
    wide = x.astype(np.float64)
    logp = wide - wide.max(1, keepdims=True)
    logp -= np.log(np.exp(logp).sum(1, keepdims=True))
    assert abs(loss + logp[np.arange(70), target].mean()) < 1e-6


def test_a_target_out_of_range_names_its_row():
    b = GraphBuilder()
    b.graph.outputs = [v.id for v in cross_entropy(b, (70, 33))]
    target = np.arange(70) % 33
    target[41], target[60] = 33, -1
    x = np.zeros((70, 33), np.float32)
    kind, text = outcome(b.graph, [x, target], FUSED)
    assert issubclass(kind, IndexError) and text.startswith(
        "[gather] index[41, 0] is out of range for axis 1 of shape (70, 33)."
    )
    assert outcome(b.graph, [x, target], UNFUSED) == (kind, text)


# ---- accesses -----------------------------------------------------------------------------------------------


def test_views_fold_into_the_reading_kernel():
    b = GraphBuilder()
    x, y, start = b.input(Aval((40, 70), float32)), b.input(Aval((70, 20), float32)), b.input(Aval((), int64))
    part = op("dynamic_slice", op("permute", x, perm=(1, 0)), start, start, sizes=(70, 20), steps=(1, 2))
    b.graph.outputs = [(op("flip", part, axes=(0, 1)) + y).id]
    assert len(execute.calls(b.graph, FUSED)) == 1
    arrays = [np.random.default_rng(k).normal(size=s).astype(np.float32) for k, s in enumerate(((40, 70), (70, 20)))]
    for at in (0, 1, -3, 99):
        (found,) = assert_one_semantics(b.graph, [*arrays, np.asarray(at)])
        first = min(max(at, 0), 1)
        assert np.array_equal(found, arrays[0].T[:, first : first + 39 : 2][::-1, ::-1] + arrays[1])


def test_a_reshape_of_a_stored_value_is_an_alias():
    b = GraphBuilder()
    b.graph.outputs = [op("reshape", b.input(Aval((4, 6), float32)), shape=(2, 12)).id]
    assert execute.calls(b.graph, FUSED) == []
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert np.array_equal(execute.run_graph(b.graph, [x], FUSED)[0], x.reshape(2, 12))


def test_a_large_reduction_is_cut_into_chunks_and_keeps_its_order():
    for dtype, size in ((float32, 100_003), (float64, 20_000), (int32, 9000)):
        b = GraphBuilder()
        x = b.input(Aval((size,), dtype))
        b.graph.outputs = [op("sum", x * x, axes=(0,)).id, (x * 2 if dtype is int32 else x * 2.0).id]
        data = np.random.default_rng(0).normal(size=size) * 9
        arrays = [data.astype(dtype.numpy)]
        found = assert_one_semantics(b.graph, arrays)
        assert len(execute.calls(b.graph, FUSED)) == 2
        assert_same(found, list(random_graphs.evaluate(b.graph, arrays)[v] for v in b.graph.outputs))


def test_bools_are_bytes_and_fold_in_any_number():
    b = GraphBuilder()
    x = b.input(Aval((5, 100), bool_))
    b.graph.outputs = [op("any", x, axes=(1,)).id, op("all", x, axes=(0,)).id, op("not_", x).id]
    data = np.zeros((5, 100), bool)
    data[3, 99] = True
    any_, all_, not_ = assert_one_semantics(b.graph, [data])
    assert any_.tolist() == [False, False, False, True, False] and not all_.any() and np.array_equal(not_, ~data)


def test_only_the_work_of_an_element_makes_the_body_of_a_loop_long():
    """A loop over a row that does little per element is written out for all 64 lanes, however many folds and scalars of a row
    the kernel has."""
    target = dataclasses.replace(targets.find("host"), vector_bytes=32)
    for functions in (1, 3, 6):
        b = GraphBuilder()
        x = b.input(Aval((4, 640), float32))
        level = x
        for _ in range(functions):
            level = level - rows_of(op("sum", level, axes=(1,)) / 640.0, x.shape)
        b.graph.outputs = [op("sum", level * level, axes=(1,)).id]
        (part,) = cluster(b.graph, Options())
        (call,) = execute.lower(part, target).calls
        steps = re.findall(r"scf\.for .* step (%\w+) iter_args", call.source.text)
        (whole,) = re.findall(r"(%\w+) = arith.constant 64 : i64", call.source.text)
        assert steps.count(whole) == functions + 1, "one loop of 64 lanes a step per pass"


def test_equal_computations_on_other_extents_share_their_text():
    texts = set()
    for size in (1000, 5000, 65536):
        b = GraphBuilder()
        p, g = b.input(Aval((size,), float32)), b.input(Aval((size,), float32))
        b.graph.outputs = [(p - g * 0.1).id]
        (call,) = execute.calls(b.graph, FUSED)
        texts.add(call.source.text)
        assert call.in_place == ((2, 0), (2, 1)) or call.in_place
    assert len(texts) == 1


@pytest.mark.parametrize("dtype", (float32, float64, int64, bool_), ids=str)
@pytest.mark.parametrize(
    "shape, perm",
    (((67, 131), (1, 0)), ((3, 200), (1, 0)), ((200, 3), (1, 0)), ((4, 33, 65), (0, 2, 1)), ((5, 40, 18), (2, 1, 0))),
    ids=str,
)
def test_transposes_are_read_in_tiles(shape, perm, dtype):
    data = (np.random.default_rng(0).normal(size=shape) * 9).astype(dtype.numpy)
    b = GraphBuilder()
    x = b.input(Aval(shape, dtype))
    turned = op("permute", x, perm=perm)
    y = b.input(turned.aval)
    b.graph.outputs = [turned.id, op("select", op("eq", turned, y), turned, y).id]
    other = np.ascontiguousarray(data.transpose(perm)[::-1])
    copy, _ = assert_one_semantics(b.graph, [data, other])
    assert np.array_equal(copy, data.transpose(perm))


def test_few_long_rows_are_cut_into_parts():
    b = GraphBuilder()
    x, scale = b.input(Aval((2, 70_001), float32)), b.input(Aval((2, 1), float32))
    b.graph.outputs = [(x * op("broadcast", scale, shape=x.shape)).id]
    (call,) = execute.calls(b.graph, FUSED)
    assert call.n == 6
    data, factors = np.arange(140_002, dtype=np.float32).reshape(2, -1), np.array([[2], [3]], np.float32)
    assert np.array_equal(assert_one_semantics(b.graph, [data, factors])[0], data * factors)


def test_a_long_chain_of_small_ops_is_one_kernel():
    b = GraphBuilder()
    x = y = b.input(Aval((1000,), float32))
    for _ in range(199):
        y = y + x
    b.graph.outputs = [y.id, op("sum", y, axes=(0,)).id]
    assert len(execute.calls(b.graph, FUSED)) == 1
    assert_one_semantics(b.graph, [np.random.default_rng(0).normal(size=1000).astype(np.float32)])


def test_a_long_chain_of_row_values_is_one_kernel():
    b = GraphBuilder()
    x = b.input(Aval((30, 70), float32))
    y = op("sum", x, axes=(1,))
    for _ in range(190):
        y = y * 0.5 + y
    b.graph.outputs = [(x - rows_of(y, (30, 70))).id]
    assert len(execute.calls(b.graph, Options(max_cluster_ops=1000))) == 1
    assert_one_semantics(b.graph, [np.random.default_rng(0).normal(size=(30, 70)).astype(np.float32)])


@pytest.mark.parametrize("shape", ((100_003,), (40, 1024), (40, 1000), (3, 9000)), ids=str)
def test_large_outputs_are_streamed_past_the_caches(shape):
    tiny = dataclasses.replace(targets.find("host"), l3=4096)
    b = GraphBuilder()
    x = b.input(Aval(shape, float32))
    unit = (*shape[:-1], 1)
    mean = op("broadcast", op("reshape", op("sum", x, axes=(len(shape) - 1,)), shape=unit), shape=shape)
    b.graph.outputs = [(x * 3.0).id, (x - mean * 0.001).id]
    texts = "".join(c.source.text for part in cluster(b.graph, FUSED) for c in execute.lower(part, tiny).calls)
    assert ("nontemporal" in texts) == (len(shape) == 1 or shape[-1] % 16 == 0)
    arrays = [np.random.default_rng(0).normal(size=shape).astype(np.float32)]
    expected = execute.run_graph(b.graph, arrays, FUSED)
    for how in ({}, {"parts": 3}, {"in_place": True}):
        assert_same(execute.run_graph(b.graph, arrays, FUSED, target=tiny, **how), expected)
